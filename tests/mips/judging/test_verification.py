"""Verification rejects what is wrong, with the shortest counterexample."""

import dataclasses

import numpy as np
import pytest

import mips
from mips.judging.verification import all_sequences, verify
from mips.programs.program import parse_program
from mips.tasks import get_task


def program(body, start="s = 0"):
    return parse_program(
        f"def f(xs):\n    {start}\n    for x in xs:\n" + "".join(f"        {b}\n" for b in body)
    )


def test_a_wrong_initial_value_is_found_at_length_one():
    report = verify(program(["s = s + x", "yield s"], "s = 3"), get_task("Sum_All"))
    assert report.fresh == 0.0 and not report.exact
    assert len(report.counterexample.x) == 1
    assert report.counterexample.got[0] == report.counterexample.expected[0] + 3


def test_a_wrong_padding_is_found_at_length_one():
    report = verify(program(["yield (x + s) % 2", "s = x"], "s = 1"), get_task("Parity_Last2"))
    assert report.exhaustive == 0.0 and len(report.counterexample.x) == 1


def test_the_right_program_passes_everything():
    report = verify(program(["yield (x + s) % 2", "s = x"]), get_task("Parity_Last2"))
    assert report.exact and report.counterexample is None
    assert (report.fresh_count, report.long_count, report.long_length) == (20_000, 1_400, 40)
    assert (report.skewed, report.skewed_count) == (1.0, 400)
    assert report.exhaustive == 1.0


def test_what_is_right_at_the_training_length_only_is_not_exact():
    ten = program(["n = n + 1", "s = s + x if n < 11 else s", "yield s"], "s = 0\n    n = 0")
    report = verify(ten, get_task("Sum_All"))
    # Of the longer ones only those of zeros come out right.
    assert report.fresh == report.skewed == 1.0 and report.long < 0.01 and not report.exact
    assert len(report.counterexample.x) == 11


def test_a_rare_failure_gets_its_shortest_form():
    # Wrong only after three ones in a row.
    body = ["yield (s + x) % 2 if a * b * x == 0 else 7", "s = (s + x) % 2", "b = a", "a = x"]
    body = ["yield (s + x) % 2 if a * b * x == 0 else 7", "s, a, b = (s + x) % 2, x, a"]
    report = verify(program(body, "s = 0\n    a = 0\n    b = 0"), get_task("Parity_All"))
    assert report.counterexample.x == [[1], [1], [1]]


def test_what_a_tasks_own_distribution_hardly_draws_is_checked_too():
    """Six equal inputs in a row: one in 10^5 of the drawn sequences, each constant one."""
    rare = "s, n = x, (n + 1 if x == s else 0)"
    code = program([rare, "yield 0 if n > 5 else x"], "s = 0\n    n = 0")
    task = mips.Task("copy", lambda x: x, 0, 10)
    report = verify(code, task)
    assert report.fresh > 0.999 and report.skewed < 0.9 and not report.exact
    drawn = dataclasses.replace(
        task, sampler=lambda rng, count, length: rng.integers(0, 10, (count, length, 1))
    )
    assert verify(code, drawn).skewed is None  # who knows whether its solution is defined there


def test_errors_count_as_wrong():
    report = verify(program(["yield 6 // x"]), get_task("Parity_All"))
    assert report.fresh == 0.0 and report.counterexample.got is None
    task = mips.Task("t", lambda x: x, 0, 100, length=1)
    rare = verify(program(["yield x + 0 // (x - 50)"]), task)
    assert rare.exhaustive == 0.99 and rare.counterexample.x == [[50]]


def test_sixty_four_bits_are_not_taken_for_more():
    task = mips.Task("t", lambda x: np.cumsum(x * 0 + 1, axis=1) * 0, 0, 2)
    # In 64 bits the state comes back to zero after a few steps; in Python it does not.
    report = verify(
        program(["s = s * 65536 + 65536", "yield int(s == 0) * 0 + (s % 65536) * 0 + int(s < 0)"]), task
    )
    assert report.exact  # s is never below zero in Python


def test_mismatched_programs_are_refused():
    with pytest.raises(
        ValueError, match="reads 1 and writes 1 values a step; task 'Binary_Addition' has 2 and 1"
    ):
        verify(program(["yield x"]), get_task("Binary_Addition"))


def test_all_sequences_are_listed_once():
    x = all_sequences(get_task("Bitwise_And"), 3)
    assert x.shape == (64, 3, 2) and len(np.unique(x.reshape(64, -1), axis=0)) == 64


def test_recorded_tasks_are_checked_on_their_records(tmp_path):
    x = np.random.default_rng(0).integers(0, 5, (30, 8))
    np.savez(tmp_path / "s.npz", x=x, y=np.cumsum(x, axis=1))
    task = mips.from_file(tmp_path / "s.npz")
    report = verify(program(["s = s + x", "yield s"]), task)
    assert report.fresh == 1.0 and report.fresh_count == 30 and report.long is None
    assert (report.recorded, report.recorded_count) == (1.0, 30)


def test_one_recorded_sequence_that_contradicts_is_named_though_the_evidence_does_not():
    x = np.random.default_rng(0).integers(0, 5, (30, 8, 1))
    y = np.cumsum(x, axis=1)
    y[7, -1] += 1
    task = mips.Task("r", None, 0, 5, length=8, records=(x, y))
    report = verify(program(["s = s + x", "yield s"]), task, untouched=(x[20:], y[20:]))
    assert (report.fresh, report.fresh_count) == (1.0, 10)
    assert report.recorded == pytest.approx(29 / 30) and not report.right_at_its_length
    assert report.counterexample.x == x[7].tolist() and report.counterexample.expected == y[7, -1].tolist()
