"""What matrix products of fewer bits do to a run: `python -m benchmarks.compressarc_products --golden FILE.npz`.

Emulates on any device the operands of an accelerator's fast products: bfloat16 (TPUs) keeps 8 significant bits,
TF32 (GPUs) 11; sums stay in float32. Takes the golden's 51 deterministic steps with each and prints the loss
beside that of float32. The run is chaotic (docs/compressarc.md, "Exactness"): two float32 runs whose weights
differ by one rounding are shown, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import compressarc_parity as parity
from benchmarks import output
from compressarc.config import SolveConfig
from compressarc.network.layers import axes
from compressarc.solver.step import optimizer

MANTISSA = {"float32": 23, "TF32": 10, "bfloat16": 7}
"""Bits after the leading one."""


@contextlib.contextmanager
def products(bits: int, *, averages: bool = False) -> Iterator[None]:
    """While this holds, traced products round their operands to so many bits after the leading one.

    averages: those too that are to be exact, which average, add up or choose.
    """
    from jax._src.lax import lax

    exact = lax.dot_general

    def rounded(a: Any, b: Any, *arguments: Any, **options: Any) -> Any:
        if not averages and "HIGHEST" in str(options.get("precision")):
            return exact(a, b, *arguments, **options)
        a, b = (jax.lax.reduce_precision(jnp.asarray(z), 8, bits) for z in (a, b))
        return exact(a, b, *arguments, **options)

    jax.clear_caches()  # what JAX has traced of its own functions would be taken as it is
    with (
        mock.patch.object(lax, "dot_general", rounded),
        mock.patch.object(jax.lax, "dot_general", rounded),
        mock.patch.object(axes, "_CHEAP", sys.maxsize),  # a product with one, which only CPUs make
    ):
        yield
    jax.clear_caches()


def losses(
    golden: parity.Golden, bits: int, steps: int, *, averages: bool = False
) -> tuple[list[float], float]:
    """The loss of every step of a deterministic run, and the length of its first gradient."""
    noise = parity.noise_of(golden, "zero", jnp.float32)
    tx = optimizer(SolveConfig().program)
    params, state, found = golden.params, tx.init(golden.params), []
    with products(bits, averages=averages):
        compiled = parity.value_and_grad(golden).lower(params, noise, jnp.int32(0)).compile()

    @jax.jit
    def update(gradients: Any, state: Any, params: Any) -> Any:
        updates, state = tx.update(gradients, state, params)
        return jax.tree.map(lambda p, u: p + u, params, updates), state

    first = 0.0
    for t in range(steps):
        (total, _), gradients = compiled(params, noise, jnp.int32(t))
        if t == 0:
            first = float(jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradients))))
        found.append(float(total))
        params, state = update(gradients, state, params)
    return found, first


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--golden", required=True, help="golden file (.npz)")
    parser.add_argument("--quick", action="store_true", help="5 steps")
    asked = parser.parse_args()
    golden, steps = parity.load(asked.golden, jnp.float32), 5 if asked.quick else 51
    found = {name: losses(golden, bits, steps) for name, bits in MANTISSA.items()}
    found["bfloat16, averages too"] = losses(golden, MANTISSA["bfloat16"], steps, averages=True)
    nearby = list(parity.neighbors(golden, 2))
    found |= {f"float32, one rounding off ({i})": losses(g, 23, steps) for i, g in enumerate(nearby)}
    exact, length = found["float32"]
    shown = [t for t in (0, 1, 2, 5, 10, 20, 30, 40, 50) if t < steps]
    print(f"{Path(asked.golden).stem}: loss relative to float32's, step by step")
    print(f"{'products':28s}{'gradient':>10s}" + "".join(f"{t:>10d}" for t in shown) + f"{'last':>12s}")
    rows = {}
    for name, (run, gradient) in found.items():
        difference = np.array(run) / np.array(exact) - 1
        print(
            f"{name:28s}{gradient / length - 1:10.1e}"
            + "".join(f"{difference[t]:10.1e}" for t in shown)
            + f"{run[-1]:12.1f}"
        )
        rows[name] = {"loss": run, "gradient": gradient}
    path = output.results(quick=asked.quick) / f"compressarc_products_{Path(asked.golden).stem}.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")
    print(path)
    return 0 if all(np.isfinite(run).all() for run, _ in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
