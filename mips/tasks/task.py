"""What a task is: an alphabet, a length, a distribution of inputs and a reference solution."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int, Shaped

Inputs = Int[np.ndarray, "count length inputs"]
Outputs = Int[np.ndarray, "count length outputs"]
LongInputs = Int[np.ndarray, "long_count long_length inputs"]
LongOutputs = Int[np.ndarray, "long_count long_length outputs"]
Sequences = Int[np.ndarray, "count length channels"]  # where inputs and outputs are treated alike
Channel = Int[np.ndarray, "count length 1"]  # inputs or outputs of one value a step
Step = Int[np.ndarray, " count"]  # one value of each sequence, at one step

State = TypeVar("State")

MISSING = int(np.iinfo(np.int64).min)
"""Stands in recorded outputs where nothing was recorded: before the last step, or after a sequence's end."""


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A causal sequence-to-sequence function over integers (paper, section 4).

    Output t depends on the inputs 1 to t alone, so `reference` is asked for whole sequences and
    prefixes agree. Inputs are int64 arrays (count, length, inputs), outputs (count, length, outputs).
    """

    name: str
    """any text; it labels results and decides nothing"""
    reference: Callable[[Inputs], Outputs] | None
    """the solution: inputs to outputs; None for a task known by recorded sequences alone"""
    low: int
    """smallest input value"""
    high: int
    """input values are below this one"""
    inputs: int = 1
    """values read in a step"""
    outputs: int = 1
    """values written in a step"""
    length: int = 10
    """steps of a training sequence"""
    sampler: Callable[[np.random.Generator, int, int], Inputs] | None = None
    """draws (count, length) sequences; None for uniform values"""
    most_listed: int = 1 << 20
    """verification takes all sequences of the training length where there are no more than this"""
    description: str = ""
    """the rule, in words or a formula"""
    records: tuple[Inputs, Outputs] | None = None
    """recorded sequences, where there is no reference"""
    long_records: tuple[LongInputs, LongOutputs] | None = None
    """recorded sequences of greater length, if any"""
    noise: float = 0.0
    """expected share of recorded sequences that are wrong"""
    input_symbols: tuple[str, ...] = ()
    """what the numbers 0, 1, ... of the inputs stand for, where records are of symbols"""
    output_symbols: tuple[str, ...] = ()
    """the same for the outputs"""

    def __post_init__(self) -> None:
        if self.high <= self.low:
            raise ValueError(f"task {self.name!r}: high={self.high} must be above low={self.low}")
        for field in ("inputs", "outputs", "length"):
            if getattr(self, field) < 1:
                raise ValueError(f"task {self.name!r}: {field}={getattr(self, field)} must be at least 1")
        if not 0 <= self.noise < 0.5:
            raise ValueError(f"task {self.name!r}: noise={self.noise} must be at least 0 and below 0.5")
        if self.noise and self.records is None:
            raise ValueError(f"task {self.name!r}: noise is of recorded sequences, and there are none")
        if self.reference is None and self.records is None:
            raise ValueError(f"task {self.name!r}: give a reference solution or recorded sequences")

    @property
    def symbols(self) -> int:
        """Number of different inputs of a step, all channels together."""
        return (self.high - self.low) ** self.inputs

    @property
    def sequences(self) -> float:
        """Number of different input sequences of the training length (inf when beyond floats)."""
        return (
            math.pow(self.symbols, self.length) if self.length * math.log2(self.symbols) < 1000 else math.inf
        )

    @property
    def partial(self) -> bool:
        """Whether outputs are recorded at some steps alone."""
        return self.records is not None and bool((self.records[1] == MISSING).any())

    @property
    def recorded_steps(self) -> Int[np.ndarray, "steps inputs"] | None:
        """The different inputs of a step in the records; None where there is a reference."""
        if self.records is None:
            return None
        return np.unique(self.records[0].reshape(-1, self.inputs), axis=0)

    @property
    def defined_everywhere(self) -> bool:
        """Whether the solution can be asked about any sequence over the alphabet."""
        return self.reference is not None and self.sampler is None

    def draw(self, seed: int | tuple[int, ...], count: int, length: int | None = None) -> Inputs:
        """Input sequences from the task's distribution; equal seeds give equal sequences.

        Recorded tasks draw from their records, with repetition.
        """
        rng, length = np.random.default_rng(seed), length or self.length
        if self.reference is None:
            x, _ = self._records(length)
            return x[rng.integers(len(x), size=count)]
        if self.sampler is not None:
            return self.sampler(rng, count, length)
        return rng.integers(self.low, self.high, size=(count, length, self.inputs))

    def sample(
        self, seed: int | tuple[int, ...], count: int, length: int | None = None
    ) -> tuple[Inputs, Outputs]:
        """Input sequences and their true outputs."""
        if self.reference is None:
            x, y = self._records(length or self.length)
            rows = np.random.default_rng(seed).integers(len(x), size=count)
            return x[rows], y[rows]
        x = self.draw(seed, count, length)
        return x, self.solve(x)

    def solve(self, x: Inputs) -> Outputs:
        """True outputs. Raises ValueError if they are not of the form promised, or nobody knows them."""
        if self.reference is None:
            raise ValueError(f"task {self.name!r} is known by its recorded sequences alone")
        y = np.asarray(self.reference(np.asarray(x, np.int64)))
        want = (*x.shape[:2], self.outputs)
        if y.shape != want or not np.issubdtype(y.dtype, np.integer):
            raise ValueError(
                f"task {self.name!r}: the reference returned {y.dtype} of shape {y.shape} for inputs "
                f"of shape {x.shape}; integers of shape {want} were expected"
            )
        return y.astype(np.int64)

    def _records(self, length: int) -> tuple[Inputs, Outputs]:
        for x, y in filter(None, (self.records, self.long_records)):
            if x.shape[1] >= length:
                return x[:, :length], y[:, :length]
        raise ValueError(f"task {self.name!r}: no recorded sequences of length {length}")


def agree(
    given: Shaped[np.ndarray, "count length outputs"], recorded: Outputs
) -> Bool[np.ndarray, "count length"]:
    """Whether outputs are those recorded, step by step; where nothing is recorded, nothing is wrong."""
    return ((given == recorded) | (recorded == MISSING)).all(axis=2)


def scan(
    step: Callable[
        [State, Int[np.ndarray, "count inputs"]], tuple[State, Int[np.ndarray, " count *outputs"]]
    ],
    state: State,
    x: Inputs,
) -> Outputs:
    """Outputs of a recurrence: `step(state, inputs_t) -> (state, outputs_t)`, arrays over the batch."""
    outputs = []
    for t in range(x.shape[1]):
        state, y = step(state, x[:, t])
        outputs.append(np.asarray(y, np.int64).reshape(len(x), -1))
    return np.stack(outputs, axis=1)


def lagged(x: Sequences, lag: int) -> Sequences:
    """The inputs `lag` steps earlier; zeros before the start."""
    return x if lag == 0 else np.concatenate([np.zeros_like(x[:, :lag]), x], axis=1)[:, : x.shape[1]]
