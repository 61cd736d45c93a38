"""The user's own tasks from a Python function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from mips.tasks.task import Inputs, Outputs, Task


def from_callable(
    function: Callable[[list[Any]], Iterable[Any]],
    *,
    low: int | np.integer,
    high: int | np.integer,
    inputs: int = 1,
    outputs: int = 1,
    length: int = 10,
    name: str | None = None,
) -> Task:
    """A task from a Python function of one sequence.

    Args: function: takes a list of integers (of tuples, for several inputs) and returns, or yields, one
        integer (tuple) for each; output t may depend on the inputs up to t alone.
        low, high: inputs lie in [low, high). length: of training sequences.

    Raises: TypeError or ValueError, with the first sequence concerned, where outputs are missing, not
        integers, or not causal.
    """
    label = name or getattr(function, "__name__", "task")

    def reference(x: Inputs) -> Outputs:
        rows = []
        for sequence in x:
            given = sequence[:, 0].tolist() if inputs == 1 else [tuple(step) for step in sequence.tolist()]
            rows.append(_read_outputs(label, given, _asked(label, function, given), outputs))
        return np.array(rows, np.int64).reshape(*x.shape[:2], outputs)

    # A Python function takes a second for some 50,000 sequences.
    sizes = {"low": low, "high": high, "inputs": inputs, "outputs": outputs, "length": length}
    for key, value in sizes.items():
        if not isinstance(value, int | np.integer) or isinstance(value, bool):
            raise TypeError(f"task {label!r}: {key} is an integer, not {value!r}")
    task = Task(label, reference, int(low), int(high), inputs, outputs, length, most_listed=1 << 16)
    probe = task.draw(0, 64)
    whole = task.solve(probe)
    again = (task.solve(probe) != whole).any(axis=(1, 2))
    if again.any():
        given = probe[int(again.argmax())].tolist()
        raise ValueError(f"task {label!r} gives different outputs when asked twice (inputs {given})")
    for part in range(1, length):
        if not np.array_equal(task.solve(probe[:, :part]), whole[:, :part]):
            raise ValueError(
                f"task {label!r} is not causal: outputs of a prefix of {part} inputs change when more follow"
            )
    return task


def _asked(
    label: str, function: Callable[[list[Any]], Iterable[Any]], given: list[int] | list[tuple[int, ...]]
) -> object:
    """What a function returns, all of it; an error of its own names the inputs."""
    try:
        outcome = function(list(given))
        return list(outcome) if isinstance(outcome, Iterator) else outcome
    except Exception as error:
        raise ValueError(
            f"task {label!r} fails with {type(error).__name__}: {error} (inputs {given})"
        ) from error


def _read_outputs(
    label: str, given: list[int] | list[tuple[int, ...]], outcome: object, outputs: int
) -> list[list[int]]:
    if not isinstance(outcome, Iterable):
        raise TypeError(f"task {label!r} gives {outcome!r}, not a sequence of outputs (inputs {given})")
    result = list(outcome)
    if len(result) != len(given):
        raise ValueError(f"task {label!r} gives {len(result)} outputs for the {len(given)} inputs {given}")
    rows = []
    for y in result:
        row = list(y) if isinstance(y, tuple | list) else [y]
        if len(row) != outputs:
            raise ValueError(
                f"task {label!r} gives {len(row)} outputs at a step, {outputs} expected (inputs {given})"
            )
        if not all(isinstance(v, int | np.integer | np.bool_) for v in row):
            raise TypeError(f"task {label!r} gives {y!r}, which is not an integer (inputs {given})")
        if any(abs(int(v)) >= 1 << 62 for v in row):
            raise ValueError(f"task {label!r} gives {y!r}, which is beyond 62 bits (inputs {given})")
        rows.append([int(v) for v in row])
    return rows
