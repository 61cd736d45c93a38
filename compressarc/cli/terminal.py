"""Grids and progress in the terminal (rich)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.style import Style
from rich.text import Text

from compressarc.files import printable
from compressarc.grid import Grid, wrong_cells
from compressarc.palette import INK, PALETTE
from compressarc.puzzle import Puzzle
from compressarc.score import Score, verdict

if TYPE_CHECKING:
    from compressarc.solver.ranking import Ranking
    from compressarc.solver.solve import Progress as SolveProgress
    from compressarc.solver.solve import Solution

_SHOWN_PAIRS = 20
"""Pairs of a puzzle that are printed."""


def _style(color: int) -> Style:
    background, ink = PALETTE[color], INK[color]
    return Style(color=f"rgb({ink[0]},{ink[1]},{ink[2]})",
                 bgcolor=f"rgb({background[0]},{background[1]},{background[2]})")  # fmt: skip


def grid_text(
    grid: Grid, title: str = "", *, digits: bool = False, truth: Grid | None = None, width: int | None = None
) -> Text:
    """A grid as colored cells, two characters wide; digits where colors can't be seen.

    truth: cells that differ from it are marked, with `><` or with an exclamation mark.
    width: characters there are; colored cells get narrower to fit, and what still does not is left out.
    """
    grid = np.asarray(grid)
    wrong = np.zeros(grid.shape, bool) if truth is None else wrong_cells(grid, truth)
    columns = grid.shape[1]
    cell = 2 if digits or width is None or 2 * columns <= width else 1
    shown = columns if width is None else max(1, min(columns, width // cell))
    text = Text(no_wrap=True)
    if shown < columns:
        title = f"{title} (first {shown} of {columns} columns)".lstrip()
    if title:
        text.append(f"{title}\n")
    for i, row in enumerate(grid[:, :shown]):
        if i:
            text.append("\n")
        for j, color in enumerate(row):
            if digits:
                text.append(f"{color}{'!' if wrong[i, j] else ' '}")
            else:
                text.append("><"[:cell] if wrong[i, j] else " " * cell, style=_style(int(color)))
    return text


def _digits(console: Console) -> bool:
    return console.color_system is None or console.no_color


def side_by_side(
    console: Console, grids: Sequence[tuple[str, Grid]], truth: Grid | None = None
) -> RenderableType:
    """Several titled grids in a row, as far as the terminal is wide enough.

    truth: what the grids called a guess are compared with.
    """
    digits = _digits(console)
    return Columns(
        [
            grid_text(g, t, digits=digits, truth=truth if "guess" in t else None, width=console.width)
            for t, g in grids
        ],
        padding=(0, 3),
    )


def show_puzzle(console: Console, puzzle: Puzzle, *, solution: bool = False) -> None:
    """Prints the pairs of a puzzle, the first ones if there are very many."""
    console.print(Text.assemble((printable(puzzle.name), "bold"), f"  {printable(puzzle.source)}"))
    for n, (left, right) in enumerate(puzzle.train[:_SHOWN_PAIRS]):
        console.print(side_by_side(console, [(f"train {n} input", left), ("output", right)]))
        console.print()
    for n, grid in enumerate(puzzle.test[:_SHOWN_PAIRS]):
        shown = [(f"test {n} input", grid)]
        if solution and puzzle.solution:
            shown.append(("solution", puzzle.solution[n]))
        console.print(side_by_side(console, shown))
        console.print()
    left_out = sum(max(0, len(pairs) - _SHOWN_PAIRS) for pairs in (puzzle.train, puzzle.test))
    if left_out:
        console.print(f"... and {left_out} more pair{'' if left_out == 1 else 's'}", highlight=False)


def show_guesses(console: Console, puzzle: Puzzle, ranking: Ranking) -> None:
    """Prints both guesses, beside the truth where it is known."""
    first, second = ranking.attempts()
    for t, grid in enumerate(puzzle.test[:_SHOWN_PAIRS]):
        name = f"test {t}: " if len(puzzle.test) > 1 else ""
        shown = [(f"{name}input", grid), (f"{name}guess 1", first[t]), (f"{name}guess 2", second[t])]
        truth = None if puzzle.solution is None else puzzle.solution[t]
        if truth is not None:
            shown.append((f"{name}truth", truth))
        console.print(side_by_side(console, shown, truth))
        console.print()


def show_solution(console: Console, solution: Solution) -> None:
    """Prints both guesses, and whether they are right where that is known."""
    if len(solution.history.ranking):
        show_guesses(console, solution.puzzle, solution.history.ranking)
    console.print(judgement(solution.score, len(solution.puzzle.test)), highlight=False)


def judgement(score: Score | None, tests: int) -> Text:
    """The last word: right, partly right or wrong, and in what way."""
    if score is None:
        return Text("The true solution is not known.")
    word = verdict(score)
    if score.solved(2):
        text = f": guess {score.rank} is the solution"
    elif word == "partly right":
        right = round(score.per_output * tests)
        text = f": {right} of {tests} test outputs, by either guess; no guess has all of them"
    else:
        where = f"it ranks {score.rank}" if score.rank else "it was never proposed"
        text = f": neither guess is the solution; {where}"
    style = {"right": "bold green", "partly right": "bold yellow", "wrong": "bold red"}[word]
    return Text.assemble((word, style), text)


def summary(solution: Solution) -> str:
    """One line: steps, seconds of this process and of all, compilation, how it ended."""
    history = solution.history
    steps = f"{solution.steps} step{'' if solution.steps == 1 else 's'}"
    line = f"{steps} in {solution.seconds:.1f} s"
    if history.steps > solution.steps:
        line += f" by this process, {history.steps} in {history.seconds:.1f} s in all"
    line += f" (compilation {solution.compile_seconds:.1f} s): {solution.status}"
    skipped = int(history.skipped.sum())
    if skipped:
        line += f"; {skipped} step{'' if skipped == 1 else 's'} skipped, which were not finite"
    return line


class SolveDisplay:
    """A progress bar with speed, description length and the leading answer, while a run goes on."""

    def __init__(self, console: Console, puzzle: Puzzle, steps: int) -> None:
        self._console, self._puzzle, self._steps = console, puzzle, steps
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task(printable(puzzle.name, 40), total=steps, status="")
        self._live = Live(self._bar, console=console, refresh_per_second=4, transient=False)
        self._printed = 0
        self.phase = "starting"
        """What goes on: starting, compiling, stepping, writing."""

    def __enter__(self) -> SolveDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        self._console.print(printable(line, 2000), markup=False, highlight=False, soft_wrap=True)

    def acknowledge(self) -> None:
        """Says what a first Ctrl-C or SIGTERM will do."""
        after = {
            "starting": "as soon as it has started",
            "compiling": "after the compilation",
            "stepping": "after this chunk of steps",
            "writing": "once the results are written",
        }[self.phase]
        self.say(f"stopping {after}; again to stop at once")

    def compiling(self, what: str) -> None:
        """Says what is going on before the first step."""
        self._bar.update(self._task, status=what)
        if not self._console.is_terminal:
            self.say(what)

    def compiling_step(self, cached: bool) -> None:
        """Says that the training step is being compiled, or comes from the cache."""
        self.phase = "compiling"
        how = "from the cache" if cached else "about half a minute, once per puzzle shape"
        self.compiling(f"compiling the training step ({how})")

    def update(self, progress: SolveProgress) -> None:
        """Shows the state after a chunk."""
        self.phase = "stepping"
        history = progress.history
        kl, reconstruction = history.kl[-1].sum(), history.reconstruction[-1]
        status = (
            f"{progress.steps_per_second:.1f} steps/s  KL {kl:,.0f}  reconstruction {reconstruction:,.1f}"
        )
        if self._console.is_terminal:
            self._bar.update(self._task, completed=history.steps, status=status)
            shown: list[RenderableType] = [self._bar]
            if len(history.ranking):
                best = history.ranking.ranked()[0]
                grids = [(f"leading answer, test {t}", g) for t, g in enumerate(best.answer[:_SHOWN_PAIRS])]
                shown.append(side_by_side(self._console, grids))
            self._live.update(Group(*shown))
        elif history.steps >= self._printed + self._steps // 10 or history.steps == self._steps:
            self._printed = history.steps
            self.say(f"step {history.steps}/{self._steps}  {status}")
