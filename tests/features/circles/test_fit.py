"""Circular probes and their nulls."""

import itertools
import math

import chex
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


SEEDS = st.integers(0, 2**32 - 1)
LABELS = np.repeat(np.arange(7), 3)


def cloud(seed, width=6, scale=1.0):
    """Points in general position: three of each of seven classes."""
    return scale * np.random.default_rng(seed).normal(size=(21, width))


def plain_fit(x, labels, period, k, frequency, centered):
    """The probe of the paper in double precision: r^2 and what is predicted."""
    mean = x.mean(0)
    W = np.linalg.svd(x - mean, full_matrices=False)[2][:k]
    coordinates = (x - mean if centered else x) @ W.T
    angle = 2 * np.pi * frequency * labels / period
    target = np.stack([np.cos(angle), np.sin(angle)], 1)
    predicted = coordinates @ np.linalg.pinv(coordinates) @ target
    left = ((target - predicted) ** 2).sum(0) / ((target - target.mean(0)) ** 2).sum(0)
    return float((1 - left).mean()), predicted


@settings(max_examples=12)
@given(SEEDS, st.sampled_from([1, 2, 5]), st.sampled_from([1, 2, 3]), st.booleans())
def test_a_probe_is_least_squares_on_principal_coordinates(seed, k, frequency, centered):
    x = cloud(seed) + 1
    probe = features.fit_circle(x, LABELS, 7, k=k, frequency=frequency, centered=centered)
    r_squared, predicted = plain_fit(x, LABELS, 7, k, frequency, centered)
    assert float(probe.r_squared) == pytest.approx(r_squared, abs=2e-4)
    seen = (x - np.asarray(probe.mean) if centered else x) @ np.asarray(probe.W).T @ np.asarray(probe.P).T
    np.testing.assert_allclose(seen, predicted, atol=3e-3)
    np.testing.assert_allclose(probe.W @ probe.W.T, np.eye(k), atol=1e-5)


@settings(max_examples=20)
@given(SEEDS, st.integers(-60, 60), st.integers(0, 6), st.booleans())
def test_a_fit_depends_neither_on_coordinates_nor_on_where_the_cycle_begins(seed, power, shift, mirrored):
    x, rng = cloud(seed), np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    plain = float(features.fit_circle(x, LABELS, 7, k=2).r_squared)
    labels = (shift - LABELS if mirrored else shift + LABELS) % 7
    other = float(features.fit_circle(2.0**power * (x @ turn + 0.5), labels, 7, k=2).r_squared)
    assert other == pytest.approx(plain, abs=1e-3)


@given(SEEDS)
def test_more_coordinates_never_fit_worse_and_no_fit_is_better_than_perfect(seed):
    x = cloud(seed)
    found = [float(features.fit_circle(x, LABELS, 7, k=k).r_squared) for k in (1, 2, 5)]
    assert all(a <= b + 1e-5 for a, b in itertools.pairwise(found))
    assert found[0] >= -1e-5 and found[-1] <= 1 + 1e-6


def at_most_by_chance(p_values, levels=(0.05, 0.25, 0.5, 0.75), exact=True):
    """Shares of p-values up to each level against that level, within four standard errors."""
    p_values = np.asarray(p_values)
    for level in levels:
        share, slack = (p_values <= level + 1e-9).mean(), 4 * np.sqrt(level * (1 - level) / len(p_values))
        assert share <= level + slack, (level, share)
        assert not exact or share >= level - slack, (level, share)


def test_p_values_of_fits_to_nothing_are_uniform():
    found = [
        features.circle_fit_test(cloud(seed), LABELS, 7, permutations=19, key=jax.random.key(seed)).p_value
        for seed in range(150)
    ]
    at_most_by_chance(found)


