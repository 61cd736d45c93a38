"""Tunes an optimizer as the published runs were: `python -m benchmarks.lodo_tune NAME [--task quadratic]`.

Evolution strategy of ten generations. Hyperparameters live in log space (learning rates,
epsilons: ln x; momenta: ln(1 - x), x at least 0). A generation draws a population around the
mean, runs each member for T steps, scores it by the mean loss of the last tenth, and the
next mean is the average of the better half of the finite runs. The population is vmapped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
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
from lodo.tasks import quadratic, rosenbrock


class Space(NamedTuple):
    """An optimizer's hyperparameters: names, kinds ("log" or "momentum"), start, and how to make it."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    start: tuple[float, ...]
    make: Callable[..., Any]


SPACES = {
    "Momentum": Space(("learning_rate", "momentum"), ("log", "momentum"), (0.01, 0.0), optax.sgd),
    "RMSprop": Space(
        ("learning_rate", "rho", "momentum"), ("log", "log", "momentum"), (1e-3, 0.9, 0.0), baselines.rmsprop
    ),
    "Adam": Space(
        ("learning_rate", "b1", "b2"),
        ("log", "momentum", "momentum"),
        (1e-3, 0.9, 0.999),
        lodo.reference_adam,
    ),
    "Yogi": Space(
        ("learning_rate", "b1", "b2"), ("log", "momentum", "momentum"), (1e-3, 0.9, 0.999), baselines.yogi
    ),
    "LODO": Space(
        ("learning_rate", "meta_learning_rate", "decay"),
        ("log", "log", "momentum"),
        (1.0, 1e-3, 0.9),
        lodo.lodo,
    ),
    "LODO-Diagonal": Space(
        ("learning_rate", "meta_learning_rate", "decay"),
        ("log", "log", "momentum"),
        (1.0, 1e-3, 0.9),
        lambda *values: lodo.lodo(*values, architecture=lodo.Diagonal()),
    ),
    "LODO-Global": Space(
        ("learning_rate", "meta_learning_rate", "decay"),
        ("log", "log", "momentum"),
        (1.0, 1e-3, 0.9),
        lambda *values: lodo.lodo(*values, architecture=lodo.Global()),
    ),
}
GENERATIONS = {
    "rosenbrock": [(sd, 200) for sd in (3, 3, 3, 2.5, 2, 1.5, 1, 0.75, 0.5, 0.3)],
    "quadratic": list(
        zip(
            (3, 3, 3, 3, 2, 1.7, 1.4, 1.2, 0.9, 0.6),
            (100, 300, 1000, *[10_000] * 7),
            strict=True,
        )
    ),
}
"""Standard deviation and steps of each generation."""


def to_log(value: Any, kind: str) -> Any:
    """Into the space that is searched."""
    return jnp.log(value) if kind == "log" else jnp.log(1 - jnp.asarray(value))


def from_log(value: Any, kind: str) -> Any:
    """Back; momenta are clipped at 0."""
    return jnp.exp(value) if kind == "log" else jnp.maximum(1 - jnp.exp(value), 0.0)


def task_loss(task: str) -> Callable[[Any, int, jax.Array], jax.Array]:
    """Losses of a run of one optimizer: (optimizer, steps, key) -> (steps,)."""
    if task == "rosenbrock":
        return lambda optimizer, steps, key: rosenbrock.run(optimizer, steps)[0]

    def noisy(optimizer: Any, steps: int, key: jax.Array) -> jax.Array:
        bowl_key, noise_key = jax.random.split(key)
        return quadratic.run(quadratic.noisy_bowl(bowl_key), optimizer, steps, key=noise_key)[0]

    return noisy


def evolve(
    space: Space,
    losses: Callable[[Any, int, jax.Array], jax.Array],
    generations: Sequence[tuple[float, int]],
    *,
    key: jax.Array,
    population: int = 32,
    report: Callable[[str], None] = print,
) -> tuple[dict[str, float], float]:
    """Tuned hyperparameters, and the mean score of the last generation's better half.

    Raises: RuntimeError if no member of a generation stays finite.
    """
    mean = jnp.stack([to_log(v, k) for v, k in zip(space.start, space.kinds, strict=True)])
    score = float("nan")

    def values_of(point: jax.Array) -> list[jax.Array]:
        return [from_log(point[i], kind) for i, kind in enumerate(space.kinds)]

    for index, (sd, steps) in enumerate(generations):
        begun = time.perf_counter()
        draw_key, run_key = jax.random.split(jax.random.fold_in(key, index))
        points = mean[None] + sd * jax.random.normal(draw_key, (population, len(space.kinds)))

        def member(point, key, steps=steps):
            values = losses(space.make(*values_of(point)), steps, key)
            return values[int(0.9 * steps) :].mean()

        scores = np.asarray(jax.jit(jax.vmap(member))(points, jax.random.split(run_key, population)))
        finite = np.flatnonzero(np.isfinite(scores))
        if not len(finite):
            raise RuntimeError(f"generation {index + 1}: none of {population} runs stayed finite")
        best = finite[np.argsort(scores[finite])][: max(len(finite) // 2, 1)]
        mean, score = points[best].mean(0), float(scores[best].mean())
        tuned = dict(zip(space.names, (float(v) for v in values_of(mean)), strict=True))
        told = ", ".join(f"{n} {v:.4g}" for n, v in tuned.items())
        report(f"generation {index + 1}: {score:.4g} ({told}) [{time.perf_counter() - begun:.0f} s]")
    return dict(zip(space.names, (float(v) for v in values_of(mean)), strict=True)), score


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(SPACES))
    parser.add_argument("--task", choices=sorted(GENERATIONS), default="quadratic")
    parser.add_argument("--quick", action="store_true", help="1,000 steps at most, 16 members")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generations = GENERATIONS[arguments.task]
    if arguments.quick:
        generations = [(sd, min(steps, 1000)) for sd, steps in generations]
    tuned, score = evolve(
        SPACES[arguments.name],
        task_loss(arguments.task),
        generations,
        key=jax.random.key(arguments.seed),
        population=16 if arguments.quick else 32,
    )
    print(json.dumps({"optimizer": arguments.name, "task": arguments.task, "score": score} | tuned))
    return 0


if __name__ == "__main__":
    sys.exit(main())
