"""Convexity: |x|_1 = alpha sum_h phi(w_h . x) + c with random rows; it uses only that a norm is convex."""

from __future__ import annotations

import math
from typing import Literal

import jax
import numpy as np
from jaxtyping import PRNGKeyArray, Real

from hypernet.algorithms.spikes import check
from hypernet.arrays import AnyArray
from hypernet.networks.mlp import MLP
from hypernet.targets import ABS_VARIANCE
from hypernet.validation import whole


def convexity_floor(n: int) -> float:
    """Least NMSE of any function of |x|_2 for |x|_1: Var |u|_1 / (1 - 2 / pi), u uniform on the sphere."""
    if n < 1:
        raise ValueError(f"n={n}: expected at least one input")
    a = math.exp(math.lgamma(n / 2) - math.lgamma((n + 1) / 2)) / math.sqrt(math.pi)
    return (1 + (n - 1) * 2 / math.pi - n**2 * a**2) / ABS_VARIANCE


def convexity(
    n: int,
    hidden: int,
    *,
    key: PRNGKeyArray | None = None,
    rows: Real[AnyArray, "hidden n"] | None = None,
    law: Literal["gauss", "sign"] = "gauss",
    antipodal: bool = False,
    activation: str = "relu",
    alpha: float | None = None,
    c: float | None = None,
    points: int = 4000,
) -> MLP:
    """Rows i.i.d. N(0, 1) or +-1, times 1 / sqrt(n) (ReLU) or 2 / sqrt(n) (swish).

    Args:
        key: draws rows, and the points alpha and c are fitted on.
        rows: given rows, already scaled; nothing is drawn for them.
        antipodal: the second half of the rows is minus the first.
        alpha, c: given constants; default: least squares on standard normal points.
    Raises: ValueError if neither key nor what it would draw is given, or hidden is odd and antipodal.
    """
    check(n, 1.0, activation)
    whole("points", points, 2)
    if hidden < 1 or (antipodal and hidden % 2):
        raise ValueError(f"hidden={hidden}: expected a positive number, even for antipodal rows")
    if key is None and (rows is None or alpha is None or c is None):
        raise ValueError("give a key, or rows, alpha and c")
    row_key, point_key = jax.random.split(jax.random.key(0) if key is None else key)
    if rows is None:
        if law not in ("gauss", "sign"):
            raise ValueError(f"law={law!r}: expected 'gauss' or 'sign'")
        draw = jax.random.normal if law == "gauss" else jax.random.rademacher
        rows = np.asarray(draw(row_key, (hidden // 2 if antipodal else hidden, n)), np.float64)
        rows = rows * (1 if activation == "relu" else 2) / math.sqrt(n)
        rows = np.concatenate([rows, -rows]) if antipodal else rows
    W = np.asarray(rows, np.float64).T
    if W.shape != (n, hidden):
        raise ValueError(f"rows have shape {W.T.shape}: expected ({hidden}, {n})")
    if alpha is None or c is None:
        x = np.asarray(jax.random.normal(point_key, (points, n)), np.float64)
        u = x @ W
        # the logistic function as tanh: no overflow
        phi = np.maximum(u, 0) if activation == "relu" else u * (0.5 + 0.5 * np.tanh(u / 2))
        total, y = phi.sum(1), np.abs(x).sum(1)
        alpha = np.cov(total, y)[0, 1] / total.var(ddof=1) if alpha is None else alpha
        c = y.mean() - alpha * total.mean() if c is None else c
    return MLP((W,), (np.zeros(hidden),), np.full(hidden, alpha), np.float64(c), activation)
