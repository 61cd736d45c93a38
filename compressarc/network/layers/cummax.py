"""The cummax layer: rescaled cumulative maxima along the eight directions (paper, "cummax").

With p = 1000 outside the union of input and output rectangle and 0 inside, each line is
replaced by 2 (c - m) / (M - m) - 1, where c is the cumulative maximum of v - p, plus p,
and M and m are the line's largest and smallest value. Along rows and columns the result
is not masked again; along diagonals it is.

Diagonals become columns of a sheared array (a pad and a reshape), so that one cumulative
maximum serves all directions.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from compressarc.multitensor import Shape, Stream
from compressarc.network.layers.axes import custom_vjp, keep, max_axis, settle, sum_axis
from compressarc.network.layers.sweep import HALF, PER_AXIS, axis_columns, directional
from compressarc.network.padding import Padding

OUTSIDE = 1000.0
CARDINAL_MARGIN = 1e-3
DIAGONAL_EPSILON = 1e-5


def _reach(n: int) -> int:
    """Window of the first of the two passes that cover n entries."""
    return max(1, math.isqrt(n - 1) + 1)


def _passes(n: int) -> list[range]:
    """Distances looked back in each pass: windows of about sqrt(n), then windows of windows."""
    window = _reach(n)
    steps = ((1, window), (window, -(-n // window)))
    return [range(0, step * count, step) for step, count in steps if count > 1]


def _behind(
    x: Float[Array, "..."], distances: range, axis: int, backwards: Bool[np.ndarray, "..."], fill: float
) -> list[Float[Array, "..."]]:
    """X as seen `distance` entries further back along the sweep of each column.

    backwards: bool, broadcasts against x; columns that sweep toward lower indices.
    """
    reach = max(abs(d) for d in distances)
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (reach, reach, 0)
    padded = jax.lax.pad(x, jnp.asarray(fill, x.dtype), widths)
    n = x.shape[axis]

    def at(offset: int) -> Float[Array, "..."]:
        return jax.lax.slice_in_dim(padded, reach + offset, reach + offset + n, axis=axis)

    return [x if d == 0 else jnp.where(backwards, at(d), at(-d)) for d in distances]


class _Sweep(NamedTuple):
    """Which way each column of an array is swept; hashable, the mask being kept as bytes."""

    axis: int
    mask: bytes
    shape: tuple[int, ...]

    @classmethod
    def of(cls, axis: int, backwards: Bool[np.ndarray, "..."]) -> _Sweep:
        return cls(axis, backwards.astype(bool).tobytes(), backwards.shape)

    @property
    def backwards(self) -> Bool[np.ndarray, "..."]:
        return np.frombuffer(self.mask, bool).reshape(self.shape)


@custom_vjp((1,))
def running_max(x: Float[Array, "*axes"], sweep: _Sweep) -> Float[Array, "*axes"]:
    """Cumulative maximum along each column's sweep; ties give the gradient to the first.

    Two passes over windows of about sqrt(n) instead of log2(n) doubling steps.
    """
    for distances in _passes(x.shape[sweep.axis]):
        x = functools.reduce(jnp.maximum, _behind(x, distances, sweep.axis, sweep.backwards, -jnp.inf))
    return keep(x)


def _running_max_forward(
    x: Float[Array, "*axes"], sweep: _Sweep
) -> tuple[Float[Array, "*axes"], tuple[Float[Array, "*axes"], Float[Array, "*axes"]]]:
    out = running_max(x, sweep)
    return out, (x, out)


def _running_max_backward(
    sweep: _Sweep, saved: tuple[Float[Array, "*axes"], Float[Array, "*axes"]], g: Float[Array, "*axes"]
) -> tuple[Float[Array, "*axes"]]:
    x, out = saved
    axis, ahead = sweep.axis, ~sweep.backwards
    for distances in _passes(x.shape[axis]):
        # Equal cumulative maxima are neighbors: everything in between is equal too.
        same = _behind(out, distances, axis, ahead, jnp.nan)
        parts = _behind(g, distances, axis, ahead, 0.0)
        g = sum((jnp.where(s == out, p, 0) for s, p in zip(same[1:], parts[1:], strict=True)), g)
    (before,) = _behind(out, range(1, 2), axis, sweep.backwards, -jnp.inf)
    return (jnp.where(out > before, g, 0),)


running_max.defvjp(_running_max_forward, _running_max_backward)


@custom_vjp((1,))
def line_max(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Maximum along one axis, kept as length 1; ties share the gradient."""
    return keep(max_axis(x, axis))


