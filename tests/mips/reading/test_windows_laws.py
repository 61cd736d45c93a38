"""Windows and running features by laws: features against plain Python, rules that are found again."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.programs import expression as ex
from mips.programs.enumeration import Grammar
from mips.reading import windows
from tests.mips.strategies import SEEDS

SMALL = Grammar(largest=4, tries=200_000)

# What each running feature is after the inputs so far, in plain Python.
PLAIN = {
    "x": lambda xs, low, high: xs[-1],
    "x1": lambda xs, low, high: xs[-2] if len(xs) > 1 else 0,
    "total": lambda xs, low, high: sum(xs),
    "high": lambda xs, low, high: max(xs),
    "low": lambda xs, low, high: min(xs),
    "steps": lambda xs, low, high: len(xs),
    "winner": lambda xs, low, high: min(range(low, high), key=lambda v: (-xs.count(v), v)),
    "distinct": lambda xs, low, high: len(set(xs)),
    "mirrored": lambda xs, low, high: int(xs == xs[::-1]),
    "repeats": lambda xs, low, high: xs.count(xs[-1]),
}


@settings(max_examples=8)
@given(SEEDS, st.integers(-3, 3), st.integers(1, 8))
def test_features_keep_up_with_what_they_name(seed, low, width):
    found = windows.features(low, low + width, 1)
    names = [f.name for f in found]
    assert len(set(names)) == len(names)
    x = np.random.default_rng(seed).integers(low, low + width, (4, 6, 1))
    program = windows.feature_program(found, ("x",), tuple(ex.var(n) for n in names), "features")
    columns = program.run(x)
    for row, sequence in zip(columns, x[..., 0].tolist(), strict=True):
        for t, values in enumerate(row):
            for name, value in zip(names, values, strict=True):
                prefix = sequence[: t + 1]
                if name.startswith("c") and name[1:].isdigit():
                    assert value == prefix.count(low + int(name[1:]))
                else:
                    assert value == PLAIN[name](prefix, low, low + width), name
    assert (width <= 6) == ("winner" in names)


@settings(max_examples=6)
@given(SEEDS, st.integers(0, 2), st.integers(2, 5))
def test_symmetric_features_do_not_know_the_order(seed, low, width):
    used = tuple(f for f in windows.features(low, low + width, 1) if f.symmetric)
    program = windows.feature_program(used, ("x",), tuple(ex.var(f.name) for f in used), "features")
    rng = np.random.default_rng(seed)
    x = rng.integers(low, low + width, (5, 7, 1))
    last = program.run(x)[:, -1]
    np.testing.assert_array_equal(program.run(rng.permuted(x, axis=1))[:, -1], last)
    assert {"x", "x1", "mirrored", "repeats"}.isdisjoint(f.name for f in used)


def test_state_that_no_output_needs_is_left_out():
    used = windows.features(0, 3, 1)
    program = windows.feature_program(used, ("x",), (ex.parse("total + distinct"),), "features")
    assert set(program.state) == {"total", "history"}
    assert windows.feature_program(used, ("x",), (ex.parse("x + 1"),), "features").state == ()
    assert len(windows.features(0, 3, 2)) == 4


@given(SEEDS, st.integers(1, 30), st.integers(1, 4), st.integers(1, 2))
def test_votes_are_those_of_a_counter(seed, rows, kinds, outputs):
    rng = np.random.default_rng(seed)
    table, targets = rng.integers(0, kinds, (rows, 2)), rng.integers(0, 3, (rows, outputs))
    arguments, winners = windows.vote(table, targets)
    ballots: dict = {}
    for key, target in zip(map(tuple, table.tolist()), map(tuple, targets.tolist()), strict=True):
        ballots.setdefault(key, Counter())[target] += 1
    assert [tuple(a) for a in arguments.tolist()] == sorted(ballots)
    for key, winner in zip(arguments.tolist(), winners.tolist(), strict=True):
        counts = ballots[tuple(key)]
        assert counts[tuple(winner)] == max(counts.values())


@given(SEEDS, st.integers(1, 60), st.integers(1, 4), st.floats(0, 0.4))
def test_contradictions_are_the_share_of_rows_that_no_function_can_give(seed, rows, kinds, tolerance):
    rng = np.random.default_rng(seed)
    leaves = {"x": rng.integers(0, kinds, rows), "w": rng.integers(0, 2, rows)}
    targets = [rng.integers(0, 3, rows)]
    ballots: dict = {}
    for key, y in zip(zip(*leaves.values(), strict=True), targets[0], strict=True):
        ballots.setdefault(key, Counter())[y] += 1
    missed = rows - sum(max(c.values()) for c in ballots.values())
    assert windows.contradicts(leaves, targets, tolerance) == (1 - (rows - missed) / rows > 2 * tolerance)


WINDOWS = [
    ("x + x1", lambda x, y: x[-1] + x[-2]),
    ("abs(x - x1)", lambda x, y: abs(x[-1] - x[-2])),
    ("max(x, x2)", lambda x, y: max(x[-1], x[-3])),
    ("(x + y1) % 4", lambda x, y: (x[-1] + y[-1]) % 4),
    ("max(x, y1) - 1", lambda x, y: max(x[-1], y[-1]) - 1),
]


@pytest.mark.parametrize(("name", "rule"), WINDOWS, ids=[n for n, _ in WINDOWS])
def test_rules_over_windows_are_found_again(name, rule):
    x = np.random.default_rng(0).integers(0, 4, (300, 8, 1))
    rows = []
    for sequence in x[..., 0].tolist():
        y = [0]
        for t in range(8):
            y.append(rule([0, 0, 0, *sequence[: t + 1]], y))
        rows.append(y[1:])
    y = np.array(rows)[..., None]
    found = list(windows.window_rules(x, y, Grammar(largest=5)))
    assert any(np.array_equal(p.run(x), y) for p in found)
    assert {p.kind for p in found} == {"window"}


@given(SEEDS)
def test_outputs_that_are_noise_have_no_window_and_no_recurrence(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 3, (2, 200, 6, 1))
    assert list(windows.recurrences(x, y, most=2)) == []
    assert list(windows.window_rules(x, y, SMALL, most=1)) == []


@given(SEEDS, st.integers(1, 3), st.integers(1, 3))
def test_lagged_leaves_are_the_values_of_their_names(seed, past_inputs, past_outputs):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-5, 6, (3, 6, 2)), rng.integers(-5, 6, (3, 6, 1))
    leaves, targets = windows._windows(x, y, ("x", "w"), ("y",), past_inputs, past_outputs)
    row = 0
    for i in range(3):
        for t in range(past_outputs, 6):
            for k in range(past_inputs + 1):
                for c, name in enumerate("xw"):
                    want = x[i, t - k, c] if t >= k else 0
                    assert leaves[f"{name}{k}" if k else name][row] == want
            for k in range(1, past_outputs + 1):
                assert leaves[f"y{k}"][row] == y[i, t - k, 0]
            assert targets[0][row] == y[i, t, 0]
            row += 1
    assert len(targets[0]) == row


@pytest.mark.parametrize(
    ("rule", "matters"),
    [
        (lambda x: np.cumsum(x, axis=1), False),
        (lambda x: np.maximum.accumulate(x, axis=1), False),
        (lambda x: x, True),
        (lambda x: x[:, :1] + 0 * x, True),
    ],
    ids=["sum", "largest", "last", "first"],
)
def test_order_matters_where_shuffling_changes_the_last_answer(rule, matters):
    x = np.random.default_rng(0).integers(0, 5, (300, 7, 1))
    assert windows.order_matters(x, rule) is matters
    # A network that errs in one sequence of a hundred is not asymmetric for that.
    if not matters:
        noise = np.random.default_rng(1).random(300) < 0.005
        assert not windows.order_matters(x, lambda v: rule(v) + noise[:, None, None])


def test_two_channels_are_shuffled_together():
    x = np.random.default_rng(0).integers(0, 5, (300, 7, 2))
    assert not windows.order_matters(x, lambda v: np.cumsum(v[..., :1] * v[..., 1:], axis=1))
    assert windows.order_matters(x, lambda v: v[..., :1] - v[..., 1:])


@settings(max_examples=8)
@given(SEEDS, st.integers(2, 4))
def test_counted_rules_are_found_from_counts_alone(seed, symbols):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, symbols, (200, 6, 1))
    wanted = int(rng.integers(symbols))
    y = np.cumsum(x == wanted, axis=1).astype(int)
    (program,) = windows.feature_rules(x, y, 0, symbols, SMALL, symmetric=True)
    longer = rng.integers(0, symbols, (20, 20, 1))
    np.testing.assert_array_equal(program.run(longer), np.cumsum(longer == wanted, axis=1))
    assert program.kind == "counter"
