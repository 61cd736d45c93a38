"""Easy puzzles end to end: `python -m benchmarks.compressarc_easy [--quick]`.

Solves puzzles that the reference solved in 200 steps with every seed tried, over several
seeds, and prints when the right answer was first sampled, entered the top two for good and
became first, beside the reference's recorded runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import jax
import numpy as np

from compressarc import SolveConfig, load_puzzle, solve

PUZZLES = ("3618c87e", "6f8cd79b", "c8f0f002", "b1948b0a", "a699fb00")
REFERENCE = {  # recorded runs of the reference, seeds 0 and 1: in the top two for good from step
    "3618c87e": (137, 119),
    "6f8cd79b": (150, 140),
    "c8f0f002": (164, 152),
    "b1948b0a": (160, 153),
    "a699fb00": (158, 163),
}
NEEDED = 4 / 5
"""Share of puzzles that must have the right answer in the top two at the end, per seed."""


def course(ranks: np.ndarray) -> dict[str, int | None]:
    """When the right answer was sampled, stayed in the top two and led, as 0-based steps."""
    seen, two, first = ranks > 0, (ranks > 0) & (ranks <= 2), ranks == 1
    for_good = None
    if two[-1]:
        outside = np.flatnonzero(~two)
        for_good = int(outside[-1]) + 1 if len(outside) else 0
    return {
        "first_sampled": int(seen.argmax()) if seen.any() else None,
        "top_two_for_good": for_good,
        "first_as_guess_1": int(first.argmax()) if first.any() else None,
    }


def run(puzzles: tuple[str, ...], seeds: int, steps: int) -> list[dict]:
    """One row per puzzle and seed."""
    rows = []
    for name in puzzles:
        puzzle = load_puzzle(name)
        for seed in range(seeds):
            solution = solve(puzzle, SolveConfig(steps=steps), key=jax.random.key(seed))
            ranks = solution.history.rank_over_time(puzzle.solution or ())
            rows.append(
                {
                    "puzzle": name,
                    "seed": seed,
                    "solved": solution.score.solved(2) if solution.score else False,
                }
                | course(ranks)
                | {
                    "seconds": round(solution.seconds, 2),
                    "compile_seconds": round(solution.compile_seconds, 1),
                    "reference_top_two_for_good": REFERENCE.get(name),
                }
            )
            shown = rows[-1]
            print(
                f"{name} seed {seed}: {'solved' if shown['solved'] else 'NOT solved'}  "
                f"sampled {shown['first_sampled']}, top two for good from {shown['top_two_for_good']}, "
                f"first at {shown['first_as_guess_1']}  ({shown['seconds']} s + compilation "
                f"{shown['compile_seconds']} s; reference {REFERENCE.get(name)})",
                flush=True,
            )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two puzzles, one seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", type=Path, default=None, help="write the rows here")
    arguments = parser.parse_args()
    puzzles, seeds = (PUZZLES[:2], 1) if arguments.quick else (PUZZLES, arguments.seeds)
    rows = run(puzzles, seeds, arguments.steps)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    enough = True
    for seed in range(seeds):
        own = [row["solved"] for row in rows if row["seed"] == seed]
        print(f"seed {seed}: {sum(own)} of {len(own)} in the top two (reference: all)")
        enough &= sum(own) >= NEEDED * len(own)
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
