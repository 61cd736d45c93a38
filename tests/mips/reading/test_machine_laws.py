"""Machines by laws: minimal forms, storage, alphabets, and what an oracle's answers say of a machine."""

import copy
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.reading import machine_extraction as fsm
from mips.reading.machine_extraction import Machine
from mips.reading.symbolic_lifting import table_program
from tests.mips.machines import divider, machine_of, oracle_of
from tests.mips.strategies import SEEDS, machines, sequences_for


def classes_by_refinement(machine):
    """Behaviors by Moore's partition refinement: the class of every state."""
    label = np.unique(machine.output.reshape(machine.states, -1), axis=0, return_inverse=True)[1].ravel()
    for _ in range(machine.states):
        rows = np.column_stack([label, label[machine.next]])
        label = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    return label


def renumbered(machine, order):
    """The same machine with states 1, 2, ... in another order."""
    order = np.array([0, *order])
    number = np.argsort(order)
    return Machine(machine.alphabet, number[machine.next[order]], machine.output[order])


@settings(max_examples=25)
@given(machines(most_states=8))
def test_the_smallest_machine_has_a_state_for_every_behavior(make):
    machine = make()
    small = fsm.minimize(machine)
    assert small.states == len(set(classes_by_refinement(machine)))
    x = sequences_for(machine, length=12)
    np.testing.assert_array_equal(small.run(x), machine.run(x))
    again = fsm.minimize(small)
    np.testing.assert_array_equal(again.next, small.next)
    np.testing.assert_array_equal(again.output, small.output)
    assert again.access == small.access


@given(machines(), st.randoms(use_true_random=False))
def test_numbers_of_states_do_not_matter(make, random):
    machine = make()
    order = list(range(1, machine.states))
    random.shuffle(order)
    other = renumbered(machine, order)
    assert fsm.isomorphic(machine, other)
    np.testing.assert_array_equal(fsm.minimize(machine).next, fsm.minimize(other).next)


@given(machines(), SEEDS)
def test_machines_are_alike_exactly_where_their_answers_are(make, seed):
    machine = make()
    rng = np.random.default_rng(seed)
    changed = Machine(machine.alphabet, machine.next, machine.output.copy())
    state, symbol = rng.integers(machine.states), rng.integers(len(machine.alphabet))
    changed.output[state, symbol] += 1
    assert not fsm.isomorphic(machine, changed)  # every state can be reached, so the change shows
    shifted = Machine(machine.alphabet + 1, machine.next, machine.output)
    assert not fsm.isomorphic(machine, shifted) and fsm.isomorphic(shifted, shifted)


@given(machines())
def test_access_words_lead_there_and_none_is_shorter(make):
    machine = make()
    assert len(machine.access) == machine.states and machine.access[0] == ()
    distance = {0: 0}
    for depth in range(machine.states):
        for state in [s for s, d in distance.items() if d == depth]:
            for after in machine.next[state].tolist():
                distance.setdefault(after, depth + 1)
    for state, word in enumerate(machine.access):
        here = 0
        for symbol in word:
            here = machine.next[here, symbol]
        assert here == state and len(word) == distance[state]


@given(machines(outputs=2))
def test_storage_gives_the_machine_back(make):
    machine = make()
    again = Machine.from_json(json.loads(json.dumps(machine.to_json())))
    for field in ("alphabet", "next", "output"):
        np.testing.assert_array_equal(getattr(again, field), getattr(machine, field))
    assert again.access == machine.access


@given(machines())
def test_the_automaton_accepts_the_machines_own_traces_alone(make):
    machine = make()
    automaton = machine.to_automaton()
    for x in sequences_for(machine, count=4, length=6):
        symbols = machine.symbols_of(x[None])[0].tolist()
        trace = [(s, *map(int, y)) for s, y in zip(symbols, machine.run(x[None])[0], strict=True)]
        assert automaton.accepts_input(trace)
        wrong = [*trace[:-1], (trace[-1][0], trace[-1][1] + 1)]
        assert not automaton.accepts_input(wrong)


@settings(max_examples=25)
@given(machines(most_states=5), st.integers(1, 3))
def test_what_short_suffixes_tell_apart_is_found_and_nothing_else(make, suffix):
    machine = fsm.minimize(make())
    found = fsm.extract(oracle_of(machine), machine.alphabet, suffix=suffix)
    apart = len({signature(machine, s, suffix) for s in range(machine.states)})
    assert found.states <= machine.states and found.states <= apart
    if apart == machine.states:
        assert fsm.isomorphic(found, machine)
        assert [len(w) for w in found.access] == sorted(len(w) for w in found.access)


def signature(machine, state, length):
    """Outputs from a state on all words of a length."""
    said = []
    for word in itertools.product(range(len(machine.alphabet)), repeat=length):
        here = state
        for symbol in word:
            said.append(tuple(machine.output[here, symbol].tolist()))
            here = machine.next[here, symbol]
    return tuple(said)


@settings(max_examples=12)
@given(machines(most_states=4))
def test_votes_without_errors_give_the_machine_itself(make):
    machine = fsm.minimize(make())
    x = sequences_for(machine, count=80, length=10)
    voted = list(fsm.extract_by_majority(oracle_of(machine), machine.alphabet, x, suffix=3))
    apart = len({signature(machine, s, 3) for s in range(machine.states)})
    if apart == machine.states:
        assert any(fsm.isomorphic(m, machine) for m in voted)


