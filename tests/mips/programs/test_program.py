"""Expressions and programs: one tree, printed, parsed, stored and interpreted."""

import json

import numpy as np
import pytest

from mips.programs import expression as ex
from mips.programs.evaluation import evaluate
from mips.programs.program import Program, parse_program
from mips.reading.symbolic_lifting import table_program
from tests.mips.machines import adder

X, S = ex.var("x"), ex.var("s")
SCALAR = [
    "+",
    "-",
    "*",
    "//",
    "%",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "min",
    "max",
    "and",
    "or",
    "not",
    "abs",
    "neg",
    "if",
]


def random_expression(rng, depth):
    if depth == 0 or rng.random() < 0.2:
        return [X, S, ex.const(int(rng.integers(-4, 5)))][rng.integers(3)]
    op = SCALAR[rng.integers(len(SCALAR))]
    args = [random_expression(rng, depth - 1) for _ in range(ex.OPERATIONS[op].arity)]
    if op in ("//", "%"):
        args[1] = ex.const(int(rng.integers(1, 6)))
    return ex.apply(op, *args)


@pytest.mark.parametrize("seed", range(60))
def test_text_means_what_the_interpreter_computes(seed):
    rng = np.random.default_rng(seed)
    expr = random_expression(rng, 4)
    x, s = rng.integers(-9, 10, (2, 30))
    ours = np.broadcast_to(evaluate(expr, {"x": x, "s": s}), 30)
    # The text is ours, made two lines above: the one place where Python runs it, to compare.
    theirs = [int(eval(str(expr), {"x": int(a), "s": int(b)})) for a, b in zip(x, s, strict=True)]
    np.testing.assert_array_equal(ours, theirs, err_msg=str(expr))
    assert str(ex.parse(str(expr))) == str(expr)
    assert ex.from_json(json.loads(json.dumps(ex.to_json(expr)))) == expr


@pytest.mark.parametrize("seed", range(10))
def test_sympy_means_the_same(seed):
    rng = np.random.default_rng(100 + seed)
    expr = random_expression(rng, 3)
    symbolic = ex.to_sympy(expr)
    for a, b in rng.integers(-9, 10, (5, 2)).tolist():
        want = int(np.ravel(evaluate(expr, {"x": np.array([a]), "s": np.array([b])}))[0])
        import sympy as sp

        assert int(symbolic.subs({sp.Symbol("x", integer=True): a, sp.Symbol("s", integer=True): b})) == want


SOURCES = {
    "carry": """def f(xs):
    c = 0
    for x, w in xs:
        v = c + x + w
        yield v % 7
        c = int(6 < v)
""",
    "history": """def f(xs):
    history = []
    for x in xs:
        history = history + [x]
        yield int(history == history[::-1])
""",
    "votes": """def f(xs):
    c0 = 0
    c1 = 0
    for x in xs:
        c0, c1 = c0 + (x == 0), c1 + (x == 1)
        yield [c0, c1].index(max([c0, c1]))
""",
    "set": """def f(xs):
    for x in xs:
        yield int(x in (0, 1, 4, 9, 16)), len(set([x, 3])), sum([x, x]), min(x, 3)
""",
}


@pytest.mark.parametrize("name", list(SOURCES))
def test_programs_survive_text_and_json(name):
    program = parse_program(SOURCES[name])
    assert parse_program(program.source("f")) == program
    assert Program.from_json(json.loads(json.dumps(program.to_json()))) == program
    x = np.random.default_rng(0).integers(0, 5, (20, 12, len(program.inputs)))
    namespace = {}
    exec(program.source("f"), namespace)
    for sequence, row in zip(x, program.run(x), strict=True):
        steps = sequence[:, 0].tolist() if x.shape[2] == 1 else [tuple(s) for s in sequence.tolist()]
        assert [list(y) if isinstance(y, tuple) else [y] for y in namespace["f"](steps)] == row.tolist()


def test_tables_survive_text():
    program = table_program(adder(3))
    assert program.uses_table
    assert parse_program(program.source()) == Program(**{**vars(program), "kind": "text"})


