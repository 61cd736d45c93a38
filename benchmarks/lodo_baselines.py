"""Optimizers that LODO is compared with, in the forms the published runs used.

Where optax's own form differs (no bias correction in Yogi, epsilon inside RMSprop's root),
the published one is here; everything else comes from optax.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from lodo.tasks.quadratic import Bowl


class Moments(NamedTuple):
    """First and second moments, or whatever stands in their place."""

    first: Any
    second: Any


def _zeros(params: Any) -> Moments:
    return Moments(jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))


def yogi(learning_rate: float, b1: float, b2: float, eps: float = 1e-3) -> optax.GradientTransformation:
    """Yogi without bias correction, second moment from 0."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        g = updates
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.first, g)
        v = jax.tree.map(lambda v, g: v - (1 - b2) * jnp.sign(v - g**2) * g**2, state.second, g)
        step = jax.tree.map(lambda m, v: -learning_rate * m / (jnp.sqrt(jnp.abs(v)) + eps), m, v)
        return step, Moments(m, v)

    return optax.GradientTransformation(_zeros, update)


def rmsprop(learning_rate: float, rho: float, momentum: float, eps: float = 1e-7):
    """RMSprop with epsilon inside the root and momentum on the step."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        g = updates
        v = jax.tree.map(lambda v, g: rho * v + (1 - rho) * g**2, state.second, g)
        buffer = jax.tree.map(
            lambda b, g, v: momentum * b + learning_rate * g / jnp.sqrt(v + eps), state.first, g, v
        )
        return jax.tree.map(jnp.negative, buffer), Moments(buffer, v)

    return optax.GradientTransformation(_zeros, update)


class BfgsState(NamedTuple):
    """Dense inverse Hessian and the last gradient and update."""

    inverse: Array
    gradient: Array
    step: Array


def bfgs(learning_rate: float) -> optax.GradientTransformation:
    """Dense BFGS on one vector: no line search, no curvature safeguard."""

    def init(params):
        return BfgsState(jnp.eye(params.size), jnp.zeros_like(params), jnp.zeros_like(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        g = updates
        s, y = state.step, g - state.gradient
        curvature = s @ y
        rho = jnp.where(jnp.abs(curvature) > 0, 1 / jnp.where(curvature == 0, 1, curvature), 0)
        left = jnp.eye(g.size) - rho * jnp.outer(s, y)
        inverse = left @ state.inverse @ left.T + rho * jnp.outer(s, s)
        step = -learning_rate * inverse @ g
        return step, BfgsState(inverse, g, step)

    return optax.GradientTransformation(init, update)


def levenberg_marquardt(hessian: Array, damping: float) -> optax.GradientTransformation:
    """X - (H^2 + damping diag(H^2))^-1 H g with the exact Hessian: an oracle."""
    square = hessian @ hessian
    gain = jnp.linalg.solve(square + damping * jnp.diag(jnp.diag(square)), hessian)
    return optax.stateless(lambda g, _: -gain @ g)


def online_lbfgs(
    bowl: Bowl,
    steps: int,
    *,
    key: Array,
    learning_rate: float = 1.0,
    memory: int = 48,
    average_scaling: bool = True,
) -> Array:
    """Losses of (O-)L-BFGS on the noisy bowl at fresh centers only, (steps,).

    Two gradients a step at the same center, as Schraudolph et al. (2007); no line search.
    The loss right after stepping, at the center just stepped to, is not counted: it is below
    what any method can reach at a fresh one. average_scaling: initial scale s'y / y'y averaged
    over the memory (O-LBFGS), else of the newest pair (L-BFGS).
    """
    n, h = bowl.hessian.shape[0], bowl.hessian

    def direction(g, s, y, rho, valid):
        def down(q, pair):
            s, y, rho = pair
            a = rho * (s @ q)
            return q - a * y, a

        q, a = jax.lax.scan(down, g, (s, y, rho))  # newest first
        ratio = jnp.where(valid, jnp.sum(s * y, 1) / jnp.where(valid, jnp.sum(y * y, 1), 1), 0)
        count = valid.sum()
        scale = jnp.where(average_scaling, ratio.sum() / jnp.maximum(count, 1), ratio[0])
        q = jnp.where(count > 0, scale, 1e-10) * q

        def up(q, pair):
            s, y, rho, a = pair
            return q + (a - rho * (y @ q)) * s, None

        return -jax.lax.scan(up, q, (s, y, rho, a), reverse=True)[0]

    def body(carry, t):
        offset, s, y, rho, valid = carry
        offset = offset - bowl.noise * jax.random.normal(jax.random.fold_in(key, t), (n,))
        g = h @ offset
        value = 0.5 * offset @ g
        step = learning_rate * direction(g, s, y, rho, valid)
        change = h @ step
        push = lambda a, new: jnp.concatenate([new[None], a[:-1]])  # noqa: E731
        pairs = (push(s, step), push(y, change), push(rho, 1 / (step @ change)), push(valid, jnp.array(True)))
        return (offset + step, *pairs), value

    zeros = jnp.zeros((memory, n))
    start = (jnp.zeros(n), zeros, zeros, jnp.zeros(memory), jnp.zeros(memory, bool))
    return jax.lax.scan(body, start, jnp.arange(steps))[1]


def best_heavy_ball(eigenvalues, grid: int = 120) -> tuple[float, float, float]:
    """Learning rate, momentum and stationary loss of the best heavy ball on a bowl of unit noise.

    From the closed form per eigenvalue; coarse to fine search.
    """
    lam = np.asarray(eigenvalues)[:, None, None]

    def losses(rates, momenta):
        eta, beta = rates[None, :, None], momenta[None, None, :]
        # The offset follows b' = a1 b + a2 b_ - e' + beta e, e the walk's increments: ARMA(2, 1).
        a1, a2 = 1 + beta - eta * lam, -beta
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = ((1 + beta**2) * (1 - a2) - 2 * beta * a1) / ((1 + a2) * ((1 - a2) ** 2 - a1**2))
        stable = (eta * lam > 0) & (eta * lam < 2 * (1 + beta)) & (beta < 1)
        return np.where(stable.all(0), (0.5 * lam * variance).sum(0), math.inf)

    low, high = np.array([0.5, 0.0]), np.array([4.0, 0.9])
    for _ in range(4):
        rates, momenta = np.linspace(low[0], high[0], grid), np.linspace(low[1], high[1], grid)
        table = losses(rates, momenta)
        i, j = np.unravel_index(np.argmin(table), table.shape)
        span = (high - low) / 20
        best = np.array([rates[i], momenta[j]])
        low, high = best - span, best + span
        low[1] = max(low[1], 0)
    return float(best[0]), float(best[1]), float(table[i, j])
