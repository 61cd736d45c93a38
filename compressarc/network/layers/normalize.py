"""The normalization used everywhere: zero mean, unit variance per tensor and channel.

Over all axes of one tensor except the channel; no learned scale or shift; no masks, so
pixels of the canvas outside a grid count (paper, appendix on layers; the reference does the
same). Padding beyond the canvas does not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad
from jaxtyping import Array, DTypeLike, Float

from compressarc.multitensor import Group, Shape, norm_rows, norm_types
from compressarc.network.layers.axes import custom_vjp, exact_product, settle, settled_rows, sum_axis
from compressarc.network.layers.by_platform import operation
from compressarc.network.layers.project import Lengths, project, transposed, weight_moments
from compressarc.network.padding import Part, masked, no_gradient

EPSILON = 1e-8
_ONE_PRODUCT = 1 << 15
"""Largest averaging matrix for which a mean is one product; beyond it, sums come first."""


def _positions_per_row(group: Group, shape: Shape, copies: int) -> int:
    inner = shape.x * shape.y * shape.examples if group.plane else 1
    return copies * inner


def _type_positions(group: Group, shape: Shape, copies: int) -> Float[np.ndarray, "types 1"]:
    rows = norm_rows(group, shape)
    return rows.sum(0)[:, None] * _positions_per_row(group, shape, copies)


def _sums_per_row(x: Float[Array, "*axes k"], *, group: Group, shape: Shape) -> Float[Array, "rows k"]:
    k = x.shape[-1]
    if not group.plane:
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
    if group.plane:
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
    return (x[0] if group.plane else x[0] * x[1], x[-1])


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
    lead = 1 if group.plane else 2
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
    x: Float[Array, "slots places *rest k"],
    weight: Float[Array, "by_slot kinds k n"],
    group: Group,
    shape: Shape,
    kinds: Lengths,
    fold: int = 1,
    where: Part | None = None,
) -> Float[Array, "slots places *rest n"]:
    """`project(normalize(x), weight, kinds)`.

    fold: how many positions (directions) are folded into the last axis of x, [..., fold * k].
    On planes the normalized array is never made: its scale goes into the weights and its
    mean into a constant, and the backward pass needs only the products that the weights'
    gradient consists of. where: the array's padding, in which x is zero and the result too.
    """
    if group.plane:
        return _normalize_project_plane(x, weight, where, group, shape, fold)
    if fold == 1:
        return project(settled_rows(normalize(x, group, shape, group.copies, where)), weight, kinds)
    split = normalize(x.reshape(*x.shape[:-1], fold, -1), group, shape, fold, where)
    return project(split.reshape(x.shape), weight, kinds)


@custom_vjp((3, 4, 5))
def _normalize_project_plane(
    x: Float[Array, "slots places *rest k"],
    weight: Float[Array, "by_slot 1 k n"],
    where: Part | None,
    group: Group,
    shape: Shape,
    fold: int,
) -> Float[Array, "slots places *rest n"]:
    return _project_forward(x, weight, where, group, shape, fold)[0]


class _Saved(NamedTuple):
    """What the backward pass of `_normalize_project_plane` reads."""

    x: Float[Array, "slots places *rest k"]
    mean: Float[Array, "by_slot k"]
    scale: Float[Array, "by_slot k"]
    weight: Float[Array, "by_slot 1 k n"]
    where: Part | None


def _plane_rows(
    values: Float[Array, "by_slot k"], like: Float[Array, "..."], group: Group
) -> Float[Array, "..."]:
    """One row for each slot; if there are two, the second is that of all colors."""
    if len(values) < like.shape[0]:
        colors = jnp.broadcast_to(values[1:], (like.shape[0] - 1, values.shape[1]))
        values = jnp.concatenate([values[:1], colors])
    return _aligned(values, like, group)


def _project_forward(
    x: Float[Array, "slots places *rest k"],
    weight: Float[Array, "by_slot 1 k n"],
    where: Part | None,
    group: Group,
    shape: Shape,
    fold: int,
) -> tuple[Float[Array, "slots places *rest n"], _Saved]:
    slots = weight.shape[0]
    x = settled_rows(x)
    folded = lambda a: a.reshape(*a.shape[:-1], fold, -1) if fold > 1 else a  # noqa: E731
    repeat = lambda values: jnp.tile(values, (1, fold)) if fold > 1 else values  # noqa: E731
    mean_rows = repeat(row_mean(folded(x), group, shape, group.copies, where))
    deviation = masked(jnp.square(x - _aligned(mean_rows, x, group)), where)
    variance = row_mean(folded(deviation), group, shape, group.copies, where)[:slots]
    mean = mean_rows[:slots]
    scale = repeat(jax.lax.rsqrt(EPSILON + variance))
    scaled = scale[:, None, :, None] * weight
    out = project(x, scaled, (x.shape[1],))
    constant = -(mean[..., None] * scaled[:, 0]).sum(1)
    out = masked(out + _plane_rows(constant, out, group), where)
    return out, _Saved(x, mean, scale, weight, where)


def _project_backward(
    group: Group, shape: Shape, fold: int, saved: _Saved, g: Float[Array, "slots places *rest n"]
) -> tuple[Float[Array, "slots places *rest k"], Float[Array, "by_slot 1 k n"], Part | None]:
    x, mean, scale, weight, where = saved
    copies, slots, whole = group.copies // fold, weight.shape[0], (x.shape[1],)
    g = settled_rows(masked(g, where))
    types = norm_rows(group, shape)[:slots]  # of the weight's slots
    shares = types / types.sum(0)  # what each slot has of its type's positions
    inverse = exact_product(
        jnp.asarray(types, g.dtype), jnp.asarray(_inverse(where, group, shape, copies), g.dtype)
    )
    positions = jnp.asarray(shares.sum(1, keepdims=True), g.dtype) / inverse
    g_mean = row_mean(g, group, shape, copies, where)[:slots]
    # Of a type, these are right in sum over its slots.
    apart = weight_moments(x, g, whole, slots)[:, 0] - (mean * positions)[..., None] * g_mean[:, None]

    def over_fold(values: Float[Array, "by_slot k"]) -> Float[Array, "by_slot k"]:
        if fold == 1:
            return values
        return jnp.tile(values.reshape(slots, fold, -1).mean(1), (1, fold))

    along = (weight[:, 0] * apart).sum(-1)
    if slots > 2:
        along = exact_product(jnp.asarray(types @ types.T, g.dtype), along)
    slope = -(scale**3) * over_fold(along * inverse)
    offset = -scale * over_fold((weight[:, 0] * g_mean[:, None]).sum(-1)) - slope * mean
    back = project(g, transposed(scale[:, None, :, None] * weight), whole)
    rows = lambda values: _plane_rows(values, back, group)  # noqa: E731
    back = masked(back + rows(offset) + rows(slope) * x, where)
    return back, (scale[..., None] * apart)[:, None], no_gradient(where)


_normalize_project_plane.defvjp(_project_forward, _project_backward)
