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
import numpy as np
from jaxtyping import Array, Float

from compressarc.multitensor import DIRECTIONS, MARGIN, ArrayT, Group, Shape, Stream, map_groups, norm_rows
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


def _lines_and_points(
    margin: Float[Array, "C1 LE *k"], shape: Shape
) -> tuple[Float[Array, "C1 XE *k"], Float[Array, "C1 YE *k"], Float[Array, "C1 E1 *k"]]:
    rows, columns = shape.x * shape.examples, shape.y * shape.examples
    return margin[:, :rows], margin[:, rows : rows + columns], margin[:, rows + columns :]


def _up(
    planes: Float[Array, "C1 XYE *k"], margin: Float[Array, "C1 LE *k"], shape: Shape
) -> tuple[Float[Array, "C1 XYE *k"], Float[Array, "C1 LE *k"]]:
    """Adds to each array everything below it except across the direction axis."""
    x, y = shape.x, shape.y
    margin = _add_slot(margin, 0)
    rows, columns, point = _lines_and_points(margin, shape)
    point = keep(_add_slot(point, 1))
    rows = keep(rows + spread(point[:, 1:], 1, x))  # with what comes from below them, which columns then lack
    planes = _add_slot(planes, 0) + spread(rows, 1, y, outer=x) + spread(keep(columns), 1, x)
    columns = columns + spread(point[:, 1:], 1, y)
    return planes, jnp.concatenate([rows, columns, point], axis=1)


def _upward(v: Stream[Array], shape: Shape) -> Stream[Array]:
    plain = [settle(a) for a in _up(v.planes, v.margin, shape)]
    directed = _up(v.planes_directed, v.margin_directed, shape)
    with_plain = [
        a + spread(b[..., None, :], b.ndim - 1, DIRECTIONS) for a, b in zip(directed, plain, strict=True)
    ]
    return Stream(plain[0], with_plain[0], plain[1], with_plain[1])


def _pixels_down(
    planes: Float[Array, "C1 XYE *k"],
    margin: Float[Array, "C1 LE *k"],
    means: PixelMeans[Array],
    shape: Shape,
) -> Float[Array, "C1 LE *k"]:
    """The margin with the means over y, then over x, of what has these axes."""
    x, y = shape.x, shape.y
    tail = (None,) * (planes.ndim - 2)
    rows, columns, point = _lines_and_points(margin, shape)

    def mean(
        weight: Float[Array, "..."], v: Float[Array, "..."], n: int, outer: int = 1
    ) -> Float[Array, "..."]:
        return keep(sum_axis(weight.reshape(-1)[(None, ..., *tail)] * v, 1, n, outer=outer))

    to_point = mean(means.column_y, columns, y)
    along_x = rows + mean(means.plane_y, planes, y, outer=x)
    along_y = columns + mean(means.plane_x, planes, x)
    to_point = to_point + mean(means.row_x, along_x, x)
    return keep(jnp.concatenate([along_x, along_y, point[:, :1], point[:, 1:] + to_point], axis=1))


def _into_slot(x: Float[Array, "*axes"], axis: int, share: Float[Array, ""] | None) -> Float[Array, "*axes"]:
    """Adds the mean over the present slots of an axis to its slot 0; share: 1 / their number, if data."""
    n = x.shape[axis]
    mean = keep(sum_axis(x, axis, n, 1) * (1 / (n - 1) if share is None else share))
    first = jax.lax.slice_in_dim(x, 0, 1, axis=axis) + mean
    return jax.lax.dynamic_update_slice_in_dim(x, first, 0, axis=axis)


def _into_no_example(
    margin: Float[Array, "C1 LE *k"], shape: Shape, share: Float[Array, ""] | None
) -> Float[Array, "C1 LE *k"]:
    """Adds the mean over examples to the place of none."""
    lines = margin.shape[1] - shape.examples - 1
    return jnp.concatenate([margin[:, :lines], _into_slot(margin[:, lines:], 1, share)], axis=1)


def _downward(
    v: Stream[Array], means: PixelMeans[Array], shape: Shape, padding: Padding[Array] | None
) -> Stream[Array]:
    colors = None if padding is None else padding.color_share
    examples = None if padding is None else padding.example_share
    directed = [v.planes_directed, _pixels_down(v.planes_directed, v.margin_directed, means, shape)]
    plain = [v.planes, _pixels_down(v.planes, v.margin, means, shape)]
    plain = [
        p + keep(sum_axis(d, d.ndim - 2, DIRECTIONS)[..., 0, :] * (1 / DIRECTIONS))
        for p, d in zip(plain, directed, strict=True)
    ]
    planes, margin = (_into_slot(p, 0, colors) for p in plain)
    planes_directed, margin_directed = (_into_slot(d, 0, colors) for d in directed)
    margin = _into_no_example(margin, shape, examples)
    # No type lacks all axes: what has gathered in slot 0 of the plain points is dropped.
    margin = margin * jnp.asarray(_is_owned(shape), margin.dtype)[..., None]
    margin_directed = _into_no_example(margin_directed, shape, examples)
    return Stream(planes, planes_directed, margin, margin_directed)


def _is_owned(shape: Shape) -> Float[np.ndarray, "slots places"]:
    return norm_rows(MARGIN, shape).sum(1).reshape(MARGIN.flat(shape))


def _communicate(
    x: Stream[Array],
    into: Stream[Array],
    out: Stream[Array],
    mix: Callable[[Stream[Array]], Stream[Array]],
    shape: Shape,
    padding: Padding[Array] | None,
) -> Stream[Array]:
    kinds = lambda group, a: group.kinds(a.shape[1], shape)  # noqa: E731
    v = map_groups(lambda group, a, w: project(a, w, kinds(group, a)), x, into)
    u = mix(v)

    def write(
        group: Group,
        a: Float[Array, "*axes k"],
        u: Float[Array, "*axes n"],
        w: Float[Array, "by_slot kinds n k"],
    ) -> Float[Array, "*axes k"]:
        where = part(padding, group)
        u = settle(masked(u, where))
        return settle(a + normalize_project(u, w, group, shape, kinds(group, a), where=where))

    return map_groups(write, x, u, out)


def share_up(
    x: Stream[Array],
    into: Stream[Array],
    out: Stream[Array],
    shape: Shape,
    padding: Padding[Array] | None = None,
) -> Stream[Array]:
    """Adds to each type the normalized sum of all types below it (width 16).

    into, out: weights per group as `project` takes them, C -> 16 and back.
    """
    return _communicate(x, into, out, lambda v: _upward(v, shape), shape, padding)


def share_down(
    x: Stream[Array],
    into: Stream[Array],
    out: Stream[Array],
    means: PixelMeans[Array],
    shape: Shape,
    padding: Padding[Array] | None = None,
) -> Stream[Array]:
    """Adds to each type the normalized sum of the means of all types above it (width 8)."""
    return _communicate(x, into, out, lambda v: _downward(v, means, shape, padding), shape, padding)