@pytest.mark.parametrize("shape", ["plane", "line", "point", "two points"])
def test_p_values_of_order_are_no_smaller_than_chance_makes_them(shape):
    """Also where classes share an angle: ties must not be resolved in the order of the labels."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(150):
        means = rng.normal(size=(7, 2))
        if shape == "line":
            means[:, 1] = 0
        elif shape == "point":
            means[:] = means[0]
        elif shape == "two points":
            means = np.where(rng.random((7, 1)) < 0.5, means[:1], means[1:2])
        found.append(features.order_test(means, permutations=99, seed=seed).p_value)
    at_most_by_chance(found, exact=False)


def test_a_null_counts_what_is_as_good():
    x, labels = states(np.arange(7))
    test = features.circle_fit_test(x, labels, 7, permutations=60, key=jax.random.key(3))
    assert test.p_value == pytest.approx((1 + (test.null >= test.value - 1e-6).sum()) / 61)
    assert test.quantile_95 == pytest.approx(np.quantile(test.null, 0.95))
    again = features.circle_fit_test(x, labels, 7, permutations=60, key=jax.random.key(3))
    chex.assert_trees_all_equal(test, again)
    order = features.order_test(np.random.default_rng(0).normal(size=(5, 2)), permutations=500)
    # Of the 12 cyclic orders of five, one is right, and none has four neighbors in place without the fifth.
    assert (order.null == 1).mean() == pytest.approx(1 / 12, abs=0.05) and 0.8 not in order.null


@pytest.mark.parametrize("m", [3, 5, 7, 8])
def test_few_classes_are_compared_with_every_cyclic_order(m):
    angle = 2 * np.pi * np.arange(m) / m + 0.3
    test = features.order_test(np.stack([np.cos(angle), np.sin(angle)], 1), permutations=1)
    assert len(test.null) == max(math.factorial(m - 1) // 2, 1)
    assert test.value == 1 and test.p_value == pytest.approx(1 / len(test.null))


@pytest.mark.parametrize("degrees", [60, 90, 120])
def test_an_arc_has_its_order_and_fit_and_is_said_to_be_one(degrees):
    """Seven classes on an arc pass the tests of order and fit as those of a circle do."""
    x, labels = states(np.arange(7), noise=0.005)
    arc = np.radians(degrees) * labels / 7
    plane = np.linalg.qr(np.random.default_rng(1).normal(size=(x.shape[1], 2)))[0].T
    bent = np.stack([np.cos(arc), np.sin(arc)], 1) @ plane + x - x  # the same width
    bent = bent + 0.005 * np.random.default_rng(0).normal(size=x.shape)
    for points, shape in ((x, "circle"), (bent, "arc")):
        fit = features.circle_fit_test(points, labels, 7, k=2, key=jax.random.key(0))
        W, mean = circles.principal(points, 2)
        order = features.order_test(circles.class_means((points - mean) @ W.T, labels, 7))
        assert fit.closure.shape == order.closure.shape == shape
    assert str(order.closure).startswith("arc of ") and abs(order.closure.degrees - degrees) < 15


@given(SEEDS, st.integers(3, 13), st.integers(1, 5), st.integers(1, 4))
def test_class_means_are_sums_over_counts_whatever_the_order_of_points(seed, period, width, least):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.concatenate([np.tile(np.arange(period), least), rng.integers(0, period, 5)]))
    x = rng.normal(size=(len(labels), width)) * 10.0 ** rng.integers(-200, 200)
    one_hot = (labels[:, None] == np.arange(period)).astype(float)
    expected = one_hot.T @ x / one_hot.sum(0)[:, None]
    np.testing.assert_allclose(
        features.class_means(x, labels, period), expected, rtol=1e-9, atol=1e-12 * np.abs(x).max()
    )
    order = rng.permutation(len(labels))
    np.testing.assert_allclose(
        features.class_means(x[order], labels[order], period),
        expected,
        rtol=1e-9,
        atol=1e-12 * np.abs(x).max(),
    )


@given(SEEDS, st.integers(3, 13), st.integers(1, 4))
def test_fourier_power_is_the_squared_sum_over_turns(seed, m, width):
    """The formula of the specification: |sum_a exp(-2 pi i f a / m) mean_a|^2, halved at f = m / 2."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(m, width)) * 10.0 ** rng.integers(-100, 100)
    centered = means - means.mean(0)
    frequencies = np.arange(1, m // 2 + 1)
    waves = np.exp(-2j * np.pi * np.outer(frequencies, np.arange(m)) / m)
    power = (np.abs(waves @ centered) ** 2).sum(1) / np.where(2 * frequencies == m, 2, 1)
    found = features.fourier_power(means)
    np.testing.assert_allclose(found, power / power.sum(), atol=1e-6)
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    # Where the cycle begins and which way it runs is nothing to a spectrum.
    np.testing.assert_allclose(features.fourier_power(np.roll(means, 2, 0)[::-1]), found, atol=1e-6)


def test_classes_at_one_angle_have_no_order():
    assert features.order_score(np.ones((7, 2))) == 0
    assert features.order_test(np.ones((7, 2))).p_value == 1
    line = np.stack([np.arange(7.0), 0 * np.arange(7.0)], 1)
    assert features.order_score(line) == 0


@given(SEEDS, st.integers(3, 12), st.integers(0, 11), st.booleans())
def test_order_is_the_share_of_neighbors_in_place(seed, m, shift, mirrored):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.choice(360, m, replace=False)) * np.pi / 180
    around = rng.permutation(m)  # classes as they are met
    means = np.empty((m, 2))
    # At equal distances from a center that is the mean of them all, once the last is put there.
    means[around] = np.stack([np.cos(angle), np.sin(angle)], 1)
    center = means - means.mean(0)
    met = np.argsort(np.arctan2(center[:, 1], center[:, 0]))
    pairs = [(int(met[i]), int(met[(i + 1) % m])) for i in range(m)]
    expected = np.mean([(a - b) % m in {1, m - 1} for a, b in pairs])
    assert features.order_score(means) == pytest.approx(expected)
    relabeled = means[(shift - np.arange(m)) % m if mirrored else (shift + np.arange(m)) % m]
    assert features.order_score(relabeled * 1e-30) == pytest.approx(expected)


@given(st.integers(-(10**6), 10**6), st.integers(3, 12), st.integers(1, 5))
def test_circles_have_radius_one_and_a_period(value, period, frequency):
    found = np.asarray(
        features.circle(np.array([value % period, value % period + period]), period, frequency)
    )
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_every_refusal_says_what_was_expected():
    x, labels = states(np.arange(7))
    for kwargs, message in (
        ({"k": 30}, r"k=30: expected 1 to 20 coordinates for points \(42, 20\)"),
        ({"frequency": 4}, "frequency=4: 7 classes have circles of 1 to 3"),
    ):
        with pytest.raises(ValueError, match=message):
            features.fit_circle(x, labels, 7, **kwargs)
    with pytest.raises(ValueError, match=r"\(41,\) labels for 42 points"):
        features.fit_circle(x, labels[1:], 7)
    with pytest.raises(ValueError, match="labels -1 to 5: expected classes 0 to 6"):
        features.fit_circle(x, labels - 1, 7)
    with pytest.raises(ValueError, match="points are not finite"):
        features.fit_circle(np.where(x > 0.5, np.inf, x), labels, 7)
    with pytest.raises(ValueError, match="permutations=0"):
        features.circle_fit_test(x, labels, 7, permutations=0, key=jax.random.key(0))
