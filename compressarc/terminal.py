"""Grids and progress in the terminal (rich)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from compressarc.draw import PALETTE
from compressarc.puzzle import Grid, Puzzle

if TYPE_CHECKING:
    from compressarc.solver import Progress as SolveProgress
    from compressarc.solver import Solution

_STYLES = [f"on rgb({r},{g},{b})" for r, g, b in PALETTE]


def grid_text(grid: Grid, title: str = "", *, digits: bool = False) -> Text:
    """A grid as colored cells, two characters wide; digits where colors can't be seen."""
    text = Text(no_wrap=True)
    if title:
        text.append(f"{title}\n")
    for i, row in enumerate(np.asarray(grid)):
        if i:
            text.append("\n")
        for color in row:
            cell = f"{color} " if digits else "  "
            text.append(cell, style="" if digits else _STYLES[color])
    return text


def _digits(console: Console) -> bool:
    return console.color_system is None


def side_by_side(console: Console, grids: Sequence[tuple[str, Grid]]) -> RenderableType:
    """Several titled grids in a row, as far as the terminal is wide enough."""
    return Columns([grid_text(g, t, digits=_digits(console)) for t, g in grids], padding=(0, 3))


def show_puzzle(console: Console, puzzle: Puzzle, *, solution: bool = False) -> None:
    """Prints all pairs of a puzzle."""
    console.print(f"[bold]{puzzle.name}[/bold]  {puzzle.source}")
    for n, (left, right) in enumerate(puzzle.train):
        console.print(side_by_side(console, [(f"train {n} input", left), ("output", right)]))
        console.print()
    for n, grid in enumerate(puzzle.test):
        shown = [(f"test {n} input", grid)]
        if solution and puzzle.solution:
            shown.append(("solution", puzzle.solution[n]))
        console.print(side_by_side(console, shown))
        console.print()


def show_solution(console: Console, solution: Solution) -> None:
    """Prints both guesses, beside the truth where it is known."""
    puzzle = solution.puzzle
    first, second = solution.attempts
    for t, grid in enumerate(puzzle.test):
        shown = [("input", grid), ("guess 1", first[t]), ("guess 2", second[t])]
        if puzzle.solution:
            shown.append(("truth", puzzle.solution[t]))
        console.print(side_by_side(console, shown))
        console.print()
    score = solution.score
    if score is None:
        console.print("The true solution is not known.")
    elif score.solved(1):
        console.print("[bold green]right[/bold green]: guess 1 is the solution")
    elif score.solved(2):
        console.print("[bold green]right[/bold green]: guess 2 is the solution")
    else:
        where = f"it ranks {score.rank}" if score.rank else "it was never proposed"
        console.print(f"[bold red]wrong[/bold red]: neither guess is the solution; {where}")


class SolveDisplay:
    """A progress bar with speed, description length and the leading answer, while a run goes on."""

    def __init__(self, console: Console, puzzle: Puzzle, steps: int):
        self._console, self._puzzle, self._steps = console, puzzle, steps
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task(puzzle.name, total=steps, status="")
        self._live = Live(self._bar, console=console, refresh_per_second=4, transient=False)
        self._printed = 0

    def __enter__(self) -> SolveDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def compiling(self, what: str) -> None:
        """Says what is being compiled, before the first step."""
        self._bar.update(self._task, status=what)
        if not self._console.is_terminal:
            self._console.print(what, highlight=False)

    def update(self, progress: SolveProgress) -> None:
        """Shows the state after a chunk."""
        history = progress.history
        kl, reconstruction = history.kl[-1].sum(), history.reconstruction[-1]
        status = (
            f"{progress.steps_per_second:.1f} steps/s  KL {kl:,.0f}  reconstruction {reconstruction:,.1f}"
        )
        if self._console.is_terminal:
            best = history.ranking.ranked()[0]
            grids = [(f"leading answer, test {t}", g) for t, g in enumerate(best.answer)]
            self._bar.update(self._task, completed=history.steps, status=status)
            self._live.update(Group(self._bar, side_by_side(self._console, grids)))
        elif history.steps >= self._printed + self._steps // 10 or history.steps == self._steps:
            self._printed = history.steps
            self._console.print(f"step {history.steps}/{self._steps}  {status}", highlight=False)
