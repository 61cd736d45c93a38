"""Oracles: batches, padding and pieces change nothing; networks of the package against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mips.networks.relu import ReluConfig
from mips.networks.tokens import TokenConfig
from mips.reading import oracle
from tests.mips.machines import oracle_of
from tests.mips.strategies import machines, sequences_for

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def pair():
    """A network of two inputs, two outputs and a state of several arrays."""

    def step(state, x):
        total, last = state
        total = total + x[0] - x[1]
        return (total, x.astype(jnp.float32)), jnp.stack([total, jnp.round(last.sum()).astype(jnp.int32)])

    return oracle.from_step(step, (jnp.int32(0), jnp.zeros(2)), inputs=2, outputs=2)


def plain(x):
    total = np.cumsum(x[..., 0] - x[..., 1], axis=1)
    last = np.concatenate([np.zeros((len(x), 1), int), x.sum(axis=2)[:, :-1]], axis=1)
    return np.stack([total, last], axis=2)


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 300])
def test_batches_of_every_size_give_the_same_answers(pair, count):
    x = np.random.default_rng(count).integers(-9, 10, (count, 5, 2))
    np.testing.assert_array_equal(pair.run(x), plain(x))


def test_more_states_than_fit_at_once_are_taken_in_pieces(pair, monkeypatch):
    x = np.random.default_rng(0).integers(-9, 10, (150, 4, 2))
    whole = pair.run(x)
    monkeypatch.setattr(oracle, "_LARGEST", 64)
    np.testing.assert_array_equal(pair.run(x), whole)


@given(st.integers(1, 4))
def test_a_run_can_be_taken_up_where_it_was_left(pair, cut):
    x = np.random.default_rng(cut).integers(-9, 10, (7, 5, 2))
    states = pair.initial(7)
    for t in range(cut):
        states, _ = pair.step(states, x[:, t])
    np.testing.assert_array_equal(pair.run(x[:, cut:], states), pair.run(x)[:, cut:])
    order = np.array([3, 0, 6])
    chosen = pair.run(x[order][:, cut:], oracle.take(states, order))
    np.testing.assert_array_equal(chosen, pair.run(x)[order, cut:])


@given(machines(outputs=2), st.floats(0, 1))
def test_agreement_counts_outputs_and_sequences(make, share):
    machine = make()
    x = sequences_for(machine, count=20, length=5)
    y = machine.run(x)
    wrong = np.random.default_rng(0).random(y.shape[:2]) < share
    changed = y + np.stack([wrong, 0 * wrong], axis=2)
    single, whole = oracle.agreement(oracle_of(machine), x, changed)
    assert single == pytest.approx(1 - wrong.mean())
    assert whole == pytest.approx(1 - wrong.any(axis=1).mean())


def test_numeric_networks_answer_in_whole_numbers():
    config = ReluConfig(2, 2, 3, 2, 5, 2, 4)
    network = jax.jit(config.init)(KEY)
    asked = oracle.from_relu(config, network)
    x = np.random.default_rng(0).integers(-20, 21, (9, 4, 2))
    network, hidden, rows = jax.tree.map(np.asarray, network), np.zeros((9, 3)), []

    def mlp(layers, a):
        for layer in layers[:-1]:
            a = np.maximum(a @ layer.weight.T + layer.bias, 0)
        return a @ layers[-1].weight.T + layers[-1].bias

    for t in range(4):
        hidden = mlp(network.transition, np.concatenate([hidden, x[:, t]], axis=1))
        rows.append(mlp(network.readout, hidden))
    exact = np.stack(rows, axis=1)
    clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-3  # no matter of rounding in single precision
    np.testing.assert_array_equal(asked.run(x)[clear], np.round(exact)[clear])
    assert asked.description == config.describe() and (asked.inputs, asked.outputs) == (2, 2)


def test_networks_over_symbols_answer_with_the_values_of_their_classes():
    config = TokenConfig(9, 6, 5, "affine")  # more symbols and classes than the task has
    network = jax.jit(config.init)(KEY)
    values = np.array([[7, -1], [0, 4], [5, 5]])
    asked = oracle.from_tokens(config, network, low=-1, high=2, inputs=2, values=values)
    x = np.random.default_rng(0).integers(-1, 2, (11, 6, 2))
    symbols = (x[..., 0] + 1) * 3 + x[..., 1] + 1
    states = jax.jit(config.states_of)(network, jnp.asarray(symbols.T))
    logits = np.asarray(states) @ np.asarray(network.readout) + np.asarray(network.readout_bias)
    best = logits[..., : len(values)].argmax(axis=2).T  # classes that were never seen are never said
    np.testing.assert_array_equal(asked.run(x), values[best])
    # What lies outside of the alphabet counts as its edge.
    np.testing.assert_array_equal(asked.run(np.full((1, 3, 2), 9)), asked.run(np.full((1, 3, 2), 1)))


def test_outputs_that_are_not_finite_are_an_error_that_names_the_network():
    network = oracle.from_step(
        lambda s, x: (s, jnp.log(x.astype(jnp.float32))), jnp.int32(0), description="mine"
    )
    assert network.run(np.array([[[1], [20]]])).ravel().tolist() == [0, 3]
    with pytest.raises(ValueError, match="mine gives outputs that are not finite"):
        network.run(np.array([[[1], [0]]]))


REFUSED = [
    ({"inputs": 0}, lambda s, x: (s, s), 0, "inputs=0, outputs=1: must be at least 1"),
    ({"outputs": 0}, lambda s, x: (s, s), 0, "inputs=1, outputs=0"),
    ({}, lambda s, x: [s, s], 0, r"must return \(state, output\)"),
    ({}, lambda s, x: (s, (x, x)), 0, "one array, not tuple"),
    ({}, lambda s, x: ((s, s), s), 0, "instead of PyTreeDef"),
    ({"inputs": 2}, lambda s, x: (s, x[5:6].reshape(3)), 0, r"fails on an input of shape \(2,\)"),
    ({"inputs": 2, "outputs": 3}, lambda s, x: (s, x), 0, r"shape \(2,\); 3 element"),
]


@pytest.mark.parametrize(("sizes", "step", "state", "error"), REFUSED, ids=[r[3] for r in REFUSED])
def test_step_functions_of_another_form_are_refused(sizes, step, state, error):
    with pytest.raises(ValueError, match=error):
        oracle.from_step(step, jnp.int32(state), **sizes)


def test_networks_with_chance_in_their_state_are_refused():
    with pytest.raises(ValueError, match="random keys: the network must be deterministic"):
        oracle.from_step(lambda s, x: (s, x), jax.random.key(0))


def test_truth_values_and_halves_are_rounded_as_numbers():
    odd = oracle.from_step(lambda s, x: (s, x % 2 == 1), jnp.int32(0))
    assert odd.run(np.arange(4)[None, :, None]).ravel().tolist() == [0, 1, 0, 1]
    assert odd.description == "the user's step function"
    near = oracle.from_step(lambda s, x: (s, x * 0.9), jnp.int32(0))
    assert near.run(np.arange(6)[None, :, None]).ravel().tolist() == [0, 1, 2, 3, 4, 4]
