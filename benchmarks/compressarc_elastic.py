"""Nodes that vanish and drivers that die: `python -m benchmarks.compressarc_elastic` (extra `cluster`).

On a Ray cluster of three nodes on this machine, 24 small puzzles:

1. one node is killed in the middle and one is added: every puzzle must end exactly once, and
   no lost puzzle may repeat more steps than one checkpoint interval;
2. the driver is killed (SIGKILL) and the batch resumed on another number of nodes;
3. every run must be bit for bit what the mesh engine makes of it on one device.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.checks import Check, report

PUZZLES = 24
CHUNK, EVERY = 25, 2
"""Steps a chunk, chunks between checkpoints."""


def small_puzzles(count: int):
    """The smallest training puzzles, by work."""
    from compressarc.batch.plan import work
    from compressarc.datasets import load_splits
    from compressarc.network.inputs import signature

    puzzles = load_splits("arcagi")["training"]
    names = sorted(puzzles, key=lambda n: (work(signature(puzzles[n].canvas).shape), n))[:count]
    return {name: puzzles[name] for name in names}


def make(folder: Path, puzzles, steps: int):
    """The folder of a new batch, all of it in two programs."""
    from compressarc.batch.device_model import device_model
    from compressarc.batch.plan import make_plan
    from compressarc.batch.records import BatchSettings
    from compressarc.batch.store import RunFolder
    from compressarc.config import SolveConfig
    from compressarc.network.inputs import signature

    statics = {n: signature(p.canvas) for n, p in puzzles.items()}
    plan = make_plan(statics, device_model("cpu"), programs=2, lanes=1)
    settings = BatchSettings(SolveConfig(steps=steps, chunk=CHUNK))
    return RunFolder.create(folder, puzzles, settings, plan, dataset="arcagi", split="training")


def events(folder: Path) -> list[dict]:
    """All processes' logs in order of time."""
    lines = [line for f in (folder / "log").glob("*.jsonl") for line in f.read_text().splitlines()]
    return sorted((json.loads(line) for line in lines), key=lambda e: e["time"])


def accounts(folder: Path) -> tuple[int, int, int]:
    """Runs that did not end exactly once; most steps that one start repeated; runs started again."""
    ends, reached, repeated, again = collections.Counter(), {}, 0, set()
    for e in events(folder):
        run = e["puzzle"], e["seed"]
        if e["event"] == "end":
            ends[run] += 1
        elif e["event"] == "start" and run in reached:
            again.add(run)
            repeated = max(repeated, reached[run] - e["step"])
        reached[run] = max(reached.get(run, 0), e["step"])
    return sum(ends[run] != 1 for run in reached), repeated, len(again)


def cluster(nodes: int):
    """A Ray cluster on this machine, one core a node."""
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 10**8})
    workers = [started.add_node(num_cpus=1, object_store_memory=10**8) for _ in range(nodes - 1)]
    started.wait_for_nodes()
    return started, workers


def drive(folder: str, address: str, cache: str) -> None:
    """A driver process: works on the folder through the cluster."""
    from compressarc.batch.ray_engine import run_elastic
    from compressarc.batch.store import RunFolder

    whole = run_elastic(RunFolder(folder), address=address, checkpoint_every=EVERY, cache=cache)
    print("whole" if whole else "not whole")


