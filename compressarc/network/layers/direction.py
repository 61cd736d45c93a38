"""Direction communication: each direction listens to all eight (paper, "directional communication").

x[d1] += sum_d2 k[(d2 - d1) mod 8] norm(x)[d2] @ W[d1][d2]. The 64 maps of a type are tied
by reflection and rotation symmetry to 10 free ones, 18 for a type with one of x and y.
"""

from __future__ import annotations

import functools
from typing import Generic, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from compressarc.multitensor import (
    DIRECTED_WIDTH,
    DIRECTIONS,
    MARGIN_DIRECTED,
    PLANES_DIRECTED,
    ArrayT,
    Group,
    Shape,
    Stream,
)
from compressarc.network.layers.axes import settle
from compressarc.network.layers.normalize import normalize_project
from compressarc.network.padding import Padding, part

STRENGTH = (1.0, 0.2, 0.4, 0.2, 1.0, 0.2, 0.4, 0.2)
FREE_MAPS = 10
FREE_LINE_MAPS = 18
LINE_TYPES = tuple(code for code in MARGIN_DIRECTED.types if code[3:] == "10")
SYMMETRIC_TYPES = (*PLANES_DIRECTED.types, "00100", "10100", "01100", "11100")


def _representative(to: int, source: int) -> tuple[int, int]:
    """Both or neither of x and y: rotate in steps of 90 degrees, then reflect."""
    turn = 2 * (to // 2)
    to, source = to - turn, (source - turn) % 8
    if (source - to) % 8 > 4:
        source = (2 * to - source) % 8
    return to, source


def _line_representative(to: int, source: int, columns: bool) -> tuple[int, int]:
    """Exactly one of x and y: reflect in both axes; columns are rows turned by 90 degrees."""
    if columns:
        to, source = (to + 2) % 8, (source + 2) % 8
    if to > 4 or (to in (0, 4) and source > 4):
        to, source = -to % 8, -source % 8
    if 2 < to < 6 or (to in (2, 6) and 2 < source < 6):
        to, source = (4 - to) % 8, (4 - source) % 8
    return to, source


@functools.lru_cache(maxsize=4)
def tying_table(kind: str) -> Int[np.ndarray, "8 8"]:
    """(8, 8) index of the free map used for [to, from]; kind: "symmetric", "row", "column"."""
    pairs = [(to, source) for to in range(8) for source in range(8)]
    if kind == "symmetric":
        chosen = [_representative(*p) for p in pairs]
    else:
        chosen = [_line_representative(*p, columns=kind == "column") for p in pairs]
    free = sorted(set(chosen))
    return np.array([free.index(c) for c in chosen]).reshape(8, 8)


@functools.lru_cache(maxsize=4)
def _expansion(kind: str) -> Float[np.ndarray, "8 8 maps"]:
    """[from, to, free map]: the strength where that map is used, else 0."""
    table = tying_table(kind)
    out = np.zeros((8, 8, table.max() + 1))
    for to in range(8):
        for source in range(8):
            out[source, to, table[to, source]] = STRENGTH[(source - to) % 8]
    return out


def _folded(weight: Float[Array, "sets maps 8 8"], kind: str) -> Float[Array, "sets 64 64"]:
    """Free maps [sets, maps, 8, 8] -> [sets, 64, 64] on the folded (direction, channel) axis."""
    full = jnp.einsum("ftm,smio->sfito", jnp.asarray(_expansion(kind), weight.dtype), weight)
    n = DIRECTIONS * DIRECTED_WIDTH
    return full.reshape(weight.shape[0], n, n)


class DirectionMaps(NamedTuple, Generic[ArrayT]):
    """Maps of the folded (direction, channel) axis, without and with color, and by kind of place.

    They are large: laid out for each color slot they would cost more than a product saves.
    """

    planes: Float[ArrayT, "*layers 2 1 64 64"]
    margin: Float[ArrayT, "*layers 2 4 64 64"]  # rows, columns, no example, examples


def direction_maps(
    symmetric: Float[Array, "6 10 8 8"], line: Float[Array, "2 18 8 8"]
) -> DirectionMaps[Array]:
    """The free maps, times their strengths, where they are used.

    symmetric: [6 types, 10, 8, 8], types as in `SYMMETRIC_TYPES`; line: [2 types, 18, 8, 8], types as in
    `LINE_TYPES`.
    """
    folded = _folded(symmetric, "symmetric")
    lines = [_folded(line, kind)[:, None] for kind in ("row", "column")]
    planes, points = folded[:2, None], folded[2:].reshape(2, 2, *folded.shape[1:])
    return DirectionMaps(planes, jnp.concatenate([*lines, points], axis=1))


def direction_share(
    x: Stream[Array],
    maps: DirectionMaps[Array],
    shape: Shape,
    padding: Padding[Array] | None = None,
) -> Stream[Array]:
    """Adds the strength-weighted maps of all directions of the normalized stream."""

    def mapped(
        stream: Float[Array, "*axes 8 8"], weight: Float[Array, "2 kinds 64 64"], group: Group
    ) -> Float[Array, "*axes 8 8"]:
        flat = stream.reshape(*stream.shape[:-2], -1)
        kinds = group.kinds(stream.shape[1], shape, columns=True)
        added = normalize_project(flat, weight, group, shape, kinds, DIRECTIONS, part(padding, group))
        return settle(stream + added.reshape(stream.shape))

    return x._replace(
        planes_directed=mapped(x.planes_directed, maps.planes, PLANES_DIRECTED),
        margin_directed=mapped(x.margin_directed, maps.margin, MARGIN_DIRECTED),
    )
