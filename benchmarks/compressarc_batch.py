"""Throughput of batches: `python -m benchmarks.compressarc_batch`.

Puzzle-steps a second of a mixed batch of 16 puzzles, measured in one run against

(i)  the same puzzles one after another through `solve`, on all cores, compilation included and
     excluded;
(ii) two single-threaded processes side by side, each solving half of them one after another;

then 8 seeds of one small puzzle against one seed, and the plans of whole splits. Every variant
starts from an empty compilation cache and runs in processes of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
SEEDS_OF = ("6f8cd79b", "25ff71a9")
"""Small puzzles for the comparison of 8 seeds with one: 7 x 6 and 3 x 3."""


def mixed(count: int) -> list[str]:
    """Training puzzles spread evenly over the smaller half of the split, by work."""
    from compressarc.batch.plan import work
    from compressarc.datasets import load_splits
    from compressarc.network.inputs import signature

    puzzles = load_splits("arcagi")["training"]
    sizes = {n: work(signature(p.canvas).shape) for n, p in puzzles.items()}
    names = sorted(sizes, key=lambda n: (sizes[n], n))[: len(sizes) // 2]
    return [names[round(i * (len(names) - 1) / (count - 1))] for i in range(count)]


def one_after_another(names: Sequence[str], steps: int, cache: str) -> dict[str, float]:
    """Seconds of `solve` for each of some puzzles."""
    import jax

    import compressarc
    from compressarc.solver import program_cache as programs

    jax.config.update("jax_compilation_cache_dir", cache)
    begun, compiling = time.perf_counter(), 0.0
    for name in names:
        config = compressarc.SolveConfig(steps=steps)
        solution = compressarc.solve(compressarc.load_puzzle(name), config, key=jax.random.key(0))
        compiling += solution.compile_seconds
        programs._compiled.clear()
        jax.clear_caches()
    return {"seconds": time.perf_counter() - begun, "compile_seconds": compiling}


def batch(names: Sequence[str], steps: int, seeds: int, programs: int | None, lanes: int | None, cache: str):
    """Seconds of a batch on one device per core, as `compressarc batch` runs it."""
    import jax

    from compressarc.batch.device_model import device_model
    from compressarc.batch.mesh_engine import run_batch
    from compressarc.batch.plan import make_plan
    from compressarc.batch.records import BatchSettings
    from compressarc.batch.store import RunFolder
    from compressarc.config import SolveConfig
    from compressarc.datasets import load_puzzle
    from compressarc.network.inputs import signature

    jax.config.update("jax_compilation_cache_dir", cache)
    puzzles = {n: load_puzzle(n) for n in names}
    statics = {n: signature(p.canvas) for n, p in puzzles.items()}
    devices = len(jax.devices())
    begun = time.perf_counter()
    plan = make_plan(
        statics,
        device_model("cpu"),
        devices=devices,
        seeds=seeds,
        steps=steps,
        programs=programs,
        lanes=lanes,
    )
    settings = BatchSettings(SolveConfig(steps=steps), tuple(range(seeds)))
    folder = RunFolder.create(Path(tempfile.mkdtemp()) / "run", puzzles, settings, plan)
    compiling, since = 0.0, None

    def tell(event) -> None:
        nonlocal compiling, since
        now = time.perf_counter()
        if event.kind == "compiling":
            since = now
        elif since is not None:
            # The first call after compilation takes no time of its own: it does not wait for the steps.
            compiling, since = compiling + now - since, None

    run_batch(folder, tell=tell)
    seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "compile_seconds": compiling,
        "programs": len(plan.buckets),
        "waste": plan.waste,
        "solved": sum(r["solved"]["pass@2"] for r in folder.results().values()),
    }


def child(arguments: Sequence[str], flags: str) -> subprocess.Popen:
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "benchmarks.compressarc_batch", "--child", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen) -> dict[str, Any]:
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a measurement failed with status {process.returncode}")
    return json.loads(out.strip().splitlines()[-1])


def executed_kernels(text: str) -> int:
    """Kernels that one call runs, loops with a known trip count multiplied out."""
    blocks = dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", text, re.M | re.S))
    kinds = re.compile(
        r" (fusion|dot|custom-call|copy|reduce|convolution|call|scatter|gather|sort|reduce-window)\("
    )

    def count(name: str, seen: tuple[str, ...] = ()) -> int:
        total = 0
        for line in blocks.get(name, "").splitlines():
            loop = re.search(r" while\(.*body=%?([\w.\-]+)", line)
            if loop and loop.group(1) not in seen:
                trips = re.search(r'known_trip_count[^\d]*"?(\d+)', line)
                total += (int(trips.group(1)) if trips else 1) * count(loop.group(1), (*seen, name))
            elif kinds.search(line):
                total += 1
        return total

    entry = re.search(r"^ENTRY %?([\w.\-]+)", text, re.M)
    return count(entry.group(1)) if entry else 0


EASY = ("3618c87e", "6f8cd79b", "c8f0f002", "b1948b0a", "a699fb00")


def first_guesses(kind: str, steps: int, cache: str) -> dict[str, Any]:
    """First guess and rank of the solution of the five easy puzzles, alone or in one padded program."""
    import jax

    import compressarc
    from compressarc.batch.device_model import device_model
    from compressarc.batch.records import BatchSettings
    from compressarc.batch.store import RunFolder

    jax.config.update("jax_compilation_cache_dir", cache)
    puzzles = {n: compressarc.load_puzzle(n) for n in EASY}
    config = compressarc.SolveConfig(steps=steps)
    if kind == "alone":
        found = {}
        for name, puzzle in puzzles.items():
            solution = compressarc.solve(puzzle, config, key=jax.random.key(0))
            assert solution.score is not None
            found[name] = [[g.tolist() for g in solution.attempts[0]], solution.score.rank]
        return found
    statics = {n: compressarc.signature(p.canvas) for n, p in puzzles.items()}
    plan = compressarc.make_plan(statics, device_model("cpu"), programs=1, lanes=len(EASY))
    folder = RunFolder.create(Path(tempfile.mkdtemp()) / "run", puzzles, BatchSettings(config), plan)
    compressarc.run_batch(folder)
    return {n: [r["answers"][0]["grids"], r["rank_of_solution"]] for n, r in folder.results().items()}


def count_kernels(name: str) -> dict[str, Any]:
    """Kernels, bytes and operations of a step of one lane, from the compiled module."""
    import jax

    from compressarc.batch.bucket_shapes import padded_grids, room_for
    from compressarc.batch.lanes import Lanes, lane_mesh
    from compressarc.batch.plan import work
    from compressarc.config import SolveConfig
    from compressarc.datasets import load_puzzle
    from compressarc.network.inputs import signature

    puzzle = load_puzzle(name)
    static = signature(puzzle.canvas)
    room = room_for([static])
    example = padded_grids(puzzle.canvas, room)
    lanes = Lanes(room, SolveConfig().program, lane_mesh(jax.devices()[:1]), 1, example)
    return {"puzzle": name, "work": work(static.shape), "kernels": executed_kernels(lanes.text)}


def plans() -> list[dict[str, Any]]:
    """Padded work of whole splits at several numbers of programs."""
    from compressarc.batch.bucket_shapes import room_for
    from compressarc.batch.plan import group_shapes, work
    from compressarc.datasets import load_splits
    from compressarc.network.inputs import signature

    rows = []
    for split, puzzles in load_splits("arcagi").items():
        statics = {n: signature(p.canvas) for n, p in puzzles.items()}
        own = sum(work(s.shape) for s in statics.values())
        for programs, allowed in ((40, 41), (60, 27), (100, 14)):
            found = {}
            for kind, rounds in (("merging", 0), ("refined", 300)):
                groups = group_shapes(statics, programs, rounds=rounds)
                padded = sum(len(g) * work(room_for(statics[n] for n in g).shape) for g in groups)
                found[kind] = 100 * (padded / own - 1)
            rows.append({"split": split, "programs": programs, "allowed": allowed} | found)
            print(
                f"{split}: {programs} programs, padded work {found['refined']:.1f} % "
                f"(merging pairs alone {found['merging']:.1f} %, asked {allowed} %)",
                flush=True,
            )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="4 puzzles, 50 steps, 2 seeds")
    parser.add_argument("--steps", type=int, default=300, help="of every puzzle")
    parser.add_argument("--programs", type=int, help="of the mixed batch, instead of the plan's choice")
    parser.add_argument("--only", choices=("mixed", "seeds", "plans", "count", "easy"), help="one part")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, *rest = arguments.child
        if kind == "solve":
            print(json.dumps(one_after_another(rest[2:], int(rest[0]), rest[1])))
        elif kind == "easy":
            print(json.dumps(first_guesses(rest[0], int(rest[1]), rest[2])))
        elif kind == "count":
            print(json.dumps(count_kernels(rest[0])))
        else:
            steps, seeds, programs, lanes = (int(x) for x in rest[:4])
            print(json.dumps(batch(rest[5:], steps, seeds, programs or None, lanes or None, rest[4])))
        return 0
    out: dict[str, Any] = {}
    parts = (arguments.only,) if arguments.only else ("plans", "count", "easy", "mixed", "seeds")
    steps = 50 if arguments.quick else arguments.steps
    cores = os.cpu_count() or 1
    many = f"{ONE_THREAD} --xla_force_host_platform_device_count={cores}"
    ok = True
    with tempfile.TemporaryDirectory() as root:
        cache = lambda name: str(Path(root) / name)  # noqa: E731
        if "plans" in parts:
            out["plans"] = plans()
            ok &= all(r["refined"] <= r["allowed"] for r in out["plans"])
        if "count" in parts:
            out["kernels"] = [result(child(["count", n], ONE_THREAD)) for n in ("25ff71a9", "272f95fa")]
            for row in out["kernels"]:
                print(
                    f"{row['puzzle']}: {row['kernels']} kernels a step (loops multiplied out), CPU module",
                    flush=True,
                )
        if "easy" in parts:
            number = 50 if arguments.quick else 200
            started = [
                child(["easy", k, str(number), cache(f"easy-{k}")], ONE_THREAD) for k in ("alone", "batch")
            ]
            alone, together = (result(p) for p in started)
            equal = sum(alone[n][0] == together[n][0] for n in EASY)
            out["easy"] = {"steps": number, "alone": alone, "batch": together, "equal": equal}
            ranks = ", ".join(f"{n} {alone[n][1]} {together[n][1]}" for n in EASY)
            print(
                f"five easy puzzles, {number} steps: {equal} of 5 first guesses of the batch (one program, five "
                f"lanes) equal the single run's; rank of the solution alone and in the batch: {ranks}",
                flush=True,
            )
            ok &= arguments.quick or equal == 5
        if "mixed" in parts:
            names = mixed(4 if arguments.quick else 16)
            total = len(names) * steps
            rows = {}
            programs = str(arguments.programs or 0)
            rows["batch"] = result(child(["batch", str(steps), "1", programs, "0", cache("a"), *names], many))
            print(f"batch: {rows['batch']}", flush=True)
            pair = [child(["solve", str(steps), cache(f"b{k}"), *names[k::2]], ONE_THREAD) for k in range(2)]
            begun = time.perf_counter()
            halves = [result(p) for p in pair]
            rows["two_processes"] = {"seconds": max(h["seconds"] for h in halves), "halves": halves}
            print(f"two processes: {rows['two_processes']} ({time.perf_counter() - begun:.0f} s)", flush=True)
            rows["one_after_another"] = result(child(["solve", str(steps), cache("c"), *names], ""))
            print(f"one after another: {rows['one_after_another']}", flush=True)
            rates = {k: total / r["seconds"] for k, r in rows.items()}
            bare = {
                k: total / (rows[k]["seconds"] - rows[k]["compile_seconds"])
                for k in ("batch", "one_after_another")
            }
            versus, beside = (
                rates["batch"] / rates["one_after_another"],
                rates["batch"] / rates["two_processes"],
            )
            out["mixed"] = {
                "puzzles": names,
                "steps": steps,
                "rows": rows,
                "steps_per_second": rates,
                "without_compilation": bare,
            }
            print(
                f"{len(names)} puzzles x {steps} steps: batch {rates['batch']:.1f} puzzle-steps/s, one after another "
                f"{rates['one_after_another']:.1f}, two processes {rates['two_processes']:.1f}: "
                f"{versus:.2f}x (asked 1.5) and {beside:.2f}x (asked 1); without compilation "
                f"{bare['batch']:.1f} and {bare['one_after_another']:.1f}: "
                f"{bare['batch'] / bare['one_after_another']:.2f}x",
                flush=True,
            )
            ok &= arguments.quick or (versus >= 1.5 and beside >= 1)
        if "seeds" in parts:
            count = 2 if arguments.quick else 8
            out["seeds"] = []
            for name in SEEDS_OF[: 1 if arguments.quick else None]:
                one = result(child(["solve", str(steps), cache(f"d{name}"), name], ""))
                several = result(
                    child(["batch", str(steps), str(count), "1", "0", cache(f"e{name}"), name], many)
                )
                whole = several["seconds"] / one["seconds"]
                bare_ratio = (several["seconds"] - several["compile_seconds"]) / (
                    one["seconds"] - one["compile_seconds"]
                )
                out["seeds"].append(
                    {
                        "puzzle": name,
                        "steps": steps,
                        "one": one,
                        "several": several,
                        "ratio": whole,
                        "bare": bare_ratio,
                    }
                )
                print(
                    f"{name}: {count} seeds take {whole:.2f}x the time of one, compilation included, and "
                    f"{bare_ratio:.2f}x without it ({steps} steps; asked 3)",
                    flush=True,
                )
                ok &= arguments.quick or bare_ratio <= 3
    if arguments.json:
        arguments.json.write_text(json.dumps(out, indent=1) + "\n")
    print("all as asked" if ok else "short of what was asked")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
