"""How many features fit: delta-orthogonal subspaces (paper, section 3 and its capacity theorem)."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from features.arrays import AnyArray


def principal_cosines(
    first: Float[AnyArray, "d k"], second: Float[AnyArray, "other_d l"]
) -> Float[np.ndarray, " angles"]:
    """Cosines of the principal angles between two column spaces, largest first."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape[0] != second.shape[0]:
        raise ValueError(f"subspaces of different spaces: {first.shape[0]} and {second.shape[0]} dimensions")
    q1, q2 = _basis(first), _basis(second)
    return np.clip(np.linalg.svd(q1.T @ q2, compute_uv=False), 0, 1)


def _basis(columns: Float[np.ndarray, "d k"]) -> Float[np.ndarray, "d rank"]:
    """An orthonormal basis of a column space; columns that depend on others add nothing."""
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    return u[:, s > max(columns.shape) * np.finfo(float).eps * s.max(initial=0)]


def overlap(first: Float[AnyArray, "d k"], second: Float[AnyArray, "other_d l"]) -> float:
    """Least delta for which two column spaces are delta-orthogonal: the largest principal cosine."""
    return float(principal_cosines(first, second).max(initial=0))


def log_capacity(
    width: int, largest: int, delta: float, c1: float = 1.0, c2: float = 1.0
) -> tuple[float, float]:
    """Logarithms (nats) of the theorem's bounds on how many delta-orthogonal subspaces fit.

    At least exp(c1 width delta^2 / largest^2) / largest, at most
    exp(c2 (width - largest) delta^2 log(1 / delta)), of dimension <= largest in R^width. The constants
    are not given by the theorem.
    """
    if not 0 < delta < 1 or not 1 <= largest <= width:
        raise ValueError(f"expected 0 < delta < 1 and 1 <= largest <= width, got {delta}, {largest}, {width}")
    low = c1 * width * delta**2 / largest**2 - math.log(largest)
    return low, c2 * (width - largest) * delta**2 * math.log(1 / delta)
