"""The softmax layer: softmaxes over every subset of the axes (paper, "softmax").

For every non-empty subset of a type's axes (example and channel excepted) the two input
channels are softmaxed jointly over that subset; the concatenation of all of them, 2 to
30 channels, is mapped back to the residual stream. No masks.

A softmax over several axes is a chain of conditional ones: over the first axis, times the
softmax of the sums that it leaves behind over the second, and so on. So subsets with the
same first axis share one full-sized array, the softmax over that axis alone, and differ by
factors that lack the axis:

    sum_s softmax_s(v) W_s = sum_a softmax_a(v) * sum_(s that begin with a) share_s W_s

The 30-channel array is never made. Every sum is taken relative to its own largest reading,
as the reference's softmaxes do, so all factors lie in [0, 1] whatever the readings are, and
no pass meets the inverse of a small sum. The backward pass subtracts means before it
multiplies: where a softmax is saturated, its gradient is zero and not what rounding leaves.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from compressarc.multitensor import DIRECTIONS, Group, Shape, Stream, map_groups, slot_sets
from compressarc.network.layers.axes import (
    custom_vjp,
    keep,
    max_axis,
    settle,
    settled_rows,
    spread,
    sum_axis,
)
from compressarc.network.layers.by_platform import operation, replaced
from compressarc.network.layers.normalize import normalize
from compressarc.network.layers.project import matmul, project, transposed, weight_moments
from compressarc.network.layers.slot_weights import chosen_sets
from compressarc.network.padding import LOWEST, Padding, Part, inside, masked, no_gradient, part

WIDTH = 2
_AXES = "cdxy"  # the reference's order of the axes that softmaxes may run over
_FIRST = "dcxyl"  # order of the axes in a chain: first those whose absence saves most memory
_FUSED = 10
"""Longest stretch of a sum of products: XLA's CPU backend stores products that more than 15 terms read."""


def subsets(code: str) -> list[frozenset[str]]:
    """The axis subsets of one type, in the order of the output channels."""
    axes = [a for a, bit in zip(_AXES, code[1:], strict=True) if bit == "1"]
    return [frozenset(s) for size in range(1, len(axes) + 1) for s in itertools.combinations(axes, size)]


def out_rows(types: tuple[str, ...]) -> list[slice]:
    """Rows of each type's output weights in the stacked table."""
    sizes = np.cumsum([0] + [WIDTH * len(subsets(code)) for code in types])
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(sizes)]


