"""What one LODO update costs: `python -m benchmarks.lodo_update [--quick]`.

In one run, for a vector of n = 94,696 in single precision (16 layers, blocks of 4): wall and
CPU time of a jitted update with donated state, with shuffled and with random permutations;
`optax.adam` on the same vector; a plain automatic-differentiation form of the hypergradient;
the machine's copy bandwidth and the lower bound it sets (theta read four times, moments
once, all three written once: 9 x 4 bytes a weight); compile seconds; bytes of state; peak
memory. And n = 100 inside `lax.scan`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.output import results

if TYPE_CHECKING:
    import optax

N = 94_696


def copy_bandwidth(megabytes: int = 512) -> float:
    """Bytes read and written a second by a large copy on all cores, best of five."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones(megabytes * 2**18, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    jax.block_until_ready(copy(a))
    best = 1e9
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(copy(a))
        best = min(best, time.perf_counter() - start)
    return 2 * a.nbytes / best


def in_place_bandwidth(megabytes: int = 512) -> float:
    """As `copy_bandwidth`, into the same, donated memory: no page faults."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones(megabytes * 2**18, jnp.float32)
    size = a.nbytes
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    a = jax.block_until_ready(add(a))
    best = 1e9
    for _ in range(5):
        start = time.perf_counter()
        a = jax.block_until_ready(add(a))
        best = min(best, time.perf_counter() - start)
    return 2 * size / best


def _time(update, gradient, state, params, repeats: int) -> tuple[float, float, Any]:
    """Median wall and mean CPU seconds of an update whose state is donated."""
    import jax

    walls = []
    for _ in range(3):
        out, state = update(gradient, state, params)
    jax.block_until_ready(state)
    cpu = time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        out, state = update(gradient, state, params)
        jax.block_until_ready((out, state))
        walls.append(time.perf_counter() - start)
    return statistics.median(walls), (time.process_time() - cpu) / repeats, state


def automatic(permutation: Literal["random", "shuffle"]) -> optax.GradientTransformation:
    """LODO's update with the hypergradient by `jax.vjp` through the step, nothing cached."""
    import jax
    import jax.numpy as jnp
    import optax

    import lodo
    from lodo.transform import LodoState

    architecture = lodo.BlockNetwork(permutation=permutation)
    meta = lodo.reference_adam(1e-3)
    like = lodo.lodo(0.1, architecture=lodo.BlockNetwork(permutation=permutation))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        g = updates
        step = lambda theta: -state.rate * architecture.apply(theta, state.wiring, state.momentum)[0]  # noqa: E731
        (hypergradient,) = jax.vjp(step, state.theta)[1](g)
        change, meta_state = meta.update(hypergradient, state.meta, state.theta)
        theta: Any = optax.apply_updates(state.theta, change)
        momentum = 0.9 * state.momentum + 0.1 * g
        direction, _ = architecture.apply(theta, state.wiring, momentum)
        rate = jnp.asarray(0.1, g.dtype)
        new = LodoState(state.count + 1, rate, momentum, theta, state.wiring, state.trace, meta_state)
        return -rate * direction, new

    return optax.GradientTransformation(like.init, update)


