"""Pictures, drawn without a screen: networks by force, phase maps, the Pareto front with its networks.

The conventions of the paper's figures: inputs green, hidden units gray, the output in the center; edges red
where positive and blue where negative, as thick as they are strong.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from hypernet.classification.order_parameters import LABELS
from hypernet.files import replacing
from hypernet.networks.mlp import MLP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hypernet.analysis.pareto_front import Front
    from hypernet.analysis.phase_diagram import PhaseDiagram
    from hypernet.training.step import Info

LABEL_COLORS = {
    "double_sided": "#3b6fb6",
    "pudding_pos": "#c0392b",
    "pudding_neg": "#e08e3a",
    "pudding_mixed": "#b07aa1",
    "convexity": "#5b9f5b",
    "mixed": "#b9b9b9",
    "none": "#555555",
}
LABEL_NAMES = {
    "double_sided": "double-sided",
    "pudding_pos": "positive pudding",
    "pudding_neg": "negative pudding",
    "pudding_mixed": "mixed pudding",
    "convexity": "convexity",
    "mixed": "mixed",
    "none": "none",
}


def new_figure(width: float, height: float) -> Figure:
    """A figure with its own canvas: no screen, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path, *, dpi: int = 120) -> Path:
    """Writes a picture whole or not at all, in the format that its name says; PNG if it says none."""
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:] or "png", dpi=dpi)
    return path


def png_bytes(figure: Figure, *, dpi: int = 110) -> bytes:
    """A figure as PNG in memory."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=dpi)
    return memory.getvalue()


def strengths(mlp: MLP) -> list[Float[np.ndarray, "_units _units_above"]]:
    """Signed edge strengths of every weight matrix, the readout last.

    An edge into a hidden unit counts times what the unit passes on, as a share of the largest: rows of swish
    networks differ in scale, and only the product matters.
    """
    if mlp.batch:
        raise ValueError(f"this MLP holds networks of shape {mlp.batch}; index one")
    out = np.asarray(mlp.v, float) if mlp.vector else np.asarray(mlp.v, float)[:, None]
    passed = np.linalg.norm(out, axis=1)
    edges = [out]
    for weight in (np.asarray(w, float) for w in reversed(mlp.weights)):
        edges.insert(0, weight * passed)
        passed = np.abs(weight) @ passed
    return [e / max(np.abs(e).max(initial=0), 1e-12) for e in edges]


def network_on(axes: Axes, mlp: MLP, *, title: str = "", seed: int = 0) -> None:
    """Draws a network on matplotlib axes: a spring layout with springs as strong as the edges."""
    import networkx as nx
    from matplotlib.collections import LineCollection

    edges = strengths(mlp)
    counts = [mlp.inputs, *(w.shape[-1] for w in mlp.weights), edges[-1].shape[1]]
    starts = np.concatenate([[0], np.cumsum(counts)])
    graph = nx.Graph()
    graph.add_nodes_from(range(int(starts[-1])))
    ends, strength = [], []
    for layer, matrix in enumerate(edges):
        for (i, j), value in np.ndenumerate(matrix):
            a, b = int(starts[layer] + i), int(starts[layer + 1] + j)
            ends.append((a, b))
            strength.append(value)
            if abs(value) > 0.02:
                graph.add_edge(a, b, weight=abs(value) * (0.4 if layer == len(edges) - 1 else 1.0))
    center = int(starts[-2])
    rng = np.random.default_rng(seed)
    start = {node: rng.normal(size=2) * (0.1 if node >= center else 1.0) for node in graph}
    fixed = [center] if counts[-1] == 1 else None
    if fixed:
        start[center] = np.zeros(2)
    gap = 2.2 / np.sqrt(len(graph))
    place = nx.spring_layout(
        graph, pos=start, fixed=fixed, k=gap, iterations=150, seed=seed, weight="weight", method="force"
    )
    at = np.array([place[node] for node in range(len(graph))])
    strength = np.asarray(strength)
    # every unit has an edge to the output: drawn thin, lest they hide who serves whom
    strength[-edges[-1].size :] *= 0.35
    order = np.argsort(np.abs(strength))
    order = order[np.abs(strength[order]) > 0.01]
    size = np.abs(strength[order])
    colors = np.zeros((len(order), 4))
    colors[:, :3] = np.where(strength[order][:, None] > 0, (0.82, 0.16, 0.13), (0.13, 0.30, 0.75))
    colors[:, 3] = np.clip(0.12 + 0.8 * size, 0, 0.95)
    segments = at[np.asarray(ends, int).reshape(-1, 2)[order]]
    axes.add_collection(LineCollection(list(segments), colors=colors, linewidths=0.25 + 2.6 * size, zorder=1))
    kinds = [
        (0, counts[0], "#3aa655", 46),
        (counts[0], int(starts[-2]), "#9a9a9a", 22),
        (int(starts[-2]), int(starts[-1]), "#111111", 60),
    ]
    for first, last, color, area in kinds:
        axes.scatter(*at[first:last].T, s=area, c=color, edgecolors="white", linewidths=0.6, zorder=2)
    axes.set_title(title, fontsize=9)
    axes.set_aspect("equal")
    axes.margins(0.08)
    axes.set_axis_off()


def draw_network(mlp: MLP, path: str | Path, *, title: str = "", seed: int = 0) -> Path:
    """Writes a PNG of one network as in the paper's figures."""
    figure = new_figure(5, 5)
    network_on(figure.add_subplot(), mlp, title=title, seed=seed)
    return save(figure, Path(path))


