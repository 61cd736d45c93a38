"""Tools on a learned preconditioner against dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lodo
from tests.lodo import problems


@pytest.fixture(scope="module", params=["random", "shuffle"])
def run(request):
    start, _, loss = problems.mixed()
    optimizer = lodo.lodo(0.05, 1e-2, architecture=lodo.BlockNetwork(num_layers=4, permutation=request.param))
    params, state, _ = problems.run(optimizer, loss, start, 100)
    return params, state, loss, optimizer


def test_apply_equals_dense(run):
    params, state, _, _ = run
    dense = lodo.dense_preconditioner(state, learning_rate=0.05)
    product = lodo.apply_preconditioner(state, params, learning_rate=0.05)
    assert jax.tree.structure(product) == jax.tree.structure(params)
    flat = lambda tree: np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)])  # noqa: E731
    np.testing.assert_allclose(flat(product), dense @ flat(params), rtol=1e-4, atol=1e-6)


def test_hessian_error(run):
    params, state, loss, _ = run
    # The Hessian of this loss is twice the identity.
    dense = np.asarray(lodo.dense_preconditioner(state, learning_rate=0.05))
    exact = np.linalg.norm(np.eye(7) - 2 * dense) / np.sqrt(7)
    estimate = lodo.hessian_error(
        state, loss, params, learning_rate=0.05, key=jax.random.key(0), num_vectors=2000
    )
    np.testing.assert_allclose(estimate, exact, rtol=0.05)


def test_top_eigenvalues(run):
    _, state, _, _ = run
    expected = np.linalg.eigvalsh(np.asarray(lodo.dense_preconditioner(state)))[::-1][:3]
    values = lodo.top_eigenvalues(state, 3, key=jax.random.key(0))
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    with pytest.raises(ValueError, match="count=0"):
        lodo.top_eigenvalues(state, 0, key=jax.random.key(0))


def test_top_eigenvalues_of_many_parameters():
    params = jnp.ones(400)
    optimizer = lodo.lodo(0.1, 1e-2, architecture=lodo.BlockNetwork(num_layers=4))
    _, state, _ = problems.run(optimizer, lambda x: jnp.sum(jnp.arange(1, 401) * x**2) / 400, params, 50)
    dense = jax.vmap(lambda v: lodo.apply_preconditioner(state, v))(jnp.eye(400))
    expected = np.linalg.eigvalsh(np.asarray(dense))[::-1][:2]
    values = lodo.top_eigenvalues(state, 2, key=jax.random.key(0))
    np.testing.assert_allclose(values, expected, rtol=1e-2)


def test_diagnose(run):
    params, state, loss, optimizer = run
    gradient = jax.grad(loss)(params)
    update, after = optimizer.update(gradient, state)
    info = jax.jit(lodo.diagnose)(after, gradient, update)
    flat = lambda tree: np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)])  # noqa: E731
    g, u, m = flat(gradient), flat(update), flat(after.momentum)
    np.testing.assert_allclose(info.gradient_norm, np.linalg.norm(g), rtol=1e-4)
    np.testing.assert_allclose(info.update_norm, 0.05 * info.gain * np.linalg.norm(m), rtol=1e-4)
    np.testing.assert_allclose(info.alignment, -g @ u / np.linalg.norm(g) / np.linalg.norm(u), rtol=1e-3)
    fresh = jax.jit(optimizer.init)(params)
    norm = lodo.diagnose(fresh, gradient, update).theta_norm
    np.testing.assert_allclose(norm, np.sqrt(4 * fresh.theta[0].shape[-1] * 4), rtol=1e-4)


def test_unknown_weights_need_an_architecture(run):
    _, state, _, _ = run
    with pytest.raises(TypeError, match="architecture="):
        lodo.dense_preconditioner(state._replace(theta={"mine": jnp.ones(3)}))
    with pytest.raises(ValueError, match="at most 4096"):
        lodo.dense_preconditioner(
            lodo.lodo(0.1, architecture=lodo.BlockNetwork(num_layers=1)).init(jnp.ones(5000))
        )


def test_tools_check_what_they_are_given(run):
    params, state, loss, optimizer = run
    chain = optax.chain(optax.clip(1.0), optimizer).init(params)
    for call in (
        lambda: lodo.dense_preconditioner(chain),
        lambda: lodo.apply_preconditioner(chain, params),
        lambda: lodo.diagnose(chain, params, params),
        lambda: lodo.top_eigenvalues(chain, key=jax.random.key(0)),
        lambda: lodo.warm_start(chain, state),
    ):
        with pytest.raises(TypeError, match="expected a LodoState, got tuple"):
            call()
    with pytest.raises(ValueError, match="no gradient for params"):
        lodo.diagnose(state, (None, params[1]), params)
    with pytest.raises(ValueError, match="shape"):
        lodo.hessian_error(state, loss, (jnp.ones(4), params[1]), learning_rate=0.1, key=jax.random.key(0))


def test_identity_and_shuffle_are_told_apart():
    for permutation in ("identity", "shuffle"):
        architecture = lodo.BlockNetwork(4, permutation=permutation)
        optimizer = lodo.lodo(0.05, 1e-2, architecture=architecture)
        start, _, loss = problems.mixed()
        _, state, _ = problems.run(optimizer, loss, start, 20)
        inferred = lodo.dense_preconditioner(state)
        np.testing.assert_array_equal(inferred, lodo.dense_preconditioner(state, architecture=architecture))
