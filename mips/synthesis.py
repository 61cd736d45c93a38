"""From a task to a program: train networks, read them as they learn, stop at the first exact formula."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import keyword
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict, Unpack

import jax
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from mips import routes as extraction
from mips.config import SynthesisConfig
from mips.judging.candidates import BudgetExhaustedError, Examination
from mips.judging.verification import Report, verify
from mips.networks.relu import ReluConfig
from mips.networks.tokens import TokenConfig
from mips.networks.training import Device, TrainConfig, network_of, place, train
from mips.programs.program import Program
from mips.reading import oracle
from mips.reading.linear import Realization, response_of_weights
from mips.reading.machine_extraction import Machine
from mips.reading.oracle import Judged, Oracle
from mips.reading.windows import recurrences, window_rules
from mips.tasks.task import Inputs, Outputs, Task

# A network is read when its share of right sequences first passes these.
_RUNGS = (0.9, 0.98, 0.999)


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a task."""

    task: str
    status: str
    """formula (exact at both lengths, or on what is recorded), table (exact, but tables), inexact, network
    (trained, not understood), unfinished (stopped by a budget) or none"""
    program: Program | None
    provenance: str
    """network, table (of a machine read from a network), or data"""
    report: Report | None
    """evidence for the program"""
    network: str
    """the network that was read"""
    accuracy: float
    """share of sequences that the network has right"""
    agreement: float | None
    """share of sequences on which program and network say the same, right or wrong"""
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

    @property
    def source(self) -> str:
        """The program as Python text."""
        return "" if self.program is None else self.program.source(identifier(self.task))


def identifier(name: str) -> str:
    """A Python name for a task."""
    text = "".join(c if c.isalnum() else "_" for c in name).strip("_").lower()
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
    exam = Examination(task, seed=seed, on_stage=on_stage)
    baseline = None
    network: Judged | None = None
    stopped = False
    try:
        if config.baseline or config.route == "data":
            baseline = data_only(exam, config, seed=seed)
        if config.route == "data":
            exam.formula = baseline
        elif config.route == "paper":
            from mips.paper.pipeline import solve_as_published

            network = solve_as_published(exam, config, key=key, seed=seed)
        else:
            network = _read_networks(exam, config, key=key, seed=seed, devices=devices)
    except BudgetExhaustedError:
        stopped = True
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
    """Trains and reads until there is a formula; the network that the result came from."""
    network = source_of_table = None
    for network in _networks(exam, config, key=key, seed=seed, devices=devices):
        if exam.formula is not None:
            return network
        if exam.table is not None and source_of_table is None:
            source_of_table = network
        if exam.table is not None and network.finished:
            break
    return source_of_table or network


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
    exam = Examination(task, on_stage=on_stage)
    accuracy = oracle.agreement(network, *exam.short)[1]
    if config.route in {"auto", "linear"}:
        extraction.read_linear(exam, network)
    if exam.formula is None and config.route in {"auto", "automaton"}:
        extraction.read_all(exam, network, config, final=True)
    return _conclude(exam, config, Judged(network, accuracy), None)


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
    exam.on_stage = None  # the end is not interrupted
    program = exam.formula or exam.table
    task = exam.task
    if task.reference is None:
        # Evidence is what no network was trained on.
        task = dataclasses.replace(task, records=exam.short)
    report = None
    if program is not None:
        with exam.stage("verification"):
            report = verify(program, task)
        if exam.long is None:
            exam.note(
                "no longer sequences are recorded: whether the program goes on beyond them was not tested"
            )
        elif not report.exact:
            exam.note("the program passed the quick checks and failed the full ones")
    status, provenance = "none", ""
    if program is not None and report is not None:
        provenance = "data" if config.route == "data" else "table" if program.uses_table else "network"
        status = "table" if program.uses_table else "formula"
        if not report.exact and not (exam.long is None and report.fresh == 1.0):
            status = "inexact"
    elif stopped:
        status = "unfinished"
    elif network is not None:
        status = "network"
    agree = None
    if network is not None and program is not None:
        x = exam.short[0]
        try:
            agree = oracle.agreement(network.oracle, x, program.run(x))[1]
        except (ZeroDivisionError, IndexError, ValueError):
            agree = 0.0
    return Result(
        exam.task.name,
        status,
        program,
        provenance,
        report,
        "" if network is None else network.oracle.description,
        0.0 if network is None else network.accuracy,
        agree,
        {name: round(value, 3) for name, value in exam.seconds.items()},
        tuple(exam.notes),
        exam.machine,
        exam.realization,
        baseline,
    )


