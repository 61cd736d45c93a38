"""Pictures, drawn without a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from features.circles.intervention import Effect, PolarSweep
from features.files import replacing
from features.irreducibility.mixture import Band

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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


def _wheel(period: int) -> Float[np.ndarray, "period 4"]:
    """Colors around a cycle: neighbors look alike, the last like the first."""
    import matplotlib as mpl

    return mpl.colormaps["hsv"](np.arange(period) / period)


def circle_on(
    axes: Axes,
    points: Float[np.ndarray, "n 2"],
    labels: Int[np.ndarray, " n"],
    names: Sequence[str],
    *,
    title: str = "",
) -> None:
    """Points in a plane, colored around the cycle; class means joined in order; other points (-1) gray."""
    colors = _wheel(len(names))
    other = labels < 0
    axes.scatter(*points[other].T, s=5, color="0.8", linewidths=0)
    known = ~other
    axes.scatter(*points[known].T, s=9, c=colors[labels[known]], alpha=0.5, linewidths=0)
    means = np.array([points[labels == c].mean(0) for c in range(len(names)) if (labels == c).any()])
    closed = np.concatenate([means, means[:1]])
    axes.plot(*closed.T, color="0.4", linewidth=0.8, zorder=2)
    present = [c for c in range(len(names)) if (labels == c).any()]
    for (x, y), c in zip(means, present, strict=True):
        axes.scatter([x], [y], s=50, color=colors[c], edgecolor="black", linewidth=0.6, zorder=3)
        axes.annotate(names[c], (x, y), textcoords="offset points", xytext=(6, 4), fontsize=8, zorder=4)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.15)
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=7)


def draw_circles(
    panels: Sequence[tuple[str, Float[np.ndarray, "_n 2"], Int[np.ndarray, " _n"], Sequence[str]]],
    path: Path,
    *,
    columns: int = 3,
) -> None:
    """A PNG of several planes: (title, points, labels, names) each."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(4.2 * columns, 4.0 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, (title, points, labels, names) in zip(axes, panels, strict=False):
        circle_on(place, np.asarray(points), np.asarray(labels), names, title=title)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    _save(figure, path)


def draw_sweep(table: Mapping[int, Mapping[str, Effect]], path: Path, *, title: str = "") -> None:
    """A PNG of mean logit differences by layer, one line per method, with 96 % intervals."""
    figure = _figure(7.5, 4.5)
    axes = figure.subplots()
    layers = sorted(table)
    for method in table[layers[0]]:
        values = np.array([table[layer][method].logit_difference for layer in layers])
        errors = np.array([table[layer][method].error for layer in layers])
        (line,) = axes.plot(layers, values, marker="o", markersize=3, label=method)
        axes.fill_between(layers, values - errors, values + errors, color=line.get_color(), alpha=0.15)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set_xlabel("layer of the patch")
    axes.set_ylabel("logit(original) − logit(target)\nnegative: the patch succeeds")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    _save(figure, path)


def draw_null(value: float, null: Float[np.ndarray, " nulls"], path: Path, *, title: str = "") -> None:
    """A PNG of an intervention beside its relabellings."""
    figure = _figure(6, 3.2)
    axes = figure.subplots()
    axes.hist(null, bins=30, color="0.7", label="relabeled circles")
    axes.axvline(value, color="tab:red", label="the ordered circle")
    axes.set_xlabel("logit(original) − logit(target)")
    axes.set_ylabel("relabellings")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    _save(figure, path)


def draw_polar(sweep: PolarSweep, names: Sequence[str], path: Path, *, title: str = "") -> None:
    """A PNG of the answers to points off the circle, beside what their angles say, and the margins."""
    figure = _figure(11, 4)
    x = sweep.radius[:, None] * np.cos(sweep.angle)
    y = sweep.radius[:, None] * np.sin(sweep.angle)
    colors = _wheel(len(names))
    expected = np.broadcast_to(sweep.expected, sweep.answer.shape)
    panels = (("likeliest answer", sweep.answer[0]), ("the angle's answer", expected[0]))
    places = figure.subplots(1, 3)
    for axes, (name, values) in zip(places, panels, strict=False):
        axes.scatter(x.ravel(), y.ravel(), c=colors[values.ravel()], s=8, linewidths=0)
        axes.set_title(name, fontsize=9)
        axes.set_aspect("equal")
    shown = places[2].scatter(
        x.ravel(), y.ravel(), c=sweep.margin[0].ravel(), s=8, cmap="viridis", linewidths=0
    )
    places[2].set_title("best − second logit", fontsize=9)
    places[2].set_aspect("equal")
    figure.colorbar(shown, ax=places[2], shrink=0.8)
    handles = [places[1].scatter([], [], color=colors[i], label=n) for i, n in enumerate(names)]
    places[1].legend(handles=handles, fontsize=6, loc="upper left", ncol=2)
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def draw_colors(
    images: Sequence[tuple[str, Float[np.ndarray, "_alphas _betas 3"]]],
    names: Sequence[str],
    path: Path,
) -> None:
    """A PNG of residuals as colors over (alpha, beta): rows, columns, diagonals for alpha, beta, gamma."""
    figure = _figure(3.2 * len(images), 3.6)
    for axes, (title, image) in zip(figure.subplots(1, len(images), squeeze=False)[0], images, strict=True):
        axes.imshow(image)
        axes.set_title(title, fontsize=9)
        axes.set_yticks(range(len(names)), names, fontsize=6)
        axes.set_xticks([])
        axes.set_xlabel("beta →", fontsize=8)
    _save(figure, path)


def draw_cloud(
    points: Float[np.ndarray, "n 2"],
    curve: Float[np.ndarray, " angles"],
    band: Band,
    path: Path,
    *,
    title: str,
) -> None:
    """A PNG of a cloud with its fullest band, and its mutual information by angle."""
    figure = _figure(8.5, 4)
    left, right = figure.subplots(1, 2)
    shown = points[:: max(1, len(points) // 4000)]
    left.scatter(*shown.T, s=3, alpha=0.4, linewidths=0)
    v = np.asarray(band.direction)
    along, center = np.array([-v[1], v[0]]), points.mean(0)
    reach = np.abs((points - center) @ along).max()
    for side in (-1, 1):
        middle = center + (float(band.center) + side * float(band.half_width)) * v
        ends = np.stack([middle - reach * along, middle + reach * along])
        left.plot(*ends.T, color="tab:red", linewidth=1)
    left.set_aspect("equal", adjustable="datalim")
    left.set_title(f"{title}: the fullest band holds {100 * float(band.share):.1f} %", fontsize=9)
    right.plot(np.linspace(0, 90, len(curve), endpoint=False), curve)
    right.set_ylim(bottom=0)
    right.set_xlabel("rotation (degrees)")
    right.set_ylabel("mutual information (bits)")
    right.set_title(f"least: {curve.min():.3f} bits", fontsize=9)
    _save(figure, path)


def draw_heat(
    table: Float[np.ndarray, "layers columns"], labels: Sequence[str], path: Path, *, title: str
) -> None:
    """A PNG of patching effects per layer and position or head."""
    figure = _figure(1.5 + 0.45 * table.shape[1], 1.5 + 0.22 * table.shape[0])
    axes = figure.subplots()
    shown = axes.imshow(table, aspect="auto", cmap="magma", vmin=0)
    axes.set_xticks(range(len(labels)), labels, rotation=60, fontsize=7)
    axes.set_ylabel("layer")
    axes.set_title(title, fontsize=9)
    figure.colorbar(shown)
    _save(figure, path)
