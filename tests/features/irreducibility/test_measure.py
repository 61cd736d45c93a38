"""Both indices of one and of many clouds; degenerate and bad input."""

import jax
import numpy as np
import pytest

import features
from features.irreducibility.measure import padded_length
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
