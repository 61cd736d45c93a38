"""Linear maps of the channels, with the weight set chosen by the tensor type.

`v @ W` of every type in an array of the stream at once (paper: the linear maps read from and
write to the residual stream). Biases exist only in the decoding layer.

Weights come laid out by color slot and kind of place, [slots, kinds, k, n] (`slot_weights`): a kind is
a stretch of the axis of places. Planes are one kind, the margin three or four. On CPUs each kind's
places are multiplied by themselves; elsewhere, where a kernel costs more than what it multiplies, x is
laid out beside zeros, so that one product serves all kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jaxtyping import Array, Float

from compressarc.network.layers.axes import custom_vjp, settled_rows
from compressarc.network.layers.by_platform import operation

_FEW = 16
"""So few places share a product with their neighbors, at the price of multiplying zeros."""
_MOST = 0.75
"""Of all places, if they are of the first kind: its weights are applied to the others, too."""
_LARGE = 1 << 14
"""Numbers of x from which that is done."""
_WITH_SLOTS = 4
"""Axes of a weight that has one for color slots."""
_THIN = 2
"""So few columns are summed one by one: XLA's CPU backend is slow at products with two of them."""

Lengths = tuple[int, ...]
"""Of the kinds of places, one after another."""


def _contracted(
    x: Float[Array, "..."],
    y: Float[Array, "..."],
    over: tuple[Sequence[int], Sequence[int]],
    precision: str | None,
    slots: bool,
) -> Float[Array, "..."]:
    """Sum of products over axes of x and y; slots: for each color slot, the first axis of both."""
    each = ((0,), (0,)) if slots else ((), ())
    return jax.lax.dot_general(x, y, (over, each), precision=precision)


def _matrix(x: Float[Array, "slots *axes k"], slots: bool) -> Float[Array, "*slots rows k"]:
    """All positions one below the other; slots: of each color slot apart."""
    return x.reshape(*x.shape[:slots], -1, x.shape[-1])


def _chosen(x: Float[Array, "slots places *rest k"], kinds: Lengths) -> Float[Array, "slots places *rest kk"]:
    """X [..., k] beside zeros, at the kind of its place: [..., kinds * k]."""
    if len(kinds) == 1:
        return x
    table = np.repeat(np.eye(len(kinds)), kinds, axis=0)
    table = table.reshape(1, -1, *(1,) * (x.ndim - 3), len(kinds), 1)
    return (x[..., None, :] * jnp.asarray(table, x.dtype)).reshape(*x.shape[:-1], len(kinds) * x.shape[-1])


def _runs(kinds: Lengths) -> list[slice]:
    """Stretches of kinds that a product takes together on a CPU."""
    runs: list[list[int]] = []
    for i in range(len(kinds)):
        if runs and sum(kinds[j] for j in runs[-1]) + kinds[i] <= _FEW:
            runs[-1].append(i)
        else:
            runs.append([i])
    return [slice(run[0], run[-1] + 1) for run in runs]


def _of_run(
    run: slice, kinds: Lengths, arrays: Sequence[Float[Array, "..."]]
) -> list[Float[Array, "slots places *rest"]]:
    """Arrays at the places of a run."""
    start, stop = sum(kinds[: run.start]), sum(kinds[: run.stop])
    return [jax.lax.slice_in_dim(a, start, stop, axis=1) for a in arrays]


def _mapped_by_run(
    each: Callable[..., Float[Array, "..."]],
    x: Float[Array, "slots places *rest k"],
    weight: Float[Array, "*slots kinds k n"],
    kinds: Lengths,
) -> Float[Array, "slots places *rest n"]:
    """`each` of x and the weight of a run's kinds, and their lengths, for all runs."""
    runs = _runs(kinds)
    own = [jax.lax.slice_in_dim(weight, run.start, run.stop, axis=weight.ndim - 3) for run in runs]
    if len(runs) == 1:
        return each(x, *own, kinds)
    if x.size < _LARGE or runs[0].stop > 1 or kinds[0] < _MOST * x.shape[1]:
        parts = [each(*_of_run(run, kinds, [x]), w, kinds[run]) for run, w in zip(runs, own, strict=True)]
        return jnp.concatenate(parts, axis=1)
    # The few other places are mapped anew: where x is large, cheaper than to take the first ones out.
    out = each(x, own[0], (x.shape[1],))
    for run, w in zip(runs[1:], own[1:], strict=True):
        part = each(*_of_run(run, kinds, [x]), w, kinds[run])
        out = jax.lax.dynamic_update_slice_in_dim(out, part, sum(kinds[: run.start]), axis=1)
    return out


def _stacked(weight: Float[Array, "*slots kinds k n"]) -> Float[Array, "*slots kk n"]:
    """Weights of all kinds one below the other."""
    return weight.reshape(*weight.shape[:-3], -1, weight.shape[-1])


def _product_on_cpu(
    x: Float[Array, "slots places *rest k"],
    weight: Float[Array, "*by_slot kinds k n"],
    *,
    precision: str | None,
    kinds: Lengths,
) -> Float[Array, "slots places *rest n"]:
    slots = weight.ndim == _WITH_SLOTS

    def each(x: Any, weight: Any, kinds: Lengths) -> Float[Array, "..."]:
        rows, over = _matrix(_chosen(x, kinds), slots), ((1 + slots,), (0 + slots,))
        return _contracted(rows, _stacked(weight), over, precision, slots).reshape(*x.shape[:-1], -1)

    return _mapped_by_run(each, x, weight, kinds)


