"""38 small training puzzles at 1,000 steps: `python -m benchmarks.compressarc_accuracy --out FOLDER`.

The puzzles are those listed as small and solved in the published run; at least 28 are to be
solved with two guesses. Takes 20 minutes on two cores; goes on where it was interrupted
(--resume), and only reads a folder that is finished. Writes the agreement with the published run,
with exact intervals, and the batch's report page.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

PUZZLES = [
    "3618c87e",
    "aedd82e4",
    "6f8cd79b",
    "44f52bb0",
    "5582e5ca",
    "6150a2bd",
    "794b24be",
    "d037b0a7",
    "e9afcf9a",
    "c8f0f002",
    "3aa6fb7a",
    "67385a82",
    "bdad9b1f",
    "74dd1130",
    "a9f96cdd",
    "ded97339",
    "25d8a9c8",
    "3c9b0459",
    "b1948b0a",
    "4258a5f9",
    "60b61512",
    "b60334d2",
    "f76d97a5",
    "d406998b",
    "6c434453",
    "bb43febb",
    "23581191",
    "a61f2674",
    "aabf363d",
    "5c0a986e",
    "a699fb00",
    "af902bf9",
    "ef135b50",
    "694f12f3",
    "05269061",
    "f9012d9b",
    "d06dbe63",
    "a5313dff",
]
LEAST = 28


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the batch")
    parser.add_argument("--resume", action="store_true", help="go on with the batch in --out")
    parser.add_argument("--quick", action="store_true", help="the five smallest puzzles, 200 steps")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--page", type=Path, help="write the report page here")
    arguments = parser.parse_args()
    from compressarc.batch.store import RunFolder
    from compressarc.cli import main as cli
    from compressarc.report.compare import compare_with_published
    from compressarc.report.page import write_page
    from compressarc.score import score_split

    names, steps = (PUZZLES[:5], 200) if arguments.quick else (PUZZLES, 1000)
    there = (arguments.out / "settings.json").exists()
    done = there and all(
        RunFolder(arguments.out).ended(name, seed)
        for name in RunFolder(arguments.out).names
        for seed in RunFolder(arguments.out).settings.seeds
    )
    if not done:
        options = [
            "batch",
            "--split",
            "training",
            "--puzzles",
            *names,
            "--steps",
            str(steps),
            "--chunk",
            "50",
        ]
        if arguments.resume and there:
            options = ["batch", "--resume"]
        status = cli.main([*options, "--out", str(arguments.out)])
        if status:
            return status
    run = RunFolder(arguments.out)
    results = run.results()
    found = compare_with_published(results, run.split)
    from compressarc.report.compare import scores_of

    total = score_split(scores_of(results), (1, 2, 5, 10))
    print(f"this run, {run.settings.config.steps} steps: {found.own}")
    print(f"published, 2000 steps, same puzzles: {found.published}; same outcome: {found.agreement}")
    print(f"lost: {', '.join(found.lost) or '-'}; newly solved: {', '.join(found.newly_solved) or '-'}")
    print(f"pass@n: {total.solved}")
    if arguments.json:
        data = {
            "steps": run.settings.config.steps,
            "seeds": run.settings.seeds,
            "solved_by_guesses": total.solved,
            "comparison": found.to_json(),
            "puzzles": {
                name: {k: r[k] for k in ("rank_of_solution", "rank_changes", "seconds", "status")}
                for name, r in results.items()
            },
        }
        arguments.json.write_text(json.dumps(data) + "\n")
    if arguments.page:
        write_page(run, arguments.page)
    return 0 if arguments.quick or found.own.count >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
