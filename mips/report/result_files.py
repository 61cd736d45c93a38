"""Results as files: one JSON per task, written whole or not at all; and the programs' Python text."""

from __future__ import annotations

import copy
import dataclasses
import glob
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mips.files import write_json, write_text
from mips.judging.comparison import Exceptions
from mips.judging.verification import Counterexample
from mips.programs.program import Program
from mips.reading.machine_extraction import Machine
from mips.synthesis import Result, identifier

FORMAT = 1
# What every result has, and of what kind; `read` refuses others.
_NUMBER, _NULL = (int, float), type(None)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("task", "origin", "status", "provenance", "network", "source", "kind", "latex"), (str,)),
    **dict.fromkeys(("dot", "baseline_source"), (str,)),
    **dict.fromkeys(("seconds", "made_with"), (dict,)),
    **dict.fromkeys(("program", "report", "machine", "realization", "baseline"), (dict, _NULL)),
    **dict.fromkeys(("accuracy", "agreement", "bits"), (*_NUMBER, _NULL)),
    "notes": (list,),
}
_REPORT_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("fresh", "fresh_count", "long_count", "long_length"), _NUMBER),
    **dict.fromkeys(("long", "exhaustive"), (*_NUMBER, _NULL)),
    "counterexample": (dict, _NULL),
    "exact": (bool,),
}
_REPORT_LATER: dict[str, tuple[tuple[type, ...], Any]] = {  # and what files of earlier versions mean
    "recorded": ((*_NUMBER, _NULL), None),
    "recorded_count": (_NUMBER, 0),
    "error_bound": ((*_NUMBER, _NULL), None),
    "skewed": ((*_NUMBER, _NULL), None),
    "skewed_count": (_NUMBER, 0),
    "noise": (_NUMBER, 0.0),
}
_LATER: dict[str, tuple[tuple[type, ...], Any]] = {
    "comparison": ((dict, _NULL), None),
    "chosen_by": ((str,), ""),
    "input_symbols": ((list,), []),
    "output_symbols": ((list,), []),
    "front": ((list,), []),
}
_FRONT_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("bits", "right", "agreement"), _NUMBER),
    "source": (str,),
    "program": (dict,),
}
_COMPARISON_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("drawn", "drawn_count", "skewed", "skewed_count", "words_count"), _NUMBER),
    **dict.fromkeys(("beyond", "beyond_count", "beyond_length"), _NUMBER),
    "words": (*_NUMBER, _NULL),
    **dict.fromkeys(("disagreement", "exceptions"), (dict, _NULL)),
    **dict.fromkeys(("faithful", "inside"), (bool,)),
}


def to_json(result: Result, *, origin: str = "", made_with: dict[str, Any] | None = None) -> dict[str, Any]:
    """Everything about a result as plain data.

    `origin`: "benchmark" for the package's own tasks, else the file. `made_with`: seed and settings.
    """
    data = {
        field.name: getattr(result, field.name)
        for field in dataclasses.fields(result)
        if field.name
        not in {"program", "report", "baseline", "machine", "realization", "comparison", "front"}
    }
    program = result.program
    data["format"] = FORMAT
    data["origin"], data["made_with"] = origin, made_with or {}
    data["program"] = None if program is None else program.to_json()
    data["source"] = result.source
    data["kind"] = "" if program is None else program.kind
    data["bits"] = None if program is None else round(program.bits, 2)
    data["latex"] = "" if program is None or program.uses_table else program.latex()
    data["report"] = None if result.report is None else result.report.to_json()
    data["front"] = [entry.to_json() for entry in result.front]
    data["agreement"] = result.agreement
    data["comparison"] = None if result.comparison is None else result.comparison.to_json()
    machine, system = result.machine, result.realization
    data["machine"] = None if machine is None else machine.to_json()
    data["dot"] = "" if machine is None else machine.to_dot()
    data["realization"] = None
    if system is not None:
        data["realization"] = {
            k: [[str(v) for v in row] for row in getattr(system, k)] for k in ("a", "b", "c")
        }
    data["baseline"] = None if result.baseline is None else result.baseline.to_json()
    data["baseline_source"] = (
        "" if result.baseline is None else result.baseline.source(identifier(result.task))
    )
    return json.loads(json.dumps(data))


def write(folder: Path, data: dict[str, Any]) -> Path:
    """Writes `<task>.json` and, where there is a program, `<task>.py`; each replaces its old self at once."""
    folder.mkdir(parents=True, exist_ok=True)
    name = identifier(data["task"])
    text = folder / f"{name}.py"
    if data["source"]:
        write_text(text, data["source"])
    else:
        text.unlink(missing_ok=True)
    path = folder / f"{name}.json"
    # Last: a result counts as done when its JSON is there.
    write_json(path, data)
    return path


