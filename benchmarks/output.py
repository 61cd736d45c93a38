"""Where a benchmark's figures go: `--quick` runs never touch the committed ones."""

from __future__ import annotations

from pathlib import Path

COMMITTED = Path(__file__).parent / "results"


def results(*, quick: bool) -> Path:
    """The folder of results: the committed one, or for quick runs one beside them that git ignores."""
    folder = COMMITTED / "quick" if quick else COMMITTED
    folder.mkdir(parents=True, exist_ok=True)
    return folder
