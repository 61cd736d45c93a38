"""From a task to a program: train networks, read them as they learn, stop at the first exact formula."""

from __future__ import annotations

import builtins
import dataclasses
import keyword
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import jax
from jaxtyping import PRNGKeyArray

from mips import routes
from mips.config import SynthesisConfig
from mips.judging.candidates import BudgetExhaustedError, Examination
from mips.judging.comparison import Comparison, compare
from mips.judging.front import LONGEST, FrontEntry, front
from mips.judging.judges import ByLabels, ByNetwork, Chooser
from mips.judging.verification import Report, verify
from mips.networks.training import Device
from mips.programs.program import Program
from mips.programs.shortening import simplified
from mips.reading import oracle
from mips.reading.conformance import conformance_words
from mips.reading.linear import Realization
from mips.reading.machine_extraction import Machine, minimize
from mips.reading.oracle import Judged, Oracle
from mips.reading.windows import recurrences, window_rules
from mips.status import Provenance, Status
from mips.tasks.records import write_legend
from mips.tasks.skewed import skewed
from mips.tasks.task import Task
from mips.training_schedules import Schedule, train_linear, train_over_symbols, train_with_inner_layers

_ENOUGH = 0.9
"""Share of sequences that a network has right from which on none with fewer errors is sought."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a task."""

    task: str
    status: Status
    program: Program | None
    provenance: Provenance
    report: Report | None
    """evidence for the program"""
    network: str
    """the network that was read"""
    accuracy: float
    """share of sequences that the network has right"""
    comparison: Comparison | None
    """program against network, inside and beyond the training length; None where one is missing"""
    chosen_by: Chooser
    """which truth chose the program"""
    seconds: dict[str, float]
    """per stage"""
    notes: tuple[str, ...]
    """evidence, and why it is not more"""
    machine: Machine | None
    """the minimal machine, or the part of one within the training length, if one was read"""
    realization: Realization | None
    """the linear system of least order, if the network is one"""
    baseline: Program | None
    """what data alone gives, for comparison; not the source of `program` unless provenance says so"""
    input_symbols: tuple[str, ...] = ()
    """what the numbers 0, 1, ... of the inputs stand for, where the task is one of symbols"""
    output_symbols: tuple[str, ...] = ()
    """the same for the outputs"""
    front: tuple[FrontEntry, ...] = ()
    """programs by length, each right more often, or closer to the network, than all shorter ones"""

    @property
    def agreement(self) -> float | None:
        """Share of drawn sequences of the training length on which program and network say the same."""
        return None if self.comparison is None else self.comparison.drawn

    @property
    def faithful(self) -> bool:
        """Whether program and network agree on everything that was compared, longer sequences included."""
        return self.comparison is not None and self.comparison.faithful

    @property
    def source(self) -> str:
        """The program as Python text; comments say what its numbers stand for, if they are symbols."""
        if self.program is None:
            return ""
        legend = write_legend(self.input_symbols, self.output_symbols)
        return legend + self.program.source(identifier(self.task))


def identifier(name: str) -> str:
    """A Python name for a task."""
    # As Python reads names: compatible letters are one letter.
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).lower())
    text = "".join(c if f"_{c}".isidentifier() else "_" for c in text).strip("_")
    taken = keyword.iskeyword(text) or keyword.issoftkeyword(text) or hasattr(builtins, text)
    return text if text.isidentifier() and not taken else f"task_{text}"


def synthesize(
    task: Task,
    config: SynthesisConfig | None = None,
    *,
    key: PRNGKeyArray,
    on_stage: Callable[[str, str], None] | None = None,
    devices: Sequence[Device] | None = None,
) -> Result:
    """Trains networks on a task and turns one into a program.

    Args: key: decides data, weights and batches; nothing depends on the task's name.
        on_stage: called as (stage, detail) when a stage begins. devices: spread seeds over these.

    Raises: ValueError for a task that the asked route cannot treat, naming the route that can.
    """
    config = config or SynthesisConfig()
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    exam = Examination.of(task, seed=seed, on_stage=on_stage)
    baseline = None
    network: Judged | None = None
    stopped = False
    try:
        if config.route == "data" and task.partial:
            raise ValueError(
                f"task {task.name!r}: outputs are not recorded at every step, as the data route needs them"
            )
        if (config.baseline and not task.partial) or config.route == "data":
            baseline = data_only(exam, config, seed=seed)
        if config.route == "data":
            exam.found.formula = baseline
            exam.judge = ByLabels(exam.trials, beyond=True)
        elif config.route == "paper":
            from mips.paper.pipeline import solve_as_published

            exam.judge = ByLabels(exam.trials, beyond=True)
            network = solve_as_published(exam, config, key=key, seed=seed)
        else:
            network = _read_networks(exam, config, key=key, seed=seed, devices=devices)
    except BudgetExhaustedError:
        stopped, network = True, exam.found.network
        exam.note("the budget ran out")
    return _conclude(exam, config, network, baseline, stopped=stopped)


