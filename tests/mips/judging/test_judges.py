"""What counts as true: labels, or a network with its errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mips.judging.judges import ByLabels, ByNetwork, Chooser
from mips.judging.trials import Trials
from mips.programs.program import parse_program
from mips.tasks import Task

SUM = parse_program("def f(xs):\n    s = 0\n    for x in xs:\n        s = (s + x) % 3\n        yield s\n")
TASK = Task("sum", lambda x: np.cumsum(x, axis=1) % 3, 0, 3, length=6)


def erring(count, accuracy, tests, of=2000):
    """A network that has `count` of its sequences wrong, and is known to be right on `accuracy` of `tests`."""
    x = np.random.default_rng(0).integers(0, 3, (of, 6, 1))
    y = np.cumsum(x, axis=1) % 3
    y[:count, -1] = (y[:count, -1] + 1) % 3
    return ByNetwork(x, y, accuracy, tests)


def test_labels_admit_no_error_and_say_which_they_are():
    trials = Trials.of(TASK)
    assert ByLabels(trials).chooser == Chooser.LABELS
    assert ByLabels(trials, beyond=True).chooser == Chooser.LONG_LABELS
    assert ByLabels(trials).misfit(SUM) == 0 and not ByLabels(trials).admits(0.9999)
    x = np.arange(30).reshape(30, 1, 1) % 3
    recorded = Trials.of(Task("r", None, 0, 3, length=1, records=(x, x)))
    assert ByLabels(recorded).chooser == Chooser.RECORDS


@given(st.integers(0, 2000), st.integers(1, 1000), st.integers(0, 1000))
def test_as_many_differences_as_errors_are_allowed_and_no_more_than_half_as_many_again(count, tests, wrong):
    wrong = min(wrong, tests)
    judge = erring(count, 1 - wrong / tests, tests)
    # With 95 % confidence the network errs no more often than this; never less often than was seen.
    assert judge.errors >= 2000 * wrong / tests - 1e-6 and judge.errors <= 2000
    cost = judge.misfit(SUM)
    if count == 2000 or count > 1.5 * judge.errors + 10:
        assert cost == math.inf
    elif count <= judge.errors:
        assert cost == count
    else:
        assert cost == pytest.approx(judge.errors + (count - judge.errors) * judge.price)
        assert judge.price > math.log2(2000)


def test_a_network_that_is_the_truth_itself_errs_nowhere():
    judge = erring(5, 1.0, 0)
    assert judge.errors == 0 and judge.misfit(SUM) == pytest.approx(5 * judge.price)
    assert judge.settles(lambda x: judge.y) and not judge.settles(SUM.run)
