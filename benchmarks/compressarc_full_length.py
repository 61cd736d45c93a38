"""Runs at the published 2,000 steps: `python -m benchmarks.compressarc_full_length [--out FOLDER]`.

Ten training puzzles of at most 10 x 10, four keys each: two that ended early once, because the
gradient of the softmax layer overflowed, and eight chosen before the run, in equal steps through
all such puzzles in order of id. None may end early. Printed: how each ended, its skipped steps,
the rank of the solution after 1,000 and 2,000 steps, and how wide the readings of the softmax
layers spread (largest minus smallest within a tensor, example and channel) as training goes on,
looked at every 50 steps.

One process per puzzle, as many side by side as there are cores; a puzzle that is done (a file in
--out) is not run again. Takes an hour on two cores. --quick: two puzzles, one key, 150 steps.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ENDED_EARLY_ONCE = ("aedd82e4", "af902bf9")
KEYS = (0, 1, 2, 3)
STEPS = 2000
LOOK_EVERY = 50
SHOWN = (50, 100, 200, 500, 1000, 1500, 2000)


def puzzles() -> list[str]:
    """The ten puzzles."""
    import compressarc

    small = [
        name
        for name, puzzle in compressarc.load_splits("arcagi")["training"].items()
        if max(puzzle.canvas.shape.x, puzzle.canvas.shape.y) <= 10 and name not in ENDED_EARLY_ONCE
    ]
    index = np.linspace(0, len(small) - 1, 8).round().astype(int)
    return [*ENDED_EARLY_ONCE, *(small[i] for i in index)]


def spread_of_readings(static, program):
    """A compiled function of (run, data, key): the widest spread of each block's readings, (4,)."""
    import jax
    import jax.numpy as jnp

    from compressarc.multitensor import map_groups, unflattened, unpack
    from compressarc.network.layers.decode import decode
    from compressarc.network.layers.project import project
    from compressarc.network.layers.share import share_up
    from compressarc.network.model import block, block_weights
    from compressarc.network.parameters import standard_normal, weights_by_slot

    shape = static.shape

    def widest(readings) -> jax.Array:
        tensors = unpack(unflattened(readings, shape), shape)
        axes = {
            code: tuple(range(1 if code[0] == "1" else 0, tensor.ndim - 1))
            for code, tensor in tensors.items()
        }
        return jnp.stack([(t.max(axes[c]) - t.min(axes[c])).max() for c, t in tensors.items()]).max()

    def look(run, data, key):
        params = run.params
        noise = standard_normal(jax.random.fold_in(key, run.step), shape, jnp.float32)
        weight, bias = weights_by_slot(params.decode_weight, shape), params.decode_bias.by_group()
        x, _ = decode(params.posterior, noise, weight, bias, shape)

        def one(x, layer):
            weights = block_weights(layer, shape, program.variant)
            read = share_up(x, *weights.share_up, shape)
            readings = map_groups(
                lambda g, a, w: project(a, w, g.kinds(a.shape[1], shape)), read, weights.softmax[0]
            )
            return block(x, weights, data, static, program.variant), widest(readings)

        return jax.lax.scan(one, x, params.layers)[1]

    return jax.jit(look)


def run_puzzle(name: str, keys: tuple[int, ...], steps: int) -> list[dict[str, Any]]:
    """All keys of one puzzle, one after another in one process."""
    import jax

    import compressarc

    puzzle = compressarc.load_puzzle(name)
    config = compressarc.SolveConfig(steps=steps)
    static, data = compressarc.signature(puzzle.canvas), compressarc.grids(puzzle.canvas)
    look = spread_of_readings(static, config.program)
    look(compressarc.init(static, config.program, key=jax.random.key(0)), data, jax.random.key(0))
    rows = []
    for number in keys:
        key = jax.random.key(number)
        noise_key = jax.random.split(key)[1]
        spreads: list[tuple[int, list[float]]] = []

        def on_chunk(progress, spreads=spreads, noise_key=noise_key) -> None:
            if progress.history.steps % LOOK_EVERY == 0:
                widths = np.asarray(look(progress.run, data, noise_key))
                spreads.append((progress.history.steps, [round(float(w), 2) for w in widths]))

        solution = compressarc.solve(puzzle, config, key=key, on_chunk=on_chunk)
        assert puzzle.solution is not None
        ranks = solution.history.rank_over_time(puzzle.solution)
        rows.append(
            {
                "puzzle": name,
                "key": number,
                "status": str(solution.status),
                "steps": solution.history.steps,
                "skipped_steps": int(solution.history.skipped.sum()),
                "rank_at_1000": int(ranks[min(1000, len(ranks)) - 1]),
                "rank": int(ranks[-1]),
                "seconds": round(solution.seconds, 1),
                "spreads": spreads,
            }
        )
    return rows


def _start(name: str, keys: tuple[int, ...], steps: int, folder: Path) -> list[dict[str, Any]]:
    """The rows of one puzzle, from its file or a process of its own."""
    path = folder / f"{name}.json"
    if not path.exists():
        command = [sys.executable, "-m", "benchmarks.compressarc_full_length", "--one", name, str(path)]
        # One thread each: two puzzles on two cores do more than one on two threads.
        flags = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
        options = ["--keys", *map(str, keys), "--steps", str(steps)]
        done = subprocess.run(
            [*command, *options],
            env=os.environ | {"XLA_FLAGS": flags},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    return json.loads(path.read_text())


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines for the terminal and the docs."""
    head = [str(s) for s in SHOWN if any(s == step for step, _ in rows[0]["spreads"])]
    lines = [f"| puzzle | key | ended | skipped | rank at 1,000 | at the end | s | {' | '.join(head)} |"]
    lines.append("|" + "---|" * (7 + len(head)))
    for row in rows:
        widths = {step: max(w) for step, w in row["spreads"]}
        cells = [row["puzzle"], row["key"], f"{row['status']}, {row['steps']}", row["skipped_steps"]]
        cells += [row["rank_at_1000"] or "-", row["rank"] or "-", round(row["seconds"])]
        cells += [f"{widths[int(s)]:.0f}" if int(s) in widths else "" for s in head]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for the puzzles' rows, from which a run goes on")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--quick", action="store_true", help="two puzzles, one key, 150 steps")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--keys", nargs="+", type=int, default=KEYS, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        from compressarc.files import write_atomically

        name, path = arguments.one
        write_atomically(Path(path), json.dumps(run_puzzle(name, tuple(arguments.keys), arguments.steps)))
        return 0
    names, keys, steps = puzzles(), KEYS, STEPS
    if arguments.quick:
        names, keys, steps = names[:2], KEYS[:1], 150
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        begun = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            found = list(pool.map(lambda name: _start(name, keys, steps, folder), names))
    rows = [row for part in found for row in part]
    print("\n".join(table(rows)))
    early = [r for r in rows if r["status"] != "finished"]
    widest = [max(max(w) for _, w in r["spreads"]) for r in rows]
    solved = sum(0 < r["rank"] <= 2 for r in rows)
    print(
        f"{len(rows)} runs in {(time.perf_counter() - begun) / 60:.0f} min: {len(early)} ended early, "
        f"{sum(r['skipped_steps'] for r in rows)} steps skipped, {solved} solved with two guesses; "
        f"readings spread {min(widest):.0f} to {max(widest):.0f} at their widest"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"steps": steps, "runs": rows}) + "\n")
    return 1 if early else 0


if __name__ == "__main__":
    sys.exit(main())
