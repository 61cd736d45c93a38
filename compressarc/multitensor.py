"""Multitensors: one tensor per valid set of axes, packed into six dense arrays.

A tensor type is a bit string `ecdxy` (example, color, direction, x = row, y = column;
paper, section "multitensors"). 18 of the 32 types are valid. The residual stream holds
one tensor per type, `DIRECTED_WIDTH` channels wide where the type has a direction axis
and `PLAIN_WIDTH` where it has not.

Working on 18 small tensors makes a program of thousands of tiny kernels, so they are
packed. Types that differ only in the color axis share an array whose color axis has one
extra slot, slot 0, that means "no color axis"; the slots 1.. are the colors:

    plane  [C+1, X, Y, E, ...]   10011 | 11011        directed: 10111 | 11111
    line   [C+1, X+Y, E, ...]    10010, 10001 | 11010, 11001   (rows first, then columns)
                                 directed: 10110, 10101 | 11110, 11101
    point  [C+1, E+1, ...]       (nothing) | 01000, 11000
                                 directed: 00100, 10100 | 01100, 11100

In points the example axis has such a slot too: index 0 means "no example axis". Each of
the three comes twice, plain `[..., channel]` and directed `[..., 8, channel]`. Slot 0 of
the plain point array belongs to no valid type and is always zero.

Because color is the outermost axis, the types of one array are contiguous in memory.

The layers see what lies between color and direction as one axis, of places: [C+1, X * Y * E,
...] for planes. On CPUs that is the same memory. A TPU stores the two innermost axes in tiles
of 8 x 128 numbers, and lays places innermost, of which there are hundreds, where channels are 8 or 16.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Shaped

ArrayT = TypeVar("ArrayT")
"""Of a structure of arrays: `jax.Array` on devices, `np.ndarray` on the host; shapes for `eval_shape`."""
ResultT = TypeVar("ResultT")

DIRECTIONS = 8
DIRECTED_WIDTH = 8
PLAIN_WIDTH = 16
LATENT_WIDTH = 4
NUM_LAYERS = 4

TYPES: tuple[str, ...] = tuple(
    code
    for code in (format(i, "05b")[::-1] for i in range(1, 32))
    if code[1:] != "0000" and (code[0] == "1" or code[3:] == "00")
)
"""The 18 valid types in the reference's order (bit 0 of the counter is the example axis)."""


def width(code: str) -> int:
    """Channels of the residual stream for one type."""
    return DIRECTED_WIDTH if code[2] == "1" else PLAIN_WIDTH


def tied_to(code: str) -> str:
    """The type whose weights `code` uses: a y-only type borrows those of its x twin."""
    return code[:3] + "10" if code[3:] == "01" else code


@dataclasses.dataclass(frozen=True)
class Shape:
    """Axis lengths of a puzzle's multitensors. Black is not counted in `colors`."""

    examples: int
    colors: int
    x: int
    y: int

    def axes(self, code: str) -> tuple[int, ...]:
        """Axis lengths of one type, in the canonical order e, c, d, x, y."""
        lengths = (self.examples, self.colors, DIRECTIONS, self.x, self.y)
        return tuple(n for n, bit in zip(lengths, code, strict=True) if bit == "1")


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """One packed array: which types it holds and where their weights are.

    `types` lists the weight sets in storage order; `sets` is the slice of the weight
    stacks (directed or plain) that belongs to this group. `row_axes` counts the axes
    that choose a weight set: the color axis, and for points the example axis too.
    """

    name: str
    space: str
    directed: bool
    types: tuple[str, ...]
    sets: slice

    @property
    def width(self) -> int:
        return DIRECTED_WIDTH if self.directed else PLAIN_WIDTH

    @property
    def copies(self) -> int:
        """Positions folded beside the channel: the eight directions, or one."""
        return DIRECTIONS if self.directed else 1

    def leading(self, shape: Shape) -> tuple[int, ...]:
        """Axis lengths without direction and channel."""
        c, e = shape.colors + 1, shape.examples
        if self.space == "plane":
            return (c, shape.x, shape.y, e)
        if self.space == "line":
            return (c, shape.x + shape.y, e)
        return (c, e + 1)

    def flat(self, shape: Shape) -> tuple[int, int]:
        """Numbers of color slots and of places: `leading` as the layers have it."""
        slots, *places = self.leading(shape)
        return slots, math.prod(places)

    def axes(self, shape: Shape) -> tuple[int, ...]:
        """Axis lengths without channel."""
        return self.leading(shape) + ((DIRECTIONS,) if self.directed else ())


