"""Evidence for a program: fresh data, longer sequences, every sequence where they can be listed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

from mips.programs.program import Program
from mips.reading.machine_extraction import alphabet
from mips.tasks.skewed import skewed
from mips.tasks.task import MISSING, Inputs, Outputs, Task, agree

_FRESH, _LONG, _SKEWED = 20_000, 1_000, 400
_Untouched = Int[np.ndarray, "untouched_count length inputs"]
_UntouchedOutputs = Int[np.ndarray, "untouched_count length outputs"]


@dataclasses.dataclass(frozen=True)
class Counterexample:
    """A shortest input found on which program and task differ."""

    x: list[list[int]]
    """inputs, one list per step"""
    expected: list[int]
    """the task's outputs at the last step"""
    got: list[int] | None
    """the program's; None where it fails with an error"""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a program was checked on. Shares are of whole sequences; None: not checked."""

    fresh: float
    """share right at the training length, on sequences that no network was trained on"""
    fresh_count: int
    long: float | None
    """share right at four times the length, skewed sequences among them"""
    long_count: int
    long_length: int
    exhaustive: float | None
    """share right of all sequences of the training length, where these are few enough to list (2^20)"""
    counterexample: Counterexample | None
    recorded: float | None = None
    """share right of all recorded sequences of a recorded task, those that chose the program included"""
    recorded_count: int = 0
    skewed: float | None = None
    """share right of constant, sorted, sticky, ... sequences of the training length, where the task's
    solution can be asked about any sequence"""
    skewed_count: int = 0
    noise: float = 0.0
    """share of records that are expected to be wrong"""

    @property
    def exact(self) -> bool:
        """Right on everything that was checked, longer sequences included."""
        return self.long == 1.0 and self.right_at_its_length

    @property
    def right_at_its_length(self) -> bool:
        """Right on everything of the training length that was checked, wrong records apart."""
        fits = self._fits(self.fresh, self.fresh_count) and self._fits(self.recorded, self.recorded_count)
        return fits and all(share in (None, 1.0) for share in (self.exhaustive, self.skewed))

    def _fits(self, share: float | None, count: int) -> bool:
        """Whether all are right, or all but as many as records are expected to be wrong."""
        if share is None or share == 1.0:
            return True
        return self.noise > 0 and round((1 - share) * count) <= explained_by(self.noise, count)

    @property
    def error_bound(self) -> float:
        """Share of sequences of the training length that may be wrong, at 95 % confidence, by the fresh ones.

        The upper bound of Clopper and Pearson; where none of n is wrong about 3 / n. It is about sequences
        drawn as these were. 1 where there are none.
        """
        from scipy.stats import beta

        wrong = round((1 - self.fresh) * self.fresh_count)
        if wrong >= self.fresh_count:
            return 1.0
        return float(beta.ppf(0.95, wrong + 1, self.fresh_count - wrong))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self) | {"exact": self.exact, "error_bound": self.error_bound}


def right(program: Program, x: Inputs, y: Outputs) -> Bool[np.ndarray, " count"]:
    """Whether each sequence is right at every step; a sequence on which the program fails is wrong."""
    return np.asarray(~_wrong(y, *_outcome(program, x)).any(axis=1))


def _wrong(
    y: Outputs, outputs: Shaped[np.ndarray, "count length outputs"], codes: Int[np.ndarray, "count length"]
) -> Bool[np.ndarray, "count length"]:
    """Where outputs are not those recorded, or the program has failed; not after the last one recorded."""
    known = (y != MISSING).any(axis=2)
    until = np.logical_or.accumulate(known[:, ::-1], axis=1)[:, ::-1]
    return ~agree(outputs, y) | ((codes != 0) & until)


def explained_by(noise: float, count: int) -> int:
    """How many of `count` records may be wrong if each is with probability `noise` (99 % quantile)."""
    from scipy.stats import binom

    return int(binom.ppf(0.99, count, noise)) if count else 0


def _outcome(
    program: Program, x: Inputs
) -> tuple[Shaped[np.ndarray, "count length outputs"], Int[np.ndarray, "count length"]]:
    """Outputs and error codes; in unbounded integers where 64 bits turn out to be too few."""
    outputs, codes = program.attempt(x)
    if len(x):
        probe = x[:: max(1, len(x) // 32)]
        exact, _ = program.attempt(probe, exact=True)
        if not (exact == outputs[:: max(1, len(x) // 32)]).all():
            return program.attempt(x, exact=True)
    return outputs, codes


def all_sequences(task: Task, length: int) -> Inputs:
    """Every input sequence of a length (symbols ** length of them)."""
    letters = alphabet(task.low, task.high, task.inputs)
    number = np.arange(len(letters) ** length)
    digits = [number // len(letters) ** k % len(letters) for k in reversed(range(length))]
    return letters[np.stack(digits, axis=1)]


def verify(
    program: Program,
    task: Task,
    *,
    seed: int = 1_000_003,
    untouched: tuple[_Untouched, _UntouchedOutputs] | None = None,
) -> Report:
    """Checks a program against a task; `seed` is for the fresh sequences and should differ from training's.

    Fresh sequences at the training length (20,000), at four times that (1,000), and all of the training
    length where they are at most 2^20; skewed ones of both lengths where the solution can be asked about any
    sequence (400 each: see `mips.tasks.skewed`). A recorded task is checked on all its records.

    untouched: the part of a recorded task's records that counts as fresh, since nothing has used them; all
        of them if None. Where it is empty, `fresh` is 1 of 0 sequences.

    Raises ValueError where program and task differ in the number of inputs or outputs.
    """
    if len(program.inputs) != task.inputs or len(program.outputs) != task.outputs:
        raise ValueError(
            f"the program reads {len(program.inputs)} and writes {len(program.outputs)} values a step; "
            f"task {task.name!r} has {task.inputs} and {task.outputs}"
        )
    long_length = 4 * task.length
    if task.reference is None:
        assert task.records is not None
        x, y = task.records
        long = task.long_records
    else:
        x, y = task.sample((seed, 0), _FRESH)
        long = task.sample((seed, 1), _LONG, long_length)
        if task.defined_everywhere:
            odd = skewed(task, (seed, 3), _SKEWED, long_length)
            long = tuple(np.concatenate(pair) for pair in zip(long, (odd, task.solve(odd)), strict=True))
    hits = right(program, x, y)
    wrong = [(x[~hits], y[~hits])]
    share = exhaustive = recorded = odd_share = None
    odd_count = 0
    count = len(x)
    if task.defined_everywhere:
        odd = skewed(task, (seed, 2), _SKEWED, task.length)
        truth = task.solve(odd)
        odd_hits = right(program, odd, truth)
        odd_share, odd_count = float(odd_hits.mean()), len(odd)
        wrong.append((odd[~odd_hits], truth[~odd_hits]))
    if task.reference is None:
        recorded = float(hits.mean())
        hits = hits if untouched is None else right(program, *untouched)
    if long is not None:
        long_length = long[0].shape[1]
        long_hits = right(program, *long)
        share = float(long_hits.mean())
        wrong.append((long[0][~long_hits], long[1][~long_hits]))
    if task.reference is not None and task.sequences <= task.most_listed:
        every = all_sequences(task, task.length)
        truth = task.solve(every)
        every_hits = right(program, every, truth)
        exhaustive = float(every_hits.mean())
        wrong.append((every[~every_hits], truth[~every_hits]))
    example = _shortest(program, task, wrong)
    return Report(
        float(hits.mean()) if len(hits) else 1.0,
        len(hits),
        share,
        0 if long is None else len(long[0]),
        long_length,
        exhaustive,
        example,
        recorded,
        0 if recorded is None else count,
        odd_share,
        odd_count,
        task.noise,
    )


def _shortest(
    program: Program,
    task: Task,
    wrong: list[tuple[Int[np.ndarray, "_wrong _length inputs"], Int[np.ndarray, "_wrong _length outputs"]]],
) -> Counterexample | None:
    """The shortest failing prefix among wrong sequences, or a shorter one if listing finds it."""
    best: Counterexample | None = None
    for x, y in wrong:
        if len(x):
            found = _first_failure(program, x[:500], y[:500])
            if found is not None and (best is None or len(found.x) < len(best.x)):
                best = found
    if best is None or task.reference is None:
        return best
    for length in range(1, len(best.x)):
        if task.symbols**length > 1 << 16:
            break
        x = all_sequences(task, length)
        found = _first_failure(program, x, task.solve(x))
        if found is not None:
            return found
    return best


def _first_failure(program: Program, x: Inputs, y: Outputs) -> Counterexample | None:
    outputs, codes = _outcome(program, x)
    wrong = _wrong(y, outputs, codes)
    for t in range(x.shape[1]):
        for i in np.flatnonzero(wrong[:, t])[:1]:
            got = None if codes[i, t] else outputs[i, t].tolist()
            return Counterexample(x[i, : t + 1].tolist(), y[i, t].tolist(), got)
    return None
