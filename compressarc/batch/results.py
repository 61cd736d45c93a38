"""One puzzle's outcome as plain data: guesses, scores, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from compressarc.batch.records import BatchSettings, Record, RunStatus
from compressarc.grid import as_grid
from compressarc.multitensor import TYPES
from compressarc.puzzle import Puzzle
from compressarc.score import score_answers
from compressarc.solver.voting import count_votes, ranks_over_time

LISTED_ANSWERS = 10


COMPONENT_ROWS = 240
"""Rows of a latent component in a result file: what the page draws."""


CURVE_POINTS = 200
"""Points of each curve in a result file."""


def _thinned(values: Float[np.ndarray, " steps"]) -> list[float | None]:
    """At most `CURVE_POINTS` entries, the last one among them, five digits each; None for no number."""
    index = np.unique(np.linspace(0, len(values) - 1, min(CURVE_POINTS, len(values))).astype(int))
    return [float(f"{v:.5g}") if np.isfinite(v) else None for v in values[index]]


def puzzle_result(puzzle: Puzzle, records: Mapping[int, Record], settings: BatchSettings) -> dict[str, Any]:
    """One puzzle's outcome as plain data, for JSON: all seeds' votes counted together."""
    histories = [r.history for r in records.values()]
    ranking = count_votes(histories, settings.vote)
    ranked = ranking.ranked()
    ended = [seed for seed, r in records.items() if r.ended]
    statuses = {r.status.value for r in records.values()}
    complete = len(ended) == len(settings.seeds)
    out: dict[str, Any] = {
        "puzzle": puzzle.name,
        "source": puzzle.source,
        "status": "/".join(sorted(statuses)) if complete else RunStatus.RUNNING.value,
        "vote": settings.vote,
        "steps": max((h.steps for h in histories), default=0),
        "skipped_steps": sum(int(h.skipped.sum()) for h in histories),
        "seconds": round(sum(r.seconds for r in records.values()), 3),
        "seeds": {
            str(seed): {
                "status": r.status.value,
                "steps": r.history.steps,
                "skipped_steps": int(r.history.skipped.sum()),
                "seconds": round(r.seconds, 3),
                "attempts": [[g.tolist() for g in e.answer] for e in r.history.ranking.ranked()[:2]],
            }
            for seed, r in records.items()
        },
        "answers": [
            {
                "grids": [g.tolist() for g in entry.answer],
                "score": round(entry.score, 6),
                "votes": entry.votes,
                "first_step": entry.first_step,
            }
            for entry in ranked[:LISTED_ANSWERS]
        ],
        "num_answers": len(ranked),
    }
    first = next(iter(records.values()))
    if first.history.steps:
        out["curves"] = {
            "last_step": first.history.steps,
            "kl": _thinned(first.history.kl.sum(1)),
            "reconstruction": _thinned(first.history.reconstruction),
            "kl_per_tensor": {
                code: _thinned(first.history.kl[:, i])
                for i, code in enumerate(TYPES)
                if first.history.kl[-1, i] > 1
            },
        }
    if first.components:
        out["components"] = [_component(code, a) for code, a in first.components.items()]
    if puzzle.solution is not None:
        score = score_answers([e.answer for e in ranked] or [()], puzzle.solution) if ranked else None
        ranks = ranks_over_time(histories, puzzle.solution, settings.vote)
        changes = np.flatnonzero(np.diff(np.concatenate([[0], ranks])))
        out |= {
            "rank_of_solution": None if score is None else score.rank,
            "solved": {f"pass@{n}": bool(score and score.solved(n)) for n in (1, 2)},
            "official_score": 0.0 if score is None else score.per_output,
            "rank_changes": [[int(s) + 1, int(ranks[s])] for s in changes],
        }
    return out


_KINDS: dict[str, tuple[type, ...]] = {
    "status": (str,), "vote": (str,), "steps": (int,), "skipped_steps": (int,), "seconds": (int, float),
    "answers": (list,), "seeds": (dict,), "curves": (dict,), "components": (list,), "solved": (dict,),
    "rank_of_solution": (int, type(None)), "official_score": (int, float), "rank_changes": (list,),
}  # fmt: skip


_NEEDED = ("status", "answers", "steps", "seconds")


_NEEDED_TO_JUDGE = ("rank_of_solution", "official_score", "solved", "rank_changes")


def checked_result(result: Any, puzzle: Puzzle, path: Path) -> dict[str, Any]:
    """A puzzle's result as it was written.

    Raises: ValueError naming the file and what is wrong with it.
    """
    hint = "remove it and go on with `compressarc batch --resume`, which counts its votes anew"
    try:
        if not isinstance(result, dict):
            raise TypeError(f"expected an object, got {type(result).__name__}")
        needed = _NEEDED if puzzle.solution is None else _NEEDED + _NEEDED_TO_JUDGE
        missing = [key for key in needed if key not in result]
        if missing:
            raise ValueError(f"missing key {missing[0]!r}")
        for key, kinds in _KINDS.items():
            if key in result and (not isinstance(result[key], kinds) or isinstance(result[key], bool)):
                raise TypeError(f"{key} should be {kinds[0].__name__}, got {type(result[key]).__name__}")
        for i, answer in enumerate(result["answers"]):
            grids = [as_grid(g, f"answers[{i}].grids[{j}]") for j, g in enumerate(answer["grids"])]
            if len(grids) != len(puzzle.test):
                raise ValueError(f"answers[{i}]: {len(grids)} grids for {len(puzzle.test)} test inputs")
        for change in result.get("rank_changes", ()):
            if len(change) != 2 or not all(isinstance(n, int) for n in change):
                raise ValueError("rank_changes should be pairs of step and rank")
        if "solved" in result and not all(isinstance(result["solved"][f"pass@{n}"], bool) for n in (1, 2)):
            raise TypeError("solved should say true or false for pass@1 and pass@2")
        _check_drawn(result)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        reason = f"missing key {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: {reason}; {hint}") from error
    return result


def _check_drawn(result: Mapping[str, Any]) -> None:
    """What the page draws: curves and components. Raises TypeError, ValueError or KeyError."""
    curves = result.get("curves")
    if curves is not None:
        every = [curves["kl"], curves["reconstruction"], *curves["kl_per_tensor"].values()]
        fine = all(isinstance(v, (int, float, type(None))) for curve in every for v in curve)
        if not fine or not isinstance(curves["last_step"], int):
            raise TypeError("curves should be lists of numbers")
    for component in result.get("components", ()):
        if component["type"] not in TYPES or not all(isinstance(n, int) for n in component["shape"]):
            raise ValueError("components should have a type and a shape")
        if not all(isinstance(v, (int, float)) for v in component["values"]):
            raise TypeError("components should hold numbers")


def _component(code: str, values: Float[np.ndarray, "..."]) -> dict[str, Any]:
    """A tensor's leading component for the report; axes of the type, scaled to [-1, 1]."""
    drawn = values.reshape(-1, values.shape[-1])[:COMPONENT_ROWS].ravel()
    return {"type": code, "shape": list(values.shape), "values": [round(float(v), 2) for v in drawn]}


def solved_over_time(
    results: Sequence[Mapping[str, Any]], steps: int, guesses: int = 2
) -> Int[np.ndarray, " steps"]:
    """How many puzzles are solved after each step, (steps,); ended runs keep their last standing."""
    solved = np.zeros(steps, np.int64)
    for result in results:
        changes = result.get("rank_changes", [])
        ends = [step for step, _ in changes[1:]] + [steps + 1]
        for (step, rank), end in zip(changes, ends, strict=False):
            if 1 <= rank <= guesses:
                solved[step - 1 : end - 1] += 1
    return solved
