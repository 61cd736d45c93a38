"""The terminal: one console, progress bars, folders and arrays that commands ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

CONSOLE = Console(highlight=False)


@runtime_checkable
class Advance(Protocol):
    """Moves a progress bar on, and may change its text."""

    def __call__(self, steps: int = 1, description: str | None = None) -> None: ...


@contextlib.contextmanager
def bar(text: str, total: int) -> Iterator[Advance]:
    """A progress bar; yields a function that advances it and may change its text."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=CONSOLE, transient=True) as progress:
        line = progress.add_task(text, total=total)

        def advance(steps: int = 1, description: str | None = None) -> None:
            progress.update(line, advance=steps, description=description)

        yield advance


def keep_compiled() -> None:
    """Keeps compiled programs in the user's cache folder."""
    import jax
    import platformdirs

    jax.config.update("jax_compilation_cache_dir", str(Path(platformdirs.user_cache_dir("features")) / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def folder(path: Path) -> Path:
    """An output folder, made where it is missing; ValueError for a file of that name."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path}: --out must be a folder")
    path.mkdir(parents=True, exist_ok=True)
    return path


def load_array(path: Path) -> Shaped[np.ndarray, "..."]:
    """A .npy array, memory-mapped; nothing is unpickled."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy has many kinds for damaged headers, of its tokenizer among them
        raise ValueError(f"{path} is no .npy file of numbers: {error}") from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise ValueError(f"{path} is no .npy file of numbers, but an archive of several")
    return found
