"""The colors of ARC's ten values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass


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


INK = np.array([(0, 0, 0) if i in (3, 4, 5, 7, 8) else (255, 255, 255) for i in range(10)], np.uint8)
"""RGB in which a mark can be seen on each of the colors."""


COLOR_NAMES = ("black", "blue", "red", "green", "yellow", "gray", "magenta", "orange", "light blue", "brown")
