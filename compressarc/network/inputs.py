"""What the compiled program knows of a puzzle: its signature (static) and grids (data).

Puzzles with equal signatures share one compiled program, whatever their pixels are.
"""

from __future__ import annotations

import dataclasses
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int, Shaped

from compressarc.multitensor import ArrayT, Shape
from compressarc.network.layers.share import PixelMeans
from compressarc.network.padding import Padding
from compressarc.puzzle import Canvas

OUTSIDE_MASK = -1000.0
MEAN_EPSILON = 1e-4


@dataclasses.dataclass(frozen=True)
class Signature:
    """The static part of a puzzle: everything that decides array shapes and branches."""

    shape: Shape
    num_train: int
    uncertain_inputs: bool
    uncertain_outputs: bool
    size_known: bool
    placements: tuple[int, int]  # most offsets any known grid has along x and along y
    tests: int | None = None  # room for test outputs, where it is not what the train pairs leave

    @property
    def num_test(self) -> int:
        return self.shape.examples - self.num_train if self.tests is None else self.tests


class Grids(NamedTuple, Generic[ArrayT]):
    """The puzzle's pixels and sizes as arrays. G known grids: all inputs, then train outputs."""

    union: Float[ArrayT, "X Y E"]  # 1 inside the input or output rectangle
    means: PixelMeans[ArrayT]
    x_offset: Float[ArrayT, "E X"]  # -1000 beyond the taller of input and output, else 0
    y_offset: Float[ArrayT, "E Y"]
    target: Float[ArrayT, "G CY XP"]  # one-hot target: [(color, y), (row, y offset)]
    signs_x: Float[ArrayT, "G O X"]  # +1 in each placement of the grid along x, -1 elsewhere
    signs_y: Float[ArrayT, "G P Y"]
    valid: Float[ArrayT, "G O P"]  # 0 where the placement fits on the canvas, else -inf
    crop_x: Float[ArrayT, "T L X"]  # as signs_x, for the candidates' crops of the test outputs
    crop_y: Float[ArrayT, "T M Y"]
    crop_x_valid: Float[ArrayT, "T L"]
    crop_y_valid: Float[ArrayT, "T M"]
    crop_x_span: Float[ArrayT, "T L 2"]  # [offset, length] of each crop
    crop_y_span: Float[ArrayT, "T M 2"]
    # where the arrays are larger than the puzzle (`batch.bucket_shapes.padded_grids`)
    padding: Padding[ArrayT] | None = None


def signature(canvas: Canvas) -> Signature:
    """The static part of a puzzle's program."""
    shape = canvas.shape
    known = np.concatenate([canvas.sizes[:, 0], canvas.sizes[: canvas.num_train, 1]])
    smallest = known.min(0)
    return Signature(
        shape=shape,
        num_train=canvas.num_train,
        uncertain_inputs=canvas.size_uncertain(output=False),
        uncertain_outputs=canvas.size_uncertain(output=True),
        size_known=canvas.size_known,
        placements=(shape.x - int(smallest[0]) + 1, shape.y - int(smallest[1]) + 1),
    )


def segments(n: int) -> Int[np.ndarray, "S 2"]:
    """[offset, length] of all segments of a line of n, by length, then offset."""
    return np.array([(o, length) for length in range(1, n + 1) for o in range(n - length + 1)])


def segment_signs(spans: Shaped[np.ndarray, "S 2"], n: int) -> Float[np.ndarray, "S n"]:
    """+1 inside each segment, -1 outside: [segments, n]."""
    place = np.arange(n)
    inside = (place >= spans[:, :1]) & (place < spans[:, :1] + spans[:, 1:])
    return np.where(inside, 1.0, -1.0)


def _fixed_length(length: int, count: int, n: int) -> tuple[Int[np.ndarray, "O 2"], Float[np.ndarray, " O"]]:
    """The first `count` offsets of a segment of given length, and 0 / -inf for which fit."""
    spans = np.stack([np.arange(count), np.full(count, length)], -1)
    return spans, np.where(spans.sum(-1) <= n, 0.0, -np.inf)


