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
    from compressarc.checkpoint import Checkpoints
    from compressarc.config import Program, SolveConfig, Variant
    from compressarc.datasets import load_puzzle, load_splits, parse_puzzle
    from compressarc.inputs import Grids, Signature, grids, signature
    from compressarc.puzzle import Canvas, Grid, Puzzle
    from compressarc.ranking import Ranking
    from compressarc.score import Score, SplitScore, score_answers, score_split, submission
    from compressarc.solver import (
        History,
        Progress,
        Run,
        Solution,
        Status,
        StepInfo,
        init,
        run_chunk,
        solve,
        step,
    )

__version__ = "0.1.0"

_HOMES = {
    "analyze": ("Component", "components"),
    "checkpoint": ("Checkpoints",),
    "config": ("Program", "SolveConfig", "Variant"),
    "datasets": ("load_puzzle", "load_splits", "parse_puzzle"),
    "inputs": ("Grids", "Signature", "grids", "signature"),
    "puzzle": ("Canvas", "Grid", "Puzzle"),
    "ranking": ("Ranking",),
    "score": ("Score", "SplitScore", "score_answers", "score_split", "submission"),
    "solver": (
        "History",
        "Progress",
        "Run",
        "Solution",
        "Status",
        "StepInfo",
        "init",
        "run_chunk",
        "solve",
        "step",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Canvas",
    "Checkpoints",
    "Component",
    "Grid",
    "Grids",
    "History",
    "Program",
    "Progress",
    "Puzzle",
    "Ranking",
    "Run",
    "Score",
    "Signature",
    "Solution",
    "SolveConfig",
    "SplitScore",
    "Status",
    "StepInfo",
    "Variant",
    "components",
    "grids",
    "init",
    "load_puzzle",
    "load_splits",
    "parse_puzzle",
    "run_chunk",
    "score_answers",
    "score_split",
    "signature",
    "solve",
    "step",
    "submission",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
