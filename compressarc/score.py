"""Scoring, by the paper's rule and by the official one (paper, "results"; Kaggle rules).

Paper: a puzzle counts as solved with n guesses if one of the n best *joint* answers has
every test output right. Official: each test output counts separately if either of two
attempts has it right, and a puzzle's score is the share of its test outputs.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compressarc.puzzle import Grid, as_grid


@dataclasses.dataclass(frozen=True)
class Score:
    """How one puzzle's ranked answers fare against its solution."""

    rank: int | None  # 1-based rank of the right joint answer, None if absent
    per_output: float  # official rule: share of test outputs right in either attempt

    def solved(self, guesses: int = 2) -> bool:
        """The paper's pass@n."""
        return self.rank is not None and self.rank <= guesses


def _same(a: Sequence[Grid], b: Sequence[Grid]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def score_answers(ranked: Sequence[Sequence[Grid]], solution: Sequence[Grid]) -> Score:
    """Scores joint answers, best first, against the true test outputs."""
    rank = next((i + 1 for i, answer in enumerate(ranked) if _same(answer, solution)), None)
    hits = [
        any(np.array_equal(answer[t], truth) for answer in ranked[:2]) for t, truth in enumerate(solution)
    ]
    return Score(rank, float(np.mean(hits)))


@dataclasses.dataclass(frozen=True)
class SplitScore:
    """Totals over many puzzles."""

    puzzles: int
    solved: dict[int, int]  # guesses -> puzzles solved, the paper's rule
    official: float  # summed official scores

    def fraction(self, guesses: int = 2) -> float:
        """Share of puzzles solved with the given number of guesses (paper's rule)."""
        return self.solved[guesses] / self.puzzles if self.puzzles else 0.0


def score_split(scores: Mapping[str, Score], guesses: Sequence[int] = (1, 2)) -> SplitScore:
    """Totals of per-puzzle scores under both rules."""
    return SplitScore(
        puzzles=len(scores),
        solved={n: sum(s.solved(n) for s in scores.values()) for n in guesses},
        official=float(sum(s.per_output for s in scores.values())),
    )


def read_outcomes(path: str | Path, split: str | None = None) -> dict[str, Score]:
    """Per-puzzle outcomes recorded as a table (the published run's, for instance).

    Columns used: split, task, n_guesses_needed_at_2000 (empty: more than two, or never),
    per_test_output_score_at_2000.

    Raises: ValueError naming the file and the missing column.
    """
    with Path(path).open(newline="") as file:
        reader = csv.DictReader(file)
        needed = {"split", "task", "n_guesses_needed_at_2000", "per_test_output_score_at_2000"}
        missing = needed - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: missing column(s) {sorted(missing)}")
        out = {}
        for row in reader:
            if split is None or row["split"] == split:
                rank = row["n_guesses_needed_at_2000"]
                per_output = float(row["per_test_output_score_at_2000"])
                out[row["task"]] = Score(int(rank) if rank else None, per_output)
    return out


def submission(attempts: Mapping[str, Sequence[Sequence[Grid]]]) -> dict[str, list[dict[str, Any]]]:
    """Kaggle form: {id: [{"attempt_1": grid, "attempt_2": grid} for each test input]}.

    attempts: per puzzle, one or two joint answers, best first.
    """
    out: dict[str, list[dict[str, Any]]] = {}
    for name, answers in attempts.items():
        first, second = answers[0], answers[min(1, len(answers) - 1)]
        out[name] = [
            {"attempt_1": np.asarray(a).tolist(), "attempt_2": np.asarray(b).tolist()}
            for a, b in zip(first, second, strict=True)
        ]
    return out


def read_answers(path: str | Path) -> dict[str, list[tuple[Grid, ...]]]:
    """Answers from a `result.json` of `compressarc solve`, or a submission file.

    Returns joint answers per puzzle, best first.
    Raises: ValueError naming the file and key that are wrong.
    """
    try:
        data = json.loads(Path(path).read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(data).__name__}")
    if "answers" in data and "puzzle" in data:
        answers = [
            tuple(as_grid(g, f"{path}: answers[{i}].grids[{j}]") for j, g in enumerate(a["grids"]))
            for i, a in enumerate(data["answers"])
        ]
        return {str(data["puzzle"]): answers}
    out = {}
    for name, outputs in data.items():
        if not isinstance(outputs, list) or not outputs:
            raise ValueError(f"{path}: {name}: expected a non-empty list of attempts")
        joint = []
        for attempt in ("attempt_1", "attempt_2"):
            grids = []
            for t, output in enumerate(outputs):
                if not isinstance(output, dict) or attempt not in output:
                    raise ValueError(f"{path}: {name}[{t}]: missing key {attempt!r}")
                grids.append(as_grid(output[attempt], f"{path}: {name}[{t}].{attempt}"))
            joint.append(tuple(grids))
        out[name] = joint
    return out
