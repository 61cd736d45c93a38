"""Solving one puzzle: pure `init`, `step` and `run_chunk`, and the driver `solve`."""

from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import math
import numbers
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from compressarc.config import Program, SolveConfig, seed_number
from compressarc.datasets import load_puzzle, parse_puzzle
from compressarc.inputs import Grids, Signature, grids, signature
from compressarc.loss import loss_terms
from compressarc.model import forward
from compressarc.multitensor import TYPES
from compressarc.parameters import Params, init_params, standard_normal
from compressarc.programs import CompiledProgram, OnCompile, compiled_program
from compressarc.puzzle import Puzzle
from compressarc.ranking import Answer, Ranking, crop_answer
from compressarc.score import Score, score_answers, verdict
from compressarc.select import (
    Candidates,
    TestOutputs,
    candidates,
    init_ema,
    test_outputs,
    update_ema,
)


def optimizer(program: Program) -> optax.GradientTransformation:
    """Adam as the paper uses it."""
    return optax.adam(program.learning_rate, b1=program.b1, b2=program.b2, eps=program.eps)


class Run(NamedTuple):
    """Everything that training carries from step to step."""

    params: Params
    optimizer: optax.OptState
    ema: TestOutputs  # moving average of the test outputs' logits and masks
    step: Int[Array, ""]  # steps taken


class StepInfo(NamedTuple):
    """What one step reports. A skipped step votes with weight -inf."""

    kl: Float[Array, "18"]  # nats per tensor type, in the order of TYPES
    reconstruction: Float[Array, ""]  # nats, all known grids
    candidates: Candidates


def init(static: Signature, program: Program, *, key: PRNGKeyArray, places: Array | None = None) -> Run:
    """The state before the first step; places: `Padding.noise`, for a padded puzzle."""
    params = init_params(static.shape, key=key, places=places)
    return Run(params, optimizer(program).init(params), init_ema(static), jnp.zeros((), jnp.int32))


def step(
    run: Run, data: Grids, static: Signature, program: Program, *, key: PRNGKeyArray
) -> tuple[Run, StepInfo]:
    """One training step: forward, loss, backward, Adam, and the step's two candidates.

    A step whose loss, gradient or candidates are not finite is skipped: parameters, moments and
    moving average stay as they are, and its votes weigh nothing. The next one has other noise.

    key: of the whole run; the step's noise depends on it and on `run.step` alone.
    """
    dtype, padding = run.ema.logits.dtype, data.padding
    places = None if padding is None else padding.noise
    noise = standard_normal(jax.random.fold_in(key, run.step), static.shape, dtype, places)

    def objective(params: Params):
        output = forward(params, noise, data, static, program.variant)
        terms = loss_terms(output, data, static, run.step)
        return terms.total, (output, terms)

    grads, (output, terms) = jax.grad(objective, has_aux=True)(run.params)
    updates, opt_state = optimizer(program).update(grads, run.optimizer, run.params)
    current = test_outputs(output, static, padding)
    ema = update_ema(run.ema, current)
    proposed = candidates(current, ema, data, run.step)
    good = _finite(grads) & jnp.isfinite(terms.total) & jnp.isfinite(proposed.weight).all()
    before = (run.params, run.optimizer, run.ema)
    after = (optax.apply_updates(run.params, updates), opt_state, ema)
    params, opt_state, ema = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, before)
    proposed = proposed._replace(weight=jnp.where(good, proposed.weight, -jnp.inf))
    info = StepInfo(terms.kl, terms.reconstruction, proposed)
    return Run(params, opt_state, ema, run.step + 1), info


def _finite(grads: Params) -> Array:
    """Whether all entries are finite, and their squares, which Adam averages."""
    each = [jnp.isfinite(jnp.square(g)).all() for g in jax.tree.leaves(grads)]
    return functools.reduce(jnp.logical_and, each)


def _empty_infos(static: Signature, chunk: int, dtype) -> StepInfo:
    """Room for what a chunk of steps reports."""
    tests, shape = static.num_test, static.shape
    return StepInfo(
        kl=jnp.zeros((chunk, len(TYPES)), dtype),
        reconstruction=jnp.zeros(chunk, dtype),
        candidates=Candidates(
            colors=jnp.zeros((chunk, 2, tests, shape.x, shape.y), jnp.int8),
            crop=jnp.zeros((chunk, 2, tests, 2, 2), jnp.int16),
            weight=jnp.zeros((chunk, 2), dtype),
        ),
    )


