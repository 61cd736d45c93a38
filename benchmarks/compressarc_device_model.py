"""What the plan's device model rests on: `python -m benchmarks.compressarc_device_model [--target v5e h100]`.

Compiles padded rooms for devices that need not be here (docs/accelerators.md), takes kernels, bytes,
cycles, memory and seconds of compilation from what the compiler says, and fits them as the model has
them: linear in the work of a room. Then compares the model with the compiler on rooms that took no
part in the fit. `--fit` compiles nothing and reads the committed rows; `--quick` compiles two rooms.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

import numpy as np

from benchmarks import output
from benchmarks.accelerators.__main__ import compile_apart, stamped
from benchmarks.accelerators.targets import TARGETS, check_installed
from compressarc.batch.device_model import TILE, DeviceModel, Fitted, device_model
from compressarc.batch.plan import work
from compressarc.multitensor import Shape

ROOMS = {
    "h100": {
        "fit": ["3x2x3x3 x 64", "4x4x6x6 x 64", "5x5x10x10 x 64", "4x3x15x15 x 64", "6x6x12x12 x 64",
                "4x8x20x20 x 16", "8x3x9x16 x 64", "3x4x28x28 x 16"],
        "held out": ["3x6x5x9 x 64", "5x3x13x13 x 64", "4x7x10x14 x 64", "4x5x18x18 x 64", "3x3x24x24 x 64",
                     "5x9x21x21 x 16"],
    },
    "v5e": {
        "fit": ["3x2x3x3 x 128", "4x4x6x6 x 128", "5x5x10x10 x 128", "4x4x6x6 x 1", "5x5x10x10 x 1",
                "3x4x28x28 x 1"],
        "held out": ["3x6x5x9 x 128", "5x3x13x13 x 128", "3x6x5x9 x 1", "4x7x10x14 x 1", "4x5x18x18 x 1",
                     "3x3x24x24 x 1"],
    },
}  # fmt: skip
"""Examples, colors, rows and columns, and lanes: those that a plan would take."""
LIMIT = 1.5
"""How far the model may be from the compiler on rooms held out, as a factor."""


def size_of(room: str) -> tuple[int, int]:
    """Work and lanes."""
    shape, lanes = room.split(" x ")
    return work(Shape(*map(int, shape.split("x")))), int(lanes)


def measured(row: dict[str, Any]) -> dict[str, float]:
    """What the model is to say of one program."""
    return {
        "kernels": row["kernels"] + row["transfers"],
        "bytes": row["far_padded"],
        "cycles": row["cycles"],
        "memory": row["temporary_bytes"] + row["argument_bytes"],
        "program": row["program_bytes"],
        "compile_seconds": row["compile_seconds"],
    }


def linear(x: list[float], y: list[float]) -> tuple[float, float]:
    """The line a + b x that is closest in relative terms; neither is negative."""
    from scipy.optimize import nnls

    weight = 1 / np.array(y)
    table = np.stack([np.ones(len(x)), np.array(x)], 1) * weight[:, None]
    (a, b), _ = nnls(table, np.ones(len(x)))
    return float(f"{a:.4g}"), float(f"{b:.4g}")


def fit(rows: list[dict[str, Any]], lanes: int) -> Fitted:
    """The model of one target from rows of padded rooms; lanes: what its figures are of."""
    figures, sizes = [measured(row) for row in rows], [size_of(row["room"]) for row in rows]
    if not rows:
        return Fitted()
    works = [float(size) for size, _ in sizes]

    def over(name: str, each: int | None = None) -> tuple[float, float]:
        values = [
            f[name] / (count / each if each else 1) for f, (_, count) in zip(figures, sizes, strict=True)
        ]
        return linear(works, values) if all(values) else (0.0, 0.0)

    return Fitted(
        kernels=float(f"{np.exp(np.mean(np.log([f['kernels'] for f in figures]))):.4g}"),
        bytes=over("bytes", lanes),
        cycles=over("cycles", lanes),
        memory=over("memory", lanes),
        program=over("program"),
        compile_seconds=over("compile_seconds"),
    )


def compare(rows: list[dict[str, Any]], model: DeviceModel) -> float:
    """Prints model and compiler side by side; returns the largest factor between them."""
    worst = 1.0
    names = [field.name for field in dataclasses.fields(Fitted)]
    print(f"{'room':18s}" + "".join(f"{name + ' (model)':>28s}" for name in names))
    for row in rows:
        said, own = measured(row), model.said(*size_of(row["room"]))
        cells = ""
        for name in names:
            if not said[name] or not own[name]:
                cells += f"{'-':>28s}"
                continue
            factor = max(said[name] / own[name], own[name] / said[name])
            worst = max(worst, factor)
            cells += f"{said[name]:>14.4g}{own[name]:>9.3g} {factor:3.2f}x"
        print(f"{row['room']:18s}{cells}")
    return worst


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", nargs="+", choices=("v5e", "h100"), default=["h100", "v5e"])
    parser.add_argument("--fit", action="store_true", help="from the committed rows, compile nothing")
    parser.add_argument("--missing", action="store_true", help="compile only rooms without a committed row")
    parser.add_argument("--quick", action="store_true", help="two rooms")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for each room")
    asked = parser.parse_args()
    committed = output.COMMITTED / "compressarc_device_model.json"
    path = output.results(quick=asked.quick) / "compressarc_device_model.json"
    rows = json.loads(committed.read_text()) if committed.exists() and not asked.quick else []
    for target in asked.target if not asked.fit else []:
        check_installed(TARGETS[target])
        rooms = [room for part in ROOMS[target].values() for room in (part[:1] if asked.quick else part)]
        for room in rooms:
            same = [r for r in rows if (r["target"], r["room"]) == (target, room)]
            if asked.missing and same:
                continue
            row = stamped(compile_apart(f"compressarc/room {room}", TARGETS[target], asked.limit))
            if "error" in row:
                print(target, room, row["error"], flush=True)
                continue
            rows = [r for r in rows if r not in same] + [row | {"room": room}]
            output.write(path, rows)
            print(target, room, {k: f"{v:.4g}" for k, v in measured(row).items()}, flush=True)
    found = 0
    for target in asked.target:
        own = [row for row in rows if row["target"] == target]
        chosen, held = ([r for r in own if r["room"] in rooms] for rooms in ROOMS[target].values())
        if len(chosen) < 2 or not held:
            print(f"{target}: no rows to fit")
            continue
        before = device_model(target)
        small = [row for row in chosen if before.is_small(*size_of(row["room"]))]
        many = [row for row in chosen if row not in small]
        model = dataclasses.replace(
            before, fitted=fit(many, TILE if before.is_tpu else 1), small=fit(small, 1)
        )
        print(f"\n{target}: fitted={model.fitted}\n  small={model.small}")
        if model != before:
            print("  (compressarc.batch.device_model has other figures)")
        worst = compare(held, model)
        print(f"{target}, rooms held out: within {worst:.2f}x of the compiler, asked {LIMIT}x")
        found += worst > LIMIT
    return int(found > 0 and not asked.quick)


if __name__ == "__main__":
    sys.exit(main())
