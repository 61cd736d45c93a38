"""The one-step-shifted transformation against a literal loop, and its preconditioner's laws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lodo
from lodo import block_network as network
from tests.lodo import problems

ARCHITECTURES = [
    lodo.BlockNetwork(3),
    lodo.BlockNetwork(5, 3),
    lodo.BlockNetwork(4, 4, "shuffle"),
    lodo.BlockNetwork(2, 2, "identity"),
    lodo.BlockNetwork(4, 4, width=1),
    lodo.BlockNetwork(0),
    lodo.Diagonal(),
    lodo.Global(),
    lodo.Residual(6),
]


def literal_loop(schedule, steps, architecture=None, seed=0):
    """The published loop: the loss is differentiated through the step that was just made."""
    architecture = architecture or lodo.BlockNetwork(3)
    loss = lambda p: jnp.sum(jnp.cosh(p) * jnp.arange(1.0, 6))  # noqa: E731
    theta, wiring = architecture.init(5, jax.random.key(seed), jnp.ones(0).dtype)
    step = lambda theta, m, rate: -rate * architecture.apply(theta, wiring, m)[0]  # noqa: E731

    @jax.jit
    def iterate(x, theta, mu, nu, m, rate, factor):
        after = x + step(theta, m, rate)
        d = jax.grad(lambda theta: loss(x + step(theta, m, rate)))(theta)
        mu = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, mu, d)
        nu = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b**2, nu, d)
        theta = jax.tree.map(lambda w, a, b: w - factor * a / (jnp.sqrt(b) + 1e-7), theta, mu, nu)
        return after, theta, mu, nu, 0.9 * m + 0.1 * jax.grad(loss)(after)

    mu, nu = (jax.tree.map(jnp.zeros_like, theta) for _ in range(2))
    x, m, rate = jnp.ones(5), jnp.zeros(5), 0.0
    for t in range(1, steps + 1):
        factor = 0.03 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        x, theta, mu, nu, m = iterate(x, theta, mu, nu, m, rate, factor)
        rate = float(schedule(t - 1))
    return x + step(theta, m, rate), theta


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_equals_the_literal_loop(architecture, x64):
    x, theta = literal_loop(lambda t: 0.05, 15, architecture)
    optimizer = lodo.lodo(0.05, 0.03, 0.9, architecture=architecture)
    loss = lambda p: jnp.sum(jnp.cosh(p) * jnp.arange(1.0, 6))  # noqa: E731
    ours, state, _ = problems.run(optimizer, loss, jnp.ones(5), 15)
    np.testing.assert_allclose(ours, x, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), state.theta, theta)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("n", [1, 2, 11])
def test_hypergradient_equals_automatic_differentiation(architecture, n, x64):
    theta, wiring = architecture.init(n, jax.random.key(n), jnp.float64)
    theta = jax.tree.map(lambda w: w + 0.3 * jnp.sin(jnp.arange(w.size).reshape(w.shape)), theta)
    a, b = jax.random.normal(jax.random.key(5), (2, n))

    @jax.jit
    def both(theta):
        (expected,) = jax.vjp(lambda theta: architecture.apply(theta, wiring, b)[0], theta)[1](a)
        traces = [architecture.apply(theta, wiring, v)[1] for v in (a, b)]
        return architecture.gradient(theta, wiring, *traces), expected

    ours, expected = both(theta)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-14), ours, expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES[:7], ids=str)
def test_starts_as_the_identity_and_stays_symmetric(architecture):
    optimizer = lodo.lodo(0.1, 1e-2, architecture=architecture)
    start, _, loss = problems.mixed()
    state = jax.jit(optimizer.init)(start)
    dense = lodo.dense_preconditioner(state, learning_rate=0.1, architecture=architecture)
    np.testing.assert_allclose(dense, 0.1 * np.eye(7), atol=1e-6)
    _, state, _ = problems.run(optimizer, loss, start, 200)
    dense = np.asarray(lodo.dense_preconditioner(state, architecture=architecture))
    np.testing.assert_allclose(dense, dense.T, atol=1e-5 * np.abs(dense).max())
    if isinstance(architecture, lodo.BlockNetwork):
        assert np.linalg.eigvalsh(dense).min() > -1e-5 * np.abs(dense).max()


@pytest.mark.parametrize(("n", "k", "hidden"), [(2, 4, 8), (10, 4, 24), (100, 4, 204), (94_696, 4, 189_396)])
def test_hidden_width(n, k, hidden):
    assert lodo.BlockNetwork(block_size=k).num_blocks(n) * k == hidden


@pytest.mark.parametrize("permutation", network.PERMUTATIONS)
def test_layouts_of_the_same_matrix(permutation, x64):
    """The product against explicit block-diagonal and permutation matrices in the paper's order."""
    n, k, layers, blocks = 5, 3, 3, 4
    h = k * blocks
    rng = np.random.default_rng(0)
    blocks_ = rng.normal(size=(layers, blocks, k, k))
    if permutation == "random":
        perms = np.stack([rng.permutation(h) for _ in range(layers)])
    elif permutation == "shuffle":
        perms = np.stack([np.arange(h).reshape(k, blocks).T.reshape(-1)] * layers)
    else:
        perms = np.stack([np.arange(h)] * layers)
    dense = np.eye(h)
    for w, p in zip(blocks_, perms, strict=True):
        layer = np.zeros((h, h))
        for b in range(blocks):
            layer[b * k : b * k + k, b * k : b * k + k] = w[b].T
        dense = layer @ np.eye(h)[p] @ dense
    expected = (dense.T @ dense)[:n, :n]
    theta, wiring = network.from_paper_order(blocks_, perms)
    used = {"random": wiring, "shuffle": (), "identity": None}[permutation]
    apply = lambda v: network.apply(theta, used, v)[0]  # noqa: E731
    np.testing.assert_allclose(jax.vmap(apply)(jnp.eye(n)), expected, rtol=1e-12)
    np.testing.assert_array_equal(network.to_paper_order(theta), blocks_)


