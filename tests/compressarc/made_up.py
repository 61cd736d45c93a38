"""Runs and solutions that were never computed, for tests that draw, print and score."""

from __future__ import annotations

import jax
import numpy as np

import compressarc
from compressarc.network.inputs import signature
from compressarc.solver.candidates import Candidates, TestOutputs
from compressarc.solver.history import History
from compressarc.solver.ranking import Ranking
from compressarc.solver.solve import Solution, Status
from compressarc.solver.step import Run


def chunk(skipped):
    """What a chunk reports: every good step proposes an answer of its own number."""
    skipped = np.asarray(skipped)[:, None]
    n = len(skipped)
    colors = np.zeros((n, 2, 1, 1, 1), np.int8)
    colors[:, :, 0, 0, 0] = np.arange(n)[:, None] % 3
    weight = np.where(skipped, -np.inf, -1.0).astype(np.float32) * np.ones((1, 2), np.float32)
    kl = np.where(skipped, np.nan, np.arange(n)[:, None] + np.ones((1, 18))).astype(np.float32)
    crop = np.broadcast_to(np.array([[0, 1], [0, 1]], np.int16), (n, 2, 1, 2, 2))
    return compressarc.StepInfo(kl, kl[:, 0].copy(), Candidates(colors, crop, weight))


def history(answers, steps=40):
    """The answers proposed in turn, the later ones with more weight."""
    ranking, proposals, weights = Ranking(), [], []
    for step in range(steps):
        number = step * len(answers) // steps
        weight = float(number) - 5
        entry = ranking.vote(answers[number], weight, step)
        ranking.vote(answers[number], weight, step)
        proposals.append([entry.order] * 2)
        weights.append([weight] * 2)
    rng = np.random.default_rng(0)
    kl = 10 * np.abs(rng.standard_normal((steps, 18))).astype(np.float32)
    return History(
        kl,
        np.linspace(500, 1, steps, dtype=np.float32),
        np.array(proposals, np.int32),
        np.array(weights, np.float32),
        ranking,
    )


def solution(puzzle, answers, steps=40):
    """A finished run whose last answers rank first. The state is the average outputs alone."""
    static = signature(puzzle.canvas)
    s, t = static.shape, static.num_test
    rng = np.random.default_rng(1)
    ema = TestOutputs(
        rng.normal(size=(s.colors + 1, s.x, s.y, t)).astype(np.float32),
        np.ones((t, s.x), np.float32),
        np.ones((t, s.y), np.float32),
    )
    run = Run(None, None, ema, np.int32(steps))
    config = compressarc.SolveConfig(steps=max(steps, 1))
    past = history(answers, steps) if steps else History.empty()
    return Solution(puzzle, config, Status.FINISHED, past, run, steps, 1.0, 2.0)


_COMPILED: list[str] = []


def _listen(event: str, duration: float, **_: object) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _COMPILED.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


def compiled_programs() -> int:
    """How many programs this process has compiled so far."""
    return len(_COMPILED)
