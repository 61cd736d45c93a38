"""Grids as HTML, for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from compressarc.grid import Grid, wrong_cells
from compressarc.palette import INK, PALETTE

MOST_ROWS = 10
"""Training pairs of a puzzle that are shown, and tests."""


def _color(rgb: Shaped[np.ndarray, "3"]) -> str:
    return f"rgb({','.join(map(str, rgb.tolist()))})"


def grid_html(grid: Grid, title: str, side: int, truth: Grid | None = None) -> str:
    """One grid as a table of colored cells; those that differ from the truth are crossed out."""
    wrong = np.zeros(np.shape(grid), bool) if truth is None else wrong_cells(grid, truth)
    cell = max(4, min(16, 180 // side))
    look = (
        f"width:{cell}px;height:{cell}px;padding:0;border:1px solid #555;text-align:center;"
        f"line-height:1;font-size:{cell - 2}px"
    )
    rows = []
    for row, marks in zip(np.asarray(grid), wrong, strict=True):
        cells = "".join(
            f'<td style="background:{_color(PALETTE[c])};color:{_color(INK[c])};{look}">'
            f"{'&times;' if mark else ''}</td>"
            for c, mark in zip(row, marks, strict=True)
        )
        rows.append(f"<tr>{cells}</tr>")
    table = f'<table style="border-collapse:collapse;margin:0">{"".join(rows)}</table>'
    heading = f'<div style="font-size:12px">{html.escape(title)}</div>'
    return f'<div style="margin:0 14px 8px 0">{heading}{table}</div>'


def rows_html(
    heading: str, rows: Sequence[Sequence[tuple[str, Grid, Grid | None]]], left_out: int = 0
) -> str:
    """Rows of titled grids (title, grid, what it is compared with), all at one scale.

    left_out: how many pairs are not among them.
    """
    side = max((max(np.shape(grid)) for row in rows for _, grid, _ in row), default=1)
    out = [f"<div><b>{html.escape(heading)}</b></div>"]
    for row in rows:
        cells = "".join(grid_html(grid, title, side, truth) for title, grid, truth in row)
        out.append(f'<div style="display:flex;flex-wrap:wrap">{cells}</div>')
    if left_out:
        out.append(f"<div>... and {left_out} more pair{'' if left_out == 1 else 's'}</div>")
    return "".join(out)