def chunk_of_steps(
    run: Run, data: Grids, count: Array, key: PRNGKeyArray, static: Signature, program: Program
) -> tuple[Run, StepInfo]:
    """As `run_chunk`, not jitted."""
    empty = _empty_infos(static, program.chunk, run.ema.logits.dtype)

    def body(i, carry):
        run, infos = carry
        run, info = step(run, data, static, program, key=key)
        infos = jax.tree.map(
            lambda all_, one: jax.lax.dynamic_update_index_in_dim(all_, one, i, 0), infos, info
        )
        return run, infos

    return jax.lax.fori_loop(0, count, body, (run, empty))


@functools.cache
def compiler_options() -> dict[str, str]:
    """Options that make the step faster on a CPU, as far as this XLA knows them.

    YNNPACK's fusions, on by default, are slow for the many tiny products and means of a
    small puzzle: without them a step takes 15 % less.
    """
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # an XLA without this option
        return {}
    return options


def run_chunk(
    run: Run, data: Grids, count: Array, key: PRNGKeyArray, *, static: Signature, program: Program
) -> tuple[Run, StepInfo]:
    """Takes `count` <= program.chunk steps on the device, without the host.

    The state is donated: copy what you keep. Entries of the infos from `count` on are
    zero. One compilation serves all puzzles with this signature, all seeds and counts.
    """
    return _compiled_chunk()(run, data, count, key, static=static, program=program)


@functools.cache
def _compiled_chunk() -> Callable[..., tuple[Run, StepInfo]]:
    return jax.jit(
        chunk_of_steps,
        static_argnames=("static", "program"),
        donate_argnames="run",
        compiler_options=compiler_options(),
    )


@dataclasses.dataclass(frozen=True)
class ChunkProgram:
    """A compiled `run_chunk`: call it with (run, data, count, key)."""

    program: CompiledProgram

    def __call__(self, run: Run, data: Grids, count: Array, key: PRNGKeyArray) -> tuple[Run, StepInfo]:
        """Takes `count` steps; the state is donated."""
        return self.program(run, (data, count, jax.random.key_data(key)))


def chunk_program(
    run: Run,
    data: Grids,
    key: PRNGKeyArray,
    static: Signature,
    program: Program,
    on_compile: OnCompile | None = None,
) -> ChunkProgram:
    """`run_chunk` compiled for arguments like these, from the persistent cache without tracing.

    One program serves all seeds, counts and puzzles of the signature; the state is donated.
    """
    implementation = str(jax.random.key_impl(key))

    def chunk(run: Run, rest: tuple[Grids, Array, Array]) -> tuple[Run, StepInfo]:
        data, count, key_data = rest
        key = jax.random.wrap_key_data(key_data, impl=implementation)
        return chunk_of_steps(run, data, count, key, static, program)

    infos = jax.eval_shape(lambda: _empty_infos(static, program.chunk, run.ema.logits.dtype))
    compiled = compiled_program(
        chunk,
        run,
        (data, jnp.int32(0), jax.random.key_data(key)),
        (run, infos),
        static=("chunk", static, program, implementation),
        compiler_options=compiler_options(),
        on_compile=on_compile,
    )
    return ChunkProgram(compiled)


_compiled_init = jax.jit(init, static_argnames=("static", "program"))


