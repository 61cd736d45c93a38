"""From a trained network to a machine or a formula: how it is queried, and how its answers are read."""
