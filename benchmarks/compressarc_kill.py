"""Kills at random moments of a cold start: `python -m benchmarks.compressarc_kill`.

`compressarc solve` and `compressarc batch` are started on an empty compilation cache and killed
with SIGKILL at random moments of the first minute, which holds the start, tracing, compilation
and the first chunks of steps. Then the same folder is resumed, on the cache that the killed
process left behind. Every resumed run must end in exactly the history, guesses and submission of
a run that nobody killed. Printed for each kill: the moment, the steps that were saved, and
whether the results are equal.

Takes an hour on two cores. --warm: the same with one cache for all, which is filled by the run that
nobody kills; the kills fall into the time that it takes then, most of which are steps (10 minutes).
--quick: two kills of each command.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PUZZLES = ("6f8cd79b", "3618c87e")
STEPS = 400
FIRST = 60.0
"""Seconds in which the kills fall."""

COMMANDS = {
    "solve": ["solve", PUZZLES[0], "--steps", str(STEPS), "--checkpoint-every", "1"],
    "batch": ["batch", "--puzzles", *PUZZLES, "--split", "training", "--steps", str(STEPS),
              "--checkpoint-every", "1", "--devices", "1", "--programs", "1"],
}  # fmt: skip


def command(name: str, out: Path, *, resume: bool = False) -> list[str]:
    """A command line that works on a folder."""
    words = COMMANDS[name]
    if resume:
        words = [*words, "--resume"] if name == "solve" else ["batch", "--resume", "--devices", "1"]
    return [sys.executable, "-m", "compressarc", *words, "--out", str(out)]


def environment(place: Path, warm: bool) -> dict[str, str]:
    """Its own, empty cache of compiled programs, or all runs' together; one core for each of two runs."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    cache = place.parent / "cache" if warm else place / "cache"
    return os.environ | {"XDG_CACHE_HOME": str(cache), "XLA_FLAGS": flags}


def findings(name: str, out: Path) -> dict[str, Any]:
    """Everything that a run found: arrays of its histories, its guesses."""
    if name == "solve":
        with np.load(out / "history.npz") as file:
            arrays = dict(file)
        return {"arrays": arrays, "guesses": json.loads((out / "result.json").read_text())["answers"]}
    from compressarc.batch.store import RunFolder

    arrays = {}
    for puzzle in PUZZLES:
        record = RunFolder(out).record(puzzle, 0)
        assert record is not None and record.status == "finished"
        for field in ("kl", "reconstruction", "proposals", "weights"):
            arrays[f"{puzzle}/{field}"] = getattr(record.history, field)
    return {"arrays": arrays, "guesses": json.loads((out / "submission.json").read_text())}


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two runs found the same, to the bit."""
    a, b = one["arrays"], other["arrays"]
    same = a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a
    )
    return same and one["guesses"] == other["guesses"]


def saved_steps(out: Path) -> int:
    """Steps of the newest checkpoint, of whichever run has the most."""
    found = [int(p.parent.name) for p in out.rglob("_CHECKPOINT_METADATA") if p.parent.name.isdigit()]
    return max(found, default=0)


def whole(name: str, place: Path, warm: bool) -> dict[str, Any]:
    """An uninterrupted run, cold, or once more warm, and how long it took."""
    begun = time.perf_counter()
    done = subprocess.run(
        command(name, place / "out"),
        env=environment(place, warm),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    found = findings(name, place / "out") | {"seconds": time.perf_counter() - begun}
    return (
        whole(name, place.with_name(f"{name}-again"), warm) if warm and "again" not in place.name else found
    )


def killed(name: str, place: Path, moment: float, warm: bool) -> dict[str, Any]:
    """A run that was killed after so many seconds, and resumed."""
    out, env = place / "out", environment(place, warm)
    with subprocess.Popen(
        command(name, out),
        env=env,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        time.sleep(moment)
        over = process.poll() is not None
        os.killpg(process.pid, signal.SIGKILL) if not over else None
    saved = saved_steps(out)
    anew = False
    done = subprocess.run(
        command(name, out, resume=True), env=env, capture_output=True, text=True, check=False
    )
    if done.returncode == 2 and "no batch to resume here" in done.stderr:  # killed before it began to be one
        anew = True
        done = subprocess.run(command(name, out), env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} killed after {moment:.1f} s: {done.stdout[-500:]}\n{done.stderr}")
    return findings(name, out) | {"over": over, "saved": saved, "anew": anew}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--warm", action="store_true", help="with the programs in the cache")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--quick", action="store_true", help="two kills of each command")
    arguments = parser.parse_args()
    kills = 2 if arguments.quick else arguments.kills
    rng = random.Random(arguments.seed)
    shares = {name: sorted(rng.uniform(0, 1) for _ in range(kills)) for name in COMMANDS}
    warm = arguments.warm
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)

        def one(name: str, number: int) -> dict[str, Any]:
            within = wholes[name].result()["seconds"] if warm else FIRST
            moment = within * shares[name][number]
            return killed(name, root / f"{name}{number}", moment, warm) | {"moment": moment}

        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            wholes = {name: pool.submit(whole, name, root / name, warm) for name in COMMANDS}
            every = {(n, i): pool.submit(one, n, i) for n in COMMANDS for i in range(kills)}
            for name in COMMANDS:
                print(
                    f"{name}: {wholes[name].result()['seconds']:.0f} s {'warm' if warm else 'cold'}, uninterrupted",
                    flush=True,
                )
            for (name, _number), future in every.items():
                found = future.result()
                row = {"command": name, "moment": round(found["moment"], 2)}
                row |= {k: found[k] for k in ("saved", "anew", "over")}
                row["equal"] = equal(found, wholes[name].result())
                rows.append(row)
                what = "nothing on disk yet" if row["anew"] else f"{row['saved']} steps saved"
                ended = ", had ended" if row["over"] else ""
                verdict = "equal" if row["equal"] else "DIFFERENT"
                print(f"{name} killed after {row['moment']:5.2f} s: {what}{ended}; {verdict}", flush=True)
    different = sum(not row["equal"] for row in rows)
    print(f"{len(rows)} kills, {different} with other results than the uninterrupted run")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
