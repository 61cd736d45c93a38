"""Sizes of samples that the indices need; plain numbers, for settings that import no jax."""

FEWEST_POINTS = 100
