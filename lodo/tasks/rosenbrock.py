"""The Rosenbrock task: two parameters, deterministic, 200 steps; an illustration of trajectories."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, DTypeLike, Float

START = (-0.5, 2.0)
MINIMUM = (1.0, 1.0)


def loss(x: Float[Array, "2"]) -> Float[Array, ""]:
    """0.01 (1 - x_1)^2 + (x_2 - x_1^2)^2; 3.085 at the start."""
    return 0.01 * (1 - x[0]) ** 2 + (x[1] - x[0] ** 2) ** 2


_Carry = tuple[Float[Array, "2"], optax.OptState]


def run(
    optimizer: optax.GradientTransformation, steps: int = 200, dtype: DTypeLike = jnp.float32
) -> tuple[Float[Array, " steps"], Float[Array, "steps 2"]]:
    """Losses and positions at every step, the start included. Pure: jit it, vmap it."""

    def body(carry: _Carry, _: None) -> tuple[_Carry, tuple[Float[Array, ""], Float[Array, "2"]]]:
        x, state = carry
        value, gradient = jax.value_and_grad(loss)(x)
        update, state = optimizer.update(gradient, state, x)
        moved: Any = optax.apply_updates(x, update)
        return (moved, state), (value, x)

    x = jnp.array(START, dtype)
    return jax.lax.scan(body, (x, optimizer.init(x)), None, length=steps)[1]