PLANE = Group("plane", "plane", False, ("10011", "11011"), slice(0, 2))
LINE = Group("line", "line", False, ("10010", "11010"), slice(2, 4))
POINT = Group("point", "point", False, ("01000", "11000"), slice(4, 6))
PLANE_DIRECTED = Group("plane_directed", "plane", True, ("10111", "11111"), slice(0, 2))
LINE_DIRECTED = Group("line_directed", "line", True, ("10110", "11110"), slice(2, 4))
POINT_DIRECTED = Group("point_directed", "point", True, ("00100", "10100", "01100", "11100"), slice(4, 8))
GROUPS = (PLANE, PLANE_DIRECTED, LINE, LINE_DIRECTED, POINT, POINT_DIRECTED)
PLAIN_SETS = PLANE.types + LINE.types + POINT.types
DIRECTED_SETS = PLANE_DIRECTED.types + LINE_DIRECTED.types + POINT_DIRECTED.types


def largest_array(shape: Shape) -> int:
    """Numbers in the largest array of the residual stream."""
    return math.prod(PLANE_DIRECTED.axes(shape)) * DIRECTED_WIDTH


KEPT_ELEMENTS = {"cpu": 1 << 15, "gpu": 1 << 22, "tpu": 1 << 15}
"""Above this size of the largest array, of all lanes on GPUs, the backward pass computes each block again.

On CPUs, keeping what a block computed would cost more in copies than it saves. On GPUs it saves a
fourth of the kernels, 3 ms, and moves a kilobyte more for each number of the largest array.
"""


class Multitensor(NamedTuple, Generic[ArrayT]):
    """Six packed arrays, one per group, in the order of `GROUPS`."""

    plane: ArrayT
    plane_directed: ArrayT
    line: ArrayT
    line_directed: ArrayT
    point: ArrayT
    point_directed: ArrayT


def map_groups(fn: Callable[..., ResultT], *tensors: Multitensor[Any]) -> Multitensor[ResultT]:
    """Applies `fn(group, array, ...)` to every group."""
    return Multitensor(*(fn(group, *arrays) for group, *arrays in zip(GROUPS, *tensors, strict=True)))


def flattened(tensor: Multitensor[Any], shape: Shape) -> Multitensor[Any]:
    """Packed arrays as the layers have them: all axes between color and direction are one, of places."""
    lead = lambda group: len(group.leading(shape))  # noqa: E731
    return map_groups(lambda group, a: a.reshape(*group.flat(shape), *a.shape[lead(group) :]), tensor)


def unflattened(tensor: Multitensor[Any], shape: Shape) -> Multitensor[Any]:
    """The inverse of `flattened`."""
    return map_groups(lambda group, a: a.reshape(*group.leading(shape), *a.shape[2:]), tensor)


@functools.lru_cache(maxsize=256)
def row_sets(group: Group, shape: Shape) -> Float[np.ndarray, "rows sets"]:
    """One-hot table [rows, sets]: the weight set of each row (flattened row axes).

    Rows are color slots, and for points (color slot, example slot) pairs. A row that
    belongs to no valid type is all zero.
    """
    c, e = shape.colors + 1, shape.examples + 1
    color = np.zeros((c, 2))
    color[0, 0] = 1
    color[1:, 1] = 1
    if group.space != "point":
        return color
    example = np.zeros((e, 2))
    example[0, 0] = 1
    example[1:, 1] = 1
    table = np.einsum("ac,be->abce", color, example).reshape(c * e, 4)
    return table[:, 2:] if not group.directed else table


