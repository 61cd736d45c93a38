"""Pictures: puzzles, solutions, training curves (PNG, headless)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from compressarc.files import replacing
from compressarc.grid import Grid, wrong_cells
from compressarc.multitensor import TYPES
from compressarc.palette import INK, PALETTE
from compressarc.puzzle import Puzzle
from compressarc.score import verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from compressarc.solver.history import History
    from compressarc.solver.solve import Solution


MOST_ROWS = 20
"""Rows of grids in a picture; what comes after is counted and not drawn."""

_LONGEST = 2.1
"""Inches of the longest side of a grid, as long as its cells can be seen; they have one size in a picture."""

_SMALLEST = 0.07
"""Inches of a cell, unless the picture would be too wide."""

_WIDEST = 24.0
"""Inches that no picture is wider than."""


def new_figure(width: float, height: float) -> Figure:
    """A figure that needs no display and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path, dpi: int = 110) -> Path:
    """Writes a PNG in one step: the file is whole or not there."""
    path = Path(path)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=dpi, facecolor="white")
    return path


class Cells(NamedTuple):
    """The largest grid of a picture, in cells: every grid of it is drawn at its scale."""

    rows: int
    columns: int

    @classmethod
    def of(cls, grids: Iterable[np.ndarray]) -> Cells:
        """Room for all of these."""
        shapes = [np.asarray(g).shape[:2] for g in grids]
        return cls(max(h for h, _ in shapes), max(w for _, w in shapes))

    def inch(self, across: int) -> float:
        """Side of one cell, with `across` grids side by side."""
        return min(0.4, max(_LONGEST / max(self), _SMALLEST), _WIDEST / (across * self.columns))

    def inches(self, across: int) -> tuple[float, float]:
        """Width and height of one grid's place."""
        cell = self.inch(across)
        return max(self.columns * cell, 0.9), max(self.rows * cell, 0.2)


def draw_grid(
    axes: Axes, grid: Grid | np.ndarray, title: str = "", *, cells: Cells, truth: Grid | None = None
) -> None:
    """One grid of color values, or of RGB triples 0..255, with cell borders.

    cells: the picture's largest grid. truth: cells that differ from it are crossed out.
    """
    grid = np.asarray(grid)
    image = PALETTE[grid] if grid.ndim == 2 else grid.astype(np.uint8)
    rows, columns = image.shape[:2]
    _empty(axes, title, cells)
    axes.imshow(image, interpolation="nearest", extent=(0, columns, rows, 0), zorder=1)
    width = 0.6 if max(cells) <= 20 else 0.3
    axes.hlines(range(rows + 1), 0, columns, colors="#555555", linewidth=width, zorder=2)
    axes.vlines(range(columns + 1), 0, rows, colors="#555555", linewidth=width, zorder=2)
    axes.set_xlim(-0.05, cells.columns + 0.05)
    axes.set_ylim(cells.rows + 0.05, -0.05)
    if truth is not None and grid.ndim == 2:
        i, j = np.nonzero(wrong_cells(grid, truth))
        size = 72 * cells.inch(1) * 0.55
        axes.scatter(j + 0.5, i + 0.5, marker="x", s=size**2, linewidths=max(0.5, size / 9),
                     color=INK[grid[i, j]] / 255, zorder=3)  # fmt: skip


def _empty(axes: Axes, title: str, cells: Cells) -> None:
    axes.set_xlim(0, cells.columns)
    axes.set_ylim(cells.rows, 0)
    axes.set_aspect("equal")
    axes.set_anchor("N")
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=9, parse_math=False)


def _unknown(axes: Axes, title: str, cells: Cells) -> None:
    _empty(axes, title, cells)
    size = min(24.0, 60 * cells.rows * cells.inch(1))
    axes.text(
        cells.columns / 2,
        cells.rows / 2,
        "?",
        fontsize=max(size, 7),
        ha="center",
        va="center",
        color="#777777",
    )


