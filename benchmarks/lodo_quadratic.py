"""The noisy quadratic bowl: `python -m benchmarks.lodo_quadratic [--quick]`.

n = 100, eigenvalues 0.001 to 1, the minimum takes a random walk. Mean loss over the last
tenth of the budget, mean and standard deviation over seeds (each with its own bowl and
noise), ours beside the reference figures; closed forms; ablations; a frozen preconditioner
on new noise; and a setting that beats the published one. No optimizer is told the Hessian
but those called oracle.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    # XLA's CPU thread pool can lose a wake-up in loops of very many tiny kernels and wait forever.
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lodo
from benchmarks import lodo_baselines as baselines
from benchmarks.output import results
from lodo.tasks import quadratic

PUBLISHED = (0.27, 9.6e-4, 0.195)
"""alpha_0, meta learning rate and decay, tuned by the authors for this task."""


class Row(NamedTuple):
    """One optimizer: how to make it from a seed's key, steps, seeds, reference figure."""

    name: str
    make: Callable[[jax.Array], optax.GradientTransformation]
    steps: int
    seeds: int
    reference: str
    asked: tuple[float, float] | None = None  # least and most that was asked of the mean


def bowl_and_key(seed: int) -> tuple[quadratic.Bowl, jax.Array]:
    """The bowl and the noise of one seed."""
    bowl_key, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(7), seed))
    return quadratic.noisy_bowl(bowl_key), noise_key


def losses(row: Row) -> np.ndarray:
    """(seeds, steps)."""

    def one(seed):
        bowl, key = bowl_and_key(seed)
        return quadratic.run(
            bowl, row.make(jax.random.fold_in(jax.random.key(99), seed)), row.steps, key=key
        )[0]

    return np.asarray(jax.jit(jax.vmap(one))(jnp.arange(row.seeds)))


def last_tenth(values: np.ndarray, steps: int) -> np.ndarray:
    """Mean loss over the last tenth of the first `steps` steps, per seed."""
    return values[:, int(0.9 * steps) : steps].mean(1)


def published(
    architecture: lodo.Architecture = lodo.BlockNetwork(),  # noqa: B008, frozen
    *,
    rates: tuple[float, float, float] = PUBLISHED,
    meta_optimizer: optax.GradientTransformation | None = None,
) -> Callable[[jax.Array], optax.GradientTransformation]:
    """LODO as tuned by the authors, with changes; rates: learning rate, meta learning rate, decay."""
    return lambda key: lodo.lodo(*rates, seed=key, architecture=architecture, meta_optimizer=meta_optimizer)


def improved(steps: int) -> Callable[[jax.Array], optax.GradientTransformation]:
    """The setting that beats it: twice the depth, and a meta learning rate that falls to its end."""
    start, end, decay = (2e-3, 1e-4, 0.195) if steps <= 30_000 else (1e-3, 1e-5, 0.1)
    schedule = optax.linear_schedule(start, end, steps)
    return lambda key: lodo.lodo(
        1.0, schedule, decay, seed=key, architecture=lodo.BlockNetwork(num_layers=32)
    )


def main_rows(quick: bool) -> list[Row]:
    long, seeds = (10_000, 4) if quick else (100_000, 8)
    adam = lambda key: lodo.reference_adam(0.941, 0.492, 0.9984)  # noqa: E731
    rows = [
        Row("Adam", adam, long, seeds, "16.20 +- 0.07"),
        Row("Yogi", lambda key: baselines.yogi(2.04, 0.253, 1 - 1e-4), long, seeds, "16.70 +- 0.12"),
        Row("Momentum", lambda key: optax.sgd(1.381, 0.4255), long, seeds, "16.77 +- 0.13"),
        Row("RMSprop", lambda key: baselines.rmsprop(0.269, 0.0025, 0.62), long, seeds, "29.07 +- 0.26"),
        Row("BFGS (no safeguard)", lambda key: baselines.bfgs(7.7e-5), long, seeds, "6.9e5"),
        Row(
            "LODO-Global",
            published(lodo.Global(), rates=(0.195, 0.0135, 0.193)),
            long,
            seeds,
            "17.44 +- 0.17",
        ),
        Row(
            "LODO-Diagonal",
            published(lodo.Diagonal(), rates=(0.1615, 0.014, 0.189)),
            long,
            seeds,
            "17.86 +- 0.19",
        ),
        Row("LODO", published(), 10_000, 8, "10.39 (10k)", (10.1, 10.7)),
        Row("LODO, improved", improved(10_000), 10_000, 8, "below 9.5 asked", (0, 9.5)),
    ]
    if not quick:
        rows += [
            Row("LODO", published(), long, 8, "8.88 +- 0.03", (8.78, 8.98)),
            Row(
                "LODO, shuffle",
                published(lodo.BlockNetwork(permutation="shuffle")),
                30_000,
                3,
                "9.49 +- 0.15 (30k)",
            ),
            Row("LODO, improved", improved(long), long, 8, "below 8.5 asked", (0, 8.5)),
        ]
    return rows