def _line_max_forward(
    x: Float[Array, "..."], axis: int
) -> tuple[Float[Array, "..."], tuple[Float[Array, "..."], Float[Array, "..."]]]:
    out = line_max(x, axis)
    return out, (x, out)


def _line_max_backward(
    axis: int, saved: tuple[Float[Array, "..."], Float[Array, "..."]], g: Float[Array, "..."]
) -> tuple[Float[Array, "..."]]:
    x, out = saved
    largest = (x == out).astype(x.dtype)
    return (largest * (g / keep(sum_axis(largest, axis, x.shape[axis]))),)


line_max.defvjp(_line_max_forward, _line_max_backward)


def _extremes(
    v: Float[Array, "*axes"], outside: Float[Array, "..."], sweep: _Sweep
) -> tuple[Float[Array, "*axes"], Float[Array, "..."], Float[Array, "..."]]:
    """Cumulative maximum, and largest and smallest value of each line."""
    inside = settle(v - outside)
    high = line_max(inside, sweep.axis)
    low = -line_max(-(v + outside), sweep.axis)
    return running_max(inside, sweep), high, low


_HALVES = np.arange(PER_AXIS) >= HALF
"""Of the 8 columns of an axis, the last four sweep backwards."""


@custom_vjp((4, 5, 6))
def _rescaled(
    run: Float[Array, "*axes"],
    top: Float[Array, "..."],
    low: Float[Array, "..."],
    outside: Float[Array, "..."],
    margin: float,
    epsilon: float,
    axis: int,
) -> Float[Array, "*axes"]:
    """2 (c - m) / (M - m + epsilon) - 1; top and low have length 1 along the axis.

    Margins are added last: in single precision they are lost beside values above 10^4, or
    beside p, and a line of equal values would be zero divided by zero.
    """
    return 2 * (run - low + 2 * outside + margin) / _width(top, low, outside, margin, epsilon) - 1


def _width(
    top: Float[Array, "..."],
    low: Float[Array, "..."],
    outside: Float[Array, "..."],
    margin: float,
    epsilon: float,
) -> Float[Array, "..."]:
    return top - low + 2 * outside + (2 * margin + epsilon)


class _Saved(NamedTuple):
    """What the backward pass of `_rescaled` reads; top and low have length 1 along the axis."""

    top: Float[Array, "..."]
    low: Float[Array, "..."]
    outside: Float[Array, "..."]
    out: Float[Array, "..."]


def _rescaled_forward(
    run: Float[Array, "*axes"],
    top: Float[Array, "..."],
    low: Float[Array, "..."],
    outside: Float[Array, "..."],
    margin: float,
    epsilon: float,
    axis: int,
) -> tuple[Float[Array, "*axes"], _Saved]:
    out = _rescaled(run, top, low, outside, margin, epsilon, axis)
    return out, _Saved(top, low, outside, out)


