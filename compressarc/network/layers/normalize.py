"""The normalization used everywhere: zero mean, unit variance per tensor and channel.

Over all axes of one tensor except the channel; no learned scale or shift; no masks, so
pixels of the canvas outside a grid count (paper, appendix on layers; the reference does the
same). Padding beyond the canvas does not.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compressarc.multitensor import Group, Shape, norm_rows
from compressarc.network.layers.axes import custom_vjp, exact_product, settle, sum_axis
from compressarc.network.layers.project import project, settled_rows, slot_moments
from compressarc.network.padding import Part, masked, no_gradient

EPSILON = 1e-8
_ONE_PRODUCT = 1 << 15
"""Largest averaging matrix for which a mean is one product; beyond it, sums come first."""


def _positions_per_row(group: Group, shape: Shape, copies: int) -> int:
    inner = {"plane": shape.x * shape.y * shape.examples, "line": shape.examples, "point": 1}
    return copies * inner[group.space]


@functools.lru_cache(maxsize=512)
def _averages(
    group: Group, shape: Shape, copies: int
) -> tuple[Float[np.ndarray, "types rows"], Float[np.ndarray, "rows types"]]:
    """[types, rows] averaging of row sums, and [rows, types] to hand the averages back."""
    rows = norm_rows(group, shape)
    return (rows / (rows.sum(0) * _positions_per_row(group, shape, copies))).T, rows


def per_row(x: Float[Array, "*axes k"], group: Group, copies: int) -> Float[Array, "rows k"]:
    """Sums a packed array [row axes, ..., k] to [norm rows, k]; `copies` positions a row at least."""
    k = x.shape[-1]
    if group.space == "plane":  # one row per color slot
        inner = sum_axis(x, 1, x.shape[1]).reshape(x.shape[0], -1, copies * k)
        sums = jnp.einsum("cm,cmb->cb", jnp.ones(inner.shape[:2], x.dtype), inner, precision="highest")
    else:  # one row per (color slot, line) or (color slot, example slot)
        sums = x.reshape(x.shape[0] * x.shape[1], -1)
    return sums.reshape(sums.shape[0], -1, k).sum(1)


def _inverse(where: Part, group: Group, copies: int) -> Float[Array, "types 1"]:
    """1 / positions of each type with `copies` positions folded, [types, 1]."""
    return (where.inverse * (group.copies / copies))[:, None]


def type_mean(
    x: Float[Array, "*axes k"], group: Group, shape: Shape, copies: int, where: Part | None = None
) -> Float[Array, "types k"]:
    """Mean of each type and channel over positions; x is zero in the padding, if there is any."""
    average, rows = _averages(group, shape, copies)
    if where is not None:
        return exact_product(jnp.asarray(rows.T, x.dtype), per_row(x, group, copies)) * _inverse(
            where, group, copies
        )
    return exact_product(jnp.asarray(average, x.dtype), per_row(x, group, copies))


def row_mean(
    x: Float[Array, "*axes k"], group: Group, shape: Shape, copies: int, where: Part | None = None
) -> Float[Array, "rows k"]:
    """The mean of each row's type: as `type_mean`, handed to the rows."""
    average, rows = _averages(group, shape, copies)
    inner = _positions_per_row(group, shape, copies)
    if len(rows) ** 2 * inner <= _ONE_PRODUCT:
        matrix = np.repeat(rows @ (average if where is None else rows.T), inner, axis=1)
        out = exact_product(jnp.asarray(matrix, x.dtype), x.reshape(-1, x.shape[-1]))
        if where is None:
            return out
        return out * exact_product(jnp.asarray(rows, x.dtype), _inverse(where, group, copies))
    return exact_product(jnp.asarray(rows, x.dtype), type_mean(x, group, shape, copies, where))


def to_rows(
    values: Float[Array, "types k"], like: Float[Array, "..."], group: Group, shape: Shape
) -> Float[Array, "..."]:
    """[types, k] -> an array that broadcasts against `like`, a packed array of the group."""
    return _aligned(exact_product(jnp.asarray(norm_rows(group, shape), values.dtype), values), like, group)


def _aligned(rows: Float[Array, "rows k"], like: Float[Array, "..."], group: Group) -> Float[Array, "..."]:
    """[rows, k] -> an array that broadcasts against `like`."""
    lead = 1 if group.space == "plane" else 2
    return rows.reshape(*like.shape[:lead], *(1,) * (like.ndim - lead - 1), rows.shape[-1])


def normalize(
    x: Float[Array, "*axes k"], group: Group, shape: Shape, copies: int, where: Part | None = None
) -> Float[Array, "*axes k"]:
    """Normalizes each type of a packed array, per channel.

    copies: how many positions are folded between the row axes and the channel (8 for
    directed arrays, 1 for plain ones). where: the array's padding, in which x is zero and
    the result too. The result is (x - mean) / sqrt(1e-8 + variance).
    """
    return _normalize(x, where, group, shape, copies)


@custom_vjp((2, 3, 4))
def _normalize(
    x: Float[Array, "*axes k"], where: Part | None, group: Group, shape: Shape, copies: int
) -> Float[Array, "*axes k"]:
    return _forward(x, where, group, shape, copies)[0]


def _forward(
    x: Float[Array, "*axes k"], where: Part | None, group: Group, shape: Shape, copies: int
) -> tuple[Float[Array, "*axes k"], tuple[Float[Array, "*axes k"], Float[Array, "..."], Part | None]]:
    x = settle(x)
    centered = masked(x - _aligned(row_mean(x, group, shape, copies, where), x, group), where, group)
    variance = row_mean(jnp.square(centered), group, shape, copies, where)
    scale = _aligned(jax.lax.rsqrt(EPSILON + variance), x, group)
    out = centered * scale
    return out, (out, scale, where)


