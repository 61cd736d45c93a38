"""The published pipeline on all 62 tasks: `python -m benchmarks.mips_paper_mode [--workers 2] [--quick]`.

ReLU networks trained on raw integers as published, and on scaled ones; normalizers, lattice finders, linear,
Boolean and integer symbolic regression on the normalized weights, then on those as trained; as published first,
and with every repair where that finds nothing. Prints the exact set as
published beside the paper's, and what the repairs add; writes results/mips_paper_mode.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import output
from mips.report import result_files as store
from mips.report import table as report

QUICK = ("Sum_Last2", "Parity_Last2", "Binary_Addition")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep results here (and go on from them)")
    parser.add_argument("--quick", action="store_true", help="three tasks")
    options = parser.parse_args()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        for name in QUICK if options.quick else ("all",):
            command = [sys.executable, "-m", "mips.cli", "solve", name, "--route", "paper", "--no-baseline"]
            command += ["--mended"]
            command += ["--seed", str(options.seed), "--workers", str(options.workers)]
            subprocess.run([*command, "--out", str(folder), "--resume"], check=True)
        results = store.read_all(folder)
    solved = {n: d["notes"][-1] for n, d in results.items() if d["status"] == "formula"}
    exact = {n for n, how in solved.items() if how.endswith("as published")}
    raw = {n for n in exact if "on raw integers" in solved[n]}
    by_way = {
        way: sorted(n for n in exact if f"network {way}," in solved[n])
        for way in (
            f"{kind} {scale}"
            for scale in ("on raw integers", "on scaled integers")
            for kind in ("normalized, trained", "as trained")
        )
    }
    published = report.PAPER_SOLVED & set(results)
    print(
        f"exact as published: {len(exact)} of {len(results)}; the paper: {len(published)}; both: {len(exact & published)}"
    )
    for way, names in by_way.items():
        print(f"network {way}: {len(names)} ({', '.join(names) or 'none'})")
    print(f"of these from networks trained as published, on raw integers: {len(raw)}")
    print("exact, not in the paper's set:", ", ".join(sorted(exact - published)) or "none")
    print("in the paper's set, not exact:", ", ".join(sorted(published - exact)) or "none")
    print(f"with the repairs {len(solved)}, in addition:", ", ".join(sorted(set(solved) - exact)) or "none")
    print(f"{(time.perf_counter() - begin) / 60:.1f} minutes")
    data = {
        "as published": sorted(exact),
        "by network": by_way,
        "added by repairs": sorted(set(solved) - exact),
        "paper": sorted(published),
        "notes": {n: d["notes"] for n, d in results.items()},
    }
    output.write(output.results(quick=options.quick) / "mips_paper_mode.json", data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
