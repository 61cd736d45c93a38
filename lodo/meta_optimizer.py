"""The optimizer of the preconditioner's weights, in the form the published runs used."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree


class ReferenceAdamState(NamedTuple):
    """State of `reference_adam`. Not named `count`, which the state around it has."""

    steps: Int[Array, ""]  # updates made
    mu: PyTree[Float[Array, "..."]]  # mean of gradients, not bias-corrected
    nu: PyTree[Float[Array, "..."]]  # mean of their squares, not bias-corrected


class HoldingTransformation(optax.GradientTransformationExtraArgs):
    """A transformation whose update takes `hold`, a boolean array: where True, nothing changes."""


def _safe_sqrt(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Square root with derivative 0 at 0, so that unrolled updates can be differentiated."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def reference_adam(
    learning_rate: optax.ScalarOrSchedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-7
) -> HoldingTransformation:
    """Adam with epsilon added to the root of the uncorrected second moment.

    Step t is -learning_rate sqrt(1 - b2^t) / (1 - b1^t) mu / (sqrt(nu) + eps). `optax.adam`
    adds eps to the corrected root: at step 2 an eps of 1e-7 here is worth 2.2e-6 there,
    which hypergradients of large networks, near 1e-7 themselves, feel.

    `update` takes `hold`, a boolean array: where True, updates must be finite, and neither
    parameters nor moments change.

    Raises: ValueError for an eps that is negative or infinite.
    """
    if isinstance(eps, int | float) and not 0 <= eps < math.inf:
        raise ValueError(f"eps={eps}: expected at least 0 and below inf")

    def init(params: optax.Params) -> ReferenceAdamState:
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)  # noqa: E731
        return ReferenceAdamState(jnp.zeros((), jnp.int32), zeros(), zeros())

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        hold: Bool[Array, ""] | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, ReferenceAdamState]:
        del params, extra
        if not isinstance(state, ReferenceAdamState):
            raise TypeError(f"state of reference_adam: got {type(state).__name__}, expected its own")
        rate: Any = learning_rate(state.steps) if callable(learning_rate) else learning_rate
        steps = jnp.asarray(optax.safe_increment(state.steps))
        if hold is not None:
            hold = hold | ~jnp.isfinite(rate)
            rate = jnp.where(hold, 0, rate)
            steps = jnp.where(hold, state.steps, steps)

        def moment(decay: float, old: optax.Updates, new: optax.Updates) -> Any:
            # Only scalars tell whether to hold: nothing of the size of theta is selected.
            kept, gained = decay, 1 - decay
            if hold is not None:
                kept, gained = jnp.where(hold, 1, kept), jnp.where(hold, 0, gained)
            return jax.tree.map(lambda m, g: (kept * m + gained * g).astype(m.dtype), old, new)

        mu = moment(b1, state.mu, updates)
        nu = moment(b2, state.nu, jax.tree.map(jnp.square, updates))

        def step(m: Float[Array, "*axes"], v: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
            t = jnp.maximum(steps, 1).astype(m.dtype)
            # expm1: 1 - 0.999^t loses four digits of single precision at the first steps
            corrected = jnp.sqrt(-jnp.expm1(t * jnp.log(jnp.asarray(b2, m.dtype))))
            factor = -rate * corrected / -jnp.expm1(t * jnp.log(jnp.asarray(b1, m.dtype)))
            root = _safe_sqrt(v) + eps
            return jnp.where(root > 0, factor * m / jnp.where(root > 0, root, 1), 0).astype(m.dtype)

        return jax.tree.map(step, mu, nu), ReferenceAdamState(steps, mu, nu)

    return HoldingTransformation(init, update)