def _headed(figure: Figure, title: str, left_out: int = 0) -> None:
    more = f" (and {left_out} more, not drawn)" if left_out > 0 else ""
    figure.suptitle(title + more, fontsize=11, parse_math=False)


def draw_puzzle(puzzle: Puzzle, *, show_solution: bool = False) -> Figure:
    """Pairs, one row each: input, arrow, output ("?" for what is asked); the first ones of very many."""
    train = [(i, o, f"train {n}") for n, (i, o) in enumerate(puzzle.train)]
    truths = puzzle.solution if show_solution and puzzle.solution else [None] * len(puzzle.test)
    test = [(i, o, f"test {n}") for n, (i, o) in enumerate(zip(puzzle.test, truths, strict=True))]
    tests = test[: max(MOST_ROWS // 2, MOST_ROWS - len(train))]
    pairs: list[tuple[Grid, Grid | None, str]] = [*train[: MOST_ROWS - len(tests)], *tests]
    left_out = len(train) + len(test) - len(pairs)
    cells = Cells.of([g for left, right, _ in pairs for g in (left, right) if g is not None])
    width, height = cells.inches(2)
    figure = new_figure(2 * width + 0.9, (height + 0.35) * len(pairs) + 0.45)
    axes = figure.subplots(len(pairs), 3, squeeze=False, width_ratios=(width, 0.3, width))
    for (left, middle, right), (grid, output, name) in zip(axes, pairs, strict=True):
        draw_grid(left, grid, f"{name}: input", cells=cells)
        middle.set_axis_off()
        middle.set_xlim(0, 1)
        middle.set_ylim(0, 1)
        middle.annotate(
            "", (1, 0.5), (0, 0.5), arrowprops={"arrowstyle": "->", "lw": 1.6, "color": "#444444"}
        )
        if output is None:
            _unknown(right, f"{name}: output", cells)
        else:
            draw_grid(right, output, f"{name}: output", cells=cells)
    _headed(figure, puzzle.name, left_out)
    return figure


def _blend(
    logits: Float[np.ndarray, "C1 X Y"], crop: Int[np.ndarray, "2 2"], colors: Int[np.ndarray, " C1"]
) -> Float[np.ndarray, "rows columns 3"]:
    """Softmax-weighted mix of the colors of logits [C+1, X, Y], cut to crop [2, 2]; RGB."""
    weights = np.exp(logits - logits.max(0))
    weights /= weights.sum(0)
    (x, h), (y, w) = crop
    return np.einsum("cxy,ck->xyk", weights, PALETTE[colors].astype(float))[x : x + h, y : y + w]


def draw_solution(solution: Solution) -> Figure:
    """One row per test input: input, last sample, average of the samples (EMA), guesses, truth.

    The average mixes the colors by their probability; the sample shows the likeliest. Cells of
    sample and guesses that differ from the truth are crossed out.
    """
    from compressarc.solver.candidates import crops_of

    puzzle, history = solution.puzzle, solution.history
    first, second = solution.attempts
    proposed = list(history.ranking)
    crops = crops_of(solution.run.ema, puzzle.canvas) if proposed else None
    rows: list[list[tuple[str, np.ndarray | None]]] = []
    for t in range(min(len(puzzle.test), MOST_ROWS)):
        truth = None if puzzle.solution is None else puzzle.solution[t]
        row: list[tuple[str, np.ndarray | None]] = [(f"test {t}: input", puzzle.test[t])]
        row.append(("sample", proposed[history.proposals[-1, 0]].answer[t] if proposed else None))
        average = None
        if crops is not None:
            average = _blend(np.asarray(solution.run.ema.logits)[..., t], crops[t], puzzle.canvas.colors)
        row.append(("sample average", average))
        for name, answer in (("guess 1", first), ("guess 2", second)):
            mark = "" if truth is None else ": right" if np.array_equal(answer[t], truth) else ": wrong"
            row.append((name + mark, answer[t]))
        if truth is not None:
            row.append(("truth", truth))
        rows.append(row)
    cells = Cells.of([grid for row in rows for _, grid in row if grid is not None])
    width, height = cells.inches(len(rows[0]))
    figure = new_figure((width + 0.25) * len(rows[0]), (height + 0.4) * len(rows) + 0.45)
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for t, (places, row) in enumerate(zip(axes, rows, strict=True)):
        truth = None if puzzle.solution is None else puzzle.solution[t]
        for place, (title, grid) in zip(places, row, strict=True):
            if grid is None:
                _unknown(place, title, cells)
            else:
                compared = truth if title.startswith(("sample", "guess")) else None
                draw_grid(place, grid, title, cells=cells, truth=compared)
    word = "" if solution.score is None else f": {verdict(solution.score)}"
    title = f"{puzzle.name} after {history.steps} step{'' if history.steps == 1 else 's'}{word}"
    _headed(figure, title, len(puzzle.test) - len(rows))
    return figure


def type_label(code: str) -> str:
    """A tensor type in words, such as `example x row`."""
    names = ("example", "color", "direction", "row", "column")
    return " x ".join(name for name, bit in zip(names, code, strict=True) if bit == "1")


def _legend(axes: Axes, title: str | None = None) -> None:
    """A legend beside the curves, not on them."""
    axes.legend(
        fontsize=7,
        title=title,
        title_fontsize=7,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
    )


def draw_kl(axes: Axes, history: History, floor: float = 0.1) -> None:
    """KL of every tensor type against the step, log scale; labels for those that survive."""
    end = history.kl[-1]
    for i in np.argsort(-end):
        alive = end[i] > 1
        label = f"{type_label(TYPES[i])} ({end[i]:.1f})" if alive else None
        axes.plot(
            np.maximum(history.kl[:, i], floor),
            lw=1.3 if alive else 0.7,
            alpha=1 if alive else 0.35,
            label=label,
        )
    axes.set_yscale("log")
    axes.set_ylabel("KL per tensor (nats)")
    axes.set_xlabel("step")
    if axes.get_legend_handles_labels()[0]:
        _legend(axes, "above 1 nat at the end")


def draw_curves(solution: Solution) -> Figure:
    """Total KL and reconstruction, KL per tensor, and the vote, all against the step."""
    history, truth = solution.history, solution.puzzle.solution
    never = truth is not None and history.ranking.find(truth) is None
    figure = new_figure(9.5, 5.6 if never else 8.0)
    panels = figure.subplots(2 if never else 3, 1, sharex=True)
    panels[0].plot(history.kl.sum(1), label="total KL")
    # Early on, where sizes are uncertain, the reconstruction term can be negative.
    reconstruction = np.where(history.reconstruction > 0, history.reconstruction, np.nan)
    panels[0].plot(reconstruction, label="reconstruction")
    panels[0].set_yscale("log")
    panels[0].set_ylabel("nats")
    _legend(panels[0])
    draw_kl(panels[1], history)
    if not never:
        panels[1].set_xlabel("")
        draw_vote(panels[2], solution)
    note = "; the right answer was never proposed" if never else ""
    _headed(figure, f"{solution.puzzle.name}: description length and vote{note}")
    return figure


def draw_vote(axes: Axes, solution: Solution) -> None:
    """Rank of the right answer over time, or the leading answer's number where it was never proposed."""
    history, truth = solution.history, solution.puzzle.solution
    if truth is not None and history.ranking.find(truth) is not None:
        ranks = history.rank_over_time(truth).astype(float)
        ranks[ranks == 0] = np.nan
        axes.plot(ranks, ".", ms=3)
        axes.set_ylabel("rank of the right answer")
        axes.set_yscale("log")
        worst = max(10, int(np.nanmax(ranks)))
        ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if n <= worst]
        axes.set_yticks(ticks, labels=[str(n) for n in ticks])
        axes.set_yticks([], minor=True)
        axes.set_ylim(1.3 * worst, 0.7)
        axes.axhspan(0.8, 2.2, color="#4fcc30", alpha=0.15)
    else:
        axes.plot(history.leaders(), ".", ms=3)
        axes.set_ylabel("leading answer\n(by first appearance)")
    axes.set_xlabel("step")
