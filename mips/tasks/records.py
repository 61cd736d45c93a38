"""The user's own tasks from recorded sequences: CSV, JSON lines, NPZ, or columns in memory.

A record is a sequence of inputs with outputs. Sequences may differ in length; outputs may be recorded at
the last step alone; inputs and outputs may be symbols (text), which are numbered.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int

from mips.tasks.task import MISSING, Inputs, LongInputs, LongOutputs, Outputs, Sequences, Task

_LARGEST = 1 << 31  # values are below
_NO_VALUE = {"", "nan", "none", "null", "na", "n/a"}

Cell: TypeAlias = Any  # a number, text or None
Steps: TypeAlias = list[list[Cell]]  # of one sequence: values by channel, step by step


@dataclasses.dataclass
class _Record:
    """One sequence as it was read."""

    x: Steps
    y: list[list[Cell] | None]
    """None where no output was recorded"""
    where: Callable[[int], str]
    """names a step for messages"""
    name: str


def from_file(path: str | Path, *, noise: float = 0.0, symbols: bool = False) -> Task:
    """A task from recorded sequences, by the file's ending: .csv, .jsonl or .npz.

    Args: noise: expected share of records that are wrong. symbols: whether all values are symbols, also those
        that look like numbers.

    Raises ValueError, naming the file and what was wrong in it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix == ".npz":
        if symbols:
            raise ValueError(f"{path}: an .npz file holds numbers, no symbols")
        return from_npz(path, noise=noise)
    if path.suffix == ".csv":
        return from_csv(path, noise=noise, symbols=symbols)
    if path.suffix == ".jsonl":
        return from_jsonl(path, noise=noise, symbols=symbols)
    raise ValueError(f"{path}: a .csv, .jsonl or .npz file was expected")


