"""One page: the Pareto front, with its networks and their formulas. Opens offline; nothing is loaded."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from hypernet.analysis.pareto_front import Front, Point
from hypernet.classification.formulas import formula
from hypernet.files import write_text
from hypernet.report.figures import LABEL_NAMES, front_on, network_on, new_figure, png_bytes
from hypernet.targets import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body{font-family:system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:1.2em}
section{border:1px solid #ddd;border-radius:8px;padding:.8em}
img{max-width:100%}h2{font-size:1.05em;margin:.2em 0}code{font-size:.92em}
table{border-collapse:collapse;font-size:.9em}td,th{padding:.15em .7em .15em 0;text-align:left}
"""


class About(TypedDict):
    """A point as data; the formula where the network has one hidden layer and one output."""

    label: str
    log10_beta: float
    bits: float
    nmse: float
    loss: float
    seed: int
    mode: int
    formula: NotRequired[str]
    unexplained: NotRequired[float]
    formula_nmse: NotRequired[float]


def _image(figure: Figure, text: str) -> str:
    data = base64.b64encode(png_bytes(figure)).decode()
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">'


def branches_of(front: Front) -> list[Point]:
    """For every label the point of least loss where it beats the others most, by bits: the family."""
    found = []
    labels = dict.fromkeys(p.label for p in front.points if p.label not in ("mixed", "none"))
    for label in labels:
        own = [p for p in front.points if p.label == label]

        def lead(point: Point, label: str = label) -> float:
            rivals = [p.loss for p in front.points if p.label != label and p.log10_beta == point.log10_beta]
            return point.loss / min(rivals, default=point.loss)

        found.append(min(own, key=lambda p: (lead(p), p.loss)))
    return sorted(found, key=lambda p: p.bits)


def describe(point: Point, target: Target) -> About:
    """A point as data: figures, and the short formula of its network."""
    about: About = {
        "label": point.label, "log10_beta": point.log10_beta, "bits": point.bits, "nmse": point.nmse,
        "loss": point.loss, "seed": point.seed, "mode": point.mode,
    }  # fmt: skip
    if len(point.mlp.weights) == 1 and not point.mlp.vector:
        found = formula(point.mlp, target=target, points=8192)
        about["formula"], about["unexplained"] = found.text, found.unexplained
        about["formula_nmse"] = found.nmse
    return about


def write_gallery(
    front: Front, target: Target, path: str | Path, *, shown: Sequence[Point] | None = None
) -> list[About]:
    """Writes the page, whole or not at all, and returns what it says about each network.

    Args: shown: networks to show (default: the knees of the front, then the best of every other label).
    """
    path = Path(path)
    if shown is None:
        knees = front.knees()
        shown = knees + [p for p in branches_of(front) if p.label not in {k.label for k in knees}]
    figure = new_figure(9, 4.4)
    front_on(
        figure.add_subplot(), front, title=f"{target.name}, n = {front.n}: error against description length"
    )
    abouts, sections = [], []
    for number, point in enumerate(shown, 1):
        about = describe(point, target)
        abouts.append(about)
        small = new_figure(3.4, 3.4)
        network_on(small.add_subplot(), point.mlp)
        name = LABEL_NAMES.get(point.label, point.label)
        rows = {
            "beta": f"10^{point.log10_beta:g}",
            "bits": f"{point.bits:,.0f}",
            "NMSE": f"{point.nmse:.4g}",
            "loss": f"{point.loss:.4g}",
            "hidden units": " + ".join(str(w.shape[-1]) for w in point.mlp.weights),
            "seed": f"{point.seed}, mode {point.mode}",
        }
        text = ""
        if "formula" in about and "unexplained" in about and "formula_nmse" in about:
            text = (
                f"<p><code>f(x) ≈ {html.escape(about['formula'])}</code></p>"
                f"<p>misses {about['unexplained']:.1%} of the network's variance; "
                f"NMSE of the formula {about['formula_nmse']:.4g}</p>"
            )
        table = "".join(f"<tr><th>{k}</th><td>{html.escape(v)}</td></tr>" for k, v in rows.items())
        sections.append(
            f"<section><h2>{number}. {html.escape(name)}</h2>{_image(small, name)}"
            f"<table>{table}</table>{text}</section>"
        )
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<title>{html.escape(target.name)}: gallery</title><style>{_STYLE}</style></head><body>"
        f"<h1>Networks for {html.escape(target.name)} of {front.n} inputs</h1>"
        f"<p>{len(front.points)} groups of generated networks; a nat costs beta in units of the squared "
        "error. Inputs green, hidden units gray, the output black in the center; red edges positive, blue "
        "negative.</p>"
        f"{_image(figure, 'Pareto front')}<main>{''.join(sections)}</main></body></html>"
    )
    write_text(path, page)
    return abouts
