"""Regressions and searches of the published route against hidden rules and brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.networks.relu import ReluConfig, published_architecture
from mips.paper import regression
from mips.paper.pipeline import transitions
from mips.paper.search import better_search, published_search
from mips.programs import expression as ex
from mips.programs.evaluation import evaluate
from tests.mips.normalize.test_laws import network_of
from tests.mips.strategies import SEEDS


@settings(max_examples=15)
@given(SEEDS, st.integers(1, 3), st.integers(1, 2))
def test_whole_coefficients_are_found_behind_small_noise(seed, n, inputs):
    rng = np.random.default_rng(seed)
    a, b, c = rng.integers(-3, 4, (n, n)), rng.integers(-3, 4, (n, inputs)), rng.integers(-3, 4, n)
    read, d = rng.integers(-3, 4, (1, n)), rng.integers(-3, 4, 1)
    before, x = rng.integers(-9, 10, (300, n)), rng.integers(-9, 10, (300, inputs))
    after = before @ a.T + x @ b.T + c
    if np.linalg.matrix_rank(after - after.mean(axis=0)) < n:
        return  # outputs do not decide the coefficients then
    start = tuple(map(int, rng.integers(-3, 4, n)))
    names = ("x", "w")[:inputs]
    found = list(regression.linear_regression(before, x, after, after @ read.T + d, names, [start, start]))
    assert len(found) == 2 and found[0] == found[1] and found[0].kind == "linear"
    sequence = rng.integers(-5, 6, (4, 6, inputs))
    got = found[0].run(sequence)
    state = np.tile(start, (4, 1))
    for t in range(6):
        state = state @ a.T + sequence[:, t] @ b.T + c
        np.testing.assert_array_equal(got[:, t], state @ read.T + d)


def test_numbers_beyond_bounds_and_more_states_than_letters_give_nothing():
    x = np.arange(40)[:, None]
    huge = x * 10**10
    assert list(regression.linear_regression(x, x, huge, huge, ("x",), [(0,)])) == []
    wide = np.zeros((40, 11), int)
    assert list(regression.linear_regression(wide, x, wide, x, ("x",), [(0,) * 11])) == []


@given(SEEDS, st.integers(1, 4))
def test_every_rounding_comes_once_and_the_nearest_first(seed, n):
    z = np.random.default_rng(seed).normal(size=n) * 5
    found = list(regression.initial_states(z, every_rounding=True))
    assert found[0] == tuple(int(v) for v in np.round(z))
    assert len(set(found)) == len(found)
    want = set(itertools.product(*((int(np.floor(v)), int(np.ceil(v))) for v in z)))
    assert set(found) == want


SHORT = {"inc": 1, "dec": -1, "plus100": 100, "minus100": -100}


@given(st.lists(st.sampled_from([*SHORT, "positive", "neg", "abs", "not"]), max_size=4), st.integers(-50, 50))
def test_the_published_shorthand_means_what_it_is_written_out_as(operations, x):
    expr, want = ex.var("x"), x
    for op in operations:
        expr = ex.Expr(op, (expr,))
        if op in SHORT:
            want += SHORT[op]
        else:
            want = {"positive": int(want > 0), "neg": -want, "abs": abs(want), "not": int(want == 0)}[op]
    plain = regression.plain(expr)
    assert all(node.op in ex.OPERATIONS or not node.args for node in ex.nodes(plain))
    assert int(np.ravel(evaluate(plain, {"x": np.array([x])}))[0]) == want


def test_symbolic_regression_turns_coordinates_until_formulas_are_short():
    # Stored as 7 - s: only the turned coordinate has the short rule.
    rng = np.random.default_rng(0)
    s, x = rng.integers(0, 8, (2, 200, 1))
    after = np.abs(s - x)
    found = list(
        regression.symbolic_regression(7 - s, x, 7 - after, after, ("x",), [(7,), (3,)], all_rows=True)
    )
    turned = [p for p in found if p.initial == (0,)]
    assert turned and all(p.kind == "symbolic" for p in found)
    sequence = rng.integers(0, 8, (5, 6, 1))
    want = np.zeros((5, 1), int)
    got = turned[0].run(sequence)
    for t in range(6):
        want = np.abs(want - sequence[:, t])
        np.testing.assert_array_equal(got[:, t], want)


def test_symbolic_regression_leaves_large_states_alone():
    wide = np.zeros((9, 3), int)
    x = np.zeros((9, 1), int)
    assert list(regression.symbolic_regression(wide, x, wide, x, ("x",), [(0, 0, 0)], all_rows=True)) == []


@given(st.integers(256 * 256, 3 * 10**6))
def test_a_threshold_in_the_published_order_is_found_exactly(wanted):
    # Linear networks of all widths are one: units and depths say which come first.
    def order(config):
        return (config.readout_depth, config.transition_depth, config.hidden)

    limit = published_architecture(wanted, inputs=1, outputs=1)
    tried = []

    def learns(config):
        tried.append(config)
        return order(config) >= order(limit)

    found = published_search(learns, inputs=1, outputs=1)
    assert order(found) == max(order(limit), order(published_architecture(256 * 256, inputs=1, outputs=1)))
    assert len(set(tried)) == len(tried)


def test_nothing_is_found_where_nothing_succeeds_and_the_first_where_all_do():
    assert published_search(lambda c: False, inputs=1, outputs=1, largest=10**6) is None
    first = published_search(lambda c: True, inputs=3, outputs=2)
    assert (first.inputs, first.outputs, first.transition_depth, first.readout_depth) == (3, 2, 1, 1)
    assert first.hidden == 1


def test_the_quicker_search_tries_linear_networks_first_and_each_once():
    tried = list(better_search(inputs=2, outputs=1, largest=6))
    assert len(set(tried)) == len(tried) == 6 + 5 * 3
    assert tried[:6] == [ReluConfig(2, 1, n) for n in range(1, 7)]
    assert all(c.transition_depth > 1 or c.readout_depth > 1 for c in tried[6:])


@pytest.mark.parametrize("all_steps", [False, True])
def test_transitions_are_the_moves_of_the_network(all_steps):
    network = network_of(0, (3, 2, 1))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (7, 4, 2)), rng.integers(0, 5, (7, 4, 1))
    before, inputs, after, outputs = transitions(network, x, y, all_steps=all_steps)
    assert len(before) == 7 * (4 if all_steps else 1)
    f, g = network.transition
    moved = (
        np.maximum(np.concatenate([before, inputs], axis=1) @ f.weight.T + f.bias, 0) @ g.weight.T + g.bias
    )
    np.testing.assert_allclose(after, moved, atol=1e-9)
    steps = slice(None) if all_steps else slice(-1, None)
    np.testing.assert_array_equal(inputs, x[:, steps].reshape(-1, 2))
    np.testing.assert_array_equal(outputs, y[:, steps].reshape(-1, 1))
    if all_steps:
        assert not before.reshape(7, 4, 3)[:, 0].any()
