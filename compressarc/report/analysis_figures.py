"""What a trained puzzle model has kept: its surviving tensors and their components (paper, "analysis").

The decoder outputs are averaged over latent samples, centered over positions, and every
tensor whose KL exceeds 1 nat is decomposed; the leading components are what the tensor
says about the puzzle.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import PRNGKeyArray

from compressarc.network.components import Component, components
from compressarc.network.inputs import signature
from compressarc.palette import COLOR_NAMES, PALETTE
from compressarc.report.figures import MOST_ROWS, Cells, draw_grid, draw_kl, new_figure, save, type_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from compressarc.puzzle import Canvas
    from compressarc.solver.solve import Solution

SURVIVING_NATS = 1.0
_ARROWS = ("↓", "↘", "→", "↗", "↑", "↖", "←", "↙")


def _axis_labels(axes: Axes, which: Literal["x", "y"], letter: str, length: int, canvas: Canvas) -> None:
    """Colors by name and swatch, directions by arrow, positions by number."""
    names = [str(i) for i in range(length)]
    if letter == "c":
        names = [COLOR_NAMES[c] for c in canvas.colors[1:]]
    elif letter == "d":
        names = list(_ARROWS)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(range(length), labels=names)
    axis.set_label_text(
        {"e": "example", "c": "color", "d": "direction", "x": "row", "y": "column"}[letter], fontsize=8
    )
    axes.tick_params(axis=which, labelsize=6, rotation=90 if which == "x" and letter == "c" else 0)
    if letter == "c":
        for label, color in zip(axis.get_ticklabels(), canvas.colors[1:], strict=True):
            label.set_color(tuple(PALETTE[color] / 255))


def draw_component(axes: Axes, component: Component, canvas: Canvas) -> None:
    """One component as an image; axes beyond two are laid out as tiles side by side."""
    letters = [a for a, bit in zip("ecdxy", component.type, strict=True) if bit == "1"]
    values = component.values
    tiles = values.reshape(-1, *values.shape[-2:]) if values.ndim >= 2 else values.reshape(1, 1, -1)
    gap = np.full((tiles.shape[1], 1), np.nan)
    strip = [part for tile in tiles for part in (tile, gap)][:-1]
    axes.imshow(np.concatenate(strip, axis=1), cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
    ratio = f", strength {component.strength:.3g}"
    axes.set_title(f"component {component.index + 1}{ratio}", fontsize=8)
    if values.ndim <= 2:
        _axis_labels(axes, "x", letters[-1], values.shape[-1], canvas)
        if values.ndim == 2:
            _axis_labels(axes, "y", letters[0], values.shape[0], canvas)
        else:
            axes.set_yticks([])
    else:
        axes.set_xticks([])
        axes.set_yticks([])
        inner = type_label(
            "".join(b if a in letters[-2:] else "0" for a, b in zip("ecdxy", component.type, strict=True))
        )
        outer = " x ".join({"e": "example", "c": "color", "d": "direction"}[a] for a in letters[:-2])
        axes.set_xlabel(f"tiles: {outer}; in each: {inner}", fontsize=7)


def draw_components(found: list[Component], canvas: Canvas, name: str) -> Figure:
    """One row per surviving tensor, its leading components side by side."""
    codes = list(dict.fromkeys(c.type for c in found))
    if not codes:
        figure = new_figure(5, 1.5)
        figure.text(0.5, 0.5, f"{name}: no tensor has more than 1 nat", ha="center", parse_math=False)
        return figure
    columns = max(c.index for c in found) + 1
    figure = new_figure(3.6 * columns, 2.6 * len(codes) + 0.4)
    rows = figure.subfigures(len(codes), 1, squeeze=False)[:, 0]
    for code, row in zip(codes, rows, strict=True):
        own = [c for c in found if c.type == code]
        row.suptitle(f"{type_label(code)}: {own[0].kl:.1f} nats", fontsize=10)
        places = row.subplots(1, columns, squeeze=False)[0]
        for axes, component in zip(places, own, strict=False):
            draw_component(axes, component, canvas)
        for axes in places[len(own) :]:  # a tensor with fewer components than others
            axes.set_axis_off()
    return figure


def draw_solution_over_time(solution: Solution, every: int = 50) -> Figure:
    """What sample and average proposed, and what led the vote, every so many steps."""
    history = solution.history
    answers = [entry.answer for entry in history.ranking]
    leaders = history.leaders()
    steps = list(range(every - 1, history.steps, every)) or [history.steps - 1]
    if len(steps) > 12:
        steps = [steps[i] for i in np.linspace(0, len(steps) - 1, 12).astype(int)]
    tests = min(len(solution.puzzle.test), MOST_ROWS // 3)
    shown = [(history.proposals[step, 0], history.proposals[step, 1], leaders[step]) for step in steps]
    cells = Cells.of(answers[number][t] for numbers in shown for number in numbers for t in range(tests))
    width, height = cells.inches(len(steps))
    figure = new_figure((width + 0.35) * len(steps), (height + 0.45) * 3 * tests + 0.45)
    places = figure.subplots(3 * tests, len(steps), squeeze=False)
    for column, (step, numbers) in enumerate(zip(steps, shown, strict=True)):
        for t in range(tests):
            truth = None if solution.puzzle.solution is None else solution.puzzle.solution[t]
            for r, (number, what) in enumerate(zip(numbers, ("sample", "average", "leader"), strict=True)):
                title = f"step {step + 1}, test {t}:\n{what}"
                draw_grid(places[3 * t + r, column], answers[number][t], title, cells=cells, truth=truth)
    more = len(solution.puzzle.test) - tests
    note = f" (the first {tests} of {tests + more} tests)" if more else ""
    figure.suptitle(f"{solution.puzzle.name}: solution over time{note}", fontsize=11, parse_math=False)
    return figure


def draw_analysis(solution: Solution, folder: str | Path, *, key: PRNGKeyArray) -> list[Path]:
    """Writes the paper's figures of one run: `kl.png`, `components.png`, `over_time.png`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not len(solution.history.ranking):
        raise ValueError(f"{solution.puzzle.name}: no finite step to analyze")
    canvas = solution.puzzle.canvas
    kl = new_figure(9.5, 4.2)
    axes = kl.subplots()
    draw_kl(axes, solution.history)
    axes.set_title(f"{solution.puzzle.name}: KL per tensor", fontsize=10, parse_math=False)
    found = components(solution.run.params, signature(canvas), key=key)
    return [
        save(kl, folder / "kl.png"),
        save(draw_components(found, canvas, solution.puzzle.name), folder / "components.png"),
        save(draw_solution_over_time(solution), folder / "over_time.png"),
    ]
