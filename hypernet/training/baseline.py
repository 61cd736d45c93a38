"""The baseline: the same networks trained directly by Adam, with or without an L1 penalty on weights."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from hypernet.arrays import SeedKeys
from hypernet.networks.mlp import MLP
from hypernet.targets import L1, Target
from hypernet.validation import positive, whole


@functools.partial(
    jax.jit, static_argnames=("n", "hidden", "target", "activation", "l1", "steps", "batch", "learning_rate")
)
def _fit(
    keys: SeedKeys,
    *,
    n: int,
    hidden: int,
    target: Target,
    activation: str,
    l1: float,
    steps: int,
    batch: int,
    learning_rate: float,
) -> MLP:
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def start(key: PRNGKeyArray) -> MLP:
        first, second = jax.random.split(key)
        W = jax.random.normal(first, (n, hidden)) / math.sqrt(n)
        v = jax.random.normal(second, (hidden,)) / math.sqrt(hidden)
        return MLP((W,), (jnp.zeros(hidden),), v, jnp.zeros(()), activation)

    def loss(mlp: MLP, x: Float[Array, "batch n"], y: Float[Array, " batch"]) -> Float[Array, ""]:
        return jnp.mean((mlp(x) - y) ** 2) / n + l1 * (jnp.sum(jnp.abs(mlp.W)) + jnp.sum(jnp.abs(mlp.v)))

    def one(key: PRNGKeyArray) -> MLP:
        mlp = start(jax.random.fold_in(key, 0))

        def step(
            carry: tuple[MLP, optax.OptState], at: Int[Array, ""]
        ) -> tuple[tuple[MLP, optax.OptState], None]:
            mlp, state = carry
            x = target.sample(jax.random.fold_in(jax.random.fold_in(key, 1), at), batch, n)
            grads = jax.grad(loss)(mlp, x, target.value(x))
            updates, state = optimizer.update(grads, state, mlp)
            return (optax.apply_updates(mlp, updates), state), None  # pyright: ignore[reportReturnType]  optax's Params know no eqx.Module

        (mlp, _), _ = jax.lax.scan(step, (mlp, optimizer.init(mlp)), jnp.arange(steps))
        return mlp

    return jax.vmap(one)(keys)


def train_directly(
    key: PRNGKeyArray,
    *,
    n: int = 16,
    hidden: int = 48,
    target: Target = L1,
    activation: str = "swish",
    l1: float = 0.0,
    seeds: int = 1,
    steps: int = 6000,
    batch: int = 256,
    learning_rate: float = 3e-3,
) -> MLP:
    """Networks fitted by Adam with a cosine schedule, seeds as a leading axis.

    Args: l1: penalty on the absolute values of W and v; the loss is MSE / n, as for generators.
    Raises: ValueError for sizes below 1, a negative penalty, or a target with several outputs.
    """
    for name, value in (("n", n), ("hidden", hidden), ("seeds", seeds), ("steps", steps), ("batch", batch)):
        whole(name, value)
    positive("learning_rate", learning_rate)
    if not 0 <= l1 < math.inf:
        raise ValueError(f"l1={l1}: must not be negative")
    if target.outputs is not None:
        raise ValueError(f"target {target.name!r} has several outputs")
    target.check_size(n)
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(seeds))
    return _fit(
        keys, n=n, hidden=hidden, target=target, activation=activation, l1=l1, steps=steps, batch=batch,
        learning_rate=learning_rate,
    )  # fmt: skip
