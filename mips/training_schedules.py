"""How networks are trained for a task, and when they are read as they learn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypedDict, Unpack

import numpy as np
from jaxtyping import Int, PRNGKeyArray

from mips import routes
from mips.config import SynthesisConfig
from mips.judging.candidates import Examination
from mips.judging.judges import ByNetwork
from mips.networks.relu import ReluConfig
from mips.networks.tokens import TokenConfig
from mips.networks.training import (
    Data,
    Device,
    Evaluation,
    Family,
    Network,
    Run,
    TrainConfig,
    network_of,
    place,
    train,
)
from mips.reading import oracle
from mips.reading.linear import response_of_weights
from mips.reading.machine_extraction import alphabet, encode
from mips.reading.oracle import Judged
from mips.tasks.task import MISSING, Inputs, Outputs

# A network is read when its share of right sequences, or of right outputs, first passes these.
_SYMBOL_RUNGS = (0.9, 0.98, 0.999)
_NUMBER_RUNGS = (0.98, 0.995)


class Schedule(NamedTuple):
    """What every way to train a network on a task needs."""

    exam: Examination
    config: SynthesisConfig
    x: Inputs
    y: Outputs
    key: PRNGKeyArray
    devices: Sequence[Device] | None
    attempt: int  # 0, 1, ...: later ones are larger


def _looks(
    schedule: Schedule, family: Family[Network], data: Data, settings: TrainConfig, name: str
) -> Iterator[tuple[Run[Network], Evaluation]]:
    """The state after every chunk of a training, which is timed."""
    chunks = train(family, data, settings, key=schedule.key, devices=schedule.devices)
    while True:
        with schedule.exam.stage("training", name):
            look = next(chunks, None)
        if look is None:
            return
        yield look


def _about_to_read(schedule: Schedule, judged: Judged) -> Judged:
    """Notes the network to be read; it judges what is read from it where no label may."""
    exam = schedule.exam
    if schedule.config.selection == "network":
        exam.judge = ByNetwork.of(judged.oracle, exam.trials.short[0], judged.accuracy, schedule.config.tests)
    return exam.found.reading(judged)


def _passed(rungs: Sequence[float], share: float) -> bool:
    """Whether the next rung is reached."""
    return bool(rungs) and share >= rungs[0]


def _above(rungs: Sequence[float], share: float) -> tuple[float, ...]:
    """The rungs that are left."""
    return tuple(rung for rung in rungs if rung > share)


def _round_up(count: int) -> int:
    """Sizes are padded to a few values, so that tasks share compiled programs."""
    return next((size for size in (4, 16, 64, 128) if size >= count), count)


def train_over_symbols(
    schedule: Schedule,
    cell: Literal["affine", "gru"],
    values: Int[np.ndarray, "classes outputs"],
    number: Int[np.ndarray, "count length"],
) -> Iterator[Judged]:
    """A recurrent network over symbols, read in full when it passes a rung or training ends."""
    exam, config, task = schedule.exam, schedule.config, schedule.exam.task
    width = max(1, config.hidden // 2) if cell == "affine" else config.hidden
    wider = 1 if schedule.attempt == 0 else 2
    family = TokenConfig(_round_up(task.symbols), _round_up(len(values)), width * wider, cell, task.partial)
    settings = TrainConfig(
        steps=config.steps * (1 + schedule.attempt),
        batch=128,
        learning_rate=3e-3 if cell == "affine" else 1e-2,
        schedule="cosine",
        clip=1.0,
        curriculum=0.05 if cell == "affine" else 0.1,
        seeds=config.seeds * (2 if cell == "affine" else 1),
        keep="first",
    )
    symbols = encode(alphabet(task.low, task.high, task.inputs), schedule.x)
    data = place(symbols, number, config.tests)
    rungs, highest = _SYMBOL_RUNGS, 0.0
    for run, seen in _looks(schedule, family, data, settings, family.describe()):
        share = float(np.nanmax(seen.sequences))
        highest = max(highest, share)
        final = share >= _SYMBOL_RUNGS[-1] or seen.step >= settings.steps
        early = _passed(rungs, share) and config.selection == "task"
        if not (final and share > 0.2) and not early:
            continue
        rungs = _above(rungs, share)
        best = int(np.nanargmax(seen.sequences))
        network = oracle.from_tokens(
            family, network_of(run, best), low=task.low, high=task.high, inputs=task.inputs, values=values
        )
        judged = _about_to_read(schedule, Judged(network, share, final))
        routes.read_all(exam, network, config, final=final)
        yield judged
        if share >= _SYMBOL_RUNGS[-1]:
            return
    if highest < _SYMBOL_RUNGS[0]:
        exam.note(f"{family.describe()} did not learn it: at best {100 * highest:.1f} % of sequences right")


class _Architecture(TypedDict, total=False):
    """Sizes of a network over numbers, as `ReluConfig` names them."""

    hidden: int
    transition_depth: int
    transition_width: int
    readout_depth: int
    readout_width: int


def _numeric(schedule: Schedule, **architecture: Unpack[_Architecture]) -> ReluConfig:
    task = schedule.exam.task
    return ReluConfig(
        task.inputs,
        task.outputs,
        loss="squared",
        orthogonal=architecture.get("transition_depth", 1) == 1,
        input_scale=float(max(1, abs(task.low), abs(task.high - 1))),
        output_scale=float(max(1.0, schedule.y[schedule.y != MISSING].std())),
        partial=task.partial,
        **architecture,
    )


def _number_settings(config: SynthesisConfig) -> TrainConfig:
    return TrainConfig(
        steps=2 * config.steps,
        batch=512,
        learning_rate=1e-2,
        schedule="cosine",
        clip=1.0,
        seeds=4 * config.seeds,
        keep="first",
    )


def train_linear(schedule: Schedule) -> Iterator[Judged]:
    """An affine system with more units than any task needs; its response is read after every chunk."""
    exam, settings = schedule.exam, _number_settings(schedule.config)
    family = _numeric(schedule, hidden=10)
    data = place(schedule.x, schedule.y, schedule.config.tests)
    for run, seen in _looks(schedule, family, data, settings, f"linear network, n={family.hidden}"):
        order = np.argsort(np.nan_to_num(seen.loss, nan=math.inf))
        final = seen.step >= settings.steps
        for best in order[:2]:
            least = _SYMBOL_RUNGS[0] if schedule.config.selection == "task" else 1.0
            if seen.sequences[best] < least and not final:
                continue
            network = family.unscale(network_of(run, int(best)))
            judged = _about_to_read(
                schedule, Judged(oracle.from_relu(family, network), float(seen.sequences[best]), final)
            )
            if routes.read_response(exam, response_of_weights(network, exam.task.length)):
                yield judged
                return
        if seen.step >= 1000 and np.nanmin(seen.loss) > 0.005:
            missed = 2 * float(np.nanmin(seen.loss))
            exam.note(f"no linear network fits: {missed:.2g} of the variance is missed")
            return
    exam.note("no linear network fits: training ended without an integer response that is right")


_SHAPES = ((2, 2, 8, 1, 1), (4, 2, 16, 1, 1), (4, 2, 32, 2, 32))
"""Units; depth and width of the transition; of the readout."""


def train_with_inner_layers(schedule: Schedule) -> Iterator[Judged]:
    """Networks with inner layers, read by their answers."""
    settings = _number_settings(schedule.config)
    data = place(schedule.x, schedule.y, schedule.config.tests)
    for n, d_f, w_f, d_g, w_g in _SHAPES[schedule.attempt % 3 : schedule.attempt % 3 + 2]:
        family = _numeric(
            schedule, hidden=n, transition_depth=d_f, transition_width=w_f, readout_depth=d_g,
            readout_width=w_g,
        )  # fmt: skip
        rungs: tuple[float, ...] = _NUMBER_RUNGS
        for run, seen in _looks(schedule, family, data, settings, family.describe()):
            share = float(np.nanmax(seen.elements))
            final = seen.step >= settings.steps
            early = _passed(rungs, share) and schedule.config.selection == "task"
            if not (final and share > 0.7) and not early and share < 1.0:
                continue
            rungs = _above(rungs, share)
            best = int(np.nanargmax(seen.elements))
            network = oracle.from_relu(family, family.unscale(network_of(run, best)))
            judged = _about_to_read(schedule, Judged(network, float(seen.sequences[best]), final))
            routes.read_answers(schedule.exam, network, schedule.config)
            yield judged
            if not rungs:
                break