@given(machines(most_states=4), st.integers(1, 4))
def test_the_part_within_the_horizon_makes_the_machines_own_moves(make, depth):
    machine = fsm.minimize(make())
    found = fsm.extract_to_horizon(oracle_of(machine), machine.alphabet, depth=depth, length=depth + 4)
    x = sequences_for(machine, count=20, length=depth)
    np.testing.assert_array_equal(found.run(x), machine.run(x))
    assert found.states <= machine.states
    assert all(len(word) <= depth for word in found.access)


@given(st.integers(-4, 4), st.integers(1, 5), st.integers(1, 3))
def test_symbols_are_numbered_as_the_alphabet_lists_them(low, width, inputs):
    letters = fsm.alphabet(low, low + width, inputs)
    assert letters.tolist() == [list(v) for v in itertools.product(range(low, low + width), repeat=inputs)]
    np.testing.assert_array_equal(fsm.encode(letters, letters[None])[0], np.arange(len(letters)))
    for outside in (low - 1, low + width):
        with pytest.raises(ValueError, match=f"the alphabet is {low} to {low + width - 1}"):
            fsm.encode(letters, np.full((1, 1, inputs), outside))


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 40))
def test_suffixes_are_all_words_or_as_many_as_allowed(symbols, length, limit):
    groups = fsm.suffixes(symbols, length, limit=limit)
    if symbols**length <= limit:
        assert len(groups) == 1
        assert groups[0].tolist() == [list(w) for w in itertools.product(range(symbols), repeat=length)]
    else:
        assert groups[-1].shape == (limit, length)
        assert all(g.min() >= 0 and g.max() < symbols and len(g) <= limit for g in groups)
        assert [g.shape[1] for g in groups] == sorted({g.shape[1] for g in groups})
        again = fsm.suffixes(symbols, length, limit=limit)
        assert all(np.array_equal(a, b) for a, b in zip(groups, again, strict=True))


def test_unknown_moves_stay_where_they_are_and_have_no_smallest_form():
    half = Machine(np.array([[0], [1]]), np.array([[1, -1], [0, 1]]), np.array([[[5], [6]], [[7], [8]]]))
    assert not half.complete
    assert half.run(np.array([[[1], [0], [0], [1]]])).ravel().tolist() == [6, 5, 7, 6]
    with pytest.raises(ValueError, match="unknown moves"):
        fsm.minimize(half)
    assert half.edges() == {(0, 1): ["0/5"], (1, 0): ["0/7"], (1, 1): ["1/8"]}


def test_unreachable_states_are_left_out_and_the_others_numbered_from_the_start():
    letters = np.array([[0], [1]])
    machine = Machine(
        letters, np.array([[2, 2], [1, 1], [0, 2]]), np.array([[[1], [2]], [[3], [4]], [[5], [6]]])
    )
    found = fsm.with_reachable(machine)
    assert found.next.tolist() == [[1, 1], [0, 1]] and found.output.tolist() == [[[1], [2]], [[5], [6]]]
    assert found.access == ((), (0,))


def test_pictures_in_words_name_every_move_or_count_those_left_out():
    text = divider(3).to_dot()
    assert text.count("->") == 1 + 6 and text.startswith("digraph machine {") and text.endswith("}\n")
    wide = machine_of(lambda s, x: (0, x), 0, high=9)
    assert '0 -> 0 [label="0/0  1/1  2/2  3/3  4/4  (+4)"];' in wide.to_dot()
    pair = machine_of(lambda s, x, w: (0, x + w), 0, inputs=2)
    assert "1,0/1" in pair.to_dot()


STORED = divider(3).to_json()
DAMAGED = [
    ({"alphabet": [0, 1]}, "alphabet is not a table of integers with 2 axes"),
    ({"alphabet": [[0], [1], [2]]}, "alphabet of 3 symbols"),
    ({"next": [[0, 3], [2, 0], [1, 2]]}, "from 0 to 3 of 3"),
    ({"next": [[0, -2], [2, 0], [1, 2]]}, "from -2 to 2 of 3"),
    ({"next": [[0, 1], [2, 0]]}, "do not fit"),
    ({"next": [[0, 1], [2]]}, "next is not a table"),
    ({"next": [[0.5, 1], [2, 0], [1, 2]]}, "next is not a table"),
    ({"next": [[2**70, 1], [2, 0], [1, 2]]}, "next is not a table"),
    ({"next": []}, "next is not a table"),
    ({"output": [[0, 1], [2, 0], [1, 2]]}, "output is not a table of integers with 3 axes"),
    ({"output": [[["0"], ["1"]]] * 3}, "output is not a table"),
    ({"access": [[], [1]]}, "access is not a word"),
    ({"access": [[], [1], [2, 0]]}, "access is not a word"),
    ({"access": [[], [1], ["0"]]}, "access is not a word"),
]


@pytest.mark.parametrize(("change", "error"), DAMAGED, ids=[str(c)[:40] for c, _ in DAMAGED])
def test_stored_machines_that_do_not_fit_are_refused(change, error):
    with pytest.raises(ValueError, match=error):
        Machine.from_json(STORED | change)


ODD = st.sampled_from([None, True, -1, 10**30, 1.5, "x", [], {}, [[]], [[1, 2], [3]]])


@given(st.sampled_from(sorted(STORED)), ODD, st.integers(0, 2), st.booleans())
def test_a_damaged_machine_is_an_error_or_can_be_run_and_drawn(key, value, place, deep):
    data = copy.deepcopy(STORED)
    if deep:
        data[key][place % len(data[key])] = value
    else:
        data[key] = value
    try:
        machine = Machine.from_json(data)
    except (KeyError, TypeError, ValueError):
        return
    machine.run(np.zeros((1, 3, 1), int) + machine.alphabet.min())
    assert machine.to_dot() and table_program(machine).source()