def from_npz(path: str | Path, *, noise: float = 0.0) -> Task:
    """A task from arrays `x` and `y`, (count, length) or (count, length, channels).

    `y` of shape (count,) holds one output of each sequence, at its end. `lengths`, (count,), says how many
    steps of each sequence count, where they differ. Longer sequences `x_long` and `y_long`, if there are
    any, serve to test length extrapolation.

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
    records = _arrays(path, arrays, "")
    long = _arrays(path, arrays, "_long") if "x_long" in arrays and "y_long" in arrays else None
    return _recorded(str(path), path.stem, records, long, noise=noise)


def _arrays(path: Path, arrays: dict[str, Any], ending: str) -> tuple[Inputs, Outputs]:
    x = _integers(path, f"x{ending}", arrays[f"x{ending}"])
    y = arrays[f"y{ending}"]
    at_end = isinstance(y, np.ndarray) and y.ndim == 1
    y = _integers(path, f"y{ending}", y[:, None] if at_end else y)
    lengths = np.full(len(x), x.shape[1])
    if not ending and "lengths" in arrays:
        lengths = _lengths(path, arrays["lengths"], x)
    if x.shape[0] != y.shape[0] or (x.shape[1] != y.shape[1] and not at_end):
        raise ValueError(
            f"{path}: x{ending} holds {x.shape[0]} sequences of {x.shape[1]} steps and y{ending} "
            f"{y.shape[0]} of {y.shape[1]}; one output per step was expected"
        )
    for key, values in (("x", x), ("y", y)):
        if not values.size:
            raise ValueError(f"{path}: {key}{ending} is empty")
    if at_end:
        whole = np.full((*x.shape[:2], y.shape[2]), MISSING)
        whole[np.arange(len(x)), lengths - 1] = y[:, 0]
        y = whole
    x, y = x.copy(), y.copy()
    for row, length in enumerate(lengths.tolist()):
        x[row, length:], y[row, length:] = x[row, length - 1], MISSING
    return x, y


def _lengths(path: Path, lengths: object, x: Inputs) -> Int[np.ndarray, " count"]:
    good = isinstance(lengths, np.ndarray) and np.issubdtype(lengths.dtype, np.integer)
    if not isinstance(lengths, np.ndarray) or not good or lengths.shape != (len(x),):
        raise ValueError(f"{path}: lengths must hold an integer for each of the {len(x)} sequences")
    if lengths.min() < 1 or lengths.max() > x.shape[1]:
        raise ValueError(
            f"{path}: lengths from {lengths.min()} to {lengths.max()}; x has 1 to {x.shape[1]} steps"
        )
    return lengths.astype(np.int64)


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


def from_csv(path: str | Path, *, noise: float = 0.0, symbols: bool = False) -> Task:
    """A task from a CSV file with one row per step, in order.

    Columns: `sequence` (an id), `x` (or `x1`, `x2`, ...) and `y` (or `y1`, ...). Values are integers, or
    symbols throughout. Outputs may be there at the last step of every sequence alone.

    Raises ValueError, naming line or sequence: missing columns or values, numbers among symbols.
    """
    import csv

    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader]  # empty lines give no row
            header = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable CSV file ({error})") from None
    if not rows:
        raise ValueError(f"{path}: no rows")
    table = {c: [row[c] for _, row in rows] for c in header if c}
    twice = sorted({c for c in header if c and header.count(c) > 1})
    if twice:
        raise ValueError(f"{path}: column {twice[0]!r} comes {header.count(twice[0])} times")
    for line, row in rows:
        if None in row:
            raise ValueError(f"{path}, line {line}: {len(header)} values were expected, there are more")
    lines = [line for line, _ in rows]
    return _from_table(
        str(path), path.stem, table, lambda i: f"{path}, line {lines[i]}", noise=noise, symbols=symbols
    )


def from_columns(
    columns: Mapping[str, Sequence[Cell]] | Any,
    *,
    name: str = "records",
    noise: float = 0.0,
    symbols: bool = False,
) -> Task:
    """A task from columns as `from_csv` reads them: a mapping of sequences, or a data frame.

    Whatever gives its columns' names when iterated over, and a column by its name, will do: dict, pandas,
    polars. Raises ValueError, naming the row, counted from 0.
    """
    table = {str(c): list(columns[c]) for c in columns}
    counts = {c: len(v) for c, v in table.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{name}: columns of different lengths: {counts}")
    if not table or not next(iter(counts.values())):
        raise ValueError(f"{name}: no rows")
    return _from_table(name, name, table, lambda i: f"{name}, row {i}", noise=noise, symbols=symbols)


def _from_table(
    source: str,
    name: str,
    table: dict[str, list[Cell]],
    where: Callable[[int], str],
    *,
    noise: float,
    symbols: bool,
) -> Task:
    columns = list(table)
    left, right = _channels(columns, "x"), _channels(columns, "y")
    if "sequence" not in columns or not left or not right:
        raise ValueError(
            f"{source}: columns sequence, x (or x1, x2, ...) and y were expected, not {', '.join(columns)}"
        )
    groups: dict[Any, list[int]] = {}
    last = None
    for row, key in enumerate(table["sequence"]):
        if _is_missing(key):
            raise ValueError(f"{where(row)}: no sequence is named")
        if key in groups and key != last:
            raise ValueError(f"{where(row)}: sequence {key!r} comes again after another one")
        groups.setdefault(key, []).append(row)
        last = key
    records = []
    for key, rows in groups.items():
        x = [[table[c][row] for c in left] for row in rows]
        said = [[table[c][row] for c in right] for row in rows]
        # Any value missing at a step: none is recorded there, which is right at earlier steps alone.
        y = [None if all(map(_is_missing, step)) else step for step in said]
        records.append(_Record(x, y, lambda t, rows=rows: where(rows[t]), str(key)))
    return _from_records(source, name, records, noise=noise, symbols=symbols)


def _channels(columns: list[str], letter: str) -> list[str]:
    """The columns x, x1, x2, ... by number."""
    found = [c for c in columns if c[0] == letter and (c[1:].isdecimal() or not c[1:])]
    return sorted(found, key=lambda c: int(c[1:] or 0))


def from_jsonl(path: str | Path, *, noise: float = 0.0, symbols: bool = False) -> Task:
    """A task from JSON lines, a sequence a line: {"x": [...], "y": [...]}.

    Steps are integers or texts, or lists of them for several channels. `y` has an output for each step, or
    is one that is no list: the output at the end.

    Raises ValueError, naming the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable JSON lines file ({error})") from None
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place}: not JSON ({error})") from None
        if not isinstance(data, dict) or not isinstance(data.get("x"), list) or "y" not in data:
            raise ValueError(f'{place}: an object with a list "x" and "y" was expected')
        x = [step if isinstance(step, list) else [step] for step in data["x"]]
        if not x:
            raise ValueError(f"{place}: a sequence of no steps")
        said = data["y"]
        if isinstance(said, list) and len(said) != len(x):
            raise ValueError(f"{place}: {len(x)} inputs and {len(said)} outputs")
        y = said if isinstance(said, list) else [None] * (len(x) - 1) + [said]
        steps = [step if isinstance(step, list) or step is None else [step] for step in y]
        records.append(_Record(x, steps, lambda t, place=place: f"{place}, step {t + 1}", f"{number}"))
    if not records:
        raise ValueError(f"{path}: no rows")
    return _from_records(str(path), path.stem, records, noise=noise, symbols=symbols)