def ablation_rows(quick: bool) -> list[Row]:
    steps, seeds = (3_000, 2) if quick else (30_000, 2)
    network, (rate, meta_rate, decay) = lodo.BlockNetwork, PUBLISHED
    changes = [
        ("none", published(), "9.535"),
        ("decay 0 (no momentum)", published(rates=(rate, meta_rate, 0.0)), "9.982"),
        ("decay 0.5", published(rates=(rate, meta_rate, 0.5)), "11.24"),
        ("1 layer", published(network(1)), "17.55"),
        ("4 layers", published(network(4)), "13.17"),
        ("8 layers", published(network(8)), "10.73"),
        ("24 layers", published(network(24)), "9.287"),
        ("blocks of 2, 32 layers", published(network(32, 2)), "10.246"),
        ("blocks of 8, 8 layers", published(network(8, 8)), "9.443"),
        ("no permutation", published(network(permutation="identity")), "19.52"),
        ("meta-SGD 1e-3", published(meta_optimizer=optax.sgd(1e-3)), "11.13"),
        ("meta-SGD 1e-4", published(meta_optimizer=optax.sgd(1e-4)), "15.95"),
        ("meta rate 3e-3", published(rates=(rate, 3e-3, decay)), "11.36"),
        ("meta rate 3e-4", published(rates=(rate, 3e-4, decay)), "9.958"),
        ("defaults (1, 1e-3, 0.9)", published(rates=(1.0, 1e-3, 0.9)), "44.60"),
    ]
    return [Row(name, optimizer, steps, seeds, reference) for name, optimizer, reference in changes]


