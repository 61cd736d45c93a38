"""Compiles a loop for devices that are here or not, and says what the compiler made of it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.accelerators.compiled_text import figures
from benchmarks.accelerators.loops import Loop, loop_of
from benchmarks.accelerators.targets import Target

KEEP = "QUINTET_KEEP_TEXT"
"""Names, in the environment, a folder for the compilers' texts."""


def placed(shapes: Any, spec: Any, mesh: Mesh) -> Any:
    """Shapes that say where they lie: by one PartitionSpec for all, or by a tree of them."""
    place = lambda spec, part: jax.tree.map(  # noqa: E731
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=NamedSharding(mesh, spec)), part
    )
    return jax.tree.map(place, spec, shapes, is_leaf=lambda leaf: isinstance(leaf, PartitionSpec))


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A loop's program, its arguments' shapes and places, and how long tracing and compiling took here."""

    program: jax.stages.Compiled
    arguments: tuple[Any, ...]
    trace_seconds: float
    compile_seconds: float


def compile_loop(loop: Loop, devices: Sequence[Any]) -> Compiled:
    """Compiles a loop for the first of these devices, as many as it needs."""
    mesh = Mesh(np.array(devices[: loop.devices]), (loop.axis,))
    spread = loop.spread or (PartitionSpec(),) * len(loop.arguments)
    given = tuple(placed(part, spec, mesh) for part, spec in zip(loop.arguments, spread, strict=True))
    function = loop.over(mesh) if loop.over else loop.function
    whole = NamedSharding(mesh, PartitionSpec())
    # of what is spread the compiler decides how results lie
    jitted = (
        jax.jit(function, donate_argnums=loop.donated)
        if loop.spread
        else jax.jit(function, donate_argnums=loop.donated, out_shardings=whole)
    )
    begun = time.perf_counter()
    with jax.set_mesh(mesh):
        lowered = jitted.lower(*given)
        traced = time.perf_counter()
        program = lowered.compile()
    return Compiled(program, given, traced - begun, time.perf_counter() - traced)


def row_of(name: str, target: Target, loop: Loop, compiled: Compiled) -> dict[str, Any]:
    """The compiler's figures, of one step.

    Raises: RuntimeError where it gives none.
    """
    text, memory = compiled.program.as_text(), compiled.program.memory_analysis()
    if text is None or memory is None:
        raise RuntimeError(f"{name}: the compiler for {target.name} gives no text or no account of memory")
    if folder := os.environ.get(KEEP):
        Path(folder, f"{target.name}_{name.replace('/', '_').replace(' ', '_')}.txt").write_text(text)
    found = figures(text, steps=loop.steps, tpu=target.platform == "tpu")
    return {
        "loop": name,
        "target": target.name,
        "size": loop.size,
        "trace_seconds": compiled.trace_seconds,
        "compile_seconds": compiled.compile_seconds,
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "program_bytes": memory.generated_code_size_in_bytes,
        **dataclasses.asdict(found),
        "padding": found.padding,
    }


def compiled_row(name: str, target: Target) -> dict[str, Any]:
    """Compiles one loop for a device that need not be here; in a process with the target's environment."""
    loop = loop_of(name)(target)
    return row_of(name, target, loop, compile_loop(loop, target.devices()))
