"""Explanation via regression: which functions of (alpha, beta) a hidden state holds (paper, section 5.3).

A list of functions is grown step by step; after each, r^2 tells how much of the states they explain, and what
remains is looked at. A toy with known parts is in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from features.arrays import AnyArray
from features.circles.fit import NullTest, circle


def library(
    alpha: Int[np.ndarray, " n"],
    beta: Int[np.ndarray, " n"],
    period: int,
    *,
    steps: Sequence[int] | None = None,
) -> dict[str, Float[np.ndarray, "n _columns"]]:
    """The functions tried, as design columns.

    Args: beta: index of the step, from 0. steps: the step that each index stands for (a task's `steps`;
      default 1, 2, ...), so that gamma = alpha + steps[beta] mod period.
    """
    alpha, beta = np.asarray(alpha), np.asarray(beta)
    step = beta + 1 if steps is None else np.asarray(steps)[beta]
    total = alpha + step
    gamma = total % period

    def one_hot(values: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n kinds"]:
        kinds = np.unique(values)
        return (values[:, None] == kinds).astype(float)

    a, b = one_hot(alpha), one_hot(beta)
    return {
        "alpha": a,
        "beta": b,
        "alpha, beta": np.concatenate([a, b], 1),
        "gamma": one_hot(gamma),
        "circle gamma": np.asarray(circle(gamma, period)),
        "circle 2 gamma": np.asarray(circle(gamma, period, 2)),
        "circle alpha": np.asarray(circle(alpha, period)),
        "circle alpha - beta": np.asarray(circle(alpha - step, period)),
        "parity": (total % 2)[:, None].astype(float),
        "sum": one_hot(total),
        "alpha + 1 = beta": (alpha + 1 == step)[:, None].astype(float),
        "tomorrow": a * (step == 1)[:, None],
    }


class Fit(NamedTuple):
    """A linear regression of states on design columns, intercept included."""

    r_squared: float
    adjusted: float  # for the number of columns
    predicted: Float[np.ndarray, "n d"]
    residual: Float[np.ndarray, "n d"]
    rank: int  # independent columns, intercept included


def regress(states: Float[AnyArray, "n d"], columns: Float[AnyArray, "rows k"] | None) -> Fit:
    """Least squares; r^2 = 1 - sum of squared residuals / sum of squared deviations from the mean.

    Raises: ValueError if states are constant or not finite, or columns are of another length.
    """
    states = np.asarray(states, np.float64)
    if not np.isfinite(states).all():
        raise ValueError("states are not finite")
    n = len(states)
    total = ((states - states.mean(0)) ** 2).sum()
    if total == 0 or (states == states[:1]).all():  # the mean of equal numbers need not be that number
        raise ValueError("states are constant: there is nothing to explain")
    if columns is not None and len(columns) != n:
        raise ValueError(f"{len(columns)} rows of columns for {n} states")
    design = np.ones((n, 1)) if columns is None else np.concatenate([np.ones((n, 1)), columns], 1)
    weights, _, rank, _ = np.linalg.lstsq(design, states, rcond=1e-9)
    predicted = design @ weights
    residual = states - predicted
    r_squared = 1 - (residual**2).sum() / total
    left = n - rank
    adjusted = 1 - (1 - r_squared) * (n - 1) / left if left > 0 else float("-inf")
    return Fit(float(r_squared), float(adjusted), predicted, residual, int(rank))


class Step(NamedTuple):
    """r^2 after a function was added."""

    name: str
    r_squared: float
    adjusted: float


def _reduced(states: Float[AnyArray, "n d"], components: int) -> Float[np.ndarray, "n k"]:
    """Principal coordinates, as the reference regresses them: 20 hold nearly everything and are quicker."""
    states = np.asarray(states, np.float64)
    centered = states - states.mean(0)
    u, s, _ = np.linalg.svd(centered, full_matrices=False)
    return u[:, :components] * s[:components]


def explain(
    states: Float[AnyArray, "n d"],
    functions: dict[str, Float[np.ndarray, "n _columns"]],
    names: Sequence[str],
    *,
    components: int | None = 20,
) -> tuple[list[Step], Fit]:
    """r^2 as the named functions are added one by one, and the last fit.

    Args: functions: e.g. of `library`. components: principal coordinates regressed (None: all).
    Raises: ValueError for a name that `functions` lacks.
    """
    unknown = [name for name in names if name not in functions]
    if unknown:
        raise ValueError(f"unknown functions {unknown}; known are {', '.join(functions)}")
    targets = np.asarray(states) if components is None else _reduced(states, components)
    steps, fit = [], regress(targets, None)
    for count in range(1, len(names) + 1):
        fit = regress(targets, np.concatenate([functions[name] for name in names[:count]], 1))
        steps.append(Step(names[count - 1], fit.r_squared, fit.adjusted))
    return steps, fit


def explain_automatically(
    states: Float[AnyArray, "n d"],
    functions: dict[str, Float[np.ndarray, "n _columns"]],
    *,
    least_gain: float = 0.005,
    components: int | None = 20,
) -> tuple[list[Step], Fit]:
    """Adds the function with the largest gain in adjusted r^2, until none gains `least_gain`."""
    targets = np.asarray(states) if components is None else _reduced(states, components)
    chosen: list[str] = []
    steps: list[Step] = []
    fit = regress(targets, None)
    best = 0.0
    while len(chosen) < len(functions):
        tried = {
            name: regress(targets, np.concatenate([functions[n] for n in [*chosen, name]], 1))
            for name in functions
            if name not in chosen
        }
        name = max(tried, key=lambda n: tried[n].adjusted)
        if tried[name].adjusted - best < least_gain:
            break
        chosen.append(name)
        fit, best = tried[name], tried[name].adjusted
        steps.append(Step(name, fit.r_squared, fit.adjusted))
    return steps, fit


def hidden_circle(
    states: Float[AnyArray, "n d"],
    removed: Float[np.ndarray, "n k"],
    values: Int[np.ndarray, " n"],
    period: int,
) -> float:
    """r^2 with which two principal components of what `removed` leaves of the states predict circle(values).

    The paper's headline: after one-hot alpha and beta are removed, gamma remains as a circle. Target and
    coordinates are both cleared of `removed`. Compare with `hidden_circle_null`.
    Raises: ValueError if `removed` explains the circle itself.
    """
    top = _reduced(regress(states, removed).residual, 2)
    return regress(_left_of_circle(removed, values, period), top).r_squared


def _left_of_circle(
    removed: Float[np.ndarray, "n k"], values: Int[np.ndarray, " n"], period: int
) -> Float[np.ndarray, "n 2"]:
    fit = regress(np.asarray(circle(values, period)), removed)
    if fit.r_squared > 1 - 1e-6:
        raise ValueError("what is removed explains the circle already: nothing of it is left to be found")
    return fit.residual


def hidden_circle_null(
    states: Float[AnyArray, "n d"],
    removed: Float[np.ndarray, "n k"],
    values: Int[np.ndarray, " n"],
    period: int,
    *,
    permutations: int = 200,
    seed: int = 0,
) -> NullTest:
    """`hidden_circle` beside the same with the classes relabeled at random."""
    top = _reduced(regress(states, removed).residual, 2)
    value = regress(_left_of_circle(removed, values, period), top).r_squared
    rng = np.random.default_rng(seed)
    null = np.array(
        [
            regress(_left_of_circle(removed, rng.permutation(period)[values], period), top).r_squared
            for _ in range(permutations)
        ]
    )
    return NullTest(value, null, float((1 + (null >= value - 1e-9).sum()) / (1 + permutations)))


def residual_colors(
    residual: Float[np.ndarray, "n d"], alpha: Int[np.ndarray, " n"], beta: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "alphas betas 3"]:
    """Three principal components of a residual as red, green and blue over the (alpha, beta) grid.

    Stripes along rows, columns or diagonals show dependence on alpha, beta or gamma.
    """
    top = _reduced(residual, 3)
    if top.shape[1] < 3:
        top = np.pad(top, ((0, 0), (0, 3 - top.shape[1])))
    low, high = top.min(0), top.max(0)
    top = (top - low) / np.where(high > low, high - low, 1)
    image = np.zeros((alpha.max() + 1, beta.max() + 1, 3))
    image[alpha, beta] = top
    return image
