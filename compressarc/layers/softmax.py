"""The softmax layer: softmaxes over every subset of the axes (paper, "softmax").

For every non-empty subset of a type's axes (example and channel excepted) the two input
channels are softmaxed jointly over that subset; the concatenation of all of them, 2 to
30 channels, is mapped back to the residual stream. No masks.

All subsets divide the same exponentials by different sums, and the map back is linear:

    sum_s softmax_s(v) W_s = exp(v) * sum_s (1 / Z_s) W_s

where Z_s lacks the axes of s. So the 30-channel array is never made: the right-hand sum
is built from small to large, grouping subsets by their first axis, and Z by summing one
axis at a time.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from compressarc.layers.axes import keep, max_axis, settle, spread, sum_axis
from compressarc.layers.normalize import normalize
from compressarc.layers.project import matmul, project, settled_rows
from compressarc.multitensor import DIRECTIONS, Group, Multitensor, Shape, map_groups
from compressarc.padding import Padding, Part, inside, masked, part

WIDTH = 2
_AXES = "cdxy"  # the reference's order of the axes that softmaxes may run over
_LOWEST = -1e30  # below every reading; stands for the padding where a maximum is sought
_FAST_FIRST = "dcxyl"  # grouping order: the axis whose absence saves most memory first


def subsets(code: str) -> list[frozenset[str]]:
    """The axis subsets of one type, in the order of the output channels."""
    axes = [a for a, bit in zip(_AXES, code[1:], strict=True) if bit == "1"]
    return [frozenset(s) for size in range(1, len(axes) + 1) for s in itertools.combinations(axes, size)]


def out_rows(types: tuple[str, ...]) -> list[slice]:
    """Rows of each type's output weights in the stacked table."""
    sizes = np.cumsum([0] + [WIDTH * len(subsets(code)) for code in types])
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(sizes)]


def _half_span(dtype) -> float:
    """A quarter of the range of exponents that a sum over all axes can hold in this precision."""
    return 35.0 if dtype == jnp.float32 else 300.0


@jax.custom_jvp
def _reciprocal(z: Array) -> Array:
    return 1 / z


@_reciprocal.defjvp
def _reciprocal_jvp(primals, tangents):
    r = 1 / primals[0]
    return r, -(r * tangents[0]) * r  # this order: r * r overflows where z is tiny


def _exponentials(v: Array, group: Group, where: Part | None) -> Array:
    """exp(v - max + 70): the maximum per type, example and channel; zero in the padding.

    Entries more than 156 below the maximum count as 156 below it (float32), so that every
    subset's sum is positive and finite. As a square, because adding 70 in the exponent
    would round away its last digits.
    """
    v_fixed = jax.lax.stop_gradient(v)
    if where is not None:
        v_fixed = jnp.where(inside(where, v_fixed, group), v_fixed, _LOWEST)
    if group.space == "plane":  # [C+1, X, Y, E, (d), 2] -> max over X, Y and directions
        top = max_axis(v_fixed, 1).max(2, keepdims=True)
    elif group.space == "line":
        top = v_fixed.max(1, keepdims=True)
    else:
        top = v_fixed
    if group.directed:
        top = top.max(-2, keepdims=True)
    colored = top[1:].max(0, keepdims=True)
    top = jnp.concatenate([top[:1], jnp.broadcast_to(colored, top[1:].shape)], axis=0)
    if where is not None:
        top = jnp.where(top > _LOWEST, top, 0)
    half = _half_span(v.dtype)
    below = jnp.maximum(v - top, -4 * half - 16)
    return masked(jnp.square(jnp.exp(below / 2) * np.exp(half).astype(v.dtype)), where, group)


class _Axes:
    """Sums over, and repetition along, the named axes of one packed array."""

    def __init__(self, group: Group, shape: Shape):
        self.shape = shape
        position = {"plane": {"x": 1, "y": 2}, "line": {"l": 1}, "point": {}}[group.space]
        self.index = {"c": 0, **position}
        if group.directed:
            self.index["d"] = len(group.leading(shape))
        self.names = [a for a in _FAST_FIRST if a in self.index]
        self.length = {
            "c": shape.colors + 1,
            "d": DIRECTIONS,
            "x": shape.x,
            "y": shape.y,
            "l": shape.x + shape.y,
        }

    def sum(self, z: Array, axis: str) -> Array:
        if axis == "l":  # rows and columns apart: [..., X+Y, ...] -> [..., 2, ...]
            x, y = self.shape.x, self.shape.y
            rows = sum_axis(jax.lax.slice_in_dim(z, 0, x, axis=1), 1, x)
            columns = sum_axis(jax.lax.slice_in_dim(z, x, x + y, axis=1), 1, y)
            return jnp.concatenate([rows, columns], axis=1)
        total = sum_axis(z, self.index[axis], self.length[axis], int(axis == "c"))
        return keep(total) if "x" in self.index else total

    def spread(self, z: Array, axis: str) -> Array:
        if axis == "l":
            x, y = self.shape.x, self.shape.y
            return jnp.concatenate([spread(z[:, :1], 1, x), spread(z[:, 1:], 1, y)], axis=1)
        return spread(z, self.index[axis], self.length[axis], int(axis == "c"))


