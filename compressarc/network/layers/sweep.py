"""The directional wrapper shared by cummax and shift (paper, "cummax" and "shift").

Both act on types 11111 and 10111 along each array slice's own direction, half of the
channels forwards and half backwards. With direction d = 4 s + j and channel half h
(h = 0: channels 0, 2; h = 1: channels 1, 3), the sweep runs along axis j (x, the
diagonal, y, the antidiagonal), forwards if s + h is even. Output channels come in the
order 0, 2, 1, 3.

The width-4 reading of all eight directions is laid out as 32 columns (j, forwards or
backwards, h, channel within the half), so that everything that sweeps the same way lies
side by side; the reordering costs nothing, since it is a constant product with the
weights.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compressarc.multitensor import DIRECTIONS, PLANE_DIRECTED, PLANES_DIRECTED, Shape, Stream
from compressarc.network.layers.axes import settle, spread
from compressarc.network.layers.normalize import normalize_project
from compressarc.network.layers.project import project
from compressarc.network.padding import Padding, masked, part

Columns = Float[Array, "C1 X Y E columns"]
"""The 32 columns of a reading, or part of them."""

WIDTH = 4
COLUMNS = DIRECTIONS * WIDTH
PER_AXIS = COLUMNS // 4
HALF = PER_AXIS // 2


def _columns() -> tuple[Float[np.ndarray, "8 4 32"], Float[np.ndarray, "8 4 32"]]:
    """[direction, channel, column] one-hot tables, for the input and the output channels."""
    into = np.zeros((DIRECTIONS, WIDTH, COLUMNS))
    out = np.zeros((DIRECTIONS, WIDTH, COLUMNS))
    column = 0
    for j in range(4):
        for backwards in range(2):
            for h in range(2):
                for i in range(2):
                    direction = 4 * ((h + backwards) % 2) + j
                    into[direction, 2 * i + h, column] = 1
                    out[direction, 2 * h + i, column] = 1
                    column += 1
    return into, out


_INTO, _OUT = _columns()


def sweep_weights(
    into: Float[Array, "2 8 4"], out: Float[Array, "2 4 8"], shape: Shape
) -> tuple[Float[Array, "by_slot 1 64 32"], Float[Array, "by_slot 1 32 64"]]:
    """Weights of types 10111 and 11111 on folded axes, (direction, channel) -> columns and back, by slot."""
    n = DIRECTIONS * into.shape[1]
    read = jnp.einsum("tik,dkm->tdim", into, jnp.asarray(_INTO, into.dtype)).reshape(2, n, COLUMNS)
    write = jnp.einsum("tko,dkm->tmdo", out, jnp.asarray(_OUT, out.dtype)).reshape(2, COLUMNS, n)
    return _by_slot(read, shape), _by_slot(write, shape)


def _by_slot(weight: Float[Array, "2 k n"], shape: Shape) -> Float[Array, "by_slot 1 k n"]:
    if PLANES_DIRECTED.by_slot(shape):
        weight = jnp.concatenate([weight[:1], spread(weight[1:], 0, shape.colors)])
    return weight[:, None]


def directional(
    x: Stream[Array],
    read: Float[Array, "by_slot 1 64 32"],
    write: Float[Array, "by_slot 1 32 64"],
    union: Float[Array, "X Y E"],
    operation: Callable[[Columns, Float[Array, "X Y E"]], Columns],
    shape: Shape,
    padding: Padding[Array] | None = None,
) -> Stream[Array]:
    """Adds `operation` on the masked 4-channel reading of the directed planes.

    read, write: from `sweep_weights`. union [X, Y, E]: 1 inside the union of input and output
    rectangle. operation(v, union): on [C+1, X, Y, E, 32], columns as above.
    """
    stream = x.planes_directed
    folded = stream.reshape(*stream.shape[:-2], -1)
    where = part(padding, PLANES_DIRECTED)
    v = settle(project(folded, read, (folded.shape[1],)) * union.reshape(-1)[None, :, None])
    cells = PLANE_DIRECTED.leading(shape)
    v = operation(v.reshape(*cells, COLUMNS), union).reshape(v.shape)
    v = settle(masked(v, where))
    v = normalize_project(v, write, PLANES_DIRECTED, shape, (v.shape[1],), DIRECTIONS, where)
    return x._replace(planes_directed=settle(stream + v.reshape(stream.shape)))


def axis_columns(v: Float[Array, "*axes 32"], j: int) -> Float[Array, "*axes 8"]:
    """The 8 columns that sweep along axis j: 4 forwards, then 4 backwards."""
    return v[..., PER_AXIS * j : PER_AXIS * (j + 1)]
