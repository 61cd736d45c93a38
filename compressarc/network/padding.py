"""Puzzles on arrays larger than they are, exactly: what belongs to the puzzle, and its counts.

Different puzzles share a compiled program when each is laid on arrays that are large enough
for all of them. The result is the one without padding if

- entries beyond the puzzle are zero between layers, so that sums need no mask,
- means divide by the puzzle's own number of positions, and maxima and exponentials leave
  the padding out,
- noise is drawn by an element's place in the unpadded puzzle,
- colors, rows and columns beyond the puzzle are never chosen.

A program without padding has `None` in place of all this and pays nothing for it.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from compressarc.multitensor import LATENT_WIDTH, PACKED, TYPES, ArrayT, Group, Shape, norm_types

NEVER = -1e9
"""Logit of a color that the puzzle has not: no infinity, whose product with zero is no number."""

LOWEST = -3e38
"""Below any reading; the least float32 itself overflows where a TPU takes it apart into bfloat16 numbers."""


class Part(NamedTuple):
    """Padding as one array of the stream sees it."""

    mask: Float[Array, "slots places"]  # 1 for the puzzle's own entries
    inverse: Float[Array, " types"]  # 1 / positions of each type, directions included


class Padding(NamedTuple, Generic[ArrayT]):
    """One puzzle's own part of larger arrays."""

    plane: Float[ArrayT, "C+1 X Y E"]
    line: Float[ArrayT, "C+1 X+Y E"]
    point: Float[ArrayT, "C+1 E+1"]
    positions: Float[ArrayT, "18"]  # elements of each type, without channels
    color_share: Float[ArrayT, ""]  # 1 / number of colors
    example_share: Float[ArrayT, ""]  # 1 / number of examples
    known: Float[ArrayT, " G"]  # 1 for grids the loss knows; G: all inputs, then all outputs
    uncertain: Float[ArrayT, " G"]  # 1 where the loss treats the grid's size as unknown
    segments_x: Float[ArrayT, "S X"]  # signs of all segments of the puzzle's rows
    segments_y: Float[ArrayT, "R Y"]
    segments_x_valid: Float[ArrayT, " S"]  # 0, or -inf where there are no more segments
    segments_y_valid: Float[ArrayT, " R"]
    tests: Int[ArrayT, " T"]  # which examples are tests
    test_share: Float[ArrayT, " T"]  # 1 / number of tests, 0 beyond
    noise: Int[ArrayT, " N"]  # place of each latent in the unpadded posterior, -1 beyond


def part(padding: Padding[Array] | None, group: Group) -> Part | None:
    """What concerns one array of the stream, None if there is no padding."""
    if padding is None:
        return None
    index = np.array([TYPES.index(code) for code in norm_types(group)])
    masks = [getattr(padding, packed.space) for packed in group.packed]
    flat = [mask.reshape(mask.shape[0], -1) for mask in masks]
    return Part(jnp.concatenate(flat, axis=1), 1 / padding.positions[index])


def no_gradient(where: Part | None) -> Part | None:
    """What a hand-written derivative returns for the padding."""
    return jax.tree.map(jnp.zeros_like, where)


def _shaped(where: Part, x: Float[Array, "..."]) -> Float[Array, "..."]:
    return where.mask[(..., *(None,) * (x.ndim - 2))]


def inside(where: Part, x: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Bool, broadcasts against x, an array [slots, places, ...]."""
    return _shaped(where, x) > 0


def masked(x: Float[Array, "*axes"], where: Part | None) -> Float[Array, "*axes"]:
    """X, an array [slots, places, ...], zero beyond the puzzle."""
    return x if where is None else x * _shaped(where, x)


def present(own: Shape, room: Shape) -> dict[str, Bool[np.ndarray, "..."]]:
    """Masks of planes, lines and points: bool, the puzzle's own entries in the room."""
    color = np.arange(room.colors + 1) <= own.colors
    x, y = np.arange(room.x) < own.x, np.arange(room.y) < own.y
    example = np.arange(room.examples) < own.examples
    slots = np.arange(room.examples + 1) <= own.examples
    return {
        "plane": np.einsum("c,x,y,e->cxye", color, x, y, example),
        "line": np.einsum("c,l,e->cle", color, np.concatenate([x, y]), example),
        "point": np.einsum("c,e->ce", color, slots),
    }


def latent_masks(own: Shape, room: Shape) -> list[Bool[np.ndarray, "..."]]:
    """Masks of the packed posterior arrays, in the order of `PACKED`, channels included."""
    masks, out = present(own, room), []
    for packed in PACKED:
        mask = masks[packed.space]
        if packed.without_slot:
            mask = mask[1:]
        tail = (8, LATENT_WIDTH) if packed.directed else (LATENT_WIDTH,)
        out.append(np.broadcast_to(mask[(..., *(None,) * len(tail))], (*mask.shape, *tail)))
    return out


def noise_places(own: Shape, room: Shape) -> Int[np.ndarray, " N"]:
    """For each latent of the room, in storage order, its place in the unpadded posterior, or -1."""
    inside = np.concatenate([mask.ravel() for mask in latent_masks(own, room)])
    return np.where(inside, np.cumsum(inside) - 1, -1).astype(np.int32)


def positions(shape: Shape) -> Float[np.ndarray, "18"]:
    """Elements of each type, without channels."""
    return np.array([np.prod(shape.axes(code)) for code in TYPES], float)


def without_colors_beyond(
    logits: Float[Array, "C1 X Y E 2"], padding: Padding[Array] | None
) -> Float[Array, "C1 X Y E 2"]:
    """Color logits [C+1, X, Y, E, 2] with colors the puzzle has not out of the question."""
    if padding is None:
        return logits
    own = padding.point[:, 0].reshape(-1, *(1,) * (logits.ndim - 1))
    return jnp.where(own > 0, logits, NEVER)
