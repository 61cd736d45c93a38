"""Linear maps of the channels, with the weight set chosen by the tensor type.

`v @ W` of every type in a packed array at once (paper: the linear maps read from and
write to the residual stream). Biases exist only in the decoding layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jaxtyping import Array, Float

from compressarc.multitensor import Group, Shape, row_sets
from compressarc.network.layers.axes import custom_vjp, settled_rows
from compressarc.network.layers.by_platform import operation

_BATCHED = 1 << 16
_THIN = 2
"""So few columns are summed one by one: XLA's CPU backend is slow at products with two of them."""


def project(
    x: Float[Array, "*axes k"], weight: Float[Array, "sets k n"], group: Group, shape: Shape
) -> Float[Array, "*axes n"]:
    """Maps channels: x [..., k], weight [sets, k, n] -> [..., n].

    x: a flattened array of `group`, [slots, places, ..., k]; sets: in the order of `group.types`.
    """
    if group.space != "point":
        return _project_slots(x, weight)
    return _project_rows(x, weight, group, shape)


def _chosen(x: Float[Array, "*axes k"], group: Group, shape: Shape) -> Float[Array, "*axes sets_k"]:
    """X [..., k] beside zeros, in the place of its row's weight set: [..., sets * k]."""
    rows = row_sets(group, shape)
    sets = rows.shape[1]
    rows = rows.reshape(shape.colors + 1, -1, *(1,) * (x.ndim - 3), sets, 1)
    return (x[..., None, :] * jnp.asarray(rows, x.dtype)).reshape(*x.shape[:-1], sets * x.shape[-1])


@custom_vjp((2, 3))
def _project_rows(
    x: Float[Array, "*axes k"], weight: Float[Array, "sets k n"], group: Group, shape: Shape
) -> Float[Array, "*axes n"]:
    """As `project` where the example slot has a say, too: on small arrays."""
    return _product(_chosen(x, group, shape), weight.reshape(-1, weight.shape[-1]))


def _rows_backward(
    group: Group,
    shape: Shape,
    saved: tuple[Float[Array, "*axes k"], Float[Array, "sets k n"]],
    g: Float[Array, "*axes n"],
) -> tuple[Float[Array, "*axes k"], Float[Array, "sets k n"]]:
    x, weight = saved
    g = settled_rows(g)
    d_weight = outer_sum(_chosen(x, group, shape), g)
    return _project_rows(g, weight.swapaxes(1, 2), group, shape), d_weight.reshape(weight.shape)


_project_rows.defvjp(
    lambda x, weight, group, shape: (_project_rows(x, weight, group, shape), (x, weight)), _rows_backward
)


def _contracted(
    x: Float[Array, "..."],
    y: Float[Array, "..."],
    over: tuple[Sequence[int], Sequence[int]],
    precision: str | None,
    slots: bool = False,
) -> Float[Array, "..."]:
    """Sum of products over axes of x and y; slots: for each color slot, the first axis of both."""
    each = ((0,), (0,)) if slots else ((), ())
    return jax.lax.dot_general(x, y, (over, each), precision=precision)


def _positions(x: Float[Array, "*axes k"], first: int) -> tuple[Sequence[int], Sequence[int]]:
    """All axes from `first` on but that of channels, of two arrays alike."""
    axes = range(first, x.ndim - 1)
    return axes, axes


def _rows(x: Float[Array, "*axes k"]) -> Float[Array, "rows k"]:
    return x.reshape(-1, x.shape[-1])


def _slot_rows(x: Float[Array, "C1 *axes k"]) -> Float[Array, "C1 rows k"]:
    return x.reshape(x.shape[0], -1, x.shape[-1])


