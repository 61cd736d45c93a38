"""Words that tell states apart, and what a disagreement says about a machine."""

import numpy as np
import pytest
from hypothesis import assume, given, settings

from mips.reading.conformance import conformance_words, distinguishing_suffix, telling_apart
from mips.reading.machine_extraction import Machine, extract, isomorphic, minimize, with_reachable
from tests.mips.machines import counter_mod, divider, oracle_of
from tests.mips.strategies import SEEDS, machines


def answers(machine, state, word):
    said = []
    for symbol in word:
        said.append(machine.output[state, symbol].tolist())
        state = machine.next[state, symbol]
    return said


@settings(max_examples=60)
@given(machines(most_states=9, outputs=2))
def test_any_two_states_of_a_minimal_machine_are_told_apart(make):
    machine = minimize(make())
    ends = telling_apart(machine)
    rows = {str([answers(machine, state, word) for word in ends]) for state in range(machine.states)}
    assert len(rows) == machine.states
    assert len(ends) < max(2, machine.states)  # at most one word for each split


def test_a_machine_with_unknown_moves_has_no_such_words():
    partial = Machine(np.array([[0]]), np.array([[-1]]), np.array([[[0]]]))
    with pytest.raises(ValueError, match="unknown moves"):
        telling_apart(partial)


@settings(max_examples=60)
@given(machines(most_states=5), SEEDS)
def test_every_fault_in_one_move_or_output_is_found(make, seed):
    """What the W-method promises: any other machine of no more than `extra` more states is told apart."""
    machine = minimize(make())
    rng = np.random.default_rng(seed)
    following, output = machine.next.copy(), machine.output.copy()
    state, symbol = rng.integers(machine.states), rng.integers(len(machine.alphabet))
    if rng.random() < 0.5:
        following[state, symbol] = rng.integers(machine.states)
    else:
        output[state, symbol] += 1
    faulty = with_reachable(Machine(machine.alphabet, following, output))
    assume(not isomorphic(machine, faulty))
    x = conformance_words(machine, length=12, extra=1, most=100_000)
    assert (machine.run(x) != faulty.run(x)).any()


def test_words_are_cut_and_drawn_to_the_size_asked():
    machine = minimize(counter_mod(7))
    x = conformance_words(machine, length=5, extra=3, most=50)
    assert x.shape == (50, 5, 1)
    assert np.array_equal(x, conformance_words(machine, length=5, extra=3, most=50))
    one_state = Machine(np.array([[0], [1]]), np.zeros((1, 2), int), np.zeros((1, 2, 1), int), ((),))
    assert len(conformance_words(one_state, length=4)) > 0


def test_a_counterexample_splits_states_that_short_suffixes_merge():
    """The states of a delay differ after that many steps only: one symbol does not tell them apart."""
    delay = 4
    states = [tuple(int(b) for b in f"{n:0{delay}b}") for n in range(2**delay)]
    following = np.array([[states.index((*s[1:], a)) for a in (0, 1)] for s in states])
    output = np.array([[[s[0]], [s[0]]] for s in states])
    true = Machine(np.array([[0], [1]]), following, output)
    network = oracle_of(true)
    machine, extra = extract(network, true.alphabet, suffix=1), []
    assert machine.states < true.states
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.integers(0, 2, (200, 12, 1))
        wrong = (network.run(x) != machine.run(x)).any(axis=2)
        if not wrong.any():
            break
        row = int(np.flatnonzero(wrong.any(axis=1))[0])
        word = machine.symbols_of(x[row : row + 1, : int(wrong[row].argmax()) + 1])[0]
        before = machine.states
        extra.append(distinguishing_suffix(network, machine, word)[None])
        machine = extract(network, true.alphabet, suffix=1, extra=extra)
        assert machine.states > before
    assert machine.states == true.states and isomorphic(machine, true)


def test_no_suffix_where_nothing_differs():
    machine = divider(3)
    assert distinguishing_suffix(oracle_of(machine), machine, np.array([1, 0, 1])) is None
    assert distinguishing_suffix(oracle_of(machine), machine, np.array([1])) is None
