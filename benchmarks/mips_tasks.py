"""The 62 tasks against golden sequences: `python -m benchmarks.mips_tasks --golden FILE.npz`.

For any file with the arrays `<Task>__x`, `<Task>__y`, `<Task>__x_long`, `<Task>__y_long` (int32, (count,
length, channels)). Exit status 1 where an output differs or a task is missing.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from mips.tasks import PUBLISHED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="accepted for uniformity; this is quick")
    golden = np.load(parser.parse_args().golden)
    begin, exact = time.perf_counter(), 0
    for name, task in PUBLISHED.items():
        right = True
        for part in ("", "_long"):
            if f"{name}__x{part}" not in golden:
                print(f"{name:28s} missing: {name}__x{part}")
                right = False
                continue
            x, y = golden[f"{name}__x{part}"], golden[f"{name}__y{part}"]
            wrong = (
                (task.solve(x) != y).any(axis=(1, 2)) if x.shape[2] == task.inputs else np.ones(len(x), bool)
            )
            if wrong.any():
                print(f"{name:28s} {wrong.sum()} of {len(x)} sequences of length {x.shape[1]} differ")
                right = False
        exact += right
    print(f"{exact} of {len(PUBLISHED)} tasks exact, {time.perf_counter() - begin:.1f} s")
    return 0 if exact == len(PUBLISHED) else 1


if __name__ == "__main__":
    sys.exit(main())
