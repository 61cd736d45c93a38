"""Recorded data with traps: `python -m benchmarks.mips_own_data [--quick]`.

Eleven files of recorded sequences whose rule only this benchmark knows: sorted by size, clipped where few
records reach, with events in one sequence of thirty, with wrong records, with few or many equal ones.
`mips` reads each as a user's file. What it claims is then held against the rule on 20,000 fresh sequences
from the same source: a claim is false if a record contradicts the program, or if more of the fresh sequences
do than the evidence is said to allow.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import output

FRESH = 20_000
QUICK = ("sorted", "rare", "short")


class Source(NamedTuple):
    """Where a file comes from."""

    draw: Callable[[np.random.Generator, int], np.ndarray]  # sequences [count, length]
    rule: Callable[[np.ndarray], np.ndarray]
    count: int = 2000
    spoil: Callable[[np.random.Generator, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = (
        None
    )
    noise: float = 0.0  # what the user says of wrong records


def uniform(high: int, length: int = 10) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, count: rng.integers(high, size=(count, length))


def with_rare(symbol: int, share: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Zeros and ones; in a share of the sequences the symbol comes once."""

    def draw(rng: np.random.Generator, count: int) -> np.ndarray:
        x = rng.integers(2, size=(count, 10))
        rows = np.flatnonzero(rng.random(count) < share)
        x[rows, rng.integers(10, size=len(rows))] = symbol
        return x

    return draw


def in_order(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted by their largest value, as a log sorted by size is."""
    order = np.argsort(x.max(axis=1), kind="stable")
    return x[order], y[order]


def noisy(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One record in two hundred is wrong in its last output."""
    y = y.copy()
    y[rng.random(len(y)) < 0.005, -1] += 1
    return x, y


def seen(x: np.ndarray, symbol: int) -> np.ndarray:
    return np.maximum.accumulate(x == symbol, axis=1).astype(int)


SOURCES = {
    "sorted": Source(uniform(200), lambda x: np.minimum(x, 150), spoil=in_order),
    "clipped": Source(uniform(50), lambda x: np.minimum(np.cumsum(x, axis=1), 400)),
    "rare": Source(with_rare(2, 1 / 12), lambda x: seen(x, 2), count=60),
    "rare_late": Source(with_rare(2, 1 / 30), lambda x: x % 2 + 5 * seen(x, 2)),
    "noisy": Source(uniform(2), lambda x: np.cumsum(x, axis=1) % 2, spoil=noisy),
    "noisy_and_said": Source(uniform(2), lambda x: np.cumsum(x, axis=1) % 2, spoil=noisy, noise=0.005),
    "short": Source(uniform(3), lambda x: np.cumsum(x, axis=1) % 3, count=30),
    "repeated": Source(uniform(2, 3), lambda x: np.cumsum(x, axis=1) % 2),
    "plain": Source(uniform(4), lambda x: np.cumsum(x, axis=1) % 4),
    "two_regimes": Source(uniform(10), lambda x: np.where(x >= 9, 2 * x, x + 1), spoil=in_order),
    "modulus_of_many": Source(uniform(100), lambda x: np.cumsum(x, axis=1) % 1000, spoil=in_order),
}


def judged(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """What is claimed of one file, and whether it is true."""
    import jax

    import mips

    source, rng = SOURCES[name], np.random.default_rng((seed, 7))
    x = source.draw(rng, source.count)
    y = source.rule(x)
    if source.spoil is not None:
        x, y = source.spoil(rng, x, y)
    path = folder / f"{name}.npz"
    np.savez(path, x=x, y=y)
    begun = time.perf_counter()
    try:
        task = mips.from_file(path, noise=source.noise)
    except ValueError as error:  # records that contradict each other, of which the user said nothing
        return {
            "name": name,
            "seed": seed,
            "status": "refused",
            "source": str(error),
            "seconds": 0.0,
            "false": False,
        }
    result = mips.synthesize(task, key=jax.random.key(seed))
    row: dict[str, Any] = {
        "name": name,
        "seed": seed,
        "status": str(result.status),
        "source": result.source,
        "seconds": round(time.perf_counter() - begun, 1),
        "false": False,
    }
    if result.program is None or result.report is None:
        return row
    fresh = source.draw(rng, FRESH)[..., None]
    got, codes = result.program.attempt(fresh)
    truth = source.rule(fresh[..., 0])[..., None]
    wrong = float(((got != truth).any(axis=(1, 2)) | (codes != 0).any(axis=1)).mean())
    row |= {
        "wrong_on_fresh": wrong,
        "error_bound": result.report.error_bound,
        "recorded": result.report.recorded,
    }
    claimed = result.status in {mips.Status.FORMULA, mips.Status.TABLE}
    contradicted = result.report.recorded != 1.0 and not source.noise
    row["false"] = claimed and (contradicted or wrong > result.report.error_bound)
    return row


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three files")
    parser.add_argument("--only", nargs="+", choices=tuple(SOURCES))
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.only or (QUICK if asked.quick else SOURCES):
            for seed in range(asked.seeds):
                row = judged(name, seed, Path(folder))
                rows.append(row)
                claimed = row["status"] in {"formula", "table"}
                said = "FALSE" if row["false"] else "true" if claimed else "nothing claimed"
                print(
                    f"{name:16s} {row['status']:10s} {said:16s} wrong on fresh "
                    f"{row.get('wrong_on_fresh', float('nan')):8.4f} allowed {row.get('error_bound', 1.0):8.4f} "
                    f"{row['seconds']:6.1f} s",
                    flush=True,
                )
                print("    " + row["source"].replace("\n", "\n    ").rstrip(), flush=True)
    false = sum(row["false"] for row in rows)
    print(f"{false} of {len(rows)} files with a false claim (0 asked)")
    if asked.only is None:
        output.write(output.results(quick=asked.quick) / "mips_own_data.json", rows)
    return int(false > 0)


if __name__ == "__main__":
    raise SystemExit(main())
