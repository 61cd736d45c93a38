"""Rooms: arrays that several puzzles fit in, and how a puzzle is laid into one.

A room is a `Signature` whose flags are data: one compiled program serves every puzzle that
fits, whatever its sizes, size rules and numbers of train and test pairs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import DTypeLike, Float

from compressarc.multitensor import Multitensor, Shape
from compressarc.network.inputs import Grids, Signature, grids_on_host, segment_signs, segments, signature
from compressarc.network.layers.share import PixelMeans
from compressarc.network.padding import Padding, latent_masks, noise_places, positions, present
from compressarc.network.parameters import Params, posterior_shapes
from compressarc.puzzle import Canvas
from compressarc.solver.candidates import TestOutputs
from compressarc.solver.moments import as_trees, as_vectors
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


class _Segments(NamedTuple):
    """All segments of a line, with room for those of a longer one."""

    signs: Float[np.ndarray, "S n"]
    valid: Float[np.ndarray, " S"]  # 0, or -inf where there are no more segments

    @classmethod
    def of(cls, own: int, room: int) -> _Segments:
        spans = segments(own)
        count = len(segments(room))
        signs = _pad(segment_signs(spans, own), (count, room))
        return cls(signs, _pad(np.zeros(len(spans)), (count,), -np.inf))


@dataclasses.dataclass(frozen=True)
class _Layout:
    """A puzzle, and the room that it is laid into."""

    static: Signature
    room: Signature

    def all_grids(self, a: np.ndarray, shape: tuple[int, ...], fill: float = 0) -> np.ndarray:
        """[own grids, ...] -> [all inputs, all outputs, ...]; fill where there is no known grid."""
        e, examples = self.static.shape.examples, self.room.shape.examples
        out = np.full((2 * examples, *shape), fill, a.dtype)
        corner = tuple(slice(n) for n in a.shape[1:])
        out[(slice(e), *corner)] = a[:e]
        out[(slice(examples, examples + self.static.num_train), *corner)] = a[e:]
        return out

    @functools.cached_property
    def known(self) -> Float[np.ndarray, " G"]:
        """1 for the grids that the loss knows."""
        own, e = self.static, self.room.shape.examples
        known = np.zeros(2 * e)
        known[: own.shape.examples] = 1
        known[e : e + own.num_train] = 1
        return known

    def crops(self, a: np.ndarray, shape: tuple[int, ...], fill: float) -> np.ndarray:
        """[own tests, crops, ...] -> [tests of the room, *shape]; tests that are none repeat the first."""
        laid = _pad(a, (len(a), *shape), fill)
        return np.concatenate([laid, np.repeat(laid[:1], self.room.num_test - len(a), 0)])

    def target(self, target: Float[np.ndarray, "G CY XP"]) -> Float[np.ndarray, "GG CCYY XXPP"]:
        """One-hot targets with the room's colors, columns, rows and offsets."""
        own, s, offsets = self.static.shape, self.room.shape, self.room.placements[1]
        apart = target.reshape(-1, own.colors + 1, own.y, own.x, self.static.placements[1])
        laid = self.all_grids(apart, (s.colors + 1, s.y, s.x, offsets))
        return laid.reshape(len(laid), (s.colors + 1) * s.y, s.x * offsets)

    def padding(self) -> Padding[np.ndarray]:
        """What belongs to the puzzle."""
        static, s, tests = self.static, self.room.shape, self.room.num_test
        share, index = np.zeros(tests), np.full(tests, static.num_train)
        share[: static.num_test] = 1 / static.num_test
        index[: static.num_test] += np.arange(static.num_test)
        uncertain = np.repeat([static.uncertain_inputs, static.uncertain_outputs], s.examples)
        along_x, along_y = _Segments.of(static.shape.x, s.x), _Segments.of(static.shape.y, s.y)
        return Padding(
            **present(static.shape, s),
            positions=positions(static.shape),
            color_share=np.array(1 / static.shape.colors),
            example_share=np.array(1 / static.shape.examples),
            known=self.known,
            uncertain=uncertain * self.known,
            segments_x=along_x.signs,
            segments_y=along_y.signs,
            segments_x_valid=along_x.valid,
            segments_y_valid=along_y.valid,
            tests=index.astype(np.int32),
            test_share=share,
            noise=noise_places(static.shape, s),
        )

    def grids(self, plain: Grids[np.ndarray]) -> Grids[np.ndarray]:
        """The puzzle's own arrays in the corners of the room's."""
        s, offsets = self.room.shape, self.room.placements
        e, x, y = s.examples, s.x, s.y
        rows, columns = len(segments(x)), len(segments(y))
        valid = self.all_grids(plain.valid, offsets, -np.inf)
        valid[self.known == 0, 0, 0] = 0  # a grid that is none must not make infinities
        return Grids(
            union=_pad(plain.union, (x, y, e)),
            means=PixelMeans(
                plane_y=_pad(plain.means.plane_y, (x, y, e)),
                plane_x=_pad(plain.means.plane_x, (x, y, e)),
                row_x=_pad(plain.means.row_x, (x, e)),
                column_y=_pad(plain.means.column_y, (y, e)),
            ),
            x_offset=_pad(plain.x_offset, (e, x)),
            y_offset=_pad(plain.y_offset, (e, y)),
            target=self.target(plain.target),
            signs_x=self.all_grids(plain.signs_x, (offsets[0], x)),
            signs_y=self.all_grids(plain.signs_y, (offsets[1], y)),
            valid=valid,
            crop_x=self.crops(plain.crop_x, (rows, x), 0),
            crop_y=self.crops(plain.crop_y, (columns, y), 0),
            crop_x_valid=self.crops(plain.crop_x_valid, (rows,), -np.inf),
            crop_y_valid=self.crops(plain.crop_y_valid, (columns,), -np.inf),
            crop_x_span=self.crops(plain.crop_x_span, (rows, 2), 1),
            crop_y_span=self.crops(plain.crop_y_span, (columns, 2), 1),
            padding=self.padding(),
        )


