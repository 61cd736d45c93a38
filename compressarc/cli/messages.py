"""What is printed where: the console, lines on standard error, what a data set left out."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, cast

from compressarc.files import Unfailing, printable

if TYPE_CHECKING:
    from rich.console import Console

    from compressarc.datasets import Dataset


_PIPE_WIDTH = 400
"""Characters of a line into a pipe or a file: an ARC puzzle's grids side by side."""


def make_console() -> Console:
    """Standard output; into a pipe as wide as grids side by side need, unless COLUMNS says otherwise."""
    from rich.console import Console

    file = cast("IO[str]", Unfailing(sys.stdout, say))
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return Console(file=file, highlight=False, emoji=False, width=_PIPE_WIDTH)
    return Console(file=file, highlight=False, emoji=False)


def say(line: str) -> None:
    """A line about what was left out or is unusual, on standard error."""
    with suppress(OSError):
        print(f"compressarc: {printable(line)}", file=sys.stderr)


def loaded(dataset: str, *, strict: bool) -> Dataset:
    """A data set; says what was left out."""
    from compressarc.datasets import describe_omissions, load_dataset

    found = load_dataset(dataset, strict=strict)
    for line in describe_omissions(found):
        say(line)
    return found
