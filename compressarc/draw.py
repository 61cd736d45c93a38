"""Pictures: puzzles, solutions, training curves (PNG, headless)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compressarc.multitensor import TYPES
from compressarc.puzzle import Grid, Puzzle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from compressarc.solver import History, Solution

PALETTE = np.array(
    [
        (0, 0, 0),
        (30, 147, 255),
        (249, 60, 49),
        (79, 204, 48),
        (255, 220, 0),
        (153, 153, 153),
        (229, 58, 163),
        (255, 133, 27),
        (135, 216, 241),
        (146, 18, 49),
    ],
    np.uint8,
)
"""RGB of the colors 0..9, as the paper draws them."""

COLOR_NAMES = ("black", "blue", "red", "green", "yellow", "gray", "magenta", "orange", "light blue", "brown")


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
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=dpi, facecolor="white")
    partial.replace(path)
    return path


def draw_grid(axes: Axes, grid: Grid | np.ndarray, title: str = "") -> None:
    """One grid of color values, or of RGB triples 0..255, with cell borders."""
    image = PALETTE[grid] if grid.ndim == 2 else grid.astype(np.uint8)
    rows, columns = image.shape[:2]
    axes.imshow(image, interpolation="nearest", extent=(0, columns, rows, 0))
    axes.set_xticks(range(columns + 1), labels=[])
    axes.set_yticks(range(rows + 1), labels=[])
    axes.tick_params(length=0)
    axes.grid(True, color="#555555", linewidth=0.6 if max(rows, columns) <= 20 else 0.3)
    if title:
        axes.set_title(title, fontsize=9)


def _unknown(axes: Axes, title: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.text(0.5, 0.5, "?", fontsize=28, ha="center", va="center", color="#777777")
    axes.set_title(title, fontsize=9)


def draw_puzzle(puzzle: Puzzle, *, show_solution: bool = False) -> Figure:
    """All pairs, one row each: input, arrow, output ("?" for what is asked)."""
    pairs: list[tuple[Grid, Grid | None, str]] = [
        (i, o, f"train {n}") for n, (i, o) in enumerate(puzzle.train)
    ]
    for n, grid in enumerate(puzzle.test):
        truth = puzzle.solution[n] if show_solution and puzzle.solution else None
        pairs.append((grid, truth, f"test {n}"))
    figure = new_figure(5.2, 2.1 * len(pairs) + 0.3)
    axes = figure.subplots(len(pairs), 3, squeeze=False, width_ratios=(1, 0.15, 1))
    for (left, middle, right), (grid, output, name) in zip(axes, pairs, strict=True):
        draw_grid(left, grid, f"{name}: input")
        middle.set_axis_off()
        middle.set_xlim(0, 1)
        middle.set_ylim(0, 1)
        middle.annotate(
            "", (1, 0.5), (0, 0.5), arrowprops={"arrowstyle": "->", "lw": 1.6, "color": "#444444"}
        )
        if output is None:
            _unknown(right, f"{name}: output")
        else:
            draw_grid(right, output, f"{name}: output")
    figure.suptitle(puzzle.name, fontsize=11)
    return figure


def _blend(logits: np.ndarray, crop: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Softmax-weighted mix of the colors of logits [C+1, X, Y], cut to crop [2, 2]; RGB."""
    weights = np.exp(logits - logits.max(0))
    weights /= weights.sum(0)
    (x, h), (y, w) = crop
    return np.einsum("cxy,ck->xyk", weights, PALETTE[colors].astype(float))[x : x + h, y : y + w]


def draw_solution(solution: Solution) -> Figure:
    """One row per test input: input, last sample, average of the samples (EMA), guesses, truth.

    The average mixes the colors by their probability; the sample shows the likeliest.
    """
    from compressarc.select import crops_of

    puzzle = solution.puzzle
    first, second = solution.attempts
    history, proposed = solution.history, list(solution.history.ranking)
    columns = ["input", "sample", "sample average", "guess 1", "guess 2"]
    if puzzle.solution is not None:
        columns.append("truth")
    figure = new_figure(2.1 * len(columns), 2.3 * len(puzzle.test) + 0.35)
    axes = figure.subplots(len(puzzle.test), len(columns), squeeze=False)
    crops = crops_of(solution.run.ema, puzzle.canvas) if proposed else None
    for t, row in enumerate(axes):
        draw_grid(row[0], puzzle.test[t], columns[0])
        if proposed:
            draw_grid(row[1], proposed[history.proposals[-1, 0]].answer[t], columns[1])
        else:
            _unknown(row[1], columns[1])
        if crops is None:
            _unknown(row[2], columns[2])
        else:
            logits = np.asarray(solution.run.ema.logits)[..., t]
            draw_grid(row[2], _blend(logits, crops[t], puzzle.canvas.colors), columns[2])
        for cell, answer, title in ((row[3], first, columns[3]), (row[4], second, columns[4])):
            mark = ""
            if puzzle.solution is not None:
                mark = " (right)" if np.array_equal(answer[t], puzzle.solution[t]) else " (wrong)"
            draw_grid(cell, answer[t], title + mark)
        if puzzle.solution is not None:
            draw_grid(row[5], puzzle.solution[t], columns[5])
    figure.suptitle(f"{puzzle.name} after {solution.history.steps} steps", fontsize=11)
    return figure


def type_label(code: str) -> str:
    """A tensor type in words, such as `example x row`."""
    names = ("example", "color", "direction", "row", "column")
    return " x ".join(name for name, bit in zip(names, code, strict=True) if bit == "1")


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
        axes.legend(fontsize=7, title="above 1 nat at the end", title_fontsize=7)


def draw_curves(solution: Solution) -> Figure:
    """Total KL and reconstruction, KL per tensor, and the vote, all against the step."""
    history = solution.history
    figure = new_figure(7.5, 8.0)
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    top.plot(history.kl.sum(1), label="total KL")
    # Early on, where sizes are uncertain, the reconstruction term can be negative.
    top.plot(np.where(history.reconstruction > 0, history.reconstruction, np.nan), label="reconstruction")
    top.set_yscale("log")
    top.set_ylabel("nats")
    top.legend(fontsize=8)
    draw_kl(middle, history)
    middle.set_xlabel("")
    draw_vote(bottom, solution)
    figure.suptitle(f"{solution.puzzle.name}: description length and vote", fontsize=11)
    return figure


def draw_vote(axes: Axes, solution: Solution) -> None:
    """Rank of the right answer over time if it is known, else the leading answer's number."""
    history = solution.history
    if solution.puzzle.solution is not None:
        ranks = history.rank_over_time(solution.puzzle.solution).astype(float)
        ranks[ranks == 0] = np.nan
        axes.plot(ranks, ".", ms=3)
        axes.set_ylabel("rank of the right answer")
        axes.set_yscale("log")
        worst = 10 if np.isnan(ranks).all() else max(10, int(np.nanmax(ranks)))
        ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if n <= worst]
        axes.set_yticks(ticks, labels=[str(n) for n in ticks])
        axes.set_yticks([], minor=True)
        axes.set_ylim(1.3 * worst, 0.7)
        axes.axhspan(0.8, 2.2, color="#4fcc30", alpha=0.15)
        if np.isnan(ranks).all():
            axes.text(0.5, 0.5, "never proposed", transform=axes.transAxes, ha="center")
    else:
        axes.plot(history.leaders(), ".", ms=3)
        axes.set_ylabel("leading answer (by first appearance)")
    axes.set_xlabel("step")