class Status(enum.StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    NON_FINITE = "non_finite"  # ten steps in a row were not finite; answers are those until then
    TIME_LIMIT = "time_limit"
    INTERRUPTED = "interrupted"  # on_chunk asked to stop


MOST_SKIPPED = 10
"""Steps in a row that are not finite, after which a run is given up."""


def _ten_in_a_row(skipped: np.ndarray) -> int | None:
    """Steps until, and with, the first `MOST_SKIPPED` of them that were skipped in a row."""
    if len(skipped) < MOST_SKIPPED:
        return None
    ends = np.flatnonzero(np.convolve(skipped, np.ones(MOST_SKIPPED), "valid") == MOST_SKIPPED)
    return int(ends[0]) + MOST_SKIPPED if len(ends) else None


@dataclasses.dataclass
class History:
    """What happened step by step, and the vote that came of it.

    A step that was skipped because it was not finite repeats the values of the step before (NaN
    and -1 if there is none) with log-weights -inf, so that its votes count nothing.
    """

    kl: np.ndarray  # float32 (steps, 18), nats per tensor type
    reconstruction: np.ndarray  # float32 (steps,), nats
    proposals: np.ndarray  # int32 (steps, 2): number of the answer proposed by sample and EMA
    weights: np.ndarray  # float32 (steps, 2): log-weights of these votes
    ranking: Ranking
    seconds: float = 0.0  # in steps and the vote, of all processes that have worked on the run

    @classmethod
    def empty(cls) -> History:
        return cls(
            np.zeros((0, 18), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, 2), np.int32),
            np.zeros((0, 2), np.float32),
            Ranking(),
        )

    @property
    def steps(self) -> int:
        """Steps taken, skipped ones among them."""
        return len(self.reconstruction)

    @property
    def skipped(self) -> np.ndarray:
        """Bool (steps,): which steps were not finite and left no trace."""
        return (self.weights == -np.inf).all(1)

    @property
    def given_up(self) -> bool:
        """Whether `MOST_SKIPPED` steps in a row were skipped."""
        return _ten_in_a_row(self.skipped) is not None

    def append(self, info: StepInfo, count: int, colors: np.ndarray) -> bool:
        """Adds the first `count` steps of a chunk, at most until `MOST_SKIPPED` in a row were skipped.

        colors: color value of each color index. Returns whether the run is to go on.
        """
        weights = np.asarray(info.candidates.weight)[:count]
        skipped = (weights == -np.inf).all(1)
        given_up = _ten_in_a_row(np.concatenate([self.skipped, skipped]))
        taken = count if given_up is None else given_up - self.steps
        grids_, crops = np.asarray(info.candidates.colors), np.asarray(info.candidates.crop)
        proposals = np.full((taken, 2), -1, np.int32)
        for i in np.flatnonzero(~skipped[:taken]):
            for c in range(2):
                answer = crop_answer(grids_[i, c], crops[i, c], colors)
                entry = self.ranking.vote(answer, weights[i, c], self.steps + int(i))
                proposals[i, c] = entry.order
        # For each step the last good one, counted from 1 within this chunk; 0 is what came before.
        source = np.maximum.accumulate(np.where(skipped[:taken], 0, np.arange(1, taken + 1)))

        def longer(so_far: np.ndarray, chunk: np.ndarray, nothing: float) -> np.ndarray:
            before = so_far[-1:] if len(so_far) else np.full((1, *so_far.shape[1:]), nothing, so_far.dtype)
            return np.concatenate([so_far, np.concatenate([before, chunk[:taken]])[source]])

        self.kl = longer(self.kl, np.asarray(info.kl), np.nan)
        self.proposals = longer(self.proposals, proposals, -1)
        self.weights = np.concatenate([self.weights, weights[:taken]])
        self.reconstruction = longer(self.reconstruction, np.asarray(info.reconstruction), np.nan)
        return given_up is None

    def rank_over_time(self, answer: Answer) -> np.ndarray:
        """Rank of one answer in the vote after each step, (steps,); 0 where not yet proposed."""
        found = self.ranking.find(answer)
        ranks = np.zeros(self.steps, np.int32)
        if found is None:
            return ranks
        scores = np.full(len(self.ranking), -np.inf)
        for i in range(self.steps):
            for c in range(2):
                n = self.proposals[i, c]
                scores[n] = np.logaddexp(scores[n], self.weights[i, c])
            if np.isfinite(scores[found.order]):
                own = scores[found.order]
                ranks[i] = 1 + (scores > own).sum() + (scores[: found.order] == own).sum()
        return ranks

    def leaders(self) -> np.ndarray:
        """Number of the leading answer after each step, (steps,)."""
        scores = np.full(len(self.ranking), -np.inf)
        out = np.zeros(self.steps, np.int32)
        for i in range(self.steps if len(scores) else 0):
            for c in range(2):
                n = self.proposals[i, c]
                scores[n] = np.logaddexp(scores[n], self.weights[i, c])
            out[i] = np.argmax(scores)
        return out


@dataclasses.dataclass
class Progress:
    """Passed to `on_chunk` after every chunk."""

    puzzle: Puzzle
    config: SolveConfig
    run: Run  # donated to the next chunk: copy what you keep
    history: History
    steps: int  # taken by this process; `history.steps` by all that have worked on the run
    seconds: float  # in this process's compiled steps and the vote so far, compilation apart
    compile_seconds: float  # in this process

    @property
    def steps_per_second(self) -> float:
        """Of this process."""
        return self.steps / self.seconds if self.seconds else 0.0


