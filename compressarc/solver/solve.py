"""Solving one puzzle: the driver around pure steps."""

from __future__ import annotations

import copy
import dataclasses
import enum
import math
import numbers
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from compressarc.config import SolveConfig, seed_number
from compressarc.datasets import load_puzzle, parse_puzzle
from compressarc.network.inputs import grids, signature
from compressarc.puzzle import Puzzle
from compressarc.score import Score, score_answers, verdict
from compressarc.solver.history import History
from compressarc.solver.program_cache import OnCompile
from compressarc.solver.ranking import Answer
from compressarc.solver.step import Run, chunk_program, compiled_init, init


class Status(enum.StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    NON_FINITE = "non_finite"  # ten steps in a row were not finite; answers are those until then
    TIME_LIMIT = "time_limit"
    INTERRUPTED = "interrupted"  # on_chunk asked to stop


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
        from compressarc.grid_html import MOST_ROWS, rows_html

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
        run, history = compiled_init(static, program, key=init_key), History.empty()
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
