"""Compiles every hot loop for TPUs and GPUs that need not be here, and says what the compilers make of it.

`python -m benchmarks.accelerators [--target v5e h100 ...] [--only lodo/ ...] [--quick]`. Needs the extras
`aot-tpu` (libtpu) and `aot-cuda`. Writes benchmarks/results/accelerators.json; exits with 1 where a bound
below is exceeded or a loop does not compile. Every figure is the compiler's, none a clock's, but for the
seconds that compilation took here.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import output
from benchmarks.accelerators.compiling import compiled_row
from benchmarks.accelerators.targets import TARGETS, Target, check_installed

BOUNDS: dict[tuple[str, str], dict[str, float]] = {
    ("compressarc/devices", "v5e"): {"collectives": 0},
    ("compressarc/devices", "h100"): {"collectives": 0},
    ("lodo/random", "v5e"): {"padding": 1.3, "program, MB": 120},
    ("lodo/shuffle", "v5e"): {"kernels": 1200, "padding": 1.3, "temporaries, MB": 60, "program, MB": 120},
    ("lodo/shuffle", "h100"): {"kernels": 200, "temporaries, MB": 40},
    # a gathered vector for each layer, direction and product, but the two that are read where they are
    ("lodo/devices", "v5e"): {"padding": 1.3, "temporaries, MB": 100, "collectives": 62},
    ("lodo/devices", "h100"): {"temporaries, MB": 40, "collectives": 62},
    ("features/topk", "v5e"): {"padding": 1.3, "temporaries, MB": 800, "sorts": 0},
    ("features/topk", "h100"): {"kernels": 250, "sorts": 0},
    ("features/relu", "v5e"): {"padding": 1.3},
    ("features/decoder", "v5e"): {"kernels": 1300, "padding": 1.3, "temporaries, MB": 120},
    ("features/decoder", "h100"): {"kernels": 1100, "temporaries, MB": 60},
    # a sum over devices after attention and after the MLP of each of 30 blocks, and one of embeddings
    ("features/devices", "v5e"): {"padding": 1.3, "collectives": 61},
    ("features/devices", "h100"): {"collectives": 61},
    ("hypernet/tables", "v5e"): {"kernels": 1000, "scatters": 0},
    ("hypernet/tables", "h100"): {"kernels": 300, "temporaries, MB": 60},
    ("hypernet/modes", "v5e"): {"kernels": 1000, "scatters": 0},
    ("hypernet/modes", "h100"): {"kernels": 300},
    ("hypernet/devices", "v5e"): {"collectives": 0},
    ("hypernet/devices", "h100"): {"collectives": 0},
    ("mips/relu", "v5e"): {"kernels": 300},
    ("mips/gru", "v5e"): {"kernels": 300, "padding": 1.3, "temporaries, MB": 400},
    ("mips/gru", "h100"): {"kernels": 200, "temporaries, MB": 300},
    ("mips/affine", "v5e"): {"kernels": 300, "padding": 1.3, "temporaries, MB": 400},
    ("mips/affine", "h100"): {"kernels": 200, "temporaries, MB": 300},
    ("mips/devices", "v5e"): {"collectives": 0},
    ("mips/devices", "h100"): {"collectives": 0},
}
"""By loop and target: the most kernels, padding, megabytes and collectives that are accepted."""


def said(stderr: str) -> str:
    """What a process that failed says: the line that names the exception, else the last."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (named or lines or ["no message"])[-1][:500]


def compile_apart(name: str, target: Target, limit: float) -> dict[str, Any]:
    """Compiles in a process of its own: no loop finds what another has traced, and none ends the others."""
    command = [sys.executable, "-m", "benchmarks.accelerators", "--child", name, "--target", target.name]
    try:
        done = subprocess.run(
            command,
            env=os.environ | target.environment(),
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"loop": name, "target": target.name, "error": f"not compiled within {limit:.0f} s"}
    if done.returncode:
        return {"loop": name, "target": target.name, "error": said(done.stderr)}
    return json.loads(done.stdout.splitlines()[-1])


def exceeded(row: dict[str, Any]) -> list[str]:
    """Which bounds a loop exceeds."""
    bounds = BOUNDS.get((row["loop"], row["target"]), {})
    values = {
        "kernels": row.get("kernels", 0),
        "padding": row.get("padding", 0),
        "temporaries, MB": row.get("temporary_bytes", 0) / 1e6,
        "program, MB": row.get("program_bytes", 0) / 1e6,
        "sorts": row.get("sorts", 0),
        "scatters": row.get("scatters", 0),
        "collectives": sum(row.get("collectives", {}).values()),
    }
    return [f"{key} {values[key]:.4g} > {most:.4g}" for key, most in bounds.items() if values[key] > most]


