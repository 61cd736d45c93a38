"""Grids of colors 0 to 9: checked, and compared cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import ArrayLike

MAX_SIDE = 255
"""Longest side that is taken at all: one-dimensional tasks are wider than ARC's."""


NUM_COLORS = 10


Grid = Int[np.ndarray, "_ _"]
"""Color values 0..9, rows and columns; every grid has its own numbers of them."""


def as_grid(value: Any, where: str) -> Grid:
    """Checks and converts one grid given as rows of color values.

    Raises: ValueError naming `where` if the grid is empty, ragged, longer than 255 cells on a
    side, or holds anything but integers 0..9.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"{where}: expected a non-empty list of rows, got {_brief(value)}")
    for i, row in enumerate(value):
        if not isinstance(row, (list, tuple)) or not row:
            raise ValueError(f"{where}: row {i} should be a non-empty list of colors, got {_brief(row)}")
        if len(row) != len(value[0]):
            raise ValueError(
                f"{where}: ragged grid, row {i} has {len(row)} cells and row 0 has {len(value[0])}"
            )
        if set(map(type, row)) != {int} or not 0 <= min(row) <= max(row) < NUM_COLORS:
            _check_cells(row, f"{where}: cell [{i}]")
    if max(len(value), len(value[0])) > MAX_SIDE:
        raise ValueError(f"{where}: {len(value)} x {len(value[0])} cells, sides are at most {MAX_SIDE}")
    grid = np.array(value, np.int8)
    grid.setflags(write=False)
    return grid


def _check_cells(row: Sequence[Any], where: str) -> None:
    """Raises ValueError for the first cell that is no color; NumPy's integers are integers."""
    for j, cell in enumerate(row):
        if isinstance(cell, bool) or not isinstance(cell, (int, np.integer)):
            raise ValueError(f"{where}[{j}] should be an integer 0..9, got {_brief(cell)}")
        if not 0 <= cell < NUM_COLORS:
            raise ValueError(f"{where}[{j}] is {_brief(cell)}, colors are 0..9")


def _brief(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = f"{type(value).__name__} of very many levels"
    return text if len(text) <= 40 else text[:37] + "..."


def _checked(grid: Any, where: str) -> Grid:
    """`as_grid`, unless it is one already."""
    return (
        grid
        if isinstance(grid, np.ndarray) and grid.ndim == 2 and grid.dtype == np.int8
        else as_grid(grid, where)
    )


def wrong_cells(guess: ArrayLike, truth: ArrayLike) -> Bool[np.ndarray, "_ _"]:
    """Bool, of the guess's shape: cells that differ from the truth or lie outside it.

    Raises: ValueError if either is no grid.
    """
    guess, truth = np.asarray(guess), np.asarray(truth)
    if guess.ndim != 2 or truth.ndim != 2:
        raise ValueError(
            f"expected grids of rows and columns, got arrays of shape {guess.shape}, {truth.shape}"
        )
    wrong = np.ones(guess.shape, bool)
    h, w = np.minimum(guess.shape, truth.shape)
    wrong[:h, :w] = guess[:h, :w] != truth[:h, :w]
    return wrong
