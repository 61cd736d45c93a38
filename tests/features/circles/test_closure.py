"""Circle, arc or line: what is said is what was drawn, whatever the place, size and slant; and how often it is wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.circles.closure import closure

SEEDS = st.integers(0, 2**32 - 1)


def ring(rng, m, degrees, noise=0.0, uneven=0.0):
    """m classes over an arc of an ellipse, at unit size, with noise relative to that."""
    step = np.radians(degrees) / m
    angle = step * (np.arange(m) + uneven * rng.normal(size=m)) + rng.uniform(0, 6)
    u, _, v = np.linalg.svd(rng.normal(size=(2, 2)))
    points = np.stack([np.cos(angle), np.sin(angle)], 1) @ u @ np.diag([1, rng.uniform(0.5, 1)]) @ v
    points = points - points.mean(0)
    points = points / np.sqrt((points**2).sum(1).mean())
    return points + noise * rng.normal(size=points.shape) / np.sqrt(2)


def share(shape, made):
    return np.mean([closure(points).shape == shape for points in made])


@pytest.mark.slow
@pytest.mark.parametrize("m", [7, 12])
@pytest.mark.parametrize("noise", [0.05, 0.2, 0.3])
def test_calibration(m, noise):
    """Of 200 each: circles are called arcs in at most 8 %, arcs of up to 180 degrees circles in at most 2 %."""
    rng = np.random.default_rng(0)
    assert share("circle", [ring(rng, m, 360, noise) for _ in range(200)]) >= 0.95
    assert share("circle", [ring(rng, m, 360, noise, uneven=0.2) for _ in range(200)]) >= 0.92
    for degrees in (60, 90, 180):
        assert share("circle", [ring(rng, m, degrees, noise) for _ in range(200)]) <= 0.02
    straight = np.linspace(-1, 1, m)[:, None] * [1, 0.3]
    straight = straight / np.sqrt((straight**2).sum(1).mean())
    lines = [straight + noise * rng.normal(size=(m, 2)) / np.sqrt(2) for _ in range(200)]
    assert share("circle", lines) <= 0.02


@given(SEEDS, st.integers(6, 31), st.sampled_from([60, 90, 120, 180, 220]))
@settings(max_examples=60, deadline=None)
def test_the_degrees_of_an_arc_are_read(seed, m, degrees):
    found = closure(ring(np.random.default_rng(seed), m, degrees, 1e-4))
    assert found.shape == "arc" and abs(found.degrees - degrees) < 12 and found.gap > 2
    assert str(found) == f"arc of {found.degrees:.0f} degrees"


@given(SEEDS, st.integers(5, 31), st.sampled_from([60, 200, 360]), st.integers(-60, 60))
@settings(max_examples=60, deadline=None)
def test_place_size_turn_and_sense_are_nothing_to_it(seed, m, degrees, power):
    rng = np.random.default_rng(seed)
    points = ring(rng, m, degrees, 0.05)
    turn = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    moved = 10.0**power * (points[::-1] @ turn + rng.normal(size=2))
    one, two = closure(points), closure(moved)
    assert one.shape == two.shape and one.degrees == pytest.approx(two.degrees, abs=5)
    assert one.gap == pytest.approx(two.gap, rel=1e-6)


def test_a_line_and_a_point_are_lines():
    line = np.arange(7.0)[:, None] * [1, 2]
    assert closure(line).shape == "line" == closure(np.ones((7, 2))).shape
    assert closure(line).degrees == 0 and str(closure(line)) == "line"


@pytest.mark.parametrize(
    ("means", "message"),
    [
        (np.ones((4, 2)), r"\(4, 2\); expected \(m, 2\) with at least five"),
        (np.ones((7, 3)), r"\(7, 3\)"),
        (np.full((7, 2), np.nan), "not finite"),
    ],
)
def test_what_is_no_plane_of_means_is_refused(means, message):
    with pytest.raises(ValueError, match=message):
        closure(means)
