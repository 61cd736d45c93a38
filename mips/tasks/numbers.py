"""Tasks on larger numbers: windows, differences, extremes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mips.tasks.task import Sequences, Task, lagged


def _sum_last(k: int) -> Task:
    length = 10 if k < 5 else 20
    return Task(
        f"Sum_Last{k}",
        lambda x: np.add.reduce([lagged(x, i) for i in range(k)]),
        0,
        100,
        length=length,
        description=f"sum of the last {k} numbers",
    )


def _previous(k: int) -> Task:
    length = 10 if k < 5 else 20
    return Task(
        f"Prev{k}", lambda x: lagged(x, k), 0, 100, length=length, description=f"the number {k} steps ago"
    )


def _signed(name: str, rule: Callable[[Sequences, Sequences], Sequences], description: str) -> Task:
    return Task(name, lambda x: rule(x, lagged(x, 1)), -100, 100, description=description)


TASKS = (
    Task("Sum_All", lambda x: np.cumsum(x, axis=1), 0, 100, description="running sum"),
    *map(_sum_last, range(2, 8)),
    Task("Current_Number", lambda x: x, 0, 100, description="the number itself"),
    *map(_previous, range(1, 6)),
    Task(
        "Previous_Equals_Current",
        lambda x: (x == lagged(x, 1)).astype(np.int64),
        0,
        8,
        description="1 iff the number equals the one before (0 before the start)",
    ),
    _signed("Diff_Last2", lambda x, before: x - before, "difference to the number before"),
    _signed("Abs_Diff", lambda x, before: abs(x - before), "absolute difference to the number before"),
    Task("Abs_Current", abs, -100, 100, description="absolute value"),
    _signed("Diff_Abs_Values", lambda x, before: abs(x) - abs(before), "difference of absolute values"),
    Task("Min_Seen", lambda x: np.minimum.accumulate(x, axis=1), 0, 10, description="smallest number so far"),
    # 0 to 9, as in the published runs; the last version of the script has 0 to 99.
    Task("Max_Seen", lambda x: np.maximum.accumulate(x, axis=1), 0, 10, description="largest number so far"),
)


def _running_range(x: Sequences) -> Sequences:
    return np.maximum.accumulate(x, axis=1) - np.minimum.accumulate(x, axis=1)


HARDER = (
    *map(_previous, range(6, 9)),
    *map(_sum_last, range(8, 10)),
    Task("Range_Seen", _running_range, 0, 6, description="largest minus smallest number so far"),
)
