"""States of several numbers: what partitions are, and programs for machines that one number does not fit."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.programs.enumeration import Grammar, find
from mips.programs.program import parse_program
from mips.reading.factoring import (
    by_cases,
    closed_partitions,
    coordinate_sets,
    coordinates,
    factored_programs,
    linear_form,
)
from mips.reading.machine_extraction import minimize
from mips.reading.symbolic_lifting import table_program
from tests.mips.machines import counter_mod, machine_of
from tests.mips.strategies import SEEDS, machines, sequences_for


def luhn(state, x):
    place, total = state
    doubled = x * (1 + place)
    total = (total + doubled // 10 + doubled % 10) % 10
    return (1 - place, total), total


def crc(register, bit):
    register = (register << 1) | bit
    register = register ^ 0b1011 if register & 8 else register
    return register, register


def second_largest(state, x):
    high, second = state
    high, second = (x, high) if x > high else (high, max(second, x))
    return (high, second), second


S3 = list(itertools.permutations(range(3)))


def product(state, x):
    after = S3.index(tuple(S3[x][i] for i in S3[state]))
    return after, after


def coffee(state, x):
    """Water and a pod, in any order, then the button (Steffen, Howar and Merten, 2011)."""
    water, pod, end = state
    clean, put_pod, put_water = x == 0, x == 1, x == 2
    if end == 2:
        return state, 2
    if clean:
        return (0, 0, 0), 0
    if end == 1:
        return (0, 0, 2), 2
    if put_pod or put_water:
        return (water or put_water, pod or put_pod, 0), 0
    return ((0, 0, 1), 1) if water and pod else ((0, 0, 2), 2)


MACHINES = {
    "checksum_crc": (lambda: machine_of(crc, 0), 3),
    "second_largest": (lambda: machine_of(second_largest, (0, 0), high=6), 2),
    "luhn": (lambda: machine_of(luhn, (0, 0), high=10), 2),
    "coffee": (lambda: machine_of(coffee, (0, 0, 0), high=4), 2),
    "permutations": (lambda: machine_of(product, 0, high=6), 2),
}


HEAVY = [pytest.param(n, marks=pytest.mark.slow) for n in MACHINES if n != "checksum_crc"]


@pytest.mark.parametrize("name", ["checksum_crc", *HEAVY])
def test_machines_of_several_numbers_come_out_as_formulas(name):
    make, numbers = MACHINES[name]
    machine = minimize(make())
    programs = list(factored_programs(machine, Grammar()))
    best = min(programs, key=lambda p: p.bits)
    x = sequences_for(machine, count=300, length=40)
    for program in programs:
        np.testing.assert_array_equal(program.run(x), machine.run(x))
        assert (
            not program.uses_table
            and parse_program(program.source()).run(x).tolist() == program.run(x).tolist()
        )
    table = table_program(machine)
    assert len(best.state) >= numbers and best.bits <= 2 * table.bits
    assert len(best.source()) < len(table.source())


def test_the_second_largest_is_two_registers():
    machine = minimize(machine_of(second_largest, (0, 0), high=4))
    program = next(factored_programs(machine, Grammar(tries=60_000)))
    assert {str(e) for e in program.updates} == {"max(t, x)", "min(max(s, x), t)"}


@settings(max_examples=15, deadline=None)
@given(machines(most_states=7))
def test_closed_partitions_are_closed(make):
    machine = minimize(make())
    found = closed_partitions(machine)
    assert len({b.tobytes() for b in found}) == len(found)
    for blocks in found:
        assert 1 < len(np.unique(blocks)) < machine.states and blocks[0] == 0
        quotient = {}
        for state, symbol in np.ndindex(machine.next.shape):
            after = blocks[machine.next[state, symbol]]
            assert quotient.setdefault((blocks[state], symbol), after) == after


def test_a_counter_modulo_six_has_those_modulo_two_and_three():
    sizes = [int(b.max()) + 1 for b in closed_partitions(minimize(counter_mod(6)))]
    assert sizes == [2, 3]
    assert closed_partitions(minimize(counter_mod(5))) == []


@settings(max_examples=15, deadline=None)
@given(machines(most_states=7))
def test_every_set_of_coordinates_tells_all_states_apart(make):
    machine = minimize(make())
    for group in itertools.islice(coordinate_sets(machine), 30):
        table = np.stack([c.labels for c in group], axis=1)
        assert len(np.unique(table, axis=0)) == machine.states
    assert all(1 < c.values < machine.states for c in coordinates(machine))


@settings(max_examples=6, deadline=None)
@given(machines(most_states=4))
def test_a_program_of_any_machine_is_the_machine(make):
    machine = minimize(make())
    x = sequences_for(machine, count=60, length=15)
    for program in factored_programs(machine, Grammar(tries=30_000), most=2):
        np.testing.assert_array_equal(program.run(x), machine.run(x))
        assert program.bits <= 2 * table_program(machine).bits


@given(SEEDS, st.lists(st.integers(-9, 9), min_size=1, max_size=4), st.integers(-20, 20))
def test_linear_forms_are_found_and_nothing_else(seed, weights, offset):
    rng = np.random.default_rng(seed)
    leaves = {f"x{i}": rng.integers(-8, 9, 40) for i in range(len(weights))}
    goal = sum(w * v for w, v in zip(weights, leaves.values(), strict=True)) + offset
    form = linear_form(leaves, goal)
    values = {n: v for n, v in leaves.items()}
    from mips.programs.evaluation import evaluate

    np.testing.assert_array_equal(np.broadcast_to(evaluate(form, values), 40), goal)
    spoiled = goal.copy()
    spoiled[0] += 1
    other = linear_form(leaves, spoiled)
    assert other is None or np.array_equal(np.broadcast_to(evaluate(other, values), 40), spoiled)


def test_cases_are_named_by_the_value_that_decides():
    s, x = (a.ravel() for a in np.indices((3, 8)))
    goal = np.choose(s, [x // 2, 7 - x, x * x % 5])
    grammar = Grammar(largest=5, tries=200_000, constants=(0, 1, 2, 3, 5, 7))
    assert find({"s": s, "x": x}, [goal], grammar)[0] is None
    assert str(by_cases({"s": s, "x": x}, goal, grammar)) in {
        "x // 2 if s == 0 else 7 - x if s == 1 else x * x % 5",
        "7 - x if s == 1 else x // 2 if s == 0 else x * x % 5",
    }


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.integers(2, 4))
def test_lists_of_decisions_are_right_on_every_row(seed, kinds):
    rng = np.random.default_rng(seed)
    s, x = (a.ravel() for a in np.indices((4, 6)))
    goal = rng.integers(0, kinds, (4, 6)).ravel()
    grammar = Grammar(largest=4, tries=50_000, decisions=12)
    (found,) = find({"s": s, "x": x}, [goal], grammar)
    if found is not None:
        from mips.programs.evaluation import evaluate

        np.testing.assert_array_equal(np.broadcast_to(evaluate(found, {"s": s, "x": x}), 24), goal)
    easy = np.where(s == 2, 7, np.where(x > 4, s, 0))
    (found,) = find({"s": s, "x": x}, [easy], Grammar(largest=4, decisions=4, constants=(0, 2, 4, 7)))
    assert found is not None and str(found).count("if") == 2
