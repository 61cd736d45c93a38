"""Made-up data have the shape that they are made for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.synthetic.clouds import DEMOS, circle, lattice, mixture
from features.synthetic.planted import Planted, plant, toy_circles

SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", sorted(DEMOS))
@given(seed=SEEDS, n=st.integers(1, 40))
def test_clouds_are_decided_by_their_generator(name, seed, n):
    x = DEMOS[name](np.random.default_rng(seed), n)
    assert x.shape == (n, 2) and np.isfinite(x).all()
    np.testing.assert_array_equal(DEMOS[name](np.random.default_rng(seed), n), x)


def test_circles_are_round_and_lattices_have_steps():
    x = circle(np.random.default_rng(0), 4000)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-12)
    assert np.linalg.norm(x.mean(0)) < 4 / np.sqrt(4000)  # evenly around
    grid = lattice(np.random.default_rng(0), 3000)
    assert len(np.unique(grid.round(9), axis=0)) < 500  # few places for many points


def test_mixtures_hold_their_lines():
    """Six tenths on one line and one tenth on another, whatever the draw."""
    shares = []
    for seed in range(20):
        x = mixture(np.random.default_rng(seed), 1000)
        # Of a line through two of its points, thousands of pairs agree on direction and offset.
        rng = np.random.default_rng(0)
        best = 0.0
        for _ in range(40):
            a, b = x[rng.choice(1000, 2, replace=False)]
            normal = np.array([a[1] - b[1], b[0] - a[0]]) / np.linalg.norm(a - b)
            best = max(best, (np.abs((x - a) @ normal) < 1e-9).mean())
        shares.append(best)
    assert np.mean(shares) == pytest.approx(0.6, abs=0.02)


@given(SEEDS, st.integers(1, 60), st.integers(4, 12))
def test_toy_circles_lie_on_one_of_two(seed, n, width):
    x = toy_circles(np.random.default_rng(seed), n, width=width)
    assert x.shape == (n, width) and x.dtype == np.float32
    first, second = (np.linalg.norm(x[:, axes], axis=1) for axes in ([0, 1], [2, 3]))
    np.testing.assert_allclose(np.maximum(first, second), 1, atol=1e-6)
    assert (np.minimum(first, second) == 0).all() and not x[:, 4:].any()


@given(SEEDS)
def test_planted_features_are_the_sum_of_their_parts(seed):
    rng = np.random.default_rng(seed)
    planted = plant(rng, width=16, lines=5)
    for plane in planted.planes:
        np.testing.assert_allclose(plane @ plane.T, np.eye(2), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(planted.lines, axis=1), 1)
    x, coordinates = planted.draw_labeled(np.random.default_rng(seed), 300)
    np.testing.assert_array_equal(planted.draw(np.random.default_rng(seed), 300), x)
    of_planes = np.einsum("npk,pkd->nd", coordinates, planted.planes)
    left = x - of_planes
    # What remains is in the lines' span, but for noise of a hundredth: 11 of its 16 directions are left.
    basis = np.linalg.qr(planted.lines.T)[0]
    noise = left - left @ basis @ basis.T
    assert np.abs(noise).max() < 0.08 and noise.std() == pytest.approx(0.01 * np.sqrt(11 / 16), rel=0.1)
    radius = np.linalg.norm(coordinates, axis=2)
    round_ones = radius[:, :3][radius[:, :3] > 0]
    assert ((round_ones >= 0.8) & (round_ones <= 1.2)).all()
    decoy = coordinates[radius[:, 3] > 0, 3]
    assert ((decoy >= 0.3) & (decoy <= 1.3)).all()
    assert len(Planted.NAMES) == len(planted.planes)


@pytest.mark.parametrize(("number", "corners"), [(1, 7), (2, 12)])
def test_corners_are_as_many_as_they_should_be(number, corners):
    coordinates = plant(np.random.default_rng(0)).draw_labeled(np.random.default_rng(1), 20_000)[1][:, number]
    active = coordinates[(coordinates != 0).any(1)]
    assert len(active) / 20_000 == pytest.approx(0.06, abs=4 * np.sqrt(0.06 * 0.94 / 20_000))
    turn = np.exp(1j * corners * np.arctan2(active[:, 1], active[:, 0]))
    assert abs(turn.mean()) == pytest.approx(np.exp(-((0.05 * corners) ** 2) / 2), abs=0.02)
    other = np.exp(1j * (corners - 1) * np.arctan2(active[:, 1], active[:, 0]))
    assert abs(other.mean()) < 0.15