class _Axes:
    """Sums and maxima over, and repetition along, the named axes of one flattened array.

    without: the axis that has been summed over already.
    """

    def __init__(self, group: Group, shape: Shape) -> None:
        self.shape = shape
        self.names = [a for a in _FIRST if a in ("cxy" if group.plane else "cl")]
        if group.directed:
            self.names.insert(0, "d")

    def _where(self, axis: str, without: str) -> dict[str, int]:
        """The parameters of `sum_axis` for a named axis."""
        shape = self.shape
        if axis == "c":
            return {"axis": 0, "n": shape.colors + 1, "start": 1}
        if axis == "d":
            return {"axis": 2, "n": DIRECTIONS}
        if axis == "x":
            return {"axis": 1, "n": shape.x}
        return {"axis": 1, "n": shape.y, "outer": 1 if without == "x" else shape.x}

    def _lines(
        self, z: Float[Array, "..."], *, summed: bool = False
    ) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
        """Rows, columns and points apart, a point being a line of length one."""
        e, x, y = self.shape.examples, self.shape.x, self.shape.y
        rows, columns = (e, e) if summed else (x * e, y * e)
        return z[:, :rows], z[:, rows : rows + columns], z[:, rows + columns :]

    def sum(self, z: Float[Array, "..."], axis: str, without: str = "") -> Float[Array, "..."]:
        if axis == "l":  # E rows, E columns and the points are left
            rows, columns, points = self._lines(z)
            sums = sum_axis(rows, 1, self.shape.x), sum_axis(columns, 1, self.shape.y)
            return keep(jnp.concatenate([*sums, points], axis=1))
        return keep(sum_axis(z, **self._where(axis, without)))

    def sum_outer(
        self, e: Float[Array, "*axes 2"], g: Float[Array, "*axes C"], axis: str
    ) -> Float[Array, "*summed CC"]:
        """Sum of e [..., 2] (outer) g [..., C] over an axis: [..., 2 C], channels of e outermost."""
        if axis == "l":
            parts = zip(self._lines(e), self._lines(g), (self.shape.x, self.shape.y, 1), strict=True)
            sums = [_sum_outer.bind(a, b, lanes=0, axis=1, n=n) for a, b, n in parts]
            return jnp.concatenate(sums, axis=1)
        return _sum_outer.bind(e, g, lanes=0, **self._where(axis, ""))

    def max(self, z: Float[Array, "..."], axis: str, without: str = "") -> Float[Array, "..."]:
        if axis == "l":
            rows, columns, points = self._lines(z)
            largest = max_axis(rows, 1, self.shape.x), max_axis(columns, 1, self.shape.y)
            return keep(jnp.concatenate([*largest, points], axis=1))
        if axis == "c":
            return keep(max_axis(z[1:], 0))
        return keep(max_axis(z, **self._where(axis, without)))

    def spread(self, z: Float[Array, "..."], axis: str, without: str = "") -> Float[Array, "..."]:
        if axis == "l":
            rows, columns, points = self._lines(z, summed=True)
            lines = spread(rows, 1, self.shape.x), spread(columns, 1, self.shape.y)
            return jnp.concatenate([*lines, points], axis=1)
        return spread(z, **self._where(axis, without))

    def exponentials(
        self, v: Float[Array, "*axes"], top: Float[Array, "..."], axis: str, without: str = ""
    ) -> Float[Array, "*axes"]:
        """exp(v - top), top being the maximum over an axis."""
        below = v - self.spread(top, axis, without)
        # The slot of no color has a reading too, which no softmax over colors is about.
        return jnp.exp(jnp.minimum(below, 0) if axis == "c" else below)


def _outer(e: Float[Array, "*axes 2"], g: Float[Array, "*axes C"]) -> Float[Array, "*axes CC"]:
    return (e[..., None] * g[..., None, :]).reshape(*g.shape[:-1], WIDTH * g.shape[-1])


def _outer_sums(
    e: Float[Array, "*axes 2"], g: Float[Array, "*axes C"], *, axis: int, n: int, **where: int
) -> Float[Array, "*summed CC"]:
    return sum_axis(_outer(e, g), axis, n, **where)


