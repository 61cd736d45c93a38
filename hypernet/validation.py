"""Validators of settings (whole numbers, tuples, positive numbers) whose errors name the argument."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import SupportsFloat, SupportsIndex


def whole(name: str, value: object, least: int = 1) -> int:
    """The value as an int.

    Raises: ValueError if it is no whole number, or below the least allowed.
    """
    try:
        if not isinstance(value, SupportsIndex):
            raise TypeError
        found = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}={value!r}: expected a whole number") from None
    if found < least:
        raise ValueError(f"{name}={value}: must be at least {least}")
    return found


def positive(name: str, value: object) -> float:
    """The value, which must be a positive, finite number."""
    try:
        found = float(value) if isinstance(value, SupportsFloat) else math.nan
    except (TypeError, ValueError, OverflowError):  # several numbers, too large a one, a signaling NaN
        found = math.nan
    if not 0 < found < math.inf:
        raise ValueError(f"{name}={value!r}: must be positive and finite")
    return found


def as_tuple(name: str, value: object) -> tuple[object, ...]:
    """The value as a tuple: settings are hashed.

    Raises: ValueError for what is no sequence.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ValueError(f"{name}={value!r}: expected a tuple")
    return tuple(value)
