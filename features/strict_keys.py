"""Settings of other people's files: read, known to be harmless, or refused by name.

A key that nobody reads can change what a model computes. So a format lists what is read, what is harmless,
and what is understood at one value only; anything else is an error.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class KnownKeys:
    """What a format's keys mean here. Names are regular expressions that match whole keys."""

    read: tuple[str, ...]
    """whoever reads the file looks at these, and refuses what it does not understand"""
    harmless: tuple[str, ...]
    """no value of these changes what is computed from weights and tokens"""
    fixed: Mapping[str, tuple[Any, ...]]
    """values at which they change nothing; null is always one"""

    def check(self, where: object, found: Mapping[str, Any]) -> None:
        """Raises ValueError, naming file, key and value, for what may change the function and is not read."""
        for key, value in found.items():
            allowed = _first(self.fixed, key)
            if value is None or _matches((*self.read, *self.harmless), key):
                continue
            if allowed is None:
                raise ValueError(
                    f"{where}: key {key!r} is {_shown(value)}; unknown, it may change what is computed"
                )
            if not any(_equal(value, each) for each in allowed):
                said = " or ".join(map(repr, allowed))
                raise ValueError(f"{where}: key {key!r} is {_shown(value)}; supported is {said}")


def _matches(patterns: Iterable[str], key: str) -> bool:
    return any(re.fullmatch(pattern, key) for pattern in patterns)


def _first(table: Mapping[str, tuple[Any, ...]], key: str) -> tuple[Any, ...] | None:
    return next((values for pattern, values in table.items() if re.fullmatch(pattern, key)), None)


def _equal(value: object, allowed: object) -> bool:
    """Equality in which true is not 1, and a number of float32 is its neighbor in double precision."""
    if isinstance(value, bool) or isinstance(allowed, bool):
        return value is allowed
    if isinstance(value, int | float) and isinstance(allowed, int | float):
        return abs(value - allowed) <= 1e-6 * abs(allowed)
    return type(value) is type(allowed) and value == allowed


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
