"""Error of a construction against its free parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from hypernet.networks.forward import evaluate64
from hypernet.networks.mlp import MLP
from hypernet.targets import L1, Target


class ErrorRow(NamedTuple):
    """NMSE at one value of the parameter, raw and with the mean error removed."""

    value: float
    nmse: float
    nmse_corrected: float


def error_table(
    build: Callable[[float], MLP],
    values: Iterable[float],
    *,
    key: PRNGKeyArray,
    target: Target = L1,
    points: int = 20_000,
) -> list[ErrorRow]:
    """NMSE of build(value) for every value on the same fresh points.

        error_table(lambda k: double_sided(16, k=k), [4, 8, 16], key=jax.random.key(0))

    Raises: ValueError if build returns a network of another size than its first.
    """
    rows, x, y = [], None, None
    for value in values:
        mlp = build(value)
        if x is None:
            x = np.asarray(target.sample(key, points, mlp.inputs), np.float64)
            with jax.enable_x64(True):
                y = np.asarray(target.value(jax.numpy.asarray(x)))
        if mlp.inputs != x.shape[1]:
            raise ValueError(f"networks of {x.shape[1]} and of {mlp.inputs} inputs in one table")
        error = evaluate64(mlp, x) - y
        variance = target.variance_of(mlp.inputs)
        rows.append(
            ErrorRow(float(value), float(np.mean(error**2) / variance), float(error.var() / variance))
        )
    return rows
