"""Do the class means close to a circle, or do they end? An arc passes tests of order and of fit as well."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Real

from features.arrays import AnyArray

Shape = Literal["circle", "arc", "line"]

_STEPS = 180  # of the angle between neighbors, from a line's to a whole turn's
_OPEN = 2.0  # from this gap on, in mean gaps, an arc may be one


class Closure(NamedTuple):
    """What the class means, in the order of their labels, are like in their plane."""

    shape: Shape
    """the likeliest by the Bayesian information criterion; an arc only where the gap is there to see"""
    degrees: float
    """of the likeliest arc, one step beyond the last class: 360 for a circle, 0 for a line"""
    gap: float
    """angle from last to first class around their mean, in mean angles between neighbors: 1 for a circle"""
    criteria: dict[Shape, float]
    """Bayesian information criterion of each, smaller is better"""

    def __str__(self) -> str:
        return f"arc of {self.degrees:.0f} degrees" if self.shape == "arc" else self.shape


def closure(means: Real[AnyArray, "m 2"]) -> Closure:
    """Circle, arc or line through class means 0 ... m - 1 in a plane, by likelihood and by the gap.

    A circle is an ellipse with the classes at equal steps of 360 / m degrees of its parameter; an arc has
    smaller steps, fitted with the rest; a line has none. Errors are Gaussian and alike.

    Raises: ValueError for fewer than five classes, other shapes than (m, 2), or means that are not finite.
    """
    points = np.asarray(means, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 5:
        raise ValueError(f"means have shape {points.shape}; expected (m, 2) with at least five classes")
    if not np.isfinite(points).all():
        raise ValueError("means are not finite")
    m = len(points)
    spread = float(((points - points.mean(0)) ** 2).sum())
    if spread == 0:
        return Closure("line", 0.0, 1.0, {"circle": 0.0, "arc": 0.0, "line": 0.0})
    whole = 2 * math.pi / m
    steps = whole * np.arange(1, _STEPS + 1) / _STEPS
    left = _left(points, np.stack([_turn(m, step) for step in steps.tolist()]))
    best = int(left[:-1].argmin())
    straight = np.arange(m, dtype=np.float64)[None, :, None]
    errors: dict[Shape, float] = {
        "circle": float(left[-1]),
        "arc": float(left[best]),
        "line": float(_left(points, straight)[0]),
    }
    # Two numbers of an ellipse's center, four of its axes, an arc's step; a line's start and way.
    numbers = {"circle": 6, "arc": 7, "line": 4}
    floor = 1e-12 * spread  # of what rounding leaves
    count = 2 * m
    criteria: dict[Shape, float] = {
        shape: count * math.log(max(error, floor) / count) + numbers[shape] * math.log(count)
        for shape, error in errors.items()
    }
    gap = _gap(points)
    allowed: list[Shape] = ["circle", "arc", "line"] if gap >= _OPEN else ["circle"]
    shape = min(allowed, key=lambda each: criteria[each])
    degrees = {"circle": 360.0, "arc": math.degrees(float(steps[best])) * m, "line": 0.0}[shape]
    return Closure(shape, degrees, gap, criteria)


def _turn(m: int, step: float) -> Float[np.ndarray, "m 2"]:
    angle = step * (np.arange(m) - (m - 1) / 2)
    # Scaled so that short arcs, nearly a line and a parabola, stay well conditioned.
    return np.stack([np.sin(angle) / step, (1 - np.cos(angle)) / step**2], axis=1)


def _left(
    points: Float[np.ndarray, "m 2"], features: Float[np.ndarray, "fits m k"]
) -> Float[np.ndarray, " fits"]:
    """Squared distances that least squares on each of these and a constant leaves."""
    design = np.concatenate([np.ones((*features.shape[:2], 1)), features], axis=2)
    basis = np.linalg.qr(design)[0]
    rest = points - basis @ (basis.swapaxes(1, 2) @ points)
    return (rest**2).sum((1, 2))


def _gap(points: Float[np.ndarray, "m 2"]) -> float:
    """Angle from the last class to the first over the mean angle between neighbors, around their mean."""
    centered = points - points.mean(0)
    angle = np.arctan2(centered[:, 1], centered[:, 0])
    steps = np.angle(np.exp(1j * (np.roll(angle, -1) - angle)))  # each by the shorter way
    inner = float(np.abs(steps[:-1]).mean())
    return float(abs(steps[-1]) / inner) if inner > 0 else math.inf