def draw_phase_diagram(diagram: PhaseDiagram, path: str | Path) -> Path:
    """Writes a PNG: shares against beta, losses of the branches, and the map of beta and training time."""
    figure = new_figure(12, 7.2)
    top = figure.subplots(2, 2)
    _shares_on(top[0, 0], diagram)
    _losses_on(top[0, 1], diagram)
    _map_on(top[1, 0], diagram)
    _order_on(top[1, 1], diagram)
    seeds = diagram.label.shape[1]
    figure.suptitle(f"n = {diagram.n}, {seeds} seeds, {int(diagram.steps[-1]):,} steps", fontsize=11)
    return save(figure, Path(path))


def _shares_on(axes: Axes, diagram: PhaseDiagram) -> None:
    shares = diagram.shares()
    x = np.arange(len(diagram.log10_betas))
    below = np.zeros(len(x))
    for k, name in enumerate(LABELS):
        if shares[:, k].any():
            axes.bar(x, shares[:, k], 0.9, bottom=below, color=LABEL_COLORS[name], label=LABEL_NAMES[name])
            below += shares[:, k]
    axes.set_xticks(x, [f"{lb:g}" for lb in diagram.log10_betas])
    axes.set_xlabel("log10 beta")
    axes.set_ylabel("share of generated networks")
    axes.legend(fontsize=7, ncols=4, loc="lower left", bbox_to_anchor=(0, 1.01))


def _losses_on(axes: Axes, diagram: PhaseDiagram) -> None:
    states = diagram.ground_states()
    for name in LABELS:
        points = [(s.log10_beta, s.losses[name]) for s in states if name in s.losses]
        if points:
            axes.plot(
                *zip(*points, strict=True), "o-", ms=4, color=LABEL_COLORS[name], label=LABEL_NAMES[name]
            )
    axes.set_yscale("log")
    axes.set_xlabel("log10 beta")
    axes.set_ylabel("loss of the best seed")
    axes.legend(fontsize=7)


