"""Expressions by laws: what is written means what is computed, and is read back as it was."""

import json
import math

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from mips.programs import expression as ex
from mips.programs.evaluation import evaluate
from tests.mips.strategies import expressions, integer_expressions

X = np.array([-9, -2, -1, 0, 1, 2, 5, 11])
S = np.array([3, 3, -7, 0, 1, -1, 10**6, 4])
H = np.stack([X, S, X + S], axis=1)


def by_python(expr):
    """What Python makes of the text, row by row: the text is this package's own, nothing foreign is run."""
    code = compile(str(expr), "<expression>", "eval")
    return [
        int(eval(code, {"x": int(x), "s": int(s), "h": [int(v) for v in h]}))
        for x, s, h in zip(X, S, H, strict=True)
    ]


@given(expressions())
def test_the_text_means_in_python_what_is_computed(expr):
    ours = np.broadcast_to(evaluate(expr, {"x": X, "s": S, "h": H}), len(X))
    assert ours.tolist() == by_python(expr)


@given(expressions())
def test_text_and_json_give_the_expression_back(expr):
    again = ex.parse(str(expr))
    # A negated constant is read as a negative one: the text is the same, and so is the value.
    assert str(again) == str(expr)
    assert ex.parse(str(again)) == again
    assert ex.from_json(json.loads(json.dumps(ex.to_json(expr)))) == expr


@given(integer_expressions(leaves=5), st.integers(-9, 9), st.integers(-9, 9))
def test_substitution_commutes_with_evaluation(expr, a, b):
    put = ex.substitute(expr, {"x": ex.const(a), "s": ex.const(b)})
    assert ex.names(put) == set()
    there = evaluate(expr, {"x": np.array([a]), "s": np.array([b])})
    assert int(np.ravel(evaluate(put, {}))[0]) == int(np.ravel(there)[0])


@given(integer_expressions(), integer_expressions(leaves=3))
def test_sizes_and_names_after_substitution_add_up(expr, other):
    put = ex.substitute(expr, {"x": other})
    times = sum(node == ex.var("x") for node in ex.nodes(expr))
    assert ex.size(put) == ex.size(expr) + times * (ex.size(other) - 1)
    expected = ex.names(expr) - {"x"} | (ex.names(other) if times else set())
    assert ex.names(put) == expected
    assert ex.substitute(expr, {}) == expr


@given(integer_expressions(), st.integers(1, 6))
def test_description_length_is_the_sum_over_nodes(expr, variables):
    # Spec 9: log2 of how many symbols have the node's arity, and log2(1 + |c|) + 1 for constants.
    arities = [operation.arity for operation in ex.OPERATIONS.values()]
    want = 0.0
    for node in ex.nodes(expr):
        if not node.args:
            want += math.log2(variables + 1)
            want += math.log2(1 + abs(node.value)) + 1 if node.op == "const" else 0
        else:
            want += math.log2(max(2, arities.count(len(node.args))))  # one bit where there is no choice
    assert ex.bits(expr, variables=variables) == pytest.approx(want)


@given(integer_expressions())
def test_a_larger_scope_never_makes_an_expression_shorter(expr):
    lengths = [ex.bits(expr, variables=k) for k in range(1, 6)]
    assert lengths == sorted(lengths)


@given(expressions())
def test_what_is_called_a_truth_value_is_zero_or_one_or_said_by_python_as_bool(expr):
    code = compile(str(expr), "<expression>", "eval")
    kinds = {
        type(eval(code, {"x": int(x), "s": int(s), "h": h.tolist()})) for x, s, h in zip(X, S, H, strict=True)
    }
    # A program's text must write int(...) wherever Python could say True: never too rarely.
    assert ex.is_truth(expr) or bool not in kinds


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("x == s", True),
        ("not x", True),
        ("(x < s) & (s < x)", True),
        ("(x < s) & s", False),
        ("x and s < x", True),
        ("x < s or s", True),
        ("x < s if s else 3", True),
        ("3 if s else x < s", True),
        ("x if s < x else s", False),
        ("(x < s) + 1", False),
        ("min(x < s, 1)", False),
    ],
)
def test_truth_values_are_known_by_their_form(text, truth):
    assert ex.is_truth(ex.parse(text)) is truth


@given(integer_expressions(leaves=4))
def test_sympy_means_the_same(expr):
    symbolic = ex.to_sympy(expr)
    symbols = {name: sp.Symbol(name, integer=True) for name in ("x", "s")}
    for x, s in ((0, 0), (-3, 2), (5, -4)):
        want = int(np.ravel(evaluate(expr, {"x": np.array([x]), "s": np.array([s])}))[0])
        assert int(sp.sympify(symbolic).subs({symbols["x"]: x, symbols["s"]: s})) == want


