"""Validators of settings (whole numbers, tuples, positive numbers) whose errors name the argument."""

from __future__ import annotations

import math
import operator
from typing import Any


def whole(name: str, value: Any, least: int = 1) -> int:
    """The value as an int.

    Raises: ValueError if it is no whole number, or below the least allowed.
    """
    try:
        found = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}={value!r}: expected a whole number") from None
    if found < least:
        raise ValueError(f"{name}={value}: must be at least {least}")
    return found


def positive(name: str, value: Any) -> float:
    """The value, which must be a positive, finite number."""
    if (
        not (isinstance(value, (int, float)) or hasattr(value, "__float__"))
        or not 0 < float(value) < math.inf
    ):
        raise ValueError(f"{name}={value!r}: must be positive and finite")
    return float(value)


def as_tuple(name: str, value: Any) -> tuple:
    """The value as a tuple: settings are hashed.

    Raises: ValueError for what is no sequence.
    """
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise ValueError(f"{name}={value!r}: expected a tuple")
    return tuple(value)