def _map_on(axes: Axes, diagram: PhaseDiagram) -> None:
    from matplotlib.colors import to_rgb

    colors = np.array([to_rgb(LABEL_COLORS[name]) for name in LABELS])
    mixture = np.stack([diagram.shares(t) @ colors for t in range(len(diagram.steps))], axis=1)
    axes.imshow(mixture, origin="lower", aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(diagram.log10_betas)), [f"{lb:g}" for lb in diagram.log10_betas])
    axes.set_xticks(range(len(diagram.steps)), [f"{s:,}" for s in diagram.steps], rotation=45, fontsize=7)
    axes.set_xlabel("training step")
    axes.set_ylabel("log10 beta")
    axes.set_title("phases: colors of the labels, mixed by share", fontsize=9)


def _order_on(axes: Axes, diagram: PhaseDiagram) -> None:
    median = {name: np.median(getattr(diagram, name)[-1], axis=(0, 2)) for name in ("L",)}
    axes.plot(diagram.log10_betas, median["L"], "k.-", label="L, localization")
    axes.plot(
        diagram.log10_betas,
        np.median(np.abs(diagram.A[-1]), axis=(0, 2)),
        ".--",
        color="#c0392b",
        label="|A|, asymmetry",
    )
    axes.plot(
        diagram.log10_betas,
        np.median(np.abs(diagram.S[-1]), axis=(0, 2)),
        ".:",
        color="#3b6fb6",
        label="|S|, sea",
    )
    axes.set_xlabel("log10 beta")
    axes.set_ylabel("median over seeds and networks")
    axes.legend(fontsize=7)


def draw_front(front: Front, path: str | Path, *, title: str = "") -> Path:
    """Writes a PNG of error against bits with the network at each knee."""
    knees = front.knees()
    figure = new_figure(max(8.0, 3.2 * len(knees)), 8.2)
    grid = figure.add_gridspec(2, max(len(knees), 1), height_ratios=(1.15, 1))
    front_on(figure.add_subplot(grid[0, :]), front, title=title)
    for column, point in enumerate(knees):
        figures = f"β = 10^{point.log10_beta:g}, {point.bits:,.0f} bits, NMSE {point.nmse:.3g}"
        name = f"{LABEL_NAMES.get(point.label, point.label)}\n{figures}"
        network_on(figure.add_subplot(grid[1, column]), point.mlp, title=name)
    return save(figure, Path(path), dpi=90)


def front_on(axes: Axes, front: Front, *, title: str = "") -> None:
    """Draws all points, the front and its knees on matplotlib axes."""
    knees = front.knees()
    for name in dict.fromkeys(point.label for point in front.points):
        shown = [p for p in front.points if p.label == name]
        axes.scatter(
            [p.bits for p in shown], [p.nmse for p in shown], s=22, alpha=0.75,
            color=LABEL_COLORS.get(name, "#777777"), label=LABEL_NAMES.get(name, name),
        )  # fmt: skip
    best = front.front()
    axes.plot([p.bits for p in best], [p.nmse for p in best], "-", color="#333333", lw=1, zorder=0)
    for k, point in enumerate(knees, 1):
        axes.annotate(
            str(k),
            (point.bits, point.nmse),
            xytext=(7, 7),
            textcoords="offset points",
            fontsize=10,
            weight="bold",
        )
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yscale("log")
    axes.set_xlabel("description length, bits")
    axes.set_ylabel("NMSE")
    axes.set_title(title, fontsize=10)
    if front.points:
        axes.legend(fontsize=8)


def draw_history(history: Info, path: str | Path) -> Path:
    """Writes a PNG of losses and prices over training, one line per seed (means of fifty bins)."""
    steps, seeds = history.loss.shape
    bins = np.array_split(np.arange(steps), min(50, steps))
    x = [int(b.mean()) for b in bins]
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    for seed in range(seeds):
        left.plot(x, [history.loss[b, seed].mean() for b in bins], lw=1)
        right.plot(x, [np.median(history.nats[b, seed] / history.n[b]) for b in bins], lw=1)
    left.set_yscale("log")
    left.set_ylabel("loss, all sizes and betas")
    right.set_ylabel("median nats per input")
    for axes in (left, right):
        axes.set_xlabel("step")
    return save(figure, Path(path))