def measure(name: str, repeats: int) -> dict[str, Any]:
    """One optimizer, in a process of its own."""
    import jax
    import jax.numpy as jnp
    import optax

    import lodo
    from lodo.trees import num_bytes

    optimizers = {
        "adam": lambda: optax.adam(1e-3),
        "shuffle": lambda: lodo.lodo(0.1, architecture=lodo.BlockNetwork(permutation="shuffle")),
        "random": lambda: lodo.lodo(0.1),
        "shuffle, automatic": lambda: automatic("shuffle"),
        "random, automatic": lambda: automatic("random"),
    }
    row: dict[str, Any] = {"optimizer": name}
    optimizer = optimizers[name]()
    params = jnp.zeros(N)
    gradient = jax.random.normal(jax.random.key(1), (N,)) * 1e-3
    state = jax.block_until_ready(jax.jit(optimizer.init)(params))
    row["state_megabytes"] = num_bytes(state) / 1e6
    row["bandwidth"] = copy_bandwidth(256)
    row["bandwidth_in_place"] = in_place_bandwidth(256)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    update = jax.jit(optimizer.update, donate_argnums=1).lower(gradient, state, params).compile()
    row["compile_seconds"] = time.perf_counter() - begun
    memory: Any = update.memory_analysis()
    row["temporary_megabytes"] = memory.temp_size_in_bytes / 1e6
    row["seconds"], row["cpu_seconds"], state = _time(update, gradient, state, params, repeats)
    row["peak_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    row["peak_megabytes_before_compiling"] = before / 1e3
    weights = sum(leaf.size for leaf in jax.tree.leaves(getattr(state, "theta", ())))
    row["bytes_of_lower_bound"] = 9 * 4 * weights if weights else 7 * 4 * N
    return row


def measure_small(steps: int = 20_000) -> dict[str, float]:
    """Seconds a step of the noisy bowl, n = 100, inside `lax.scan`."""
    import jax

    import lodo
    from lodo.tasks import quadratic

    out = {}
    for permutation in ("shuffle", "random"):
        bowl = quadratic.noisy_bowl(jax.random.key(0))
        optimizer = lodo.lodo(0.27, 9.6e-4, 0.195, architecture=lodo.BlockNetwork(permutation=permutation))
        run = jax.jit(
            lambda key, optimizer=optimizer, bowl=bowl: quadratic.run(bowl, optimizer, steps, key=key)[0]
        )
        jax.block_until_ready(run(jax.random.key(1)))
        start = time.perf_counter()
        jax.block_until_ready(run(jax.random.key(2)))
        out[permutation] = (time.perf_counter() - start) / steps
    return out


def _child(*arguments: str) -> Any:
    command = [sys.executable, "-m", "benchmarks.lodo_update", *arguments]
    # Large blocks go back to the system after every update otherwise, and come as page faults.
    environment = os.environ | {
        "MALLOC_TRIM_THRESHOLD_": "4000000000",
        "MALLOC_MMAP_THRESHOLD_": "4000000000",
    }
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repeats, no automatic differentiation")
    parser.add_argument("--json", type=Path, help="default: benchmarks/results, or a folder quick in it")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=40, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure == "small":
        print(json.dumps(measure_small()))
        return 0
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.repeats)))
        return 0
    names = ["adam", "shuffle", "random"] + (
        [] if arguments.quick else ["shuffle, automatic", "random, automatic"]
    )
    rows = [_child("--measure", name, "--repeats", "10" if arguments.quick else "40") for name in names]
    bandwidth = max(row["bandwidth_in_place"] for row in rows)
    adam = rows[0]["seconds"]
    print(f"n = {N:,}, float32; copy bandwidth {bandwidth / 1e9:.1f} GB/s in place, ", end="")
    print(f"{max(row['bandwidth'] for row in rows) / 1e9:.1f} GB/s into new memory")
    limits = {"shuffle": 3, "random": 5}
    short = 0
    for row in rows:
        bound = row["bytes_of_lower_bound"] / bandwidth
        row["lower_bound_seconds"], row["times_bound"] = bound, row["seconds"] / bound
        row["times_adam"] = row["seconds"] / adam
        limit = limits.get(row["optimizer"])
        note = f" (at most {limit})" if limit else ""
        short += bool(limit and row["times_bound"] > limit)
        print(
            f"{row['optimizer']:20s} {1e3 * row['seconds']:8.2f} ms ({1e3 * row['cpu_seconds']:.1f} ms CPU) = "
            f"{row['times_bound']:5.2f} x its memory bound of {1e3 * bound:.2f} ms{note}, "
            f"{row['times_adam']:6.1f} x adam; compile {row['compile_seconds']:.1f} s; "
            f"state {row['state_megabytes']:.1f} MB, temporaries {row['temporary_megabytes']:.0f} MB"
        )
    small = _child("--measure", "small")
    print(
        "n = 100 in lax.scan: "
        + ", ".join(f"{k} {1e3 * v:.3f} ms a step (at most 0.3)" for k, v in small.items())
    )
    output = arguments.json or results(quick=arguments.quick) / "lodo_update.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"rows": rows, "small": small, "bandwidth": bandwidth}, indent=1))
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
