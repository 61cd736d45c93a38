"""Both indices of one and of many clouds; degenerate and bad input."""

import chex
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import features
from features.irreducibility.measure import Irreducibility, check_points, padded_length, rank_of
from features.synthetic import clouds


def test_order_of_known_clouds():
    rng = np.random.default_rng(0)
    found = {name: features.measure(draw(rng)) for name, draw in clouds.DEMOS.items()}
    assert found["circle"].score > 1 > 0.2 > found["gaussian"].score
    assert found["mixture"].mixture > 0.6
    assert found["circle"].separability > 1.4


def test_a_line_is_flagged():
    t = np.random.default_rng(0).normal(size=(500, 1))
    found = features.measure(np.concatenate([t, 2 * t], 1))
    assert (found.separability, found.mixture, found.rank) == (0.0, 1.0, 1)
    assert features.measure_many([np.concatenate([t, -t], 1)])[0].rank == 1


def test_many_agree_with_one():
    rng = np.random.default_rng(1)
    many = [clouds.circle(rng, n) for n in (150, 700)] + [clouds.gaussian(rng, 600)]
    for cloud, found in zip(many, features.measure_many(many), strict=True):
        alone = features.measure(cloud)
        assert found.separability == pytest.approx(alone.separability, abs=0.02)
        assert found.mixture == pytest.approx(alone.mixture, abs=0.006)
        assert found.points == len(cloud)


def test_intervals_hold_the_estimate_and_shrink():
    rng = np.random.default_rng(2)
    few, many = (features.measure(clouds.circle(rng, n), bootstrap=40) for n in (300, 4000))
    for found in (few, many):
        low, high = found.separability_interval
        assert low <= found.separability <= high
        low, high = found.mixture_interval
        assert low <= found.mixture <= high
    assert np.diff(many.separability_interval) < np.diff(few.separability_interval)


def test_the_same_seed_gives_the_same_intervals():
    x = clouds.circle(np.random.default_rng(3), 300)
    a, b = (features.measure(x, bootstrap=10, key=jax.random.key(1)) for _ in range(2))
    assert a == b


def test_three_dimensions():
    rng = np.random.default_rng(4)
    sphere = rng.normal(size=(900, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    prism = np.concatenate([clouds.circle(rng, 900), rng.normal(size=(900, 1))], 1)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert features.measure(sphere).separability > 0.5
    assert features.measure(prism @ turn).separability < 0.15


@pytest.mark.parametrize("protocol", ["A", "B", "P"])
def test_other_protocols(protocol):
    x = clouds.circle(np.random.default_rng(5), 400)
    found = features.measure(x, protocol=protocol)
    assert found.protocol == protocol
    assert found.mixture <= features.measure(x).mixture + 0.005


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((50, 2)), "too few"),
        (np.ones((500, 2)), "constant"),
        (np.full((500, 2), np.nan), "not finite: first in row 0"),
        (np.zeros(500), "shape"),
        (np.zeros((500, 1)), "d >= 2"),
        (np.full((500, 2), "a"), "real numbers"),
    ],
)
def test_bad_clouds_are_named(points, message):
    with pytest.raises(ValueError, match=message):
        features.measure(points)
    with pytest.raises(ValueError, match=message):
        features.measure_many([points])


def test_unknown_protocol_and_plane_only_protocols():
    with pytest.raises(ValueError, match="expected one of X, P, A, B"):
        features.measure(np.random.default_rng(0).normal(size=(500, 2)), protocol="Q")
    with pytest.raises(ValueError, match="plane only"):
        features.measure(np.random.default_rng(0).normal(size=(500, 3)), protocol="B")


def test_padded_lengths_are_few_and_close():
    lengths = {padded_length(n) for n in range(100, 20_001)}
    assert len(lengths) < 20
    assert all(n <= padded_length(n) <= max(1.51 * n, 128) for n in range(100, 20_001, 37))


def test_neither_scale_nor_shift_nor_a_flat_direction_matters():
    x = clouds.circle(np.random.default_rng(6), 800)
    expected = features.measure(x)
    for other in (x * 1e-25, x * 1e39, x + 1e6, np.concatenate([x, np.zeros((800, 1))], 1)):
        found = features.measure(other)
        assert found.separability == pytest.approx(expected.separability, abs=0.06)
        assert found.mixture == pytest.approx(expected.mixture, abs=0.01)


def test_every_split_is_tried_whatever_the_order_of_coordinates():
    rng = np.random.default_rng(7)
    pair = np.concatenate([clouds.circle(rng, 700), clouds.circle(rng, 700)], 1)
    for order in ([0, 1, 2, 3], [0, 2, 1, 3]):
        assert features.measure(pair[:, order]).separability < 0.1


def test_functions_are_not_hidden_by_modules():
    x = clouds.circle(np.random.default_rng(8), 300)
    features.measure(x)
    assert float(features.separability(x)) > 0.5
    for bad, kwargs, message in ((x[:, :1], {}, "expected"), (x, {"protocol": "Z"}, "X, P, A, B")):
        with pytest.raises(ValueError, match=message):
            features.separability(bad, **kwargs)
    with pytest.raises(ValueError, match="at least 10 resamples"):
        features.measure(x, bootstrap=-1)


