"""Pictures, drawn without a screen: machines, and a network's weights before and after normalization."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mips.files import replacing
from mips.reading.machine_extraction import Machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mips.networks.relu import ReluRNN
    from mips.normalize import Step

_MOST_DRAWN = 40


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | Path) -> None:
    """Writes a picture whole or not at all, in the format that its name says; PNG if it says none."""
    with replacing(Path(path)) as partial:
        figure.savefig(partial, format=Path(path).suffix[1:] or "png", dpi=110)


def draw_machine(machine: Machine, path: str | Path, *, title: str = "") -> None:
    """Writes a PNG of a machine: states on a circle, arrows labeled input/output, the start in yellow.

    States some of whose moves are unknown have a dashed outline.
    """
    size = float(np.clip(2.2 + 0.55 * machine.states, 4, 12))
    figure = _figure(size, size)
    machine_on(figure.add_subplot(), machine, title=title)
    _save(figure, path)


def machine_on(axes: Axes, machine: Machine, *, title: str = "") -> None:
    """Draws a machine on matplotlib axes; beyond 40 states, those nearest to the start."""
    import networkx as nx

    shown = min(machine.states, _MOST_DRAWN)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(shown))
    labels = {}
    for (state, after), moves in machine.edges().items():
        if state < shown and after < shown:
            graph.add_edge(state, after)
            most = 3 if shown <= 8 else 1
            text = moves if len(moves) <= most else [*moves[:most], f"+{len(moves) - most}"]
            labels[state, after] = "\n".join(text)
    place = nx.circular_layout(graph) if shown > 1 else {0: np.zeros(2)}
    colors = ["#f6c667" if state == 0 else "#dbe7f4" for state in graph]
    drawn = nx.draw_networkx_nodes(
        graph, place, ax=axes, node_color=colors, edgecolors="#44546a", node_size=480
    )
    unknown = [min(row) < 0 for row in machine.next[:shown].tolist()]
    drawn.set_linestyle(["dashed" if missing else "solid" for missing in unknown])
    drawn.set_linewidth(1.3)
    nx.draw_networkx_labels(graph, place, ax=axes, font_size=9)
    nx.draw_networkx_edges(
        graph,
        place,
        ax=axes,
        edge_color="#8a97a8",
        arrowsize=11,
        connectionstyle="arc3,rad=0.14",
        node_size=480,
    )
    if shown <= 16:
        written = nx.draw_networkx_edge_labels(
            graph,
            place,
            labels,
            ax=axes,
            font_size=7,
            connectionstyle="arc3,rad=0.14",
            label_pos=0.35,
            rotate=False,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
        )
        for text in written.values():
            text.set_zorder(4)  # above the states
    more = "" if shown == machine.states else f" ({shown} of {machine.states} states)"
    if any(unknown):
        more += "\ndashed: states with unknown moves"
    axes.set_title(title + more, fontsize=10)
    axes.margins(0.22)
    axes.set_axis_off()


def draw_weights(before: ReluRNN, steps: Sequence[Step], path: str | Path, *, title: str = "") -> None:
    """Writes a PNG of a network's matrices, as they were and after each normalizer.

    `before` is the network the steps started from. Rows: hidden columns and input columns of the effective
    transition, and the readout's first layer. Steps that were not kept are marked.
    """
    from mips.normalize.basis import effective_input, effective_transition, in_double

    stages = [
        ("as trained", before),
        *((s.name if s.kept else f"{s.name} (not kept)", s.network) for s in steps),
    ]
    figure = _figure(2.3 * len(stages), 6.2)
    axes = figure.subplots(3, len(stages), squeeze=False)
    rows = (
        ("transition", effective_transition),
        ("input", effective_input),
        ("readout", lambda n: in_double(n).readout[0].weight),
    )
    for column, (name, network) in enumerate(stages):
        for row, (label, read) in enumerate(rows):
            matrix = read(network)
            ax = axes[row, column]
            bound = max(1.0, float(np.abs(matrix).max()))
            ax.imshow(matrix, cmap="RdBu", vmin=-bound, vmax=bound)
            for (i, j), value in np.ndenumerate(matrix):
                if matrix.size <= 40:
                    ink = "white" if abs(value) > 0.6 * bound else "black"
                    ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=6, color=ink)
            ax.set_xticks([])
            ax.set_yticks([])
            if row == 0:
                ax.set_title(name, fontsize=9)
            if column == 0:
                ax.set_ylabel(label, fontsize=9)
    figure.suptitle(title, fontsize=11)
    _save(figure, path)
