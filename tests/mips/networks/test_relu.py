"""The paper's network: losses by formula, weights at the start, the order of architectures."""

import dataclasses
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.networks.relu import ReluConfig, published_architecture
from mips.networks.training import count_parameters

KEY = jax.random.key(1)
X = np.random.default_rng(0).integers(-4, 5, (5, 7, 2))
Y = np.random.default_rng(1).integers(-4, 5, (5, 7, 3))


def outputs_of(config, network, x):
    """Outputs (length, batch, outputs), scaled, in double precision (spec, section 4)."""

    def mlp(layers, a):
        for layer in layers[:-1]:
            a = np.maximum(np.asarray(layer.weight, float) @ a + np.asarray(layer.bias, float), 0)
        return np.asarray(layers[-1].weight, float) @ a + np.asarray(layers[-1].bias, float)

    network = jax.tree.map(np.asarray, network)
    rows = np.zeros((*x.shape[:2], config.outputs))
    for b in range(x.shape[1]):
        hidden = np.zeros(config.hidden)
        for t in range(len(x)):
            hidden = mlp(network.transition, np.concatenate([hidden, x[t, b] / config.input_scale]))
            rows[t, b] = mlp(network.readout, hidden)
    return rows


CONFIG = ReluConfig(2, 3, 3, 2, 4, 2, 5, input_scale=4.0, output_scale=2.5)


@pytest.fixture(scope="module")
def network():
    return jax.jit(CONFIG.init)(KEY)


@pytest.mark.parametrize("loss", ["log", "squared"])
def test_the_loss_is_the_papers_over_the_scored_prefix(network, loss):
    loss_of = jax.jit(dataclasses.replace(CONFIG, loss=loss).loss_of)
    error = outputs_of(CONFIG, network, X) - Y / CONFIG.output_scale
    single = 0.5 * np.log(1 + error**2) if loss == "log" else 0.5 * error**2
    for prefix in range(1, 6):
        weight = jnp.asarray(np.arange(5) < prefix, jnp.float32)
        got = loss_of(network, jnp.asarray(X), jnp.asarray(Y), weight)
        np.testing.assert_allclose(got, single[:prefix].mean(), rtol=1e-5)


def test_predictions_are_the_outputs_in_whole_numbers(network):
    exact = outputs_of(CONFIG, network, X) * CONFIG.output_scale
    clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-3
    got = np.asarray(jax.jit(CONFIG.predict)(network, jnp.asarray(X)))
    np.testing.assert_array_equal(got[clear], np.round(exact)[clear])


def test_weights_start_uniform_in_one_over_the_root_of_the_inputs():
    config = ReluConfig(2, 2, 60, 2, 50, 2, 40)
    init = jax.jit(config.init)
    network = init(KEY)
    for layer in (*network.transition, *network.readout):
        bound = layer.weight.shape[1] ** -0.5
        values = np.concatenate([np.ravel(layer.weight), np.ravel(layer.bias)]) / bound
        assert np.abs(values).max() <= 1
        # Mean and variance of the uniform law on [-1, 1], within five standard errors.
        assert abs(values.mean()) < 5 * (3 * len(values)) ** -0.5
        assert abs((values**2).mean() - 1 / 3) < 5 * (4 / 45 / len(values)) ** 0.5
    chex.assert_trees_all_equal(init(KEY), network)


def test_linear_memories_start_orthogonal_and_without_bias():
    config = ReluConfig(1, 1, 6, orthogonal=True)
    network = jax.jit(config.init)(KEY)
    w = np.asarray(network.transition[0].weight)[:, :6]
    np.testing.assert_allclose(w @ w.T, np.eye(6), atol=1e-5)
    assert (
        network.is_linear and not np.any(network.transition[0].bias) and not np.any(network.readout[0].bias)
    )
    deep = jax.jit(ReluConfig(1, 1, 6, 2, 4, orthogonal=True).init)(KEY)
    assert not deep.is_linear and not any(np.any(layer.bias) for layer in deep.transition)


@settings(max_examples=10)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5))
def test_architectures_have_the_weights_of_their_layers(n, inputs, outputs, depth, width):
    config = ReluConfig(inputs, outputs, n, depth, width, depth, width + 1)
    shape = jax.eval_shape(config.init, KEY)
    f = [n + inputs, *[width] * (depth - 1), n]
    g = [n, *[width + 1] * (depth - 1), outputs]
    want = sum((a + 1) * b for widths in (f, g) for a, b in itertools.pairwise(widths))
    assert sum(int(np.prod(a.shape)) for a in jax.tree.leaves(shape)) == want
    assert shape.hidden == n and shape.is_linear == (depth == 1)
    assert f"n={n}" in config.describe() and ("linear" in config.describe()) == (depth == 1)


def test_parameters_are_counted():
    shape = jax.eval_shape(ReluConfig(1, 1, 2).init, KEY)
    assert count_parameters(jax.tree.map(lambda a: np.zeros(a.shape), shape)) == 2 * 3 + 2 + 2 + 1


LIMITS = (3, 3, 128, 256, 256)


@given(st.tuples(*(st.integers(0, k - 1) for k in LIMITS)))
def test_an_index_counts_depths_units_and_widths_the_last_fastest(digits):
    # Spec 5: d_g > d_f > n > w_g > w_f.
    index = 0
    for digit, limit in zip(digits, LIMITS, strict=True):
        index = index * limit + digit
    found = published_architecture(index, inputs=2, outputs=3)
    d_g, d_f, n, w_g, w_f = (d + 1 for d in digits)
    assert (found.readout_depth, found.transition_depth, found.hidden) == (d_g, d_f, n)
    assert found.readout_width == (w_g if d_g > 1 else 1) and found.transition_width == (
        w_f if d_f > 1 else 1
    )
    assert (found.inputs, found.outputs) == (2, 3)


@pytest.mark.parametrize("index", [-1, int(np.prod(LIMITS))])
def test_indices_outside_are_refused(index):
    with pytest.raises(ValueError, match=f"index={index}: there are {np.prod(LIMITS)} architectures"):
        published_architecture(index, inputs=1, outputs=1)


@pytest.mark.parametrize("field", ["inputs", "outputs", "hidden", "transition_depth", "readout_width"])
def test_sizes_are_at_least_one(field):
    with pytest.raises(ValueError, match=f"{field}=0: must be at least 1"):
        ReluConfig(**{field: 0})