def test_orthogonal_blocks():
    theta, _ = lodo.BlockNetwork(2, 3).init(50, jax.random.key(0), jnp.float32)
    for w in theta:
        products = jnp.einsum("ijb,ikb->bjk", w, w)
        np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-5)
    assert abs(float(jnp.mean(jnp.linalg.det(jnp.moveaxis(theta[0], -1, 0))))) < 0.5


def test_frozen_is_momentum_descent_and_keeps_what_was_learned():
    start, _, loss = problems.mixed()
    frozen = problems.run(
        lodo.lodo(0.05, decay=0.9, frozen=True, architecture=lodo.BlockNetwork(num_layers=3)), loss, start, 40
    )[0]
    momentum = optax.chain(optax.ema(0.9, debias=False), optax.scale_by_learning_rate(0.05))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        frozen,
        problems.run(momentum, loss, start, 40)[0],
    )
    still = problems.run(lodo.lodo(0.05, 0.0, architecture=lodo.BlockNetwork(num_layers=3)), loss, start, 40)[
        0
    ]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), frozen, still)
    learning, thawed = (
        lodo.lodo(0.05, 1e-2, frozen=f, architecture=lodo.BlockNetwork(num_layers=3)) for f in (False, True)
    )
    _, state, _ = problems.run(learning, loss, start, 40)
    _, after, _ = problems.run(thawed, loss, start, 40, state)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), after.theta, state.theta)
    _, again, _ = problems.run(learning, loss, start, 5, after)
    assert not np.array_equal(again.theta[0], state.theta[0])


def test_warm_start():
    start, _, loss = problems.mixed()
    optimizer = lodo.lodo(0.05, 1e-2, architecture=lodo.BlockNetwork(num_layers=3))
    _, learned, _ = problems.run(optimizer, loss, start, 60)
    warm = lodo.warm_start(learned, optimizer.init(start))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), warm.theta, learned.theta)
    assert int(warm.count) == 0 and all(np.all(m == 0) for m in jax.tree.leaves(warm.momentum))
    assert warm.theta[0].unsafe_buffer_pointer() != learned.theta[0].unsafe_buffer_pointer()
    problems.run(optimizer, loss, start, 5, warm)
    with pytest.raises(ValueError, match="theta of the learned state"):
        lodo.warm_start(learned, lodo.lodo(0.05, architecture=lodo.BlockNetwork(num_layers=4)).init(start))
    with pytest.raises(ValueError, match="theta of the learned state"):
        lodo.warm_start(learned, optimizer.init(jnp.ones(30)))


