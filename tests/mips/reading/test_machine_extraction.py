"""Machines read from oracles, minimized, lifted to formulas, without training."""

import numpy as np
import pytest

from mips.judging.verification import verify
from mips.programs.enumeration import Enumerator, Grammar, find
from mips.reading import machine_extraction as fsm
from mips.reading.finite_memory import definite_programs, memory_depth
from mips.reading.symbolic_lifting import labelings, lift, table_program
from mips.tasks import get_task
from tests.mips.machines import adder, counter_mod, dithering, divider, machine_of, oracle_of

GRAMMAR = Grammar()
MACHINES = {
    "Base_3_Addition": adder(3),
    "Base_7_Addition": adder(7),
    "Div_3": divider(3),
    "Div_7": divider(7),
    "Add_Mod_8": counter_mod(8),
    "Dithering": dithering(),
    "Min_Seen": machine_of(lambda s, x: (min(s, x),) * 2, 9, high=10),
    "Max_Seen": machine_of(lambda s, x: (max(s, x),) * 2, 0, high=10),
    "Parity_Zeros": machine_of(lambda s, x: ((s + 1 - x) % 2,) * 2, 0),
    "Parity_Bits_Mod2": machine_of(lambda s, x: (1 - s, s), 0),
    "Previous_Equals_Current": machine_of(lambda s, x: (x, int(s == x)), 0, high=8),
}


@pytest.mark.parametrize("name", MACHINES)
def test_formulas_for_exact_machines_are_exact_everywhere(name):
    machine = fsm.minimize(MACHINES[name])
    program = next(iter(lift(machine, GRAMMAR)))
    assert not program.uses_table
    assert verify(program, get_task(name)).exact, program.source()


def test_formulas_are_the_expected_ones():
    sources = {
        n: next(iter(lift(MACHINES[n], GRAMMAR))).source()
        for n in ("Add_Mod_8", "Dithering", "Div_7", "Min_Seen")
    }
    assert "s = (s + x) % 8" in sources["Add_Mod_8"]
    assert "14 < s + x" in sources["Dithering"] or "14 < v" in sources["Dithering"]
    assert "% 7" in sources["Div_7"]
    assert "min(s, x)" in sources["Min_Seen"]


@pytest.mark.parametrize(
    ("name", "suffix", "states"),
    [
        ("Div_7", 2, 7),
        ("Add_Mod_8", 1, 8),
        ("Min_Seen", 1, 10),
        ("Base_7_Addition", 1, 2),
        ("Dithering", 1, 15),
    ],
)
def test_extraction_finds_the_minimal_machine(name, suffix, states):
    machine = MACHINES[name]
    found = fsm.extract(oracle_of(machine), machine.alphabet, suffix=suffix)
    assert found.states == states
    assert fsm.isomorphic(found, machine)
    x, y = get_task(name).sample(1, 500, 60)
    np.testing.assert_array_equal(found.run(x), y)


def test_extraction_gives_up_where_states_are_too_many():
    counter = oracle_of(machine_of(lambda s, x: (min(s + x, 400),) * 2, 0))
    assert fsm.extract(counter, fsm.alphabet(0, 2, 1), suffix=1, most_states=50) is None


def test_the_majority_outvotes_errors():
    machine = MACHINES["Div_7"]
    noisy = oracle_of(machine, noise=0.03)
    x = get_task("Div_7").draw(5, 400)
    assert not fsm.isomorphic(fsm.extract(noisy, machine.alphabet, suffix=2), machine)
    voted = list(fsm.extract_by_majority(noisy, machine.alphabet, x, suffix=2))
    assert any(fsm.isomorphic(m, machine) for m in voted)


def test_a_formula_is_right_where_a_few_moves_are_wrong():
    machine = MACHINES["Dithering"]
    following = machine.next.copy()
    following[3, 4] = (following[3, 4] + 1) % 15
    broken = fsm.Machine(machine.alphabet, following, machine.output)
    program = next(iter(lift(broken, GRAMMAR, tolerance=0.04)))
    assert verify(program, get_task("Dithering")).exact


def test_minimization_merges_states_and_keeps_behavior():
    doubled = machine_of(lambda s, x: ((s + x) % 6, (s + x) % 3), 0, high=3)
    small = fsm.minimize(doubled)
    assert (doubled.states, small.states) == (6, 3)
    x = np.random.default_rng(0).integers(0, 3, (50, 20, 1))
    np.testing.assert_array_equal(small.run(x), doubled.run(x))
    assert small.access[0] == () and all(len(w) <= 2 for w in small.access)


