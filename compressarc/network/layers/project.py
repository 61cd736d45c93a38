"""Linear maps of the channels, with the weight set chosen by the tensor type.

`v @ W` of every type in a packed array at once (paper: the linear maps read from and
write to the residual stream). Biases exist only in the decoding layer.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compressarc.multitensor import Group, Shape, row_sets
from compressarc.network.layers.axes import custom_vjp, settle

_BATCHED = 1 << 16
_THIN = 2
"""So few columns are summed one by one: XLA's CPU backend is slow at products with two of them."""


def project(
    x: Float[Array, "*axes k"], weight: Float[Array, "sets k n"], group: Group, shape: Shape
) -> Float[Array, "*axes n"]:
    """Maps channels: x [..., k], weight [sets, k, n] -> [..., n].

    x: a packed array of `group` (any layout behind the row axes); sets: in the order
    of `group.types`.
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
    chosen = _chosen(x, group, shape)
    d_weight = chosen.reshape(-1, chosen.shape[-1]).T @ g.reshape(-1, g.shape[-1])
    return _project_rows(g, weight.swapaxes(1, 2), group, shape), d_weight.reshape(weight.shape)


_project_rows.defvjp(
    lambda x, weight, group, shape: (_project_rows(x, weight, group, shape), (x, weight)), _rows_backward
)


def settled_rows(x: Float[Array, "*axes k"]) -> Float[Array, "*axes k"]:
    """As `settle`, stored as the matrix that a product over all slots reads."""
    return settle(x.reshape(-1, x.shape[-1])).reshape(x.shape)


def _product(x: Float[Array, "*axes k"], weight: Float[Array, "k n"]) -> Float[Array, "*axes n"]:
    return (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:-1], weight.shape[-1])


@jax.custom_vjp
def matmul(x: Float[Array, "*axes k"], weight: Float[Array, "k n"]) -> Float[Array, "*axes n"]:
    """X [..., k] @ weight [k, n], as a product of matrices in both directions."""
    return _product(x, weight)


def _matmul_backward(
    saved: tuple[Float[Array, "*axes k"], Float[Array, "k n"]], g: Float[Array, "*axes n"]
) -> tuple[Float[Array, "*axes k"], Float[Array, "k n"]]:
    x, weight = saved
    g = settled_rows(g)
    k, n = weight.shape
    return _product(g, weight.T), x.reshape(-1, k).T @ g.reshape(-1, n)


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
        rows = x.reshape(x.shape[0], -1, x.shape[-1])
        return jnp.einsum("cmk,ckn->cmn", rows, slots).reshape(*x.shape[:-1], -1)
    out = _product(x, weight[1])
    return jax.lax.dynamic_update_slice_in_dim(out, _product(x[:1], weight[0]), 0, axis=0)


def slot_moments(x: Float[Array, "C1 *axes k"], g: Float[Array, "C1 *axes n"]) -> Float[Array, "2 k n"]:
    """Sum over positions of x (outer) g, for the uncolored and the colored type: [2, k, n]."""
    slots = x.shape[0]
    rows, columns = (a.reshape(slots, -1, a.shape[-1]) for a in (x, g))
    if g.shape[-1] <= _THIN:
        each = [jnp.einsum("cmk,cm->ck", rows, columns[..., i]) for i in range(g.shape[-1])]
        per_slot = jnp.stack(each, -1)
    else:
        per_slot = jnp.einsum("cmk,cmn->ckn", rows, columns)
    return jnp.stack([per_slot[0], per_slot[1:].sum(0)])


def _slots_backward(
    saved: tuple[Float[Array, "C1 *axes k"], Float[Array, "2 k n"]], g: Float[Array, "C1 *axes n"]
) -> tuple[Float[Array, "C1 *axes k"], Float[Array, "2 k n"]]:
    x, weight = saved
    g = settled_rows(g)
    return _project_slots(g, weight.transpose(0, 2, 1)), slot_moments(x, g)


_project_slots.defvjp(lambda x, weight: (_project_slots(x, weight), (x, weight)), _slots_backward)
