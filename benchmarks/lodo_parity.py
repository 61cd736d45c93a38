"""Parity with recorded trajectories: `python -m benchmarks.lodo_parity --golden FILE.npz`.

Replays a golden file (quadratic, Rosenbrock, or ablations) in double precision from its
initial state, with each recorded form of the meta-Adam, and prints the largest differences
beside what is allowed. Exit status 1 if anything is beyond.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lodo
from benchmarks.checks import Check, report
from lodo import block_network as network
from lodo.preconditioners import ResidualTheta

TOLERANCE = 1e-10


class Record(NamedTuple):
    """What a replayed run left."""

    x: np.ndarray
    loss: np.ndarray
    update: np.ndarray
    momentum: np.ndarray
    theta_norm: np.ndarray
    layer_norms: np.ndarray
    state: lodo.LodoState


def load(path: str | Path) -> dict[str, np.ndarray]:
    """Raises ValueError naming what is wrong with the file."""
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable .npz file ({error})") from error


def loss_of(data: dict[str, np.ndarray]) -> Callable[[Any, Any], Any]:
    """Loss as a function of parameters and call number."""
    if "coef" in data:
        c1, c2 = (float(c) for c in data["coef"])
        return lambda x, t: c1 * (1 - x[0]) ** 2 + c2 * (x[1] - x[0] ** 2) ** 2
    hessian = jnp.asarray(data["H"])
    centers = jnp.asarray(data["centers"] if "centers" in data else np.cumsum(data["noise"], 0))
    return lambda x, t: 0.5 * (x - centers[t]) @ hessian @ (x - centers[t])


def replay(optimizer, state: lodo.LodoState, loss, x0: np.ndarray, steps: int) -> Record:
    """Runs `steps` updates from a given state."""

    @jax.jit
    def run(x, state):
        def body(carry, t):
            x, state = carry
            value, gradient = jax.value_and_grad(loss)(x, t)
            update, state = optimizer.update(gradient, state, x)
            layers = jnp.stack([jnp.linalg.norm(leaf) for leaf in jax.tree.leaves(state.theta)])
            seen = (x, value, update, state.momentum, jnp.linalg.norm(layers), layers)
            return (optax.apply_updates(x, update), state), seen

        return jax.lax.scan(body, (x, state), jnp.arange(steps))

    (x, state), seen = run(jnp.asarray(x0), state)
    xs, losses, updates, momenta, norms, layers = (np.asarray(a) for a in seen)
    xs = np.concatenate([xs, np.asarray(x)[None]])
    return Record(xs, losses, updates, momenta, norms, layers, state)


def initial(optimizer, x0: np.ndarray, theta: Any, wiring: Any) -> lodo.LodoState:
    """The optimizer's first state with the recorded weights."""
    return optimizer.init(jnp.asarray(x0))._replace(theta=theta, wiring=wiring)


def _difference(a: Any, b: Any) -> float:
    return float(np.max(np.abs(np.asarray(a) - np.asarray(b))))


def compare_trajectory(data: dict[str, np.ndarray], convention: str) -> list[Check]:
    """Checks of one quadratic or Rosenbrock file under one meta-Adam convention."""
    rate, meta_rate, decay = (float(data[k]) for k in ("initial_lr", "meta_lr", "beta"))
    if convention == "keras":
        meta = lodo.reference_adam(meta_rate, eps=float(data["keras_eps"]))
    else:
        meta = optax.adam(meta_rate, eps=float(data["optax_eps"]))
    architecture = lodo.BlockNetwork(int(data["n_layers"]), int(data["block_size"]))
    optimizer = lodo.lodo(rate, decay=decay, architecture=architecture, meta_optimizer=meta)
    theta, wiring = network.from_paper_order(data["theta0"], data["perms"], jnp.float64)
    state = initial(optimizer, data["x0"], theta, wiring)
    run = replay(optimizer, state, loss_of(data), data["x0"], int(data["T"]))
    stored = {k[len(convention) + 1 :]: a for k, a in data.items() if k.startswith(convention + "_")}
    dense = lodo.dense_preconditioner(run.state, learning_rate=rate)
    final = network.to_paper_order(run.state.theta)
    checks = [
        Check("x", _difference(run.x, stored["x"]), TOLERANCE),
        Check("loss", _difference(run.loss, stored["loss"]), TOLERANCE),
        Check("theta norm (relative)", _difference(run.theta_norm / stored["theta_norm"], 1), 1e-12),
        Check("dense preconditioner", _difference(dense, stored["G_final"]), TOLERANCE),
    ]
    further = {
        "update": run.update,
        "momentum": run.momentum,
        "theta_layer_norms": run.layer_norms,
        "theta_final": final,
    }
    checks += [
        Check(name.replace("_", " "), _difference(value, stored[name]), TOLERANCE)
        for name, value in further.items()
        if name in stored
    ]
    return checks