def test_machines_survive_storage_and_can_be_written_as_dot():
    machine = MACHINES["Div_3"]
    again = fsm.Machine.from_json(machine.to_json())
    assert fsm.isomorphic(again, machine)
    assert '0 -> 1 [label="1/0"]' in machine.to_dot()
    assert verify(table_program(machine), get_task("Div_3")).exact


@pytest.mark.parametrize(
    ("name", "states", "form"), [("Parity_Last4", 8, "x ^ x1 ^ x2 ^ x3"), ("Alternating_Last4", 6, None)]
)
def test_bits_of_definite_machines(name, states, form):
    task = get_task(name)

    def step(last, x):
        word = (*last, x)
        return word[1:], int(task.solve(np.array(word)[None, :, None])[0, -1, 0])

    machine = fsm.minimize(machine_of(step, (0, 0, 0)))
    assert (machine.states, memory_depth(machine)) == (states, 3)
    programs = list(definite_programs(machine, Grammar(largest=5)))
    assert all(verify(p, task).exact for p in programs)
    best = min(programs, key=lambda p: p.bits)
    if form:
        assert form in best.source()
    else:
        # Two product terms of four bits each.
        products = next(p for p in programs if p.kind == "boolean" and "|" in p.source())
        assert products.source().count("|") == 1 and products.source().count("&") == 6


def test_memory_depth_of_machines_that_never_forget_is_none():
    assert memory_depth(MACHINES["Parity_Zeros"]) is None
    assert memory_depth(machine_of(lambda s, x: (0, x), 0)) == 0


def test_parentheses_from_the_horizon_with_one_conditional():
    balance = machine_of(
        lambda b, x: ((b if b < 0 else min(b + 1 - 2 * x, 99)), int((b if b < 0 else b + 1 - 2 * x) == 0)), 0
    )
    machine = fsm.extract_to_horizon(oracle_of(balance), fsm.alphabet(0, 2, 1), depth=5, length=10)
    assert machine.states == 7 and not machine.complete
    programs = list(lift(machine, Grammar(conditional=True), most=8))
    exact = [p for p in programs if verify(p, get_task("Balanced_Parenthesis")).exact]
    assert exact and " if " in exact[0].source()
    x, y = get_task("Balanced_Parenthesis").sample(3, 300, 60)
    np.testing.assert_array_equal(exact[0].run(x), y)


def test_labels_are_injective():
    for machine in MACHINES.values():
        for name, labels in labelings(machine):
            assert len(np.unique(labels)) == machine.states, name


class TestEnumeration:
    def test_the_smallest_expression_is_found(self):
        s, x = (v.ravel() for v in np.meshgrid(np.arange(7), np.arange(5)))
        found = find(
            {"s": s, "x": x}, [(s + x) % 5, np.maximum(s, x), s * 0 + 1], Grammar(constants=(0, 1, 5))
        )
        assert [str(e) for e in found] == ["(s + x) % 5", "max(s, x)", "1"]

    def test_contradictory_rows_have_no_expression(self):
        assert find({"x": np.array([1, 1])}, [np.array([0, 1])]) == [None]

    def test_rows_beyond_the_first_sample_decide_too(self):
        x = np.arange(3000)
        target = np.where(x > 2900, 7, x % 2)
        (expr,) = find({"x": x}, [target], Grammar(largest=3))
        assert expr is None

    def test_limits_are_kept(self):
        x = np.random.default_rng(0).integers(0, 50, (3, 90))
        enumerator = Enumerator(dict(zip("abc", x, strict=True)), Grammar(most=2000, tries=50_000))
        assert enumerator.search([np.random.default_rng(1).integers(0, 99, 90)]) == [None]
        assert enumerator.bank.offsets[-1] < 4000

    def test_errors_in_the_rows_are_tolerated(self):
        rng = np.random.default_rng(0)
        s, x = rng.integers(0, 9, (2, 2000))
        target = np.minimum(s, x)
        target[::60] += 1
        assert find({"s": s, "x": x}, [target]) == [None]
        (expr,) = find({"s": s, "x": x}, [target], tolerance=0.04)
        assert str(expr) == "min(s, x)"