def padded_grids(canvas: Canvas, room: Signature, dtype: DTypeLike = np.float32) -> Grids[np.ndarray]:
    """What the program reads of one puzzle, laid into a room. NumPy arrays.

    In a room that is the puzzle's own signature nothing is padded, and `Grids.padding` is None.

    Raises: ValueError if the puzzle does not fit.
    """
    static = signature(canvas)
    if not fits(static, room):
        raise ValueError(f"a puzzle of {static} does not fit into {room}")
    if static == room:
        return grids_on_host(canvas, dtype)
    laid = _Layout(static, room).grids(grids_on_host(canvas, np.float64))
    return jax.tree.map(lambda a: a if a.dtype == np.int32 else a.astype(dtype), laid)


HostRun = Run[np.ndarray]
Latents = Multitensor[np.ndarray]
Averages = TestOutputs[np.ndarray]


def _map_shaped(
    run: HostRun, latent: Callable[[Latents], Latents], ema: Callable[[Averages], Averages]
) -> HostRun:
    """Applies functions to what depends on the puzzle's shape: latents (moments included), averages."""

    def params(p: Params[np.ndarray]) -> Params[np.ndarray]:
        posterior = p.posterior
        return p._replace(
            posterior=posterior._replace(mean=latent(posterior.mean), local=latent(posterior.local))
        )

    run = as_trees(run)
    is_params = lambda node: isinstance(node, Params)  # noqa: E731
    optimizer = jax.tree.map(
        lambda node: params(node) if is_params(node) else node, run.optimizer, is_leaf=is_params
    )
    return as_vectors(run._replace(params=params(run.params), optimizer=optimizer, ema=ema(run.ema)))


def without_padding(run: HostRun, static: Signature, room: Signature) -> HostRun:
    """A run's state (host arrays) as it would be without padding; `with_padding` is its inverse."""
    if static == room:
        return run
    masks, shapes = latent_masks(static.shape, room.shape), posterior_shapes(static.shape)

    def latent(packed: Latents) -> Latents:
        parts = zip(packed, masks, shapes, strict=True)
        return Multitensor(*(np.asarray(a)[m].reshape(s) for a, m, s in parts))

    own, tests = static.shape, static.num_test

    def ema(average: Averages) -> Averages:
        logits = average.logits[: own.colors + 1, : own.x, : own.y, :tests]
        return TestOutputs(logits, average.x_mask[:tests, : own.x], average.y_mask[:tests, : own.y])

    return _map_shaped(run, latent, ema)


def with_padding(run: HostRun, static: Signature, room: Signature) -> HostRun:
    """A run's state laid into a room: host arrays, zeros beyond the puzzle."""
    if static == room:
        return run
    masks, s = latent_masks(static.shape, room.shape), room.shape

    def latent(packed: Latents) -> Latents:
        out = []
        for a, mask in zip(packed, masks, strict=True):
            laid = np.zeros(mask.shape, np.asarray(a).dtype)
            laid[mask] = np.asarray(a).ravel()
            out.append(laid)
        return Multitensor(*out)

    def ema(average: Averages) -> Averages:
        logits, x_mask, y_mask = (np.asarray(a) for a in average)
        t = room.num_test
        return TestOutputs(
            _pad(logits, (s.colors + 1, s.x, s.y, t)), _pad(x_mask, (t, s.x)), _pad(y_mask, (t, s.y))
        )

    return _map_shaped(run, latent, ema)