def ablations(data: dict[str, np.ndarray]) -> dict[str, list[Check]]:
    """Checks of every variant in an ablations file."""
    rate, meta_rate, decay = (float(data[k]) for k in ("initial_lr", "meta_lr", "beta"))
    n, layers = len(data["x0"]), len(data["theta0"])
    block = network.from_paper_order(data["theta0"], data["perms"], jnp.float64)
    perms = jnp.asarray(data["residual_perms"], jnp.int32)
    wiring = network.StackedWiring(perms, jnp.argsort(perms, 1).astype(jnp.int32))
    residual = ResidualTheta(jnp.asarray(data["residual_theta0"]), jnp.ones(2 * n))
    sizes = {"architecture": lodo.BlockNetwork(layers, data["theta0"].shape[-1])}
    variants = {
        "diagonal": (rate, decay, {"architecture": lodo.Diagonal()}, (jnp.ones(n), ())),
        "global": (rate, decay, {"architecture": lodo.Global()}, (jnp.ones(()), ())),
        "no_momentum": (rate, 0.0, sizes, block),
        "meta_sgd": (
            rate,
            decay,
            sizes | {"meta_optimizer": optax.sgd(float(data.get("sgd_meta_lr", 0)))},
            block,
        ),
        "frozen": (rate, decay, sizes | {"frozen": True}, block),
        "residual": (
            float(data.get("residual_initial_lr", rate)),
            decay,
            {"architecture": lodo.Residual(len(perms))},
            (residual, wiring),
        ),
    }
    results = {}
    for name, (variant_rate, variant_decay, options, start) in variants.items():
        if f"{name}_x" not in data:
            continue
        optimizer = lodo.lodo(variant_rate, meta_rate, variant_decay, **options)
        state = initial(optimizer, data["x0"], *start)
        stored = data[f"{name}_x"]
        run = replay(optimizer, state, loss_of(data), data["x0"], len(stored) - 1)
        theta = run.state.theta
        if isinstance(theta, ResidualTheta):
            errors = [
                _difference(theta.layers, data[f"{name}_theta_final"]),
                _difference(theta.diagonal, data["residual_diag_final"]),
            ]
        elif isinstance(theta, tuple):
            errors = [_difference(network.to_paper_order(theta), data[f"{name}_theta_final"])]
        else:
            errors = [_difference(np.ravel(theta), np.ravel(data[f"{name}_theta_final"]))]
        results[name] = [
            Check("x", _difference(run.x, stored), TOLERANCE),
            Check("loss", _difference(run.loss, data[f"{name}_loss"]), TOLERANCE),
            Check("theta after the last call", max(errors), TOLERANCE),
        ]
    return results


def run(path: str | Path) -> dict[str, list[Check]]:
    """All checks of one file. Raises ValueError for files of another kind."""
    data = load(path)
    try:
        if any(key.endswith("_theta_final") and not key.startswith(("keras", "optax")) for key in data):
            return ablations(data)
        present = [c for c in ("keras", "optax") if f"{c}_x" in data]
        if not present:
            raise KeyError("keras_x")
        return {f"{convention} convention": compare_trajectory(data, convention) for convention in present}
    except KeyError as error:
        raise ValueError(f"{path}: missing array {error}") from error


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--golden", required=True, help="golden file (.npz)")
    parser.add_argument("--quick", action="store_true", help="the same; it takes seconds")
    parser.add_argument("--json", type=Path, help="write the errors here")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    return report(arguments.golden, run(arguments.golden).items(), arguments.json)


if __name__ == "__main__":
    sys.exit(main())
