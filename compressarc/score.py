"""Scoring, by each of the rules in use (paper, "results"; ARC Prize; Kaggle).

- Paper: a puzzle counts as solved with n guesses if one of the n best *joint* answers has
  every test output right.
- ARC Prize (called official here): each test output counts separately if either of two
  attempts has it right, and a puzzle's score is the share of its test outputs.
- Kaggle: the share of all test outputs of a split that either attempt has right.

A percentage is of the whole split that the answers belong to: puzzles without an answer are
missing, and count as not solved.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from compressarc.files import parsed_json, read_text
from compressarc.grid import Grid, as_grid, wrong_cells

Attempt = Sequence[ArrayLike | None] | None
"""A joint answer: one grid per test output, None where there is none, or for all of it."""

BLANK = ((0, 0), (0, 0))
"""What stands in a submission where there is no guess."""


class OutputScore(NamedTuple):
    """How two attempts fare at one test output."""

    right: bool  # either of them is the solution
    size_right: bool  # either has the solution's size
    pixels: float  # share of the solution's cells that the better attempt has right
    missing: int  # attempts that there are not


@dataclasses.dataclass(frozen=True)
class Score:
    """How one puzzle's ranked answers fare against its solution."""

    rank: int | None  # 1-based rank of the right joint answer, None if absent
    per_output: float  # ARC Prize's rule: share of test outputs right in either attempt
    outputs: tuple[OutputScore, ...] = ()  # where the answers themselves are known

    def solved(self, guesses: int = 2) -> bool:
        """The paper's pass@n."""
        return self.rank is not None and self.rank <= guesses


def verdict(score: Score) -> str:
    """The word for a puzzle with two guesses: right, partly right (some test outputs) or wrong."""
    if score.solved(2):
        return "right"
    return "partly right" if score.per_output > 0 else "wrong"


def _pixels_right(guess: ArrayLike | None, truth: ArrayLike) -> float:
    if guess is None:
        return 0.0
    return float((~wrong_cells(guess, truth)).sum() / np.asarray(truth).size)


def _equal(guess: ArrayLike | None, truth: ArrayLike) -> bool:
    return guess is not None and np.array_equal(guess, truth)


def score_answers(ranked: Sequence[Attempt], solution: Sequence[ArrayLike]) -> Score:
    """Scores joint answers, best first, against the true test outputs.

    Raises: ValueError if an answer has more or fewer outputs than the solution, or one is no grid.
    """
    for answer in ranked:
        if answer is not None and len(answer) != len(solution):
            raise ValueError(f"{_count(len(answer), 'output')} for {_count(len(solution), 'test input')}")
    rank = next(
        (i + 1 for i, a in enumerate(ranked) if a is not None and all(map(_equal, a, solution))), None
    )
    outputs = []
    for t, truth in enumerate(solution):
        two = [None if answer is None else answer[t] for answer in ranked[:2]]
        outputs.append(
            OutputScore(
                right=any(_equal(g, truth) for g in two),
                size_right=any(g is not None and np.shape(g) == np.shape(truth) for g in two),
                pixels=max((_pixels_right(g, truth) for g in two), default=0.0),
                missing=sum(g is None for g in two) + 2 - len(two),
            )
        )
    return Score(rank, float(np.mean([o.right for o in outputs])), tuple(outputs))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclasses.dataclass(frozen=True)
class SplitScore:
    """Totals over the puzzles of a split, those without an answer included."""

    puzzles: int  # in the split
    solved: dict[int, int]  # guesses -> puzzles solved, the paper's rule
    official: float  # summed shares of test outputs, ARC Prize's rule
    missing: tuple[str, ...] = ()  # puzzles without an answer
    outputs: int = 0  # test outputs in the split, where they are known
    outputs_right: int = 0  # Kaggle's rule

    def fraction(self, guesses: int = 2) -> float:
        """Share of puzzles solved with the given number of guesses (paper's rule)."""
        return self.solved[guesses] / self.puzzles if self.puzzles else 0.0


def score_split(
    scores: Mapping[str, Score], guesses: Sequence[int] = (1, 2), *, split: Mapping[str, int] | None = None
) -> SplitScore:
    """Totals of per-puzzle scores under all rules.

    split: number of test outputs of every puzzle of the split, by name; without it, the
    puzzles that have a score are taken for the whole split.
    """
    if split is None:
        split = {name: len(score.outputs) for name, score in scores.items()}
    counted = {name: score for name, score in scores.items() if name in split}
    return SplitScore(
        puzzles=len(split),
        solved={n: sum(s.solved(n) for s in counted.values()) for n in guesses},
        official=float(sum(s.per_output for s in counted.values())),
        missing=tuple(name for name in split if name not in counted),
        outputs=sum(split.values()),
        outputs_right=sum(o.right for s in counted.values() for o in s.outputs),
    )


def percent(part: float, whole: float) -> str:
    """A share in percent: `0.25 %`."""
    return f"{100 * part / whole:.2f} %" if whole else "-"


def is_blank(answers: Sequence[Attempt]) -> bool:
    """Whether answers are only what stands where there is no guess: 2 x 2 black everywhere."""
    grids = [grid for answer in answers for grid in (answer or ()) if grid is not None]
    return bool(grids) and all(np.array_equal(grid, BLANK) for grid in grids)


