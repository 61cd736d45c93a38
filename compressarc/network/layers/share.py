"""Multitensor communication: share up and share down (paper, "multitensor communication").

Sharing up, type T receives the sum over all types S whose axes are a subset of T's, each
broadcast. Sharing down, it receives the mean of every S whose axes are a superset,
reduced over the axes that T lacks in the order y, x, direction, color, example. Both are
computed one axis at a time (a subset-sum transform), on whole packed arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compressarc.multitensor import DIRECTIONS, ArrayT, Group, Multitensor, Shape, map_groups
from compressarc.network.layers.axes import keep, settle, spread, sum_axis
from compressarc.network.layers.normalize import normalize_project
from compressarc.network.layers.project import project
from compressarc.network.padding import Padding, masked, part


class PixelMeans(NamedTuple, Generic[ArrayT]):
    """Weights of the pixel means in `share_down`; each sums to one over its axis.

    Masked by the union of input and output rectangle if the output size is known (then
    they sum to n / (n + 1e-4)), uniform over the canvas if not.
    """

    plane_y: Float[ArrayT, "X Y E"]
    plane_x: Float[ArrayT, "X Y E"]
    row_x: Float[ArrayT, "X E"]
    column_y: Float[ArrayT, "Y E"]


def _add_slot(x: Float[Array, "*axes"], axis: int) -> Float[Array, "*axes"]:
    """Adds slot 0 of an axis to its other slots."""
    return x + spread(jax.lax.slice_in_dim(x, 0, 1, axis=axis), axis, x.shape[axis], 1)


def _up(
    plane: Float[Array, "C1 XYE *k"],
    line: Float[Array, "C1 LE *k"],
    point: Float[Array, "C1 E1 *k"],
    shape: Shape,
) -> tuple[Float[Array, "C1 XYE *k"], Float[Array, "C1 LE *k"], Float[Array, "C1 E1 *k"]]:
    """Adds to each array everything below it except across the direction axis."""
    x, y, rows = shape.x, shape.y, shape.x * shape.examples
    point = keep(_add_slot(_add_slot(point, 1), 0))
    columns = _add_slot(line, 0)
    line = columns + spread(point[:, 1:], 1, x + y)
    along_x = keep(line[:, :rows])  # with what comes from below them, which columns then lack
    plane = _add_slot(plane, 0) + spread(along_x, 1, y, outer=x) + spread(keep(columns[:, rows:]), 1, x)
    return plane, line, point


def _upward(v: Multitensor[Array], shape: Shape) -> Multitensor[Array]:
    plain = [settle(a) for a in _up(v.plane, v.line, v.point, shape)]
    directed = _up(v.plane_directed, v.line_directed, v.point_directed, shape)
    with_plain = [
        a + spread(b[..., None, :], b.ndim - 1, DIRECTIONS) for a, b in zip(directed, plain, strict=True)
    ]
    return Multitensor(plain[0], with_plain[0], plain[1], with_plain[1], plain[2], with_plain[2])


def _pixels_down(
    plane: Float[Array, "C1 XYE *k"],
    line: Float[Array, "C1 LE *k"],
    point: Float[Array, "C1 E1 *k"],
    means: PixelMeans[Array],
    shape: Shape,
) -> tuple[Float[Array, "C1 XYE *k"], Float[Array, "C1 LE *k"], Float[Array, "C1 E1 *k"]]:
    """Adds the means over y, then over x, to what lacks these axes."""
    x, y, rows = shape.x, shape.y, shape.x * shape.examples
    tail = (None,) * (plane.ndim - 2)

    def mean(
        weight: Float[Array, "..."], v: Float[Array, "..."], n: int, outer: int = 1
    ) -> Float[Array, "..."]:
        return keep(sum_axis(weight.reshape(-1)[(None, ..., *tail)] * v, 1, n, outer=outer))

    to_point = mean(means.column_y, line[:, rows:], y)
    along_x = line[:, :rows] + mean(means.plane_y, plane, y, outer=x)
    along_y = line[:, rows:] + mean(means.plane_x, plane, x)
    to_point = to_point + mean(means.row_x, along_x, x)
    point = jnp.concatenate([point[:, :1], point[:, 1:] + to_point], axis=1)
    return plane, keep(jnp.concatenate([along_x, along_y], axis=1)), keep(point)


def _into_slot(x: Float[Array, "*axes"], axis: int, share: Float[Array, ""] | None) -> Float[Array, "*axes"]:
    """Adds the mean over the present slots of an axis to its slot 0; share: 1 / their number, if data."""
    n = x.shape[axis]
    mean = keep(sum_axis(x, axis, n, 1) * (1 / (n - 1) if share is None else share))
    first = jax.lax.slice_in_dim(x, 0, 1, axis=axis) + mean
    return jax.lax.dynamic_update_slice_in_dim(x, first, 0, axis=axis)


def _downward(
    v: Multitensor[Array], means: PixelMeans[Array], shape: Shape, padding: Padding[Array] | None
) -> Multitensor[Array]:
    colors = None if padding is None else padding.color_share
    examples = None if padding is None else padding.example_share
    directed = _pixels_down(v.plane_directed, v.line_directed, v.point_directed, means, shape)
    plain = _pixels_down(v.plane, v.line, v.point, means, shape)
    plain = [
        p + keep(sum_axis(d, d.ndim - 2, DIRECTIONS)[..., 0, :] * (1 / DIRECTIONS))
        for p, d in zip(plain, directed, strict=True)
    ]
    plain = [_into_slot(p, 0, colors) for p in plain]
    directed = [_into_slot(d, 0, colors) for d in directed]
    # No type lacks all axes: what has gathered in slot 0 of the plain points is dropped.
    point = jnp.concatenate([jnp.zeros_like(plain[2][:1]), _into_slot(plain[2][1:], 1, examples)], axis=0)
    last = _into_slot(directed[2], 1, examples)
    return Multitensor(plain[0], directed[0], plain[1], directed[1], point, last)


def _communicate(
    x: Multitensor[Array],
    into: Multitensor[Array],
    out: Multitensor[Array],
    mix: Callable[[Multitensor[Array]], Multitensor[Array]],
    shape: Shape,
    padding: Padding[Array] | None,
) -> Multitensor[Array]:
    v = map_groups(lambda group, a, w: project(a, w, group, shape), x, into)
    u = mix(v)

    def write(
        group: Group, a: Float[Array, "*axes k"], u: Float[Array, "*axes n"], w: Float[Array, "sets n k"]
    ) -> Float[Array, "*axes k"]:
        where = part(padding, group)
        u = settle(masked(u, where))
        return settle(a + normalize_project(u, w, group, shape, where=where))

    return map_groups(write, x, u, out)


def share_up(
    x: Multitensor[Array],
    into: Multitensor[Array],
    out: Multitensor[Array],
    shape: Shape,
    padding: Padding[Array] | None = None,
) -> Multitensor[Array]:
    """Adds to each type the normalized sum of all types below it (width 16).

    into, out: weights per group, [sets, C, 16] and [sets, 16, C].
    """
    return _communicate(x, into, out, lambda v: _upward(v, shape), shape, padding)


def share_down(
    x: Multitensor[Array],
    into: Multitensor[Array],
    out: Multitensor[Array],
    means: PixelMeans[Array],
    shape: Shape,
    padding: Padding[Array] | None = None,
) -> Multitensor[Array]:
    """Adds to each type the normalized sum of the means of all types above it (width 8)."""
    return _communicate(x, into, out, lambda v: _downward(v, means, shape, padding), shape, padding)
