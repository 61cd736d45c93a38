"""Small optimization problems shared by the tests."""

import jax
import jax.numpy as jnp
import optax


def parabola(dtype=jnp.float32):
    """Minimum of a vector quadratic: start, goal, loss."""
    goal = jnp.array([1.0, -1.0, 1.0], dtype)
    return jnp.array([-1.0, 10.0, 1.0], dtype), goal, lambda x: jnp.sum((x - goal) ** 2)


def matrix_parabola(dtype=jnp.float32):
    goal = jnp.array([[3.0, -2.0], [1.0, 4.0]], dtype)
    return jnp.zeros((2, 2), dtype), goal, lambda x: jnp.sum((x - goal) ** 2)


def mixed(dtype=jnp.float32):
    goal = (jnp.array([1.0, -1.0, 2.0], dtype), jnp.array([[1.0, 0.0], [-1.0, 1.0]], dtype))
    start = jax.tree.map(jnp.zeros_like, goal)
    return start, goal, lambda x: sum(jnp.sum((a - b) ** 2) for a, b in zip(x, goal, strict=True))


def rosenbrock(dtype=jnp.float32):
    return (
        jnp.zeros(2, dtype),
        jnp.ones(2, dtype),
        lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2,
    )


def run(optimizer, loss, params, steps, state=None):
    """Parameters, state and losses after `steps` updates in one scan; one program."""

    def body(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    @jax.jit
    def whole(params, state):
        state = optimizer.init(params) if state is None else state
        (params, state), losses = jax.lax.scan(body, (params, state), None, length=steps)
        return params, state, losses

    return whole(params, state)
