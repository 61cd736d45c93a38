"""Normalizers by laws: a change of coordinates is a group action that no output sees."""

import itertools

import chex
import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mips.networks.relu import Affine, ReluRNN
from mips.normalize import (
    basis,
    change_basis,
    debias,
    effective_transition,
    jordan,
    normalize,
    quantize,
    toeplitz,
    whiten,
)
from mips.normalize.basis import effective_input, in_double, replace_layers
from mips.normalize.jordan import real_jordan_basis
from mips.normalize.pipeline import run
from mips.normalize.toeplitz import blocks
from tests.mips.strategies import SEEDS

X = np.random.default_rng(9).normal(size=(12, 6, 2))
SIZES = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3))


def network_of(seed, sizes, width=4):
    """A random network with d_f and d_g layers, two inputs and two outputs."""
    n, d_f, d_g = sizes
    rng = np.random.default_rng(seed)

    def layers(widths):
        return tuple(
            Affine(rng.normal(size=(out, given)) / np.sqrt(given), rng.normal(size=out))
            for given, out in itertools.pairwise(widths)
        )

    return ReluRNN(layers([n + 2, *[width] * (d_f - 1), n]), layers([n, *[width] * (d_g - 1), 2]))


def coordinates(seed, n):
    return np.random.default_rng(seed).normal(size=(n, n)) * 0.4 + np.eye(n)


@settings(max_examples=25)
@given(SEEDS, SIZES)
def test_a_change_of_basis_moves_the_states_and_no_output(seed, sizes):
    network, t = network_of(seed, sizes), coordinates(seed, sizes[0])
    assume(np.linalg.cond(t) < 50)
    changed = change_basis(network, t)
    (states, outputs), (moved, same) = run(network, X), run(changed, X)
    np.testing.assert_allclose(same, outputs, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(moved, states @ t.T, rtol=1e-7, atol=1e-7)
    if sizes[1] == 1:
        want = t @ effective_transition(network) @ np.linalg.inv(t)
        np.testing.assert_allclose(effective_transition(changed), want, atol=1e-9)
        np.testing.assert_allclose(effective_input(changed), t @ effective_input(network), atol=1e-9)


@settings(max_examples=20)
@given(SEEDS, SIZES)
def test_changes_of_basis_compose_and_can_be_taken_back(seed, sizes):
    network, one, two = network_of(seed, sizes), coordinates(seed, sizes[0]), coordinates(seed + 1, sizes[0])
    assume(max(np.linalg.cond(one), np.linalg.cond(two)) < 50)
    chex.assert_trees_all_close(
        change_basis(change_basis(network, one), two), change_basis(network, two @ one), rtol=1e-7, atol=1e-7
    )
    back = change_basis(change_basis(network, one), np.linalg.inv(one))
    chex.assert_trees_all_close(back, in_double(network), rtol=1e-7, atol=1e-7)
    chex.assert_trees_all_close(change_basis(network, np.eye(sizes[0])), in_double(network), atol=1e-12)


@given(SEEDS, SIZES)
def test_effective_weights_are_what_a_small_push_does_where_all_units_work(seed, sizes):
    network = network_of(seed, sizes)
    raised = replace_layers(
        network,
        {i: Affine(layer.weight, layer.bias + 50) for i, layer in enumerate(network.transition[:-1])},
    )

    def f(vector):
        for layer in raised.transition[:-1]:
            vector = np.maximum(layer.weight @ vector + layer.bias, 0)
        return raised.transition[-1].weight @ vector

    n = sizes[0]
    pushes = np.array([f(e) - f(np.zeros(n + 2)) for e in np.eye(n + 2) * 1e-3]).T / 1e-3
    if sizes[1] == 2:  # with three layers the raised biases may be switched off by the weights
        np.testing.assert_allclose(effective_transition(network), pushes[:, :n], atol=1e-8)
        np.testing.assert_allclose(effective_input(network), pushes[:, n:], atol=1e-8)


@settings(max_examples=20)
@given(SEEDS, SIZES)
def test_whitened_states_cannot_be_whitened_further(seed, sizes):
    network = network_of(seed, sizes)
    states = run(network, X)[0].reshape(-1, sizes[0])
    moments = np.linalg.eigvalsh(states.T @ states / len(states))
    assume((np.abs(moments - 0.1) > 1e-3).all())
    white = whiten(network, states)
    again = run(white, X)[0].reshape(-1, sizes[0])
    left = np.linalg.eigvalsh(again.T @ again / len(again))
    want = np.sort(np.where(moments > 0.1, 1.0, moments))
    np.testing.assert_allclose(np.sort(left), want, atol=1e-6)
    chex.assert_trees_all_close(whiten(white, again), white, rtol=1e-6, atol=1e-6)


@given(SEEDS, st.integers(1, 6))
def test_jordan_bases_of_random_matrices_are_real_and_block_diagonal(seed, n):
    w = np.random.default_rng(seed).normal(size=(n, n)) / np.sqrt(n)
    values = np.linalg.eigvals(w)
    gaps = np.abs(values[:, None] - values) + 9 * np.eye(n)
    assume(gaps.min() > 1e-2)
    p = real_jordan_basis(w, eps=1e-6)
    assert p is not None and np.isrealobj(p)
    form = np.linalg.solve(p, w @ p)
    pairs = np.abs(np.triu(form, 2)).max(initial=0) + np.abs(np.tril(form, -2)).max(initial=0)
    assert pairs < 1e-6
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(form)), np.sort_complex(values), atol=1e-6)
    # Each coupled pair is a rotation and scaling: equal diagonal, opposite sides.
    for i in np.flatnonzero(np.abs(np.diag(form, 1)) > 1e-6):
        np.testing.assert_allclose(form[i, i], form[i + 1, i + 1], atol=1e-6)
        np.testing.assert_allclose(form[i, i + 1], -form[i + 1, i], atol=1e-6)


