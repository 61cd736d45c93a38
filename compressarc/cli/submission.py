"""The command `compressarc submission`: shares of a split, merged into one file in Kaggle's form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compressarc.cli.messages import say
from compressarc.files import printable, replace_json
from compressarc.score import BLANK, Attempt, is_blank, read_answers, submission

if TYPE_CHECKING:
    from rich.console import Console

    from compressarc.cli.commands import Submission
    from compressarc.grid import Grid

_NAMED = 10
"""Puzzles that a line names."""


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One puzzle's answers in one share."""

    answers: list[Attempt]  # best first
    steps: int  # taken by all seeds; where that is not known 1, and 0 where the answers are blank
    share: Path


@dataclasses.dataclass
class _Merge:
    """What the shares hold, and which split they are of."""

    problems: list[str] = dataclasses.field(default_factory=list)
    entries: dict[str, _Entry] = dataclasses.field(default_factory=dict)
    splits: dict[tuple[str, str], dict[str, int]] = dataclasses.field(default_factory=dict)
    """(data set, split) that batches are of -> test inputs of its puzzles"""

    def add(self, path: Path, tell: Callable[[str], None]) -> None:
        """Adds a share. Where two hold one puzzle, the one with more steps counts, and that is said."""
        for name, entry in self._share(path).items():
            before = self.entries.get(name)
            if before is not None:
                better = max(before, entry, key=lambda e: e.steps)
                tell(f"{name}: in {before.share} and {entry.share}; taken from {better.share}")
                entry = better  # noqa: PLW2901
            self.entries[name] = entry

    def _share(self, path: Path) -> dict[str, _Entry]:
        steps: dict[str, int] = {}
        if (path / "settings.json").exists():
            from compressarc.batch.store import RunFolder

            run = RunFolder(path)
            tests = self.splits.setdefault((run.dataset, run.split), {})
            tests |= run.whole_split.tests | {n: len(p.test) for n, p in run.puzzles.items()}
            steps = {name: result["steps"] for name, result in run.results().items()}
        answers = read_answers(path, self.problems)
        return {
            name: _Entry(found, steps.get(name, int(not is_blank(found))), path)
            for name, found in answers.items()
            if found
        }


def _tests(command: Submission, merge: _Merge) -> tuple[str, dict[str, int]]:
    """Name of the split, and the test inputs of all of its puzzles; nothing if it is not known.

    Raises: ValueError if it was named and is not there, or the shares are of several splits.
    """
    if len(merge.splits) > 1 and (command.dataset is None or command.split is None):
        named = ", ".join(sorted(f"{d} {s}" for d, s in merge.splits))
        raise ValueError(f"shares of different splits ({named}); name one with --dataset and --split")
    (dataset, split), own = next(iter(merge.splits.items()), ((None, None), {}))
    if command.dataset is None and command.split in (None, split):
        return f"{dataset} {split}", own
    if command.dataset is None and dataset is None:
        raise ValueError("--split needs --dataset")
    from compressarc.datasets import load_dataset

    place = command.dataset or dataset
    assert place is not None
    name, puzzles = load_dataset(place).puzzles(command.split or split, place)
    return f"{place} {name}", {n: len(p.test) for n, p in puzzles.items()}


def _two(entry: _Entry, tests: int) -> list[tuple[Grid, ...]]:
    """Two joint answers of that many outputs; blank where there is none."""
    blank = np.array(BLANK, np.int8)
    answers = [a or (None,) * tests for a in entry.answers[:2]]
    answers += [(None,) * tests] * (2 - len(answers))
    return [tuple(blank if grid is None else np.asarray(grid) for grid in answer) for answer in answers]


def _outputs(entry: _Entry) -> int:
    """Outputs of the answers, of which one may be malformed."""
    return max((len(a) for a in entry.answers if a is not None), default=0)


def run_submission_command(command: Submission, console: Console) -> int:
    """Runs `compressarc submission`; returns the exit status (1: puzzles or attempts are missing)."""
    if not command.runs:
        raise ValueError("submission: expected at least one folder of a batch, or submission file")

    def line(text: str) -> None:
        console.print(printable(text, 2000), markup=False, soft_wrap=True)

    merge = _Merge()
    for path in command.runs:
        merge.add(path, line)
    whose, tests = _tests(command, merge)
    entries = merge.entries
    for name, entry in list(entries.items()):
        outputs = {len(a) for a in entry.answers[:2] if a is not None}
        expected = tests.get(name, _outputs(entry))
        if outputs - {expected}:
            merge.problems.append(
                f"{entry.share}: {name}: {sorted(outputs - {expected})[0]} outputs for {expected} "
                f"test input{'' if expected == 1 else 's'}"
            )
            del entries[name]
    order = list(tests) if tests else sorted(entries)
    known = [name for name in order if name in entries]
    attempts = {}
    for name in order:
        count = tests.get(name) or _outputs(entries[name])
        attempts[name] = _two(entries.get(name, _Entry([], 0, Path())), count)
    replace_json(command.out, submission(attempts))
    line(f"wrote {command.out}: {len(known)} of {len(order)} puzzles{f' of {whose}' if tests else ''}")
    if not tests:
        line("which puzzles the split has is not known; name it with --dataset and --split")
    missing = [name for name in order if name not in entries]
    blank = [name for name in known if not entries[name].steps]
    _name(line, missing, "in no share, and blank in the file")
    _name(line, blank, "without a guess yet, and blank")
    _name(line, [name for name in entries if tests and name not in tests], "not of this split, and left out")
    for problem in merge.problems:
        say(problem)
    return 1 if missing or blank or merge.problems else 0


def _name(line: Callable[[str], None], names: Sequence[str], what: str) -> None:
    if names:
        more = ", ..." if len(names) > _NAMED else ""
        line(f"{len(names)} {what}: {', '.join(names[:_NAMED])}{more}")
