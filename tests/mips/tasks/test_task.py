"""Tasks against plain readings of their rules, one sequence at a time, and the distribution of their inputs."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mips.tasks import HARDER, PUBLISHED, Task, get_task
from mips.tasks.task import lagged, scan
from tests.mips.strategies import SEEDS


def digits_of_sum(base):
    def rule(xs):
        # The digits, least significant first, of one whole sum: no carry is kept.
        total = sum((a + b) * base**t for t, (a, b) in enumerate(xs))
        return [total // base**t % base for t in range(len(xs))]

    return rule


def long_division(k):
    def rule(xs):
        numbers = [int("".join(map(str, xs[: t + 1])), 2) // k for t in range(len(xs))]
        return [n - 2 * m for n, m in zip(numbers, [0, *numbers], strict=False)]

    return rule


def prefixes(rule):
    return lambda xs: [rule(xs[: t + 1]) for t in range(len(xs))]


def product_in(group):
    def rule(xs):
        total = group[0]
        for x in xs:
            total = tuple(group[x][i] for i in total)
        return group.index(total)

    return prefixes(rule)


def crc(xs):
    number = int("".join(map(str, xs)), 2)
    for place in range(number.bit_length() - 1, 2, -1):
        if number >> place & 1:
            number ^= 0b1011 << (place - 3)
    return number


def luhn(xs):
    doubled = [2 * x if t % 2 else x for t, x in enumerate(xs)]
    return sum(int(d) for v in doubled for d in str(v)) % 10


SQUARE = [(0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2), (0, 3, 2, 1), (1, 0, 3, 2), (2, 1, 0, 3)]
SQUARE = sorted([*SQUARE, (3, 2, 1, 0)])

# Spec, section 2 and (c) 11: each rule on one sequence, by another way than the package's.
READINGS = {
    **{f"Base_{b}_Addition": digits_of_sum(b) for b in range(3, 11)},
    "Binary_Addition": digits_of_sum(2),
    **{f"Div_{k}": long_division(k) for k in (3, 5, 7)},
    "Majority_0_2": prefixes(lambda xs: min(range(3), key=lambda v: (-xs.count(v), v))),
    "Bit_Palindrome": prefixes(lambda xs: int(xs == xs[::-1])),
    "Balanced_Parenthesis": prefixes(
        lambda xs: int(xs.count(0) == xs.count(1) and all(p.count(0) >= p.count(1) for p in heads(xs)))
    ),
    "Dithering": prefixes(lambda xs: sum(xs) // 15 - sum(xs[:-1]) // 15),
    "Newton_Freebody": prefixes(lambda xs: sum((len(xs) - t) * x for t, x in enumerate(xs))),
    "Newton_Gravity": prefixes(lambda xs: sum((len(xs) - t) * (x - 1) for t, x in enumerate(xs))),
    "Perfect_Square_Detector": lambda xs: [int(round(x**0.5) ** 2 == x) for x in xs],
    "Bit_Dot_Prod_Mod2": prefixes(lambda xs: sum(a * b for a, b in xs) % 2),
    "Alternating_Last4": prefixes(lambda xs: int([0, 0, 0, *xs][-4:] in ([0, 1, 0, 1], [1, 0, 1, 0]))),
    "Multiply_Mod_5": prefixes(lambda xs: int(np.prod([x + 1 for x in xs], dtype=object)) % 5),
    "Multiply_Mod_7": prefixes(lambda xs: int(np.prod([x + 1 for x in xs], dtype=object)) % 7),
    "Checksum_Luhn": prefixes(luhn),
    "Checksum_CRC3": prefixes(crc),
    "Set_Size": prefixes(lambda xs: len(set(xs))),
    "Range_Seen": prefixes(lambda xs: max(xs) - min(xs)),
    "Contains_1011": prefixes(lambda xs: int([0, 0, 0, *xs][-4:] == [1, 0, 1, 1])),
    "Group_S3": product_in(list(itertools.permutations(range(3)))),
    "Group_D4": product_in(SQUARE),
    **{f"Prev{k}": prefixes(lambda xs, k=k: [*[0] * k, *xs][-1 - k]) for k in (5, 6, 7, 8)},
    **{f"Sum_Last{k}": prefixes(lambda xs, k=k: sum(xs[-k:])) for k in (7, 8, 9)},
}


def heads(xs):
    return [xs[: t + 1] for t in range(len(xs))]


@pytest.mark.parametrize("name", READINGS)
def test_rules_agree_with_a_plain_reading_at_any_length(name):
    task = get_task(name)
    for length in (1, 2, 9, 23):
        x, y = task.sample((7, length), 25, length)
        for sequence, row in zip(x.tolist(), y[..., 0].tolist(), strict=True):
            steps = [v[0] for v in sequence] if task.inputs == 1 else [tuple(v) for v in sequence]
            assert READINGS[name](steps) == row, (name, steps)


def test_every_harder_task_has_a_reading():
    assert set(HARDER) <= set(READINGS) and len(HARDER) == 17


def test_words_in_a_group_are_associative_and_every_element_has_an_inverse():
    for name in ("Group_S3", "Group_D4"):
        task = HARDER[name]
        size = task.high
        pairs = np.array(list(itertools.product(range(size), repeat=2)))[..., None]
        table = task.solve(pairs)[:, 1, 0].reshape(size, size)
        a, b, c = np.indices((size, size, size))
        np.testing.assert_array_equal(table[table[a, b], c], table[a, table[b, c]])
        identity = task.solve(np.arange(size)[:, None, None])[:, 0, 0]
        np.testing.assert_array_equal(identity, np.arange(size))
        assert all(sorted(row) == list(range(size)) for row in table)


@pytest.mark.parametrize("name", ["Newton_Spring", "Newton_Magnetic"])
def test_forces_use_the_old_position_and_velocity(name):
    task = get_task(name)
    x, y = task.sample(1, 20, 15)
    for sequence, want in zip(x, y, strict=True):
        p = v = np.zeros(task.inputs, int)
        for force, position in zip(sequence, want, strict=True):
            pull = np.array([-v[1], v[0]]) if task.inputs == 2 else -p
            v = v + force + pull
            p = p + v
            np.testing.assert_array_equal(p, position)


@pytest.mark.parametrize("name", ["Current_Number", "Div_3", "Base_3_Addition", "Newton_Magnetic"])
def test_inputs_are_uniform_over_the_alphabet(name):
    task = get_task(name)
    x = task.draw(11, 4000)
    for channel in range(task.inputs):
        counts = np.unique(x[..., channel], return_counts=True)[1]
        assert len(counts) == task.high - task.low
        assert stats.chisquare(counts).pvalue > 1e-4
    # Neither do neighbors in time know of each other.
    table = np.histogram2d(x[:, 0, 0], x[:, 1, 0], bins=task.high - task.low)[0]
    if table.size < 1000:
        assert stats.chisquare(table.ravel()).pvalue > 1e-4


def test_palindromes_are_planted_at_a_uniform_length():
    # Spec, section 2: m uniform in 2..L, the first m bits a palindrome, the rest uniform.
    length, count = 8, 40_000
    x = get_task("Bit_Palindrome").draw(5, count, length)[..., 0]
    longest = np.zeros(count, int)
    for m in range(2, length + 1):
        longest[(x[:, :m] == x[:, :m][:, ::-1]).all(axis=1)] = m
    # P(the first k bits are a palindrome), by listing what can be planted.
    want = np.zeros(length + 1)
    for bits in itertools.product((0, 1), repeat=length):
        for m in range(2, length + 1):
            word = [bits[min(t, m - 1 - t)] if t < m else bits[t] for t in range(length)]
            best = max((k for k in range(2, length + 1) if word[:k] == word[:k][::-1]), default=0)
            want[best] += 1
    want *= count / want.sum()
    seen = np.bincount(longest, minlength=length + 1)
    kept = want > 0
    assert (seen[~kept] == 0).all()
    assert stats.chisquare(seen[kept], want[kept]).pvalue > 1e-4


@given(SEEDS, st.integers(0, 7), st.integers(1, 6))
def test_lags_shift_and_add_up(seed, lag, length):
    x = np.random.default_rng(seed).integers(-9, 10, (3, length, 2))
    got = lagged(x, lag)
    assert got.shape == x.shape
    for t in range(length):
        np.testing.assert_array_equal(got[:, t], x[:, t - lag] if t >= lag else 0)
    np.testing.assert_array_equal(lagged(lagged(x, 1), lag), lagged(x, lag + 1))


@given(SEEDS, st.integers(1, 6))
def test_a_recurrence_goes_step_by_step(seed, length):
    x = np.random.default_rng(seed).integers(-9, 10, (4, length, 2))

    def step(state, inputs):
        return state + inputs.sum(axis=1), np.stack([state, inputs[:, 0]], axis=1)

    y = scan(step, np.zeros(4, int), x)
    assert y.shape == (4, length, 2)
    np.testing.assert_array_equal(y[..., 1], x[..., 0])
    np.testing.assert_array_equal(
        y[:, :, 0], lagged(np.cumsum(x.sum(axis=2, keepdims=True), axis=1), 1)[..., 0]
    )


@given(st.integers(-5, 5), st.integers(1, 12), st.integers(1, 3), st.integers(1, 9))
def test_symbols_and_sequences_are_counted(low, width, inputs, length):
    task = Task("t", lambda x: x, low, low + width, inputs=inputs, outputs=inputs, length=length)
    assert task.symbols == len(set(itertools.product(range(width), repeat=inputs)))
    assert task.sequences == pytest.approx(float(width) ** (inputs * length))


def test_sequences_beyond_floats_are_infinitely_many():
    assert Task("t", lambda x: x, 0, 2, length=2000).sequences == np.inf
    assert Task("t", lambda x: x, 0, 1, length=2000).sequences == 1


def test_seeds_decide_and_differ():
    task = get_task("Sum_All")
    assert not np.array_equal(task.draw(0, 20), task.draw(1, 20))
    assert not np.array_equal(task.draw((0, 1), 20), task.draw((0, 2), 20))
    np.testing.assert_array_equal(task.draw((0, 1), 20), task.sample((0, 1), 20)[0])


def test_recorded_tasks_draw_their_records_alone_and_all_of_them():
    x = np.arange(12).reshape(4, 3, 1)
    task = Task("r", None, 0, 12, length=3, records=(x, -x))
    drawn, truth = task.sample(0, 400)
    np.testing.assert_array_equal(truth, -drawn)
    counts = Counter(drawn[:, 0, 0].tolist())
    assert set(counts) == {0, 3, 6, 9} and stats.chisquare(list(counts.values())).pvalue > 1e-4
    np.testing.assert_array_equal(task.draw(0, 400), drawn)
    assert task.draw(0, 5, 2).shape == (5, 2, 1)
    with pytest.raises(ValueError, match="known by its recorded sequences alone"):
        task.solve(x)
    with pytest.raises(ValueError, match="no recorded sequences of length 4"):
        task.draw(0, 5, 4)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"high": 0}, "high=0 must be above low=0"),
        ({"inputs": 0}, "inputs=0 must be at least 1"),
        ({"outputs": -1}, "outputs=-1 must be at least 1"),
        ({"length": 0}, "length=0 must be at least 1"),
        ({"reference": None}, "reference solution or recorded sequences"),
    ],
)
def test_tasks_that_make_no_sense_are_refused_by_field(change, error):
    with pytest.raises(ValueError, match=f"task 't': .*{error}"):
        dataclasses.replace(Task("t", lambda x: x, 0, 2), **change)


@pytest.mark.parametrize(
    "reference",
    [lambda x: x[:, :-1], lambda x: x[..., 0], lambda x: x.astype(float), lambda x: x.tolist()[:1]],
)
def test_references_of_another_form_are_refused(reference):
    with pytest.raises(ValueError, match=r"the reference returned .* integers of shape \(5, 10, 1\)"):
        Task("t", reference, 0, 2).sample(0, 5)


def test_names_are_found_whatever_their_case_and_no_two_are_alike():
    for name, task in (PUBLISHED | HARDER).items():
        assert get_task(name.upper()) is task and task.name == name
    assert len({n.lower() for n in PUBLISHED | HARDER}) == 62 + 17
    with pytest.raises(ValueError, match=r"unknown task 'qqqq' `mips tasks` lists all 79"):
        get_task("qqqq")
