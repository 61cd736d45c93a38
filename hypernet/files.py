"""Results as JSON files: written whole or not at all."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class _NamedFields(Protocol):
    """A named tuple."""

    def _asdict(self) -> dict[str, object]: ...


def plain(value: object) -> object:
    """Arrays, tuples and named tuples as what JSON knows; keys become text, what is not finite null."""
    if isinstance(value, _NamedFields):
        return {key: plain(part) for key, part in value._asdict().items()}
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if hasattr(value, "tolist"):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such numbers
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, data: object) -> Path:
    """Replaces a file by new contents in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(plain(data), indent=1, allow_nan=False))
    draft.replace(path)
    return path