def closed_forms(steps: int) -> list[dict[str, Any]]:
    """Newton, best SGD and best heavy ball: closed form and simulation (oracles)."""
    lam = quadratic.eigenvalues()
    rate, momentum, ball = baselines.best_heavy_ball(lam)
    hessian = np.diag(lam)
    rotated = np.asarray(bowl_and_key(0)[0].hessian, np.float64)  # LM's diagonal depends on the axes
    cases = [
        (
            "Newton (oracle)",
            0.5 * lam.sum(),
            lambda bowl: optax.stateless(lambda g, _: -jnp.linalg.solve(bowl.hessian, g)),
        ),
        (
            "SGD 1.7509 (oracle)",
            quadratic.stationary_loss(1.7509 * np.eye(100), hessian),
            lambda bowl: optax.sgd(1.7509),
        ),
        (f"heavy ball {rate:.3f}, {momentum:.3f} (oracle)", ball, lambda bowl: optax.sgd(rate, momentum)),
        (
            "LM 0.01 (oracle)",
            quadratic.stationary_loss(
                np.linalg.solve(rotated @ rotated + 0.01 * np.diag(np.diag(rotated @ rotated)), rotated),
                rotated,
            ),
            lambda bowl: baselines.levenberg_marquardt(bowl.hessian, 0.01),
        ),
    ]
    out = []
    for name, theory, make in cases:

        def one(seed, make=make):
            bowl, key = bowl_and_key(seed)
            return quadratic.run(bowl, make(bowl), steps, key=key)[0]

        values = np.asarray(jax.jit(jax.vmap(one))(jnp.arange(4)))[:, steps // 10 :].mean(1)
        out.append({"name": name, "closed_form": float(theory), "mean": values.mean(), "std": values.std()})
    return out


def frozen_test(steps: int, seeds: int = 3) -> dict[str, Any]:
    """Theta learned over `steps`, frozen, on a new walk of the same bowl; first 1000 steps."""

    def one(seed):
        bowl, key = bowl_and_key(seed)
        optimizer = published()(jax.random.fold_in(jax.random.key(99), seed))
        values, walk = quadratic.run(bowl, optimizer, steps, key=key)
        fresh = optimizer.init(jnp.zeros(100))
        frozen = lodo.lodo(*PUBLISHED, frozen=True)
        again, _ = quadratic.run(
            bowl, frozen, 1000, key=jax.random.fold_in(key, 1), state=lodo.warm_start(walk.optimizer, fresh)
        )
        dense = lodo.dense_preconditioner(walk.optimizer, learning_rate=PUBLISHED[0])
        error = jnp.linalg.norm(jnp.eye(100) - dense @ bowl.hessian) / 10
        return again.mean(), values[:1000].mean(), error

    again, first, error = (np.asarray(a) for a in jax.jit(jax.vmap(one))(jnp.arange(seeds)))
    return {
        "frozen_first_1000": again.tolist(),
        "learning_first_1000": first.tolist(),
        "hessian_error": error.tolist(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="10,000 steps at most")
    parser.add_argument("--json", type=Path, help="default: benchmarks/results, or a folder quick in it")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"rows": [], "ablations": []}
    short = 0

    def show(row: Row, values: np.ndarray, seconds: float, section: str) -> None:
        nonlocal short
        ends = last_tenth(values, row.steps)
        mark = ""
        if row.asked:
            inside = row.asked[0] <= ends.mean() <= row.asked[1]
            mark = "  ok" if inside else "  SHORT"
            short += not inside
        print(
            f"{row.name:28s} {row.steps:7,d} steps  {ends.mean():9.3f} +- {ends.std():.3f} "
            f"({row.seeds} seeds; reference {row.reference}){mark}  [{seconds:.0f} s]",
            flush=True,
        )
        report[section].append(
            {
                "name": row.name,
                "steps": row.steps,
                "mean": ends.mean(),
                "std": ends.std(),
                "seeds": ends.tolist(),
                "reference": row.reference,
            }
        )

    steps = 10_000 if arguments.quick else 100_000
    print("closed forms (loss at its stationary state):")
    report["closed_forms"] = closed_forms(steps)
    for row in report["closed_forms"]:
        print(
            f"{row['name']:38s} {row['closed_form']:8.3f}  simulated {row['mean']:8.3f} +- {row['std']:.3f}"
        )
    for row in main_rows(arguments.quick):
        begun = time.perf_counter()
        show(row, losses(row), time.perf_counter() - begun, "rows")
    for average, name in ((True, "O-LBFGS"), (False, "L-BFGS, no line search")):
        begun = time.perf_counter()
        one = lambda seed, average=average: (  # noqa: E731
            baselines.online_lbfgs(
                bowl_and_key(seed)[0], steps, key=bowl_and_key(seed)[1], average_scaling=average
            )
        )
        values = np.asarray(jax.jit(jax.vmap(one))(jnp.arange(3)))
        row = Row(f"{name}, fresh", published(), steps, 3, "13.24" if average else "13.26")
        show(row, values, time.perf_counter() - begun, "rows")
    report["frozen"] = frozen_test(steps)
    frozen = report["frozen"]
    first = np.round(frozen["frozen_first_1000"], 3)
    limit = 9.5 if not arguments.quick else 11.5
    short += bool(max(first) > limit)
    print(
        f"frozen preconditioner, first 1000 steps of new noise: {first} (asked below {limit}; reference 9.21, 8.77, 8.83)"
    )
    print(
        f"  learning from scratch, first 1000: {np.round(frozen['learning_first_1000'], 2)} (reference 15.8 to 16.0)"
    )
    print(f"  Hessian error: {np.round(frozen['hessian_error'], 3)} (reference 0.750 at 100k, 0.787 at 10k)")
    print("ablations (one factor changed):")
    for row in ablation_rows(arguments.quick):
        begun = time.perf_counter()
        show(row, losses(row), time.perf_counter() - begun, "ablations")
    output = arguments.json or results(quick=arguments.quick) / "lodo_quadratic.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1, default=float))
    print("all within what was asked" if not short else f"{short} short of what was asked")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
