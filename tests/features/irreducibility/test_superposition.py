"""Angles between subspaces, and how many fit."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from features.irreducibility.superposition import log_capacity, overlap, principal_cosines

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(2, 7), st.integers(1, 4), st.integers(1, 4), st.integers(-100, 100))
def test_cosines_are_those_of_scipy_and_of_the_spaces_alone(seed, d, k, m, power):
    assume(max(k, m) <= d)
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(d, k)), rng.normal(size=(d, m))
    found = principal_cosines(a, b)
    np.testing.assert_allclose(found, np.sort(np.cos(subspace_angles(a, b)))[::-1], atol=1e-6)
    assert len(found) == min(k, m) and (found >= 0).all() and (found <= 1).all()
    np.testing.assert_allclose(principal_cosines(b, a), found, atol=1e-7)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    mixed = 10.0**power * a @ (rng.normal(size=(k, k)) + 3 * np.eye(k))
    np.testing.assert_allclose(principal_cosines(turn @ mixed, turn @ b), found, atol=1e-6)
    assert overlap(a, b) == found[0]


@given(SEEDS)
def test_the_overlap_bounds_every_pair_of_unit_vectors(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(6, 2)), rng.normal(size=(6, 3))
    x, y = (m @ rng.normal(size=(m.shape[1], 200)) for m in (a, b))
    cosines = np.abs((x / np.linalg.norm(x, axis=0) * y / np.linalg.norm(y, axis=0)).sum(0))
    assert cosines.max() <= overlap(a, b) + 1e-9


def test_columns_that_repeat_or_vanish_add_no_dimension():
    e = np.eye(4)
    twice = np.stack([e[0], e[0]], 1)
    assert overlap(twice, e[:, 1:2]) == pytest.approx(0, abs=1e-12)
    assert overlap(np.stack([e[0], 0 * e[0]], 1), e[:, 1:3]) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(principal_cosines(twice, twice + e[:, 1:2]), [1 / math.sqrt(2)])
    assert overlap(np.zeros((4, 2)), e) == 0


@given(st.integers(2, 5000), st.integers(1, 6), st.floats(0.01, 0.99), st.floats(0.1, 5), st.floats(0.1, 5))
def test_bounds_are_those_of_the_theorem(width, largest, delta, c1, c2):
    assume(largest <= width)
    low, high = log_capacity(width, largest, delta, c1, c2)
    assert low == pytest.approx(math.log(1 / largest) + c1 * (width / largest**2) * delta**2)
    assert high == pytest.approx(c2 * (width - largest) * delta**2 * math.log(1 / delta))
    wider = log_capacity(width + 1, largest, delta, c1, c2)
    assert wider[0] > low and wider[1] > high


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="subspaces of different spaces: 3 and 4 dimensions"):
        principal_cosines(np.eye(3), np.eye(4))
    for width, largest, delta in ((4, 5, 0.1), (4, 0, 0.1), (4, 2, 0.0), (4, 2, 1.0)):
        with pytest.raises(ValueError, match="expected 0 < delta < 1 and 1 <= largest <= width"):
            log_capacity(width, largest, delta)
