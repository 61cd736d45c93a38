"""Programs by laws: their text does what they do, and running them is causal and row by row."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.programs import evaluation as ev
from mips.programs import expression as ex
from mips.programs.program import Program, parse_program
from mips.reading.symbolic_lifting import table_program
from tests.mips.strategies import machines, programs, sequences_for

X = np.random.default_rng(0).integers(-4, 5, (6, 5, 1))


def by_python(program, x):
    """Outputs of the text that the program itself writes, in Python's unbounded integers."""
    namespace = {}
    exec(program.source("f"), namespace)
    rows = []
    for sequence in x.tolist():
        steps = [step[0] if len(step) == 1 else tuple(step) for step in sequence]
        rows.append([list(y) if isinstance(y, tuple) else [y] for y in namespace["f"](steps)])
    return rows


@given(programs())
def test_the_text_does_what_the_program_does(make):
    program = make()
    rows = by_python(program, X)
    assert program.run(X, exact=True).tolist() == rows
    assert all(type(v) is int for row in rows for step in row for v in step)


@settings(max_examples=25)
@given(programs())
def test_text_is_read_back_as_a_program_that_does_the_same(make):
    program = make()
    again = parse_program(program.source())
    assert (again.inputs, again.initial, again.kind) == (program.inputs, program.initial, "text")
    assert again.run(X, exact=True).tolist() == program.run(X, exact=True).tolist()
    # What was read is written as it was: the form is settled after one round.
    assert parse_program(again.source()) == again


@settings(max_examples=20)
@given(programs())
def test_json_gives_the_program_back(make):
    program = make()
    again = Program.from_json(json.loads(json.dumps(program.to_json())))
    assert again == program and again.bits == program.bits and again.source() == program.source()


@settings(max_examples=20)
@given(programs(), st.integers(1, 4), st.permutations(range(6)))
def test_outputs_are_causal_and_of_each_sequence_alone(make, length, order):
    program = make()
    whole = program.run(X, exact=True)
    np.testing.assert_array_equal(program.run(X[:, :length], exact=True), whole[:, :length])
    order = list(order)
    np.testing.assert_array_equal(program.run(X[order], exact=True), whole[order])


@settings(max_examples=12)
@given(machines(outputs=2))
def test_a_machines_tables_as_a_program_do_what_the_machine_does(make):
    machine = make()
    program = table_program(machine)
    x = sequences_for(machine)
    assert program.uses_table and program.kind == "table"
    np.testing.assert_array_equal(program.run(x), machine.run(x))
    assert by_python(program, x[:3]) == machine.run(x[:3]).tolist()
    again = parse_program(program.source())
    np.testing.assert_array_equal(again.run(x), machine.run(x))
    assert again.bits == program.bits


@given(machines())
def test_tables_cost_their_entries(make):
    machine = make()
    program = table_program(machine)
    symbols, states = len(machine.alphabet), machine.states
    formulas = sum(
        ex.bits(e, variables=len(program.inputs) + 3) for e in (*program.updates, *program.outputs)
    )
    ranges = [int(np.ptp(t)) + 1 for t in (machine.next, machine.output)]
    want = formulas + 1 + sum(states * symbols * math.log2(max(2, r)) for r in ranges)
    assert program.bits == pytest.approx(want)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_a_sequence_stays_failed_from_the_step_on_where_it_failed(xs):
    program = parse_program("def f(xs):\n    for x in xs:\n        yield 12 // x\n")
    outputs, codes = program.attempt(np.array(xs)[None, :, None])
    failed = np.cumsum([x == 0 for x in xs]) > 0
    assert (codes[0] == np.where(failed, ev.DIVISION, ev.OK)).all()
    good = [12 // x for x in xs[: int((~failed).sum())]]
    assert outputs[0, : len(good), 0].tolist() == good
    if failed.any():
        with pytest.raises(ZeroDivisionError):
            program.run(np.array(xs)[None, :, None])


def test_a_state_that_fails_after_its_output_fails_from_the_next_step_on():
    program = parse_program("def f(xs):\n    s = 1\n    for x in xs:\n        yield s\n        s = 6 // x\n")
    _, codes = program.attempt(np.array([[[2], [0], [1]]]))
    assert codes.tolist() == [[0, 0, ev.DIVISION]]


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (np.zeros((2, 3, 2), int), ValueError, r"shape \(2, 3, 2\); \(count, length, 1\)"),
        (np.zeros(3, int), ValueError, r"shape \(3,\)"),
        (np.zeros((2, 3, 1)), TypeError, "float64"),
        (np.full((2, 3, 1), "a"), TypeError, "integers were expected"),
    ],
    ids=["channels", "axes", "floats", "text"],
)
def test_inputs_of_another_form_are_refused(x, error, text):
    program = parse_program("def f(xs):\n    for x in xs:\n        yield x + 1\n")
    with pytest.raises(error, match=text):
        program.run(x)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint64, object])
