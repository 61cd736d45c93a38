"""Measured figures beside what they should be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple


class Row(NamedTuple):
    """One figure and its bound."""

    name: str
    value: float
    sign: Literal["<=", ">=", "<"]
    bound: float

    @property
    def ok(self) -> bool:
        if self.sign == "<=":
            return bool(self.value <= self.bound)
        return bool(self.value >= self.bound) if self.sign == ">=" else bool(self.value < self.bound)


def show(rows: Iterable[Row]) -> int:
    """Prints a table; returns how many fall short."""
    rows = list(rows)
    print()
    for row in rows:
        mark = "ok" if row.ok else "SHORT"
        print(f"  {row.name:62s} {row.value:10.4g}  asked {row.sign} {row.bound:<8g} {mark}")
    short = sum(not row.ok for row in rows)
    print(f"\n{len(rows) - short} of {len(rows)} as asked")
    return short
