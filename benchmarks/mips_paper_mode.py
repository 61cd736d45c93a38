"""The published pipeline on all 62 tasks: `python -m benchmarks.mips_paper_mode [--mended] [--workers 2] [--quick]`.

ReLU networks, normalisers, lattice finders, linear, Boolean and integer symbolic regression; as published,
or with every repair. Prints the exact set beside the published one; writes results/mips_paper_mode.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mips import report, store

RESULTS = Path(__file__).parent / "results"
QUICK = ("Sum_Last2", "Parity_Last2", "Binary_Addition")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mended", action="store_true", help="with the repairs of spec section (b)")
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
            command += ["--mended"] if options.mended else []
            command += ["--seed", str(options.seed), "--workers", str(options.workers)]
            subprocess.run([*command, "--out", str(folder), "--resume"], check=True)
        results = store.read_all(folder)
    exact = {n for n, d in results.items() if d["status"] == "formula"}
    published = report.PAPER_SOLVED & set(results)
    print(
        f"exact: {len(exact)} of {len(results)}; published: {len(published)}; both: {len(exact & published)}"
    )
    print("exact, not in the paper's set:", ", ".join(sorted(exact - published)) or "none")
    print("in the paper's set, not exact:", ", ".join(sorted(published - exact)) or "none")
    print(f"{(time.perf_counter() - begin) / 60:.1f} minutes")
    if options.quick:
        return 0
    path = RESULTS / "mips_paper_mode.json"
    data = json.loads(path.read_text()) if path.exists() else {}
    data["mended" if options.mended else "as published"] = {
        "exact": sorted(exact),
        "published": sorted(published),
        "how": {n: d["notes"] for n, d in results.items()},
    }
    path.write_text(json.dumps(data, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
