"""Multitensors: one tensor per valid set of axes, packed into few dense arrays.

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
the plain point array belongs to no valid type and is always zero. So latents are stored:
a `Multitensor` of six arrays.

The layers see what lies between color and direction as one axis, of places: [C+1, X * Y * E,
...] for planes. Lines and points, which are small, lie beside one another on it, as the margin of the
planes, [C+1, X * E + Y * E + 1 + E, ...]: four arrays, a `Stream`. A TPU stores the two innermost axes
in tiles of 8 x 128 numbers, and lays places innermost, of which there are hundreds, where channels are
8 or 16.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int, Shaped

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
class Packed:
    """One of the six arrays as they are stored."""

    name: str
    space: str
    directed: bool

    def leading(self, shape: Shape) -> tuple[int, ...]:
        """Axis lengths without direction and channel."""
        c, e = shape.colors + 1, shape.examples
        if self.space == "plane":
            return (c, shape.x, shape.y, e)
        if self.space == "line":
            return (c, shape.x + shape.y, e)
        return (c, e + 1)

    def axes(self, shape: Shape) -> tuple[int, ...]:
        """Axis lengths without channel."""
        return self.leading(shape) + ((DIRECTIONS,) if self.directed else ())

    @property
    def without_slot(self) -> bool:
        """Whether the array is stored without slot 0, which no type owns."""
        return self.space == "point" and not self.directed


PLANE = Packed("plane", "plane", False)
PLANE_DIRECTED = Packed("plane_directed", "plane", True)
LINE = Packed("line", "line", False)
LINE_DIRECTED = Packed("line_directed", "line", True)
POINT = Packed("point", "point", False)
POINT_DIRECTED = Packed("point_directed", "point", True)
PACKED = (PLANE, PLANE_DIRECTED, LINE, LINE_DIRECTED, POINT, POINT_DIRECTED)


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """One array of the residual stream: which types it holds and where their weights are.

    `types` lists the weight sets in storage order; `sets` is the slice of the weight
    stacks (directed or plain) that belongs to this group.
    """

    name: str
    plane: bool  # or the margin: rows, columns, the place of no example, and those of examples
    packed: tuple[Packed, ...]  # what lies beside one another along the axis of places
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

    def flat(self, shape: Shape) -> tuple[int, int]:
        """Numbers of color slots and of places."""
        return shape.colors + 1, sum(math.prod(packed.leading(shape)[1:]) for packed in self.packed)

    def kinds(self, places: int, shape: Shape, *, columns: bool = False) -> tuple[int, ...]:
        """How many of an array's places, one after another, have the same weights.

        places: of an array that may have been summed along its rows and columns. columns: their
        weights are others than those of rows.
        """
        if self.plane:
            return (places,)
        points = shape.examples + 1
        if columns:
            return (shape.x * shape.examples, shape.y * shape.examples, 1, shape.examples)
        return (places - points, 1, points - 1)

    def by_slot(self, shape: Shape) -> bool:
        """Whether a layer's weights are laid out for each color slot, or once for all colors.

        On small arrays a product for each slot is fewest kernels. On large ones two products are twice as
        fast on a CPU: one of all slots with the weights of colors, and slot 0 anew.
        """
        return math.prod(self.flat(shape)) * self.copies * self.width < _BATCHED


_BATCHED = 1 << 16

_PLANE_TYPES, _MARGIN_TYPES = ("10011", "11011"), ("10010", "11010", "01000", "11000")
_PLANE_DIRECTED_TYPES = ("10111", "11111")
_MARGIN_DIRECTED_TYPES = ("10110", "11110", "00100", "10100", "01100", "11100")
PLANES = Group("planes", True, (PLANE,), False, _PLANE_TYPES, slice(0, 2))
PLANES_DIRECTED = Group("planes_directed", True, (PLANE_DIRECTED,), True, _PLANE_DIRECTED_TYPES, slice(0, 2))
MARGIN = Group("margin", False, (LINE, POINT), False, _MARGIN_TYPES, slice(2, 6))
MARGIN_DIRECTED = Group(
    "margin_directed", False, (LINE_DIRECTED, POINT_DIRECTED), True, _MARGIN_DIRECTED_TYPES, slice(2, 8)
)
GROUPS = (PLANES, PLANES_DIRECTED, MARGIN, MARGIN_DIRECTED)
PLAIN_SETS = PLANES.types + MARGIN.types
DIRECTED_SETS = PLANES_DIRECTED.types + MARGIN_DIRECTED.types


def largest_array(shape: Shape) -> int:
    """Numbers in the largest array of the residual stream."""
    return math.prod(PLANE_DIRECTED.axes(shape)) * DIRECTED_WIDTH


KEPT_ELEMENTS = {"cpu": 1 << 15, "gpu": 1 << 22, "tpu": 1 << 15}
"""Above this size of the largest array, of all lanes on GPUs, the backward pass computes each block again.