def describe_split(total: SplitScore) -> list[str]:
    """The totals in words, each named by its rule."""
    counts = ", ".join(
        f"pass@{n} {count} ({percent(count, total.puzzles)})" for n, count in total.solved.items()
    )
    lines = [
        f"joint answers (paper's rule), of {_count(total.puzzles, 'puzzle')}: {counts}",
        f"test outputs of each puzzle, averaged (ARC Prize's rule): {total.official:.2f} of "
        f"{_count(total.puzzles, 'puzzle')} ({percent(total.official, total.puzzles)})",
    ]
    if total.outputs:
        lines.append(
            f"test outputs, all alike (Kaggle's rule): {total.outputs_right} of "
            f"{_count(total.outputs, 'test output')} ({percent(total.outputs_right, total.outputs)})"
        )
    if total.missing:
        named = ", ".join(total.missing[:5]) + (", ..." if len(total.missing) > 5 else "")
        lines.append(f"{len(total.missing)} missing, which count as not solved: {named}")
    return lines


def read_outcomes(path: str | Path, split: str | None = None) -> dict[str, Score]:
    """Per-puzzle outcomes recorded as a table (the published run's, for instance).

    Columns used: split, task, n_guesses_needed_at_2000 (empty: more than two, or never),
    per_test_output_score_at_2000.

    Raises: ValueError naming the file and the missing column.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
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

    Raises: ValueError naming a puzzle without an answer.
    """
    out: dict[str, list[dict[str, Any]]] = {}
    for name, answers in attempts.items():
        if not len(answers):
            raise ValueError(f"{name}: no answer; expected one or two")
        first, second = answers[0], answers[min(1, len(answers) - 1)]
        out[name] = [
            {"attempt_1": np.asarray(a).tolist(), "attempt_2": np.asarray(b).tolist()}
            for a, b in zip(first, second, strict=True)
        ]
    return out


class _Problems:
    """What is malformed: raised at once, or noted in a list."""

    def __init__(self, noted: list[str] | None) -> None:
        self.noted = noted

    def note(self, line: str) -> None:
        if self.noted is None:
            raise ValueError(line)
        self.noted.append(line)

    def remark(self, line: str) -> None:
        """Notes what is unusual, but no error."""
        if self.noted is not None:
            self.noted.append(line)

    def grid(self, value: Any, where: str) -> Grid | None:
        """A grid; None where it is malformed."""
        try:
            return as_grid(value, where)
        except ValueError as error:
            self.note(str(error))
            return None

    def attempt(self, output: Any, key: str, where: str) -> Grid | None:
        """One attempt; None where it is left out, null or malformed. Left out or null counts as wrong."""
        value = output.get(key) if isinstance(output, dict) else None
        if value is None:
            if self.noted is None:
                raise ValueError(f"{where}: missing key {key!r}")
            return None
        return self.grid(value, f"{where}.{key}")

    def submitted(self, outputs: Any, where: str) -> list[Attempt]:
        """Both attempts of one puzzle of a submission."""
        if not isinstance(outputs, list) or not outputs:
            self.note(f"{where}: expected a non-empty list of attempts, one per test input")
            return []
        for t, output in enumerate(outputs):
            if output is not None and not isinstance(output, dict):
                self.note(f"{where}[{t}]: expected attempt_1 and attempt_2, got {type(output).__name__}")
            elif output is not None and (more := sorted(set(output) - {"attempt_1", "attempt_2"})):
                self.remark(f"{where}[{t}]: ignored: {', '.join(more)[:100]}; two attempts count")
        return [
            tuple(self.attempt(output, key, f"{where}[{t}]") for t, output in enumerate(outputs))
            for key in ("attempt_1", "attempt_2")
        ]

    def ranked(self, listed: Any, where: str) -> list[Attempt]:
        """The answers of a `result.json`, best first; one that is malformed keeps its place as None."""
        if not isinstance(listed, list):
            self.note(f"{where}: answers should be a list, got {type(listed).__name__}")
            return []
        out: list[Attempt] = []
        for i, answer in enumerate(listed):
            grids = answer.get("grids") if isinstance(answer, dict) else None
            if not isinstance(grids, list):
                self.note(f"{where}: answers[{i}]: expected an object with a list of grids")
                out.append(None)
                continue
            out.append(tuple(self.grid(g, f"{where}: answers[{i}].grids[{j}]") for j, g in enumerate(grids)))
        return out


def read_answers(path: str | Path, problems: list[str] | None = None) -> dict[str, list[Attempt]]:
    """Answers from a `result.json` of `compressarc solve`, a submission, or the folder of a batch.

    problems: where to note what is malformed, a line each; it counts as no answer then, as do
    attempts that are left out or null. Without it they are errors.

    Returns joint answers per puzzle, best first; None for a grid that there is not, or for a whole
    answer that is malformed.

    Raises: ValueError naming the file and key that are wrong, or the file if it can't be read.
    """
    path, note = Path(path), _Problems(problems)
    if path.is_dir():
        path = path / ("submission.json" if (path / "submission.json").exists() else "result.json")
    data = parsed_json(read_text(path), str(path), note.remark)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(data).__name__}")
    if "answers" in data and "puzzle" in data:
        return {str(data["puzzle"]): note.ranked(data["answers"], str(path))}
    if not data:
        raise ValueError(f"{path}: no answers in it")
    return {name: note.submitted(outputs, f"{path}: {name}") for name, outputs in data.items()}
