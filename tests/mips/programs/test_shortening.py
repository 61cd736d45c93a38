"""Shorter programs: fewer parts each, and simplified ones say the same."""

import numpy as np
from hypothesis import given, settings

from mips.programs import expression as ex
from mips.programs.program import Program, parse_program
from mips.programs.shortening import shortened, simplified
from tests.mips.strategies import programs

PROBES = np.random.default_rng(0).integers(-4, 5, (60, 8, 1))


def parts(program):
    return sum(map(ex.size, (*program.updates, *program.outputs)))


@given(programs())
@settings(max_examples=20)
def test_every_shortened_program_is_another_one_without_spare_state(make):
    program = make()
    found = list(shortened(program))
    assert len(set(found)) == len(found) and program not in found
    for shorter in found:
        assert set(shorter.state) <= set(program.state) and shorter.inputs == program.inputs
        assert len(shorter.outputs) == len(program.outputs)
        assert Program.from_json(shorter.to_json()) == shorter


@given(programs())
@settings(max_examples=20)
def test_a_simplified_program_says_the_same_in_no_more_text(make):
    program = make()
    simple = simplified(program, [PROBES[:5], PROBES])
    for one, two in zip(program.attempt(PROBES), simple.attempt(PROBES), strict=True):
        np.testing.assert_array_equal(one, two)
    assert simple.bits <= program.bits and len(simple.source()) <= len(program.source())
    assert parts(simple) <= parts(program)


def test_what_makes_no_difference_goes_wherever_it_occurs():
    text = """
def f(xs):
    s = 0
    r = 3
    for x in xs:
        s, r = (s + abs(abs(x))) % 2 if x == x else r, r + 1
        yield s
"""
    simple = simplified(parse_program(text.strip()), [PROBES])
    assert simple.source("f").splitlines()[1:] == [
        "    s = 0",
        "    for x in xs:",
        "        s = (s + x) % 2",
        "        yield s",
    ]


def test_lists_stay_lists_and_tables_that_nothing_reads_go():
    text = """
def f(xs):
    T = (1, 2)
    history = []
    for x in xs:
        yield (history + [x]).count(x) + 0 * T[0]
        history = history + [x]
"""
    program = parse_program(text.strip())
    assert list(shortened(program))
    simple = simplified(program, [np.abs(PROBES)])
    assert simple.tables == () and simple.initial == ((),) and "T" not in simple.source()
