"""Compiling a plan's programs for a device, which need not be here, and what memory they take there."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax

from compressarc.batch.absent_devices import Target
from compressarc.batch.bucket_shapes import padded_grids
from compressarc.batch.lanes import Lanes, lane_mesh
from compressarc.batch.plan import Bucket
from compressarc.config import Program
from compressarc.puzzle import Puzzle


class CompiledFor(NamedTuple):
    """What the compiler says of one bucket's program on one device."""

    bucket: Bucket
    seconds: float
    run_bytes: int  # temporaries and arguments of all lanes
    program_bytes: int


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