@dataclasses.dataclass(repr=False)
class Solution:
    """The outcome of `solve`."""

    puzzle: Puzzle
    config: SolveConfig
    status: Status
    history: History
    run: Run  # final state; the last good one if steps were skipped
    steps: int  # taken by this process; `history.steps` by all that have worked on the run
    seconds: float  # of this process; `history.seconds` of all
    compile_seconds: float  # of this process

    @property
    def answers(self) -> list[Answer]:
        """All proposed joint answers, best first."""
        return [entry.answer for entry in self.history.ranking.ranked()]

    @property
    def scores(self) -> list[float]:
        """Log-scores of `answers`."""
        return [entry.score for entry in self.history.ranking.ranked()]

    @property
    def attempts(self) -> tuple[Answer, Answer]:
        """The two answers to submit. Before anything was proposed: 2 x 2 black grids."""
        if not len(self.history.ranking):
            blank = tuple(np.zeros((2, 2), np.int8) for _ in self.puzzle.test)
            return blank, blank
        return self.history.ranking.attempts()

    @property
    def score(self) -> Score | None:
        """How the answers fare against the true solution, None if that is unknown."""
        if self.puzzle.solution is None:
            return None
        return score_answers(self.answers or self.attempts, self.puzzle.solution)

    def __repr__(self) -> str:
        steps = f"{self.history.steps} step{'' if self.history.steps == 1 else 's'}"
        judged = "" if self.score is None else f", {verdict(self.score)}"
        return f"Solution({self.puzzle.name!r}, {self.status} after {steps}{judged})"

    def _repr_html_(self) -> str:
        """Both guesses beside the truth, for notebooks."""
        from compressarc.notebook import MOST_ROWS, rows_html

        rows = []
        for t, grid in enumerate(self.puzzle.test[:MOST_ROWS]):
            truth = None if self.puzzle.solution is None else self.puzzle.solution[t]
            guesses = [(f"guess {n + 1}", answer[t], truth) for n, answer in enumerate(self.attempts)]
            last = [] if truth is None else [("truth", truth, None)]
            rows.append([(f"test {t} input", grid, None), *guesses, *last])
        return rows_html(repr(self), rows, max(0, len(self.puzzle.test) - MOST_ROWS))


def _as_puzzle(puzzle: Puzzle | str | Path | Mapping[str, Any]) -> Puzzle:
    """A puzzle, from an id, a file or the official form."""
    if isinstance(puzzle, Puzzle):
        return puzzle
    if isinstance(puzzle, Mapping):
        return parse_puzzle(dict(puzzle), "puzzle")
    if isinstance(puzzle, (str, Path)):
        return load_puzzle(puzzle)
    raise TypeError(
        f"puzzle: expected a Puzzle, an id, a path or the official form, got {type(puzzle).__name__}"
    )


def _as_key(key: PRNGKeyArray | None, seed: int | None) -> PRNGKeyArray:
    if (key is None) == (seed is None):
        raise ValueError("expected either key=jax.random.key(...) or seed=..., an integer")
    if key is None:
        assert seed is not None
        return jax.random.key(seed_number(seed))
    return key


def _as_state(resume_from: Any, puzzle: Puzzle, config: SolveConfig) -> tuple[Run, History]:
    """A copy of the state to go on from: steps donate it, and the caller's stays as it is.

    Raises: TypeError if it is none, ValueError if it is of another puzzle, or of more steps.
    """
    try:
        run, history = resume_from
        steps = history.steps
    except (TypeError, ValueError, AttributeError) as error:
        raise TypeError(f"resume_from: expected a state and its history ({error})") from error
    if steps > config.steps:
        raise ValueError(f"steps={config.steps}: the run to go on from has taken {steps} steps already")
    static = signature(puzzle.canvas)
    wanted = jax.eval_shape(lambda: init(static, config.program, key=jax.random.key(0)))
    same = jax.tree.structure(run) == jax.tree.structure(wanted)
    if not same or any(a.shape != b.shape for a, b in zip(*map(jax.tree.leaves, (run, wanted)), strict=True)):
        raise ValueError(
            f"resume_from: the state is not of puzzle {puzzle.name}: its arrays have other shapes"
        )
    return jax.tree.map(jnp.copy, run), copy.deepcopy(history)


