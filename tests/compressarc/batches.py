"""A small batch for tests: three puzzles of different size rules, two seeds, one program."""

from __future__ import annotations

import sys
from pathlib import Path

import jax

from compressarc.batch.bucket_shapes import padded_grids
from compressarc.batch.device_model import device_model
from compressarc.batch.lanes import Lanes, lane_mesh
from compressarc.batch.mesh_engine import run_batch
from compressarc.batch.plan import make_plan
from compressarc.batch.records import BatchSettings
from compressarc.batch.store import RunFolder
from compressarc.config import SolveConfig
from compressarc.network.inputs import signature
from tests.compressarc import zoo

CONFIG = SolveConfig(steps=20, chunk=5)
PUZZLES = {p.name: p for p in (zoo.SAME, zoo.VARYING, zoo.UNKNOWN)}


def small_plan():
    statics = {name: signature(puzzle.canvas) for name, puzzle in PUZZLES.items()}
    return make_plan(statics, device_model("cpu"), programs=1, lanes=2, seeds=2)


def make(folder: Path, **changes) -> RunFolder:
    settings = BatchSettings(CONFIG, (0, 1), **changes)
    return RunFolder.create(folder, PUZZLES, settings, small_plan(), dataset="zoo", split="training")


def small_lanes() -> Lanes:
    """The lanes of `small_plan`."""
    (bucket,) = small_plan().buckets
    return Lanes(
        bucket.room, CONFIG.program, lane_mesh(), bucket.lanes, padded_grids(zoo.SAME.canvas, bucket.room)
    )


def write_puzzles(folder: Path) -> None:
    """The same puzzles as a folder of JSON files."""
    from compressarc.datasets import official_form
    from compressarc.files import replace_json

    for name, puzzle in PUZZLES.items():
        replace_json(folder / f"{name}.json", official_form(puzzle))


def main() -> None:
    """Works on a folder with all devices, as one of several processes if told a port and a rank."""
    folder = Path(sys.argv[1])
    jax.config.update("jax_compilation_cache_dir", sys.argv[2])
    if len(sys.argv) > 3:
        jax.distributed.initialize(f"localhost:{sys.argv[3]}", 2, int(sys.argv[4]))
    assert run_batch(RunFolder(folder), mesh=lane_mesh(), checkpoint_every=2)
    sys.stdout.write("ok\n")


if __name__ == "__main__":
    main()
