"""Concepts on circles in residual states: probes, interventions, patching, regression."""