def _ended(history: History, config: SolveConfig, stop_when: Callable[[], bool] | None) -> Status | None:
    """How a run has ended, if it has; None if it is to go on."""
    if history.given_up:
        return Status.NON_FINITE
    if history.steps >= config.steps:
        return Status.FINISHED
    return Status.INTERRUPTED if stop_when is not None and stop_when() else None


def solve(
    puzzle: Puzzle | str | Path | Mapping[str, Any],
    config: SolveConfig = SolveConfig(),  # noqa: B008, frozen
    *,
    key: PRNGKeyArray | None = None,
    seed: int | None = None,
    on_chunk: Callable[[Progress], bool | None] | None = None,
    time_limit: float | None = None,
    resume_from: tuple[Run, History] | None = None,
    stop_when: Callable[[], bool] | None = None,
    on_compile: OnCompile | None = None,
) -> Solution:
    """Trains on one puzzle and votes on its answer.

    Args:
      puzzle: a `Puzzle`, an ARC-AGI-1 id, a JSON file, or a dict in the official form. Its
        solution, if known, is used only for `Solution.score`.
      config: settings; the defaults are the paper's.
      key: decides the initial weights and all noise; equal keys give equal results.
      seed: a number instead of a key: seed=0 is key=jax.random.key(0).
      on_chunk: called after every chunk; return True to stop. Progress bars, logs and
        checkpoints attach here.
      time_limit: seconds after which no further chunk is started. There is always an answer.
      resume_from: state and history to go on from (`Checkpoints.restore`), which stay as they
        are. The result is the one an uninterrupted run of the same key would have given.
      stop_when: asked before the compilation and before every chunk; return True to stop.
      on_compile: called before the program is compiled, with whether it is in the cache.

    Returns: a `Solution`; its status tells whether the run finished. Steps that are not finite
      are skipped and counted (`History.skipped`); ten in a row end the run.

    Raises: ValueError or TypeError for a puzzle or setting that is wrong, before anything is compiled.
    """
    puzzle, key = _as_puzzle(puzzle), _as_key(key, seed)
    if not isinstance(config, SolveConfig):
        raise TypeError(f"config: expected a SolveConfig, got {type(config).__name__}")
    if time_limit is not None and not (isinstance(time_limit, numbers.Real) and time_limit > 0):
        raise ValueError(f"time_limit={time_limit!r}: expected a positive number of seconds")
    if resume_from is not None:
        resume_from = _as_state(resume_from, puzzle, config)
    started = time.perf_counter()
    deadline = math.inf if time_limit is None else started + time_limit
    canvas = puzzle.canvas
    static, data, program = signature(canvas), grids(canvas), config.program
    init_key, noise_key = jax.random.split(key)
    if resume_from is None:
        run, history = _compiled_init(static, program, key=init_key), History.empty()
    else:
        run, history = resume_from
    first, before = history.steps, history.seconds
    ended = _ended(history, config, stop_when)
    if ended is not None:  # before anything is compiled
        return Solution(puzzle, config, ended, history, run, 0, 0.0, time.perf_counter() - started)
    advance = chunk_program(run, data, noise_key, static, program, on_compile)
    # No step yet: the first call of a program has costs of its own.
    run, _ = jax.block_until_ready(advance(run, data, jnp.int32(0), noise_key))
    compile_seconds = time.perf_counter() - started
    begun = time.perf_counter()
    seconds = 0.0
    while (status := _ended(history, config, stop_when)) is None:
        count = min(config.chunk - history.steps % config.chunk, config.steps - history.steps)
        run, info = advance(run, data, jnp.int32(count), noise_key)
        going = history.append(jax.device_get(info), count, canvas.colors)
        seconds = time.perf_counter() - begun
        history.seconds = before + seconds
        progress = Progress(puzzle, config, run, history, history.steps - first, seconds, compile_seconds)
        stop = on_chunk is not None and on_chunk(progress)
        if going and history.steps < config.steps and (stop or time.perf_counter() > deadline):
            status = Status.INTERRUPTED if stop else Status.TIME_LIMIT
            break
    return Solution(puzzle, config, status, history, run, history.steps - first, seconds, compile_seconds)
