"""Enumeration: what is found is right and smallest, and equal vectors are known as equal."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.programs import expression as ex
from mips.programs.enumeration import Enumerator, Grammar, _Bank, _binary, _unary, find
from mips.programs.evaluation import evaluate
from tests.mips.strategies import SEEDS

ROWS = np.stack(np.meshgrid(np.arange(-3, 5), np.arange(5)), axis=-1).reshape(-1, 2)
LEAVES = {"s": ROWS[:, 0], "x": ROWS[:, 1]}
SMALL = Grammar(largest=5, most=20_000)
UNARY = {"abs": abs, "not": lambda a: int(a == 0), "neg": lambda a: -a, "inc": lambda a: a + 1}
UNARY |= {"dec": lambda a: a - 1, "positive": lambda a: int(a > 0), "plus100": lambda a: a + 100}
UNARY |= {"minus100": lambda a: a - 100}


def in_the_grammar(rng, size):
    """A random expression of a size, of the enumerator's own operations."""
    if size == 1:
        return rng.choice([ex.var("s"), ex.var("x"), *map(ex.const, SMALL.constants)])
    if size == 2 or rng.random() < 0.2:
        return ex.apply(rng.choice(SMALL.unary), in_the_grammar(rng, size - 1))
    left = int(rng.integers(1, size - 1))
    op = rng.choice(SMALL.binary)
    right = in_the_grammar(rng, size - 1 - left)
    if op in {"//", "%"}:
        right = ex.const(int(rng.integers(1, 4))) if size - 1 - left == 1 else ex.var("x")
        op = op if right.op == "const" else "+"
    return ex.apply(str(op), in_the_grammar(rng, left), right)


def on(rows, expr):
    return np.broadcast_to(evaluate(expr, rows), len(next(iter(rows.values()))))


@pytest.fixture(scope="module")
def everything():
    """One enumerator that has grown to its end, whose bank other searches look into."""
    enumerator = Enumerator(LEAVES, dataclasses.replace(SMALL, largest=5))
    enumerator.search([np.arange(len(ROWS)) * 7919 % 3001])
    return enumerator


@given(SEEDS, st.integers(1, 4))
def test_what_is_found_is_right_and_no_larger_than_what_was_hidden(seed, size):
    hidden = in_the_grammar(np.random.default_rng(seed), size)
    target = on(LEAVES, hidden)
    (found,) = find(LEAVES, [target], dataclasses.replace(SMALL, largest=4))
    assert found is not None and ex.size(found) <= ex.size(hidden)
    np.testing.assert_array_equal(on(LEAVES, found), target)


def test_every_vector_in_the_bank_is_the_value_of_its_expression(everything):
    table = np.concatenate(everything.bank.values)
    assert len(table) == everything.bank.offsets[-1] > 200
    for number in range(0, len(table), 3):
        expr = everything.expression(number)
        np.testing.assert_array_equal(on(LEAVES, expr), table[number], err_msg=str(expr))


def test_the_bank_holds_each_vector_once_in_the_order_of_size(everything):
    table = np.concatenate(everything.bank.values)
    assert len(np.unique(table, axis=0)) == len(table)
    sizes = [ex.size(everything.expression(n)) for n in range(0, len(table), 3)]
    assert sizes == sorted(sizes)


@given(SEEDS, st.integers(1, 40), st.integers(1, 30))
def test_hashes_are_equal_exactly_where_vectors_are(seed, rows, count):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (count, rows)).astype(np.int32)
    vectors = np.concatenate([vectors, vectors[rng.permutation(count)]])
    keys = _Bank(rows).hash(vectors)
    equal = (vectors[:, None] == vectors).all(axis=2)
    np.testing.assert_array_equal(keys[:, None] == keys, equal)


@given(SEEDS)
def test_first_occurrences_are_fresh_once_and_then_remembered(seed):
    rng = np.random.default_rng(seed)
    bank = _Bank(3)
    known = set()
    for _ in range(4):
        keys = rng.integers(0, 9, 6).astype(np.uint64)
        fresh = bank.unseen(keys)
        want = [i for i, k in enumerate(keys) if k not in known and k not in keys[:i]]
        assert fresh.tolist() == want
        bank.remember(keys[fresh])
        known |= set(keys.tolist())


@given(st.lists(st.integers(-(2**15) + 1, 2**15 - 1), min_size=1, max_size=10), st.integers(1, 2**15 - 1))
def test_operations_are_those_of_the_language(values, other):
    a = np.array([values], np.int32)
    for name, rule in UNARY.items():
        assert _unary(name, a).tolist() == [[rule(v) for v in values]], name
    b = np.full_like(a, other)
    for name in (*SMALL.binary, "^"):
        got = _binary(name, a[:, None], b[None])[0, 0]
        want = evaluate(
            ex.apply(name, ex.var("a"), ex.var("b")), {"a": a[0].astype(int), "b": b[0].astype(int)}
        )
        np.testing.assert_array_equal(got, want, err_msg=name)


def test_unknown_operations_are_named():
    with pytest.raises(ValueError, match="no unary operation 'sqrt'"):
        find({"x": np.arange(3)}, [np.array([7, 7, 9])], Grammar(unary=("sqrt",)))
    with pytest.raises(ValueError, match=r"no binary operation '\*\*'"):
        find({"x": np.arange(3)}, [np.array([7, 7, 9])], Grammar(unary=(), binary=("**",)))