@functools.lru_cache(maxsize=256)
def norm_rows(group: Group, shape: Shape) -> Float[np.ndarray, "rows types"]:
    """One-hot table [rows, types]: which entries are normalized together.

    As `row_sets`, except that lines have one row per (color slot, place), since rows
    and columns share weights but not statistics.
    """
    if group.space != "line":
        return row_sets(group, shape)
    axis = np.zeros((shape.x + shape.y, shape.examples, 2))
    axis[: shape.x, :, 0] = 1
    axis[shape.x :, :, 1] = 1
    color = row_sets(group, shape)
    return np.einsum("ac,pe->apce", color, axis.reshape(-1, 2)).reshape(-1, 4)


def norm_types(group: Group) -> tuple[str, ...]:
    """The types behind the columns of `norm_rows`."""
    if group.space != "line":
        return group.types
    d = "1" if group.directed else "0"
    return tuple(f"1{c}{d}{xy}" for c in "01" for xy in ("10", "01"))


def unpack(tensor: Multitensor, shape: Shape) -> dict[str, Any]:
    """The 18 tensors by type code, axes in canonical order, channel last.

    Works on NumPy and JAX arrays alike. Plain point arrays may come with or without
    their unused slot 0.
    """
    c, x = shape.colors, shape.x
    out: dict[str, Any] = {}
    for group, array in zip(GROUPS, tensor, strict=True):
        d = "1" if group.directed else "0"
        tail = (-2, -1) if group.directed else (-1,)
        for bit, part in (("0", array[0]), ("1", array[-c:])):
            color_first = bit == "1"
            if group.space == "plane":
                out[f"1{bit}{d}11"] = _canonical(part, color_first, 2, tail)
            elif group.space == "line":
                out[f"1{bit}{d}10"] = _canonical(part[..., :x, :, *_all(tail)], color_first, 1, tail)
                out[f"1{bit}{d}01"] = _canonical(part[..., x:, :, *_all(tail)], color_first, 1, tail)
            elif group.directed or color_first:
                out[f"0{bit}{d}00"] = part[..., 0, *_all(tail)]
                out[f"1{bit}{d}00"] = _canonical(part[..., 1:, *_all(tail)], color_first, 0, tail)
    return {code: out[code] for code in TYPES}


def _all(tail: tuple[int, ...]) -> tuple[slice, ...]:
    return (slice(None),) * len(tail)


def _canonical(array: Any, color_first: bool, positions: int, tail: tuple[int, ...]) -> Any:
    """(color?, positions.., example, direction?, k) -> (example, color?, direction?, positions.., k)."""
    start = 1 if color_first else 0
    example = start + positions
    order = (
        [example]
        + ([0] if color_first else [])
        + ([example + 1] if len(tail) == 2 else [])
        + list(range(start, example))
        + [array.ndim - 1]
    )
    return array.transpose(order)


def pack(tensors: Mapping[str, Any], shape: Shape) -> Multitensor:
    """Inverse of `unpack`, for NumPy arrays; slot 0 of the plain points is left out."""

    def packed(group: Group) -> Shaped[np.ndarray, "..."]:
        d = "1" if group.directed else "0"
        slots = []
        for bit in "01":
            color = bit == "1"
            if group.space == "plane":
                slots.append(_outermost(tensors[f"1{bit}{d}11"], color, 2, group.directed))
            elif group.space == "line":
                both = [
                    _outermost(tensors[f"1{bit}{d}{xy}"], color, 1, group.directed) for xy in ("10", "01")
                ]
                slots.append(np.concatenate(both, axis=1))
            elif group.directed or color:
                absent = np.asarray(tensors[f"0{bit}{d}00"])
                absent = absent[:, None] if color else absent[None, None]
                present = _outermost(tensors[f"1{bit}{d}00"], color, 0, group.directed)
                slots.append(np.concatenate([absent, present], axis=1))
        return np.concatenate(slots, axis=0)

    return Multitensor(*(packed(group) for group in GROUPS))


def _outermost(array: Any, color: bool, positions: int, directed: bool) -> Shaped[np.ndarray, "..."]:
    """(example, color?, direction?, positions.., k) -> (color or 1, positions.., example, direction?, k)."""
    array = np.asarray(array)
    first_position = 1 + color + directed
    order = (
        ([1] if color else [])
        + list(range(first_position, first_position + positions))
        + [0]
        + ([1 + color] if directed else [])
        + [array.ndim - 1]
    )
    array = array.transpose(order)
    return array if color else array[None]
