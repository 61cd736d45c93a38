"""The normalization used everywhere: zero mean, unit variance per tensor and channel.

Over all axes of one tensor except the channel; no learned scale or shift; no masks, so
pixels of the canvas outside a grid count (paper, appendix on layers; the reference does the
same). Padding beyond the canvas does not.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad
from jaxtyping import Array, DTypeLike, Float

from compressarc.multitensor import Group, Shape, norm_rows, norm_types
from compressarc.network.layers.axes import custom_vjp, exact_product, settle, settled_rows, sum_axis
from compressarc.network.layers.by_platform import operation
from compressarc.network.layers.project import project, slot_moments
from compressarc.network.padding import Part, masked, no_gradient

EPSILON = 1e-8
_ONE_PRODUCT = 1 << 15
"""Largest averaging matrix for which a mean is one product; beyond it, sums come first."""


def _positions_per_row(group: Group, shape: Shape, copies: int) -> int:
    inner = shape.x * shape.y * shape.examples if group.space == "plane" else 1
    return copies * inner


def _type_positions(group: Group, shape: Shape, copies: int) -> Float[np.ndarray, "types 1"]:
    rows = norm_rows(group, shape)
    return rows.sum(0)[:, None] * _positions_per_row(group, shape, copies)


def _sums_per_row(x: Float[Array, "*axes k"], *, group: Group, shape: Shape) -> Float[Array, "rows k"]:
    k = x.shape[-1]
    if group.space != "plane":
        return x.reshape(x.shape[0] * x.shape[1], -1, k).sum(1)
    inner = sum_axis(x, 1, shape.x)  # one row per color slot
    inner = inner.reshape(x.shape[0], shape.y * shape.examples, -1)
    sums = jnp.einsum("cm,cmb->cb", jnp.ones(inner.shape[:2], x.dtype), inner, precision="highest")
    return sums.reshape(x.shape[0], -1, k).sum(1)


def _type_sums_on_cpu(x: Float[Array, "*axes k"], *, group: Group, shape: Shape) -> Float[Array, "types k"]:
    table = norm_rows(group, shape).T
    return exact_product(jnp.asarray(table, x.dtype), _sums_per_row(x, group=group, shape=shape))


def _table(group: Group, shape: Shape, dtype: DTypeLike) -> Float[Array, "types slots _"]:
    """Which type is at each slot and place, or at each slot."""
    rows = norm_rows(group, shape)
    return jnp.asarray(rows.T.reshape(rows.shape[1], shape.colors + 1, -1), dtype)


def _type_sums(x: Float[Array, "*axes k"], *, group: Group, shape: Shape) -> Float[Array, "types k"]:
    x = x.sum(tuple(range(2, x.ndim - 1)))
    if group.space == "plane":
        x = x.sum(1, keepdims=True)
    return jnp.einsum("tcp,cpk->tk", _table(group, shape, x.dtype), x, precision="highest")


def _row_sums_on_cpu(x: Float[Array, "*axes k"], *, group: Group, shape: Shape) -> Float[Array, "rows k"]:
    rows = norm_rows(group, shape)
    inner = x.size // x.shape[-1] // len(rows)
    if len(rows) ** 2 * inner <= _ONE_PRODUCT:
        matrix = np.repeat(rows @ rows.T, inner, axis=1)
        return exact_product(jnp.asarray(matrix, x.dtype), x.reshape(-1, x.shape[-1]))
    return exact_product(jnp.asarray(rows, x.dtype), _type_sums_on_cpu(x, group=group, shape=shape))


def _row_sums(x: Float[Array, "*axes k"], *, group: Group, shape: Shape) -> Float[Array, "rows k"]:
    rows = norm_rows(group, shape)
    return exact_product(jnp.asarray(rows, x.dtype), _type_sums(x, group=group, shape=shape))


def _of_types(x: tuple[int, ...], *, group: Group, **_: Any) -> tuple[int, ...]:
    return (len(norm_types(group)), x[-1])


def _of_rows(x: tuple[int, ...], *, group: Group, **_: Any) -> tuple[int, ...]:
    return (x[0] if group.space == "plane" else x[0] * x[1], x[-1])


_types = operation("type_sums", cpu=_type_sums_on_cpu, elsewhere=_type_sums, shape=_of_types)
_rows = operation("row_sums", cpu=_row_sums_on_cpu, elsewhere=_row_sums, shape=_of_rows)


def _type_sums_transposed(
    g: Float[Array, "*lanes types k"], x: Any, *, lanes: int, group: Group, shape: Shape
) -> list[Float[Array, "..."]]:
    axes = x.aval.shape[lanes:]

    def one(g: Float[Array, "types k"]) -> Float[Array, "..."]:
        rows = exact_product(jnp.asarray(norm_rows(group, shape), g.dtype), g)
        like = jax.ShapeDtypeStruct(axes, g.dtype)
        return jnp.broadcast_to(_aligned(rows, like, group), axes)

    for _ in range(lanes):
        one = jax.vmap(one)
    return [one(g)]


ad.deflinear2(_types, _type_sums_transposed)


def type_sums(x: Float[Array, "*axes k"], group: Group, shape: Shape) -> Float[Array, "types k"]:
    """Sums over each type's entries."""
    return _types.bind(x, lanes=0, group=group, shape=shape)


