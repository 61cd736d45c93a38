"""Compiled programs that are found again without tracing.

JAX's persistent cache keeps what XLA compiled; tracing and lowering, several seconds for a
program of twenty thousand operations, it repeats in every process. Beside that cache,
where one is set, the lowered program itself is kept (`jax.export`), under a name made of
everything that tracing depends on: this package's source, the versions of jax and jaxlib,
the backend, jax's settings, shapes and static arguments.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import gc
import hashlib
import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax


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
    folder = Path(__file__).parent
    for file in sorted(folder.rglob("*.py")):
        digest.update(str(file.relative_to(folder)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def settings() -> list[tuple[str, str]]:
    """Settings of jax as they hold in this thread, those apart that don't reach a traced program."""
    # Which platforms may be used is settled by the backend, whose name is in the key.
    about_cache = ("cache", "dump", "log", "traceback", "profiler", "platforms", "num_cpu_devices")
    names = (name for name in jax.config.values if not any(word in name for word in about_cache))
    return sorted((name, repr(getattr(jax.config, name, None))) for name in names)


def _name(static: Hashable, leaves: list[jax.ShapeDtypeStruct], tree: Any) -> str:
    parts = [
        _source_digest(),
        jax.__version__,
        importlib.metadata.version("jaxlib"),
        jax.default_backend(),
        repr(settings()),
        repr(static),
        repr(tree),
        repr([(a.shape, str(a.dtype)) for a in leaves]),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


_DIGEST = hashlib.sha256().digest_size


def _write(path: Path, program: bytes) -> None:
    """Writes checksum and program atomically; a full disk only costs the next process its tracing."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(program).digest() + program)
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise


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

    def __call__(self, donated: Any, rest: Any) -> Any:
        """Runs it; the buffers of `donated` are gone afterwards."""
        out = self.executable(tuple(jax.tree.leaves(donated)), tuple(jax.tree.leaves(rest)))
        return jax.tree.unflatten(self.result, out)


class Spread(NamedTuple):
    """A function of one device's part, laid over several devices."""

    name: str  # of the devices; nothing on disk depends on it
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]]  # as `jax.shard_map` does
    arguments: tuple[Any, Any]  # shapes and shardings of the whole arguments, two trees


def forget() -> None:
    """Lets go of what this process has compiled; with dozens of programs it runs out of room for code."""
    _compiled.clear()
    jax.clear_caches()


_compiled: dict[str, CompiledProgram] = {}
"""What this process has compiled, by name."""


def compiled_program(
    function: Callable[[Any, Any], Any],
    donated: Any,
    rest: Any,
    result: Any,
    *,
    static: Hashable,
    compiler_options: dict[str, str],
    spread: Spread | None = None,
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
      spread: how the function, which works on one device's part, is laid over several. What is
        traced and kept on disk does not depend on it.
    """
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (donated, rest))
    leaves, tree = jax.tree.flatten(shapes)
    first, second = (tuple(jax.tree.leaves(part)) for part in shapes)
    out_tree = jax.tree.structure(result)

    name = _name(static, leaves, tree)
    compiled_name = name if spread is None else name + spread.name
    if compiled_name in _compiled:
        return _compiled[compiled_name]

    def flat(a: tuple, b: tuple) -> tuple:
        out = function(*jax.tree.unflatten(tree, [*a, *b]))
        if jax.tree.structure(out) != out_tree:
            raise TypeError(f"result of structure {jax.tree.structure(out)}, expected {out_tree}")
        return tuple(jax.tree.leaves(out))

    cache = jax.config.values["jax_compilation_cache_dir"]
    with collector_paused():
        path = Path(cache) / "traced" / name if cache else None
        exported = _read(path) if path else None
        if exported is None:
            exported = jax.export.export(jax.jit(flat))(first, second)
            if path:
                _write(path, exported.serialize())
            _return_freed_memory()
        call = exported.call
        if spread is not None:
            call = spread.wrap(call)
            first, second = (tuple(jax.tree.leaves(part)) for part in spread.arguments)
        jitted = jax.jit(call, donate_argnums=0, compiler_options=compiler_options)
        executable = jitted.lower(first, second).compile()
    _return_freed_memory()
    _compiled[compiled_name] = CompiledProgram(executable, out_tree)
    return _compiled[compiled_name]
