"""Verification by laws: counterexamples are real and shortest, shares are those of a plain count."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.judging import verification
from mips.judging.verification import Report, all_sequences, right, verify
from mips.programs.program import parse_program
from mips.reading.symbolic_lifting import table_program
from mips.tasks import Task
from tests.mips.machines import machine_of
from tests.mips.strategies import SEEDS, machines, programs


@pytest.fixture(autouse=True)
def few_sequences(monkeypatch):
    """Laws hold for any number of sequences; test_verification.py has the full ones."""
    monkeypatch.setattr(verification, "_FRESH", 60)
    monkeypatch.setattr(verification, "_LONG", 20)


def task_of(machine, length=4):
    low, high = int(machine.alphabet.min()), int(machine.alphabet.max()) + 1
    channels = machine.alphabet.shape[1]
    return Task("t", machine.run, low, high, inputs=channels, outputs=machine.output.shape[2], length=length)


@settings(max_examples=12)
@given(machines(most_states=4), machines(most_states=4))
def test_a_program_is_exact_for_its_own_machine_and_a_counterexample_is_one(one, two):
    one, two = one(), two()
    task, program = task_of(one), table_program(one)
    report = verify(program, task)
    assert report.exact and report.counterexample is None and report.to_json()["exact"]
    if two.alphabet.shape != one.alphabet.shape or (two.alphabet != one.alphabet).any():
        return
    report = verify(table_program(two), task)
    example = report.counterexample
    assert (example is None) == report.exact
    if example is not None:
        x = np.array(example.x)[None]
        assert one.run(x)[0, -1].tolist() == example.expected
        assert two.run(x)[0, -1].tolist() == example.got != example.expected
        for length in range(1, len(example.x)):
            every = all_sequences(task, length)
            np.testing.assert_array_equal(one.run(every), two.run(every))


def test_a_failure_seen_late_is_sought_at_every_shorter_length(monkeypatch):
    monkeypatch.setattr(verification, "_FRESH", 3)
    monkeypatch.setattr(verification, "_LONG", 1)
    task = Task("t", lambda x: x, 0, 8, length=4, most_listed=1)
    wrong_at_five = parse_program("def f(xs):\n    for x in xs:\n        yield x + (x == 5)\n")
    reports = [verify(wrong_at_five, task, seed=seed) for seed in range(12)]
    found = [r.counterexample.x for r in reports if r.counterexample is not None]
    assert len(found) > 6 and all(x == [[5]] for x in found)


@settings(max_examples=20)
@given(programs(), SEEDS)
def test_a_sequence_is_right_where_all_its_outputs_are(make, seed):
    program = make()
    rng = np.random.default_rng(seed)
    x = rng.integers(-4, 5, (12, 5, 1))
    y = program.run(x)
    small = (np.abs(program.run(x, exact=True)) < 2**62).all()
    wrong = rng.random(y.shape) < 0.05
    got = right(program, x, y + wrong)
    if small:
        np.testing.assert_array_equal(got, ~wrong.any(axis=(1, 2)))


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 2))
def test_all_sequences_come_once_in_the_order_of_numbers(length, width, inputs):
    task = Task("t", lambda x: x, -1, width - 1, inputs=inputs, outputs=inputs)
    if task.symbols**length > 3000:
        return
    x = all_sequences(task, length)
    words = itertools.product(itertools.product(range(-1, width - 1), repeat=inputs), repeat=length)
    assert x.tolist() == [[list(step) for step in word] for word in words]


@given(st.sampled_from([0.5, 1.0]), st.sampled_from([None, 0.9, 1.0]), st.sampled_from([None, 0.0, 1.0]))
def test_exact_is_right_on_everything_longer_sequences_included(fresh, long, exhaustive):
    report = Report(fresh, 10, long, 5, 40, exhaustive, None)
    assert report.exact == (fresh == 1 and long == 1 and exhaustive != 0.0)
    told = {"exact": report.exact, "error_bound": report.error_bound}
    assert report.to_json() == dataclasses.asdict(report) | told


@given(st.integers(1, 5000))
def test_where_nothing_is_wrong_the_bound_is_about_three_in_n(count):
    bound = Report(1.0, count, None, 0, 40, None, None).error_bound
    assert bound == pytest.approx(1 - 0.05 ** (1 / count), rel=1e-6)
    assert Report(0.0, count, None, 0, 40, None, None).error_bound == 1.0


@pytest.mark.parametrize("rate", [0.002, 0.05, 0.5])
@pytest.mark.parametrize("count", [30, 400])
def test_the_bound_holds_in_nineteen_cases_of_twenty(rate, count):
    wrong = np.random.default_rng(1).binomial(count, rate, size=2000)
    bounds = {k: Report(1 - k / count, count, None, 0, 40, None, None).error_bound for k in set(wrong)}
    missed = np.mean([bounds[k] < rate for k in wrong])
    assert missed < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_programs_whose_sixty_four_bits_wrap_are_judged_by_their_true_numbers():
    task = Task("zero", lambda x: 0 * x, 0, 2, length=30)
    # In 64 bits the state is zero from the 22nd step on; in Python it never is.
    text = "def f(xs):\n    s = 1\n    for x in xs:\n        s = s * 8\n        yield int(s == 0)\n"
    grows = parse_program(text)
    assert grows.run(task.draw(0, 1))[0, -1, 0] == 1 and grows.run(task.draw(0, 1), exact=True).max() == 0
    assert verify(grows, task).exact


HEAVY = pytest.param("(s + 2) * (s + 3) * (s + x + 5)", marks=pytest.mark.slow)


@pytest.mark.parametrize("update", ["s * s + x + 2", HEAVY])
def test_a_state_that_squares_itself_is_given_up_beyond_a_bound(update):
    task = Task("sum", lambda x: np.cumsum(x, axis=1), 0, 2, length=12)
    text = f"def f(xs):\n    s = 0\n    for x in xs:\n        s = {update}\n        yield s % 7\n"
    report = verify(parse_program(text), task)
    assert report.fresh == 0.0 and report.counterexample is not None
    grows = parse_program(text)
    with pytest.raises(ValueError, match="more than 16384 bits"):
        grows.run(task.draw(0, 5, 60), exact=True)
    # Below the bound every digit is right.
    state, given = 0, task.draw(0, 1, 8)[0, :, 0].tolist()
    for x, got in zip(given, grows.run(np.array(given)[None, :, None], exact=True)[0, :, 0], strict=True):
        state = eval(update, {"s": state, "x": x})
        assert got == state % 7


def test_recorded_sequences_of_more_steps_are_the_longer_ones():
    x = np.arange(8).reshape(2, 4, 1)
    long = np.arange(12).reshape(1, 12, 1)
    task = Task("r", None, 0, 12, length=4, records=(x, x), long_records=(long, long % 10))
    copy = table_program(machine_of(lambda s, x: (0, x), 0, high=12))
    report = verify(copy, task)
    assert (report.fresh, report.fresh_count, report.long, report.long_count) == (1.0, 2, 0.0, 1)
    assert report.long_length == 12 and report.exhaustive is None and not report.exact
    assert (report.recorded, report.recorded_count) == (1.0, 2)
    assert (len(report.counterexample.x), report.counterexample.got) == (11, [10])


@pytest.mark.parametrize("most", [15, 16])
def test_all_sequences_are_tried_where_they_are_few_enough(most):
    machine = machine_of(lambda s, x: (0, x), 0)
    report = verify(table_program(machine), dataclasses.replace(task_of(machine), most_listed=most))
    assert report.exhaustive == (1.0 if most == 16 else None) and report.exact
