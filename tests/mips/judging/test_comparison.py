"""Program against network: what agrees, what does not, and whether the differences follow a rule."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.judging.comparison import compare, exceptions_of
from mips.programs.program import parse_program
from mips.reading.symbolic_lifting import table_program
from mips.tasks import Task
from tests.mips.machines import counter_mod, divider, machine_of, oracle_of

TASK = Task("div", divider(3).run, 0, 2)


def test_a_program_that_is_the_network_is_faithful():
    machine = divider(3)
    seen = compare(table_program(machine), oracle_of(machine), TASK, machine)
    assert seen.faithful and seen.inside and seen.disagreement is None and seen.exceptions is None
    assert (seen.drawn, seen.skewed, seen.words, seen.beyond) == (1.0, 1.0, 1.0, 1.0)
    assert seen.beyond_length == 40 and min(seen.words_count, seen.skewed_count, seen.beyond_count) > 40


def test_what_differs_beyond_the_training_length_alone_is_not_faithful():
    """A counter that a network of finite precision follows as far as it was trained."""
    network = oracle_of(machine_of(lambda s, x: (min(s + x, 12), min(s + x, 12)), 0))
    total = parse_program("def f(xs):\n    s = 0\n    for x in xs:\n        s = s + x\n        yield s\n")
    seen = compare(total, network, Task("sum", total.run, 0, 2))
    assert seen.inside and not seen.faithful and seen.beyond < 0.9
    assert len(seen.disagreement.x) > 10 and seen.words is None


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("x = 2 and the x before = 1", lambda x, t: x[t] == 2 and t and x[t - 1] == 1),
        ("input 1 (x) = 3 and it is step 5", lambda x, t: x[0] == 3 and t == 4),
        ("x = 0 and an earlier x = 3", lambda x, t: x[t] == 0 and 3 in x[:t]),
        ("it is step 7", lambda _, t: t == 6),
    ],
)
def test_exceptions_are_named_by_their_condition(condition, holds):
    """Scattered errors beside them do not hide the rule."""
    x = np.random.default_rng(0).integers(0, 4, (2000, 10, 1))
    differs = np.array([[bool(holds(row[:, 0].tolist(), t)) for t in range(10)] for row in x])
    exact = exceptions_of(x, differs)
    assert exact.precision == 1.0 and set(exact.condition.split(" and ")) == set(condition.split(" and "))
    scattered = np.random.default_rng(1).random(differs.shape) < 0.001
    found = exceptions_of(x, differs | scattered)
    assert set(found.condition.split(" and ")) == set(condition.split(" and "))


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.floats(0, 0.3), st.integers(2, 40), st.integers(1, 2))
def test_scattered_errors_are_no_exceptions(seed, share, width, inputs):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, width, (2000, 10, inputs))
    assert exceptions_of(x, rng.random((2000, 10)) < share) is None


def test_a_network_with_an_exception_is_not_passed_off_as_the_rule():
    """The rule is right on the task; the network says something else after 3, 1."""

    def step(state, x):
        total, before = state
        total = (total + x) % 4
        return (total, x), 0 if (before, x) == (3, 1) else total

    network = oracle_of(machine_of(step, (0, 0), high=4))
    program = table_program(counter_mod(4))
    seen = compare(program, network, Task("sum", program.run, 0, 4))
    assert not seen.inside and 0.5 < seen.drawn < 0.9
    assert set(seen.exceptions.condition.split(" and ")) == {"x = 1", "the x before = 3"}
    assert seen.exceptions.precision > 0.6 and seen.exceptions.recall > 0.95
    assert len(seen.disagreement.x) == 3  # 3, 1 adds up to 0, as the exception has it


def test_a_program_that_fails_disagrees():
    fails = parse_program("def f(xs):\n    for x in xs:\n        yield 0 * x // x\n")
    seen = compare(fails, oracle_of(divider(3)), dataclasses.replace(TASK, length=4))
    assert seen.drawn < 0.1 and seen.disagreement.got is None


def test_inputs_that_no_record_has_are_not_asked_about():
    x = np.random.default_rng(0).choice([0, 7], (300, 10, 1))
    task = Task("r", None, 0, 8, length=10, records=(x, np.cumsum(x, axis=1) % 2))
    machine = machine_of(lambda s, x: ((s + x) % 2, (s + x) % 2), 0, high=8)
    wild = machine_of(lambda s, x: ((s + x) % 2, (s + x) % 2 if x in (0, 7) else 5), 0, high=8)
    seen = compare(table_program(machine), oracle_of(wild), task, machine)
    assert seen.faithful and seen.words_count > 5


def test_a_network_that_gives_no_number_far_out_agrees_with_nothing_there():
    import jax.numpy as jnp

    import mips

    def step(count, x):
        return count + 1, jnp.where(count < 12, x, 0) / jnp.where(count < 12, 1.0, 0.0)

    network = mips.from_step(step, jnp.int32(0))
    copy = parse_program("def f(xs):\n    for x in xs:\n        yield x\n")
    seen = compare(copy, network, Task("copy", lambda x: x, 0, 3))
    assert seen.inside and seen.beyond == 0.0 and not seen.faithful