def data_only(exam: Examination, config: SynthesisConfig, *, seed: int) -> Program | None:
    """The network-free baseline: a rule over windows of inputs and outputs, from data."""
    task = exam.task
    # The same checks, but what is found here must not count as the network's.
    scratch = copy.copy(exam)
    scratch.formula, scratch.table, scratch.notes = None, None, []
    with exam.stage("data alone"):
        if task.reference is None:
            x, y = exam.training_data(config, seed=seed)
            x, y = x[config.tests :][:4000], y[config.tests :][:4000]
        else:
            x, y = task.sample((seed, 103), 4000)
        grammar = extraction.grammar_of(config)
        if not scratch.offer(recurrences(x, y)):
            scratch.offer(window_rules(x, y, grammar))
    return scratch.formula


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
    x, y = exam.training_data(config, seed=seed)
    values, number = extraction.classes_of(y)
    over_symbols = task.symbols <= config.most_symbols and len(values) <= config.most_classes
    if config.route == "automaton" and not over_symbols:
        raise ValueError(
            f"task {task.name!r} has {task.symbols} symbols and {len(values)} different outputs; the "
            f"automaton route takes up to {config.most_symbols} and {config.most_classes}. "
            "`--route linear` or `auto` fits"
        )
    for attempt in range(config.attempts):
        # Wrong again and again: another key, and a wider state.
        part = jax.random.fold_in(key, attempt)
        if over_symbols and config.route != "linear":
            symbols = _symbols(task, x)
            for cell in ("affine", "gru"):
                width = (max(1, config.hidden // 2) if cell == "affine" else config.hidden) * (
                    1 if attempt == 0 else 2
                )
                family = TokenConfig(_round_up(task.symbols), _round_up(len(values)), width, cell)
                yield from _train_symbols(
                    exam, config, family, symbols, number, values, part, devices, attempt
                )
        else:
            yield from _train_linear(exam, config, x, y, part, devices)
            if config.route != "linear":
                yield from _train_relu(exam, config, x, y, part, devices, attempt)


def _round_up(count: int) -> int:
    """Sizes are padded to a few values, so that tasks share compiled programs."""
    return next((size for size in (4, 16, 64, 128) if size >= count), count)


def _symbols(task: Task, x: Inputs) -> Int[np.ndarray, "count length"]:
    from mips.reading.machine_extraction import alphabet, encode

    return encode(alphabet(task.low, task.high, task.inputs), x)


def _train_symbols(
    exam: Examination,
    config: SynthesisConfig,
    family: TokenConfig,
    symbols: Int[np.ndarray, "count length"],
    number: Int[np.ndarray, "count length"],
    values: Int[np.ndarray, "classes outputs"],
    key: PRNGKeyArray,
    devices: Sequence[Device] | None,
    attempt: int,
) -> Iterator[Judged]:
    task = exam.task
    fitted = TrainConfig(
        steps=config.steps * (1 + attempt),
        batch=128,
        learning_rate=3e-3 if family.cell == "affine" else 1e-2,
        schedule="cosine",
        clip=1.0,
        curriculum=0.05 if family.cell == "affine" else 0.1,
        seeds=config.seeds * (2 if family.cell == "affine" else 1),
        keep="first",
    )
    rungs = list(_RUNGS)
    data = place(symbols, number, config.tests)
    chunks = train(family, data, fitted, key=key, devices=devices)
    highest = 0.0
    while True:
        with exam.stage("training", family.describe()):
            item = next(chunks, None)
        if item is None:
            if highest < 0.9:
                exam.note(
                    f"{family.describe()} did not learn it: at best {100 * highest:.1f} % of sequences right"
                )
            return
        run, seen = item
        share = float(np.nanmax(seen.sequences))
        highest = max(highest, share)
        final = share >= _RUNGS[-1] or seen.step >= fitted.steps
        if not (final and share > 0.2) and not (rungs and share >= rungs[0]):
            continue
        rungs = [r for r in rungs if r > share]
        best = int(np.nanargmax(seen.sequences))
        network = oracle.from_tokens(
            family, network_of(run, best), low=task.low, high=task.high, inputs=task.inputs, values=values
        )
        extraction.read_all(exam, network, config, final=final)
        yield Judged(network, share, final)
        if share >= _RUNGS[-1]:
            return


class _Architecture(TypedDict, total=False):
    """Sizes of a network over numbers, as `ReluConfig` names them."""

    hidden: int
    transition_depth: int
    transition_width: int
    readout_depth: int
    readout_width: int


def _numeric(task: Task, x: Inputs, y: Outputs, **architecture: Unpack[_Architecture]) -> ReluConfig:
    return ReluConfig(
        task.inputs,
        task.outputs,
        loss="squared",
        orthogonal=architecture.get("transition_depth", 1) == 1,
        input_scale=float(max(1, abs(task.low), abs(task.high - 1))),
        output_scale=float(max(1.0, y.std())),
        **architecture,
    )


def _fit_numbers(config: SynthesisConfig, steps: int) -> TrainConfig:
    return TrainConfig(
        steps=steps,
        batch=512,
        learning_rate=1e-2,
        schedule="cosine",
        clip=1.0,
        seeds=4 * config.seeds,
        keep="first",
    )


def _train_linear(
    exam: Examination,
    config: SynthesisConfig,
    x: Inputs,
    y: Outputs,
    key: PRNGKeyArray,
    devices: Sequence[Device] | None,
) -> Iterator[Judged]:
    """An affine system with more units than any task needs; its response is read after every chunk."""
    task = exam.task
    family = _numeric(task, x, y, hidden=10)
    fitted = _fit_numbers(config, 2 * config.steps)
    chunks = train(family, place(x, y, config.tests), fitted, key=key, devices=devices)
    while True:
        with exam.stage("training", f"linear network, n={family.hidden}"):
            item = next(chunks, None)
        if item is None:
            exam.note("no linear network fits: training ended without an integer response that is right")
            return
        run, seen = item
        order = np.argsort(np.nan_to_num(seen.loss, nan=math.inf))
        final = seen.step >= fitted.steps
        for best in order[:2]:
            if seen.sequences[best] < _RUNGS[0] and not final:
                continue
            network = family.unscale(network_of(run, int(best)))
            if extraction.read_response(exam, response_of_weights(network, task.length)):
                yield Judged(oracle.from_relu(family, network), float(seen.sequences[best]))
                return
        if seen.step >= 1000 and np.nanmin(seen.loss) > 0.005:
            exam.note(
                f"no linear network fits: {2 * float(np.nanmin(seen.loss)):.2g} of the variance is missed"
            )
            return


def _train_relu(
    exam: Examination,
    config: SynthesisConfig,
    x: Inputs,
    y: Outputs,
    key: PRNGKeyArray,
    devices: Sequence[Device] | None,
    attempt: int,
) -> Iterator[Judged]:
    """Networks with inner layers, read by their answers."""
    task = exam.task
    shapes = ((2, 2, 8, 1, 1), (4, 2, 16, 1, 1), (4, 2, 32, 2, 32))
    for n, d_f, w_f, d_g, w_g in shapes[attempt % 3 : attempt % 3 + 2]:
        family = _numeric(
            task,
            x,
            y,
            hidden=n,
            transition_depth=d_f,
            transition_width=w_f,
            readout_depth=d_g,
            readout_width=w_g,
        )
        fitted = _fit_numbers(config, 2 * config.steps)
        rungs = [0.98, 0.995]
        chunks = train(family, place(x, y, config.tests), fitted, key=key, devices=devices)
        while True:
            with exam.stage("training", family.describe()):
                item = next(chunks, None)
            if item is None:
                break
            run, seen = item
            share = float(np.nanmax(seen.elements))
            final = seen.step >= fitted.steps
            if not (final and share > 0.7) and not (rungs and share >= rungs[0]):
                continue
            rungs = [r for r in rungs if r > share]
            best = int(np.nanargmax(seen.elements))
            network = oracle.from_relu(family, family.unscale(network_of(run, best)))
            extraction.read_answers(exam, network, config)
            yield Judged(network, float(seen.sequences[best]))
            if not rungs:
                break