def _read_networks(
    exam: Examination,
    config: SynthesisConfig,
    *,
    key: PRNGKeyArray,
    seed: int,
    devices: Sequence[Device] | None,
) -> Judged | None:
    """Trains and reads until there is a formula; the network that was read last."""
    found, network = exam.found, None
    for network in _networks(exam, config, key=key, seed=seed, devices=devices):
        if config.selection == "task" and not _stands_beyond(exam, network, config):
            continue
        # A network that errs often explains little: one that errs less may come.
        enough = config.selection == "task" or network.accuracy >= _ENOUGH
        if enough and (found.formula is not None or (found.table is not None and network.finished)):
            break
    return network


def _stands_beyond(exam: Examination, network: Judged, config: SynthesisConfig) -> bool:
    """Whether what was chosen at the training length is right at four times it, too; else chooses anew.

    That uses the labels of longer sequences, and the result says so.
    """
    found, trials = exam.found, exam.trials
    programs = [p for p in (found.formula, found.table) if p is not None]
    by_labels = isinstance(exam.judge, ByLabels) and not exam.judge.beyond
    if not by_labels or all(map(trials.passed_beyond_by, programs)):
        return True
    exam.note(
        "what was right at the training length was wrong at four times it: labels of that length chose, too"
    )
    found.forget()
    exam.judge = ByLabels(trials, beyond=True)
    routes.read_all(exam, network.oracle, config, final=True)
    return found.formula is not None or found.table is not None


def synthesize_from_network(
    network: Oracle,
    task: Task,
    config: SynthesisConfig | None = None,
    *,
    on_stage: Callable[[str, str], None] | None = None,
) -> Result:
    """Reads a program out of a network that is there already (see `mips.reading.oracle.from_step`).

    `task` says the alphabet and length; where nobody knows the truth, `task_of_network` makes one whose
    truth is the network itself.
    """
    config = config or SynthesisConfig()
    if config.route in {"paper", "data"}:
        raise ValueError(f"route={config.route!r}: a given network can be read by auto, automaton or linear")
    exam = Examination.of(task, on_stage=on_stage)
    accuracy = oracle.agreement(network, *exam.trials.short)[1]
    if config.selection == "network":
        exam.judge = ByNetwork.of(network, exam.trials.short[0], 1.0, 0)
    judged = exam.found.reading(Judged(network, accuracy, finished=True))
    if config.route in {"auto", "linear"}:
        routes.read_linear(exam, network)
    if exam.found.formula is None and config.route in {"auto", "automaton"}:
        routes.read_all(exam, network, config, final=True)
    if config.selection == "task":
        _stands_beyond(exam, judged, config)
    return _conclude(exam, config, judged, None)


def task_of_network(network: Oracle, name: str = "network", *, low: int, high: int, length: int = 10) -> Task:
    """The task that a network performs."""
    return Task(name, network.run, low, high, inputs=network.inputs, outputs=network.outputs, length=length)


def _conclude(
    exam: Examination,
    config: SynthesisConfig,
    network: Judged | None,
    baseline: Program | None,
    *,
    stopped: bool = False,
) -> Result:
    exam.log.on_stage = None  # the end is not interrupted
    found = exam.found
    program, source = _chosen(exam)
    network = source or network
    if program is not None and not program.uses_table and program.bits <= LONGEST:
        program = _simplified(exam, program)
    report = None if program is None else _verified(exam, program)
    by_length = () if network is None or program is None else _front(network.oracle, program, exam)
    return Result(
        exam.task.name,
        _status(exam, program, report, network, stopped=stopped),
        program,
        _provenance(program, config),
        report,
        "" if network is None else network.oracle.description,
        0.0 if network is None else network.accuracy,
        None if network is None or program is None else _compared(network.oracle, program, exam),
        exam.judge.chooser,
        {name: round(value, 3) for name, value in exam.log.seconds.items()},
        tuple(exam.log.notes),
        found.machine,
        found.realization,
        baseline,
        exam.task.input_symbols,
        exam.task.output_symbols,
        by_length,
    )


def _verified(exam: Examination, program: Program) -> Report:
    """The full checks of a program; what they say beyond the quick ones is noted."""
    trials = exam.trials
    with exam.stage("verification"):
        untouched = trials.evidence
        if untouched is None and exam.task.records is not None:
            x, y = exam.task.records  # too few to set any apart: there is no evidence but that they fit
            untouched = (x[:0], y[:0])
        report = verify(program, exam.task, untouched=untouched)
    if exam.task.reference is None:
        if trials.evidence is None:
            exam.note("too few different sequences are recorded to set any apart as evidence")
        elif report.fresh == 1.0 and report.right_at_its_length:
            exam.note(
                f"{report.fresh_count} recorded sequences were set apart, and all come out right: of others "
                f"like them at most {100 * report.error_bound:.2g} % are wrong (95 % confidence)"
            )
        if report.recorded != 1.0 and report.recorded is not None:
            wrong = round((1 - report.recorded) * report.recorded_count)
            expected = ""
            if report.noise:
                enough = "as" if report.right_at_its_length else "more than"
                expected = f", {enough} a share of {report.noise:.3g} wrong records explains"
            exam.note(
                f"{wrong} of the {report.recorded_count} recorded sequences contradict the program{expected}"
            )
    if exam.trials.long is None:
        exam.note("no longer sequences are recorded: whether the program goes on beyond them was not tested")
    elif not report.exact:
        exam.note("the program passed the quick checks and failed the full ones")
    return report


