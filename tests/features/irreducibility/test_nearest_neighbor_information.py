"""Nearest-neighbor information against a quadratic reading of its formula, and known values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import digamma

from features.irreducibility.nearest_neighbor_information import information, least_information

SEEDS = st.integers(0, 2**32 - 1)


def plain(a, b, k=5):
    """Kraskov's first estimator: psi(k) + psi(n) - mean of psi(n_x + 1) + psi(n_y + 1)."""
    n = len(a)
    by_a = np.abs(a[:, None] - a[None]).max(-1)
    by_b = np.abs(b[:, None] - b[None]).max(-1)
    radius = np.sort(np.maximum(by_a, by_b), axis=1)[:, k]  # place 0 is the point itself
    # Where the radius is nothing, what stands at the same place is inside.
    near = np.where(radius > 0, np.nextafter(radius, 0), 0)[:, None]
    inside = [(distance <= near).sum(1) for distance in (by_a, by_b)]
    return (digamma(k) + digamma(n) - np.mean(digamma(inside[0]) + digamma(inside[1]))) / np.log(2)


@given(SEEDS, st.integers(10, 60), st.integers(1, 3), st.integers(1, 2), st.integers(1, 6), st.booleans())
def test_the_estimator_is_the_published_one(seed, n, k, m, neighbors, rounded):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, k)), rng.normal(size=(n, m))
    if rounded:  # many points at the same place and the same distance
        a, b = np.round(a), np.round(b)
    assert information(a, b, neighbors) == pytest.approx(plain(a, b, neighbors), abs=1e-9)


@given(SEEDS)
def test_information_is_mutual_and_knows_neither_place_nor_order(seed):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(50, 2))
    b = a[:, :1] + rng.normal(size=(50, 1))
    expected, order = information(a, b), rng.permutation(50)
    assert information(b, a) == pytest.approx(expected)
    assert information(a[order], b[order]) == pytest.approx(expected)
    assert information(4 * a + 8, 4 * b - 2) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
def test_gaussians_have_the_information_that_theory_says(correlation):
    x = np.random.default_rng(0).multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], 3000)
    theory = -0.5 * np.log2(1 - correlation**2)
    assert information(x[:, :1], x[:, 1:]) == pytest.approx(theory, abs=0.08)


def test_the_least_information_is_found_whatever_the_rotation():
    rng = np.random.default_rng(1)
    independent = rng.uniform(-1, 1, (500, 3)) ** 3
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    straight, turned = (least_information(x, rotations=1) for x in (independent, independent @ turn))
    assert 0 <= straight < 0.1 and 0 <= turned < 0.1
    assert information((independent @ turn)[:, :1], (independent @ turn)[:, 1:]) > 0.2
    assert least_information(independent, rotations=1) == straight  # the seed decides
    few = least_information(np.tile(independent, (3, 1)), rotations=1, most=300, seed=3)
    assert few < 0.2
