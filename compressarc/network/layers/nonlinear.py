"""The nonlinear layer: SiLU on a 16-channel reading of every type (paper, "nonlinearity")."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compressarc.multitensor import Group, Shape, Stream, map_groups
from compressarc.network.layers.axes import settle
from compressarc.network.layers.normalize import normalize
from compressarc.network.layers.project import project
from compressarc.network.padding import Padding, part


@jax.custom_vjp
def _silu(v: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    return v / (1 + jnp.exp(-v))  # one loop, where v times a sigmoid is two


def _backward(v: Float[Array, "*axes"], g: Float[Array, "*axes"]) -> tuple[Float[Array, "*axes"]]:
    s = jax.nn.sigmoid(v)
    return (g * s * (1 + v * (1 - s)),)


_silu.defvjp(lambda v: (_silu(v), v), _backward)  # one array to keep, where autodiff keeps two


def nonlinear(
    x: Stream[Array],
    into: Stream[Array],
    out: Stream[Array],
    shape: Shape,
    *,
    apply_pre_norm: bool = False,
    padding: Padding[Array] | None = None,
) -> Stream[Array]:
    """Adds silu(x W_in) W_out; weights per group as `project` takes them, C -> 16 and back.

    apply_pre_norm: normalize x before reading, as the paper says and the reference does not.
    """

    def layer(
        group: Group,
        a: Float[Array, "*axes k"],
        read: Float[Array, "by_slot kinds k 16"],
        write: Float[Array, "by_slot kinds 16 k"],
    ) -> Float[Array, "*axes k"]:
        source = normalize(a, group, shape, group.copies, part(padding, group)) if apply_pre_norm else a
        kinds = group.kinds(a.shape[1], shape)
        hidden = _silu(project(source, read, kinds))
        return settle(a + project(hidden, write, kinds))

    return map_groups(layer, x, into, out)
