"""One plan on 1, 2, 4 and 8 devices and in 2 and 4 processes: `python -m benchmarks.compressarc_devices`.

Virtual CPU devices; processes talk through `jax.distributed` on loopback. Compares what every
run of a small batch proposed, weighed and measured, bit by bit, and both guesses of every puzzle.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.checks import Check, report

PUZZLES = ("3618c87e", "6f8cd79b")
SEEDS = 4


def work(folder: str, cache: str, port: str, processes: str, rank: str) -> None:
    """One process of a batch."""
    import jax

    jax.config.update("jax_compilation_cache_dir", cache)
    if int(processes) > 1:
        jax.distributed.initialize(f"localhost:{port}", int(processes), int(rank))
    from compressarc.batch.mesh_engine import run_batch
    from compressarc.batch.store import RunFolder

    if not run_batch(RunFolder(folder)):
        raise RuntimeError("the batch was not finished")


def run(folder: Path, cache: str, devices: int, processes: int) -> float:
    """Seconds of the batch on so many devices in each of so many processes."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    # The same number of threads throughout: how XLA's products are cut up depends on it.
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "NPROC": "8",
    }
    begun = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "benchmarks.compressarc_devices",
        "--work",
        str(folder),
        cache,
        port,
        str(processes),
    ]
    started = [subprocess.Popen([*command, str(rank)], env=environment) for rank in range(processes)]
    if any(process.wait() for process in started):
        raise RuntimeError("a process failed")
    return time.perf_counter() - begun


def differences(a: Path, b: Path) -> tuple[int, int, int]:
    """Runs that differ in a bit; puzzles with another first guess; with another pair of guesses."""
    import numpy as np

    from compressarc.batch.store import RunFolder

    one, other = RunFolder(a), RunFolder(b)
    runs = 0
    for name in one.names:
        for seed in one.settings.seeds:
            x, y = one.record(name, seed), other.record(name, seed)
            assert x is not None and y is not None
            fields = ("kl", "reconstruction", "proposals", "weights")
            runs += not all(np.array_equal(getattr(x.history, f), getattr(y.history, f)) for f in fields)
    first, second = one.results(), other.results()
    guesses = lambda r, n: [a["grids"] for a in r["answers"][:n]]  # noqa: E731
    return (
        runs,
        sum(guesses(first[n], 1) != guesses(second[n], 1) for n in one.names),
        sum(guesses(first[n], 2) != guesses(second[n], 2) for n in one.names),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="25 steps; 1 and 2 devices, 2 processes")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        work(*options.work)
        return 0
    from compressarc.batch.device_model import device_model
    from compressarc.batch.plan import make_plan
    from compressarc.batch.records import BatchSettings
    from compressarc.batch.store import RunFolder
    from compressarc.config import SolveConfig
    from compressarc.datasets import load_puzzle
    from compressarc.network.inputs import signature

    puzzles = {n: load_puzzle(n) for n in PUZZLES}
    statics = {n: signature(p.canvas) for n, p in puzzles.items()}
    plan = make_plan(statics, device_model("cpu"), programs=1, lanes=1, seeds=SEEDS)
    settings = BatchSettings(SolveConfig(steps=25 if options.quick else 175), tuple(range(SEEDS)))
    root = Path(tempfile.mkdtemp(prefix="devices-"))
    layouts = [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 4), (2, 2)]
    if options.quick:
        layouts = [(1, 1), (2, 1), (1, 2)]
    folders, results = {}, {}
    for devices, processes in layouts:
        folder = RunFolder.create(
            root / f"{devices}-{processes}", puzzles, settings, plan, dataset="arcagi", split="training"
        )
        seconds = run(folder.folder, str(root / "cache"), devices, processes)
        folders[devices, processes] = folder.folder
        solved = sum(r["solved"]["pass@2"] for r in folder.results().values())
        print(
            f"{processes} process(es) x {devices} device(s): {seconds:.0f} s, {solved} of {len(puzzles)} solved",
            flush=True,
        )
        base = folders.get((2, 1))
        if (devices, processes) in ((1, 1), (2, 1)):
            continue
        assert base is not None
        bits, _, both = differences(base, folder.folder)
        alone, alone_first, alone_both = differences(folders[1, 1], folder.folder)
        results[f"{processes} processes x {devices} devices"] = [
            Check("runs that differ in a bit from 1 process x 2 devices", bits, 0),
            Check("puzzles whose guesses differ from 1 process x 2 devices", both, 0),
            Check("puzzles whose first guess differs from one device alone", alone_first, 0),
        ]
        print(
            f"  against one device alone: {alone} of {len(puzzles) * SEEDS} runs differ in a bit, {alone_both} puzzles in a guess"
        )
    return report("one plan on many devices", results.items(), options.json)


if __name__ == "__main__":
    sys.exit(main())