def _is_missing(cell: Cell) -> bool:
    if cell is None:
        return True
    if isinstance(cell, str):
        return cell.strip().lower() in _NO_VALUE
    return isinstance(cell, float | np.floating) and bool(np.isnan(cell))


def _integer(cell: Cell) -> int | None:
    """The integer that a cell holds; None for anything else."""
    if isinstance(cell, bool | np.bool_ | int | np.integer):
        return int(cell)
    if isinstance(cell, float | np.floating):
        return int(cell) if float(cell).is_integer() else None
    try:
        return None if "_" in cell else int(cell)
    except (TypeError, ValueError):
        return None


def _number_like(cell: Cell) -> bool:
    """Whether a cell is a number, whole or not."""
    if not isinstance(cell, str):
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _from_records(source: str, name: str, records: list[_Record], *, noise: float, symbols: bool) -> Task:
    inputs, outputs = len(records[0].x[0]), len(next((s for r in records for s in r.y if s is not None), []))
    at_end = all(all(step is None for step in record.y[:-1]) for record in records)
    for record in records:
        for t, (step, said) in enumerate(zip(record.x, record.y, strict=True)):
            if len(step) != inputs or (said is not None and len(said) != outputs):
                raise ValueError(
                    f"{record.where(t)}: {len(step)} inputs and {len(said or [])} outputs; "
                    f"{inputs} and {outputs} were expected"
                )
            if any(map(_is_missing, step)):
                raise ValueError(f"{record.where(t)}: an input is missing")
            if said is not None and any(map(_is_missing, said)):
                raise ValueError(f"{record.where(t)}: an output is missing")
            if said is None and (not at_end or t == len(record.x) - 1):
                raise ValueError(
                    f"{record.where(t)}: no output. Outputs are expected at every step, or at the last step "
                    "of every sequence alone"
                )
    spelled_in = _symbols_of(
        [(r, t, v) for r in records for t, step in enumerate(r.x) for v in step], symbols
    )
    said_by = [(r, t, v) for r in records for t, step in enumerate(r.y) for v in step or []]
    spelled_out = _symbols_of(said_by, symbols)
    if spelled_in and spelled_out and set(spelled_in) & set(spelled_out):
        spelled_in = spelled_out = tuple(sorted({*spelled_in, *spelled_out}))  # what is alike has one number
    longest = max(len(r.x) for r in records)
    x = np.zeros((len(records), longest, inputs), np.int64)
    y = np.full((len(records), longest, outputs), MISSING)
    number_in, number_out = ({v: i for i, v in enumerate(s)} for s in (spelled_in, spelled_out))
    for i, record in enumerate(records):
        for t, (step, said) in enumerate(zip(record.x, record.y, strict=True)):
            x[i, t] = [number_in[str(v)] if number_in else int(v) for v in step]
            if said is not None:
                y[i, t] = [number_out[str(v)] if number_out else int(v) for v in said]
        x[i, len(record.x) :] = x[i, len(record.x) - 1]
    task = _recorded(source, name, (x, y), None, noise=noise)
    high = len(spelled_in) or task.high
    low = 0 if spelled_in else task.low
    return dataclasses.replace(task, low=low, high=high, input_symbols=spelled_in, output_symbols=spelled_out)


def _symbols_of(cells: Iterable[tuple[_Record, int, Cell]], forced: bool) -> tuple[str, ...]:
    """The symbols in use, sorted; none where all are integers. Raises ValueError where both come."""
    cells = list(cells)
    text = [c for c in cells if not _number_like(c[2])]
    if forced or len(text) == len(cells):
        return tuple(sorted({str(v) for _, _, v in cells}))
    for record, t, value in cells:
        whole = _integer(value)
        if whole is None:
            hint = "" if _number_like(value) else "; `symbols` takes numbers for symbols, too"
            raise ValueError(f"{record.where(t)}: {value!r} is not an integer, as others are{hint}")
        if abs(whole) >= _LARGEST:
            raise ValueError(f"{record.where(t)}: {value} has more than 31 bits")
    return ()


