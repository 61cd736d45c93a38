"""What a batch's results depend on, and what one run has done."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import numpy as np

from compressarc.config import SolveConfig, positive_integer
from compressarc.puzzle import Puzzle
from compressarc.solver.history import History
from compressarc.solver.voting import vote_weights


@dataclasses.dataclass(frozen=True)
class BatchSettings:
    """What a batch's results depend on."""

    config: SolveConfig = dataclasses.field(default_factory=SolveConfig)
    seeds: tuple[int, ...] = (0,)
    settle: int | None = None
    """stop a run whose two best answers have not changed for this many steps"""
    vote: str = "paper"

    def __post_init__(self) -> None:
        seeds = tuple(positive_integer("seeds", seed, least=0, most=2**32 - 1) for seed in self.seeds)
        object.__setattr__(self, "seeds", seeds)
        if self.settle is not None:
            object.__setattr__(self, "settle", positive_integer("settle", self.settle))
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds={self.seeds}: expected at least one seed, none twice")
        vote_weights(self.vote)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BatchSettings:
        return cls(SolveConfig(**data["config"]), tuple(data["seeds"]), data["settle"], data["vote"])


@dataclasses.dataclass(frozen=True)
class WholeSplit:
    """The split that a batch is about, of which it may hold a part."""

    tests: dict[str, int]  # test inputs of every puzzle
    unknown: tuple[str, ...] = ()  # those whose solutions are not known

    @classmethod
    def of(cls, puzzles: Mapping[str, Puzzle]) -> WholeSplit:
        tests = {name: len(puzzle.test) for name, puzzle in puzzles.items()}
        return cls(tests, tuple(name for name, puzzle in puzzles.items() if puzzle.solution is None))

    def outputs(self) -> dict[str, int]:
        """Test outputs of the puzzles with known solutions."""
        unknown = set(self.unknown)
        return {name: tests for name, tests in self.tests.items() if name not in unknown}

    def to_json(self) -> dict[str, Any]:
        return {"tests": self.tests, "unknown": list(self.unknown)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> WholeSplit:
        """Raises ValueError if it is none."""
        if data is None:
            return cls({})
        tests = {str(name): positive_integer("tests", count) for name, count in data["tests"].items()}
        return cls(tests, tuple(map(str, data["unknown"])))


class RunStatus(enum.StrEnum):
    """How far one run of a batch is."""

    RUNNING = "running"
    FINISHED = "finished"
    SETTLED = "settled"  # its two best answers stood still for `BatchSettings.settle` steps
    NON_FINITE = "non_finite"  # ten steps in a row were not finite; answers are those until then


@dataclasses.dataclass
class Record:
    """What one run (a puzzle with one seed) has done so far."""

    history: History
    status: RunStatus
    seconds: float  # share of the batch's time in steps
    # of `network.components.leading_components`, when it finished
    components: dict[str, np.ndarray] | None = None

    @property
    def ended(self) -> bool:
        return self.status != RunStatus.RUNNING
