"""Skewed sequences stay within the alphabet, and each kind is what its name says."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mips.tasks import Task
from mips.tasks.skewed import skewed


@given(
    st.integers(-50, 50),
    st.integers(1, 200),
    st.integers(1, 4),
    st.integers(1, 41),
    st.integers(1, 60),
    st.integers(0, 2**31),
)
def test_any_alphabet_and_length(low, width, inputs, length, count, seed):
    task = Task("t", lambda x: x, low, low + width, inputs=inputs, outputs=inputs)
    x = skewed(task, seed, count, length)
    each = -(-count // 8)
    assert x.shape == (8 * each, length, inputs) and x.dtype == np.int64
    assert x.min() >= low and x.max() < low + width
    assert np.array_equal(x, skewed(task, seed, count, length))
    constant, two, _sticky, rising, falling, _mirrored, periodic, one = np.split(x, 8)
    assert (constant == constant[:, :1]).all()
    assert all(len(np.unique(row, axis=0)) <= 2 for row in (*two, *one))
    assert (np.diff(rising, axis=1) >= 0).all() and (np.diff(falling, axis=1) <= 0).all()
    assert all(
        any((row[p:] == row[:-p]).all() for p in (2, 3, 4) if p < length) or length < 5 for row in periodic
    )


def test_sticky_and_mirrored_sequences_are_just_that():
    task = Task("t", lambda x: x, 0, 1000)
    parts = np.split(skewed(task, 0, 8 * 2000, 20), 8)
    repeats = (np.diff(parts[2], axis=1) == 0).mean()
    assert 0.78 < repeats < 0.82
    ends = [max(m for m in range(1, 21) if (row[:m] == row[:m][::-1]).all()) for row in parts[5][..., 0]]
    assert np.bincount(ends, minlength=21)[3:].min() > 50  # palindromes of all lengths
