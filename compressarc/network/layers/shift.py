"""The shift layer: every slice moves one pixel along its direction (paper, "shift")."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compressarc.multitensor import Shape, Stream
from compressarc.network.layers.sweep import HALF, axis_columns, directional
from compressarc.network.padding import Padding

_STEPS = ((1, 0), (1, 1), (0, 1), (-1, 1))
"""(x, y) step of a forward sweep along each of the four axes of `sweep`."""


def _moved(v: Float[Array, "C1 X Y *rest"], x: int, y: int) -> Float[Array, "C1 X Y *rest"]:
    """Moves [C+1, X, Y, ...] by (x, y) pixels; zeros enter."""
    none = [(0, 0, 0)] * (v.ndim - 3)
    return jax.lax.pad(v, jnp.zeros((), v.dtype), [(0, 0, 0), (x, -x, 0), (y, -y, 0), *none])


def _all_moved(v: Float[Array, "C1 X Y E columns"], sign: int) -> Float[Array, "C1 X Y E columns"]:
    """Every column one step along its sweep (sign 1), or one step back (sign -1)."""
    parts = []
    for j, (x, y) in enumerate(_STEPS):
        columns = axis_columns(v, j)
        parts.append(_moved(columns[..., :HALF], sign * x, sign * y))
        parts.append(_moved(columns[..., HALF:], -sign * x, -sign * y))
    return jnp.concatenate(parts, -1)


@jax.custom_vjp
def _all_directions(
    v: Float[Array, "C1 X Y E columns"], union: Float[Array, "X Y E"]
) -> Float[Array, "C1 X Y E columns"]:
    del union  # the input is masked already, and the result is not masked again
    return _all_moved(v, 1)


_all_directions.defvjp(
    lambda v, union: (_all_moved(v, 1), union),
    # One kernel, where the derivative of eight slices is eight padded arrays and their sum.
    lambda union, g: (_all_moved(g, -1), jnp.zeros_like(union)),
)


def shift(
    x: Stream[Array],
    read: Float[Array, "by_slot 1 64 32"],
    write: Float[Array, "by_slot 1 32 64"],
    union: Float[Array, "X Y E"],
    shape: Shape,
    padding: Padding[Array] | None = None,
) -> Stream[Array]:
    """Adds a normalized one-pixel shift of a 4-channel reading of the directed planes.

    read, write: from `sweep_weights`; union [X, Y, E].
    """
    return directional(x, read, write, union, _all_directions, shape, padding)
