"""Synthetic activations whose features are known: circles alone, and circles among many other features.

`toy_circles` is the paper's toy (appendix on toy autoencoders); `Planted` has three circles, a separable
decoy plane and sixty lines in 64 dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


def toy_circles(rng: np.random.Generator, n: int, *, width: int = 10) -> Float[np.ndarray, "n width"]:
    """(n, width): with probability 1/2 a point of the unit circle of axes 1, 2, else of axes 3, 4."""
    angle = rng.uniform(0, 2 * np.pi, n)
    second = rng.random(n) < 0.5
    x = np.zeros((n, width), np.float32)
    x[np.arange(n), np.where(second, 2, 0)] = np.cos(angle)
    x[np.arange(n), np.where(second, 3, 1)] = np.sin(angle)
    return x


class Planted(NamedTuple):
    """Where the features lie: `planes` holds uniform circle, heptagon, dodecagon and the decoy."""

    planes: Float[np.ndarray, "4 2 width"]  # orthonormal rows
    lines: Float[np.ndarray, "lines width"]  # unit rows

    NAMES = ("uniform", "heptagon", "dodecagon", "decoy")

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n width"]:
        """Activations."""
        return self.draw_labeled(rng, n)[0]

    def draw_labeled(
        self, rng: np.random.Generator, n: int
    ) -> tuple[Float[np.ndarray, "n width"], Float[np.ndarray, "n 4 2"]]:
        """Activations, and the plane coordinates behind them (0 where a plane is not active)."""
        coordinates = np.zeros((n, 4, 2))
        for number, corners in enumerate((None, 7, 12)):
            active = rng.random(n) < 0.06
            count = active.sum()
            if corners is None:
                angle = rng.uniform(0, 2 * np.pi, count)
            else:
                angle = 2 * np.pi * rng.integers(0, corners, count) / corners + 0.05 * rng.normal(size=count)
            radius = rng.uniform(0.8, 1.2, count)
            coordinates[active, number] = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        active = rng.random(n) < 0.06
        coordinates[active, 3] = rng.uniform(0.3, 1.3, (active.sum(), 2))
        magnitude = rng.uniform(0.5, 1.5, (n, len(self.lines))) * (rng.random((n, len(self.lines))) < 0.01)
        x = np.einsum("npk,pkd->nd", coordinates, self.planes) + magnitude @ self.lines
        x += 0.01 * rng.normal(size=x.shape)
        return x.astype(np.float32), coordinates


def plant(rng: np.random.Generator, *, width: int = 64, lines: int = 60) -> Planted:
    """Random orthonormal pairs and random unit directions."""
    planes = np.stack([np.linalg.qr(rng.normal(size=(width, 2)))[0].T for _ in range(4)])
    directions = rng.normal(size=(lines, width))
    return Planted(planes, directions / np.linalg.norm(directions, axis=1, keepdims=True))