def _backward(
    group: Group,
    shape: Shape,
    copies: int,
    saved: tuple[Float[Array, "*axes k"], Float[Array, "..."], Part | None],
    g: Float[Array, "*axes k"],
) -> tuple[Float[Array, "*axes k"], Part | None]:
    out, scale, where = saved
    g = settle(masked(g, where, group))
    mean = _aligned(row_mean(g, group, shape, copies, where), g, group)
    along = _aligned(row_mean(g * out, group, shape, copies, where), g, group)
    return masked(scale * (g - mean - out * along), where, group), no_gradient(where)


_normalize.defvjp(_forward, _backward)


def normalize_project(
    x: Float[Array, "*axes k"],
    weight: Float[Array, "sets k n"],
    group: Group,
    shape: Shape,
    fold: int = 1,
    where: Part | None = None,
) -> Float[Array, "*axes n"]:
    """`project(normalize(x), weight)`.

    fold: how many positions (directions) are folded into the last axis of x, [..., fold * k].
    On planes the normalized array is never made: its scale goes into the weights and its
    mean into a constant, and the backward pass needs only the products that the weights'
    gradient consists of. where: the array's padding, in which x is zero and the result too.
    """
    if group.space == "plane":
        return _normalize_project_plane(x, weight, where, group, shape, fold)
    if fold == 1:
        return project(settled_rows(normalize(x, group, shape, group.copies, where)), weight, group, shape)
    split = normalize(x.reshape(*x.shape[:-1], fold, -1), group, shape, fold, where)
    return project(split.reshape(x.shape), weight, group, shape)


@custom_vjp((3, 4, 5))
def _normalize_project_plane(
    x: Float[Array, "*axes k"],
    weight: Float[Array, "2 k n"],
    where: Part | None,
    group: Group,
    shape: Shape,
    fold: int,
) -> Float[Array, "*axes n"]:
    return _project_forward(x, weight, where, group, shape, fold)[0]


class _Saved(NamedTuple):
    """What the backward pass of `_normalize_project_plane` reads."""

    x: Float[Array, "*axes k"]
    mean: Float[Array, "2 k"]
    scale: Float[Array, "2 k"]
    weight: Float[Array, "2 k n"]
    where: Part | None


def _by_type(rows: Float[Array, "rows k"]) -> Float[Array, "2 k"]:
    """On planes, color slot 0 is one type and every other slot the other: [2, k]."""
    return rows[:2]


def _plane_rows(
    values: Float[Array, "2 k"], like: Float[Array, "..."], group: Group, shape: Shape
) -> Float[Array, "..."]:
    slots = jnp.concatenate([values[:1], jnp.broadcast_to(values[1:], (shape.colors, values.shape[1]))])
    return _aligned(slots, like, group)


def _project_forward(
    x: Float[Array, "*axes k"],
    weight: Float[Array, "2 k n"],
    where: Part | None,
    group: Group,
    shape: Shape,
    fold: int,
) -> tuple[Float[Array, "*axes n"], _Saved]:
    x = settled_rows(x)
    folded = lambda a: a.reshape(*a.shape[:-1], fold, -1) if fold > 1 else a  # noqa: E731
    repeat = lambda values: jnp.tile(values, (1, fold)) if fold > 1 else values  # noqa: E731
    mean_rows = repeat(row_mean(folded(x), group, shape, group.copies, where))
    deviation = masked(jnp.square(x - _aligned(mean_rows, x, group)), where, group)
    variance = _by_type(row_mean(folded(deviation), group, shape, group.copies, where))
    mean = _by_type(mean_rows)
    scale = repeat(jax.lax.rsqrt(EPSILON + variance))
    scaled = scale[..., None] * weight
    out = project(x, scaled, group, shape)
    constant = -(mean[..., None] * scaled).sum(1)
    out = masked(out + _plane_rows(constant, out, group, shape), where, group)
    return out, _Saved(x, mean, scale, weight, where)


def _project_backward(
    group: Group, shape: Shape, fold: int, saved: _Saved, g: Float[Array, "*axes n"]
) -> tuple[Float[Array, "*axes k"], Float[Array, "2 k n"], Part | None]:
    x, mean, scale, weight, where = saved
    copies = group.copies // fold
    g = settled_rows(masked(g, where, group))
    if where is None:
        positions = math.prod(shape.axes("10011")) * copies
        count = jnp.asarray([positions, positions * shape.colors], g.dtype)[:, None, None]
    else:
        count = 1 / _inverse(where, group, copies)[..., None]
    g_mean = _by_type(row_mean(g, group, shape, copies, where))
    moments = slot_moments(x, g) / count - mean[..., None] * g_mean[:, None]

    def over_fold(values: Float[Array, "2 k"]) -> Float[Array, "2 k"]:
        if fold == 1:
            return values
        return jnp.tile(values.reshape(2, fold, -1).mean(1), (1, fold))

    slope = -(scale**3) * over_fold((weight * moments).sum(-1))
    offset = -scale * over_fold((weight * g_mean[:, None]).sum(-1)) - slope * mean
    back = project(g, (scale[..., None] * weight).transpose(0, 2, 1), group, shape)
    rows = lambda values: _plane_rows(values, back, group, shape)  # noqa: E731
    back = masked(back + rows(offset) + rows(slope) * x, where, group)
    return back, scale[..., None] * moments * count, no_gradient(where)


_normalize_project_plane.defvjp(_project_forward, _project_backward)
