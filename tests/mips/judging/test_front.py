"""The front of length against agreement."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.judging.front import LONGEST, front
from mips.judging.trials import Trials
from mips.programs.program import parse_program
from mips.reading.oracle import Oracle
from mips.reading.symbolic_lifting import table_program
from mips.tasks import Task
from tests.mips.machines import divider, oracle_of
from tests.mips.strategies import programs


def remainder(text):
    return parse_program(
        f"def f(xs):\n    s = 0\n    for x in xs:\n        yield {text}\n        s = (2 * s + x) % 3\n"
    )


MACHINE = divider(3)
TASK = Task("div", MACHINE.run, 0, 2)
ANSWER = remainder("(2 * s + x) // 3")
TRIALS = Trials.of(TASK)


def test_the_answer_comes_first_and_shorter_programs_get_better_with_length():
    found = front(ANSWER, [remainder("0")], TRIALS, oracle_of(MACHINE))
    answer, *others = found
    assert answer.program == ANSWER and (answer.right, answer.agreement) == (1.0, 1.0)
    assert len(others) >= 2 and all(e.program.bits < ANSWER.bits for e in others)
    for one, two in itertools.pairwise(others):
        assert one.program.bits <= two.program.bits
        assert two.right > one.right or two.agreement > one.agreement
    assert all(e.right < 1.0 and not e.program.uses_table for e in others)


def test_tables_are_there_where_they_alone_say_what_the_network_says():
    """A network that errs in one move of its machine: the table tells, the formula does not."""
    odd = dataclasses.replace(MACHINE, output=np.where(np.arange(3)[:, None, None] == 2, 0, MACHINE.output))
    table = table_program(odd)
    answer, *others = front(ANSWER, [table], TRIALS, oracle_of(odd))
    assert answer.right == 1.0 > answer.agreement
    assert others[-1].program == table and others[-1].agreement == 1.0 > others[-1].right
    assert table_program(MACHINE) not in [
        e.program for e in front(ANSWER, [table_program(MACHINE)], TRIALS, oracle_of(MACHINE))
    ]


@given(programs(), st.integers(0, 3))
@settings(max_examples=30)
def test_shares_are_those_of_outputs(make, seed):
    program, network = make(), oracle_of(MACHINE)
    if len(program.outputs) > 1:
        return
    entries = front(program, [], TRIALS, network)
    x, y = TRIALS.short[0][:400], TRIALS.short[1][:400]
    for entry in entries:
        got, failed = entry.program.attempt(x)
        assert entry.right == pytest.approx(float(((got == y).all(axis=2) & (failed == 0)).mean()))
        assert entry.agreement == entry.right  # this network is right throughout


def test_long_programs_are_not_shortened_and_a_network_that_gives_no_number_agrees_with_nothing():
    def advance(_states, _x):
        raise ValueError("no number")

    long = parse_program("def f(xs):\n    for x in xs:\n        yield " + " + ".join(["x"] * 100) + "\n")
    assert long.bits > LONGEST
    (entry,) = front(long, [], TRIALS, Oracle(advance, np.zeros(1), 1, 1, "silent"))
    assert entry.program == long and entry.agreement == 0.0
