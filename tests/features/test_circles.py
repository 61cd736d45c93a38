"""Circular probes and their nulls."""

import jax
import numpy as np
import pytest

import features
from features.circles import fit as circles


def states(order, width=20, noise=0.1, per=6, seed=0):
    """Points whose classes lie on a circle in the given order, in a random plane."""
    rng = np.random.default_rng(seed)
    m = len(order)
    plane = np.linalg.qr(rng.normal(size=(width, 2)))[0].T
    labels = np.repeat(np.arange(m), per)
    place = np.argsort(order)[labels]
    x = np.stack([np.cos(2 * np.pi * place / m), np.sin(2 * np.pi * place / m)], 1) @ plane
    return x + noise * rng.normal(size=x.shape), labels


def test_a_circle_is_found_and_beats_its_relabellings():
    x, labels = states(np.arange(12))
    test = features.circle_fit_test(x, labels, 12, k=2, key=jax.random.key(0))
    assert test.value > 0.9 > 0.5 > test.quantile_95 and test.p_value == pytest.approx(1 / 201)
    W, mean = circles.principal(x, 2)
    order = features.order_test(circles.class_means((x - mean) @ W.T, labels, 12))
    assert order.value == 1 and order.p_value < 0.002


def test_a_scrambled_circle_is_not():
    x, labels = states(np.random.default_rng(1).permutation(12))
    test = features.circle_fit_test(x, labels, 12, k=2, key=jax.random.key(0))
    assert test.p_value > 0.05
    W, mean = circles.principal(x, 2)
    assert features.order_score(circles.class_means((x - mean) @ W.T, labels, 12)) < 0.6


@pytest.mark.parametrize(("period", "expected"), [(7, 5 / 6), (12, 5 / 11)])
def test_five_coordinates_fit_any_labeling(period, expected):
    """r^2 of noise is k / (m - 1) on average, for class means in general position."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(period, 30)), 4, 0)
    test = features.circle_fit_test(
        x, np.repeat(np.arange(period), 4), period, k=5, permutations=400, key=jax.random.key(1)
    )
    assert np.mean(test.null) == pytest.approx(expected, abs=0.03)


def test_fourier_power():
    angle = 2 * np.pi * np.arange(12) / 12
    pure = np.stack([np.cos(2 * angle), np.sin(2 * angle)], 1)
    np.testing.assert_allclose(features.fourier_power(pure), [0, 1, 0, 0, 0, 0], atol=1e-12)
    rng = np.random.default_rng(0)
    for m in (7, 12):
        means = rng.normal(size=(m, 5))
        assert features.fourier_power(means).sum() == pytest.approx(1)
    half = np.stack([np.cos(6 * angle), 0 * angle], 1)
    np.testing.assert_allclose(features.fourier_power(half)[-1], 1)


def test_order_score_ignores_rotation_and_reflection():
    angle = 2 * np.pi * np.arange(7) / 7
    for sign, shift in ((1, 0.3), (-1, 2.0)):
        assert (
            features.order_score(np.stack([np.cos(sign * angle + shift), np.sin(sign * angle + shift)], 1))
            == 1
        )
    swapped = np.stack([np.cos(angle), np.sin(angle)], 1)[[1, 0, 2, 3, 4, 5, 6]]
    assert features.order_score(swapped) == pytest.approx(5 / 7)


def test_centring():
    x, labels = states(np.arange(7))
    x = x + 30
    for centered in (True, False):
        assert float(features.fit_circle(x, labels, 7, k=5, centered=centered).r_squared) > 0.5


def test_bad_input():
    x, labels = states(np.arange(7))
    with pytest.raises(ValueError, match="k=0"):
        features.fit_circle(x, labels, 7, k=0)
    with pytest.raises(ValueError, match=r"classes \[7\]"):
        circles.class_means(x, labels, 8)
