"""The command `compressarc score`: files of answers against the splits they belong to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressarc.score import (
    Attempt,
    Score,
    describe_split,
    percent,
    read_answers,
    score_answers,
    score_split,
    verdict,
)

if TYPE_CHECKING:
    from rich.console import Console

    from compressarc.cli import Score as Command
    from compressarc.puzzle import Puzzle

_LISTED = 50
"""Problems that are printed; all of them are counted."""


def _read(paths: tuple[Path, ...], problems: list[str]) -> dict[str, tuple[Path, list[Attempt]]]:
    """Answers of all files; the later file counts where two have one puzzle."""
    found: dict[str, tuple[Path, Any]] = {}
    for path in paths:
        try:
            answers = read_answers(path, problems)
        except ValueError as error:
            problems.append(str(error))
            continue
        for name, attempts in answers.items():
            if name in found:
                problems.append(f"{name}: in {found[name][0]} and in {path}; the latter counts")
            found[name] = path, attempts
    return found


def _scored(
    found: dict[str, tuple[Path, list[Attempt]]], truth: dict[str, Puzzle], problems: list[str], dataset: str
) -> dict[str, Score]:
    scores = {}
    for name, (path, attempts) in found.items():
        puzzle = truth.get(name)
        if puzzle is None or puzzle.solution is None:
            what = "no such puzzle" if puzzle is None else "no known solution"
            problems.append(f"{path}: {name}: {what} in dataset {dataset}")
            continue
        try:
            scores[name] = score_answers(attempts, puzzle.solution)
        except ValueError as error:
            problems.append(f"{path}: {name}: {error}")
    return scores


def _as_json(splits: dict[str, tuple[dict[str, Score], Any]], problems: list[str]) -> dict[str, Any]:
    return {
        "splits": {
            split: {
                "puzzles": total.puzzles,
                "missing": list(total.missing),
                "paper": {f"pass@{n}": count for n, count in total.solved.items()},
                "arc_prize": total.official,
                "kaggle": {"outputs": total.outputs, "right": total.outputs_right},
                "scores": {
                    name: {
                        "verdict": verdict(score),
                        "rank_of_solution": score.rank,
                        "official_score": score.per_output,
                        "outputs": [o._asdict() for o in score.outputs],
                    }
                    for name, score in scores.items()
                },
            }
            for split, (scores, total) in splits.items()
        },
        "problems": problems,
    }


def run_score_command(command: Command, console: Console) -> int:
    """Runs `compressarc score`; returns the exit status (1: something could not be read)."""
    from compressarc.datasets import load_splits

    if not command.files:
        raise ValueError("score: expected at least one result.json, submission file or folder of a batch")
    problems: list[str] = []
    found = _read(command.files, problems)
    splits = load_splits(command.dataset)
    scored: dict[str, tuple[dict[str, Score], Any]] = {}
    truth = {name: puzzle for puzzles in splits.values() for name, puzzle in puzzles.items()}
    scores = _scored(found, truth, problems, command.dataset)
    for split, puzzles in splits.items():
        own = {name: score for name, score in scores.items() if name in puzzles}
        sizes = {name: len(p.solution) for name, p in puzzles.items() if p.solution is not None}
        if own:
            scored[split] = own, score_split(own, split=sizes)
    if command.json:
        sys.stdout.write(json.dumps(_as_json(scored, problems), indent=1) + "\n")
    else:
        for split, (own, total) in scored.items():
            _print_split(console, f"{command.dataset} {split}", own, total)
    for line in problems[:_LISTED]:
        print(f"compressarc: {line}", file=sys.stderr)  # noqa: T201
    if len(problems) > _LISTED:
        print(f"compressarc: ... and {len(problems) - _LISTED} more", file=sys.stderr)  # noqa: T201
    if not scored:
        raise ValueError("no answer could be scored")
    return 1 if problems else 0


def _print_split(console: Console, title: str, scores: dict[str, Score], total: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "puzzle", "verdict", "rank of solution", "test outputs right", "sizes right", "pixels right"
    )
    for name, score in scores.items():
        outputs = score.outputs
        pixels = sum(o.pixels for o in outputs)
        table.add_row(
            Text(name),
            verdict(score),
            str(score.rank or "-"),
            f"{sum(o.right for o in outputs)} of {len(outputs)}",
            f"{sum(o.size_right for o in outputs)} of {len(outputs)}",
            percent(pixels, len(outputs)),
        )
    console.print(table)
    console.print(title, markup=False, highlight=False, style="bold")
    for line in describe_split(total):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    every = [o for score in scores.values() for o in score.outputs]
    answered = [o for o in every if o.missing < 2]
    missing = sum(o.missing for o in every)
    if answered:
        console.print(
            f"of {len(answered)} test outputs with an attempt: {sum(o.size_right for o in answered)} of the "
            f"right size, {percent(sum(o.pixels for o in answered), len(answered))} of the pixels right",
            highlight=False,
            soft_wrap=True,
        )
    if missing:
        console.print(f"{missing} attempts are missing or null, which count as wrong", highlight=False)
