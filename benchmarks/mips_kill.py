"""Kills at 20 moments: `python -m benchmarks.mips_kill [--kills 20] [--quick]`.

`mips solve` with four tasks and two processes is killed with SIGKILL, at ten random moments and ten times as
soon as a file of a result begins to be there; then it is resumed. What the folder holds in the end must be what
a run that nobody killed leaves, apart from seconds: results, programs, and no other file. No process may outlive
the killed one.

--quick: two kills.
"""

from __future__ import annotations

import argparse
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

from benchmarks import output

TASKS = ("Sum_Last2", "Prev2", "Parity_Last2", "Add_Mod_3")


def command(out: Path) -> list[str]:
    """The run, which keeps what is there."""
    return [
        sys.executable,
        "-m",
        "mips.cli",
        "solve",
        *TASKS,
        "--out",
        str(out),
        "--workers",
        "2",
        "--resume",
    ]


def findings(out: Path) -> dict[str, Any]:
    """Every file and what it says, seconds apart."""
    found: dict[str, Any] = {}
    for path in sorted(out.iterdir()):
        text = path.read_text(encoding="utf-8")
        found[path.name] = (
            {k: v for k, v in json.loads(text).items() if k != "seconds"} if path.suffix == ".json" else text
        )
    return found


def outlived(out: Path, *, patience: float = 15.0) -> bool:
    """Whether a process of that run is there after some seconds."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        alive = [p for p in Path("/proc").glob("[0-9]*") if str(out) in _told(p / "environ")]
        if not alive:
            return False
        time.sleep(0.2)
    return True


def _told(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:  # it has ended
        return ""


def killed(out: Path, moment: float | None, files: int) -> dict[str, Any]:
    """A run that was killed after so many seconds, or when its folder has more than `files` files, and resumed."""
    environment = os.environ | {"MIPS_KILL_FOLDER": str(out)}  # by which its processes are known
    begun = time.monotonic()
    with subprocess.Popen(
        command(out),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while process.poll() is None:
            if moment is not None and time.monotonic() - begun >= moment:
                break
            if moment is None and out.is_dir() and sum(1 for _ in out.iterdir()) > files:
                break
            time.sleep(0.0002)
        process.send_signal(signal.SIGKILL)
    after = time.monotonic() - begun
    there = sorted(p.name for p in out.iterdir()) if out.is_dir() else []
    orphans = outlived(out)
    done = subprocess.run(command(out), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"resumed after {after:.1f} s: {done.stderr}")
    return {
        "seconds": round(after, 2),
        "files": len(there),
        "partial": sum(n.endswith(".partial") for n in there),
        "orphans": orphans,
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--quick", action="store_true", help="two kills")
    asked = parser.parse_args()
    kills, rng, rows = 2 if asked.quick else asked.kills, random.Random(asked.seed), []
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        for warm in (False, True):  # the second time programs are compiled already
            begun = time.monotonic()
            subprocess.run(
                command(whole if not warm else Path(scratch) / "warm"), check=True, stdout=subprocess.DEVNULL
            )
            seconds = time.monotonic() - begun
        print(f"uninterrupted: {seconds:.1f} s", flush=True)
        expected = findings(whole)
        for number in range(kills):
            out = Path(scratch) / f"killed{number}"
            writing = number % 2 == 1
            row = killed(out, None if writing else rng.uniform(0, seconds), rng.randrange(2 * len(TASKS) - 1))
            row = {"while": "writing" if writing else "any time", **row, "equal": findings(out) == expected}
            rows.append(row)
            print(
                f"killed {row['while']} after {row['seconds']:5.2f} s, {row['files']} files there, "
                f"{row['partial']} of them partial; {'equal' if row['equal'] else 'DIFFERENT'}"
                f"{', processes OUTLIVED it' if row['orphans'] else ''}",
                flush=True,
            )
    bad = sum(row["orphans"] or not row["equal"] for row in rows)
    print(f"{len(rows)} kills, {bad} with another end than the uninterrupted run")
    output.write(output.results(quick=asked.quick) / "mips_kill.json", rows)
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
