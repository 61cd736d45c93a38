"""Networks as pytrees: outputs against plain NumPy, indexing as NumPy has it."""

import chex
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypernet.networks.forward import evaluate64
from hypernet.networks.mlp import ACTIVATIONS, MLP, activation_named, evaluate
from tests.hypernet import plain


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_their_formulas_up_to_the_largest_numbers(name, x64):
    u = np.concatenate([np.linspace(-30, 30, 601), [0.0, -0.0, 1e-300, -1e-300, 1e6, -1e6]])
    np.testing.assert_allclose(
        activation_named(name)(jnp.asarray(u)), plain.ACTIVATIONS[name](u), rtol=1e-12, atol=3e-14
    )


@pytest.mark.parametrize(("sizes", "outputs"), [((1, 1), None), ((3, 4), 1), ((2, 5, 3), 3)])
def test_outputs_are_those_of_plain_numpy(sizes, outputs):
    mlp = plain.random_network(1, sizes, outputs=outputs, activation="relu")
    x = np.random.default_rng(2).normal(size=(6, sizes[0]))
    assert mlp.inputs == sizes[0]
    assert mlp.vector == (outputs is not None)
    expected = plain.forward(mlp, x)
    np.testing.assert_allclose(evaluate64(mlp, x), expected, rtol=1e-12, atol=1e-12)
    # points may have any leading axes, none too
    np.testing.assert_allclose(
        mlp(x.reshape(2, 3, -1)), expected.reshape(2, 3, *expected.shape[1:]), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(mlp(x[0]), expected[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [(2, 3)])
def test_networks_side_by_side_are_evaluated_as_one_by_one(batch):
    mlps = plain.random_network(3, (2, 4), outputs=2, batch=batch)
    x = np.random.default_rng(4).normal(size=(5, 2))
    found = evaluate64(mlps, x)
    assert found.shape == (*batch, 5, 2)
    for at in np.ndindex(batch):
        np.testing.assert_allclose(found[at], plain.forward(mlps[at], x), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="use evaluate"):
        mlps(x)
    chex.assert_trees_all_close(evaluate(mlps, x), np.float32(found), rtol=1e-4, atol=1e-4)


MLPS = plain.random_network(5, (2, 3), batch=(3, 4))
INDEX = hnp.basic_indices((3, 4), allow_newaxis=False) | hnp.integer_array_indices((3, 4))


@given(index=INDEX)
def test_an_index_takes_the_same_networks_of_every_array(index):
    """A number per network, spread over all arrays, follows the index as NumPy says."""
    number = np.arange(12.0).reshape(3, 4)
    marked = jax.tree.map(
        lambda leaf: np.broadcast_to(number.reshape(3, 4, *[1] * (leaf.ndim - 2)), leaf.shape), MLPS
    )
    found = marked[index]
    assert found.batch == number[index].shape
    for leaf in jax.tree.leaves(found):
        of_each = np.asarray(leaf).reshape(number[index].size, -1) if number[index].size else np.zeros((0, 1))
        np.testing.assert_array_equal(of_each.T, np.broadcast_to(number[index].ravel(), of_each.T.shape))


@pytest.mark.parametrize("kind", [np, jnp])
@pytest.mark.parametrize(
    "index",
    [3, -4, np.int64(3), np.int32(-4), (0, 4), (np.int64(1), np.int64(-5)), (slice(None), 4), (0, 0, 0)],
)
def test_an_index_beyond_the_networks_is_refused(index, kind):
    """Arrays of jax would be clamped to the last network, and a third index would take a row of weights."""
    mlps = jax.tree.map(kind.asarray, MLPS)
    with pytest.raises(IndexError):
        mlps[index]


def test_an_index_may_be_traced():
    mlps = jax.tree.map(jnp.asarray, plain.random_network(5, (2, 3), batch=(3,)))
    found = jax.jit(lambda at: mlps[at].W)(jnp.int32(2))
    np.testing.assert_array_equal(found, mlps.W[2])


def test_one_network_is_no_sequence_and_several_are():
    one = MLPS[0, 0]
    for use, error in ((lambda: one[0], IndexError), (lambda: len(one), TypeError)):
        with pytest.raises(error, match="this is one network"):
            use()
    # true although it has no length
    assert one and MLPS
    assert len(MLPS) == len(list(MLPS)) == 3
    chex.assert_trees_all_equal(list(MLPS)[2], MLPS[2])


@given(seed=plain.SEEDS, order=st.permutations(range(4)))
def test_units_have_no_order(seed, order):
    mlp = plain.random_network(seed, (2, 4))
    moved = MLP((mlp.W[:, order],), (mlp.b[order],), mlp.v[order], mlp.c, mlp.activation)
    x = np.random.default_rng(seed).normal(size=(7, 2))
    np.testing.assert_allclose(evaluate64(moved, x), evaluate64(mlp, x), rtol=1e-11, atol=1e-11)


def test_unknown_activations_are_named():
    with pytest.raises(ValueError, match="activation='Swish': expected one of swish, relu"):
        activation_named("Swish")
