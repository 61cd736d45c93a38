"""Files that are whole or not there; errors that name the file and say how much room is left."""

from __future__ import annotations

import collections
import contextlib
import errno
import io
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def _amount(size: float) -> str:
    """1.2 MB and the like."""
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def _room(path: Path) -> str:
    """What is free where a file would lie."""
    with contextlib.suppress(OSError):
        there = next(p for p in (path, *path.absolute().parents) if p.exists())
        usage = shutil.disk_usage(there)
        return f"{_amount(usage.free)} free of {_amount(usage.total)} there"
    return "and how much room there is, the system does not say"


class FileError(OSError):
    """An error of the system as one line about a file."""

    def __str__(self) -> str:
        return str(self.args[-1])


def named(error: OSError, path: Path) -> FileError:
    """The error as one line about a file: with what is free there if that was the trouble."""
    if isinstance(error, FileError):
        return error
    code = error.errno or 0
    if code in (errno.ENOSPC, errno.EDQUOT):
        reason = f"no space left to write it ({_room(path)})"
    elif code == errno.EFBIG:
        reason = f"larger than this process may write (ulimit -f; {_room(path)})"
    else:
        reason = error.strerror or str(error)
    return FileError(code, f"{path}: {reason}")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors in writing a file, or below a folder, raised anew as one line that names it."""
    try:
        yield
    except OSError as error:
        raise named(error, path) from error


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A file to be written, which takes the name's place once the block ends without an error.

    A reader or a crash never sees half of it, and where there is no room what was there stays.
    A device or a pipe is written to directly.

    Raises: OSError naming the file.
    """
    path = Path(path)
    if path.is_symlink():  # what it points to is meant, not the link
        path = path.resolve()
    if path.exists() and not path.is_file() and not path.is_dir():
        with naming(path):
            yield path  # a device or a pipe: written to, never replaced
        return
    # Processes of several hosts may write the same file, and share their numbers.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with naming(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def replace_file(path: Path, content: bytes) -> None:
    """Replaces a file's content in one step."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_atomically(path: Path, text: str) -> None:
    """As `replace_file`, for text."""
    replace_file(path, text.encode())


def replace_json(path: Path, data: Any) -> None:
    """As `replace_file`, for plain data."""
    replace_file(path, (json.dumps(data, separators=(",", ":")) + "\n").encode())


def read_json(path: Path) -> Any:
    """Raises: ValueError naming the file."""
    hint = f"; is {path.parent} the folder of a batch?" if path.name == "settings.json" else ""
    return parsed_json(read_text(path, hint), str(path))


def read_text(path: Path, hint: str = "") -> str:
    """A file's text, whatever its encoding (UTF-8, -16 or -32, with or without a mark) and the locale.

    hint: what to add where there is no such file.

    Raises: ValueError naming the file.
    """
    try:
        content = path.read_bytes()
        return content.decode(json.detect_encoding(content))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file{hint}") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: not text in any of its encodings ({error})") from error


def parsed_json(text: str, where: str, tell: Callable[[str], None] | None = None) -> Any:
    """JSON; where an object has a key twice the latter counts, of which `tell` is told.

    Raises: ValueError that begins with `where`.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) < len(pairs) and tell is not None:
            twice = collections.Counter(name for name, _ in pairs).most_common(1)[0][0]
            tell(f"{where}: key {twice!r} for the second time in one object; the latter counts")
        return out

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not valid JSON ({error})") from error


def printable(text: str, most: int = 300) -> str:
    """Text as one line for terminals: control characters escaped, the middle of a very long one left out."""
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )
    return shown if len(shown) <= most else f"{shown[: most // 2]} ... {shown[-most // 2 :]}"


def check_writable(folder: str | Path) -> Path:
    """Creates the folder and makes sure that files can be written there.

    Raises: ValueError naming the folder if not.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".write-test") as file:
            file.write(b"room for a small file")
            file.flush()
    except OSError as error:
        if folder.is_symlink() and not folder.exists():
            raise ValueError(f"{folder}: a link to nowhere; expected a folder") from error
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder}: cannot write here: a file, expected a folder") from error
        reason = str(named(error, folder)).removeprefix(f"{folder}: ")
        raise ValueError(f"{folder}: cannot write here ({reason})") from error
    return folder


class Unfailing(io.TextIOBase):
    """A text stream that gives up in silence where the one below it fails: its reader gone, its disk full.

    A run of hours must not end because nobody reads its progress any more.
    """

    def __init__(self, stream: TextIO | io.TextIOBase, tell: Callable[[str], None]) -> None:
        """tell: told once why nothing more is written, unless it is that the reader has gone."""
        self._stream, self._tell = stream, tell
        self.broken: OSError | None = None

    def _try(self, action: Callable[[], object]) -> None:
        if self.broken is not None:
            return
        try:
            action()
        except OSError as error:
            self.broken = error
            with contextlib.suppress(OSError, ValueError):  # so that nothing is left to write at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if not isinstance(error, BrokenPipeError):
                self._tell(f"standard output: {error.strerror or error}; going on without it")

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  typeshed: a variable
        return self._stream.encoding
