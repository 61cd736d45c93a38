"""Evaluation: rows fail alone, as they would in Python, and kinds are known before anything runs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.programs import evaluation as ev
from mips.programs import expression as ex
from tests.mips.strategies import expressions, integer_expressions

KINDS = {"x": "int", "s": "int", "h": "list", "T": "table 1", "TT": "table 2"}


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.lists(st.integers(-4, 4), min_size=1))
def test_rows_fail_where_python_fails_and_with_the_same_error(xs, table):
    T, text = tuple(table), "T[x] // x + [x, 2].index(2 - x) if x != 1 else max([x, 5])"
    failed = np.zeros(len(xs), np.int8)
    values = ev.attempt(ex.parse(text), {"x": np.array(xs)}, {"T": np.array(T)}, failed)
    for x, value, code in zip(xs, np.broadcast_to(values, len(xs)), failed, strict=True):
        try:
            want = eval(text, {"x": x, "T": T})
        except (ZeroDivisionError, IndexError, ValueError) as error:
            assert type(ev.ERRORS[int(code)]) is type(error)
        else:
            assert (code, value) == (ev.OK, want)


@settings(max_examples=25)
@given(expressions(), st.permutations(range(8)))
def test_rows_do_not_know_of_each_other(expr, order):
    rng = np.random.default_rng(0)
    x, s, h = rng.integers(-5, 6, 8), rng.integers(-5, 6, 8), rng.integers(-5, 6, (8, 3))
    order = list(order)
    whole = np.broadcast_to(ev.evaluate(expr, {"x": x, "s": s, "h": h}), 8)
    shuffled = ev.evaluate(expr, {"x": x[order], "s": s[order], "h": h[order]})
    np.testing.assert_array_equal(np.broadcast_to(shuffled, 8), whole[order])
    alone = [ev.evaluate(expr, {"x": x[i : i + 1], "s": s[i : i + 1], "h": h[i : i + 1]}) for i in range(8)]
    assert [int(np.ravel(v)[0]) for v in alone] == whole.tolist()


@given(integer_expressions(), st.integers(0, 4))
def test_unbounded_integers_agree_with_sixty_four_bits_where_both_hold(expr, scale):
    x = np.array([-3, 0, 2, 7]) * 10**scale
    s = np.array([1, -4, 0, 3])
    plain = np.broadcast_to(ev.evaluate(expr, {"x": x, "s": s}), 4)
    unbounded = ev.evaluate(expr, {"x": x.astype(object), "s": s.astype(object)})
    exact = [int(v) for v in np.broadcast_to(unbounded, 4)]
    small = [abs(v) < 2**62 for v in exact]
    # Products of up to eight factors may wrap on the way; what comes out small is right modulo 2^64 at least.
    if all(small) and ex.size(expr) < 6:
        assert plain.tolist() == exact


def test_the_first_error_of_a_row_is_the_one_that_counts():
    expr = ex.parse("x // 0 + T[9]")
    failed = np.zeros(2, np.int8)
    ev.attempt(expr, {"x": np.array([1, 2])}, {"T": np.array([1])}, failed)
    assert failed.tolist() == [ev.DIVISION, ev.DIVISION]
    with pytest.raises(ZeroDivisionError):
        ev.evaluate(expr, {"x": np.array([1, 2])}, {"T": np.array([1])})


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("6 // x", ZeroDivisionError),
        ("6 % x", ZeroDivisionError),
        ("T[x + 2]", IndexError),
        ("T[x - 3]", IndexError),
        ("TT[0][x + 5]", IndexError),
        ("h.index(x)", ValueError),
        ("max(e)", ValueError),
        ("min(e)", ValueError),
        ("e.index(x)", ValueError),
        ("unheard + x", KeyError),
    ],
)
def test_errors_are_those_of_python(text, error):
    values = {"x": np.zeros(3, int), "h": np.ones((3, 2), int), "e": np.empty((3, 0), int)}
    tables = {"T": np.array([4, 5]), "TT": np.array([[4, 5]])}
    with pytest.raises(error):
        ev.evaluate(ex.parse(text), values, tables)


def test_lists_without_items():
    values = {"x": np.arange(3), "e": np.empty((3, 0), int)}
    for text, want in (
        ("sum(e)", 0),
        ("len(e)", 0),
        ("e.count(x)", 0),
        ("int(x in e)", 0),
        ("int(e == e[::-1])", 1),
        ("int(e == e + [x])", 0),
        ("int(e != e + [x])", 1),
        ("len(e + [x])", 1),
    ):
        got = np.broadcast_to(ev.evaluate(ex.parse(text), values), 3)
        assert got.tolist() == [want] * 3, text


@given(expressions())
def test_every_expression_of_integers_is_known_as_one(expr):
    assert ev.kind_of(expr, KINDS) == "int"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x", "int"),
        ("h", "list"),
        ("h + [x]", "list"),
        ("h[::-1]", "list"),
        ("[x, 1]", "list"),
        ("(1, 2)", "constant"),
        ("T[x]", "int"),
        ("TT[x][s]", "int"),
        ("x in h", "int"),
        ("x in (1, 2)", "int"),
        ("h == h", "int"),
        ("sum(h)", "int"),
        ("h.count(x)", "int"),
    ],
)
def test_kinds(text, kind):
    assert ev.kind_of(ex.parse(text), KINDS) == kind


@pytest.mark.parametrize(
    "text",
    [
        "h + 1",
        "h + h",
        "-h",
        "not h",
        "h < h",
        "x == h",
        "h if x else 1",
        "x in x",
        "h in h",
        "x in ((1, 2), 3)",
        "x[::-1]",
        "sum(x)",
        "h.index(h)",
        "x.count(x)",
        "T",
        "T[x][x]",
        "TT[x]",
        "T[h]",
        "h[h]",
        "h[0][0]",
        "h[:len(h) // 2] + 1",
        "sum(a == b for a, b in zip(x, h))",
        "sorted(x)",
        "x[0]",
        "[h, x]",
        "[]",
        "(1, 2)[x]",
        "(1, 2) + 1",
        "h + [h]",
    ],
)
def test_operations_on_what_they_do_not_take_are_refused(text):
    expr = ex.parse(text)
    if expr.op == "var":
        assert ev.kind_of(expr, KINDS) not in {"int", "list"}
        return
    with pytest.raises(ValueError, match="not for"):
        ev.kind_of(expr, KINDS)


@pytest.mark.parametrize(
    "value", [True, 1.0, "a", None, 1 << 62, -(1 << 62), (1, "a"), ((1,), (2.0,))], ids=str
)
def test_constants_are_integers_of_less_than_63_bits(value):
    with pytest.raises(ValueError, match="less than 63 bits"):
        ev.check_constant(value)


@given(st.recursive(st.integers(-(2**62) + 1, 2**62 - 1), lambda v: st.lists(v, max_size=3).map(tuple)))
def test_all_smaller_constants_pass_in_any_nesting(value):
    ev.check_constant(value)
    assert ev.kind_of(ex.const(value), {}) in {"int", "constant"}
