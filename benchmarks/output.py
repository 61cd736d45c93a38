"""Where a benchmark's figures go: `--quick` runs never touch the committed ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compressarc.files import replace_file

COMMITTED = Path(__file__).parent / "results"


def results(*, quick: bool) -> Path:
    """The folder of results: the committed one, or for quick runs one beside them that git ignores."""
    folder = COMMITTED / "quick" if quick else COMMITTED
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(path: Path, results: Any) -> None:
    """Writes results whole or not at all, a line for each entry."""
    replace_file(path, (json.dumps(results, indent=1) + "\n").encode())