def _inverse(
    where: Part | None, group: Group, shape: Shape, copies: int
) -> Float[np.ndarray | Array, "types 1"]:
    """1 / positions of each type with `copies` positions folded, [types, 1]."""
    if where is None:
        return 1 / _type_positions(group, shape, copies)
    return (where.inverse * (group.copies / copies))[:, None]


def type_mean(
    x: Float[Array, "*axes k"], group: Group, shape: Shape, copies: int, where: Part | None = None
) -> Float[Array, "types k"]:
    """Mean of each type and channel over positions; x is zero in the padding, if there is any."""
    return type_sums(x, group, shape) * jnp.asarray(_inverse(where, group, shape, copies), x.dtype)


def row_mean(
    x: Float[Array, "*axes k"], group: Group, shape: Shape, copies: int, where: Part | None = None
) -> Float[Array, "rows k"]:
    """The mean of each row's type: as `type_mean`, handed to the rows. Differentiate elsewhere."""
    inverse, rows = _inverse(where, group, shape, copies), norm_rows(group, shape)
    if where is None:
        per_row = jnp.asarray(rows @ inverse, x.dtype)
    else:
        per_row = exact_product(jnp.asarray(rows, x.dtype), inverse)
    return _rows.bind(x, lanes=0, group=group, shape=shape) * per_row


def to_rows(
    values: Float[Array, "types k"], like: Float[Array, "..."], group: Group, shape: Shape
) -> Float[Array, "..."]:
    """[types, k] -> an array that broadcasts against `like`, a packed array of the group."""
    return _aligned(exact_product(jnp.asarray(norm_rows(group, shape), values.dtype), values), like, group)


def _aligned(
    rows: Float[Array, "rows k"], like: Float[Array, "..."] | jax.ShapeDtypeStruct, group: Group
) -> Float[Array, "..."]:
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
    centered = masked(x - _aligned(row_mean(x, group, shape, copies, where), x, group), where)
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
    g = settle(masked(g, where))
    mean = _aligned(row_mean(g, group, shape, copies, where), g, group)
    along = _aligned(row_mean(g * out, group, shape, copies, where), g, group)
    return masked(scale * (g - mean - out * along), where), no_gradient(where)


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
    deviation = masked(jnp.square(x - _aligned(mean_rows, x, group)), where)
    variance = _by_type(row_mean(folded(deviation), group, shape, group.copies, where))
    mean = _by_type(mean_rows)
    scale = repeat(jax.lax.rsqrt(EPSILON + variance))
    scaled = scale[..., None] * weight
    out = project(x, scaled, group, shape)
    constant = -(mean[..., None] * scaled).sum(1)
    out = masked(out + _plane_rows(constant, out, group, shape), where)
    return out, _Saved(x, mean, scale, weight, where)


def _project_backward(
    group: Group, shape: Shape, fold: int, saved: _Saved, g: Float[Array, "*axes n"]
) -> tuple[Float[Array, "*axes k"], Float[Array, "2 k n"], Part | None]:
    x, mean, scale, weight, where = saved
    copies = group.copies // fold
    g = settled_rows(masked(g, where))
    if where is None:
        positions = math.prod(shape.axes("10011")) * copies
        count = jnp.asarray([positions, positions * shape.colors], g.dtype)[:, None, None]
    else:
        count = 1 / jnp.asarray(_inverse(where, group, shape, copies))[..., None]
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
    back = masked(back + rows(offset) + rows(slope) * x, where)
    return back, scale[..., None] * moments * count, no_gradient(where)


_normalize_project_plane.defvjp(_project_forward, _project_backward)