On CPUs, keeping what a block computed would cost more in copies than it saves. On GPUs it saves a
fourth of the kernels, 3 ms, and moves a kilobyte more for each number of the largest array.
"""


class Multitensor(NamedTuple, Generic[ArrayT]):
    """Six packed arrays, in the order of `PACKED`."""

    plane: ArrayT
    plane_directed: ArrayT
    line: ArrayT
    line_directed: ArrayT
    point: ArrayT
    point_directed: ArrayT


class Stream(NamedTuple, Generic[ArrayT]):
    """Something for each group, in the order of `GROUPS`: of arrays [slots, places, direction?, channel]."""

    planes: ArrayT
    planes_directed: ArrayT
    margin: ArrayT
    margin_directed: ArrayT


def map_groups(fn: Callable[..., ResultT], *streams: Stream[Any]) -> Stream[ResultT]:
    """Applies `fn(group, array, ...)` to every group."""
    return Stream(*(fn(group, *arrays) for group, *arrays in zip(GROUPS, *streams, strict=True)))


def unflattened(stream: Stream[Any], shape: Shape) -> Multitensor[Any]:
    """A stream as packed arrays, all with slot 0; `decode.flattened` is the inverse."""
    out = {}
    for group, array in zip(GROUPS, stream, strict=True):
        start = 0
        for packed in group.packed:
            lead = packed.leading(shape)
            end = start + math.prod(lead[1:])
            out[packed] = array[:, start:end].reshape(*lead, *array.shape[2:])
            start = end
    return Multitensor(*(out[packed] for packed in PACKED))


_ALONG = {True: ("1..11",), False: ("1..10", "1..01", "0..00", "1..00")}
"""Types by kind of place, in planes and in the margin: e..xy."""


def _type_table(group: Group) -> list[list[str]]:
    """Type codes [without color, with color][kind of place: rows, columns, no example, examples]."""
    d = "1" if group.directed else "0"
    return [[kind.replace("..", color + d) for kind in _ALONG[group.plane]] for color in "01"]


def norm_types(group: Group) -> tuple[str, ...]:
    """The types whose entries are normalized together."""
    return tuple(code for codes in _type_table(group) for code in codes if code in TYPES)


def _one_hot(group: Group, shape: Shape, chosen: list[list[int]], n: int) -> Float[np.ndarray, "rows n"]:
    """Index [color?][kind of place] of each row, negative for none, as a table of zeros and ones."""
    present = (np.arange(shape.colors + 1) > 0).astype(int)
    kinds = [0] if group.plane else np.repeat(range(4), group.kinds(0, shape, columns=True))
    index = np.array(chosen)[present][:, kinds].ravel()
    return np.where(index[:, None] >= 0, np.eye(n)[index], 0.0)


@functools.lru_cache(maxsize=256)
def row_sets(group: Group, shape: Shape) -> Float[np.ndarray, "rows sets"]:
    """One-hot table [rows, sets]: the weight set of each row.

    Rows are color slots, and in the margin (color slot, place) pairs. A row that
    belongs to no valid type is all zero.
    """
    sets = [[_set_index(group, code) for code in codes] for codes in _type_table(group)]
    return _one_hot(group, shape, sets, len(group.types))


def _set_index(group: Group, code: str) -> int:
    return group.types.index(tied_to(code)) if code in TYPES else -1


@functools.lru_cache(maxsize=256)
def norm_rows(group: Group, shape: Shape) -> Float[np.ndarray, "rows types"]:
    """One-hot table [rows, types]: which entries are normalized together.

    As `row_sets`, but rows and columns share weights and not statistics.
    """
    listed = norm_types(group)
    types = [[listed.index(code) if code in TYPES else -1 for code in codes] for codes in _type_table(group)]
    return _one_hot(group, shape, types, len(listed))


def slot_sets(group: Group, shape: Shape) -> Int[np.ndarray, "slots kinds"]:
    """The weight set of each color slot and kind of place (`Group.kinds`), -1 for none.

    slots: all, or if not `Group.by_slot` that without color and one with it.
    """
    kinds = [0] if group.plane else [0, 2, 3]  # columns have the weights of rows
    plain, colored = ([_set_index(group, codes[kind]) for kind in kinds] for codes in _type_table(group))
    return np.array([plain] + [colored] * (shape.colors if group.by_slot(shape) else 1))


def unpack(tensor: Multitensor, shape: Shape) -> dict[str, Any]:
    """The 18 tensors by type code, axes in canonical order, channel last.

    Works on NumPy and JAX arrays alike. Plain point arrays may come with or without
    their unused slot 0.
    """
    c, x = shape.colors, shape.x
    out: dict[str, Any] = {}
    for group, array in zip(PACKED, tensor, strict=True):
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

    def packed(group: Packed) -> Shaped[np.ndarray, "..."]:
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

    return Multitensor(*(packed(group) for group in PACKED))


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
