"""Boolean formulas against all truth tables, and programs against the clusters they come from."""

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.paper import boolean
from mips.paper.boolean import Clusters, boolean_program, formula
from mips.programs import expression as ex
from mips.programs.evaluation import evaluate
from tests.mips.strategies import SEEDS

NAMES = ("a", "b", "c")
BITS = {n: np.array(v) for n, v in zip(NAMES, np.indices((2, 2, 2)).reshape(3, 8), strict=True)}


def test_formulas_have_the_truth_table_they_were_made_from_and_use_no_other_variable():
    for number in range(256):
        table = np.array([number >> i & 1 for i in range(8)])
        expr = formula(table, NAMES)
        np.testing.assert_array_equal(np.broadcast_to(evaluate(expr, BITS), 8), table, err_msg=str(expr))
        cube = table.reshape(2, 2, 2)
        used = {n for i, n in enumerate(NAMES) if (cube.take(0, axis=i) != cube.take(1, axis=i)).any()}
        assert ex.names(expr) == used


@given(st.lists(st.integers(0, 1), min_size=4, max_size=4))
def test_symmetric_functions_are_tests_of_the_sum_where_that_is_shorter(levels):
    table = np.array([levels[i.bit_count()] for i in range(8)])
    text = str(formula(table, NAMES))
    cube = table.reshape(2, 2, 2)
    variables = [ex.var(n) for n in NAMES]
    if len(set(levels)) > 1:
        ways = (boolean._by_sum(cube, variables), boolean._normal_form(cube, variables))
        assert len(text) == min(len(str(way)) for way in ways)
    if levels == [0, 1, 0, 1]:
        assert text == "a ^ b ^ c"
    steps = [k for k in range(3) if levels[k] != levels[k + 1]]
    if len(steps) == 1:
        by_sum = str(boolean._by_sum(cube, variables))
        assert by_sum == (f"a + b + c > {steps[0]}" if levels[0] == 0 else f"a + b + c < {steps[0] + 1}")


def test_functions_that_are_not_symmetric_have_no_test_of_the_sum():
    assert boolean._by_sum(np.array([[0, 1], [0, 1]]), [ex.var("a"), ex.var("b")]) is None


@settings(max_examples=6)
@given(SEEDS, st.integers(1, 2), st.integers(1, 2))
def test_programs_follow_their_clusters(seed, bits, channels):
    rng = np.random.default_rng(seed)
    count, symbols = 2**bits, 2**channels
    clusters = Clusters(
        rng.integers(0, count, (count, symbols)),
        rng.integers(0, 2, (count, symbols)),
        int(rng.integers(count)),
        True,
    )
    names = ("x", "w")[:channels]
    program = boolean_program(clusters, bits=bits, inputs=names)
    x = rng.integers(0, 2, (20, 8, channels))
    got = program.run(x)[..., 0]
    for sequence, row in zip(x, got, strict=True):
        here = clusters.start
        for step, said in zip(sequence, row, strict=True):
            symbol = int("".join(map(str, step)), 2)
            assert said == clusters.output[here, symbol]
            here = clusters.next[here, symbol]
    assert program.kind == "boolean" and len(program.state) == bits


@settings(max_examples=3)
@given(SEEDS)
def test_the_numbering_of_clusters_does_not_change_how_short_the_program_is(seed):
    rng = np.random.default_rng(seed)
    one = Clusters(rng.integers(0, 4, (4, 2)), rng.integers(0, 2, (4, 2)), 0, True)
    order = rng.permutation(4)
    number = np.argsort(order)
    two = Clusters(number[one.next[order]], one.output[order], int(number[0]), True)
    lengths = []
    for clusters in (one, two):
        program = boolean_program(clusters, bits=2, inputs=("x",))
        lengths.append(sum(len(str(e)) for e in (*program.updates, *program.outputs)))
    assert lengths[0] == lengths[1]


def test_rows_never_seen_count_as_zero():
    clusters = Clusters(np.array([[0, -1], [-1, -1]]), np.array([[1, -1], [-1, -1]]), 0, True)
    program = boolean_program(clusters, bits=1, inputs=("x",))
    assert program.run(np.array([[[0], [1], [0]]])).ravel().tolist() in ([1, 0, 1], [1, 0, 0])


def hidden_states(rng, points, next_state):
    """States around corners of a square, as a network with two units would have them."""
    corners = np.array([[0.0, 0.0], [0.0, 4.0], [4.0, 0.0], [4.0, 4.0]])
    before = rng.integers(0, 4, points)
    x = rng.integers(0, 2, (points, 1))
    after = next_state(before, x[:, 0])

    def noise():
        return 0.05 * rng.normal(size=(points, 2))

    return corners[before] + noise(), x, corners[after] + noise(), before, after


@pytest.fixture(scope="module")
def counter():
    """Counts modulo four; output 1 where it comes to zero."""
    pytest.importorskip("sklearn")
    return hidden_states(np.random.default_rng(0), 80, lambda s, x: (s + x) % 4)


def test_clusters_are_the_states_and_their_tables_the_moves(counter):
    before, x, after, old, new = counter
    clusters = boolean.tabulate(before, x, after, (new == 0).astype(int), bits=2, all_rows=True)
    assert clusters.consistent
    labels = boolean.cluster(np.concatenate([before, after]), 4)[: len(old)]
    names = [int(np.bincount(labels[old == s]).argmax()) for s in range(4)]
    assert sorted(names) == [0, 1, 2, 3] and clusters.start == names[0]
    for s, bit in itertools.product(range(4), (0, 1)):
        assert clusters.next[names[s], bit] == names[(s + bit) % 4]
        assert clusters.output[names[s], bit] == ((s + bit) % 4 == 0)
    program = boolean_program(clusters, bits=2, inputs=("x",))
    sequence = np.random.default_rng(1).integers(0, 2, (5, 12, 1))
    np.testing.assert_array_equal(program.run(sequence), np.cumsum(sequence, axis=1) % 4 == 0)


def test_contradictions_are_seen_in_every_row_or_in_the_first_ones_alone(counter, monkeypatch):
    before, x, after, old, _ = counter
    noise = np.random.default_rng(2).integers(0, 2, len(old))
    # The reference looks at the first 2^bits of the rows: two clusters of four, at most.
    labels = boolean.cluster(np.concatenate([before, after]), 4)
    monkeypatch.setattr(boolean, "cluster", lambda hidden, count: labels)
    late = np.where(labels[: len(old)] >= 2, noise, 0)
    seen = [
        boolean.tabulate(before, x, after, outputs, bits=2, all_rows=rows).consistent
        for outputs, rows in ((noise, True), (noise, False), (late, True), (late, False))
    ]
    assert seen == [False, False, False, True]


def test_fewer_points_than_clusters_give_no_table(counter):
    x = np.array([[0], [1]])
    assert (
        boolean.tabulate(np.zeros((2, 1)), x, np.ones((2, 1)), np.array([0, 1]), bits=2, all_rows=True)
        is None
    )


def test_more_than_three_bits_are_not_tried():
    x = np.zeros((5, 1), int)
    programs = boolean.boolean_programs(
        np.zeros((5, 4)), x, np.zeros((5, 4)), np.zeros(5, int), names=("x",), all_rows=True
    )
    assert list(programs) == []


def test_a_missing_clustering_library_is_named_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'quintet-jax\[mips\]'"):
        boolean.require_clustering()