def test_normalized_and_clipped_hypergradients_under_sgd():
    """With plain SGD the change of theta is the hypergradient: its size tells."""
    start, _, loss = problems.mixed()
    sgd = {"architecture": lodo.BlockNetwork(3), "meta_optimizer": optax.sgd(1.0)}
    gradient = jax.grad(loss)(start)

    def change(**options):
        optimizer = lodo.lodo(1e-3, **sgd, **options)
        state = jax.jit(optimizer.init)(start)
        update = jax.jit(optimizer.update)
        _, state = update(gradient, state)
        _, after = update(gradient, state)
        return jax.tree.map(jnp.subtract, after.theta, state.theta)

    plain, clipped, normalized = (
        change(),
        change(clip_hypergradient=1e-6),
        change(normalize_hypergradient=True),
    )
    np.testing.assert_allclose(optax.tree.norm(clipped), 1e-6, rtol=3e-2)
    square = optax.tree.norm(gradient) ** 2
    for a, b in zip(plain, normalized, strict=True):
        np.testing.assert_allclose(a / square, b, rtol=2e-2, atol=3e-7)


def test_loss_scale_does_not_change_the_course():
    """Adam as meta-optimizer is scale-free: noise of another size scales the losses by its square."""
    from lodo.tasks import quadratic

    losses = []
    for noise in (0.5, 1.0, 2.0):
        bowl = quadratic.noisy_bowl(jax.random.key(0), 20, noise=noise)
        optimizer = lodo.lodo(
            0.27,
            decay=0.195,
            architecture=lodo.BlockNetwork(num_layers=4),
            meta_optimizer=lodo.reference_adam(9.6e-4, eps=0.0),
        )
        losses.append(
            jax.jit(lambda b=bowl, o=optimizer: quadratic.run(b, o, 300, key=jax.random.key(1))[0])()
        )
    assert losses[1][-50:].mean() < losses[1][:50].mean() and np.ptp(losses[1]) > 1
    np.testing.assert_allclose(losses[0] * 4, losses[1], rtol=1e-3)
    np.testing.assert_allclose(losses[2] / 4, losses[1], rtol=1e-3)


def test_state_size_and_warning():
    assert lodo.state_bytes(jax.ShapeDtypeStruct((94_696,), jnp.float32)) < 200e6
    per_parameter = lodo.state_bytes(jax.ShapeDtypeStruct((100_000,), jnp.float32)) / 100_000
    assert 2040 < per_parameter < 2060
    assert lodo.state_bytes(jax.ShapeDtypeStruct((200_000_000,), jnp.float32)) > 200e9
    huge = jax.ShapeDtypeStruct((3_000_000,), jnp.float32)
    with pytest.warns(ResourceWarning, match=r"optax.partition"):
        jax.eval_shape(lodo.lodo(0.1).init, huge)
    with pytest.raises(ValueError, match=r"GB of state for 200,000,000 parameters"):
        lodo.lodo(0.1).init(jax.ShapeDtypeStruct((200_000_000,), jnp.float32))


@pytest.mark.parametrize("permutation", ["random", "shuffle"])
def test_lowers_for_cuda_and_tpu(permutation):
    optimizer = lodo.lodo(0.1, architecture=lodo.BlockNetwork(permutation=permutation))
    params = jax.ShapeDtypeStruct((1000,), jnp.float32)
    state = jax.eval_shape(optimizer.init, params)
    leaves, tree = jax.tree.flatten(state)

    def update(gradient, leaves):
        updates, state = optimizer.update(gradient, jax.tree.unflatten(tree, leaves))
        return updates, jax.tree.leaves(state)

    exported = jax.export.export(jax.jit(update), platforms=["cpu", "cuda", "tpu"])(params, leaves)
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}


def test_import_is_light():
    import subprocess
    import sys

    code = (
        "import sys, optax, time\nstart = time.perf_counter()\nimport lodo\n"
        "seconds = time.perf_counter() - start\n"
        "heavy = {'sklearn', 'sympy', 'orbax', 'matplotlib', 'flax', 'mlxtend', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\nassert seconds < 0.3, seconds\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@given(st.integers(1, 8), st.integers(1, 400), st.integers(0, 2**31))
@settings(max_examples=15)
def test_a_tpus_shuffle_is_the_transpose_exactly(k, blocks, seed):
    """By products with zeros and ones, for numbers of every size; its derivative is the other one."""
    rng = np.random.default_rng(seed)
    y = jnp.asarray(
        (rng.normal(size=(k, blocks)) * 10.0 ** rng.integers(-30, 30, (k, blocks))).astype(np.float32)
    )
    flat = network._interleaved(y)
    np.testing.assert_array_equal(flat, y.T.reshape(-1))
    np.testing.assert_array_equal(network._deinterleaved(flat, k), y)
    (back,) = jax.vjp(network._interleaved, jnp.zeros_like(y))[1](flat)
    np.testing.assert_array_equal(back, y)
