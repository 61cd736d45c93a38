"""What every route reports to: who judges, the clock, the best program so far, the evidence."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator

from mips.judging.judges import ByLabels, Judge
from mips.judging.trials import Trials
from mips.programs.program import Program
from mips.reading.linear import Realization
from mips.reading.machine_extraction import Machine
from mips.reading.oracle import Judged
from mips.tasks.task import Task

_MOST_KEPT = 100
"""Programs that are remembered beside the best, for the front."""


class BudgetExhaustedError(Exception):
    """Raised by a listener of stages to stop: what was found by then is kept."""


@dataclasses.dataclass
class Log:
    """Evidence in words, and where the time went."""

    on_stage: Callable[[str, str], None] | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)  # by stage
    notes: list[str] = dataclasses.field(default_factory=list)

    def note(self, text: str) -> None:
        """Records evidence, once."""
        if text not in self.notes:
            self.notes.append(text)

    @contextlib.contextmanager
    def stage(self, name: str, detail: str = "") -> Iterator[None]:
        """Times a stage and tells whoever listens."""
        if self.on_stage is not None:
            self.on_stage(name, detail)
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


@dataclasses.dataclass
class Findings:
    """The best so far. It grows in place: what was found before a budget ran out is kept."""

    formula: Program | None = None
    table: Program | None = None
    cost: float = math.inf  # of the formula: its bits, and those of where it is wrong
    cost_of_table: float = math.inf
    machine: Machine | None = None  # the minimal machine, or the part of one that was lifted
    realization: Realization | None = None  # the linear system of least order
    network: Judged | None = None  # that is being read, or was read last
    source_of_formula: Judged | None = None  # the network that it was read from
    source_of_table: Judged | None = None
    others: dict[Program, None] = dataclasses.field(default_factory=dict)  # all that was judged, in order

    def reading(self, network: Judged) -> Judged:
        """Notes the network that is about to be read."""
        self.network = network
        return network

    def offer(self, programs: Iterable[Program], judge: Judge) -> bool:
        """Keeps the formula and the table of least cost, in bits; whether there is a formula."""
        for program in programs:
            if program.bits >= (self.cost_of_table if program.uses_table else self.cost):
                continue
            cost = program.bits + judge.misfit(program)
            if len(self.others) < _MOST_KEPT:
                self.others[program] = None
            if program.uses_table and cost < self.cost_of_table:
                self.table, self.cost_of_table, self.source_of_table = program, cost, self.network
            elif not program.uses_table and cost < self.cost:
                self.formula, self.cost, self.source_of_formula = program, cost, self.network
        return self.formula is not None

    def forget(self) -> None:
        """Drops the programs, which turned out to be wrong."""
        self.formula = self.table = None
        self.cost = self.cost_of_table = math.inf


@dataclasses.dataclass
class Examination:
    """What every route reports to: trials, findings that grow, a log, and who judges at present."""

    trials: Trials
    found: Findings
    log: Log
    judge: Judge

    @classmethod
    def of(
        cls, task: Task, *, seed: int = 0, on_stage: Callable[[str, str], None] | None = None
    ) -> Examination:
        """A new one, in which labels judge."""
        trials = Trials.of(task, seed=seed)
        return cls(trials, Findings(), Log(on_stage), ByLabels(trials))

    @property
    def task(self) -> Task:
        return self.trials.task

    def apart(self) -> Examination:
        """The same trials, for findings that are to count for themselves."""
        return Examination(self.trials, Findings(), Log(), ByLabels(self.trials, beyond=True))

    def offer(self, programs: Iterable[Program]) -> bool:
        """`Findings.offer`, by the present judge."""
        return self.found.offer(programs, self.judge)

    def note(self, text: str) -> None:
        """Records evidence, once."""
        self.log.note(text)

    def stage(self, name: str, detail: str = "") -> contextlib.AbstractContextManager[None]:
        """`Log.stage`."""
        return self.log.stage(name, detail)