@settings(max_examples=15)
@given(SEEDS, st.permutations(range(len(ROWS))))
def test_the_order_of_rows_and_copies_of_them_change_nothing(seed, order):
    hidden = in_the_grammar(np.random.default_rng(seed), 3)
    target = on(LEAVES, hidden)
    limits = dataclasses.replace(SMALL, largest=3)
    order = np.array([*order, *order[:9]])
    plain = find(LEAVES, [target], limits)
    mixed = find({n: v[order] for n, v in LEAVES.items()}, [target[order]], limits)
    assert [ex.size(e) for e in plain] == [ex.size(e) for e in mixed]
    np.testing.assert_array_equal(on(LEAVES, mixed[0]), target)


def test_targets_are_sought_one_by_one_and_come_in_their_order():
    x = np.arange(-20, 20)
    targets = [x + 1, (x * 7919) % 101, abs(x), np.full(40, 3), x * 10**6]
    found = find({"x": x}, targets, Grammar(largest=4))
    assert [None if e is None else str(e) for e in found] == ["x + 1", None, "abs(x)", "3", None]


@pytest.mark.parametrize(
    "text", ["x - s * x", "s * x - x", "x < s * s", "s * s < x", "x // (s * s + 1)", "x * s - 3"]
)
def test_operations_are_tried_with_the_larger_part_on_either_side(text):
    target = on(LEAVES, ex.parse(text))
    (found,) = find(LEAVES, [target], dataclasses.replace(SMALL, largest=7, unary=()))
    assert found is not None and ex.size(found) <= ex.size(ex.parse(text))
    np.testing.assert_array_equal(on(LEAVES, found), target)


def test_a_conditional_is_found_where_no_plain_expression_does():
    s, x = ROWS.T
    target = np.where(s < 0, x * x, s + 2)
    plain = Grammar(largest=4)
    assert find(LEAVES, [target], plain) == [None]
    (found,) = find(LEAVES, [target], dataclasses.replace(plain, conditional=True))
    assert found.op == "if" and ex.size(found) == 10
    np.testing.assert_array_equal(on(LEAVES, found), target)


@settings(max_examples=15)
@given(SEEDS, st.floats(0.01, 0.04))
def test_what_is_tolerated_misses_no_more_rows_than_allowed(seed, share):
    rng = np.random.default_rng(seed)
    s, x = rng.integers(0, 6, (2, 1500))
    target = np.where(rng.random(1500) < share / 3, 9, s + x)
    (found,) = find({"s": s, "x": x}, [target], dataclasses.replace(SMALL, largest=4), tolerance=share)
    assert found is not None and (on({"s": s, "x": x}, found) != target).mean() <= share
    assert str(found) == "s + x"


def test_divisors_that_are_not_positive_in_a_row_are_left_out():
    x = np.arange(-4, 5)
    enumerator = Enumerator({"x": x}, Grammar(constants=(5,), unary=(), binary=("//", "%"), largest=4))
    enumerator.search([np.full(9, 99)])
    made = [str(enumerator.expression(n)) for n in range(enumerator.bank.offsets[-1])]
    assert "x // 5" in made and "x % 5" in made and not any("// x" in m or "% x" in m for m in made)


def test_values_of_more_than_fifteen_bits_are_dropped():
    x = np.arange(200)
    enumerator = Enumerator({"x": x}, Grammar(constants=(150,), unary=(), binary=("*", "+"), largest=5))
    enumerator.search([x * 0 - 1])
    assert all(np.abs(v).max(initial=0) < 1 << 15 for v in enumerator.bank.values)
    assert find({"x": x}, [x * x * x], Grammar(constants=(), unary=(), binary=("*",), largest=5)) == [None]


def test_arithmetic_that_passes_through_a_table_gives_way_to_cases():
    """What `abs((s - x) // 3)` says of a machine for Tomita 5 it says by the way Python rounds."""
    s, x = (a.ravel() for a in np.meshgrid(np.arange(4), np.arange(2), indexing="ij"))
    (found,) = find({"s": s, "x": x}, [np.abs((s - x) // 3)], Grammar())
    assert str(found) == "not s if x else s == 3"


@pytest.mark.parametrize("text", ["(s + x) % 5", "(2 * s + x) // 3", "(s + x + 4) % 5", "abs(x - s)"])
def test_arithmetic_that_counts_stays(text):
    s, x = (a.ravel() for a in np.meshgrid(np.arange(5), np.arange(5), indexing="ij"))
    rows = {"s": s, "x": x}
    constants = (*Grammar().constants, 5, 4)
    (found,) = find(rows, [on(rows, ex.parse(text))], Grammar(constants=constants))
    assert found is not None and not any(node.op == "if" for node in ex.nodes(found))


@given(SEEDS, st.integers(5, 7))
@settings(max_examples=15, deadline=None)
def test_what_gives_way_is_still_said_on_every_row(seed, size):
    hidden = in_the_grammar(np.random.default_rng(seed), size)
    target = on(LEAVES, hidden)
    (found,) = find(LEAVES, [target], dataclasses.replace(SMALL, largest=5))
    if found is not None:
        np.testing.assert_array_equal(on(LEAVES, found), target)
        assert ex.size(found) <= 7