def test_sympy_of_memberships_and_bits():
    x = sp.Symbol("x", integer=True)
    member = ex.to_sympy(ex.parse("x in (1, 4)"))
    assert [member.subs({x: v}) for v in range(5)] == [0, 1, 0, 0, 1]
    assert ex.to_sympy(ex.parse("x in ()")) == 0
    for text, values in (("x & 1", [0, 1]), ("x | 1", [1, 1]), ("x ^ 1", [1, 0])):
        assert [ex.to_sympy(ex.parse(text)).subs({x: v}) for v in (0, 1)] == values
    with pytest.raises(ValueError, match="no sympy form"):
        ex.to_sympy(ex.parse("x & 6"))
    assert str(ex.to_sympy(ex.parse("h[::-1] == h + [x]"))) == "equal(reversed(h), append(h, x))"


BRACKETS = [
    ("(a + b) * c", "(a + b) * c"),
    ("a - (b - c)", "a - (b - c)"),
    ("(a - b) - c", "a - b - c"),
    ("(a < b) < c", "(a < b) < c"),
    ("a < (b < c)", "a < (b < c)"),
    ("not (a and b)", "not (a and b)"),
    ("(not a) and b", "not a and b"),
    ("-(a * b)", "-(a * b)"),
    ("(-a) * b", "-a * b"),
    ("a * (-b)", "a * -b"),
    ("(a if b else c) + 1", "(a if b else c) + 1"),
    ("a if (b if c else a) else c", "a if (b if c else a) else c"),
    ("a if b else (c if a else b)", "a if b else c if a else b"),
    ("(h + [a])[::-1]", "(h + [a])[::-1]"),
    ("(h + [a]).index(b)", "(h + [a]).index(b)"),
    ("a & (b | c) ^ a", "a & (b | c) ^ a"),
    ("T[a][b + 1]", "T[a][b + 1]"),
    ("int(a) + int(b == c)", "a + (b == c)"),
    ("min(a, b, c)", "min(min(a, b), c)"),
    ("a and b and c", "a and b and c"),
]


@pytest.mark.parametrize(("given_text", "written"), BRACKETS)
def test_brackets_stand_where_they_are_needed_and_nowhere_else(given_text, written):
    assert str(ex.parse(given_text)) == written


REFUSED = [
    "a < b < c",
    "a ** b",
    "a / b",
    "a @ b",
    "a << 1",
    "~a",
    "+a",
    "a is b",
    "a not in (1, 2)",
    "1.5",
    "'text'",
    "True",
    "None",
    "a.b",
    "f(a)",
    "abs()",
    "abs(a, b)",
    "abs(a, k=b)",
    "min()",
    "len(set())",
    "len(set(a, b))",
    "len(set(a, k=b))",
    "set(a)",
    "h.index()",
    "h.index(a, b)",
    "h.pop(a)",
    "h[1:]",
    "h[::-2]",
    "h[0:3:-1]",
    "h[a, b]",
    "(a, b)",
    "{a}",
    "[v for v in h]",
    "lambda: a",
    "(a := b)",
    "*a",
    "await a",
    "a b",
    "",
    "a\x00",
    "- " * 4000 + "a",
    "-" * 9000 + "a",
    "a" + " + a" * 5000,
    "(" * 3000 + "a" + ")" * 3000,
]


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20])
def test_text_outside_the_language_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"language|not an expression|deeply"):
        ex.parse(text)


@given(st.text(alphabet="xsh0123456789+-*/%()[]=<>!&|^,. notiandlefrs:", max_size=25))
def test_any_text_is_an_expression_or_a_value_error(text):
    try:
        expr = ex.parse(text)
    except ValueError:
        return
    assert ex.parse(str(expr)) == ex.parse(str(ex.parse(str(expr))))


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from([*ex.OPERATIONS, "var", "const"]),
    ),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@given(JSON)
def test_any_json_is_an_expression_or_a_value_error(data):
    try:
        expr = ex.from_json(data)
    except ValueError:
        return
    assert json.dumps(ex.to_json(expr)) == json.dumps(data)


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        "x",
        [["var", "x"]],
        ["var"],
        ["var", 3],
        ["var", "x", "y"],
        ["const"],
        ["const", True],
        ["const", 1.0],
        ["const", None],
        ["const", ["a"]],
        ["const", [1, [2.5]]],
        ["const", [True]],
        ["pow", ["var", "x"], ["const", 2]],
        ["+", ["var", "x"]],
        ["neg", ["var", "x"], ["var", "x"]],
        ["+", ["var", "x"], 3],
    ],
    ids=str,
)
def test_json_of_something_else_is_refused(data):
    with pytest.raises(ValueError, match="not an expression"):
        ex.from_json(data)


def test_json_without_end_is_refused():
    data = ["var", "x"]
    for _ in range(20_000):
        data = ["neg", data]
    with pytest.raises(ValueError, match="deeply"):
        ex.from_json(data)


def test_operations_outside_the_language_cannot_be_applied():
    with pytest.raises(ValueError, match=r"no operation 'pow'; there are if, or, and"):
        ex.apply("pow", ex.var("x"), ex.const(2))