def test_integers_of_every_width_are_taken_for_the_same_numbers(dtype):
    program = parse_program("def f(xs):\n    for x in xs:\n        yield x * 300 - 1\n")
    x = np.array([[[0], [1], [1]]], dtype)
    assert program.run(x).ravel().tolist() == [-1, 299, 299]


def test_no_sequences_and_no_steps_give_no_outputs():
    program = parse_program("def f(xs):\n    for x in xs:\n        yield x, x + 1\n")
    assert program.run(np.zeros((0, 4, 1), int)).shape == (0, 4, 2)
    assert program.run(np.zeros((3, 0, 1), int)).shape == (3, 0, 2)


WRONG = {
    "counts": ({"initial": (0, 0)}, "initial value and an update"),
    "no inputs": ({"inputs": ()}, "at least one input"),
    "no outputs": ({"outputs": ()}, "at least one input and one output"),
    "keyword": ({"inputs": ("class",)}, "'class' cannot be a name"),
    "not a name": ({"inputs": ("2x",)}, "'2x' cannot be a name"),
    "twice": ({"inputs": ("s",)}, "used twice: s, s"),
    "unknown": ({"outputs": (ex.var("q"),)}, "unknown names in q: q"),
    "list to int": ({"initial": ((),)}, "s begins as list and becomes int"),
    "int to list": ({"updates": (ex.parse("[s]"),)}, "s begins as int and becomes list"),
    "output list": ({"outputs": (ex.parse("[s]"),)}, "an output must be an integer"),
    "wide start": ({"initial": (1 << 62,)}, "less than 63 bits"),
    "ragged table": ({"tables": (("T", ((1, 2), (3,))),)}, "a table must be"),
    "empty table": ({"tables": (("T", ()),)}, "a table must be"),
    "table of text": ({"tables": (("T", ("a",)),)}, "a table must be"),
    "wide table": ({"tables": (("T", (1 << 62,)),)}, "less than 63 bits"),
    "table of bools": ({"tables": (("T", (True, 1)),)}, "less than 63 bits"),
    "indices": ({"tables": (("T", (1, 2)),), "outputs": (ex.parse("T[x][x]"),)}, "not for table 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_programs_that_make_no_sense_are_refused(name):
    change, error = WRONG[name]
    parts = {
        "inputs": ("x",), "state": ("s",), "initial": (0,), "updates": (ex.var("x"),), "outputs": (ex.var("s"),),
    }  # fmt: skip
    assert Program(**parts).run(np.array([[[5], [6]]])).ravel().tolist() == [0, 5]
    with pytest.raises(ValueError, match=error):
        Program(**parts | change)


STORED = parse_program(
    "def f(xs):\n    T = ((1, 2), (3, 4))\n    s = 0\n    h = []\n    for x, w in xs:\n"
    "        h = h + [x]\n        s = T[s % 2][w]\n        yield s, len(h)\n"
).to_json()
ODD = st.sampled_from(
    [None, True, 0, 1.5, "x", "", [], {}, [[]], ["x", "x"], [1, "a"], [None], [["var", "q"]]]
)


@given(st.sampled_from(sorted(STORED)), ODD)
def test_a_stored_program_with_another_value_is_read_or_refused(key, value):
    try:
        program = Program.from_json(STORED | {key: value})
    except ValueError:
        return
    assert Program.from_json(program.to_json()) == program
    assert parse_program(program.source()).outputs


@pytest.mark.parametrize("key", sorted(STORED))
def test_a_stored_program_without_a_key_is_refused_by_its_name(key):
    with pytest.raises(ValueError, match=f"not a stored program: KeyError.*{key}"):
        Program.from_json({k: v for k, v in STORED.items() if k != key})


@given(st.integers(0, 400), st.sampled_from("x ()[]+:=\n0'\"#,\tw"))
def test_text_with_one_letter_changed_is_a_program_or_a_value_error(place, letter):
    text = Program.from_json(STORED).source()
    place %= len(text)
    try:
        program = parse_program(text[:place] + letter + text[place + 1 :])
    except ValueError:
        return
    assert parse_program(program.source()) == program


def test_parts_that_come_again_get_a_name_that_is_free():
    source = "def f(xs):\n    u = 0\n    for v, x in xs:\n        yield (v + x) % 3, (v + x) * u\n        u = (v + x) // 2\n"
    program = parse_program(source)
    text = program.source()
    assert "p = v + x" in text and text.count("v + x") == 1
    assert parse_program(text) == program


def test_sympy_and_latex_name_the_new_state_and_the_outputs():
    program = parse_program(
        "def f(xs):\n    s = 4\n    for x in xs:\n        yield s, x * s\n        s = s + x\n"
    )
    assert {k: str(v) for k, v in program.sympy().items()} == {"s'": "s + x", "y1": "s", "y2": "s*x"}
    text = program.latex()
    assert text.startswith("\\begin{aligned}") and "s_0 = 4" in text and text.count("&=") == 3
    stateless = parse_program("def f(xs):\n    for x in xs:\n        yield x % 2\n")
    assert "_0" not in stateless.latex() and list(stateless.sympy()) == ["y"]
