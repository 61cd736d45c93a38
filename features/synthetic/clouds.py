"""Point clouds whose indices are known: the paper's demonstrations and analytic anchors (section 3)."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

# The most that a band holds of a uniform circle (any radius) and of any Gaussian, in the limit.
CIRCLE_OFFSET = 0.88657  # c + 0.1 sqrt(1/2 + c^2) = 1: the band's outer edge touches the circle
CIRCLE_MIXTURE = math.acos(CIRCLE_OFFSET - 0.1 * math.sqrt(0.5 + CIRCLE_OFFSET**2)) / math.pi
GAUSSIAN_MIXTURE = math.erf(0.1 / math.sqrt(2))


def gaussian(rng: np.random.Generator, n: int = 4096) -> Float[np.ndarray, "n 2"]:
    """(n, 2): correlated normals; separable."""
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, 2))


def mixture(rng: np.random.Generator, n: int = 4096) -> Float[np.ndarray, "n 2"]:
    """(n, 2): 30 % normals, 60 % on a line, 10 % on another; a mixture."""
    kind = rng.choice(3, n, p=[0.3, 0.6, 0.1])
    points = rng.normal(size=(n, 2))
    for line in (1, 2):
        direction, origin = rng.normal(size=2), rng.normal(size=2)
        on = kind == line
        points[on] = rng.normal(size=(on.sum(), 1)) * direction / np.linalg.norm(direction) + origin
    return points


def circle(rng: np.random.Generator, n: int = 4096) -> Float[np.ndarray, "n 2"]:
    """(n, 2): uniform on the unit circle; irreducible."""
    points = rng.normal(size=(n, 2))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def lattice(rng: np.random.Generator, n: int = 4096) -> Float[np.ndarray, "n 2"]:
    """(n, 2): rounded normals, sheared; separable."""
    return np.trunc(3 * rng.normal(size=(n, 2))) @ rng.normal(size=(2, 2))


DEMOS = {"mixture": mixture, "circle": circle, "gaussian": gaussian, "lattice": lattice}