def test_big_numbers_are_exact_on_request():
    program = parse_program("def f(xs):\n    s = 1\n    for x in xs:\n        s = s * x\n        yield s\n")
    assert program.run(np.full((1, 40, 1), 10), exact=True)[0, -1, 0] == 10**40


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import os\n", "one function"),
        ("def f(xs):\n    for x in xs:\n        yield __import__('os')\n", "not part of the language"),
        ("def f(xs):\n    for x in xs:\n        yield x.real\n", "not part of the language"),
        ("def f(xs):\n    for x in xs:\n        print(x)\n", "line 3"),
        ("def f(xs):\n    for x in xs:\n        yield y\n", "unknown names in y"),
        ("def f(xs):\n    s = xs\n    for x in xs:\n        yield s\n", "line 2"),
        ("def f(xs):\n    for x in xs:\n        pass\n", "line 3"),
        ("def f(xs:\n", "not Python"),
        ("def f(xs):\n    return 3\n", "loop over its argument"),
        ("def f(xs):\n    for x in xs[::-1]:\n        yield x\n", "must go over xs"),
        ("def f(xs):\n    for x in xs:\n        yield x\n    else:\n        yield 5\n", "no else"),
        ("y = 3\ndef f(xs):\n    for x in xs:\n        yield x\n", "nothing beside it"),
        ("def f(xs, n):\n    for x in xs:\n        yield x\n", "one argument"),
        (
            "def f(xs):\n    T = (1, 2)\n    for x in xs:\n        yield T[0]\n        T = (9, 9)\n",
            "T cannot be assigned",
        ),
        (
            "def f(xs):\n    s = 0\n    s = (1, 2)\n    for x in xs:\n        yield s[1]\n",
            "has a value already",
        ),
        ("def f(xs):\n    for x, in xs:\n        yield x\n", "must name its inputs"),
        ("def f(xs):\n    for x in xs:\n        yield max(x)\n", "not for int"),
        ("def f(xs):\n    for x in xs:\n        yield x[0]\n", "not for int"),
        (
            "def f(xs):\n    h = []\n    for x in xs:\n        h = h + [x]\n        yield len(h + h)\n",
            "not for list, list",
        ),
        ("def f(xs):\n    for x in xs:\n        yield ()\n", "at least one"),
        (
            "def f(xs):\n    a = 1\n    for x in xs:\n" + "        a = a + a\n" * 40 + "        yield a\n",
            "20000 parts",
        ),
        ("def f(xs):\n    for x in xs:\n        yield " + "-" * 3000 + "x\n", "nested too deeply"),
        (f"def f(xs):\n    for x in xs:\n        yield x + {2**63}\n", "less than 63 bits"),
    ],
)
def test_other_text_is_refused_and_never_run(text, error):
    with pytest.raises(ValueError, match=error):
        parse_program(text)


def test_description_length_counts_nodes_and_constants():
    small, large = ex.parse("x % 5"), ex.parse("x % 500")
    assert ex.bits(large, variables=1) - ex.bits(small, variables=1) == pytest.approx(np.log2(501 / 6))
    assert ex.bits(ex.parse("x + x"), variables=1) > ex.bits(X, variables=1)


GUARDED = (
    "0 if x == 0 else 6 // x",
    "x != 0 and 6 // x",
    "x == 0 or 6 % x",
    "T[x] if x < 2 else T[0 - 1]",
    "T[x - 2]",
    "(x and 3 // x) + (7 if x > 2 else 1 % (3 - x))",
)


@pytest.mark.parametrize("text", GUARDED)
def test_what_is_not_needed_is_not_evaluated(text):
    source = f"def f(xs):\n    T = (4, 5)\n    for x in xs:\n        yield int({text})\n"
    namespace = {}
    exec(source, namespace)
    x = np.arange(4)[:, None, None]
    want = [next(namespace["f"]([int(v)])) for v in x.ravel()]
    assert parse_program(source).run(x).ravel().tolist() == want


def test_names_and_values_in_json_are_checked():
    data = parse_program(SOURCES["carry"]).to_json()
    for change, error in (
        ({"state": ["s=__import__('os');s"]}, "cannot be a name"),
        ({"initial": ["a"]}, "less than 63 bits"),
        ({"tables": [["T", 5]]}, "a table must be"),
        ({"state": ["x"]}, "used twice"),
    ):
        with pytest.raises(ValueError, match=error):
            Program.from_json(data | change)


def test_errors_in_a_program_are_errors():
    program = parse_program("def f(xs):\n    for x in xs:\n        yield 6 // x\n")
    with pytest.raises(ZeroDivisionError):
        program.run(np.zeros((1, 2, 1), int))
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        program.run(np.zeros((2, 3), int))


@pytest.mark.parametrize("levels", [ex.MOST_DEPTH + 1, 3000, 30_000])
def test_an_expression_nested_too_deeply_is_refused_with_the_limit(levels):
    deep = ex.var("x")
    for _ in range(levels - 1):
        deep = ex.Expr("abs", (deep,))
    with pytest.raises(ValueError, match=f"{levels} levels deep; at most {ex.MOST_DEPTH}"):
        Program(("x",), (), (), (), (deep,))


def test_what_is_as_deep_as_allowed_can_be_run_written_and_read():
    deep = ex.var("x")
    for _ in range(ex.MOST_DEPTH - 1):
        deep = ex.Expr("abs", (deep,))
    program = Program(("x",), (), (), (), (deep,))
    assert parse_program(program.source()).outputs == program.outputs
    assert Program.from_json(program.to_json()) == program
    assert program.run(np.full((1, 2, 1), -3)).tolist() == [[[3], [3]]]
    assert program.bits > 0 and program.latex()
