"""Draws `architecture.png` from the code: folders of the five packages, and what they import.

    python docs/architecture.py

A box is a folder, or the modules at the top of a package; whatever it imports stands below it.
The width of a line tells how many imports it stands for. Everything may import the modules at the
top, for which there are no lines.
"""

from __future__ import annotations

import collections
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.test_architecture import LAYERS, edges, modules  # noqa: E402

GROUND = "at the top"
LINE = 0.03
"""Height of a line of text, in shares of the picture."""


def boxes(package: str) -> dict[str, list[str]]:
    """Names of modules by folder, in the order of the layers; those of no layer last."""
    found: dict[str, list[str]] = {layer: [] for layer in (*LAYERS[package], GROUND)}
    for name in modules(package):
        parts = name.split(".")[1:]
        if not parts or parts[0] == "__main__":
            continue
        if parts[0] in found:
            found[parts[0]].append(".".join(parts[1:]) or parts[0])
        else:
            found[GROUND].append(parts[0])
    for names in found.values():
        if len(names) > 1 and names[0] in found:
            del names[0]  # the folder itself
    return {folder: sorted(names) for folder, names in found.items() if names}


def wrapped(names: list[str], width: int) -> list[str]:
    """The names in lines of at most so many characters."""
    lines = [""]
    for name in names:
        if lines[-1] and len(lines[-1]) + len(name) + 2 > width:
            lines.append("")
        lines[-1] += f"{', ' if lines[-1] else ''}{name}"
    return lines


def draw(axes: Axes, package: str) -> None:
    """One package, its layers from top to bottom."""
    axes.set_title(package, loc="left", fontsize=12, fontweight="bold")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.axis("off")
    place: dict[str, tuple[float, float]] = {}
    shown = {folder: wrapped(names, 46) for folder, names in boxes(package).items()}
    total = sum(0.62 * len(lines) + 2.2 for lines in shown.values())
    unit = min(LINE, 1 / total)
    y = 1.0
    for folder, lines in shown.items():
        height = (0.62 * len(lines) + 1.4) * unit
        axes.text(0.26, y - unit * 0.9, folder, fontsize=9, fontweight="bold", va="center")
        axes.text(
            0.26, y - unit * 1.4, "\n".join(lines), fontsize=7, va="top", linespacing=1.25, color="0.25"
        )
        axes.plot([0.24, 0.99, 0.99, 0.24, 0.24], [y, y, y - height, y - height, y], color="0.6", lw=0.8)
        place[folder] = (y - height, y)
        y -= height + 0.8 * unit
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for importing, imported in edges(package):
        a, b = (name.split(".")[1] for name in (importing, imported))
        a, b = (n if n in place or n == "__main__" else GROUND for n in (a, b))
        if a != b and GROUND not in (a, b) and "__main__" not in (a, b):
            counts[a, b] += 1
    for (a, b), count in counts.items():
        top, bottom = sum(place[a]) / 2, sum(place[b]) / 2
        bend = min(0.5, 0.12 / (top - bottom))  # no further to the left than the margin
        axes.annotate(
            "", (0.24, bottom), (0.24, top),
            arrowprops={"arrowstyle": "->", "lw": min(2.5, 0.4 + 0.15 * count), "color": "#2557a7",
                        "alpha": 0.6, "connectionstyle": f"arc3,rad={bend:.2f}"},
        )  # fmt: skip


def main() -> None:
    """Writes `architecture.png` beside this file."""
    figure = Figure(figsize=(20, 11))
    FigureCanvasAgg(figure)
    for place, package in enumerate(LAYERS):
        draw(figure.add_axes((0.005 + place * 0.199, 0.02, 0.19, 0.93)), package)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=75)


if __name__ == "__main__":
    main()