@given(
    st.lists(st.tuples(st.sampled_from([-0.5, 0.0, 1.0]), st.integers(1, 3)), min_size=1, max_size=3), SEEDS
)
def test_jordan_blocks_are_found_again_in_other_coordinates(parts, seed):
    n = sum(size for _, size in parts)
    w = np.zeros((n, n))
    place = 0
    for value, size in parts:
        here = slice(place, place + size)
        w[here, here] = value * np.eye(size) + np.eye(size, k=1)
        place += size
    mix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))
    mixed = mix @ w @ mix.T
    p = real_jordan_basis(mixed, eps=1e-3)
    assert p is not None
    form = np.linalg.solve(p, mixed @ p)
    found = sorted((round(form[a, a], 4) + 0.0, b - a) for a, b in blocks(form))
    assert found == sorted((v + 0.0, s) for v, s in parts)


def test_a_jordan_form_with_weights_too_large_is_left_out():
    # Nearly dependent eigenvectors: the basis would need weights beyond 10^4.
    w = np.array([[0.5, 1e6], [0.0, 0.6]])
    network = ReluRNN(
        (Affine(np.concatenate([w, np.ones((2, 1))], axis=1), np.zeros(2)),),
        (Affine(np.ones((1, 2)), np.zeros(1)),),
    )
    chex.assert_trees_all_equal(jordan(network, eps=1e-9), network)


@given(SEEDS)
def test_debiasing_leaves_nothing_to_move_and_changes_no_output(seed):
    rng = np.random.default_rng(seed)
    reads = rng.normal(size=(3, 4))
    reads[:, rng.integers(4)] = 0  # a state that the recurrence does not read
    network = ReluRNN(
        (Affine(np.concatenate([reads, rng.normal(size=(3, 2))], axis=1), rng.normal(size=3)),
         Affine(rng.normal(size=(4, 3)), rng.normal(size=4))),
        (Affine(rng.normal(size=(2, 4)), rng.normal(size=2)),),
    )  # fmt: skip
    moved = debias(network, eps=1e-9)
    np.testing.assert_allclose(run(moved, X)[1], run(network, X)[1], atol=1e-9)
    np.testing.assert_allclose(moved.transition[-1].bias @ np.linalg.svd(reads)[2][-1], 0, atol=1e-12)
    chex.assert_trees_all_close(debias(moved, eps=1e-9), moved, atol=1e-12)


