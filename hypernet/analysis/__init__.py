"""What generators draw: measurements, Pareto fronts, phase diagrams."""
