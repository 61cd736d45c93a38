"""Rules over windows and running features; the network-free baseline."""

import numpy as np
import pytest

from mips.judging.verification import verify
from mips.programs.enumeration import Grammar
from mips.programs.program import parse_program
from mips.reading.windows import (
    change_rules,
    feature_rules,
    order_matters,
    recurrences,
    vote,
    window_rules,
)
from mips.tasks import get_task

SMALL = Grammar(largest=5)


@pytest.mark.parametrize(
    "name", ["Sum_All", "Prev3", "Sum_Last7", "Newton_Spring", "Newton_Magnetic", "Diff_Last2"]
)
def test_linear_recurrences_from_sequences(name):
    task = get_task(name)
    (program,) = recurrences(*task.sample(0, 500))
    assert verify(program, task).exact


@pytest.mark.parametrize(
    "name", ["Abs_Diff", "Diff_Abs_Values", "Max_Seen", "Parity_All", "Add_Mod_5", "Evens_Counter"]
)
def test_window_formulas_from_sequences(name):
    task = get_task(name)
    # What stood before the first output is tried out: one of the programs is right.
    found = [verify(p, task).exact for p in window_rules(*task.sample(0, 1000), Grammar(largest=6))]
    assert found.count(True) >= 1


@pytest.mark.parametrize("name", ["Div_5", "Base_3_Addition", "Bit_Palindrome", "Majority_0_2"])
def test_hidden_states_are_beyond_windows(name):
    assert list(window_rules(*get_task(name).sample(0, 1000), SMALL)) == []


@pytest.mark.parametrize(
    ("name", "symmetric"),
    [
        ("Majority_0_1", True),
        ("Majority_0_3", True),
        ("Set_Size", True),
        ("Bit_Palindrome", False),
        ("Range_Seen", True),
    ],
)
def test_running_features(name, symmetric):
    task = get_task(name)
    x, y = task.sample(0, 1000)
    assert order_matters(x, task.solve) != symmetric
    (program,) = feature_rules(x, y, task.low, task.high, SMALL, symmetric=symmetric)
    assert verify(program, task).exact


def test_rules_are_found_behind_a_networks_errors():
    task = get_task("Bit_Palindrome")
    x, y = task.sample(0, 1000)
    wrong = np.random.default_rng(0).random(y.shape) < 0.01
    noisy = np.where(wrong, 1 - y, y)
    (program,) = feature_rules(x, noisy, 0, 2, SMALL, symmetric=False, tolerance=0.03)
    assert verify(program, task).exact


def test_votes_go_to_the_most_frequent_target():
    table, target = vote(np.array([[1], [1], [1], [2]]), np.array([[5], [6], [6], [7]]))
    assert table.tolist() == [[1], [2]] and target.tolist() == [[6], [7]]


def _frequencies(items, low=0, high=4):
    return [items.count(v) for v in range(low, high)]


def _places(items):
    return [2 * (i % 2 == 0) - 1 for i in range(len(items))]


RULES = {
    "most frequent, ties to the highest": (
        lambda s: max(range(4), key=lambda v: (_frequencies(s)[v], v)), 4, "further",
    ),
    "least frequent": (lambda s: min(range(4), key=lambda v: (_frequencies(s)[v], v)), 4, "further"),
    "second most frequent": (
        lambda s: sorted(range(4), key=lambda v: (-_frequencies(s)[v], v))[1], 4, "further",
    ),
    "no place equals its mirror image": (
        lambda s: int(all(a != b for a, b in zip(s, s[::-1], strict=True))), 2, "further",
    ),
    "a word twice": (lambda s: int(len(s) % 2 == 0 and s[: len(s) // 2] == s[len(s) // 2 :]), 2, "further"),
    "median": (lambda s: sorted(s)[len(s) // 2], 8, "further"),
    "inputs below the frequency of the last": (lambda s: sum(v < s.count(s[-1]) for v in s), 5, "further"),
    "evens minus odds": (lambda s: sum(1 - 2 * (v % 2) for v in s), 10, "change"),
    "alternating sum": (lambda s: sum(v * p for v, p in zip(s, _places(s), strict=True)), 10, "change"),
}  # fmt: skip


FAST = {"median", "evens minus odds", "a word twice"}


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in RULES])
def test_rules_of_order_frequency_and_change(name):
    rule, high, kind = RULES[name]

    def answers(x):
        rows = [[rule(s[: t + 1]) for t in range(len(s))] for s in x[..., 0].tolist()]
        return np.array(rows, np.int64)[..., None]

    rng = np.random.default_rng(0)
    x = rng.integers(0, high, (600, 9, 1))
    if kind == "change":
        found = list(change_rules(x, answers(x), Grammar()))
    else:
        found = list(feature_rules(x, answers(x), 0, high, Grammar(largest=3), symmetric=False, further=True))
    longer = rng.integers(0, high, (200, 30, 1))
    np.testing.assert_array_equal(found[0].run(longer), answers(longer))
    again = parse_program(found[0].source())
    np.testing.assert_array_equal(again.run(longer), answers(longer))
