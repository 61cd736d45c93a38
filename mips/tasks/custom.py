"""The user's own tasks: a Python function, or recorded sequences in a CSV or NPZ file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from mips.tasks.task import Inputs, Outputs, Sequences, Task

_LARGEST = 1 << 31  # values are below


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
            rows.append(_read_outputs(label, given, function(given), outputs))
        return np.array(rows, np.int64).reshape(*x.shape[:2], outputs)

    # A Python function takes a second for some 50,000 sequences.
    for bound in (low, high):
        if not isinstance(bound, int | np.integer):
            raise TypeError(f"task {label!r}: low and high are integers, not {bound!r}")
    task = Task(label, reference, int(low), int(high), inputs, outputs, length, most_listed=1 << 16)
    probe = task.draw(0, 64)
    whole = task.solve(probe)
    for part in range(1, length):
        if not np.array_equal(task.solve(probe[:, :part]), whole[:, :part]):
            raise ValueError(
                f"task {label!r} is not causal: outputs of a prefix of {part} inputs change when more follow"
            )
    return task


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


def from_file(path: str | Path) -> Task:
    """A task from recorded sequences, by the file's ending: .npz or .csv.

    Raises ValueError, naming the file and what was wrong in it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix == ".npz":
        return from_npz(path)
    if path.suffix == ".csv":
        return from_csv(path)
    raise ValueError(f"{path}: a .npz or .csv file was expected")


