"""Compiled programs that are found again without tracing.

JAX's persistent cache keeps what XLA compiled; tracing and lowering, several seconds for a
program of twenty thousand operations, it repeats in every process. Beside that cache,
where one is set, the lowered program itself is kept (`jax.export`), under a name made of
everything that tracing depends on: this package's source, the versions of jax and jaxlib,
the platform, jax's settings, shapes and static arguments.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import gc
import hashlib
import importlib.metadata
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from compressarc.files import replace_file, replace_json


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Without Python's cycle collector, which takes a third of the time of tracing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _return_freed_memory() -> None:
    """Gives what compilation has freed, over a gigabyte, back before the program runs.

    glibc keeps it otherwise, and the program's own memory comes on top. Elsewhere a no-op.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@functools.cache
def _source_digest() -> str:
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for file in sorted(folder.rglob("*.py")):
        digest.update(str(file.relative_to(folder)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def settings() -> list[tuple[str, str]]:
    """Settings of jax as they hold in this thread, except those that cannot affect tracing."""
    # Which platforms may be used does not matter to a program: the one that it is for is in the key.
    about_cache = ("cache", "dump", "log", "traceback", "profiler", "platforms", "num_cpu_devices")
    names = (name for name in jax.config.values if not any(word in name for word in about_cache))
    return sorted((name, repr(getattr(jax.config, name, None))) for name in names)


def default_platform() -> str:
    """The platform of the device that takes what is put nowhere in particular: "cpu", "tpu" or "gpu"."""
    device = jax.config.values["jax_default_device"]
    if isinstance(device, str):
        return device
    return (device or jax.local_devices()[0]).platform


def _name(static: Hashable, leaves: list[jax.ShapeDtypeStruct], tree: Any, platform: str) -> str:
    parts = [
        _source_digest(),
        jax.__version__,
        importlib.metadata.version("jaxlib"),
        platform,
        repr(settings()),
        repr(static),
        repr(tree),
        repr([(a.shape, str(a.dtype)) for a in leaves]),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


_DIGEST = hashlib.sha256().digest_size

OnCompile = Callable[[bool], None]
"""Told before a program is compiled whether it is expected in the cache, which takes seconds."""


def _mended(cache: Path, since: float) -> None:
    """Removes entries of jax's cache written since a time that are only half there.

    jax writes them in place. One that a killed process or a full disk has cut off it warns of in
    every process, and never replaces.
    """
    from jax._src import compilation_cache

    for path in cache.glob("*-cache"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime >= since - 1:
                content = path.read_bytes()  # what can't be read may be whole
                try:
                    compilation_cache.decompress_executable(content)
                except Exception:  # whatever the compression library raises
                    path.unlink()


_UNNAMED = "found"
_hits = [0]
"""How often this process has found a program in jax's cache."""


def _listen(event: str, **_: object) -> None:
    _hits[0] += event == "/jax/compilation_cache/cache_hits"


jax.monitoring.register_event_listener(_listen)


class _Mark:
    """Says which entries of jax's cache hold a compiled program: they may be damaged, or gone since."""

    def __init__(self, cache: Path, name: str) -> None:
        self._cache = cache
        # jax's own key depends on where the cache is: entries of a copied one are not found.
        key = f"{cache.absolute()}\0{name}"
        self._path = cache / "compiled" / hashlib.sha256(key.encode()).hexdigest()[:40]
        self._before = self._entries()
        self._hits = _hits[0]

    def _entries(self) -> dict[str, int]:
        """Names and sizes of what jax keeps."""
        sizes = {}
        with contextlib.suppress(OSError):
            for path in self._cache.glob("*-cache"):
                sizes[path.name] = path.stat().st_size
        return sizes

    def holds(self) -> bool:
        """Whether the program is in the cache, whole; entries that are not are removed."""
        try:
            wanted = json.loads(self._path.read_text())
            damaged = [n for n, size in wanted.items() if n != _UNNAMED and self._before.get(n) != size]
        except (OSError, ValueError, AttributeError):
            return False
        for name in damaged:
            with contextlib.suppress(OSError):
                (self._cache / name).unlink(missing_ok=True)
        return bool(wanted) and not damaged

    def write(self) -> None:
        """Notes the entries that have come since; where none has, nothing is known to be kept."""
        after = self._entries()
        new = {name: size for name, size in after.items() if self._before.get(name) != size}
        if not new and _hits[0] > self._hits and not self._path.exists():
            new = {_UNNAMED: 0}  # kept by a process that ended before it could note it
        if new:
            with contextlib.suppress(OSError):
                replace_json(self._path, new)


@contextlib.contextmanager
def _writing_to(cache: Path | None) -> Iterator[None]:
    """While a program is compiled and kept: what earlier processes left half written is removed, too."""
    if cache is None:
        yield
        return
    own = cache / "compiled" / f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}.compiling"
    begun = time.time()
    with contextlib.suppress(OSError):
        own.parent.mkdir(parents=True, exist_ok=True)
        for left in own.parent.glob("*.compiling"):
            if _ended(left):
                _mended(cache, left.stat().st_mtime)
                left.unlink(missing_ok=True)
        own.touch()
    try:
        yield
    finally:
        _mended(cache, begun)
        with contextlib.suppress(OSError):
            own.unlink(missing_ok=True)


def _ended(mark: Path) -> bool:
    """Whether the process that left this mark is gone, as far as this host can tell."""
    host, pid, _ = mark.stem.rsplit("-", 2)
    if host != socket.gethostname():
        return time.time() - mark.stat().st_mtime > 3600
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _write(path: Path, program: bytes) -> None:
    """Writes checksum and program atomically; a full disk only costs the next process its tracing."""
    with contextlib.suppress(OSError):
        replace_file(path, hashlib.sha256(program).digest() + program)


def _read(path: Path) -> jax.export.Exported | None:
    """The stored program, or None if there is none or its checksum says that it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, program = content[:_DIGEST], content[_DIGEST:]
    if digest != hashlib.sha256(program).digest():
        return None
    return jax.export.deserialize(bytearray(program))


@dataclasses.dataclass(frozen=True)
class CompiledProgram:
    """A compiled function of two trees of arrays."""

    executable: jax.stages.Compiled
    result: Any  # structure of what it returns
    static: Hashable

    def __call__(self, donated: Any, rest: Any) -> Any:
        """Runs it; the buffers of `donated` are gone afterwards."""
        out = self.executable(tuple(jax.tree.leaves(donated)), tuple(jax.tree.leaves(rest)))
        return jax.tree.unflatten(self.result, out)


class Spread(NamedTuple):
    """A function of one device's part, laid over several devices."""

    name: str  # of the devices; nothing on disk depends on it
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]]  # as `jax.shard_map` does
    arguments: tuple[Any, Any]  # shapes and shardings of the whole arguments, two trees


def forget(*, but_for: Hashable = None) -> None:
    """Lets go of what this process has compiled; with dozens of programs it runs out of room for code.

    but_for: `static` of programs to keep; if there are no others, nothing is forgotten.
    """
    others = [name for name, program in _compiled.items() if but_for is None or program.static != but_for]
    if but_for is not None and not others:
        return
    for name in others:
        del _compiled[name]
    jax.clear_caches()


_LOWERED_AS = {"gpu": "cuda"}
"""Platforms that are lowered for by another name."""

_compiled: dict[str, CompiledProgram] = {}
"""What this process has compiled, by name."""


def compiled_program(
    function: Callable[[Any, Any], Any],
    donated: Any,
    rest: Any,
    result: Any,
    *,
    static: Hashable,
    compiler_options: dict[str, Any],
    platform: str,
    spread: Spread | None = None,
    on_compile: OnCompile | None = None,
) -> CompiledProgram:
    """Compiles `function(donated, rest)`, from the cache as far as possible.

    Args:
      function: two trees of arrays to one; traced only if it is not found.
      donated, rest: its arguments, no typed PRNG keys among them. When the result is
        called, the buffers of the first are donated.
      result: a tree with the structure of what it returns.
      static: name of the function and whatever else it depends on; its `repr` must tell
        all of it.
      compiler_options: for XLA.
      platform: that of the devices it is compiled for.
      spread: how the function, which works on one device's part, is laid over several. What is
        traced and kept on disk does not depend on it.
      on_compile: called before it is compiled here.
    """
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (donated, rest))
    leaves, tree = jax.tree.flatten(shapes)
    first, second = (tuple(jax.tree.leaves(part)) for part in shapes)
    out_tree = jax.tree.structure(result)

    name = _name(static, leaves, tree, platform)
    compiled_name = name if spread is None else name + spread.name
    if compiled_name in _compiled:
        return _compiled[compiled_name]

    def flat(a: tuple, b: tuple) -> tuple:
        out = function(*jax.tree.unflatten(tree, [*a, *b]))
        if jax.tree.structure(out) != out_tree:
            raise TypeError(f"result of structure {jax.tree.structure(out)}, expected {out_tree}")
        return tuple(jax.tree.leaves(out))

    folder = jax.config.values["jax_compilation_cache_dir"]
    cache = Path(folder) if folder else None
    path = cache / "traced" / name if cache else None
    mark = None if cache is None else _Mark(cache, compiled_name)
    cached = mark is not None and mark.holds()
    if on_compile is not None:
        on_compile(cached)
    with collector_paused(), _writing_to(None if cached else cache):
        exported = _read(path) if path else None
        if exported is None:
            # of a device that is not here the default would be another
            platforms = None if platform == default_platform() else [_LOWERED_AS.get(platform, platform)]
            exported = jax.export.export(jax.jit(flat), platforms=platforms)(first, second)
            if path:
                _write(path, bytes(exported.serialize()))
            _return_freed_memory()
        call = exported.call
        if spread is not None:
            call = spread.wrap(call)
            first, second = (tuple(jax.tree.leaves(part)) for part in spread.arguments)
        jitted = jax.jit(call, donate_argnums=0, compiler_options=compiler_options)
        executable = jitted.lower(first, second).compile()
    if mark is not None:
        mark.write()
    _return_freed_memory()
    _compiled[compiled_name] = CompiledProgram(executable, out_tree, static)
    return _compiled[compiled_name]
