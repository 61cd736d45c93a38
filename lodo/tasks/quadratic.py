"""The noisy quadratic bowl: a fixed Hessian whose minimum takes a random walk."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray


class Bowl(NamedTuple):
    """Loss 1/2 (x - c)' H (x - c); c moves by N(0, noise^2 I) before every evaluation."""

    hessian: Float[Array, "n n"]
    noise: Float[Array, ""]


def eigenvalues(n: int = 100, least: float = 1e-3) -> np.ndarray:
    """Log-uniform from `least` to 1, both included, float64."""
    return np.geomspace(least, 1, n)


def noisy_bowl(key: PRNGKeyArray, n: int = 100, *, least: float = 1e-3, noise: float = 1.0) -> Bowl:
    """A bowl with random eigenvectors (paper, noisy quadratic task: n = 100, least = 1e-3)."""
    q = jnp.linalg.qr(jax.random.normal(key, (n, n)))[0]
    return Bowl((q * jnp.asarray(eigenvalues(n, least), q.dtype)[None]) @ q.T, jnp.asarray(noise, q.dtype))


def newton_loss(bowl: Bowl) -> Float[Array, ""]:
    """Expected loss of Newton's method, tr(H) noise^2 / 2: the least any method can have."""
    return 0.5 * jnp.trace(bowl.hessian) * bowl.noise**2


def loss(x: Float[Array, " n"], center: Float[Array, " n"], bowl: Bowl) -> Float[Array, ""]:
    """Loss at x for the present center."""
    return 0.5 * (x - center) @ bowl.hessian @ (x - center)


class Walk(NamedTuple):
    """State of a run; the position is kept relative to the center, which loses no digits."""

    offset: Float[Array, " n"]  # x - c
    optimizer: Any


def start(bowl: Bowl, optimizer: optax.GradientTransformation, state: Any = None) -> Walk:
    """X = c = 0; `state`: the optimizer's, if not a fresh one."""
    x = jnp.zeros(bowl.hessian.shape[0], bowl.hessian.dtype)
    return Walk(x, optimizer.init(x) if state is None else state)


def step(
    walk: Walk, bowl: Bowl, optimizer: optax.GradientTransformation, *, key: PRNGKeyArray
) -> tuple[Walk, Float[Array, ""]]:
    """The center moves, loss and gradient are taken, the optimizer steps; returns that loss."""
    moved = walk.offset - bowl.noise * jax.random.normal(key, walk.offset.shape, walk.offset.dtype)
    gradient = bowl.hessian @ moved
    value = 0.5 * moved @ gradient
    update, state = optimizer.update(gradient, walk.optimizer, moved)
    offset: Any = optax.apply_updates(moved, update)
    return Walk(offset, state), value


def run(
    bowl: Bowl,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    key: PRNGKeyArray,
    state: Any = None,
) -> tuple[Float[Array, " steps"], Walk]:
    """Losses of all steps, and the last state. Pure: jit it, vmap it over keys and bowls."""

    def body(walk: Walk, t: Array) -> tuple[Walk, Array]:
        return step(walk, bowl, optimizer, key=jax.random.fold_in(key, t))

    walk, losses = jax.lax.scan(body, start(bowl, optimizer, state), jnp.arange(steps))
    return losses, walk


def stationary_loss(gain: np.ndarray, hessian: np.ndarray) -> float:
    """Closed form for any fixed linear step x - G g: tr(H Sigma) / 2, unit noise.

    Sigma solves Sigma = A Sigma A' + I with A = I - G H. Raises: ValueError if that step
    diverges.
    """
    from scipy.linalg import solve_discrete_lyapunov

    a = np.eye(len(hessian)) - gain @ hessian
    if np.abs(np.linalg.eigvals(a)).max() >= 1:
        raise ValueError("the iteration x - G g diverges on this Hessian")
    return 0.5 * float(np.trace(hessian @ solve_discrete_lyapunov(a, np.eye(len(hessian)))))