def clear_partial(folder: Path, task: str) -> None:
    """Removes what a run that was killed while it wrote this task's files has left of them."""
    for partial in folder.glob(f".{glob.escape(identifier(task))}.*.partial"):
        partial.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """A result as plain data. Raises ValueError, naming the file, for anything else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a result of `mips solve` ({error})") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"{path}: not a result of `mips solve` of format {FORMAT}")
    for name, (_, meant) in _LATER.items():
        data.setdefault(name, copy.copy(meant))
    missing = [key for key in _KINDS if key not in data]
    if missing:
        raise ValueError(f"{path}: not a whole result of `mips solve`: no {', '.join(missing)}")
    try:
        _check_kinds(data, _KINDS | {n: k for n, (k, _) in _LATER.items()})
        lists = dict.fromkeys(("notes", "input_symbols", "output_symbols"), (str,))
        for key, kinds in ({"seconds": _NUMBER} | lists).items():
            inside = data[key].items() if isinstance(data[key], dict) else enumerate(data[key])
            parts = {f"{key}[{name!r}]": value for name, value in inside}
            _check_kinds(parts, dict.fromkeys(parts, kinds))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    try:
        for key in ("program", "baseline"):
            if data[key] is not None:
                Program.from_json(data[key])
        for entry in data["front"]:
            _check_kinds(entry, _FRONT_KINDS)
            Program.from_json(entry["program"])
        if data["machine"] is not None:
            Machine.from_json(data["machine"])
        if data["report"] is not None:
            for name, (_, meant) in _REPORT_LATER.items():
                data["report"].setdefault(name, meant)
            _check_kinds(data["report"], _REPORT_KINDS | {n: k for n, (k, _) in _REPORT_LATER.items()})
            if data["report"]["counterexample"] is not None:
                Counterexample(**data["report"]["counterexample"])
        if data["comparison"] is not None:
            _check_kinds(data["comparison"], _COMPARISON_KINDS)
            for name, kind in (("disagreement", Counterexample), ("exceptions", Exceptions)):
                if data["comparison"][name] is not None:
                    kind(**data["comparison"][name])
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"{path}: damaged: {error}") from None
    if data["accuracy"] is None:  # JSON has no NaN
        data["accuracy"] = math.nan
    return data


def _check_kinds(data: dict[Any, Any], kinds: Mapping[Any, tuple[type, ...]]) -> None:
    """Raises ValueError, naming the key, where a value is of another kind, KeyError where there is none."""
    for key, allowed in kinds.items():
        if not isinstance(data[key], allowed):
            wanted = " or ".join("null" if kind is _NULL else kind.__name__ for kind in allowed)
            raise ValueError(f"{key} is {type(data[key]).__name__}, {wanted} expected")


def read_all(
    folder: Path, *, on_damage: Callable[[Path, str], None] | None = None
) -> dict[str, dict[str, Any]]:
    """All results in a folder, by task name. Other JSON files are passed over.

    on_damage: called with the file and what is wrong with it, in place of a ValueError.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    results = {}
    for path in sorted(folder.glob("*.json")):
        try:
            foreign = "format" not in json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, TypeError):
            foreign = False  # `read` says what is wrong
        if foreign:
            continue
        try:
            data = read(path)
        except ValueError as error:
            if on_damage is None:
                raise
            on_damage(path, str(error))
            continue
        results[data["task"]] = data
    return results


def read_program(path: Path) -> Program:
    """`read_program_and_symbols`, the program alone."""
    return read_program_and_symbols(path)[0]


def read_program_and_symbols(path: Path) -> tuple[Program, tuple[tuple[str, ...], tuple[str, ...]]]:
    """A program from a result's JSON or from Python text, which is parsed and never executed.

    With what its numbers stand for, inputs and outputs, if they are symbols. Raises ValueError, naming the
    file.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        if path.suffix == ".json":
            data = read(path)
            if data["program"] is None:
                raise ValueError("the task was not solved, so there is no program")
            symbols = tuple(data["input_symbols"]), tuple(data["output_symbols"])
            return Program.from_json(data["program"]), symbols
        from mips.programs.program import parse_program
        from mips.tasks.records import read_legend

        text = path.read_text(encoding="utf-8")
        return parse_program(text), read_legend(text)
    except (ValueError, OSError) as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None
