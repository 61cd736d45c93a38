"""The command `compressarc submission`: shares of a split, merged into one file in Kaggle's form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from compressarc.files import read_json, replace_json

if TYPE_CHECKING:
    from rich.console import Console

    from compressarc.cli import Submission
    from compressarc.puzzle import Puzzle

_BLANK = [[0, 0], [0, 0]]


class _Entry(NamedTuple):
    """One puzzle's attempts in one share."""

    attempts: list[dict[str, Any]]
    steps: int  # taken by all seeds; 0 where there is no guess yet, or it is not known
    share: Path


def _share(path: Path, wanted: set[tuple[str, str]]) -> dict[str, _Entry]:
    """The attempts of one share: a batch's folder or a submission file. Raises ValueError naming the file."""
    steps: dict[str, int] = {}
    file = path
    if path.is_dir():
        from compressarc.run_folder import RunFolder

        run = RunFolder(path)
        wanted.add((run.dataset, run.split))
        steps = {name: result["steps"] for name, result in run.results().items()}
        file = path / "submission.json"
    data = read_json(file)
    if not isinstance(data, dict) or not data:
        raise ValueError(f"{file}: expected a submission, an object of attempts by puzzle")
    out = {}
    for name, attempts in data.items():
        fine = isinstance(attempts, list) and all(
            isinstance(a, dict) and a.get("attempt_1") for a in attempts
        )
        if not fine or not attempts:
            raise ValueError(
                f"{file}: {name}: expected a list of attempt_1 and attempt_2, one per test input"
            )
        known = any(a["attempt_1"] != _BLANK for a in attempts)
        out[name] = _Entry(attempts, steps.get(name, int(known)), path)
    return out


def run_submission_command(command: Submission, console: Console) -> int:
    """Runs `compressarc submission`; returns the exit status (1: puzzles of the split are missing)."""
    if not command.runs:
        raise ValueError("submission: expected at least one folder of a batch, or submission file")

    def line(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    wanted: set[tuple[str, str]] = set()
    merged: dict[str, _Entry] = {}
    for path in command.runs:
        for name, entry in _share(path, wanted).items():
            before = merged.get(name)
            if before is not None:
                better = max(before, entry, key=lambda e: e.steps)
                line(f"{name}: in {before.share} and {entry.share}; taken from {better.share}")
                entry = better  # noqa: PLW2901
            merged[name] = entry
    if len(wanted) > 1 and (command.dataset is None or command.split is None):
        named = ", ".join(sorted(f"{d} {s}" for d, s in wanted))
        raise ValueError(f"shares of different splits ({named}); name one with --dataset and --split")
    dataset, split = next(iter(wanted), (None, None))
    dataset, split = command.dataset or dataset, command.split or split
    puzzles = _puzzles(dataset, split)
    order = list(puzzles) if puzzles else sorted(merged)
    missing = [name for name in order if name not in merged]
    strange = [name for name in merged if puzzles and name not in puzzles]
    blank = [name for name in order if name in merged and not merged[name].steps]
    out = {name: merged[name].attempts for name in order if name in merged}
    for name in missing:
        out[name] = [{"attempt_1": _BLANK, "attempt_2": _BLANK} for _ in puzzles[name].test]
    replace_json(command.out, {name: out[name] for name in order})
    whose = f" of {dataset} {split}" if puzzles else ""
    line(f"wrote {command.out}: {len(merged) - len(strange)} of {len(order)} puzzles{whose}")
    if not puzzles:
        line("which puzzles the split has is not known; name it with --dataset and --split")
    for names, what in (
        (missing, "in no share, and blank in the file"),
        (blank, "without a guess yet, and blank"),
        (strange, "not of this split, and left out"),
    ):
        if names:
            line(f"{len(names)} {what}: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}")
    return 1 if missing or blank else 0


def _puzzles(dataset: str | None, split: str | None) -> dict[str, Puzzle]:
    """The whole split, or nothing if it is not known here any more."""
    from compressarc.datasets import load_dataset

    if dataset is None:
        return {}
    try:
        return load_dataset(dataset).puzzles(split, dataset)[1]
    except (ValueError, OSError, json.JSONDecodeError):
        return {}