def _crops(
    canvas: Canvas, axis: int, n: int
) -> tuple[Float[np.ndarray, "T L n"], Float[np.ndarray, "T L"], Int[np.ndarray, "T L 2"]]:
    """Signs, validity and spans of the crops to choose from, per test output."""
    if canvas.size_known:
        lengths = canvas.sizes[canvas.num_train :, 1, axis]
        parts = [_fixed_length(int(length), n, n) for length in lengths]
    else:
        parts = [(segments(n), np.zeros(n * (n + 1) // 2))] * (len(canvas.sizes) - canvas.num_train)
    signs = np.stack([segment_signs(spans, n) for spans, _ in parts])
    return signs, np.stack([v for _, v in parts]), np.stack([s for s, _ in parts])


def _targets(canvas: Canvas, num_offsets: int) -> Float[np.ndarray, "G CY XP"]:
    """One-hot known grids, moved right by every y offset: [G, (C+1) Y, X P]."""
    shape = canvas.shape
    grids = [(e, 0) for e in range(shape.examples)] + [(e, 1) for e in range(canvas.num_train)]
    out = np.zeros((len(grids), shape.colors + 1, shape.y, shape.x, num_offsets), np.float32)
    for g, (e, io) in enumerate(grids):
        h, w = canvas.sizes[e, io]
        rows, columns = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
        color = canvas.problem[e, :h, :w, io]
        for p in range(min(num_offsets, shape.y - w + 1)):
            out[g, color, columns + p, rows, p] = 1
    return out.reshape(len(grids), -1, shape.x * num_offsets)


def _weights(mask: Float[np.ndarray, "..."], axis: int, masked: bool) -> Float[np.ndarray, "..."]:
    if not masked:
        return np.full(mask.shape, 1 / mask.shape[axis])
    return mask / (mask.sum(axis, keepdims=True) + MEAN_EPSILON)


def grids(canvas: Canvas, dtype: DTypeLike = jnp.float32) -> Grids[Array]:
    """The arrays the program reads, for one puzzle."""
    return jax.tree.map(jnp.asarray, grids_on_host(canvas, dtype))


def grids_on_host(canvas: Canvas, dtype: DTypeLike = np.float32) -> Grids[np.ndarray]:
    """As `grids`, left on the host."""
    shape = canvas.shape
    static = signature(canvas)
    union = np.asarray(canvas.masks.any(-1)).transpose(1, 2, 0).astype(float)
    known = static.size_known
    means = PixelMeans(
        plane_y=_weights(union, 1, known),
        plane_x=_weights(union, 0, known),
        row_x=_weights(union[:, 0], 0, known),
        column_y=_weights(union[0], 0, known),
    )
    extent = canvas.sizes.max(1)
    spans = np.concatenate([canvas.sizes[:, 0], canvas.sizes[: canvas.num_train, 1]])
    along_x = [_fixed_length(int(h), static.placements[0], shape.x) for h, _ in spans]
    along_y = [_fixed_length(int(w), static.placements[1], shape.y) for _, w in spans]
    crop_x, crop_y = _crops(canvas, 0, shape.x), _crops(canvas, 1, shape.y)
    out = Grids(
        union=union,
        means=means,
        x_offset=np.where(np.arange(shape.x) >= extent[:, :1], OUTSIDE_MASK, 0.0),
        y_offset=np.where(np.arange(shape.y) >= extent[:, 1:], OUTSIDE_MASK, 0.0),
        target=_targets(canvas, static.placements[1]),
        signs_x=np.stack([segment_signs(s, shape.x) for s, _ in along_x]),
        signs_y=np.stack([segment_signs(s, shape.y) for s, _ in along_y]),
        valid=np.stack([v[:, None] + u for (_, v), (_, u) in zip(along_x, along_y, strict=True)]),
        crop_x=crop_x[0],
        crop_y=crop_y[0],
        crop_x_valid=crop_x[1],
        crop_y_valid=crop_y[1],
        crop_x_span=crop_x[2],
        crop_y_span=crop_y[2],
    )
    return jax.tree.map(lambda a: np.asarray(a, dtype), out)
