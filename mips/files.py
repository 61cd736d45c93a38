"""Result files: written whole or not at all."""

# The same file in mips, features and hypernet, which do not import one another; a test keeps it so.

from __future__ import annotations

import contextlib
import json
import math
import uuid
from collections.abc import Iterator
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


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to be written, which takes the name's place once the block ends without an error.

    A reader or a crash never sees half of it, and where there is no room what was there stays.
    """
    path = path.resolve() if path.is_symlink() else path  # what a link points to is meant
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> Path:
    """Replaces a file by new contents in one step, UTF-8."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, data: object) -> Path:
    """As `write_text`, for `plain` data."""
    return write_text(path, json.dumps(plain(data), indent=1, allow_nan=False))