def _rescaled_backward(
    margin: float, epsilon: float, axis: int, saved: _Saved, g: Float[Array, "*axes"]
) -> tuple[Float[Array, "*axes"], Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
    top, low, outside, out = saved
    width = _width(top, low, outside, margin, epsilon)
    # Stored, since both sums over the line read it and its chain is long.
    slope = keep((2 * g / width).reshape(*g.shape[:-1], -1, PER_AXIS)).reshape(g.shape)
    n = g.shape[axis]
    total = sum_axis(slope, axis, n)
    weighted = sum_axis(slope * (out + 1), axis, n) / 2
    return slope, -weighted, weighted - total, jnp.zeros_like(outside)


_rescaled.defvjp(_rescaled_forward, _rescaled_backward)


def _cardinal(
    v: Float[Array, "C1 X Y E columns"], outside: Float[Array, "X Y E"], axis: int
) -> Float[Array, "C1 X Y E columns"]:
    """V [C+1, X, Y, E, 8] along x (axis 1) or y (axis 2)."""
    p = outside[None, ..., None]
    run, top, low = _extremes(v, p, _Sweep.of(axis, _HALVES))
    return _rescaled(run, top, low, p, CARDINAL_MARGIN, 0.0, axis)


def _shear(v: Float[Array, "B X Y R"], anti: bool) -> Float[Array, "B X XY R"]:
    """[B, X, Y, R] -> [B, X, X + Y, R]: diagonals (+x, +y) become columns; zeros enter.

    anti: antidiagonals (-x, +y) instead.
    """
    b, x, y, r = v.shape
    if anti:
        v = jnp.pad(v, ((0, 0), (0, 0), (0, x + 1), (0, 0))).reshape(b, x * (x + y + 1), r)
        return v[:, : x * (x + y)].reshape(b, x, x + y, r)
    v = jnp.pad(v, ((0, 0), (0, 0), (0, x - 1), (0, 0))).reshape(b, x * (x + y - 1), r)
    return jnp.pad(v, ((0, 0), (x - 1, 1), (0, 0))).reshape(b, x, x + y, r)


def _unshear(v: Float[Array, "B X XY R"], y: int, anti: bool) -> Float[Array, "B X Y R"]:
    b, x, w, r = v.shape
    v = v.reshape(b, x * w, r)
    if anti:
        v = jnp.pad(v, ((0, 0), (0, x), (0, 0))).reshape(b, x, w + 1, r)
    else:
        v = v[:, x - 1 : x * w - 1].reshape(b, x, w - 1, r)
    return v[:, :, :y]


def _diagonal(
    main: Float[Array, "C1 X Y E columns"],
    anti: Float[Array, "C1 X Y E columns"],
    union: Float[Array, "X Y E"],
) -> tuple[Float[Array, "C1 X Y E columns"], Float[Array, "C1 X Y E columns"]]:
    """Both diagonals, [C+1, X, Y, E, 8] each, side by side in one sheared array."""
    _, x, y, e, columns = main.shape
    width = x + y
    flat = lambda a: a.reshape(a.shape[0], x, y, -1)  # noqa: E731
    both = lambda a, b: jnp.concatenate([_shear(flat(a), False), _shear(flat(b), True)], 2)  # noqa: E731
    backwards = np.concatenate([np.tile(_HALVES, (width, e)), np.tile(~_HALVES, (width, e))])
    mask = jnp.broadcast_to(union[None, ..., None], (1, x, y, e, columns))
    p = OUTSIDE * (1 - both(mask, mask))
    run, top, low = _extremes(settle(both(main, anti)), p, _Sweep.of(1, backwards))
    out = settle(_rescaled(run, top, low, p, 0.0, DIAGONAL_EPSILON, 1))
    inside = union[None, ..., None]
    parts = _unshear(out[:, :, :width], y, False), _unshear(out[:, :, width:], y, True)
    return parts[0].reshape(main.shape) * inside, parts[1].reshape(main.shape) * inside


def _all_directions(
    v: Float[Array, "C1 X Y E columns"], union: Float[Array, "X Y E"]
) -> Float[Array, "C1 X Y E columns"]:
    outside = OUTSIDE * (1 - union)
    along = [keep(axis_columns(v, j)) for j in range(4)]
    main, anti = _diagonal(along[1], along[3], union)
    rows, columns = _cardinal(along[0], outside, 1), _cardinal(along[2], outside, 2)
    return jnp.concatenate([keep(a) for a in (rows, main, columns, anti)], -1)


def cummax(
    x: Stream[Array],
    read: Float[Array, "by_slot 1 64 32"],
    write: Float[Array, "by_slot 1 32 64"],
    union: Float[Array, "X Y E"],
    shape: Shape,
    padding: Padding[Array] | None = None,
) -> Stream[Array]:
    """Adds the normalized cumulative maxima of a 4-channel reading of the directed planes.

    read, write: from `sweep_weights`; union [X, Y, E].
    """
    return directional(x, read, write, union, _all_directions, shape, padding)
