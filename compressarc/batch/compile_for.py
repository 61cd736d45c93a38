"""Compiling a plan's programs for a device, which need not be here, and what memory they take there."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

import jax

from compressarc.batch.absent_devices import TARGETS, Target, check_installed
from compressarc.batch.bucket_shapes import padded_grids
from compressarc.batch.lanes import Lanes, lane_mesh
from compressarc.batch.plan import Bucket
from compressarc.config import Program, unknown
from compressarc.puzzle import Puzzle


class CompiledFor(NamedTuple):
    """What the compiler says of one bucket's program on one device."""

    bucket: Bucket
    seconds: float
    run_bytes: int  # temporaries and arguments of all lanes
    program_bytes: int


def target_for(device: str) -> Target:
    """How to compile for a device model.

    Raises: ValueError if there is no compiler for it, ModuleNotFoundError if it is not installed; it names
      the extra that brings it.
    """
    found = {target.model: target for target in reversed(TARGETS.values())}
    if device not in found:
        raise unknown("device to compile for", device, tuple(found))
    check_installed(found[device])
    return found[device]


def prepare(target: Target) -> None:
    """Sets what a compiler reads when it is first asked; before JAX has started."""
    os.environ.update(target.environment())


def compile_bucket(
    bucket: Bucket, puzzles: dict[str, Puzzle], program: Program, target: Target
) -> CompiledFor:
    """Compiles one bucket's steps for one device of the target.

    What was traced is kept in the cache, where a machine that has the device finds it.

    Raises: jax.errors.JaxRuntimeError, in the compiler's words, if it does not fit the device.
    """
    example = padded_grids(puzzles[bucket.puzzles[0]].canvas, bucket.room)
    lanes = Lanes(bucket.room, program, lane_mesh(target.devices()[:1]), bucket.lanes, example)
    begun = time.perf_counter()
    lanes.compile()
    seconds = time.perf_counter() - begun
    memory = lanes.memory()
    used = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    jax.clear_caches()
    return CompiledFor(bucket, seconds, used, memory.generated_code_size_in_bytes)
