"""CompressARC in JAX: solves an ARC-AGI puzzle by compressing it, without pretraining.

    puzzle = compressarc.load_puzzle("6f8cd79b")
    solution = compressarc.solve(puzzle, compressarc.SolveConfig(steps=200), key=jax.random.key(0))
    solution.attempts

Names are imported when first used: `compressarc --help` does not wait for jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressarc.analyze import Component, components
    from compressarc.batch import Event, run_batch, run_bucket
    from compressarc.checkpoint import Checkpoints, Saved
    from compressarc.compare import Comparison, Proportion, compare_runs, compare_with_published
    from compressarc.config import Program, SolveConfig, Variant
    from compressarc.datasets import Dataset, load_dataset, load_puzzle, load_splits, parse_puzzle
    from compressarc.device_model import DeviceModel
    from compressarc.draw import draw_curves, draw_puzzle, draw_solution
    from compressarc.elastic import run_elastic
    from compressarc.inputs import Grids, Signature, grids, signature
    from compressarc.lanes import Lanes, lane_mesh
    from compressarc.page import write_page
    from compressarc.plan import Bucket, Estimate, Plan, estimate, make_plan
    from compressarc.puzzle import Canvas, Grid, Puzzle
    from compressarc.ranking import Ranking
    from compressarc.report import read_result, write_pictures, write_result
    from compressarc.room import padded_grids, room_for
    from compressarc.run_folder import BatchSettings, Record, RunFolder, official_form
    from compressarc.score import (
        OutputScore,
        Score,
        SplitScore,
        read_answers,
        score_answers,
        score_split,
        submission,
        verdict,
        wrong_cells,
    )
    from compressarc.solver import (
        ChunkProgram,
        History,
        Progress,
        Run,
        Solution,
        Status,
        StepInfo,
        chunk_program,
        init,
        run_chunk,
        solve,
        step,
    )
    from compressarc.vote import VOTES, count_votes

__version__ = "0.1.0"

_HOMES = {
    "analyze": ("Component", "components"),
    "batch": ("Event", "run_batch", "run_bucket"),
    "checkpoint": ("Checkpoints", "Saved"),
    "compare": ("Comparison", "Proportion", "compare_runs", "compare_with_published"),
    "config": ("Program", "SolveConfig", "Variant"),
    "datasets": ("Dataset", "load_dataset", "load_puzzle", "load_splits", "parse_puzzle"),
    "device_model": ("DeviceModel",),
    "draw": ("draw_curves", "draw_puzzle", "draw_solution"),
    "elastic": ("run_elastic",),
    "inputs": ("Grids", "Signature", "grids", "signature"),
    "lanes": ("Lanes", "lane_mesh"),
    "page": ("write_page",),
    "plan": ("Bucket", "Estimate", "Plan", "estimate", "make_plan"),
    "puzzle": ("Canvas", "Grid", "Puzzle"),
    "ranking": ("Ranking",),
    "report": ("read_result", "write_pictures", "write_result"),
    "room": ("padded_grids", "room_for"),
    "run_folder": ("BatchSettings", "Record", "RunFolder", "official_form"),
    "score": (
        "OutputScore",
        "Score",
        "SplitScore",
        "read_answers",
        "score_answers",
        "score_split",
        "submission",
        "verdict",
        "wrong_cells",
    ),
    "solver": (
        "ChunkProgram",
        "History",
        "Progress",
        "Run",
        "Solution",
        "Status",
        "StepInfo",
        "chunk_program",
        "init",
        "run_chunk",
        "solve",
        "step",
    ),
    "vote": ("VOTES", "count_votes"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "VOTES",
    "BatchSettings",
    "Bucket",
    "Canvas",
    "Checkpoints",
    "ChunkProgram",
    "Comparison",
    "Component",
    "Dataset",
    "DeviceModel",
    "Estimate",
    "Event",
    "Grid",
    "Grids",
    "History",
    "Lanes",
    "OutputScore",
    "Plan",
    "Program",
    "Progress",
    "Proportion",
    "Puzzle",
    "Ranking",
    "Record",
    "Run",
    "RunFolder",
    "Saved",
    "Score",
    "Signature",
    "Solution",
    "SolveConfig",
    "SplitScore",
    "Status",
    "StepInfo",
    "Variant",
    "chunk_program",
    "compare_runs",
    "compare_with_published",
    "components",
    "count_votes",
    "draw_curves",
    "draw_puzzle",
    "draw_solution",
    "estimate",
    "grids",
    "init",
    "lane_mesh",
    "load_dataset",
    "load_puzzle",
    "load_splits",
    "make_plan",
    "official_form",
    "padded_grids",
    "parse_puzzle",
    "read_answers",
    "read_result",
    "room_for",
    "run_batch",
    "run_bucket",
    "run_chunk",
    "run_elastic",
    "score_answers",
    "score_split",
    "signature",
    "solve",
    "step",
    "submission",
    "verdict",
    "write_page",
    "write_pictures",
    "write_result",
    "wrong_cells",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