def from_npz(path: str | Path) -> Task:
    """A task from arrays `x` and `y`, (count, length) or (count, length, channels).

    Longer sequences `x_long` and `y_long`, if there are any, serve to test length extrapolation.

    Raises ValueError, naming the key and what was expected.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("damaged")
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # what damaged archives raise is no closed list: zlib's, RuntimeError, ...
        raise ValueError(f"{path}: not a readable .npz file ({error})") from None
    for key in ("x", "y"):
        if key not in arrays:
            raise ValueError(f"{path}: no array {key!r}; there are {', '.join(arrays) or 'none'}")
    if ("x_long" in arrays) != ("y_long" in arrays):
        raise ValueError(f"{path}: x_long and y_long come together; one is missing")
    records = _records(path, arrays, "")
    long = _records(path, arrays, "_long") if "x_long" in arrays and "y_long" in arrays else None
    return _recorded(path, records, long)


def _records(path: Path, arrays: dict[str, object], ending: str) -> tuple[Inputs, Outputs]:
    x, y = (_integers(path, key + ending, arrays[key + ending]) for key in ("x", "y"))
    if x.shape[:2] != y.shape[:2]:
        raise ValueError(
            f"{path}: x{ending} holds {x.shape[0]} sequences of {x.shape[1]} steps and y{ending} "
            f"{y.shape[0]} of {y.shape[1]}; one output per step was expected"
        )
    for key, values in (("x", x), ("y", y)):
        if not values.size:
            raise ValueError(f"{path}: {key}{ending} is empty")
    return x, y


def _integers(path: Path, key: str, values: object) -> Sequences:
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{path}: {key} is not an array")
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3:
        raise ValueError(
            f"{path}: {key} has {values.ndim} axes; (count, length) or (count, length, channels) expected"
        )
    if values.dtype == bool:
        values = values.astype(np.int64)
    whole = np.issubdtype(values.dtype, np.floating) and np.array_equal(values, np.round(values))
    if (
        values.size
        and (whole or np.issubdtype(values.dtype, np.integer))
        and not np.abs(values.astype(float)).max() < _LARGEST
    ):
        raise ValueError(f"{path}: {key} holds values of more than 31 bits")
    if whole:
        values = values.astype(np.int64)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{path}: {key} holds {values.dtype} values that are not integers")
    return values.astype(np.int64)


def from_csv(path: str | Path) -> Task:
    """A task from a CSV file with one row per step, in order.

    Columns: `sequence` (an id), `x` (or `x1`, `x2`, ...) and `y` (or `y1`, ...).

    Raises ValueError, naming line or sequence: missing columns, values that are not integers, sequences of
    different lengths.
    """
    import csv

    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader]  # empty lines give no row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable CSV file ({error})") from None
    if not rows:
        raise ValueError(f"{path}: no rows")
    columns = [c for c in rows[0][1] if c]
    left, right = _channels(columns, "x"), _channels(columns, "y")
    if "sequence" not in columns or not left or not right:
        raise ValueError(
            f"{path}: columns sequence, x (or x1, x2, ...) and y were expected, not {', '.join(columns)}"
        )
    table: dict[str, list[list[int]]] = {}
    last = None
    for line, row in rows:
        try:
            values = [_integer(row[c]) for c in (*left, *right)]
        except (TypeError, ValueError):
            raise ValueError(
                f"{path}, line {line}: {[row[c] for c in (*left, *right)]} are not all integers"
            ) from None
        name = row["sequence"]
        if name is None:
            raise ValueError(f"{path}, line {line}: no sequence is named")
        if name in table and name != last:
            raise ValueError(f"{path}, line {line}: sequence {name!r} comes again after another one")
        table.setdefault(name, []).append(values)
        last = name
    lengths = {name: len(steps) for name, steps in table.items()}
    first = next(iter(lengths.values()))
    odd = next((n for n, count in lengths.items() if count != first), None)
    if odd is not None:
        raise ValueError(
            f"{path}: sequence {odd!r} has {lengths[odd]} steps, the first has {first}; "
            "equal lengths were expected"
        )
    everything = np.array(list(table.values()), np.int64)
    return _recorded(path, (everything[..., : len(left)], everything[..., len(left) :]), None)


def _channels(columns: list[str], letter: str) -> list[str]:
    """The columns x, x1, x2, ... by number."""
    found = [c for c in columns if c[0] == letter and (c[1:].isdecimal() or not c[1:])]
    return sorted(found, key=lambda c: int(c[1:] or 0))


def _integer(text: str | None) -> int:
    if text is None or "_" in text or abs(int(text)) >= _LARGEST:
        raise ValueError(text)
    return int(text)


def _check_causal(path: Path, x: Inputs, y: Outputs) -> None:
    """Raises ValueError where two sequences begin alike and their outputs do not."""
    for t in range(x.shape[1]):
        _, first, number = np.unique(x[:, : t + 1], axis=0, return_index=True, return_inverse=True)
        other = first[number.ravel()]
        wrong = np.flatnonzero((y[:, t] != y[other, t]).any(axis=1))
        if len(wrong):
            i, j = int(other[wrong[0]]), int(wrong[0])
            raise ValueError(
                f"{path}: sequences {i} and {j} have the same first {t + 1} inputs and differ in output "
                f"{t + 1}: "
                "an output may depend on the inputs up to it alone"
            )


def _recorded(
    path: Path,
    records: tuple[Inputs, Outputs],
    long: tuple[
        Int[np.ndarray, "long_count long_length long_inputs"],
        Int[np.ndarray, "long_count long_length long_outputs"],
    ]
    | None,
) -> Task:
    x, y = records
    everything = [x] if long is None else [x, long[0]]
    if long is not None and (long[0].shape[2] != x.shape[2] or long[1].shape[2] != y.shape[2]):
        raise ValueError(f"{path}: the longer sequences have other numbers of channels")
    if long is not None and long[0].shape[1] <= x.shape[1]:
        raise ValueError(f"{path}: x_long has {long[0].shape[1]} steps, no more than x")
    _check_causal(path, x, y)
    low, high = min(int(a.min()) for a in everything), max(int(a.max()) for a in everything) + 1
    return Task(
        path.stem,
        None,
        low,
        high,
        inputs=x.shape[2],
        outputs=y.shape[2],
        length=x.shape[1],
        description=f"{len(x)} recorded sequences",
        records=records,
        long_records=long,
    )
