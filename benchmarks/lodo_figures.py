"""Draws the pictures of docs/lodo.md: `python -m benchmarks.lodo_figures [--quick] [--out docs]`."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # XLA's CPU thread pool can lose a wake-up in loops of very many tiny kernels and wait forever.
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lodo
from benchmarks.lodo_quadratic import bowl_and_key, improved, published
from lodo.tasks import quadratic


def windows(losses: np.ndarray, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Means over log-spaced windows of steps."""
    edges = np.unique(np.geomspace(20, losses.shape[1], count).astype(int))
    middle = np.sqrt(edges[:-1] * edges[1:])
    return middle, np.stack([losses[:, a:b].mean(1) for a, b in itertools.pairwise(edges)], 1)


def draw_bowl(out: Path, steps: int, seeds: int) -> None:
    """Loss against steps, and which eigendirections of the Hessian have been learned."""
    from matplotlib.figure import Figure

    makers = {
        "Adam, tuned": lambda key: lodo.reference_adam(0.941, 0.492, 0.9984),
        "heavy ball, best": lambda key: optax.sgd(1.943, 0.404),
        "LODO, as published": published(),
        "LODO, 32 layers, falling meta rate": improved(steps),
    }
    colors = ["#8a8a8a", "#c98a3c", "#2f6fb3", "#b3364a"]
    figure = Figure((10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    lam = quadratic.eigenvalues()
    for (name, make), color in zip(makers.items(), colors, strict=True):

        def one(seed, make=make):
            bowl, key = bowl_and_key(seed)
            losses, walk = quadratic.run(bowl, make(jax.random.key(99)), steps, key=key)
            return losses, walk.optimizer, bowl.hessian

        losses, states, hessians = jax.jit(jax.vmap(one))(jnp.arange(seeds))
        x, y = windows(np.asarray(losses))
        left.plot(x, y.mean(0), color=color, label=name)
        left.fill_between(x, y.min(0), y.max(0), color=color, alpha=0.15, lw=0)
        if name.startswith("LODO"):
            state = jax.tree.map(lambda a: a[0], states)
            dense = np.asarray(lodo.dense_preconditioner(state, learning_rate=state.rate))
            values, vectors = np.linalg.eigh(np.asarray(hessians[0], np.float64))
            gains = np.einsum("ij,ik,kj->j", vectors, dense, vectors)
            right.loglog(values, gains, ".", color=color, label=name)
    left.axhline(0.5 * lam.sum(), color="black", lw=0.8, ls=":", label="Newton: the least possible")
    left.set(xscale="log", yscale="log", xlabel="step", ylabel="loss (mean, range over seeds)")
    left.minorticks_off()
    left.set_yticks([7, 10, 15, 20, 30, 50], labels=["7", "10", "15", "20", "30", "50"])
    left.legend(fontsize=8)
    right.loglog(lam, 1 / lam, color="black", lw=0.8, ls=":", label="inverse Hessian")
    right.set(xlabel="eigenvalue of the Hessian", ylabel="gain of G along its eigenvector")
    right.legend(fontsize=8)
    figure.savefig(out / "lodo-bowl.png", dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3,000 steps, 2 seeds")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    if not arguments.out.is_dir():
        raise SystemExit(f"{arguments.out}: no such folder")
    draw_bowl(arguments.out, *((3_000, 2) if arguments.quick else (30_000, 4)))
    print(arguments.out / "lodo-bowl.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
