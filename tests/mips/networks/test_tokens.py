"""Networks over symbols against their formulas in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mips.networks.tokens import GRU, SwitchedAffine, TokenConfig

KEY = jax.random.key(2)
X = np.random.default_rng(0).integers(0, 5, (6, 9))
Y = np.random.default_rng(1).integers(0, 4, (6, 9))


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gated(network, hidden, symbol):
    """Cho et al. 2014, with the candidate's bias inside of the reset, as cuDNN has it."""
    n = len(hidden)
    of_input, of_state = network.embedding[symbol], hidden @ network.recurrent
    reset = sigmoid(of_input[:n] + of_state[:n])
    update = sigmoid(of_input[n : 2 * n] + of_state[n : 2 * n])
    candidate = np.tanh(of_input[2 * n :] + reset * (of_state[2 * n :] + network.candidate_bias))
    return update * hidden + (1 - update) * candidate


def switched(network, hidden, symbol):
    return hidden @ network.matrices[symbol] + network.offsets[symbol]


@pytest.fixture(scope="module", params=["gru", "affine"])
def made(request):
    config = TokenConfig(5, 4, 6, request.param)
    network = start = jax.jit(config.init)(KEY)
    if request.param == "gru":
        network = jax.tree.map(lambda a: a + 0.1, network)  # no weight is zero, biases included
    double = jax.tree.map(lambda a: np.asarray(a, float), network)
    rule = gated if request.param == "gru" else switched
    states = np.zeros((6, 9, 6))
    for b in range(9):
        hidden = double.start
        for t in range(6):
            hidden = rule(double, hidden, X[t, b])
            states[t, b] = hidden
    return config, network, states, states @ double.readout + double.readout_bias, start


def test_states_follow_the_formulas(made):
    config, network, states, *_ = made
    np.testing.assert_allclose(
        jax.jit(config.states_of)(network, jnp.asarray(X)), states, rtol=1e-4, atol=1e-5
    )


@pytest.fixture(
    scope="module", params=[(GRU, 1, 1), (GRU, 4, 5), (SwitchedAffine, 1, 1), (SwitchedAffine, 4, 5)]
)
def both_ways(request):
    """The loss and its gradient, with symbols looked up (few = 0) and as products (few = 99)."""
    cell, symbols, length = request.param
    config = TokenConfig(symbols, 3, 5, "gru" if cell is GRU else "affine")
    found = {}
    for few in (0, 99):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cell, "few", few)
            arguments = jax.eval_shape(config.init, KEY), *[jnp.zeros((length, 7), jnp.int32)] * 2
            function = jax.jit(jax.value_and_grad(config.loss_of))
            found[few] = function.lower(*arguments, jnp.ones(length)).compile()
    return config, length, found


@given(st.integers(0, 2**31 - 1))
def test_the_gradient_over_few_symbols_is_that_of_the_rule(both_ways, seed):
    """Products with one-hot symbols, derived by hand, against look-ups, derived by JAX."""
    config, length, found = both_ways
    draw = np.random.default_rng(seed)
    shapes = jax.eval_shape(config.init, KEY)
    network = jax.tree.map(lambda a: jnp.asarray(draw.normal(size=a.shape), jnp.float32), shapes)
    x, y = (jnp.asarray(draw.integers(0, n, (length, 7)), jnp.int32) for n in (config.symbols, 3))
    weight = jnp.asarray(draw.uniform(size=length) + 0.1, jnp.float32)
    both = (jax.tree.leaves(function(network, x, y, weight)) for function in found.values())
    for looked_up, product in zip(*both, strict=True):
        np.testing.assert_allclose(product, looked_up, rtol=1e-3, atol=1e-4 * np.abs(looked_up).max() + 1e-9)


def test_the_loss_is_cross_entropy_in_nats_over_the_scored_prefix(made):
    config, network, _, logits, _ = made
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    single = -np.log(np.take_along_axis(shares, Y[..., None], axis=2)[..., 0])
    loss_of = jax.jit(config.loss_of)
    for weight in (np.ones(6), np.array([1, 1, 0, 0, 0, 0.0]), np.arange(6.0)):
        got = loss_of(network, jnp.asarray(X), jnp.asarray(Y), jnp.asarray(weight, jnp.float32))
        np.testing.assert_allclose(got, (single.mean(axis=1) * weight).sum() / weight.sum(), rtol=1e-4)


def test_predictions_are_the_most_likely_classes(made):
    config, network, _, logits, _ = made
    np.testing.assert_array_equal(jax.jit(config.predict)(network, jnp.asarray(X)), logits.argmax(axis=2))


def test_weights_start_as_documented(made):
    start = made[-1]
    # Standard deviations within four standard errors of these few weights.
    assert np.std(start.readout) == pytest.approx(6**-0.5, rel=4 / 48**0.5) and not np.any(start.readout_bias)
    if made[0].cell == "gru":
        for gate in np.split(np.asarray(start.recurrent), 3, axis=1):
            np.testing.assert_allclose(gate @ gate.T, np.eye(6), atol=1e-5)
        assert np.std(start.embedding) == pytest.approx(1, rel=4 / 180**0.5) and not np.any(
            start.candidate_bias
        )
    else:
        spread = np.asarray(start.matrices) - 0.5 * np.eye(6)
        assert np.std(spread) == pytest.approx(0.5 * 6**-0.5, rel=4 / 360**0.5)


def test_descriptions_name_the_cell_and_its_sizes():
    assert TokenConfig(4, 2, 7).describe() == "GRU, n=7, 4 symbols, 2 classes"
    assert TokenConfig(4, 2, 7, "affine").describe().startswith("input-switched affine network, n=7")
