"""Trials, findings and log: what is judged on, what is kept, and where the time went."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.config import SynthesisConfig
from mips.judging.candidates import BudgetExhaustedError, Examination, Findings, Log
from mips.judging.judges import ByLabels
from mips.judging.trials import Trials
from mips.programs.program import parse_program
from mips.tasks import Task, get_task


def program(text):
    return parse_program(
        f"def f(xs):\n    s = 0\n    for x in xs:\n        s = s + x\n        yield {text}\n"
    )


RIGHT = program("s")
LONGER = program("s + 0 * x")
WRONG = program("s + 1")
TABLE = parse_program(
    "def f(xs):\n    T = (0, 1)\n    s = 0\n    for x in xs:\n        s = s + T[x]\n        yield s\n"
)
TASK = Task("sum", lambda x: np.cumsum(x, axis=1), 0, 2, length=6)


@pytest.fixture(scope="module")
def trials():
    return Trials.of(TASK, seed=3)


def test_trials_are_fresh_fixed_and_of_both_lengths(trials):
    assert trials.short[0].shape == (2000, 6, 1) and trials.long[0].shape == (300, 24, 1)
    again, other = Trials.of(TASK, seed=3), Trials.of(TASK, seed=4)
    np.testing.assert_array_equal(again.short[0], trials.short[0])
    assert not np.array_equal(other.short[0], trials.short[0])
    x, _ = trials.training_data(SynthesisConfig(sequences=2000, tests=10), seed=3)
    assert not np.array_equal(x, trials.short[0])


@given(st.floats(0, 1), st.booleans())
def test_shares_and_exactness_agree(trials, share, late):
    x, _ = trials.short
    bad = np.random.default_rng(0).random(len(x)) < share
    if late:
        bad[:200] = False  # what the first look does not see

    def run(given_x):
        rows = bad[: len(given_x)]
        return np.cumsum(given_x, axis=1) + (rows[:, None, None] & (np.arange(6) == 5)[:, None])

    judged = dataclasses.replace(trials, skewed=None)
    assert judged.share_short(run) == pytest.approx(1 - bad.mean())
    assert judged.exact_short(run) == (not bad.any())


def test_longer_sequences_count_where_there_are_any(trials):
    def until_ten(x):
        return np.minimum(np.cumsum(x, axis=1), 10)

    assert trials.exact_short(until_ten) and not trials.exact_long(until_ten)
    assert dataclasses.replace(trials, long=None).exact_long(until_ten)
    capped = parse_program(
        "def f(xs):\n    s = 0\n    for x in xs:\n        s = min(s + x, 10)\n        yield s\n"
    )
    assert trials.passed_by(capped) and not trials.passed_beyond_by(capped)
    assert dataclasses.replace(trials, long=None).passed_beyond_by(capped)
    assert ByLabels(trials).misfit(capped) == 0 and ByLabels(trials, beyond=True).misfit(capped) == math.inf
    assert trials.passed_by(RIGHT) and not trials.passed_by(WRONG)


def test_recorded_sequences_fall_into_three_parts_whatever_their_order():
    x = np.arange(300).reshape(50, 6, 1)
    task = Task("r", None, 0, 300, length=6, records=(x, x + 1))
    trials = Trials.of(task, seed=2)
    firsts = [set(part[0][:, 0, 0]) for part in (trials.fitting, trials.short, trials.evidence)]
    assert [len(part) for part in firsts] == [30, 10, 10]
    assert set.union(*firsts) == set(x[:, 0, 0])
    assert max(firsts[0]) > min(firsts[2]) and max(firsts[2]) > min(firsts[0])  # shuffled
    config = SynthesisConfig(sequences=400, tests=30)
    got, y = trials.training_data(config, seed=0)
    np.testing.assert_array_equal(y, got + 1)
    assert got.shape == (430, 6, 1)
    # The first are for judging, by sequences that the others are not among.
    assert set(got[:30, 0, 0]) <= firsts[1] and set(got[30:, 0, 0]) == firsts[0]


@given(st.integers(1, 40), st.integers(0, 9), st.integers(0, 2**31 - 1))
def test_equal_recorded_sequences_are_in_one_part_and_none_is_lost(count, kinds, seed):
    x = np.random.default_rng(seed).integers(kinds + 1, size=(count, 1, 1)).repeat(3, axis=1)
    trials = Trials.of(Task("r", None, 0, 10, length=3, records=(x, x)), seed=seed)
    if len(np.unique(x)) < 5:
        assert trials.evidence is None and len(trials.short[0]) == len(trials.fitting[0]) == count
        return
    parts = [set(part[0].ravel().tolist()) for part in (trials.fitting, trials.short, trials.evidence)]
    assert all(parts) and sum(map(len, parts)) == len(set.union(*parts)) == len(np.unique(x))
    assert sum(len(p[0]) for p in (trials.fitting, trials.short, trials.evidence)) == count


def test_what_contradicts_any_recorded_sequence_but_the_evidence_is_not_chosen():
    x = np.arange(300).reshape(50, 6, 1)[::-1]
    task = Task("r", None, 0, 300, length=6, records=(x, np.minimum(x, 150)))
    trials = Trials.of(task)
    same = parse_program("def f(xs):\n    for x in xs:\n        yield x\n")
    assert not trials.passed_by(same) and not trials.exact_short(lambda x: x)
    assert 0.4 < trials.share_short(lambda x: x) < 0.6


@pytest.mark.parametrize("count", [1, 5, 23])
def test_too_few_recorded_sequences_are_said_in_numbers(count):
    x = np.zeros((count, 6, 1), int)
    trials = Trials.of(Task("few", None, 0, 2, length=6, records=(x, x)))
    with pytest.raises(ValueError, match=rf"{count} records \(1 different\) are too few"):
        trials.training_data(SynthesisConfig(), seed=0)


def test_numbers_beyond_32_bits_are_not_trained_on():
    task = Task("big", lambda x: x * 2**31, 0, 3)
    with pytest.raises(ValueError, match=r"outputs from 0 to 4294967296; networks take 32 bits"):
        Trials.of(task).training_data(SynthesisConfig(sequences=50, tests=5), seed=0)


@settings(max_examples=8)
@given(st.permutations([RIGHT, LONGER, WRONG, TABLE]))
def test_the_shortest_program_that_passes_is_kept_in_any_order(order):
    trials, found = Trials.of(TASK), Findings()
    trials = dataclasses.replace(trials, short=(trials.short[0][:50], trials.short[1][:50]), long=None)
    assert found.offer(order, ByLabels(trials)) is True
    assert found.formula is RIGHT
    # A table is kept beside, unless a shorter formula was there already.
    assert found.table in (None, TABLE)
    assert found.offer([], ByLabels(trials)) and not Findings().offer([WRONG, TABLE], ByLabels(trials))


def test_programs_no_shorter_than_what_is_there_are_not_even_run(trials):
    class Refusing(ByLabels):
        def misfit(self, _program):
            raise AssertionError("run in vain")

    found = Findings(formula=RIGHT, cost=RIGHT.bits)
    assert found.offer([LONGER, RIGHT], Refusing(trials))


def test_notes_come_once_and_in_their_order():
    log = Log()
    for text in ("b", "a", "b", "c", "a"):
        log.note(text)
    assert log.notes == ["b", "a", "c"]


def test_stages_are_announced_and_their_time_adds_up(monkeypatch):
    heard, clock = [], iter([0.0, 1.5, 2.0, 2.25, 10.0, 11.0])
    monkeypatch.setattr("mips.judging.candidates.time.perf_counter", lambda: next(clock))
    log = Log(lambda *stage: heard.append(stage))
    with log.stage("one", "first"):
        pass
    with log.stage("one"):
        pass
    with pytest.raises(KeyError), log.stage("two"):
        raise KeyError
    assert log.seconds == {"one": 1.75, "two": 1.0}
    assert heard == [("one", "first"), ("one", ""), ("two", "")]


def test_a_listener_can_stop_before_the_stage_begins():
    def stop(_stage, _detail):
        raise BudgetExhaustedError

    exam = Examination.of(get_task("Bitwise_Not"), on_stage=stop)
    with pytest.raises(BudgetExhaustedError), exam.stage("training"):
        raise AssertionError("it began")
    assert exam.log.seconds == {}


def test_findings_apart_do_not_count_for_the_examination():
    exam = Examination.of(TASK)
    apart = exam.apart()
    assert apart.trials is exam.trials and apart.task is TASK
    assert apart.offer([RIGHT])
    apart.note("seen")
    assert exam.found.formula is None and exam.log.notes == []
