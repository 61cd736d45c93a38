"""Fixed sequences with their labels: what networks and programs are chosen by, and what is kept from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int

from mips.config import SynthesisConfig
from mips.judging.verification import right
from mips.programs.program import Program
from mips.tasks.skewed import skewed
from mips.tasks.task import MISSING, Inputs, LongInputs, LongOutputs, Outputs, Task, agree

_FEWEST_APART = 5
"""Different recorded sequences from which on there are three parts."""
_FEWEST_FITTING = 15


_Fitting = Int[np.ndarray, "fitting_count length inputs"]
_FittingOutputs = Int[np.ndarray, "fitting_count length outputs"]
_Evidence = Int[np.ndarray, "evidence_count length inputs"]
_EvidenceOutputs = Int[np.ndarray, "evidence_count length outputs"]
_Skewed = Int[np.ndarray, "skewed_count length inputs"]
_SkewedOutputs = Int[np.ndarray, "skewed_count length outputs"]


@dataclasses.dataclass(frozen=True)
class Trials:
    """Fixed sequences of a task, at the training length and four times it, and what they judge.

    Where there is a reference, they are fresh, and some are skewed: constant, sorted, sticky. Recorded
    sequences are shuffled into three parts, so that no order of the file decides what is learned: networks
    are trained on `fitting`, networks and programs are chosen by `short`, programs by `fitting`, too;
    nothing but the final checks sees `evidence`. Equal sequences are in the same part.
    """

    task: Task
    short: tuple[Inputs, Outputs]
    long: tuple[LongInputs, LongOutputs] | None  # None where nothing longer is recorded
    fitting: tuple[_Fitting, _FittingOutputs] | None = None  # of recorded tasks alone, like the next
    evidence: tuple[_Evidence, _EvidenceOutputs] | None = None  # None, too, if too few differ
    skewed: tuple[_Skewed, _SkewedOutputs] | None = None  # where the reference can be asked about anything

    @classmethod
    def of(cls, task: Task, *, seed: int = 0) -> Trials:
        if task.reference is not None:
            odd = None
            if task.defined_everywhere:
                x = skewed(task, (seed, 106), 400, task.length)
                odd = (x, task.solve(x))
            long = task.sample((seed, 102), 300, 4 * task.length)
            return cls(task, task.sample((seed, 101), 2_000), long, skewed=odd)
        assert task.records is not None
        x, y = task.records
        # Sequences of different lengths are different, however they are padded.
        told = np.concatenate([x, y == MISSING], axis=2)
        _, number = np.unique(told, axis=0, return_inverse=True)
        number = number.ravel()
        different = int(number.max()) + 1
        if different < _FEWEST_APART:
            return cls(task, (x, y), task.long_records, (x, y))
        place = np.random.default_rng((seed, 104)).permutation(different)[number]
        part = max(1, different // 5)
        evidence, chosen = place < part, (place >= part) & (place < 2 * part)
        rest = ~evidence & ~chosen
        parts = ((x[rows], y[rows]) for rows in (chosen, rest, evidence))
        short, fitting, untouched = parts
        return cls(task, short, task.long_records, fitting, untouched)

    def _judging(self) -> Iterator[tuple[Inputs, Outputs]]:
        """Sequences of the training length that programs must be right on."""
        yield self.short
        if self.fitting is not None:
            yield self.fitting
        if self.skewed is not None:
            yield self.skewed

    def exact_short(self, run: Callable[[Inputs], Outputs]) -> bool:
        """Whether outputs are right at the training length."""
        x, y = self.short
        return bool(agree(run(x[:200]), y[:200]).all()) and self.share_short(run) == 1.0

    def share_short(self, run: Callable[[Inputs], Outputs]) -> float:
        """Share of sequences of the training length that come out right."""
        hits = [agree(run(x), y).all(axis=1) for x, y in self._judging()]
        return float(np.concatenate(hits).mean())

    def exact_long(self, run: Callable[[Inputs], Outputs]) -> bool:
        """Whether they are at four times the length (True where there is no such data)."""
        return self.long is None or bool(agree(run(self.long[0]), self.long[1]).all())

    @property
    def judged(self) -> int:
        """How many sequences of the training length judge."""
        return sum(len(x) for x, _ in self._judging())

    def missed_by(self, program: Program) -> tuple[int, int]:
        """How many of the training length a program has wrong, and of how many."""
        hits = np.concatenate([right(program, *part) for part in self._judging()])
        return int((~hits).sum()), len(hits)

    def passed_by(self, program: Program) -> bool:
        """Whether a program is right on all of the training length."""
        return all(bool(right(program, *part).all()) for part in self._judging())

    def passed_beyond_by(self, program: Program) -> bool:
        """Whether it is on all of four times that (True where there is no such data)."""
        return self.long is None or bool(right(program, *self.long).all())

    def training_data(self, config: SynthesisConfig, *, seed: int) -> tuple[Inputs, Outputs]:
        """Sequences to train on; the first `config.tests` are for judging networks."""
        if self.task.reference is not None:
            return self._fitting(*self.task.sample((seed, 100), config.sequences))
        assert self.task.records is not None and self.fitting is not None
        x, y = self.fitting
        if self.evidence is None or len(x) < _FEWEST_FITTING:
            recorded = self.task.records[0]
            different = len(np.unique(recorded, axis=0))
            raise ValueError(
                f"task {self.task.name!r}: {len(recorded)} records ({different} different) are too few "
                "to train a network on; give at least 25 different sequences, better thousands"
            )
        rows = np.random.default_rng(seed).integers(len(x), size=config.sequences)
        # Judged on sequences that are not trained on.
        tests = np.random.default_rng(seed + 1).integers(len(self.short[0]), size=config.tests)
        x_test, y_test = (a[tests] for a in self.short)
        return self._fitting(np.concatenate([x_test, x[rows]]), np.concatenate([y_test, y[rows]]))

    def _fitting(self, x: Inputs, y: Outputs) -> tuple[Inputs, Outputs]:
        for name, values in (("inputs", x), ("outputs", y)):
            known = values[values != MISSING]
            if known.size and (known.min() < -(1 << 31) + 1 or known.max() >= 1 << 31):
                raise ValueError(
                    f"task {self.task.name!r}: {name} from {known.min()} to {known.max()}; "
                    "networks take 32 bits"
                )
        return x, y