@functools.lru_cache(maxsize=64)
def _weight_tables(group: Group, subset_list: tuple[frozenset[str], ...]) -> np.ndarray:
    """[sets, (subset, channel), (channel, table rows)]: which rows make a block of weights.

    The line axis "l" stands for x or y alike, whose weights are tied. Where a type lacks
    the subset, its weight is zero.
    """
    rows = out_rows(group.types)
    out = np.zeros((len(group.types), len(subset_list), WIDTH, WIDTH, rows[-1].stop))
    for i, code in enumerate(group.types):
        for j, subset in enumerate(subsets(code)):
            named = frozenset("l" if a in "xy" and group.space == "line" else a for a in subset)
            if named in subset_list:
                for channel in range(WIDTH):
                    row = rows[i].start + WIDTH * j + channel
                    out[i, subset_list.index(named), channel, channel, row] = 1
    return out.reshape(len(group.types), len(subset_list) * WIDTH, WIDTH, rows[-1].stop)


def _softmaxes(v: Array, weight: Array, group: Group, shape: Shape, where: Part | None) -> Array:
    """All softmaxes of v [..., 2] times weight [table rows, C] -> [..., C]."""
    axes = _Axes(group, shape)
    channels = weight.shape[-1]

    def reciprocals(subset: frozenset[str], z: Array) -> tuple[list[frozenset[str]], Array]:
        """1 / Z_s for `subset` and all that extend it by later axes, side by side."""
        # All of a sum may lie in the padding; what it divides is zero then.
        names, parts = [subset], [_reciprocal(z if where is None else jnp.where(z > 0, z, 1))]
        last = max(axes.names.index(a) for a in subset)
        for axis in axes.names[last + 1 :]:
            more, part = reciprocals(subset | {axis}, axes.sum(z, axis))
            names += more
            parts.append(axes.spread(part, axis))
        return names, jnp.concatenate(parts, -1)

    def factor(axis: str) -> Array:
        """Sum over subsets that begin with `axis`: (1 / Z_s) W_s, for both channels."""
        names, r = reciprocals(frozenset(axis), axes.sum(ex, axis))
        table = jnp.asarray(_weight_tables(group, tuple(names)), v.dtype)
        block = (table @ weight).reshape(len(group.types), r.shape[-1], WIDTH * channels)
        return axes.spread(_mapped(r, block, group, shape, has_color=axis != "c"), axis)

    ex = settle(_exponentials(v, group, where))
    return _weighted(ex, sum(factor(axis) for axis in axes.names))


@jax.custom_vjp
def _weighted(ex: Array, factors: Array) -> Array:
    """Sum over the two channels of ex [..., 2] * factors [..., 2 C] -> [..., C]."""
    channels = factors.shape[-1] // WIDTH
    return ex[..., :1] * factors[..., :channels] + ex[..., 1:] * factors[..., channels:]


def _weighted_backward(saved, g: Array):
    ex, factors = saved
    channels = g.shape[-1]
    g = settled_rows(g)
    per_channel = settled_rows(jnp.concatenate([g, g], -1) * factors)
    total = jnp.asarray(np.repeat(np.eye(WIDTH), channels, 0), g.dtype)
    d_factors = keep((ex[..., None] * g[..., None, :]).reshape(factors.shape))
    return matmul(per_channel, total), d_factors


_weighted.defvjp(lambda ex, factors: (_weighted(ex, factors), (ex, factors)), _weighted_backward)


def _mapped(r: Array, block: Array, group: Group, shape: Shape, has_color: bool) -> Array:
    """R [..., k] times the block of weights [sets, k, n] of each row's type."""
    if has_color:
        return project(r, block, group, shape)
    if group.space != "point":  # what sums over colors belongs to the colored type alone
        return matmul(r, block[1])
    example = (np.arange(shape.examples + 1) > 0).reshape(1, -1, *(1,) * (r.ndim - 3), 1)
    return jnp.where(example, matmul(r, block[-1]), matmul(r, block[-2]))


def _transposed(group: Group) -> np.ndarray:
    """Permutation of the output weights' rows that exchanges x and y."""
    order = []
    for code, rows in zip(group.types, out_rows(group.types), strict=True):
        listed = subsets(code)
        swap = {"x": "y", "y": "x"} if code[3:] == "11" else {}
        for subset in listed:
            twin = listed.index(frozenset(swap.get(a, a) for a in subset))
            order += [rows.start + WIDTH * twin + channel for channel in range(WIDTH)]
    return np.array(order)


def softmax(
    x: Multitensor,
    into: Multitensor,
    out: Multitensor,
    shape: Shape,
    *,
    apply_pre_norm: bool = False,
    symmetric: bool = False,
    padding: Padding | None = None,
) -> Multitensor:
    """Adds all softmaxes of a 2-channel reading of each type.

    into: [sets, C, 2] per group; out: per group, the types' [2 (2^k - 1), C] weights one
    below the other. apply_pre_norm: normalize x before reading, as the paper says and the
    reference does not. symmetric: average the weights of row and column softmaxes, which
    makes transposition of the puzzle an exact symmetry.
    """

    def layer(group: Group, a: Array, read: Array, write: Array) -> Array:
        if symmetric:
            write = (write + write[_transposed(group)]) / 2
        where = part(padding, group)
        source = normalize(a, group, shape, group.copies, where) if apply_pre_norm else a
        return settle(a + _softmaxes(project(source, read, group, shape), write, group, shape, where))

    return map_groups(layer, x, into, out)
