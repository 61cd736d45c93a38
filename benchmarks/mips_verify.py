"""Emitted programs against golden sequences.

`python -m benchmarks.mips_verify --golden FILE.npz --programs DIR`.

DIR is the `--out` of `mips solve all` (or of `mips_full`, one folder per seed). The Python text is parsed
into a tree and interpreted, never executed. Exit status 1 where a program differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from mips.judging.verification import right
from mips.report import result_files as store
from mips.synthesis import identifier
from mips.tasks import PUBLISHED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="accepted for uniformity; this is quick")
    options = parser.parse_args()
    golden = np.load(options.golden)
    exact = present = 0
    for name in PUBLISHED:
        path = options.programs / f"{identifier(name)}.py"
        if not path.exists():
            print(f"{name:28s} no program")
            continue
        present += 1
        program = store.read_program(path)
        hits = [
            right(program, golden[f"{name}__x{part}"], golden[f"{name}__y{part}"]) for part in ("", "_long")
        ]
        if all(h.all() for h in hits):
            exact += 1
        else:
            print(
                f"{name:28s} wrong on {sum(int((~h).sum()) for h in hits)} of {sum(map(len, hits))} sequences"
            )
    print(
        f"{exact} of {present} programs exact; {len(PUBLISHED) - present} of {len(PUBLISHED)} tasks without one"
    )
    return 0 if exact == present else 1


if __name__ == "__main__":
    sys.exit(main())
