"""Does a set of points lie on a circle in the order of its labels? With the nulls that this needs.

With m classes the centered class means span m - 1 dimensions, so a probe of k = 5 coordinates fits any
labeling of seven days with r^2 = 5/6: fits are reported beside the same fit to permuted labels.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Real, Shaped

from features.arrays import AnyArray
from features.circles.closure import Closure, closure


def circle(values: Real[AnyArray, " n"], period: int, frequency: int = 1) -> Float[Array, "n 2"]:
    """(cos, sin) of 2 pi frequency values / period."""
    angle = 2 * jnp.pi * frequency * jnp.asarray(values) / period
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)


def check_labels(points: Float[Array, "n d"], labels: Shaped[AnyArray, "..."], period: int) -> None:
    """Raises ValueError for labels outside 0 ... period - 1 or of another length, or non-finite points."""
    labels = np.asarray(labels)
    if labels.shape != (len(points),):
        raise ValueError(f"{labels.shape} labels for {len(points)} points")
    if labels.min() < 0 or labels.max() >= period:
        raise ValueError(f"labels {labels.min()} to {labels.max()}: expected classes 0 to {period - 1}")
    if not bool(jnp.isfinite(points).all()):
        raise ValueError("points are not finite")


_ENUMERATED = 8  # classes whose cyclic orders are all looked at, 2,520


class CircleProbe(NamedTuple):
    """A linear map from a few principal coordinates to the unit circle (paper, section 5).

    predicted = (W (x - mean)) P^T, W's rows orthonormal.
    """

    W: Float[Array, "k d"]  # principal directions
    P: Float[Array, "2 k"]
    mean: Float[Array, " d"]
    r_squared: Float[Array, ""]  # mean of the two coordinates', in sample


def principal(points: Float[AnyArray, "n d"], k: int) -> tuple[Float[Array, "k d"], Float[AnyArray, " d"]]:
    """The k first principal directions and the mean."""
    mean = points.mean(0)
    return jnp.linalg.svd(points - mean[None], full_matrices=False)[2][:k], mean


def _r_squared(target: Float[Array, "n 2"], predicted: Float[Array, "n 2"]) -> Float[Array, "2"]:
    error = ((target - predicted) ** 2).sum(0)
    return 1 - error / ((target - target.mean(0, keepdims=True)) ** 2).sum(0)


def fit_circle(
    points: Real[AnyArray, "n d"],
    labels: Int[AnyArray, " n"],
    period: int,
    *,
    k: int = 5,
    frequency: int = 1,
    centered: bool = True,
) -> CircleProbe:
    """Least squares from the k first principal coordinates to circle(labels), without an intercept.

    Args: centered: coordinates are of x - mean (the code); else of x (the paper's formula, literally).
    Raises: ValueError if k exceeds the number of points or their width, for a frequency without a circle,
      labels outside 0 ... period - 1, or points that are not finite.
    """
    points = jnp.asarray(points, jnp.float32)
    check_labels(points, labels, period)
    if not 1 <= frequency <= (period - 1) // 2:
        raise ValueError(f"frequency={frequency}: {period} classes have circles of 1 to {(period - 1) // 2}")
    if not 1 <= k <= min(points.shape):
        raise ValueError(f"k={k}: expected 1 to {min(points.shape)} coordinates for points {points.shape}")
    W, mean = principal(points, k)
    coordinates = (points - mean[None] if centered else points) @ W.T
    target = circle(labels, period, frequency)
    P = jnp.linalg.lstsq(coordinates, target)[0].T
    return CircleProbe(W, P, jnp.asarray(mean), _r_squared(target, coordinates @ P.T).mean())


class NullTest(NamedTuple):
    """A statistic beside what it is when labels are permuted."""

    value: float
    null: Float[np.ndarray, " permutations"]
    p_value: float  # share of relabellings at least as good, the true one counted
    # Of tests for a circle: whether the classes close to one; an arc passes tests of order and fit as well.
    closure: Closure | None = None

    @property
    def shape(self) -> str | None:
        """What was said of closure, in words: circle, line, arc of 60 degrees."""
        return None if self.closure is None else str(self.closure)

    @property
    def quantile_95(self) -> float:
        return float(np.quantile(self.null, 0.95))


@functools.partial(jax.jit, static_argnames=("period", "permutations", "frequency"))
def _null_fits(
    coordinates: Float[Array, "n k"],
    labels: Int[Array, " n"],
    period: int,
    permutations: int,
    frequency: int,
    key: PRNGKeyArray,
) -> Float[Array, " permutations"]:
    inverse = jnp.linalg.pinv(coordinates)

    def fit(key: PRNGKeyArray) -> Float[Array, ""]:
        values = jax.random.permutation(key, period)[labels]
        target = circle(values, period, frequency)
        return _r_squared(target, coordinates @ (inverse @ target)).mean()

    return jax.lax.map(fit, jax.random.split(key, permutations), batch_size=64)


def circle_fit_test(
    points: Real[AnyArray, "n d"],
    labels: Int[AnyArray, " n"],
    period: int,
    *,
    k: int = 2,
    frequency: int = 1,
    permutations: int = 200,
    key: PRNGKeyArray,
) -> NullTest:
    """r^2 of `fit_circle` against fits to random relabellings of the classes.

    `closure` says whether the means of the classes go all the way around, in the plane that was fitted.
    """
    if permutations < 1:
        raise ValueError(f"permutations={permutations}: expected at least 1")
    probe = fit_circle(points, labels, period, k=k, frequency=frequency)
    coordinates = (jnp.asarray(points, jnp.float32) - probe.mean[None]) @ probe.W.T
    null = np.asarray(_null_fits(coordinates, jnp.asarray(labels), period, permutations, frequency, key))
    value = float(probe.r_squared)
    p_value = float((1 + (null >= value - 1e-6).sum()) / (1 + permutations))
    plane = np.asarray(coordinates if k == 2 else coordinates @ probe.P.T)
    complete = len(np.unique(np.asarray(labels))) == period
    return NullTest(value, null, p_value, closed(class_means(plane, labels, period)) if complete else None)


def closed(means: Float[AnyArray, "m width"]) -> Closure | None:
    """`closure`, where there are enough classes in a plane to tell."""
    return closure(means) if len(means) >= 5 and means.shape[1] == 2 else None


def class_means(
    points: Float[AnyArray, "n d"], labels: Int[AnyArray, " n"], period: int
) -> Float[np.ndarray, "m d"]:
    """Mean of the points of each class 0 ... period - 1; ValueError where one has none."""
    points, labels = np.asarray(points), np.asarray(labels)
    missing = sorted(set(range(period)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"classes {missing} of 0 ... {period - 1} have no points")
    return np.stack([points[labels == c].mean(0) for c in range(period)])


def fourier_power(means: Float[AnyArray, "m d"]) -> Float[np.ndarray, " frequencies"]:
    """Share of the class means' variance at frequencies 1 ... m // 2 around the cycle."""
    means = np.asarray(means, np.float64)
    m = len(means)
    spectrum = np.fft.fft(means - means.mean(0), axis=0)[1 : m // 2 + 1]
    power = (np.abs(spectrum) ** 2).sum(1)
    if m % 2 == 0:
        power[-1] /= 2  # it has no mirror image
    return power / power.sum()


def order_score(means: Float[AnyArray, "m 2"]) -> float:
    """Share of classes whose successor is their neighbor by angle around the mean: 1 is the right order.

    Either sense of rotation counts; classes at one angle have no order, and do not count. Chance of 1 is
    2 m / m!, 1/360 for seven classes.
    """
    means = np.asarray(means, np.float64)
    means = means - means.mean(0) + 0.0  # no -0.0, whose angle would be -pi in place of pi
    m = len(means)
    angle = np.arctan2(means[:, 1], means[:, 0])
    _, kind, count = np.unique(angle, return_inverse=True, return_counts=True)
    alone = count[kind] == 1
    order = np.argsort(angle, kind="stable")
    steps = np.abs(order - np.roll(order, -1))
    known = alone[order] & np.roll(alone[order], -1)
    return float(np.mean(((steps == 1) | (steps == m - 1)) & known))


def order_test(means: Float[AnyArray, "m 2"], *, permutations: int = 2000, seed: int = 0) -> NullTest:
    """`order_score` against other orders of the classes: all cyclic ones of up to eight, else random ones.

    The p-value is exact for up to eight classes (1/360 for seven in their order), whatever `permutations` and
    `seed`. `closure` says whether they go all the way around: an arc has its order, too.
    """
    value = order_score(means)
    m = len(np.asarray(means))
    if m <= _ENUMERATED:
        null = _all_orders(m)
        p_value = float((null >= value - 1e-9).mean())
    else:
        # Under a random order, the classes met around the circle are a random permutation.
        around = np.random.default_rng(seed).permuted(np.tile(np.arange(m), (permutations, 1)), axis=1)
        null = _neighbors(around)
        p_value = float((1 + (null >= value - 1e-9).sum()) / (1 + permutations))
    return NullTest(value, null, p_value, closed(np.asarray(means, np.float64)))


def _neighbors(around: Int[np.ndarray, "orders m"]) -> Float[np.ndarray, " orders"]:
    """Share of classes that are met right after a neighbor by label."""
    steps = np.abs(around - np.roll(around, -1, axis=1))
    return ((steps == 1) | (steps == around.shape[1] - 1)).mean(1)


@functools.cache
def _all_orders(m: int) -> Float[np.ndarray, " orders"]:
    """Scores of every cyclic order of m classes; where they begin and which way they run is nothing to it."""
    rest = [order for order in itertools.permutations(range(1, m)) if order[0] <= order[-1]]
    return _neighbors(np.array([(0, *order) for order in rest]))
