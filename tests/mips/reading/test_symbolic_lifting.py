"""From machines to formulas: labels are names, programs make every known move, in any numbering."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.judging.verification import verify
from mips.programs.enumeration import Grammar
from mips.reading import symbolic_lifting as lifting
from mips.reading.machine_extraction import Machine, alphabet, minimize
from mips.tasks import Task
from tests.mips.machines import counter_mod, divider, machine_of
from tests.mips.strategies import machines, sequences_for

QUICK = Grammar(largest=4, tries=200_000)


@given(machines(most_states=8))
def test_labels_are_different_whole_numbers_and_no_vector_comes_twice(make):
    machine = minimize(make())
    found = list(lifting.labelings(machine))
    vectors = [labels.tobytes() for _, labels in found]
    assert len(set(vectors)) == len(vectors)
    for name, labels in found:
        assert len(labels) == machine.states and labels[0] != lifting.UNKNOWN, name
        assert len(set(labels.tolist())) == machine.states, name  # a complete machine leaves none out
    assert np.arange(machine.states).tobytes() in vectors  # there is always one at least


@settings(max_examples=10)
@given(machines(most_states=4))
def test_programs_do_what_the_machine_does(make):
    machine = minimize(make())
    x = sequences_for(machine, count=20, length=8)
    for program in lifting.lift(machine, QUICK, most=3):
        np.testing.assert_array_equal(program.run(x), machine.run(x), err_msg=program.source())
        assert program.kind == "finite-state" and len(program.state) == (machine.states > 1)


@pytest.mark.parametrize("low", [-4, 0, 3])
def test_counters_are_lifted_whatever_the_alphabet_begins_with(low):
    machine = machine_of(lambda s, x: ((s + x) % 5,) * 2, 0, low=low, high=low + 3)
    program = next(iter(lifting.lift(machine, Grammar())))
    x = sequences_for(machine)
    np.testing.assert_array_equal(program.run(x), machine.run(x))
    assert "% 5" in program.source()


def test_labels_come_from_what_leads_into_a_state():
    last_output = dict(lifting.labelings(counter_mod(4)))["last output"]
    assert last_output.tolist() == [0, 1, 2, 3]
    delay = machine_of(lambda s, x: (x, s), 0, high=3)
    assert dict(lifting.labelings(delay))["last input"].tolist() == [0, 1, 2]
    # Nothing leads into the start: zero, below, above and -1 are tried for it, where they are free.
    started = machine_of(lambda s, x: (x + 1, s), 0, low=1, high=4)
    starts = [v[0] for n, v in lifting.labelings(started) if n == "last input"]
    assert starts == [0, 4, -1]


def test_ranks_are_monotone_in_the_remainder_of_a_division():
    labels = dict(lifting.labelings(divider(7)))["rank"]
    machine = divider(7)
    # The machine's access words, read as binary numbers, say which remainder each state is.
    remainders = [int("".join(map(str, w)) or "0", 2) % 7 for w in machine.access]
    assert labels.tolist() == remainders


def test_dead_states_are_minus_one_and_live_ones_count():
    closing = machine_of(lambda b, x: ((b if b < 0 else min(b + 1 - 2 * x, 4)), int(b == 1 and x == 1)), 0)
    (labels,) = (v for n, v in lifting.labelings(closing) if n == "live or dead")
    for word, label in zip(closing.access, labels, strict=True):
        balance = np.cumsum([1 - 2 * symbol for symbol in word])
        assert label == (-1 if (balance < 0).any() else sum(1 - 2 * symbol for symbol in word))


def test_a_memoryless_rule_has_no_state_and_odd_sets_are_listed():
    even = machine_of(lambda s, x: (0, int(x % 2 == 0)), 0, high=10)
    texts = [p.source() for p in lifting.lift(even, QUICK)]
    assert any("% 2" in t for t in texts) and any("x in (0, 2, 4, 6, 8)" in t for t in texts)
    odd = machine_of(lambda s, x: (0, int(x in (0, 1, 4, 9))), 0, high=12)
    (program,) = lifting.lift(odd, Grammar(largest=2))
    assert "x in (0, 1, 4, 9)" in program.source()
    never = machine_of(lambda s, x: (0, 0), 0, high=3)
    assert [p.source() for p in lifting.lift(never, QUICK)] == [
        "def program(xs):\n    for x in xs:\n        yield 0\n"
    ]


@settings(max_examples=5)
@given(st.integers(2, 5), st.integers(2, 4))
def test_addition_in_any_base_of_two_channels_is_exact(base, other):
    machine = machine_of(
        lambda c, x, w: ((c + x + w) // base % other, (c + x + w) % base), 0, high=base, inputs=2
    )
    for program in lifting.lift(minimize(machine), QUICK):
        x = sequences_for(machine)
        np.testing.assert_array_equal(program.run(x), machine.run(x))


def test_wrong_moves_within_the_tolerance_do_not_hide_the_rule():
    machine = counter_mod(16)  # more moves than the search looks at first
    following, says = machine.next.copy(), machine.output.copy()
    following[0, 3] = says[0, 3] = 5  # and the network says so
    broken = Machine(machine.alphabet, following, says)
    task = Task("add", lambda x: machine.run(x), 0, 16, length=4)
    assert not any(verify(p, task).exact for p in lifting.lift(broken, QUICK))
    assert any(verify(p, task).exact for p in lifting.lift(broken, Grammar(), tolerance=0.03))


def test_a_behavior_is_the_outputs_on_all_short_words():
    machine = divider(3)
    behavior = lifting._behavior(machine, length=2)
    words = alphabet(0, 2, 2)
    for state in range(3):
        said = []
        for word in words:
            here = state
            for symbol in word:
                said.append(machine.output[here, symbol, 0])
                here = machine.next[here, symbol]
        assert behavior[state].tolist() == said
    partial = Machine(machine.alphabet, np.where(machine.next == 2, -1, machine.next), machine.output)
    assert lifting._behavior(partial, length=3).shape == (3, 24)
    wide = machine_of(lambda s, x: (0, x), 0, high=60)
    assert lifting._behavior(wide).shape == (1, 60 * 1 * 1) or lifting._behavior(wide).size < 9000


@pytest.mark.parametrize("count", range(1, 8))
def test_names_of_inputs_are_different_names(count):
    names = lifting.input_names(count)
    assert len(set(names)) == len(names) == count and all(n.isidentifier() for n in names)
    assert lifting.input_names(2) == ("x", "w")


def test_constants_are_the_sizes_of_alphabet_and_states():
    machine = counter_mod(5)
    labels = np.array([0, 1, 2, 3, lifting.UNKNOWN])
    assert set(lifting._constants(machine, labels)) == {5, 4, 3}
