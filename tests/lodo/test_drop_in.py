"""One line swapped in other libraries' training loops; each example also restores what it saved."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import lodo

X = jnp.linspace(-1, 1, 16)[:, None]
Y = 2 * X + 0.5


def optimizer():
    return lodo.lodo(learning_rate=0.05, architecture=lodo.BlockNetwork(num_layers=4))


def test_plain_optax_loop():
    params = {"w": jnp.zeros((1, 1)), "b": jnp.zeros(1)}
    loss = lambda p: jnp.mean((X @ p["w"] + p["b"][None] - Y) ** 2)  # noqa: E731
    tx = optimizer()
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    for _ in range(200):
        params, state, value = step(params, state)
    assert value < 1e-3


def test_flax_train_state():
    import flax.linen as nn
    from flax.training.train_state import TrainState

    model = nn.Dense(1)
    state = TrainState.create(
        apply_fn=model.apply, params=model.init(jax.random.key(0), X)["params"], tx=optimizer()
    )
    loss = lambda p: jnp.mean((state.apply_fn({"params": p}, X) - Y) ** 2)  # noqa: E731
    step = jax.jit(lambda state: state.apply_gradients(grads=jax.grad(loss)(state.params)))
    for _ in range(200):
        state = step(state)
    assert loss(state.params) < 1e-3


def test_nnx_optimizer():
    from flax import nnx

    model = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    optimizer_ = nnx.Optimizer(model, optimizer(), wrt=nnx.Param)
    loss = lambda model: jnp.mean((model(X) - Y) ** 2)  # noqa: E731

    @nnx.jit
    def step(model, optimizer_):
        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer_.update(model, gradients)
        return value

    for _ in range(200):
        value = step(model, optimizer_)
    assert value < 1e-3


def test_equinox_loop():
    model = eqx.nn.MLP(1, 1, 8, 1, key=jax.random.key(0))
    tx = optimizer()
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state):
        value, gradients = eqx.filter_value_and_grad(lambda m: jnp.mean((jax.vmap(m)(X) - Y) ** 2))(model)
        updates, state = tx.update(gradients, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, value

    for _ in range(300):
        model, state, value = step(model, state)
    assert value < 1e-2


def test_optimistix_minimizer():
    import optimistix as optx

    solver = optx.OptaxMinimiser(optimizer(), rtol=1e-6, atol=1e-6)
    solution = optx.minimise(
        lambda p, _: jnp.sum((p - 1.0) ** 2), solver, jnp.zeros(3), max_steps=5000, throw=False
    )
    np.testing.assert_allclose(solution.value, 1, atol=1e-2)


def test_on_chosen_leaves_with_adam_on_the_rest():
    """The recipe for large models: LODO where weights are few, Adam elsewhere."""
    params = {"embedding": jnp.zeros((1000, 8)), "mixing": jnp.eye(8), "bias": jnp.zeros(8)}
    labels = {"embedding": "adam", "mixing": "lodo", "bias": "lodo"}
    tx = optax.partition({"lodo": optimizer(), "adam": optax.adam(1e-2)}, labels)
    target = jax.random.normal(jax.random.key(0), (1000, 8))
    loss = lambda p: jnp.mean((p["embedding"] @ p["mixing"] + p["bias"][None] - target) ** 2)  # noqa: E731
    state = tx.init(params)
    step = jax.jit(lambda p, s: tx.update(jax.grad(loss)(p), s, p))
    before = loss(params)
    for _ in range(100):
        updates, state = step(params, state)
        params = optax.apply_updates(params, updates)
    assert loss(params) < 0.5 * before
    assert optax.tree.get(state, "theta")[0].shape[-1] == lodo.BlockNetwork().num_blocks(72)
