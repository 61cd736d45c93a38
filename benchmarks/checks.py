"""Errors beside their bounds, printed and counted; for the parity benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Check(NamedTuple):
    """One measured error and its bound."""

    name: str
    error: float
    bound: float

    @property
    def ok(self) -> bool:
        return bool(self.error <= self.bound)


def report(file: str, results: Iterable[tuple[str, list[Check]]], output: Path | None) -> int:
    """Prints all checks as they come, writes them as JSON; exit status 1 if one is beyond."""
    failed, rows = 0, {}
    for title, checks in results:
        print(f"\n{Path(file).name}: {title}")
        for check in checks:
            mark = "ok" if check.ok else "BEYOND"
            print(f"  {check.name:72s} {check.error:10.2e}  allowed {check.bound:8.1e}  {mark}")
            failed += not check.ok
        rows[title] = [check._asdict() for check in checks]
    if output:
        output.write_text(json.dumps(rows, indent=1))
    print(f"\n{f'FAILED: {failed} beyond tolerance' if failed else 'all within tolerance'}")
    return 1 if failed else 0