def _product(
    x: Float[Array, "slots places *rest k"],
    weight: Float[Array, "*by_slot kinds k n"],
    *,
    precision: str | None,
    kinds: Lengths,
) -> Float[Array, "slots places *rest n"]:
    slots = weight.ndim == _WITH_SLOTS
    over = ((x.ndim - 1,), (0 + slots,))
    return _contracted(_chosen(x, kinds), _stacked(weight), over, precision, slots)


def _apart(moments: Float[Array, "slots kk n"], kinds: Lengths) -> Float[Array, "slots kinds k n"]:
    return moments.reshape(moments.shape[0], len(kinds), -1, moments.shape[-1])


def _moments_on_cpu(
    x: Float[Array, "slots places *rest k"],
    g: Float[Array, "slots places *rest n"],
    *,
    precision: str | None,
    kinds: Lengths,
) -> Float[Array, "slots kinds k n"]:
    def each(x: Any, g: Any, kinds: Lengths) -> Float[Array, "..."]:
        rows, received = _matrix(_chosen(x, kinds), True), _matrix(g, True)
        n, step = received.shape[-1], 1 if received.shape[-1] <= _THIN else received.shape[-1]
        columns = [
            _contracted(rows, received[..., i : i + step], ((1,), (1,)), precision, True)
            for i in range(0, n, step)
        ]
        return _apart(columns[0] if len(columns) == 1 else jnp.concatenate(columns, -1), kinds)

    parts = []
    for run in _runs(kinds):
        own, received = _of_run(run, kinds, [x, g])
        parts.append(each(own, received, kinds[run]))
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)


def _moments(
    x: Float[Array, "slots places *rest k"],
    g: Float[Array, "slots places *rest n"],
    *,
    precision: str | None,
    kinds: Lengths,
) -> Float[Array, "slots kinds k n"]:
    positions = range(1, x.ndim - 1)
    return _apart(_contracted(_chosen(x, kinds), g, (positions, positions), precision, True), kinds)


# On CPUs products are of matrices; a TPU keeps the axis of places, which it lays innermost.
_product_op = operation(
    "kinds_product",
    cpu=_product_on_cpu,
    elsewhere=_product,
    shape=lambda x, w, **_: (*x[:-1], w[-1]),
)
_moments_op = operation(
    "kinds_outer_sum",
    cpu=_moments_on_cpu,
    elsewhere=_moments,
    shape=lambda x, g, kinds, **_: (x[0], len(kinds), x[-1], g[-1]),
)


def _bound(
    made: Primitive, x: Float[Array, "..."], y: Float[Array, "..."], **parameters: Any
) -> Float[Array, "..."]:
    # An operation is lowered later, when what products are made in may be set otherwise.
    config: Any = jax.config
    return made.bind(x, y, lanes=0, precision=config.jax_default_matmul_precision, **parameters)


@custom_vjp((2,))
def project(
    x: Float[Array, "slots places *rest k"], weight: Float[Array, "by_slot kinds k n"], kinds: Lengths
) -> Float[Array, "slots places *rest n"]:
    """Maps channels: x [slots, places, ..., k] -> [slots, places, ..., n].

    weight: for each color slot, or without color and with it, and for each kind of place. kinds: their
    numbers of places.
    """
    if weight.shape[0] == x.shape[0]:
        return _bound(_product_op, x, weight, kinds=kinds)
    out = _bound(_product_op, x, weight[1], kinds=kinds)
    first = _bound(_product_op, x[:1], weight[0], kinds=kinds)
    return jax.lax.dynamic_update_slice_in_dim(out, first, 0, axis=0)


def weight_moments(
    x: Float[Array, "slots places *rest k"],
    g: Float[Array, "slots places *rest n"],
    kinds: Lengths,
    slots: int,
) -> Float[Array, "by_slot kinds k n"]:
    """Sums over positions of x (outer) g: the gradient of `project` with respect to its weight.

    slots: how many the weight has.
    """
    moments = _bound(_moments_op, x, g, kinds=kinds)
    if slots == x.shape[0]:
        return moments
    return jnp.stack([moments[0], moments[1:].sum(0)])


def transposed(weight: Float[Array, "*axes k n"]) -> Float[Array, "*axes n k"]:
    """What maps a cotangent back."""
    return weight.swapaxes(-1, -2)


def _project_backward(
    kinds: Lengths,
    saved: tuple[Float[Array, "slots places *rest k"], Float[Array, "by_slot kinds k n"]],
    g: Float[Array, "slots places *rest n"],
) -> tuple[Float[Array, "slots places *rest k"], Float[Array, "by_slot kinds k n"]]:
    x, weight = saved
    g = settled_rows(g)
    return project(g, transposed(weight), kinds), weight_moments(x, g, kinds, weight.shape[0])


project.defvjp(lambda x, weight, kinds: (project(x, weight, kinds), (x, weight)), _project_backward)


def matmul(x: Float[Array, "slots places *rest k"], weight: Float[Array, "k n"]) -> Float[Array, "..."]:
    """X [..., k] @ weight [k, n], the same everywhere. Differentiate elsewhere."""
    return _bound(_product_op, x, weight[None], kinds=(x.shape[1],))
