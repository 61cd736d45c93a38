"""Ways to count votes, compared on recorded runs: `python -m benchmarks.compressarc_votes --runs FOLDER`.

FOLDER is a batch (`compressarc batch`) whose puzzles were chosen before anybody saw an outcome:
the 38 of `benchmarks.compressarc_accuracy`, and those of the evaluation split that `--list`
prints, for `compressarc batch --split evaluation --puzzles ... --seeds 4 --steps 1000`. Nothing is trained here: every variant counts the same proposals, so compute is equal
by construction; where seeds are compared with steps, k seeds get a k-th of the steps each.

For every variant: runs solved with two guesses, newly solved and lost against the paper's vote
with an exact two-sided sign test (McNemar), and the same test on the rank of the solution where
it was proposed at all. For every rule of stopping: steps saved, and runs newly solved and lost.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from compressarc.batch.mesh_engine import standings
from compressarc.batch.plan import work
from compressarc.batch.store import RunFolder
from compressarc.datasets import load_splits
from compressarc.network.inputs import signature
from compressarc.solver.history import History
from compressarc.solver.voting import VOTES, count_votes

LARGEST, EVERY = 2000, 6
"""The stated list of the evaluation split: every sixth puzzle by work, up to this work."""


def stated_list() -> list[str]:
    """Evaluation puzzles by their sizes alone: nobody's outcome had a say in it."""
    puzzles = load_splits("arcagi")["evaluation"]
    works = {name: work(signature(puzzle.canvas).shape) for name, puzzle in puzzles.items()}
    return sorted((n for n in works if works[n] <= LARGEST), key=lambda n: (works[n], n))[::EVERY]


SETTLES = (50, 100, 150, 200, 300, 400)


def cut(history: History, steps: int) -> History:
    """The first steps of a run."""
    return History(
        history.kl[:steps],
        history.reconstruction[:steps],
        history.proposals[:steps],
        history.weights[:steps],
        history.ranking,
    )


def rank(histories: Sequence[History], solution, vote: str = "paper") -> int | None:
    return count_votes(histories, vote).rank(solution)


def settled_at(history: History, quiet: int, chunk: int) -> int:
    """Steps after which a run stops, by the rule of `compressarc batch --settle`."""
    for step, standing in standings(history, chunk):
        if standing.settled(step, quiet):
            return step
    return history.steps


def paired(ours: Sequence[int | None], theirs: Sequence[int | None], guesses: int = 2) -> dict[str, Any]:
    """Outcomes of a variant against the baseline's, run by run."""
    a = [r is not None and r <= guesses for r in ours]
    b = [r is not None and r <= guesses for r in theirs]
    newly = sum(x and not y for x, y in zip(a, b, strict=True))
    lost = sum(y and not x for x, y in zip(a, b, strict=True))
    both = [(x, y) for x, y in zip(ours, theirs, strict=True) if x is not None and y is not None]
    better, worse = sum(x < y for x, y in both), sum(x > y for x, y in both)
    test = lambda k, n: float(binomtest(k, n).pvalue) if n else 1.0  # noqa: E731
    return {
        "runs": len(a),
        "solved": sum(a),
        "newly": newly,
        "lost": lost,
        "p": test(newly, newly + lost),
        "rank_better": better,
        "rank_worse": worse,
        "p_rank": test(better, better + worse),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--runs", type=Path, nargs="+", help="folders of batches")
    what.add_argument("--list", action="store_true", help="print the stated list of evaluation puzzles")
    parser.add_argument("--steps", type=int, help="use only so many steps of every run")
    parser.add_argument("--quick", action="store_true", help="the first ten puzzles")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    if arguments.list:
        print(" ".join(stated_list()))
        return 0
    runs: list[tuple[str, int, History, Any, int]] = []
    for path in arguments.runs:
        folder = RunFolder(path)
        for name in folder.names[: 10 if arguments.quick else None]:
            for seed in folder.settings.seeds:
                record, solution = folder.record(name, seed), folder.puzzles[name].solution
                if record is not None and record.ended and solution is not None:
                    history = cut(record.history, arguments.steps or record.history.steps)
                    runs.append((name, seed, history, solution, folder.settings.config.chunk))
    if not runs:
        raise SystemExit("no ended run with a known solution in these folders")
    steps = max(h.steps for _, _, h, _, _ in runs)
    out: dict[str, Any] = {
        "runs": len(runs),
        "puzzles": len({n for n, *_ in runs}),
        "steps": steps,
        "votes": {},
    }
    print(f"{out['puzzles']} puzzles, {len(runs)} runs of {steps} steps")
    base = [rank([h], s) for _, _, h, s, _ in runs]
    ever = sum(r is not None for r in base)
    print(
        f"the solution was proposed at some step in {ever} runs, solved in {sum((r or 9) <= 2 for r in base)}"
    )
    out["proposed"] = ever
    for vote in VOTES:
        row = paired([rank([h], s, vote) for _, _, h, s, _ in runs], base)
        out["votes"][vote] = row
        print(
            f"{vote:16s} solved {row['solved']:3d}  newly {row['newly']:2d} lost {row['lost']:2d} (p {row['p']:.2f})"
            f"  rank better {row['rank_better']:2d} worse {row['rank_worse']:2d} (p {row['p_rank']:.2f})"
        )
    out["settle"] = {}
    for quiet in SETTLES:
        ends = [settled_at(h, quiet, c) for _, _, h, _, c in runs]
        row = paired([rank([cut(h, e)], s) for (_, _, h, s, _), e in zip(runs, ends, strict=True)], base)
        row["steps_taken"] = sum(ends) / sum(h.steps for _, _, h, _, _ in runs)
        out["settle"][quiet] = row
        print(
            f"settle {quiet:4d}: {100 * row['steps_taken']:.0f} % of the steps, solved {row['solved']}, "
            f"newly {row['newly']} lost {row['lost']} (p {row['p']:.2f})"
        )
    by_puzzle: dict[str, list[tuple[History, Any]]] = {}
    for name, _, history, solution, _ in runs:
        by_puzzle.setdefault(name, []).append((history, solution))
    for count in (2, 4):
        # Disjoint groups of seeds of one puzzle; each is compared with its first seed alone.
        groups = [
            (runs_of[k : k + count], runs_of[0][1])
            for runs_of in by_puzzle.values()
            for k in range(0, len(runs_of) - count + 1, count)
        ]
        if not groups:
            continue
        alone = [rank([group[0][0]], solution) for group, solution in groups]
        part = [rank([cut(h, h.steps // count) for h, _ in group], solution) for group, solution in groups]
        full = [rank([h for h, _ in group], solution) for group, solution in groups]
        out[f"seeds_{count}"] = {
            "alone": sum((r or 9) <= 2 for r in alone),
            "equal_compute": paired(part, alone),
            "all_steps": paired(full, alone),
        }
        for what, row in (
            (f"{count} seeds, 1/{count} of the steps each", out[f"seeds_{count}"]["equal_compute"]),
            (f"{count} seeds, all steps ({count} times the compute)", out[f"seeds_{count}"]["all_steps"]),
        ):
            print(
                f"{what}: solved {row['solved']} of {row['runs']} (one seed, all steps: "
                f"{out[f'seeds_{count}']['alone']}), newly {row['newly']} lost {row['lost']} (p {row['p']:.2f})"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(out, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
