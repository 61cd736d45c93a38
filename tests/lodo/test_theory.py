"""The paper's two claims as numbers: the Hessian is learned, and inverse Hessians can be represented."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lodo
from lodo import block_network as network

EIGENVALUES = np.array([0.4, 0.6, 0.8, 1.0])


def error_matrices(covariance_root, *, alpha=1e-3, replicates=2000, steps=3000, every=500, seed=0):
    """Mean of A = I - G H over replicates of the dense form under plain SGD; [steps / every, 4, 4].

    Exact recursion: b' = A b - s', A' = A - alpha H b' b^T H^2, from G = I / 2, in H's eigenbasis.
    """
    h = jnp.asarray(EIGENVALUES)

    def one(key):
        def body(carry, key):
            a, b = carry
            after = a @ b - covariance_root @ jax.random.normal(key, (4,))
            return (a - alpha * jnp.outer(h * after, b * h**2), after), None

        def block(carry, key):
            carry, _ = jax.lax.scan(body, carry, jax.random.split(key, every))
            return carry, carry[0]

        start = (jnp.eye(4) - 0.5 * jnp.diag(h), jnp.zeros(4))
        return jax.lax.scan(block, start, jax.random.split(key, steps // every))[1]

    keys = jax.random.split(jax.random.key(seed), replicates)
    return np.asarray(jax.jit(lambda k: jax.vmap(one)(k).mean(0))(keys))


def ode(alpha, steps, every):
    """Euler steps of da/dt = -alpha lambda^3 a / (1 - a^2)."""
    a, out = 1 - 0.5 * EIGENVALUES, []
    for t in range(1, steps + 1):
        a = a - alpha * EIGENVALUES**3 * a / (1 - a**2)
        if t % every == 0:
            out.append(a)
    return np.array(out)


def test_c1_the_error_decays_as_predicted():
    means = error_matrices(jnp.eye(4))
    diagonals = means[:, np.arange(4), np.arange(4)]
    predicted = ode(1e-3, 3000, 500)
    np.testing.assert_allclose(predicted[-1], [0.5612, 0.2997, 0.1084, 0.0219], atol=2e-4)
    np.testing.assert_allclose(diagonals, predicted, atol=2e-3)
    off = means[-1][~np.eye(4, dtype=bool)]
    assert np.abs(off).max() < 1.5e-3


@pytest.mark.slow
def test_c2_any_full_rank_noise_leads_to_the_inverse_hessian():
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    root = rotation @ np.diag(np.sqrt([0.25, 1.0, 1.0, 4.0]))
    means = error_matrices(jnp.asarray(root), replicates=300, steps=40_000, every=10_000)
    norms = np.linalg.norm(means, axis=(1, 2))
    start = np.linalg.norm(np.eye(4) - 0.5 * np.diag(EIGENVALUES))
    assert np.all(np.diff(norms) < 0) and norms[0] < start and norms[-1] < 0.01 * start
    isotropic = np.linalg.norm(error_matrices(jnp.eye(4), replicates=300)[-1])
    other = np.linalg.norm(error_matrices(jnp.asarray(root), replicates=300)[-1])
    assert abs(other / isotropic - 1) > 0.05  # another rate


def test_c3_without_noise_nothing_more_is_learned():
    means = error_matrices(jnp.zeros((4, 4)), replicates=1, steps=1000, every=500)
    np.testing.assert_allclose(means[-1], np.eye(4) - 0.5 * np.diag(EIGENVALUES), rtol=1e-6)
    # LODO itself on a bowl that stands still: G freezes where it is, far from the inverse.
    hessian = jnp.diag(jnp.asarray(EIGENVALUES))
    optimizer = lodo.lodo(
        0.5, 1e-3, 0.0, meta_optimizer=optax.sgd(1e-3), architecture=lodo.BlockNetwork(num_layers=4)
    )

    @jax.jit
    def run(x, state):
        def body(carry, _):
            x, state = carry
            update, state = optimizer.update(hessian @ x, state)
            return (x + update, state), None

        return jax.lax.scan(body, (x, state), None, length=2000)[0]

    x, state = run(jnp.ones(4), optimizer.init(jnp.ones(4)))
    _, later = run(x, state)
    error = np.eye(4) - np.asarray(lodo.dense_preconditioner(later, learning_rate=0.5)) @ hessian
    np.testing.assert_allclose(later.theta[0], state.theta[0], atol=1e-6)
    assert np.linalg.norm(error) > 0.5


def reached(permutation, hidden, layers, k=4):
    """Share of hidden entries that the first input can reach after each layer."""
    blocks = hidden // k
    wiring = network.random_wiring(jax.random.key(0), layers, hidden) if permutation == "random" else ()
    shares, y = [], jnp.zeros(hidden).at[0].set(1.0)
    for layer in range(layers):
        z = network._enter(y, layer, wiring, k, jnp.int32(0))
        y = jnp.broadcast_to((z != 0).any(0), (k, blocks)).astype(jnp.float32)
        shares.append(float(y.mean()))
    return shares


@pytest.mark.parametrize(
    ("permutation", "hidden", "expected"),
    [
        ("random", 204, {3: 0.22, 4: 0.55, 5: 0.98, 6: 1.0}),
        ("shuffle", 204, {3: 0.31, 4: 1.0}),
        ("random", 189_396, {8: 0.29, 9: 0.75, 10: 0.995, 11: 1.0}),
        ("shuffle", 189_396, {9: 1.0}),
    ],
)
def test_r1_every_input_reaches_every_unit(permutation, hidden, expected):
    shares = reached(permutation, hidden, max(expected))
    for layers, share in expected.items():
        slack = 0.12 if permutation == "random" and share < 0.95 else 0.03
        assert abs(shares[layers - 1] - share) <= slack, (layers, shares)


@pytest.mark.parametrize(
    ("num_layers", "least", "most"), [(1, 0.5, 0.8), (2, 0.3, 0.55), (3, 0, 1e-2), (4, 0, 1e-5), (8, 0, 1e-5)]
)
def test_r2_random_spd_matrices_are_represented(num_layers, least, most):
    n, rate = 16, 0.3
    q = jnp.linalg.qr(jax.random.normal(jax.random.key(3), (n, n)))[0]
    target = (q * jnp.asarray(np.geomspace(0.01, 1, n), jnp.float32)[None]) @ q.T
    architecture = lodo.BlockNetwork(num_layers)
    theta, wiring = architecture.init(n, jax.random.key(1), jnp.float32)

    def error(theta):
        dense = rate * jax.vmap(lambda v: architecture.apply(theta, wiring, v)[0])(jnp.eye(n))
        return jnp.sum((dense - target) ** 2) / jnp.sum(target**2)

    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, 3000))

    @jax.jit
    def fit(theta):
        def body(carry, _):
            theta, state = carry
            updates, state = optimizer.update(jax.grad(error)(theta), state)
            return (optax.apply_updates(theta, updates), state), None

        return jax.lax.scan(body, (theta, optimizer.init(theta)), None, length=3000)[0][0]

    relative = float(jnp.sqrt(error(fit(theta))))
    assert least <= relative <= most