def _outer_sums_on_cpu(
    e: Float[Array, "*axes 2"],
    g: Float[Array, "*axes C"],
    *,
    axis: int,
    n: int,
    start: int = 0,
    outer: int = 1,
) -> Float[Array, "*summed CC"]:
    cuts = np.linspace(start, n, -(-(n - start) // _FUSED) + 1).round().astype(int).tolist()
    if len(cuts) == 2 and not start:
        return _outer_sums(e, g, axis=axis, n=n, outer=outer)
    apart = [z.reshape(*z.shape[:axis], outer, n, -1, *z.shape[axis + 1 :]) for z in (e, g)]
    parts = []
    for low, high in itertools.pairwise(cuts):
        a, b = (jax.lax.slice_in_dim(z, low, high, axis=axis + 1) for z in apart)
        a, b = (z.reshape(*z.shape[:axis], -1, *z.shape[axis + 3 :]) for z in (a, b))
        parts.append(_outer_sums(a, b, axis=axis, n=high - low, outer=outer))
    return functools.reduce(jax.lax.add, parts)


def _outer_shape(e: tuple[int, ...], g: tuple[int, ...], *, axis: int, n: int, **_: int) -> tuple[int, ...]:
    return replaced((*g[:-1], WIDTH * g[-1]), axis, g[axis] // n)


_sum_outer = operation("sum_outer", cpu=_outer_sums_on_cpu, elsewhere=_outer_sums, shape=_outer_shape)


@dataclasses.dataclass(frozen=True)
class _Chain:
    """All subsets that begin with one axis. Columns of arrays about them: [subset, channel]."""

    axis: str
    later: tuple[str, ...]  # the axes that may follow
    subsets: tuple[frozenset[str], ...]  # the axis alone, then twice as many with each later axis

    @property
    def columns(self) -> int:
        return WIDTH * len(self.subsets)

    def with_axis(self, axis: str) -> Bool[np.ndarray, " columns"]:
        """Which columns belong to subsets with a later axis."""
        return np.repeat([axis in subset for subset in self.subsets], WIDTH)


def _chains(axes: _Axes) -> list[_Chain]:
    """One for each axis that a subset may begin with."""
    out = []
    for i, axis in enumerate(axes.names):
        later, listed = tuple(axes.names[i + 1 :]), [frozenset(axis)]
        for name in later:
            listed += [subset | {name} for subset in listed]
        out.append(_Chain(axis, later, tuple(listed)))
    return out


def _weight_rows(group: Group, listed: Sequence[frozenset[str]]) -> Int[np.ndarray, "sets subsets 2 2"]:
    """The table row of each weight [sets, subset, channel of the softmax, channel of the exponentials].

    These are weights of equal channels; others are -1, as are those of subsets that a type lacks. The
    line axis "l" stands for x or y alike, whose weights are tied.
    """
    rows = out_rows(group.types)
    out = np.full((len(group.types), len(listed), WIDTH, WIDTH), -1)
    for i, code in enumerate(group.types):
        for j, subset in enumerate(subsets(code)):
            named = frozenset("l" if a in "xy" and not group.plane else a for a in subset)
            for channel in range(WIDTH):
                out[i, listed.index(named), channel, channel] = rows[i].start + WIDTH * j + channel
    return out


def _tiled(a: Float[Array, "*axes 2"], columns: int) -> Float[Array, "*axes columns"]:
    """[..., 2] -> [..., columns], as [subset, channel]."""
    return a if columns == WIDTH else jnp.concatenate([a] * (columns // WIDTH), -1)


class _ChainSaved(NamedTuple):
    """What the backward pass reads of one chain."""

    exponentials: Float[Array, "*axes 2"]
    shares: Float[Array, "*summed columns"]


class _Saved(NamedTuple):
    """What the backward pass of `_softmaxes` reads."""

    blocks: tuple[Float[Array, "by_slot kinds _ CC"], ...]
    where: Part | None
    chains: list[_ChainSaved]


def _shares(
    chain: _Chain, top: Float[Array, "*summed 2"], total: Float[Array, "*summed 2"], axes: _Axes
) -> Float[Array, "*summed columns"]:
    """What each subset's softmax is, beside the exponentials relative to the chain's axis alone.

    That is 1 / total, and for longer subsets times the share that the chain's sum has in theirs.
    top, total: largest reading over the axis, and sum of exponentials relative to it.
    """
    # All of a sum may lie in the padding, and what it divides is zero then.
    own = jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1), 0)
    if not chain.later:
        return own
    tops, totals = top, total
    for axis in chain.later:  # twice as many columns with each
        higher = axes.max(tops, axis, chain.axis)
        sums = axes.sum(totals * axes.exponentials(tops, higher, axis, chain.axis), axis, chain.axis)
        tops = jnp.concatenate([tops, axes.spread(higher, axis, chain.axis)], -1)
        totals = jnp.concatenate([totals, axes.spread(sums, axis, chain.axis)], -1)
    totals = totals[..., WIDTH:]  # zero in the slot of no color
    below = jnp.minimum(_tiled(top, chain.columns - WIDTH) - tops[..., WIDTH:], 0)
    longer = jnp.where(totals > 0, jnp.exp(below) / jnp.where(totals > 0, totals, 1), 0)
    return settle(jnp.concatenate([own, longer], -1))


def _centered(
    chain: _Chain,
    received: Float[Array, "*summed columns"],
    shares: Float[Array, "*summed columns"],
    axes: _Axes,
) -> Float[Array, "*summed 2"]:
    """Sum over subsets of share * (mean of the cotangent here - its mean over all of the subset): [..., 2].

    received: the cotangent of each subset's softmax times the exponentials, summed over the chain's axis.
    """
    share, own = shares[..., WIDTH:], received[..., WIDTH:]  # beyond the axis itself
    mean = share * own
    for axis in chain.later:
        has = jnp.asarray(chain.with_axis(axis)[WIDTH:])
        total = axes.sum(mean, axis, chain.axis)
        mean = jnp.where(has, axes.spread(total, axis, chain.axis), mean)
    apart = share * (own * _tiled(shares[..., :WIDTH], share.shape[-1]) - mean)
    return functools.reduce(
        jax.lax.add, [apart[..., i : i + WIDTH] for i in range(0, apart.shape[-1], WIDTH)]
    )


def _for_slots(
    block: Float[Array, "by_slot kinds k n"], r: Float[Array, "*axes columns"]
) -> Float[Array, "_ kinds k n"]:
    """What sums over colors belongs to the colored type alone."""
    return block if r.shape[0] > 1 else block[-1:]


@custom_vjp((3, 4))
def _softmaxes(
    v: Float[Array, "*axes 2"],
    blocks: tuple[Float[Array, "by_slot kinds _ CC"], ...],
    where: Part | None,
    group: Group,
    shape: Shape,
) -> Float[Array, "*axes C"]:
    """All softmaxes of v [..., 2], each times its weights -> [..., C].

    blocks: for each axis that a subset may begin with, [slots, kinds, columns of its chain, (channel, C)].
    """
    return _forward(v, blocks, where, group, shape)[0]


def _forward(
    v: Float[Array, "*axes 2"],
    blocks: tuple[Float[Array, "by_slot kinds _ CC"], ...],
    where: Part | None,
    group: Group,
    shape: Shape,
) -> tuple[Float[Array, "*axes C"], _Saved]:
    axes = _Axes(group, shape)
    if where is not None:
        v = jnp.where(inside(where, v), v, LOWEST)
    out, saved = jnp.zeros((), v.dtype), []
    for chain, block in zip(_chains(axes), blocks, strict=True):
        axis = chain.axis
        top = axes.max(v, axis)
        e = masked(axes.exponentials(v, top, axis), where)
        total = axes.sum(e, axis)
        shares = _shares(chain, top, total, axes)
        kinds = group.kinds(shares.shape[1], shape)
        factors = axes.spread(project(shares, _for_slots(block, shares), kinds), axis)
        saved.append(_ChainSaved(e, shares))
        channels = factors.shape[-1] // WIDTH
        out = out + e[..., :1] * factors[..., :channels] + e[..., 1:] * factors[..., channels:]
    return out, _Saved(blocks, where, saved)


def _backward(
    group: Group, shape: Shape, residuals: _Saved, g: Float[Array, "*axes C"]
) -> tuple[Float[Array, "*axes 2"], tuple[Float[Array, "by_slot kinds _ CC"], ...], Part | None]:
    blocks, where, saved = residuals
    axes, channels = _Axes(group, shape), g.shape[-1]
    g = settled_rows(g)
    twice = jnp.concatenate([g, g], -1)
    apart, dv, d_blocks = jnp.zeros((), g.dtype), jnp.zeros((), g.dtype), []
    for chain, block, (e, shares) in zip(_chains(axes), blocks, saved, strict=True):
        axis, own = chain.axis, _for_slots(block, shares)
        total = keep(axes.sum_outer(e, g, axis))
        kinds = group.kinds(shares.shape[1], shape)
        received = project(total, transposed(own), kinds)
        d_block = weight_moments(shares, total, kinds, own.shape[0])
        lacking = [(block.shape[0] - own.shape[0], 0), *[(0, 0)] * 3]
        d_blocks.append(jnp.pad(d_block, lacking))
        # The mean of g under the softmax over this axis alone, for each of its two channels.
        mean = keep(total * jnp.repeat(shares[..., :WIDTH], channels, -1))
        difference = twice - axes.spread(mean, axis)
        factors = axes.spread(project(shares, own, kinds), axis)
        apart = apart + jnp.repeat(e, channels, -1) * factors * difference
        if chain.later:
            dv = dv + e * axes.spread(keep(_centered(chain, received, shares, axes)), axis)
    summed = jnp.asarray(np.repeat(np.eye(WIDTH), channels, 0), g.dtype)
    dv = settle(dv + matmul(settled_rows(apart), summed))
    return dv, tuple(d_blocks), no_gradient(where)


_softmaxes.defvjp(_forward, _backward)


def _blocks(
    weight: Float[Array, "rows C"], group: Group, shape: Shape
) -> tuple[Float[Array, "by_slot kinds _ CC"], ...]:
    """The weights [table rows, C] as `_softmaxes` takes them."""
    chains = _chains(_Axes(group, shape))
    listed = [subset for chain in chains for subset in chain.subsets]
    sets, rows = slot_sets(group, shape), _weight_rows(group, listed)
    chosen = np.where(sets[..., None, None, None] < 0, -1, rows[sets]).reshape(len(sets), -1)
    (taken,) = chosen_sets(weight[:, None], [chosen])
    columns = taken.reshape(*sets.shape, -1, WIDTH * weight.shape[-1])
    ends = np.cumsum([chain.columns for chain in chains])[:-1]
    return tuple(jnp.split(columns, ends, axis=2))


def _transposed(group: Group) -> Int[np.ndarray, " rows"]:
    """Permutation of the output weights' rows that exchanges x and y."""
    order = []
    for code, rows in zip(group.types, out_rows(group.types), strict=True):
        listed = subsets(code)
        swap = {"x": "y", "y": "x"} if code[3:] == "11" else {}
        for subset in listed:
            twin = listed.index(frozenset(swap.get(a, a) for a in subset))
            order += [rows.start + WIDTH * twin + channel for channel in range(WIDTH)]
    return np.array(order)


def softmax_blocks(
    out: Stream[Array], shape: Shape, *, symmetric: bool = False
) -> Stream[tuple[Float[Array, "by_slot kinds _ CC"], ...]]:
    """The output weights, per group the types' [2 (2^k - 1), C] one below the other, as `softmax` takes them.

    symmetric: average the weights of row and column softmaxes, which makes transposition of the puzzle an
    exact symmetry.
    """

    def blocks(
        group: Group, weight: Float[Array, "rows C"]
    ) -> tuple[Float[Array, "by_slot kinds _ CC"], ...]:
        if symmetric:
            weight = (weight + weight[_transposed(group)]) / 2
        return _blocks(weight, group, shape)

    return map_groups(blocks, out)


def softmax(
    x: Stream[Array],
    into: Stream[Array],
    blocks: Stream[Any],
    shape: Shape,
    *,
    apply_pre_norm: bool = False,
    padding: Padding[Array] | None = None,
) -> Stream[Array]:
    """Adds all softmaxes of a 2-channel reading of each type.

    into: weights per group as `project` takes them, C -> 2; blocks: output weights from `softmax_blocks`.
    apply_pre_norm: normalize x
    before reading, as the paper says and the reference does not.
    """

    def layer(
        group: Group,
        a: Float[Array, "*axes k"],
        read: Float[Array, "by_slot kinds k 2"],
        write: tuple[Float[Array, "by_slot kinds _ CC"], ...],
    ) -> Float[Array, "*axes k"]:
        where = part(padding, group)
        source = normalize(a, group, shape, group.copies, where) if apply_pre_norm else a
        reading = project(source, read, group.kinds(a.shape[1], shape))
        added: Array = _softmaxes(reading, write, where, group, shape)
        return settle(a + added)

    return map_groups(layer, x, into, blocks)
