"""Training generators, seeds side by side, with checkpoints; direct training as a baseline."""