SEEDS = st.integers(0, 2**32 - 1)


@given(
    SEEDS, st.sampled_from([100, 101, 150]), st.integers(2, 5), st.integers(-300, 300),
    st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.int64, np.uint16]),
)  # fmt: skip
def test_checked_points_are_the_cloud_up_to_shift_and_scale(seed, n, d, power, dtype):
    """Any finite numbers, of any size and type."""
    rng = np.random.default_rng(seed)
    cloud = rng.normal(size=(n, d))
    cloud = (cloud * 10.0**power if dtype is np.float64 else 20 * np.abs(cloud)).astype(dtype)
    found = check_points(cloud)
    assert found.dtype == np.float32 and np.abs(found).max() == 1
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    exact = cloud.astype(np.float64) / float(np.abs(cloud.astype(np.float64)).max())
    exact -= exact.mean(0)
    np.testing.assert_allclose(found, exact / np.abs(exact).max(), atol=1e-5)
    if np.abs(cloud.astype(np.float64)).max() < 1e38:
        np.testing.assert_array_equal(check_points(cloud, rescale=False), cloud.astype(np.float32))


def test_the_largest_numbers_are_numbers():
    x = clouds.circle(np.random.default_rng(0), 300)
    expected = features.measure(x)
    for scale in (1.7e308, 1e-300):
        found = features.measure(scale * x)
        assert found.separability == pytest.approx(expected.separability, abs=1e-3)
        assert found.mixture == pytest.approx(expected.mixture, abs=1e-3)
    with pytest.raises(ValueError, match="too large for single precision"):
        features.measure(1e39 * x, protocol="B")  # which takes points as they are


@given(st.lists(st.integers(0, 200), min_size=1, max_size=3))
def test_what_is_not_finite_is_found_where_it_is(rows):
    cloud = np.random.default_rng(0).normal(size=(201, 2))
    cloud[rows, 1] = np.inf
    with pytest.raises(ValueError, match=rf"points are not finite: first in row {min(rows)}$"):
        check_points(cloud)


@pytest.mark.parametrize("dtype", [bool, complex, "U3", object])
def test_what_is_no_number_is_refused(dtype):
    cloud = np.random.default_rng(0).integers(0, 2, (200, 2)).astype(dtype)
    with pytest.raises(ValueError, match="expected real numbers"):
        features.measure(cloud)


@given(SEEDS, st.integers(1, 5))
def test_the_rank_counts_the_directions_that_a_cloud_fills(seed, rank):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, rank)) @ np.linalg.qr(rng.normal(size=(6, rank)))[0].T
    assert rank_of(x + 5 * rng.normal(size=6)) == rank
    thin = x + 1e-5 * rng.normal(size=x.shape)  # below the thousandth that counts
    assert rank_of(thin) == rank


@given(st.integers(1, 10**7))
def test_padded_lengths_hold_their_points_and_do_not_shrink(n):
    assert n <= padded_length(n) <= max(1.51 * n, 128) and padded_length(n) <= padded_length(n + 1)
    assert padded_length(padded_length(n)) == padded_length(n)


def test_many_clouds_keep_their_places():
    rng = np.random.default_rng(9)
    many = [clouds.circle(rng, 140), np.outer(rng.normal(size=140), [1, 2]), clouds.gaussian(rng, 140)]
    found = features.measure_many(many)
    assert [f.rank for f in found] == [2, 1, 2] and found[0].separability > 3 * found[2].separability
    chex.assert_trees_all_equal(features.measure_many(many[::-1]), found[::-1])
    assert features.measure_many([]) == []
    with pytest.raises(ValueError, match="cloud 1: 12 points are too few"):
        features.measure_many([many[0], many[2][:12]])
    with pytest.raises(ValueError, match="cloud 1 has 3 dimensions, expected 2"):
        features.measure_many([many[0], rng.normal(size=(140, 3))])


@given(st.floats(0, 4), st.floats(0, 1))
def test_the_score_rises_with_s_and_falls_with_m(s, m):
    found = Irreducibility(s, m, 2, 100, "X")
    assert found.score == pytest.approx((1 - m) * s)
    assert found._replace(separability=s + 1).score >= found.score >= found._replace(mixture=1.0).score == 0


@pytest.mark.slow
def test_intervals_cover_the_expected_index():
    """Of 60 draws of one cloud, nearly all intervals hold the mean estimate; nominally 95 %."""
    rng = np.random.default_rng(10)
    found = [features.measure(clouds.circle(rng, 150), bootstrap=20) for _ in range(60)]
    for index in ("separability", "mixture"):
        expected = np.mean([getattr(f, index) for f in found])
        covered = [low <= expected <= high for low, high in (getattr(f, f"{index}_interval") for f in found)]
        # Four standard errors, and what quantiles of twenty resamples miss.
        assert np.mean(covered) >= 0.90 - 4 * np.sqrt(0.9 * 0.1 / 60), index
        width = np.mean([np.diff(getattr(f, f"{index}_interval")) for f in found])
        assert width < 8 * np.std([getattr(f, index) for f in found]), index  # none is all of the line
