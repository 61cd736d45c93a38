"""What data alone gives, without a network: `python -m benchmarks.mips_baseline [--quick]`.

Windows of inputs and past outputs, linear fit and enumeration over 4,000 sequences (43 of 62 in an independent run).
Writes results/mips_baseline.json; exit status 1 below 43.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from mips import SynthesisConfig
from mips.judging.candidates import Examination
from mips.judging.verification import verify
from mips.synthesis import data_only
from mips.tasks import PUBLISHED

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every sixth task")
    quick = parser.parse_args().quick
    rows, begin = {}, time.perf_counter()
    for name in list(PUBLISHED)[:: 6 if quick else 1]:
        start = time.perf_counter()
        program = data_only(Examination.of(PUBLISHED[name]), SynthesisConfig(), seed=0)
        exact = program is not None and verify(program, PUBLISHED[name]).exact
        rows[name] = {"exact": exact, "seconds": round(time.perf_counter() - start, 2)}
        print(f"{name:28s} {'exact' if exact else '-':6s} {rows[name]['seconds']:6.2f} s")
    solved = sum(r["exact"] for r in rows.values())
    spent = sum(r["seconds"] for r in rows.values() if r["exact"])
    print(
        f"{solved} of {len(rows)} from data alone (an independent run: 43 of 62); {spent:.0f} s for these, ",
        end="",
    )
    print(f"{time.perf_counter() - begin:.0f} s in all")
    if quick:
        return 0
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "mips_baseline.json").write_text(json.dumps(rows, indent=1))
    return 0 if solved >= 43 else 1


if __name__ == "__main__":
    sys.exit(main())
