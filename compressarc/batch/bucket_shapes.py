"""Rooms: arrays that several puzzles fit in, and how a puzzle is laid into one.

A room is a `Signature` whose flags are data: one compiled program serves every puzzle that
fits, whatever its sizes, size rules and numbers of train and test pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from compressarc.multitensor import Multitensor, Shape
from compressarc.network.inputs import Grids, Signature, grids, segment_signs, segments, signature
from compressarc.network.layers.share import PixelMeans
from compressarc.network.padding import Padding, latent_masks, noise_places, positions, present
from compressarc.network.parameters import Params, posterior_shapes
from compressarc.puzzle import Canvas
from compressarc.solver.candidates import TestOutputs

if TYPE_CHECKING:
    from compressarc.solver.step import Run


def room_for(statics: Iterable[Signature]) -> Signature:
    """The smallest room that all these puzzles fit in."""
    statics = list(statics)
    shape = Shape(*(max(getattr(s.shape, f.name) for s in statics) for f in dataclasses.fields(Shape)))
    return Signature(
        shape=shape,
        num_train=shape.examples,  # every output has a place among the known grids
        uncertain_inputs=True,
        uncertain_outputs=True,
        size_known=False,
        placements=(max(s.placements[0] for s in statics), max(s.placements[1] for s in statics)),
        tests=max(s.num_test for s in statics),
    )


def common_room(statics: Iterable[Signature]) -> Signature:
    """The puzzles' own signature if they all share it, so that nothing is padded; else `room_for` them."""
    statics = list(statics)
    return statics[0] if len(set(statics)) == 1 else room_for(statics)


def fits(static: Signature, room: Signature) -> bool:
    """Whether a puzzle can be laid into a room."""
    if room.tests is None:  # no room, but a puzzle's own signature
        return static == room
    return room_for([static, room]) == room


def _pad(a: np.ndarray, shape: tuple[int, ...], fill: float = 0) -> np.ndarray:
    """The array in the corner of a larger one."""
    out = np.full(shape, fill, a.dtype)
    out[tuple(slice(n) for n in a.shape)] = a
    return out


def _all_grids(a: np.ndarray, static: Signature, room: Signature, shape: tuple[int, ...], fill: float = 0):
    """[own grids, ...] -> [all inputs, all outputs, ...]; fill where there is no known grid."""
    e, examples = static.shape.examples, room.shape.examples
    out = np.full((2 * examples, *shape), fill, a.dtype)
    corner = tuple(slice(n) for n in a.shape[1:])
    out[(slice(e), *corner)] = a[:e]
    out[(slice(examples, examples + static.num_train), *corner)] = a[e:]
    return out


