"""Results as JSON files: written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Arrays, tuples and named tuples as what JSON knows; keys become text."""
    if hasattr(value, "_asdict"):
        return {key: plain(part) for key, part in value._asdict().items()}
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if hasattr(value, "tolist"):
        return np.asarray(value).tolist()
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, data: object) -> Path:
    """Replaces a file by new contents in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(plain(data), indent=1))
    draft.replace(path)
    return path