# On CPUs products are of matrices; a TPU keeps the axis of places, which it lays innermost.
_product_op = operation(
    "positions_product",
    cpu=lambda x, w, precision: _contracted(_rows(x), w, ((1,), (0,)), precision).reshape(
        *x.shape[:-1], w.shape[-1]
    ),
    elsewhere=lambda x, w, precision: _contracted(x, w, ((x.ndim - 1,), (0,)), precision),
    shape=lambda x, w, **_: (*x[:-1], w[-1]),
)
_slots_op = operation(
    "slots_product",
    cpu=lambda x, w, precision: _contracted(_slot_rows(x), w, ((2,), (1,)), precision, slots=True).reshape(
        *x.shape[:-1], w.shape[-1]
    ),
    elsewhere=lambda x, w, precision: _contracted(x, w, ((x.ndim - 1,), (1,)), precision, slots=True),
    shape=lambda x, w, **_: (*x[:-1], w[-1]),
)
_outer_op = operation(
    "outer_sum",
    cpu=lambda x, g, precision: _contracted(_rows(x), _rows(g), ((0,), (0,)), precision),
    elsewhere=lambda x, g, precision: _contracted(x, g, _positions(x, 0), precision),
    shape=lambda x, g, **_: (x[-1], g[-1]),
)
_slot_outer_op = operation(
    "slots_outer_sum",
    cpu=lambda x, g, precision: _contracted(
        _slot_rows(x), _slot_rows(g), ((1,), (1,)), precision, slots=True
    ),
    elsewhere=lambda x, g, precision: _contracted(x, g, _positions(x, 1), precision, slots=True),
    shape=lambda x, g, **_: (x[0], x[-1], g[-1]),
)


def _bound(made: Primitive, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    # An operation is lowered later, when what products are made in may be set otherwise.
    config: Any = jax.config
    return made.bind(x, y, lanes=0, precision=config.jax_default_matmul_precision)


def _product(x: Float[Array, "*axes k"], weight: Float[Array, "k n"]) -> Float[Array, "*axes n"]:
    return _bound(_product_op, x, weight)


def outer_sum(x: Float[Array, "*axes k"], g: Float[Array, "*axes n"]) -> Float[Array, "k n"]:
    """Sum over all positions of x (outer) g."""
    return _bound(_outer_op, x, g)


@jax.custom_vjp
def matmul(x: Float[Array, "*axes k"], weight: Float[Array, "k n"]) -> Float[Array, "*axes n"]:
    """X [..., k] @ weight [k, n], as a product of matrices in both directions."""
    return _product(x, weight)


def _matmul_backward(
    saved: tuple[Float[Array, "*axes k"], Float[Array, "k n"]], g: Float[Array, "*axes n"]
) -> tuple[Float[Array, "*axes k"], Float[Array, "k n"]]:
    x, weight = saved
    g = settled_rows(g)
    return _product(g, weight.T), outer_sum(x, g)


matmul.defvjp(lambda x, weight: (matmul(x, weight), (x, weight)), _matmul_backward)


@jax.custom_vjp
def _project_slots(
    x: Float[Array, "C1 *axes k"], weight: Float[Array, "2 k n"]
) -> Float[Array, "C1 *axes n"]:
    """As `project` where the color slot decides: one product for all, then slot 0 anew.

    On large arrays twice as fast as a product batched over the color axis, which XLA's
    CPU backend runs slot by slot; on small ones the batched product is fewer kernels.
    """
    if x.shape[0] > 1 and x.size < _BATCHED:
        slots = jnp.concatenate([weight[:1], jnp.repeat(weight[1:], x.shape[0] - 1, 0)])
        return _bound(_slots_op, x, slots)
    out = _product(x, weight[1])
    return jax.lax.dynamic_update_slice_in_dim(out, _product(x[:1], weight[0]), 0, axis=0)


def slot_moments(x: Float[Array, "C1 *axes k"], g: Float[Array, "C1 *axes n"]) -> Float[Array, "2 k n"]:
    """Sum over positions of x (outer) g, for the uncolored and the colored type: [2, k, n]."""
    if g.shape[-1] <= _THIN:
        per_slot = jnp.concatenate(
            [_bound(_slot_outer_op, x, g[..., i : i + 1]) for i in range(g.shape[-1])], -1
        )
    else:
        per_slot = _bound(_slot_outer_op, x, g)
    return jnp.stack([per_slot[0], per_slot[1:].sum(0)])


def _slots_backward(
    saved: tuple[Float[Array, "C1 *axes k"], Float[Array, "2 k n"]], g: Float[Array, "C1 *axes n"]
) -> tuple[Float[Array, "C1 *axes k"], Float[Array, "2 k n"]]:
    x, weight = saved
    g = settled_rows(g)
    return _project_slots(g, weight.transpose(0, 2, 1)), slot_moments(x, g)


_project_slots.defvjp(lambda x, weight: (_project_slots(x, weight), (x, weight)), _slots_backward)
