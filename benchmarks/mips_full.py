"""All 62 tasks from scratch: `python -m benchmarks.mips_full [--seeds 3] [--workers 2] [--quick]`.

Trains, extracts and verifies with default settings for several base seeds, programs chosen by labels and by
the network alone (`--selection`); prints the table beside the paper's and GPT-4's. Counts formulas read from a
network (exact at the training length and four times it), those of them that agree with the network on
everything compared, inside the training length and beyond, and, apart, tables and results of data alone.
Writes results/mips_full.json with per-stage seconds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import output
from mips.judging.judges import Chooser
from mips.report import result_files as store
from mips.report import table as report

QUICK = ("Binary_Addition", "Sum_Last3", "Abs_Diff", "Majority_0_2", "Add_Mod_5", "Newton_Magnetic")


def run(
    seed: int, selection: str, what: Sequence[str], workers: int, folder: Path
) -> tuple[dict[str, dict[str, Any]], float]:
    """Results of one base seed, with nothing compiled before."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "mips.cli", "solve", *what, "--seed", str(seed), "--out", str(folder)]
    options = ["--workers", str(workers), "--selection", selection]
    if selection == "network":
        options.append("--no-baseline")  # which is of labels
    subprocess.run([*command, *options], check=True)
    return store.read_all(folder), time.perf_counter() - begin


def row_of(seed: int, selection: str, results: dict[str, dict[str, Any]], seconds: float) -> dict[str, Any]:
    """What is kept of a run."""
    solved = {n for n, d in results.items() if d["status"] == "formula" and d["provenance"] == "network"}
    stages: dict[str, float] = {}
    for data in results.values():
        for stage, spent in data["seconds"].items():
            stages[stage] = stages.get(stage, 0.0) + spent
    return {
        "seed": seed,
        "selection": selection,
        "seconds": round(seconds, 1),
        "counts": report.counts(results),
        "unsolved": sorted(set(results) - solved),
        "paper's missed": sorted((report.PAPER_SOLVED & set(results)) - solved),
        "chosen by longer labels": sorted(
            n for n, d in results.items() if d["chosen_by"] == Chooser.LONG_LABELS
        ),
        "with exceptions": sorted(n for n, d in results.items() if (d["comparison"] or {}).get("exceptions")),
        "seconds per stage": {k: round(v, 1) for k, v in sorted(stages.items())},
        "agreement": {
            n: {k: d["comparison"][k] for k in ("drawn", "skewed", "words", "beyond")}
            for n, d in results.items()
            if d["comparison"]
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--selection", choices=("task", "network", "both"), default="both")
    parser.add_argument("--out", type=Path, help="keep programs here, one folder per seed")
    parser.add_argument("--quick", action="store_true", help="one seed, six tasks")
    options = parser.parse_args()
    what = QUICK if options.quick else ("all",)
    ways = ("task", "network") if options.selection == "both" else (options.selection,)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = options.out or Path(scratch)
        for selection in ways:
            for seed in range(1 if options.quick else options.seeds):
                folder = root / f"{selection}{seed}"
                results, seconds = run(seed, selection, what, options.workers, folder)
                row = row_of(seed, selection, results, seconds)
                rows.append(row)
                total = row["counts"]
                print(
                    f"\nseed {seed}, chosen by {selection}: {total['network']} of {len(results)} by formulas from a "
                    f"network, {total['inside']} agree with it inside the training length, {total['faithful']} "
                    f"beyond, too; {total['table']} by tables, {total['data']} from data; data alone "
                    f"{total['baseline']}; {seconds / 60:.1f} minutes"
                )
                for key in ("unsolved", "paper's missed", "chosen by longer labels", "with exceptions"):
                    print(f"{key}: {', '.join(row[key]) or 'none'}")
                print("seconds per stage:", row["seconds per stage"], flush=True)
    print("\nMIPS (paper) 32, GPT-4 30 published, 14 exact; ours", [r["counts"]["network"] for r in rows])
    if options.selection == "both":
        output.write(output.results(quick=options.quick) / "mips_full.json", rows)
    if options.quick:
        return 0
    good = all(r["counts"]["network"] >= 58 for r in rows)
    by_labels = [r for r in rows if r["selection"] == "task"]
    good &= not by_labels or max(r["counts"]["network"] for r in by_labels) == 62
    good &= not any(r["paper's missed"] for r in by_labels)
    print("58 in every seed and way, 62 in the best, the paper's always by labels:", "yes" if good else "NO")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
