"""Separability index S: how much two coordinates of a feature tell about each other, at best (section 3).

S = min over rotations R of I(a; b), (a, b) = R f, in bits. Small: the feature splits into two independent
ones. Mutual information is that of a histogram; published values come from three estimators that
are not comparable with each other, kept here as protocols "P" (the paper's appendix), "A" (its stand-alone
demo) and "B" (its cluster figures). "X", the default, is B's histogram over a quarter turn, after which
two coordinates only change places.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Real

from features.arrays import AnyArray

Protocol = Literal["X", "P", "A", "B"]
PROTOCOLS: tuple[Protocol, ...] = ("X", "P", "A", "B")


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How one protocol turns points into cells."""

    bins: int  # cells per axis
    angles: int
    end: float  # angles run from 0 to here
    endpoint: bool
    scaling: Literal["range", "rms", "mean square"]  # range: bins span minimum to maximum of the rotated data
    damping: float  # added to probabilities before the logarithm


_HISTOGRAMS: dict[Protocol, Histogram] = {
    "X": Histogram(10, 50, math.pi / 2, False, "range", 1e-10),
    "B": Histogram(10, 100, 2 * math.pi, True, "range", 1e-10),
    "P": Histogram(40, 1000, 2 * math.pi, False, "rms", 1e-4),
    "A": Histogram(40, 1000, 2 * math.pi, False, "mean square", 1e-4),
}


def angles(protocol: Protocol) -> Float[Array, " angles"]:
    """The rotations that a protocol tries, in radians."""
    how = _HISTOGRAMS[protocol]
    return jnp.linspace(0.0, how.end, how.angles, endpoint=how.endpoint)


def _cells(how: Histogram, x: Float[Array, " n"], valid: Bool[Array, " n"]) -> Int[Array, " n"]:
    """Index of each point's cell on one axis."""
    if how.scaling == "range":
        low = jnp.min(x, where=valid, initial=jnp.inf)
        high = jnp.max(x, where=valid, initial=-jnp.inf)
        span = jnp.where(high > low, high - low, 1.0)
        position = (x - low) / span * how.bins
        return jnp.clip(jnp.floor(position), 0, how.bins - 1).astype(jnp.int32)
    # Fixed square [-3, 3]; what lies outside goes to the edge.
    half = how.bins // 2
    return jnp.floor(jnp.clip((x + 3) / 3 * half, 0, how.bins - 0.1)).astype(jnp.int32)


def _information(how: Histogram, counts: Float[Array, "rows columns"]) -> Float[Array, ""]:
    p = counts / counts.sum()
    q = p.sum(0)[None] * p.sum(1)[:, None]
    occupied = p > 0
    if how.damping == 1e-4:  # A and P sum over empty cells too
        terms = p * jnp.log((p + how.damping) / (q + how.damping))
    else:
        ratio = jnp.where(occupied, p + how.damping, 1.0) / jnp.where(occupied, q + how.damping, 1.0)
        terms = jnp.where(occupied, p * jnp.log(ratio), 0.0)
    return terms.sum() / math.log(2)


def _miller_madow(counts: Float[Array, "rows columns"], n: Int[Array, ""]) -> Float[Array, ""]:
    """Expected excess of a histogram's information over the true one, in bits."""
    cells, rows, columns = (counts > 0).sum(), (counts.sum(1) > 0).sum(), (counts.sum(0) > 0).sum()
    return (cells - rows - columns + 1) / (2 * n * math.log(2))


def _scaled(how: Histogram, points: Float[Array, "n 2"], valid: Bool[Array, " n"]) -> Float[Array, "n 2"]:
    n = valid.sum()
    centered = points - (jnp.where(valid[:, None], points, 0).sum(0) / n)[None]
    if how.scaling == "range":
        return centered
    square = (jnp.where(valid[:, None], centered, 0) ** 2).sum() / (2 * n)
    # With "rms" the mean squared norm becomes 2, as the paper writes; the demo's code divides by the square.
    return centered / (jnp.sqrt(square) if how.scaling == "rms" else square)


def _curve(
    how: Histogram,
    points: Float[Array, "n 2"],
    valid: Bool[Array, " n"],
    theta: Float[Array, " angles"],
    corrected: bool,
) -> Float[Array, " angles"]:
    n = valid.sum()
    scaled = _scaled(how, points, valid)

    def at(angle: Float[Array, ""]) -> Float[Array, ""]:
        c, s = jnp.cos(angle), jnp.sin(angle)
        # Row vectors times [[c, -s], [s, c]].
        a, b = scaled[:, 0] * c + scaled[:, 1] * s, -scaled[:, 0] * s + scaled[:, 1] * c
        cell = _cells(how, a, valid) * how.bins + _cells(how, b, valid)
        counts = jnp.zeros(how.bins**2).at[cell].add(valid.astype(jnp.float32)).reshape(how.bins, how.bins)
        bits = _information(how, counts)
        return bits - _miller_madow(counts, n) if corrected else bits

    return jax.lax.map(at, theta, batch_size=None)


@functools.partial(jax.jit, static_argnames=("protocol", "bias_correction"))
def mutual_information_curve(
    points: Real[AnyArray, "..."],
    valid: Bool[AnyArray, " n"] | None = None,
    *,
    protocol: Protocol = "X",
    bias_correction: bool = False,
) -> Float[Array, " angles"]:
    """Mutual information in bits at each of the protocol's angles (paper, appendix on the indices).

    Args: points: (n, 2), of any scale. valid: (n,) booleans; points that are False do not count.
      bias_correction: subtract Miller and Madow's estimate of the excess, (K_xy - K_x - K_y + 1) / 2 N ln 2.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points have shape {points.shape}, expected (n, 2)")
    counted = jnp.ones(len(points), bool) if valid is None else jnp.asarray(valid)
    return _curve(_HISTOGRAMS[protocol], jnp.asarray(points), counted, angles(protocol), bias_correction)


def separability(
    points: Real[AnyArray, "..."],
    valid: Bool[AnyArray, " n"] | None = None,
    *,
    protocol: Protocol = "X",
    bias_correction: bool = False,
) -> Float[Array, ""]:
    """S in bits: the least mutual information of points (n, 2) over the protocol's angles."""
    return mutual_information_curve(points, valid, protocol=protocol, bias_correction=bias_correction).min()
