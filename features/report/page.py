"""An HTML page of discovered planes with the text around every point; opens offline (plotly)."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from features.discovery.discover import Discovery
from features.extras import require
from features.files import write_text


def token_contexts(
    words: Sequence[str], tokens: Int[np.ndarray, " n"], *, before: int = 8, after: int = 4
) -> list[str]:
    """Text around positions of a stream, the token itself in brackets."""
    texts = []
    for at in tokens.tolist():
        left, right = "".join(words[max(at - before, 0) : at]), "".join(words[at + 1 : at + 1 + after])
        texts.append(f"…{left}[{words[at]}]{right}…")
    return texts


def write_page(
    discovery: Discovery,
    words: list[str],
    path: Path,
    *,
    first: int = 30,
    most_points: int = 600,
) -> None:
    """Writes a page with the first candidates: figures, best plane, commonest tokens, contexts on hover.

    Args: words: text of every token of the stream, in the order of the activations.
    Raises: ImportError without plotly.
    """
    graph_objects, offline = require("plotly.graph_objects"), require("plotly.offline")
    sections = []
    for rank, candidate in enumerate(discovery.candidates[:first], 1):
        a, b = candidate.best_plane
        tokens, points = candidate.reconstruction.tokens, candidate.reconstruction.points
        step = max(1, len(points) // most_points)
        shown, places = tokens[::step], points[::step][:, [a, b]]
        counts = Counter(words[t].strip().lower() for t in tokens.tolist())
        common = [word for word, _ in counts.most_common(12)]
        color = [common.index(w) if (w := words[t].strip().lower()) in common else -1 for t in shown.tolist()]
        figure = graph_objects.Figure(
            graph_objects.Scattergl(
                x=places[:, 0], y=places[:, 1], mode="markers", hoverinfo="text",
                text=[html.escape(t) for t in token_contexts(words, shown)],
                marker={"size": 5, "color": color, "colorscale": "HSV"},
            )
        )  # fmt: skip
        figure.update_layout(
            width=520, height=420, margin={"l": 30, "r": 10, "t": 10, "b": 30}, template="plotly_white"
        )
        figure.update_yaxes(scaleanchor="x")
        found = candidate.planes[candidate.best_plane]
        p = "" if candidate.p_value is None else f", p = {candidate.p_value:.3f}"
        sections.append(
            f"<section><h2>{rank}. score {candidate.score:.3f}</h2>"
            f"<p>{len(candidate.latents)} latents {html.escape(str(candidate.latents.tolist()[:20]))}, "
            f"{len(points)} tokens; principal components {a + 1} and {b + 1}: "
            f"S = {found.separability:.3f} bits, M = {found.mixture:.3f}{p}</p>"
            f"<p>commonest tokens: {html.escape(', '.join(common))}</p>"
            f"{figure.to_html(full_html=False, include_plotlyjs=False)}</section>"
        )
    text = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Discovered planes</title>"
        "<style>body{font-family:sans-serif;max-width:1180px;margin:auto}main{display:grid;"
        "grid-template-columns:repeat(auto-fill,minmax(540px,1fr))}h2{font-size:1em}p{font-size:.85em}</style>"
        f"<script>{offline.get_plotlyjs()}</script></head><body><h1>Discovered planes</h1>"
        f"<p>{len(discovery.candidates)} groups of latents measured, over {discovery.tokens:,} tokens. "
        "Hover over a point to read its context.</p>"
        f"<main>{''.join(sections)}</main></body></html>"
    )
    write_text(path, text)