@given(SEEDS, st.floats(0.001, 0.5))
def test_quantizing_moves_a_weight_to_a_whole_number_or_not_at_all(seed, eps):
    network = network_of(seed, (3, 2, 1))
    rounded = quantize(network, eps=eps)
    for old, new in zip(jax.tree.leaves(network), jax.tree.leaves(rounded), strict=True):
        near = np.abs(old - np.round(old)) < eps
        np.testing.assert_array_equal(new[near], np.round(old)[near])
        np.testing.assert_array_equal(new[~near], old[~near])
    chex.assert_trees_all_equal(quantize(rounded, eps=eps), rounded)


@settings(max_examples=20)
@given(SEEDS, st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_blocks_that_are_fed_become_shift_registers_fed_at_the_end(seed, sizes):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    w = np.zeros((n, n))
    place, ends = 0, []
    for i, size in enumerate(sizes):
        here = slice(place, place + size)
        w[here, here] = 0.3 * i * np.eye(size) + np.eye(size, k=1)
        place += size
        ends.append(place - 1)
    into = rng.normal(size=(n, 1))
    into[ends] = np.sign(into[ends]) * (0.5 + np.abs(into[ends]))
    network = ReluRNN(
        (Affine(np.concatenate([w, into], axis=1), rng.normal(size=n)),),
        (Affine(rng.normal(size=(1, n)), np.zeros(1)),),
    )
    fed = toeplitz(network)
    assert [b - a for a, b in blocks(w)] == sizes
    np.testing.assert_allclose(effective_transition(fed), w, atol=1e-8)
    want = np.zeros((n, 1))
    want[ends] = 1
    np.testing.assert_allclose(effective_input(fed), want, atol=1e-8)
    np.testing.assert_allclose(run(fed, X[..., :1])[1], run(network, X[..., :1])[1], rtol=1e-6, atol=1e-6)
    chex.assert_trees_all_close(toeplitz(fed), fed, atol=1e-8)


def test_complex_pairs_and_blocks_without_input_are_left_alone():
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    for w, into in (
        (turn, [[1.0], [2.0]]),
        (np.eye(2, k=1), [[0.0], [0.0]]),
        (np.eye(2, k=1), [[3.0], [0.0]]),
    ):
        network = ReluRNN(
            (Affine(np.concatenate([w, into], axis=1), np.zeros(2)),), (Affine(np.ones((1, 2)), np.zeros(1)),)
        )
        chex.assert_trees_all_equal(toeplitz(network), network)


@settings(max_examples=10)
@given(SEEDS, SIZES, st.sampled_from([None, 0.0, 1e-6, 10.0]))
def test_the_pipeline_keeps_what_it_says_it_keeps(seed, sizes, tolerance):
    network = network_of(seed, sizes)
    reference = run(network, X)[1]
    before = in_double(network)
    for step in normalize(network, X, jordan_eps=1e-6, tolerance=tolerance):
        assert step.kept == (tolerance is None or step.change <= tolerance)
        if step.kept:
            change = float(np.abs(run(step.network, X)[1] - reference).max())
            assert change == pytest.approx(step.change, rel=1e-6, abs=1e-12)
        else:
            chex.assert_trees_all_equal(step.network, before)
        before = step.network


@settings(max_examples=15)
@given(SEEDS, SIZES)
def test_states_and_outputs_are_those_of_the_recurrence(seed, sizes):
    network = network_of(seed, sizes)
    states, outputs = run(network, X)

    def mlp(layers, vector):
        for layer in layers[:-1]:
            vector = np.maximum(layer.weight @ vector + layer.bias, 0)
        return layers[-1].weight @ vector + layers[-1].bias

    for b in range(0, len(X), 5):
        hidden = np.zeros(sizes[0])
        for t, x in enumerate(X[b]):
            hidden = mlp(network.transition, np.concatenate([hidden, x]))
            np.testing.assert_allclose(states[b, t], hidden, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(outputs[b, t], mlp(network.readout, hidden), rtol=1e-9, atol=1e-12)


def test_layers_are_exchanged_by_their_place():
    network = network_of(0, (2, 2, 2))
    other = Affine(np.zeros((2, 4)), np.zeros(2))
    changed = basis.replace_layers(network, {1: other}, {1: other})
    assert changed.transition[1] is other and changed.readout[1] is other
    assert changed.transition[0] is network.transition[0] and changed.readout[0] is network.readout[0]
    assert replace_layers(network).transition == network.transition