HEADER = (
    f"{'loop':28s}{'target':>8s}{'compile s':>10s}{'temp MB':>9s}{'args MB':>9s}{'prog MB':>9s}"
    f"{'HBM MB':>9s}{'padded':>8s}{'kernels':>9s}{'DMA':>7s}{'M cycles':>9s}  products; collectives"
)


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    if "error" in row:
        return f"{row['loop']:28s}{row['target']:>8s}  {row['error']}"
    products = ", ".join(f"{count} {kind}" for kind, count in row["products"].items())
    collectives = ", ".join(f"{count} {kind}" for kind, count in row["collectives"].items())
    beyond = "; ".join(exceeded(row))
    return (
        f"{row['loop']:28s}{row['target']:>8s}{row['compile_seconds']:10.1f}{row['temporary_bytes'] / 1e6:9.1f}"
        f"{row['argument_bytes'] / 1e6:9.1f}{row['program_bytes'] / 1e6:9.1f}{row['far_logical'] / 1e6:9.1f}"
        f"{row['padding']:7.2f}x{row['kernels']:9,d}{row['transfers']:7,d}{row['cycles'] / 1e6:9.2f}"
        f"  {products or 'none'}; {collectives or 'none'}{'  BEYOND: ' + beyond if beyond else ''}"
    )


def updated(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a file holds, with these rows in the place of those of the same loops and targets."""
    from benchmarks.accelerators.loops import LOOPS

    before = json.loads(path.read_text()) if path.exists() else []
    found = {(row["target"], row["loop"]): row for row in before} | {
        (r["target"], r["loop"]): r for r in rows
    }
    order = list(LOOPS)
    return sorted(
        found.values(), key=lambda r: (r["target"], order.index(r["loop"]) if r["loop"] in order else -1)
    )


COLUMNS = (
    "loop", "v5e: compile s", "temporaries MB", "program MB", "HBM MB", "padded", "kernels + DMA", "M cycles",
    "H100: compile s", "temporaries MB", "MB moved", "kernels", "collectives",
)  # fmt: skip


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of docs/accelerators.md."""
    found = {(row["loop"], row["target"]): row for row in rows}
    megabytes = lambda count: f"{count / 1e6:,.0f}" if count >= 1e8 else f"{count / 1e6:.1f}"  # noqa: E731

    def of_tpu(row: dict[str, Any]) -> list[str]:
        if "error" in row:
            short = "does not fit" if "RESOURCE_EXHAUSTED" in row["error"] else "fails"
            return [short, *["-"] * 6]
        return [
            f"{row['compile_seconds']:.1f}", megabytes(row["temporary_bytes"]), megabytes(row["program_bytes"]),
            megabytes(row["far_logical"]), f"{row['padding']:.2f}",
            f"{row['kernels']:,} + {row['transfers']:,}", f"{row['cycles'] / 1e6:,.2f}",
        ]  # fmt: skip

    def of_gpu(row: dict[str, Any]) -> list[str]:
        if "error" in row:
            return ["fails", *["-"] * 3]
        return [
            f"{row['compile_seconds']:.1f}", megabytes(row["temporary_bytes"]), megabytes(row["far_logical"]),
            f"{row['kernels']:,}",
        ]  # fmt: skip

    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for loop in dict.fromkeys(row["loop"] for row in rows):
        tpu, gpu = found.get((loop, "v5e")), found.get((loop, "h100"))
        crossed = (tpu or {}).get("collectives") or (gpu or {}).get("collectives") or {}
        cells = (
            [loop]
            + (of_tpu(tpu) if tpu else ["-"] * 7)
            + (of_gpu(gpu) if gpu else ["-"] * 4)
            + [", ".join(f"{count} {kind}" for kind, count in crossed.items()) or "0"]
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def stamped(row: dict[str, Any]) -> dict[str, Any]:
    """A row that says when it was made, and with which JAX."""
    return row | {"jax": importlib.metadata.version("jax"), "date": time.strftime("%Y-%m-%d")}


def main() -> int:
    """Command line."""
    from benchmarks.accelerators.loops import LOOPS, QUICK, loop_of

    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerators", description=__doc__)
    parser.add_argument("--target", nargs="+", choices=sorted(TARGETS), default=["v5e", "h100"])
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="loops whose names begin so, or `compressarc/PUZZLE x LANES`",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a loop of each package that compiles in seconds"
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="put these rows in the place of their like in the committed results",
    )
    parser.add_argument("--table", action="store_true", help="print the committed results, compile nothing")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for each loop")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    targets = [TARGETS[name] for name in asked.target]
    if asked.child:
        print(json.dumps(compiled_row(asked.child, targets[0])))
        return 0
    if asked.table:
        print(markdown(json.loads((output.COMMITTED / "accelerators.json").read_text())), end="")
        return 0
    names = [
        n for n in (QUICK if asked.quick else LOOPS) if not asked.only or n.startswith(tuple(asked.only))
    ]
    for name in asked.only:
        with contextlib.suppress(KeyError):  # the beginning of a name
            names += [name] if loop_of(name) and name not in names else []
    if not names:
        parser.error(f"--only {' '.join(asked.only)}: no such loop; there are {', '.join(LOOPS)}")
    for target in targets:
        try:
            check_installed(target)
        except ModuleNotFoundError as missing:
            parser.error(str(missing))
    path = output.results(quick=not asked.update and (asked.quick or bool(asked.only))) / "accelerators.json"
    rows = []
    print(HEADER)
    for target in targets:
        for name in names:
            rows.append(stamped(compile_apart(name, target, asked.limit)))
            output.write(path, updated(path, rows[-1:]) if asked.update else rows)  # hours may follow
            print(line(rows[-1]), flush=True)
    print("bytes, kernels and cycles of one step, by XLA's compiler for the target; no device has run this")
    print(path)
    return int(any("error" in row or exceeded(row) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