def driver(folder: Path, address: str | None, cache: str) -> subprocess.Popen:
    if address is None:
        raise ValueError("the cluster has no address: it was not started")
    command = [
        sys.executable,
        "-m",
        "benchmarks.compressarc_elastic",
        "--drive",
        str(folder),
        address,
        cache,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def all_busy(folder: Path, workers: int) -> bool:
    """Whether so many processes are in the middle of a run, beyond a checkpoint's first chunk."""
    last = [json.loads(f.read_text().splitlines()[-1]) for f in (folder / "log").glob("*.jsonl")]
    return sum(e["event"] == "steps" and e["step"] > CHUNK for e in last) >= workers


def wait_for(folder: Path, ended: int, process: subprocess.Popen, busy: int = 0) -> None:
    """Until so many runs have ended, and so many processes are in the middle of one."""
    while sum(e["event"] == "end" for e in events(folder)) < ended or not all_busy(folder, busy):
        if process.poll() is not None:
            raise RuntimeError(
                f"the driver ended too early: {process.stdout.read() if process.stdout else ''}"
            )
        time.sleep(0.05)  # a run of a small puzzle takes seconds: often enough to find several under way


def different(a: Path, b: Path) -> int:
    """Runs whose records differ in any bit of what they proposed, weighed and measured."""
    import numpy as np

    from compressarc.batch.store import RunFolder

    one, other, count = RunFolder(a), RunFolder(b), 0
    for name in one.names:
        x, y = one.record(name, 0), other.record(name, 0)
        fields = ("kl", "reconstruction", "proposals", "weights")
        same = (
            x is not None
            and y is not None
            and all(np.array_equal(getattr(x.history, f), getattr(y.history, f)) for f in fields)
        )
        count += not same
    return count


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="8 puzzles, 400 steps")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--drive", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(*arguments.drive)
        return 0
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    os.environ["JAX_PLATFORMS"] = "cpu"
    number, steps = (8, 400) if arguments.quick else (PUZZLES, 150)
    puzzles = small_puzzles(number)
    root = Path(tempfile.mkdtemp(prefix="elastic-"))
    cache = str(root / "cache")

    one = make(root / "one", puzzles, steps)
    started, workers = cluster(3)
    process = driver(one.folder, started.address, cache)
    wait_for(one.folder, number // 4, process, busy=3)
    print("killing a node that works, adding another", flush=True)
    started.remove_node(workers[0], allow_graceful=False)
    started.add_node(num_cpus=1, object_store_memory=10**8)
    out, _ = process.communicate()
    started.shutdown()
    not_once, repeated, again = accounts(one.folder)
    print(f"driver: {out.strip()}; {again} runs were started again, one repeated up to {repeated} steps")

    two = make(root / "two", puzzles, steps)
    started, _ = cluster(3)
    process = driver(two.folder, started.address, cache)
    wait_for(two.folder, number // 4, process, busy=3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    started.shutdown()
    print("killed the driver; resuming on two nodes", flush=True)
    started, _ = cluster(2)
    process = driver(two.folder, started.address, cache)
    out, _ = process.communicate()
    started.shutdown()
    two_not_once, two_repeated, two_again = accounts(two.folder)
    print(
        f"driver: {out.strip()}; {two_again} runs were started again, one repeated up to {two_repeated} steps"
    )

    import jax

    from compressarc.batch.mesh_engine import run_batch

    jax.config.update("jax_compilation_cache_dir", cache)
    alone = make(root / "alone", puzzles, steps)
    run_batch(alone)
    interval = CHUNK * EVERY
    checks = [
        Check("node lost: runs that did not end exactly once", not_once, 0),
        Check("node lost: runs without a result", number - len(one.results()), 0),
        Check("node lost: no run was interrupted (nothing tested)", float(again == 0), 0),
        Check("node lost: most steps repeated", repeated, interval),
        Check("driver lost: runs that did not end exactly once", two_not_once, 0),
        Check("driver lost: runs without a result", number - len(two.results()), 0),
        Check("driver lost: most steps repeated", two_repeated, interval),
        Check("node lost: runs that differ from the mesh engine's", different(one.folder, alone.folder), 0),
        Check("driver lost: runs that differ from the mesh engine's", different(two.folder, alone.folder), 0),
    ]
    return report(
        "elastic",
        [(f"{number} puzzles, {steps} steps, checkpoints every {interval}", checks)],
        arguments.json,
    )


if __name__ == "__main__":
    sys.exit(main())