def _status(
    exam: Examination,
    program: Program | None,
    report: Report | None,
    network: Judged | None,
    *,
    stopped: bool,
) -> Status:
    if program is not None and report is not None:
        if not report.exact and not (exam.trials.long is None and report.right_at_its_length):
            return Status.INEXACT
        return Status.TABLE if program.uses_table else Status.FORMULA
    if stopped:
        return Status.UNFINISHED
    return Status.NONE if network is None else Status.NETWORK


def _provenance(program: Program | None, config: SynthesisConfig) -> Provenance:
    if program is None:
        return Provenance.NONE
    if config.route == "data":
        return Provenance.DATA
    return Provenance.TABLE if program.uses_table else Provenance.NETWORK


def _chosen(exam: Examination) -> tuple[Program | None, Judged | None]:
    """The program and its network: a formula, if there is one.

    Where a network judges and contradicts the formula more often than it errs, the table if that is shorter
    than the formula with its exceptions.
    """
    found, judge = exam.found, exam.judge
    formula, source = found.formula, found.source_of_formula
    if isinstance(judge, ByNetwork) and formula is not None:
        contradicted = found.cost - formula.bits > judge.errors
        if contradicted and found.cost_of_table < found.cost:
            formula = None
    return (formula, source) if formula is not None else (found.table, found.source_of_table)


def _compared(network: Oracle, program: Program, exam: Examination) -> Comparison:
    """Program against network; differences that follow a rule are noted."""
    with exam.stage("comparison"):
        comparison = compare(program, network, exam.task, exam.found.machine)
    found = comparison.exceptions
    if found is not None:
        exam.note(
            f"the network has exceptions from this rule: where {found.condition}, it says something else in "
            f"{100 * found.precision:.3g} % of cases ({found.count} of {comparison.drawn_count} sequences)"
        )
    return comparison


def _simplified(exam: Examination, program: Program) -> Program:
    """The program without parts that make no difference, on sequences of any kind and of both lengths.

    It is compared with itself as it was, so no label has a say.
    """
    task, machine = exam.task, exam.found.machine
    x, _ = exam.trials.short
    probes = [
        x[:50],
        x,
        skewed(task, (107, 0), 400, task.length),
        skewed(task, (107, 1), 200, 4 * task.length),
    ]
    probes.append(task.draw((107, 2), 4_000))
    if task.records is not None:  # a rare record must not be lost for a part that few others need
        probes.append(task.records[0])
    if exam.trials.long is not None:
        probes.append(exam.trials.long[0])
    if machine is not None and machine.complete:
        words = conformance_words(minimize(machine), length=task.length, known=task.recorded_steps)
        probes += [words] if len(words) else []
    with exam.stage("simplification"):
        return simplified(program, probes)


def _front(network: Oracle, program: Program, exam: Examination) -> tuple[FrontEntry, ...]:
    with exam.stage("front"):
        return front(program, exam.found.others, exam.trials, network)


def data_only(exam: Examination, config: SynthesisConfig, *, seed: int) -> Program | None:
    """The network-free baseline: a rule over windows of inputs and outputs, from data."""
    # The same checks, but what is found here must not count as the network's.
    apart = exam.apart()
    with exam.stage("data alone"):
        if exam.task.reference is None:
            x, y = exam.trials.training_data(config, seed=seed)
            x, y = x[config.tests :][:4000], y[config.tests :][:4000]
        else:
            x, y = exam.task.sample((seed, 103), 4000)
        grammar = routes.grammar_of(config)
        if not apart.offer(recurrences(x, y)):
            apart.offer(window_rules(x, y, grammar))
    return apart.found.formula


def _networks(
    exam: Examination,
    config: SynthesisConfig,
    *,
    key: PRNGKeyArray,
    seed: int,
    devices: Sequence[Device] | None,
) -> Iterator[Judged]:
    """Networks as they are trained and read; the caller stops when there is a formula."""
    task = exam.task
    x, y = exam.trials.training_data(config, seed=seed)
    values, number = routes.classes_of(y)
    over_symbols = task.symbols <= config.most_symbols and len(values) <= config.most_classes
    if config.route == "automaton" and not over_symbols:
        raise ValueError(
            f"task {task.name!r} has {task.symbols} symbols and {len(values)} different outputs; the "
            f"automaton route takes up to {config.most_symbols} and {config.most_classes}. "
            "`--route linear` or `auto` fits"
        )
    for attempt in range(config.attempts):
        # Wrong again and again: another key, and a wider state.
        schedule = Schedule(exam, config, x, y, jax.random.fold_in(key, attempt), devices, attempt)
        if over_symbols and config.route != "linear":
            for cell in ("affine", "gru"):
                yield from train_over_symbols(schedule, cell, values, number)
        else:
            yield from train_linear(schedule)
            if config.route != "linear":
                yield from train_with_inner_layers(schedule)
