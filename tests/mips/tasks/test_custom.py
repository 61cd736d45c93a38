"""The user's own functions as tasks: what they give is taken as it is, or refused by name."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mips.tasks import from_callable
from tests.mips.strategies import SEEDS


@given(SEEDS, st.integers(1, 3), st.integers(1, 4))
def test_a_function_of_tuples_gives_its_own_outputs(seed, inputs, length):
    def scaled(xs):
        for x in xs:
            parts = x if isinstance(x, tuple) else (x,)
            yield sum(parts), parts[-1] > 2

    task = from_callable(scaled, low=-2, high=5, inputs=inputs, outputs=2, length=length)
    x, y = task.sample(seed, 6)
    np.testing.assert_array_equal(y[..., 0], x.sum(axis=2))
    np.testing.assert_array_equal(y[..., 1], x[..., -1] > 2)
    assert (task.name, task.length, y.dtype) == ("scaled", length, np.int64)


COUNTER = itertools.count()
REFUSED = [
    (lambda xs: 5, {}, TypeError, "gives 5, not a sequence"),
    (lambda xs: [None for _ in xs], {}, TypeError, "gives None, which is not an integer"),
    (lambda xs: ["1" for _ in xs], {}, TypeError, "not an integer"),
    (lambda xs: [*xs, 1], {}, ValueError, "11 outputs for the 10 inputs"),
    (lambda xs: [1 << 62 for _ in xs], {}, ValueError, "beyond 62 bits"),
    (lambda xs: [x for x in xs], {"outputs": 2}, ValueError, "1 outputs at a step, 2 expected"),
    (lambda xs: [len(xs) for _ in xs], {}, ValueError, "not causal: outputs of a prefix of 1"),
    (lambda xs: xs, {"low": 3, "high": 3}, ValueError, "must be above"),
    (lambda xs: xs, {"length": 0}, ValueError, "length=0 must be at least 1"),
    (lambda xs: xs, {"high": 3.5}, TypeError, r"high is an integer, not 3\.5"),
    (lambda xs: xs, {"length": "a"}, TypeError, "length is an integer, not 'a'"),
    (lambda xs: [1 // (x - 3) for x in xs], {}, ValueError, r"fails with ZeroDivisionError: .* \(inputs \["),
    (lambda xs: (1 // (x - 3) for x in xs), {}, ValueError, r"fails with ZeroDivisionError: .* \(inputs \["),
    (
        lambda xs: [next(COUNTER) for _ in xs],
        {},
        ValueError,
        r"different outputs when asked twice \(inputs \[",
    ),
]


@pytest.mark.parametrize(("function", "change", "error", "text"), REFUSED, ids=[r[3] for r in REFUSED])
def test_functions_that_are_no_tasks_are_refused(function, change, error, text, types_unchecked):
    with pytest.raises(error, match=text):
        from_callable(function, **{"low": 0, "high": 9, **change})
