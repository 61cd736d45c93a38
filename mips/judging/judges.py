"""What counts as true while programs are chosen: labels of the task, or the answers of the network itself."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from mips.judging.trials import Trials
from mips.judging.verification import explained_by, right
from mips.programs.program import Program
from mips.tasks.task import Inputs, Outputs

if TYPE_CHECKING:
    from mips.reading.oracle import Oracle

_FREE = 10
"""Sequences that a program may differ on from any network."""


class Chooser(enum.StrEnum):
    """Which truth chose a program."""

    LABELS = "labels of the training length"
    LONG_LABELS = "labels of the training length and of four times it"
    RECORDS = "recorded sequences"
    NETWORK = "the network's own answers"


@runtime_checkable
class Judge(Protocol):
    """Judges what was read from a network on sequences of the training length."""

    @property
    def chooser(self) -> Chooser:
        """Which truth this is."""
        ...

    @property
    def sequences(self) -> tuple[Inputs, Outputs]:
        """Sequences, with what counts as their true outputs."""
        ...

    def share(self, run: Callable[[Inputs], Outputs]) -> float:
        """Share of sequences that come out right."""
        ...

    def settles(self, run: Callable[[Inputs], Outputs]) -> bool:
        """Whether nothing speaks against these outputs, so that the search may end."""
        ...

    def admits(self, share: float) -> bool:
        """Whether a program that is right on that share may be the answer."""
        ...

    def misfit(self, program: Program) -> float:
        """Bits that it costs to say where a program is wrong; infinite where it cannot be the answer."""
        ...


def _price(x: Inputs, y: Outputs) -> float:
    """Bits of one exception: which sequence, from which step on, and what is said there."""
    return math.log2(len(x)) + math.log2(x.shape[1]) + math.log2(max(2, len(np.unique(y))))


@dataclasses.dataclass(frozen=True)
class ByLabels:
    """True labels: a program must be right on all of them.

    Of records some of which are expected to be wrong, on all but as many as that; each has its price.
    """

    trials: Trials
    beyond: bool = False
    """whether labels of four times the training length count, too"""

    @property
    def chooser(self) -> Chooser:
        if self.trials.task.reference is None:
            return Chooser.RECORDS
        return Chooser.LONG_LABELS if self.beyond else Chooser.LABELS

    @property
    def sequences(self) -> tuple[Inputs, Outputs]:
        return self.trials.short

    def share(self, run: Callable[[Inputs], Outputs]) -> float:
        return self.trials.share_short(run)

    def settles(self, run: Callable[[Inputs], Outputs]) -> bool:
        return self.trials.exact_short(run) and (not self.beyond or self.trials.exact_long(run))

    def admits(self, share: float) -> bool:
        if not self.trials.task.noise:
            return share == 1.0
        count = self.trials.judged
        return round((1 - share) * count) <= explained_by(self.trials.task.noise, count)

    def misfit(self, program: Program) -> float:
        trials = self.trials
        if self.beyond and not trials.passed_beyond_by(program):
            return math.inf
        if not trials.task.noise:
            return 0.0 if trials.passed_by(program) else math.inf
        missed, count = trials.missed_by(program)
        return missed * _price(*trials.short) if self.admits(1 - missed / count) else math.inf


@dataclasses.dataclass(frozen=True)
class ByNetwork:
    """The answers of a network to `x`, errors included: no label is seen.

    A program may differ from a network that has learned its task imperfectly, since the errors are the
    network's own, as often as its training knows that it errs: these differences cost a bit each. Every
    further one costs what it takes to say where it is and what is said there, so that program and
    exceptions together are a description of the network.
    """

    x: Inputs
    y: Outputs
    accuracy: float
    """share of sequences that the network has right, as judged in training"""
    tests: int
    """on how many sequences; 0 if the network is itself the truth"""
    chooser: Chooser = Chooser.NETWORK

    @classmethod
    def of(cls, network: Oracle, x: Inputs, accuracy: float, tests: int) -> ByNetwork:
        """Asks the network."""
        return cls(x, network.run(x), accuracy, tests)

    @property
    def errors(self) -> float:
        """How many of the sequences the network may have wrong (upper bound at 95 % confidence)."""
        from scipy.stats import beta

        wrong = round((1 - self.accuracy) * self.tests)
        if not self.tests or wrong >= self.tests:
            return float(len(self.x)) * (wrong > 0)
        return len(self.x) * float(beta.ppf(0.95, wrong + 1, self.tests - wrong))

    @property
    def sequences(self) -> tuple[Inputs, Outputs]:
        return self.x, self.y

    @property
    def price(self) -> float:
        """Bits of one difference: which sequence, from which step on, and what is said there."""
        return _price(self.x, self.y)

    def share(self, run: Callable[[Inputs], Outputs]) -> float:
        return float((run(self.x) == self.y).all(axis=(1, 2)).mean())

    def settles(self, run: Callable[[Inputs], Outputs]) -> bool:
        return self.share(run) == 1.0

    def admits(self, share: float) -> bool:
        # Differences of another rule's are more than those of errors; and half as many again are allowed.
        return share > 0 and (1 - share) * len(self.x) <= 1.5 * self.errors + _FREE

    def misfit(self, program: Program) -> float:
        missed = float((~right(program, self.x, self.y)).sum())
        if not self.admits(1 - missed / len(self.x)):
            return math.inf
        free = min(missed, self.errors)
        return free + (missed - free) * self.price
