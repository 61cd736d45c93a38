"""The command `compressarc score`: files of answers against the splits they belong to."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from compressarc.cli.messages import say
from compressarc.datasets import DEFAULT_DATASET
from compressarc.files import printable
from compressarc.grid import as_grid
from compressarc.score import (
    Attempt,
    Score,
    SplitScore,
    describe_split,
    is_blank,
    percent,
    read_answers,
    score_answers,
    score_split,
    verdict,
)

if TYPE_CHECKING:
    from rich.console import Console

    from compressarc.cli.commands import Score as Command
    from compressarc.puzzle import Puzzle

_LISTED = 50
"""Problems that are printed; all of them are counted."""


@dataclasses.dataclass
class _Split:
    """A split that answers belong to."""

    title: str
    truth: dict[str, Puzzle]
    outputs: dict[str, int]  # test outputs of the puzzles whose solutions are known
    unknown: int  # puzzles without a known solution
    scores: dict[str, Score] = dataclasses.field(default_factory=dict)
    blank: int = 0  # puzzles whose answers are blank
    touched: bool = False  # whether any answer belongs to it


class _Given(NamedTuple):
    """One puzzle's answers in one file."""

    path: Path
    attempts: list[Attempt]
    splits: tuple[str, ...] | None  # to which they may belong; None: those of the data set


class _Scorer:
    """Reads answers and judges them in the splits they belong to; notes whatever is wrong."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.splits: dict[str, _Split] = {}
        self.of_dataset: tuple[str, ...] = ()
        self.dataset = command.dataset or DEFAULT_DATASET

    def run(self) -> None:
        """Reads and judges everything."""
        found = self._read()
        if any(given.splits is None for given in found.values()):
            self._load()
        for name, given in found.items():
            self._judge(name, given)

    def _read(self) -> dict[str, _Given]:
        """Answers of all files; the later file counts where two have one puzzle."""
        found: dict[str, _Given] = {}
        for path in self.command.files:
            try:
                answers, splits = self._read_one(path)
            except ValueError as error:
                self.problems.append(str(error))
                continue
            for name, attempts in answers.items():
                if name in found and found[name].splits == splits:
                    self.problems.append(f"{name}: in {found[name].path} and in {path}; the latter counts")
                found[name] = _Given(path, attempts, splits)
        return found

    def _read_one(self, path: Path) -> tuple[dict[str, list[Attempt]], tuple[str, ...] | None]:
        if not (path / "settings.json").exists() or self.command.dataset is not None:
            return read_answers(path, self.problems), None
        from compressarc.batch.store import RunFolder

        run = RunFolder(path)
        title = f"{run.dataset} {run.split}".strip()
        unknown = len(run.whole_split.unknown)
        split = self.splits.setdefault(title, _Split(title, {}, {}, unknown, touched=True))
        split.truth |= run.puzzles
        split.outputs |= run.split_outputs()
        answers: dict[str, list[Attempt]] = {
            name: [tuple(as_grid(g, f"{path}: {name}") for g in a["grids"]) for a in result["answers"]]
            for name, result in run.results().items()
        }
        return answers, (title,)

    def _load(self) -> None:
        from compressarc.cli.messages import loaded

        splits = loaded(self.dataset, strict=self.command.strict).splits
        if self.command.split is not None:
            if self.command.split not in splits:
                raise ValueError(
                    f"{self.dataset}: no split {self.command.split!r}; there are {', '.join(splits)}"
                )
            splits = {self.command.split: splits[self.command.split]}
        for name, puzzles in splits.items():
            title = f"{self.dataset} {name}"
            split = self.splits.setdefault(title, _Split(title, {}, {}, 0))
            split.truth = puzzles | split.truth
            split.outputs |= {n: len(p.solution) for n, p in puzzles.items() if p.solution is not None}
            split.unknown = sum(p.solution is None for p in puzzles.values())
        self.of_dataset = tuple(f"{self.dataset} {name}" for name in splits)

    def _judge(self, name: str, given: _Given) -> None:
        """Scores one puzzle's answers, in every split that has it with its solution."""
        places = [self.splits[t] for t in given.splits or self.of_dataset if name in self.splits[t].truth]
        known = [split for split in places if split.truth[name].solution is not None]
        if not known:
            what = "no known solution" if places else "no such puzzle"
            self.problems.append(f"{given.path}: {name}: {what} in dataset {self.dataset}")
        if len(known) > 1:
            titles = " and ".join(split.title for split in known)
            self.notes.append(f"{name}: judged in {titles}, which both have it; --split chooses")
        for split in known:
            split.touched = True
            solution = split.truth[name].solution
            assert solution is not None
            try:
                score = score_answers(given.attempts, solution)
            except ValueError as error:
                self.problems.append(f"{given.path}: {name}: {error}")
                continue
            if is_blank(given.attempts) and not any(o.right for o in score.outputs):
                split.blank += 1
            else:
                split.scores[name] = score


def _as_json(splits: list[tuple[_Split, SplitScore]], problems: list[str]) -> dict[str, Any]:
    return {
        "splits": {
            split.title.rpartition(" ")[2]: {
                "of": split.title,
                "puzzles": total.puzzles,
                "missing": list(total.missing),
                "blank": split.blank,
                "without_known_solution": split.unknown,
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
                    for name, score in split.scores.items()
                },
            }
            for split, total in splits
        },
        "problems": problems,
    }


def run_score_command(command: Command, console: Console) -> int:
    """Runs `compressarc score`; returns the exit status (1: something could not be read)."""
    if not command.files:
        raise ValueError("score: expected at least one result.json, submission file or folder of a batch")
    scorer = _Scorer(command)
    scorer.run()
    touched = [s for s in scorer.splits.values() if s.touched and s.outputs]
    scored = [(split, score_split(split.scores, split=split.outputs)) for split in touched]
    problems = [*scorer.problems, *scorer.notes]
    if command.json:
        sys.stdout.write(json.dumps(_as_json(scored, problems), indent=1) + "\n")
    else:
        for split, total in scored:
            _print_split(console, split, total)
    for line in problems[:_LISTED]:
        say(line)
    if len(problems) > _LISTED:
        say(f"... and {len(problems) - _LISTED} more")
    if not scored:
        raise ValueError("no answer could be scored")
    return 1 if scorer.problems else 0


def _print_split(console: Console, split: _Split, total: SplitScore) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    scores = split.scores

    table = Table(
        Column("puzzle", overflow="fold"),
        "verdict",
        "rank of solution",
        "test outputs right",
        "sizes right",
        "pixels right",
    )
    for name, score in scores.items():
        outputs = score.outputs
        pixels = sum(o.pixels for o in outputs)
        table.add_row(
            Text(printable(name)),
            verdict(score),
            str(score.rank or "-"),
            f"{sum(o.right for o in outputs)} of {len(outputs)}",
            f"{sum(o.size_right for o in outputs)} of {len(outputs)}",
            percent(pixels, len(outputs)),
        )
    if scores:
        console.print(table)
    console.print(split.title, markup=False, highlight=False, style="bold", soft_wrap=True)
    lines = describe_split(total)
    if split.blank:
        puzzles = f"{split.blank} puzzle{'' if split.blank == 1 else 's'}"
        lines.append(f"{puzzles} among the missing with blank answers (2 x 2 black) only")
    if split.unknown:
        puzzles = f"{split.unknown} puzzle{'' if split.unknown == 1 else 's'}"
        lines.append(f"{puzzles} of the split without a known solution, which no percentage counts")
    for line in lines:
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
