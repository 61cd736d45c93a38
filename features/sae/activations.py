"""Where activations for training come from: an array, or a language model run as it goes.

Which tokens a step sees depends on the step and the seed alone, so that an interrupted training goes on as
if it had not been interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Real, Shaped

from features.arrays import AnyArray

_SAMPLE = 8192  # tokens that set biases and scale


@runtime_checkable
class ActivationSource(Protocol):
    """Activations by training step."""

    d_in: int

    def sample(self) -> Float[np.ndarray, "n d_in"]:
        """Some activations, always the same."""
        ...

    def batches(self, first_step: int, steps: int, batch: int) -> Float[np.ndarray, "steps batch d_in"]:
        """Activations for steps first_step ..."""
        ...

    def plan(self, batch: int) -> str:
        """In words, what memory it takes."""
        ...


class CachedActivations:
    """Activations in an array, or a memory-mapped file: np.load("x.npy", mmap_mode="r").

    Every epoch is a new order of all rows.
    Raises: ValueError for shapes other than (tokens, d_in) and values that are not finite or constant.
    """

    def __init__(self, array: Shaped[AnyArray, "..."], *, seed: int = 0) -> None:
        from features.sae.config import SAEConfig
        from features.sae.model import check_activations

        array = array if isinstance(array, np.ndarray) else np.asarray(array)
        if array.ndim != 2:
            raise ValueError(f"activations have shape {array.shape}, expected (tokens, d_in)")
        check_activations(SAEConfig(array.shape[1], 1), array)
        self.array: Real[np.ndarray, "tokens d_in"] = array
        self.d_in = array.shape[1]
        self.seed = seed
        self._held: tuple[int, Int[np.ndarray, " tokens"]] = (-1, np.empty(0, int))

    def sample(self) -> Float[np.ndarray, "n d_in"]:
        rows = np.random.default_rng(self.seed).integers(0, len(self.array), min(_SAMPLE, len(self.array)))
        return np.asarray(self.array[np.sort(rows)], np.float32)

    def _order(self, epoch: int) -> Int[np.ndarray, " tokens"]:
        if self._held[0] != epoch:
            self._held = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.array)))
        return self._held[1]

    def batches(self, first_step: int, steps: int, batch: int) -> Float[np.ndarray, "steps batch d_in"]:
        size = len(self.array)
        wanted = np.arange(first_step * batch, (first_step + steps) * batch)
        epochs = wanted // size
        rows = np.concatenate(
            [self._order(e)[wanted[epochs == e] % size] for e in range(epochs[0], epochs[-1] + 1)]
        )
        return np.asarray(self.array[rows], np.float32).reshape(steps, batch, self.d_in)

    def plan(self, batch: int) -> str:
        size = len(self.array) * self.d_in * self.array.dtype.itemsize / 1e9
        kind = "memory-mapped" if isinstance(self.array, np.memmap) else "in memory"
        return f"{len(self.array):,} cached activations of width {self.d_in}: {size:.2f} GB {kind}"


class StreamedActivations:
    """Residual states of a language model, computed while training, mixed within a buffer.

    The buffer holds the tokens of `buffer` sequences; it is emptied once in a random order and refilled.
    Sequences are taken in order and begin anew after the last.

    Args: run: compiled function from tokens (batch, length) to activations (batch, length, d_in).
      tokens: (sequences, length) ids. skip: positions at the start of each sequence that are left out
      (position 0 is an attention sink with a norm of thousands). buffer: sequences at a time.
    Raises: ValueError for tokens of another shape or none, and sizes below 1.
    """

    def __init__(
        self,
        run: Callable[[Int[Array, "batch length"]], Float[Array, "batch length d_in"]],
        tokens: Int[AnyArray, "..."] | Sequence[Sequence[int]],
        d_in: int,
        *,
        buffer: int = 256,
        run_batch: int = 32,
        skip: int = 1,
        seed: int = 0,
    ) -> None:
        self.tokens = np.asarray(tokens, np.int32)
        if self.tokens.ndim != 2 or self.tokens.shape[1] <= skip or not len(self.tokens):
            raise ValueError(
                f"tokens have shape {self.tokens.shape}, expected (sequences, length > skip={skip})"
            )
        if buffer < 1 or run_batch < 1:
            raise ValueError(f"buffer={buffer}, run_batch={run_batch}: expected at least one sequence each")
        self.run, self.d_in, self.skip, self.seed = run, d_in, skip, seed
        self.run_batch = min(run_batch, len(self.tokens), buffer)
        self.buffer = buffer - buffer % self.run_batch
        self._held: tuple[int, Float[np.ndarray, "tokens d_in"]] = (-1, np.empty((0, d_in), np.float32))

    @property
    def _per_buffer(self) -> int:
        return self.buffer * (self.tokens.shape[1] - self.skip)

    def _filled(self, number: int) -> Float[np.ndarray, "tokens d_in"]:
        if self._held[0] == number:
            return self._held[1]
        rows = (number * self.buffer + np.arange(self.buffer)) % len(self.tokens)
        parts = []
        for start in range(0, self.buffer, self.run_batch):
            found = self.run(jnp.asarray(self.tokens[rows[start : start + self.run_batch]]))
            parts.append(np.asarray(found, np.float32)[:, self.skip :].reshape(-1, self.d_in))
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise ValueError("the model's activations are not finite")
        np.random.default_rng([self.seed, number]).shuffle(found)
        self._held = (number, found)
        return found

    def sample(self) -> Float[np.ndarray, "n d_in"]:
        return self._filled(0)[:_SAMPLE]

    def batches(self, first_step: int, steps: int, batch: int) -> Float[np.ndarray, "steps batch d_in"]:
        size = self._per_buffer
        wanted = np.arange(first_step * batch, (first_step + steps) * batch)
        parts = [
            self._filled(n)[wanted[wanted // size == n] % size]
            for n in range(wanted[0] // size, wanted[-1] // size + 1)
        ]
        return np.concatenate(parts).reshape(steps, batch, self.d_in)

    def plan(self, batch: int) -> str:
        held = self._per_buffer * self.d_in * 4 / 1e9
        return (
            f"{self.tokens.size:,} tokens in sequences of {self.tokens.shape[1]}, run as training goes: "
            f"a buffer of {self._per_buffer:,} activations of width {self.d_in}, {held:.2f} GB; "
            "nothing on disk"
        )


class FreshSamples:
    """Activations drawn anew for every step by a function (rng, n) -> (n, d_in): synthetic benchmarks."""

    def __init__(
        self,
        draw: Callable[[np.random.Generator, int], Float[np.ndarray, "n d_in"]],
        d_in: int,
        *,
        seed: int = 0,
    ) -> None:
        self.draw, self.d_in, self.seed = draw, d_in, seed

    def sample(self) -> Float[np.ndarray, "n d_in"]:
        return self.draw(np.random.default_rng([self.seed, 0]), _SAMPLE)

    def batches(self, first_step: int, steps: int, batch: int) -> Float[np.ndarray, "steps batch d_in"]:
        return np.stack(
            [
                self.draw(np.random.default_rng([self.seed, 1 + s]), batch)
                for s in range(first_step, first_step + steps)
            ]
        )

    def plan(self, batch: int) -> str:
        return f"fresh samples of width {self.d_in}, {batch} a step"
