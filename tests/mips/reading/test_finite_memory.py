"""Finite memory by brute force: depth, windows, and Boolean forms against their truth tables."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mips.programs import expression as ex
from mips.programs.enumeration import Grammar
from mips.programs.evaluation import evaluate
from mips.reading import finite_memory as memory
from mips.reading.machine_extraction import Machine, minimize
from tests.mips.machines import machine_of
from tests.mips.strategies import SEEDS, machines, sequences_for


def depth_by_words(machine):
    """The least k such that all words of length k lead all states to one, or None, by listing sets of states."""
    sets = {frozenset(range(machine.states))}
    for k in range(2**machine.states):
        if all(len(s) == 1 for s in sets):
            return k
        sets = {
            frozenset(machine.next[list(s), a].tolist()) for s in sets for a in range(machine.next.shape[1])
        }
    return None


@given(machines(most_states=4))
def test_the_depth_is_that_of_the_longest_word_that_keeps_two_states_apart(make):
    machine = make()
    assert memory.memory_depth(machine) == depth_by_words(machine)


@given(SEEDS, st.integers(0, 3), st.integers(2, 3))
def test_windows_of_a_shift_register_are_its_table(seed, depth, symbols):
    table = np.random.default_rng(seed).integers(-3, 4, (symbols,) * (depth + 1))

    def step(last, x):
        word = (*last, x)
        return word[1:] if depth else (), int(table[word])

    machine = minimize(machine_of(step, (0,) * depth, high=symbols))
    found = memory.memory_depth(machine)
    assert found is not None and found <= depth
    words, outputs, padding = memory.window_table(machine, found)
    assert words.tolist() == [list(w) for w in itertools.product(range(symbols), repeat=found + 1)]
    whole = np.concatenate([np.zeros((len(words), depth - found), int), words], axis=1)
    assert outputs[:, 0].tolist() == [int(table[tuple(w)]) for w in whole]
    assert padding is not None
    for program in memory.definite_programs(machine, Grammar(largest=3)):
        x = sequences_for(machine)
        np.testing.assert_array_equal(program.run(x), machine.run(x), err_msg=program.source())


def test_a_start_that_no_repetition_leads_to_has_no_padding():
    # The first output is 9, later ones are the input before.
    machine = minimize(machine_of(lambda s, x: (x, 9 if s is None else s), None))
    assert memory.memory_depth(machine) == 1
    assert memory.window_table(machine, 1)[2] is None
    assert list(memory.definite_programs(machine, Grammar())) == []


def test_machines_that_are_not_known_in_full_or_have_too_many_windows_are_left_alone():
    partial = Machine(np.array([[0], [1]]), np.array([[0, -1]]), np.zeros((1, 2, 1), int))
    assert memory.memory_depth(partial) is None
    wide = machine_of(lambda s, x: (x, s), 0, high=70)
    assert memory.memory_depth(wide) == 1
    assert list(memory.definite_programs(wide, Grammar())) == []


LEAVES = {n: np.array(v) for n, v in zip("abc", np.indices((2, 2, 2)).reshape(3, 8), strict=True)}


@pytest.mark.parametrize("how", [memory.polynomial, memory.sum_of_products])
def test_boolean_forms_have_the_truth_table_they_were_made_from(how):
    for number in range(0, 256, 5):
        values = np.array([number >> i & 1 for i in range(8)])
        expr = how(LEAVES, values)
        np.testing.assert_array_equal(np.broadcast_to(evaluate(expr, LEAVES), 8), values, err_msg=str(expr))


def test_normal_forms_are_minimal():
    a, b, c = LEAVES.values()
    assert str(memory.polynomial(LEAVES, a ^ b ^ c)) == "a ^ b ^ c"
    assert str(memory.sum_of_products(LEAVES, (a & b) | (a & c) | (b & c))).count("&") == 3
    assert str(memory.sum_of_products(LEAVES, a & (1 - b))) == "a & 1 - b"
    for how in (memory.polynomial, memory.sum_of_products):
        assert how(LEAVES, np.zeros(8, int)) == ex.const(0)
        assert how(LEAVES, np.ones(8, int)) == ex.const(1)
        assert how(LEAVES, b) == ex.var("b")


@given(SEEDS)
def test_the_polynomial_of_a_sum_is_the_sum_of_polynomials(seed):
    # Over two elements: the form of f xor g has the values of both, combined.
    f, g = np.random.default_rng(seed).integers(0, 2, (2, 8))
    parts = [evaluate(memory.polynomial(LEAVES, v), LEAVES) for v in (f, g, f ^ g)]
    np.testing.assert_array_equal(np.broadcast_to(parts[0] ^ parts[1], 8), np.broadcast_to(parts[2], 8))


@given(st.integers(0, 4), st.integers(0, 4))
def test_registers_reach_back_as_far_as_they_are_used(one, two):
    used = [ex.var(f"x{one}" if one else "x"), ex.var(f"w{two}" if two else "w")]
    program = memory.window_program(("x", "w"), 4, (7, -2), (ex.apply("-", *used),), "window")
    assert len(program.state) == one + two
    x = np.random.default_rng(0).integers(0, 9, (5, 8, 2))
    padded = np.concatenate([np.broadcast_to([7, -2], (5, 4, 2)), x], axis=1)
    want = padded[:, 4 - one : 12 - one, 0] - padded[:, 4 - two : 12 - two, 1]
    np.testing.assert_array_equal(program.run(x)[..., 0], want)