def _check_causal(source: str, x: Inputs, y: Outputs) -> None:
    """Raises ValueError where two sequences begin alike and their outputs do not."""
    for t in range(x.shape[1]):
        known = np.flatnonzero((y[:, t] != MISSING).all(axis=1))
        if not len(known):
            continue
        _, first, number = np.unique(x[known, : t + 1], axis=0, return_index=True, return_inverse=True)
        other = known[first[number.ravel()]]
        wrong = np.flatnonzero((y[known, t] != y[other, t]).any(axis=1))
        if len(wrong):
            i, j = int(other[wrong[0]]), int(known[wrong[0]])
            raise ValueError(
                f"{source}: sequences {i} and {j} have the same first {t + 1} inputs and differ in output "
                f"{t + 1}: an output may depend on the inputs up to it alone. Where records may be wrong, "
                "give their expected share (`noise`)"
            )


def _recorded(
    source: str,
    name: str,
    records: tuple[Inputs, Outputs],
    long: tuple[LongInputs, LongOutputs] | None,
    *,
    noise: float,
) -> Task:
    x, y = records
    everything = [x] if long is None else [x, long[0]]
    if long is not None and (long[0].shape[2] != x.shape[2] or long[1].shape[2] != y.shape[2]):
        raise ValueError(f"{source}: the longer sequences have other numbers of channels")
    if long is not None and long[0].shape[1] <= x.shape[1]:
        raise ValueError(f"{source}: x_long has {long[0].shape[1]} steps, no more than x")
    if not noise:
        _check_causal(source, x, y)
    low, high = min(int(a.min()) for a in everything), max(int(a.max()) for a in everything) + 1
    return Task(
        name,
        None,
        low,
        high,
        inputs=x.shape[2],
        outputs=y.shape[2],
        length=x.shape[1],
        description=f"{len(x)} recorded sequences",
        records=records,
        long_records=long,
        noise=noise,
    )


def write_legend(inputs: tuple[str, ...], outputs: tuple[str, ...]) -> str:
    """Comment lines that say what the numbers of a program stand for; none where they are numbers."""
    lines = [("inputs", inputs), ("outputs", outputs)]
    return "".join(f"# {key}: {json.dumps(list(names))}\n" for key, names in lines if names)


def read_legend(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Inverse of `write_legend`, from a program's text. Raises ValueError for a damaged line."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        for key in ("inputs", "outputs"):
            if line.startswith(f"# {key}: "):
                names = json.loads(line.removeprefix(f"# {key}: "))
                if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
                    raise ValueError(f"{line!r} is not a list of symbols")
                found[key] = tuple(names)
    return found.get("inputs", ()), found.get("outputs", ())


def renumbered(task: Task, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Task:
    """A recorded task of symbols with the numbers that a program has for them.

    Outputs that the program does not know get numbers that it never gives. Raises ValueError for an input
    that it does not know, and where one is of symbols and the other of numbers.
    """
    for key, ours, theirs in (
        ("inputs", task.input_symbols, inputs),
        ("outputs", task.output_symbols, outputs),
    ):
        if bool(ours) != bool(theirs):
            kinds = ("symbols", "numbers") if ours else ("numbers", "symbols")
            raise ValueError(f"task {task.name!r}: the {key} are {kinds[0]}, and the program's {kinds[1]}")
    if not (inputs or outputs):
        return task
    assert task.records is not None
    x, y = task.records
    if inputs:
        used = [task.input_symbols[i] for i in np.unique(x)]
        unknown = [name for name in used if name not in inputs]
        if unknown:
            raise ValueError(f"task {task.name!r}: the program does not know the input {unknown[0]!r}")
        x = np.array([inputs.index(n) if n in inputs else 0 for n in task.input_symbols])[x]
    if outputs:
        names = [*outputs, *(n for n in task.output_symbols if n not in outputs)]
        numbers = np.array([names.index(n) for n in task.output_symbols])
        y = np.where(y == MISSING, MISSING, numbers[np.where(y == MISSING, 0, y)])
    return dataclasses.replace(
        task,
        records=(x, y),
        low=0 if inputs else task.low,
        high=len(inputs) or task.high,
        input_symbols=inputs,
        output_symbols=outputs,
    )
