"""The front of length against agreement: what shorter programs get right, and what longer ones add."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from mips.judging.comparison import answers
from mips.judging.trials import Trials
from mips.programs.program import Program
from mips.programs.shortening import shortened
from mips.reading.oracle import Oracle
from mips.tasks.task import Inputs, Outputs, agree

_SEQUENCES = 400
_DESCENT = 100  # of these while parts are left out
LONGEST = 400.0
"""Bits of a program that is shortened step by step."""
_STEPS = 12


@dataclasses.dataclass(frozen=True)
class FrontEntry:
    """A program that no shorter one on the front equals."""

    program: Program
    right: float
    """share of outputs that are those of the task, over sequences of the training length"""
    agreement: float
    """share of outputs that are those of the network"""

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the program's text."""
        return {
            "program": self.program.to_json(),
            "source": self.program.source(),
            "bits": round(self.program.bits, 2),
            "right": self.right,
            "agreement": self.agreement,
        }


def front(
    program: Program, others: Iterable[Program], trials: Trials, network: Oracle
) -> tuple[FrontEntry, ...]:
    """The answer, then others by length: each right more often, or closer to the network, than shorter ones.

    Among those that were read, and what is left of the answer when parts of it are left out one after
    another, each time those that cost least. Tables, which are right by writing down what a machine does, are
    there only where they are closer to the network than every formula. Shares are of the outputs on 400
    sequences of the training length, the first of those that programs are chosen by.
    """
    x, y = (part[:_SEQUENCES] for part in trials.short)
    told = answers(network, x)

    def measured(candidate: Program) -> FrontEntry:
        got, failed = candidate.attempt(x)
        said, settled = (got == told).all(axis=2), failed == 0
        return FrontEntry(candidate, float((agree(got, y) & settled).mean()), float((said & settled).mean()))

    entries, answer = [], measured(program)
    candidates = dict.fromkeys([program, *others, *_descent(program, x[:_DESCENT], y[:_DESCENT])])
    for candidate in sorted(candidates, key=lambda p: (p.uses_table, p.bits)):
        entry = answer if candidate == program else measured(candidate)
        closer = all(entry.agreement > e.agreement for e in entries)
        righter = all(entry.right > e.right for e in entries) and not candidate.uses_table
        if closer or righter or entry is answer:
            entries.append(entry)
    return answer, *(e for e in entries if e is not answer)


def _descent(program: Program, x: Inputs, y: Outputs) -> Iterable[Program]:
    """Shorter and shorter programs: of all that one step gives, the one right on most sequences."""
    if program.uses_table or program.bits > LONGEST:
        return

    def steps_right(candidate: Program) -> Float[np.ndarray, " count"]:
        got, failed = candidate.attempt(x)
        return (agree(got, y) & (failed == 0)).mean(axis=1)

    for _ in range(_STEPS):
        best, most = None, (-1.0, 0.0)
        for shorter in shortened(program):
            share = steps_right(shorter)
            # Whole sequences count, too: a program that is right for long and then lost is a start.
            score = float((share == 1.0).mean() + share.mean()), -shorter.bits
            if shorter.bits < program.bits and score > most:
                best, most = shorter, score
        if best is None:
            return
        yield best
        program = best
