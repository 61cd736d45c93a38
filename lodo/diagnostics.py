"""Looking at a learned preconditioner: products, errors, eigenvalues, norms, memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from lodo import trees
from lodo.preconditioners import Architecture, architecture_of
from lodo.transform import StateTooLargeError, checked_state, lodo

Rate = float | Float[Array, ""]

_DENSE = 4096  # largest number of parameters for which a dense matrix is made


class Info(NamedTuple):
    """Norms and angles of one update, all float scalars."""

    gradient_norm: Float[Array, ""]
    momentum_norm: Float[Array, ""]
    update_norm: Float[Array, ""]
    theta_norm: Float[Array, ""]  # sqrt(num_layers * hidden) at the start of a block network
    alignment: Float[Array, ""]  # cosine between update and -gradient
    gain: Float[Array, ""]  # |G m| / |m|; 1 at the start of a block network


def _vector_product(
    state: optax.OptState, architecture: Architecture | None
) -> Callable[[Float[Array, " n"]], Float[Array, " n"]]:
    state = checked_state(state)
    architecture = architecture or architecture_of(state.theta, state.wiring)
    return lambda v: architecture.apply(state.theta, state.wiring, v)[0]


def apply_preconditioner(
    state: optax.OptState,
    tree: optax.Params,
    *,
    learning_rate: Rate = 1.0,
    architecture: Architecture | None = None,
) -> Any:
    """`learning_rate` G(theta) v for a tree v shaped as the parameters; same dtypes as v.

    architecture: needed for your own ones only. Raises: ValueError if the tree does not match
    the parameters, TypeError if the state is not LODO's or its architecture unknown.
    """
    state = checked_state(state)
    trees.check_updates(tree, state.momentum)
    product = _vector_product(state, architecture)(trees.ravel(tree, state.rate.dtype))
    return trees.unravel(learning_rate * product, tree)


def dense_preconditioner(
    state: optax.OptState, *, learning_rate: Rate = 1.0, architecture: Architecture | None = None
) -> Float[Array, "n n"]:
    """`learning_rate` G(theta) as a matrix over the raveled parameters.

    Raises: ValueError above 4096 parameters.
    """
    state = checked_state(state)
    n = trees.size(state.momentum)
    if n > _DENSE:
        raise ValueError(f"{n} parameters: a dense preconditioner is made for at most {_DENSE}")
    columns = jax.vmap(_vector_product(state, architecture))(jnp.eye(n, dtype=state.rate.dtype))
    return learning_rate * columns.T


def hessian_error(
    state: optax.OptState,
    loss: Callable[[Any], Float[Array, ""]],
    params: optax.Params,
    *,
    learning_rate: Rate,
    key: PRNGKeyArray,
    num_vectors: int = 100,
    architecture: Architecture | None = None,
) -> Float[Array, ""]:
    """Estimates |I - learning_rate G H|_F / sqrt(n), H the Hessian of `loss` at `params`.

    Root mean square of |v - learning_rate G H v| over random unit vectors v, by
    Hessian-vector products. Directions of small curvature count as much as others and are
    hardly learned: expect it to stay well above 0 where the Hessian is ill-conditioned.
    """
    state = checked_state(state)
    trees.check_updates(params, state.momentum)
    product, dtype = _vector_product(state, architecture), state.rate.dtype
    gradient = jax.grad(loss)

    def squared(key: PRNGKeyArray) -> Float[Array, ""]:
        v = jax.random.normal(key, (trees.size(params),), dtype)
        v = v / jnp.linalg.norm(v)
        curved = jax.jvp(gradient, (params,), (trees.unravel(v, params),))[1]
        return jnp.sum(jnp.square(v - learning_rate * product(trees.ravel(curved, dtype))))

    return jnp.sqrt(jnp.mean(jax.lax.map(squared, jax.random.split(key, num_vectors), batch_size=16)))


def top_eigenvalues(
    state: optax.OptState,
    count: int = 1,
    *,
    learning_rate: Rate = 1.0,
    key: PRNGKeyArray,
    iterations: int = 100,
    architecture: Architecture | None = None,
) -> Float[Array, " count"]:
    """Largest eigenvalues of `learning_rate` G(theta), largest first.

    By dense decomposition for small n, else by LOBPCG. Raises: ValueError unless
    1 <= count <= n (n / 5 where n is large).
    """
    from jax.experimental.sparse.linalg import lobpcg_standard

    state = checked_state(state)
    n = trees.size(state.momentum)
    dense = n <= max(5 * count, 256)
    if not 1 <= count <= (n if dense else n // 5):
        raise ValueError(f"count={count}: expected 1 to {n if n <= 256 else n // 5}")
    if dense:
        matrix = dense_preconditioner(state, architecture=architecture)
        return learning_rate * jnp.linalg.eigvalsh(matrix)[::-1][:count]
    product = _vector_product(state, architecture)
    start = jax.random.normal(key, (n, count), state.rate.dtype)
    values, _, _ = lobpcg_standard(jax.vmap(product, 1, 1), start, m=iterations)
    return learning_rate * values


def diagnose(
    state: optax.OptState,
    gradient: optax.Updates,
    update: optax.Updates,
    *,
    architecture: Architecture | None = None,
) -> Info:
    """Norms and angles of the update that left `state`; pure, for use inside jit.

    gradient: what the optimizer was given; update: what it returned.
    """
    state = checked_state(state)
    for tree in (gradient, update):
        trees.check_updates(tree, state.momentum)
    dtype = state.rate.dtype
    g, u, m = (trees.ravel(tree, dtype) for tree in (gradient, update, state.momentum))
    tiny = jnp.finfo(dtype).tiny
    norms = [jnp.linalg.norm(v) for v in (g, m, u)]
    preconditioned = jnp.linalg.norm(_vector_product(state, architecture)(m))
    return Info(
        gradient_norm=norms[0],
        momentum_norm=norms[1],
        update_norm=norms[2],
        theta_norm=optax.tree.norm(state.theta),
        alignment=-jnp.vdot(g, u) / jnp.maximum(norms[0] * norms[2], tiny),
        gain=preconditioned / jnp.maximum(norms[1], tiny),
    )


def state_bytes(params: optax.Params, optimizer: optax.GradientTransformation | None = None) -> int:
    """Bytes of optimizer state for these parameters, before any is allocated.

    params: arrays or `jax.ShapeDtypeStruct`. optimizer: default `lodo` with its defaults. Where LODO's
    state is more than it accepts, the rest of a chain is not counted.
    """
    transformation = lodo(1.0) if optimizer is None else optimizer
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            return trees.num_bytes(jax.eval_shape(transformation.init, params))
    except StateTooLargeError as error:
        return error.state_bytes
