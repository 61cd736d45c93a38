"""The terminal: one console, a progress bar for trainings, output folders."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hypernet.training.step import Info, Run

CONSOLE = Console(highlight=False)


@contextlib.contextmanager
def training_bar(steps: int) -> Iterator[Callable[[Run, Info], None]]:
    """A progress bar; yields what to give to `train` as on_chunk."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=CONSOLE, transient=True) as progress:
        line = progress.add_task("compiling", total=steps)

        def advance(run: Run, info: Info) -> None:
            loss, nats = float(np.median(info.loss)), float(np.median(info.nats / info.n[:, None]))
            progress.update(
                line, completed=int(run.step), description=f"loss {loss:.4f}, {nats:.1f} nats per input"
            )

        yield advance


def keep_compiled() -> None:
    """Keeps compiled programs in the user's cache folder."""
    import jax
    import platformdirs

    jax.config.update("jax_compilation_cache_dir", str(Path(platformdirs.user_cache_dir("hypernet")) / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def folder(path: Path) -> Path:
    """An output folder, made where it is missing; ValueError for a file of that name."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path}: --out must be a folder")
    path.mkdir(parents=True, exist_ok=True)
    return path
