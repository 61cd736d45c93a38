"""Times every hot loop on the device that is here, beside its compiler's figures.

`python -m benchmarks.accelerators.on_device [--within 540] [--only lodo/ ...]`, or `benchmarks/on_device.sh`.
The loops are those of `python -m benchmarks.accelerators`, compiled here as users' programs are, with
autotuning; arguments are arbitrary numbers, on which time does not depend. Writes
benchmarks/results/on_device_NAME.json after every loop; exits with 1 if one fails. Loops for which no time is
left are named.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import output
from benchmarks.accelerators.compiling import Compiled, compile_loop, row_of
from benchmarks.accelerators.loops import COUNT, LOOPS, Loop
from benchmarks.accelerators.targets import Target, here

LAST = ("compressarc/272f95fa", "compressarc/3631a71a", "compressarc/bucket")
"""Take minutes to compile: what else there is comes before them."""


def arguments_for(loop: Loop, compiled: Compiled) -> list[Any]:
    """Numbers of every argument's shape: small positive ones, zeros for whole numbers."""
    draw = np.random.default_rng(0)

    def fill(shape: jax.ShapeDtypeStruct) -> Any:
        if jnp.issubdtype(shape.dtype, jnp.floating):
            values = draw.random(shape.shape, np.float32) * 0.01
        else:
            values = np.zeros(shape.shape)
        return jax.device_put(values.astype(shape.dtype), shape.sharding)

    return [
        jax.device_put(np.int32(loop.count), given.sharding) if asked is COUNT else jax.tree.map(fill, given)
        for asked, given in zip(loop.arguments, compiled.arguments, strict=True)
    ]


def seconds_a_step(loop: Loop, compiled: Compiled, *, least: float, calls: int) -> list[float]:
    """Seconds of one step in every call, after one that does not count."""
    arguments, found, begun = arguments_for(loop, compiled), [], time.perf_counter()
    while len(found) <= calls or (time.perf_counter() - begun < least and len(found) < 100 * calls):
        started = time.perf_counter()
        result = jax.block_until_ready(compiled.program(*arguments))
        found.append((time.perf_counter() - started) / (loop.steps * loop.count))
        if loop.donated:
            arguments[0] = loop.again(result)
    return found[1:]


def timed_row(name: str, target: Target, *, least: float, calls: int) -> dict[str, Any]:
    """The compiler's figures and the clock's."""
    loop = LOOPS[name](target)
    devices = jax.local_devices()
    if len(devices) < loop.devices:
        return {
            "loop": name,
            "target": target.name,
            "left_out": f"{loop.devices} devices; {len(devices)} here",
        }
    compiled = compile_loop(loop, devices)
    row = row_of(name, target, loop, compiled)
    times = seconds_a_step(loop, compiled, least=least, calls=calls)
    middle = statistics.median(times)
    return row | {
        "step_seconds": middle,
        "step_seconds_least": min(times),
        "calls": len(times),
        "bytes_a_second": row["far_padded"] / middle,
        "microseconds_a_kernel": 1e6 * middle / max(row["kernels"], 1),
    }


HEADER = (
    f"{'loop':28s}{'compile s':>10s}{'ms a step':>11s}{'least':>9s}{'moved MB':>10s}{'GB/s':>8s}{'kernels':>9s}"
    f"{'us each':>9s}{'M cycles':>10s}{'temp MB':>9s}"
)


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    if "step_seconds" not in row:
        return f"{row['loop']:28s}  {row.get('error') or 'left out: ' + row['left_out']}"
    return (
        f"{row['loop']:28s}{row['compile_seconds']:10.1f}{1e3 * row['step_seconds']:11.3f}"
        f"{1e3 * row['step_seconds_least']:9.3f}{row['far_padded'] / 1e6:10.1f}{row['bytes_a_second'] / 1e9:8.1f}"
        f"{row['kernels']:9,d}{row['microseconds_a_kernel']:9.2f}{row['cycles'] / 1e6:10.2f}"
        f"{row['temporary_bytes'] / 1e6:9.1f}"
    )


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerators.on_device", description=__doc__)
    parser.add_argument("--within", type=float, default=540, help="seconds after which no loop is begun")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="loops whose names begin so")
    parser.add_argument("--quick", action="store_true", help="few calls; results beside the committed ones")
    asked = parser.parse_args()
    names = [n for n in LOOPS if not asked.only or n.startswith(tuple(asked.only))]
    if not names:
        parser.error(f"--only {' '.join(asked.only)}: no such loop; there are {', '.join(LOOPS)}")
    begun, target, rows = time.perf_counter(), here(), []
    kind = jax.local_devices()[0].device_kind
    folder = output.results(quick=asked.quick or bool(asked.only))
    path = folder / f"on_device_{''.join(c if c.isalnum() else '_' for c in kind.lower())}.json"
    print(f"{kind} (as {target.model}), jax {jax.__version__}\n{HEADER}")
    for name in sorted(names, key=lambda n: n.startswith(LAST)):
        if time.perf_counter() - begun > asked.within:
            row: dict[str, Any] = {"loop": name, "target": target.name, "left_out": "no time"}
        else:
            try:
                calls = {"least": 0.1, "calls": 2} if asked.quick else {"least": 1.5, "calls": 5}
                row = timed_row(name, target, **calls)
            except Exception as error:  # of one loop, whatever it is: the others are timed
                row = {"loop": name, "target": target.name, "error": f"{type(error).__name__}: {error}"[:300]}
        rows.append(row)
        print(line(row), flush=True)
        output.write(path, {"device": kind, "jax": jax.__version__, "rows": rows})
        jax.clear_caches()
        gc.collect()
    print(f"{path}: {time.perf_counter() - begun:.0f} s")
    return int(any("error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
