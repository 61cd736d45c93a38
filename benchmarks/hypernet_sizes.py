"""Sizes far beyond those trained: n = 64 after training on n <= 32.

    python -m benchmarks.hypernet_sizes            # 5 seeds, 8,000 steps
    python -m benchmarks.hypernet_sizes --quick    # 4,000 steps

Trains the default generator and the plain one (no power law, no size exponent) side by side and prints the median NMSE over seeds at lb -5.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import jax
import numpy as np

import hypernet
from benchmarks.hypernet_checks import Row, show
from benchmarks.output import results
from hypernet.files import write_json

TRAINED = (2, 3, 4, 6, 8, 12, 16, 24, 32)
MEASURED = (5, 7, 10, 14, 16, 20, 24, 32, 48, 64, 96)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="4,000 steps")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--key", type=int, default=0)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results, or a folder quick in it")
    options = parser.parse_args()
    steps = 4000 if options.quick else 8000
    config = hypernet.TrainConfig(sizes=TRAINED, seeds=options.seeds, steps=steps)
    variants = {
        "default": config.generator,
        "plain": dataclasses.replace(config.generator, power_law=False, size_exponent=0.0),
    }
    record = {}
    for name, generator in variants.items():
        start = time.perf_counter()
        trained = hypernet.train(
            dataclasses.replace(config, generator=generator), jax.random.key(options.key)
        )
        seconds = time.perf_counter() - start
        rows = {}
        for n in MEASURED:
            columns = next(c for c in (16, 32, 64, 96) if c >= n)
            found = hypernet.measure(
                trained.generators, config.target, jax.random.key(6), n, [-5.0], networks=16, columns=columns
            )
            rows[n] = np.median(found.nmse[:, 0], -1)
        record[name] = {"seconds": seconds, "nmse": rows}
        print(f"{name}: {seconds:.0f} s")
        for n, values in rows.items():
            mark = " " if n in TRAINED else "*"
            print(
                f"  n = {n:2d}{mark} median {np.median(values):.4f}   seeds {np.round(values, 4).tolist()}",
                flush=True,
            )
    ours = record["default"]["nmse"]
    checks = [Row("n = 64, median over seeds", float(np.median(ours[64])), "<=", 0.05)]
    show(checks)
    write_json(
        options.output or results(quick=options.quick) / "hypernet_sizes.json",
        {"steps": steps, "trained": TRAINED, "rows": [c._asdict() for c in checks], **record},
    )


if __name__ == "__main__":
    main()