def _segments(own: int, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signs, validity and spans of all segments of a line of `own`, with room for those of `room`."""
    spans = segments(own)
    count = len(segments(room))
    signs = _pad(segment_signs(spans, own), (count, room))
    valid = _pad(np.zeros(len(spans)), (count,), -np.inf)
    return signs, valid, _pad(spans.astype(float), (count, 2), 1)


def padded_grids(canvas: Canvas, room: Signature, dtype=np.float32) -> Grids:
    """What the program reads of one puzzle, laid into a room. NumPy arrays.

    In a room that is the puzzle's own signature nothing is padded, and `Grids.padding` is None.

    Raises: ValueError if the puzzle does not fit.
    """
    static = signature(canvas)
    if not fits(static, room):
        raise ValueError(f"a puzzle of {static} does not fit into {room}")
    if static == room:
        return grids(canvas, dtype, as_numpy=True)
    own, s = static.shape, room.shape
    plain = grids(canvas, np.float64, as_numpy=True)
    e, x, y, c = s.examples, s.x, s.y, s.colors + 1
    offsets, tests = room.placements, room.num_test

    target = plain.target.reshape(-1, own.colors + 1, own.y, own.x, static.placements[1])
    target = _all_grids(target, static, room, (c, y, x, offsets[1])).reshape(2 * e, c * y, x * offsets[1])
    valid = _all_grids(plain.valid, static, room, offsets, -np.inf)
    known = np.zeros(2 * e)
    known[: own.examples] = 1
    known[e : e + static.num_train] = 1
    valid[known == 0, 0, 0] = 0  # a grid that is none must not make infinities
    uncertain = np.repeat([static.uncertain_inputs, static.uncertain_outputs], e) * known

    segments_x, segments_y = _segments(own.x, x), _segments(own.y, y)

    def crops(signs: np.ndarray, free: np.ndarray, spans: np.ndarray, count: int, n: int):
        filler = tests - len(signs)  # test outputs that are none: the first crop of the first one
        rows = [
            _pad(a, (len(a), count, *more), f)
            for a, more, f in ((signs, (n,), 0), (free, (), -np.inf), (spans, (2,), 1))
        ]
        return [np.concatenate([a, np.repeat(a[:1], filler, 0)]) for a in rows]

    crop_x, free_x, span_x = crops(plain.crop_x, plain.crop_x_valid, plain.crop_x_span, len(segments_x[0]), x)
    crop_y, free_y, span_y = crops(plain.crop_y, plain.crop_y_valid, plain.crop_y_span, len(segments_y[0]), y)
    share = np.zeros(tests)
    share[: static.num_test] = 1 / static.num_test
    index = np.full(tests, static.num_train)
    index[: static.num_test] += np.arange(static.num_test)
    masks = present(own, s)
    padding = Padding(
        plane=masks["plane"],
        line=masks["line"],
        point=masks["point"],
        positions=positions(own),
        color_share=np.array(1 / own.colors),
        example_share=np.array(1 / own.examples),
        known=known,
        uncertain=uncertain,
        segments_x=segments_x[0],
        segments_y=segments_y[0],
        segments_x_valid=segments_x[1],
        segments_y_valid=segments_y[1],
        tests=index.astype(np.int32),
        test_share=share,
        noise=noise_places(own, s),
    )
    out = Grids(
        union=_pad(plain.union, (x, y, e)),
        means=PixelMeans(
            plane_y=_pad(plain.means.plane_y, (x, y, e)),
            plane_x=_pad(plain.means.plane_x, (x, y, e)),
            row_x=_pad(plain.means.row_x, (x, e)),
            column_y=_pad(plain.means.column_y, (y, e)),
        ),
        x_offset=_pad(plain.x_offset, (e, x)),
        y_offset=_pad(plain.y_offset, (e, y)),
        target=target,
        signs_x=_all_grids(plain.signs_x, static, room, (offsets[0], x)),
        signs_y=_all_grids(plain.signs_y, static, room, (offsets[1], y)),
        valid=valid,
        crop_x=crop_x,
        crop_y=crop_y,
        crop_x_valid=free_x,
        crop_y_valid=free_y,
        crop_x_span=span_x,
        crop_y_span=span_y,
        padding=padding,
    )

    def cast(a: np.ndarray) -> np.ndarray:
        return a if a.dtype == np.int32 else a.astype(dtype)

    return Grids(*(type(v)(*map(cast, v)) if isinstance(v, tuple) else cast(v) for v in out))


def _map_shaped(run: Any, latent: Callable[[Multitensor], Multitensor], ema: Callable[[Any], Any]) -> Any:
    """Applies functions to what depends on the puzzle's shape: latents (moments included), averages."""

    def params(p: Params) -> Params:
        posterior = p.posterior
        return p._replace(
            posterior=posterior._replace(mean=latent(posterior.mean), local=latent(posterior.local))
        )

    is_params = lambda node: isinstance(node, Params)  # noqa: E731
    optimizer = jax.tree.map(
        lambda node: params(node) if is_params(node) else node, run.optimizer, is_leaf=is_params
    )
    return run._replace(params=params(run.params), optimizer=optimizer, ema=ema(run.ema))


def without_padding(run: Run, static: Signature, room: Signature) -> Run:
    """A run's state (host arrays) as it would be without padding; `with_padding` is its inverse."""
    if static == room:
        return run
    masks, shapes = latent_masks(static.shape, room.shape), posterior_shapes(static.shape)

    def latent(packed: Multitensor) -> Multitensor:
        parts = zip(packed, masks, shapes, strict=True)
        return Multitensor(*(np.asarray(a)[m].reshape(s) for a, m, s in parts))

    own, tests = static.shape, static.num_test

    def ema(average: TestOutputs) -> TestOutputs:
        logits = average.logits[: own.colors + 1, : own.x, : own.y, :tests]
        return TestOutputs(logits, average.x_mask[:tests, : own.x], average.y_mask[:tests, : own.y])

    return _map_shaped(run, latent, ema)


def with_padding(run: Run, static: Signature, room: Signature) -> Run:
    """A run's state laid into a room: host arrays, zeros beyond the puzzle."""
    if static == room:
        return run
    masks, s = latent_masks(static.shape, room.shape), room.shape

    def latent(packed: Multitensor) -> Multitensor:
        out = []
        for a, mask in zip(packed, masks, strict=True):
            laid = np.zeros(mask.shape, np.asarray(a).dtype)
            laid[mask] = np.asarray(a).ravel()
            out.append(laid)
        return Multitensor(*out)

    def ema(average: TestOutputs) -> TestOutputs:
        logits, x_mask, y_mask = (np.asarray(a) for a in average)
        t = room.num_test
        return TestOutputs(
            _pad(logits, (s.colors + 1, s.x, s.y, t)), _pad(x_mask, (t, s.x)), _pad(y_mask, (t, s.y))
        )

    return _map_shaped(run, latent, ema)
