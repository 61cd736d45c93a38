"""The fullest band: analytic values, the quick sweep, more dimensions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.irreducibility import mixture
from features.synthetic import clouds


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("circle", 0.218, 0.226), ("gaussian", 0.079, 0.085)],
)
def test_analytic_anchors(name, least, most):
    """Sample maxima approach the limits 0.2187 (circle) and 0.0797 (any Gaussian) from above."""
    x = jnp.asarray(clouds.DEMOS[name](np.random.default_rng(0), 50_000))
    assert least < float(mixture.fast_sweep(x).share) < most
    limit = {"circle": clouds.CIRCLE_MIXTURE, "gaussian": clouds.GAUSSIAN_MIXTURE}[name]
    assert limit <= float(mixture.fast_sweep(x).share)


def test_the_circles_anchor_solves_its_equation():
    c = clouds.CIRCLE_OFFSET
    assert c + 0.1 * np.sqrt(0.5 + c**2) == pytest.approx(1, abs=1e-4)
    assert pytest.approx(0.2187, abs=1e-4) == clouds.CIRCLE_MIXTURE


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", sorted(clouds.DEMOS))
def test_the_quick_sweep_agrees(name, seed):
    x = jnp.asarray(clouds.DEMOS[name](np.random.default_rng(seed), 2000))
    assert abs(float(mixture.fast_sweep(x).share - mixture.sweep(x).share)) <= 0.003


def test_the_band_holds_what_it_says():
    x = np.random.default_rng(1).normal(size=(3000, 2)) @ [[2.0, 0.3], [0.0, 0.4]]
    band = mixture.sweep(jnp.asarray(x))
    p = (x - x.mean(0)) @ np.asarray(band.direction)
    inside = np.abs(p - float(band.center)) < float(band.half_width)
    assert inside.mean() == pytest.approx(float(band.share), abs=0.001)
    second = np.mean(p**2) + float(band.center) ** 2
    assert float(band.half_width) == pytest.approx(0.1 * np.sqrt(second), rel=1e-3)


def test_demo_ranges():
    """Own draws, N = 4096: the ranges of four recorded draws, slightly wider."""
    ranges = {
        "mixture": (0.60, 0.67),
        "circle": (0.225, 0.24),
        "gaussian": (0.088, 0.1),
        "lattice": (0.24, 0.29),
    }
    for name, (low, high) in ranges.items():
        x = jnp.asarray(clouds.DEMOS[name](np.random.default_rng(5), 4096))
        assert low <= float(mixture.sweep(x).share) <= high, name


def test_more_dimensions():
    rng = np.random.default_rng(2)
    flat = rng.normal(size=(3000, 4))
    flat[:1800] -= (flat[:1800] @ np.full(4, 0.5))[:, None] * np.full(4, 0.5)  # 60 % on a hyperplane
    band = mixture.sweep_any_dimension(jnp.asarray(flat), key=jax.random.key(0))
    assert float(band.share) > 0.55
    assert abs(np.asarray(band.direction) @ np.full(4, 0.5)) > 0.97


def test_invalid_points_do_not_count():
    x = jnp.asarray(clouds.circle(np.random.default_rng(5), 1000), jnp.float32)
    padded = jnp.concatenate([x, 100 * jnp.ones((400, 2))])
    valid = jnp.arange(1400) < 1000
    for sweep in (mixture.sweep, mixture.fast_sweep):
        assert float(sweep(padded, valid).share) == pytest.approx(float(sweep(x).share), abs=0.002)


def test_lowers_for_accelerators_and_vmaps():
    x = jax.ShapeDtypeStruct((3, 256, 2), jnp.float32)
    valid = jax.ShapeDtypeStruct((3, 256), bool)
    function = jax.jit(jax.vmap(lambda x, v: mixture.fast_sweep(x, v).share))
    jax.export.export(function, platforms=["cpu", "cuda", "tpu"])(x, valid)


SEEDS = st.integers(0, 2**32 - 1)
N, DIRECTIONS, OFFSETS = 96, 20, 41


def cloud(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 2)) @ rng.normal(size=(2, 2))
    if rng.random() < 0.3:
        x = x[rng.integers(0, 12, N)]  # many equal points
    return x.astype(np.float32)


def sweep(x, valid=None, epsilon=0.1):
    valid = np.ones(len(x), bool) if valid is None else valid
    return mixture.sweep(x, valid, directions=DIRECTIONS, offsets=OFFSETS, epsilon=epsilon)


def plain_counts(x, epsilon=0.1):
    """How many points each band holds, directions by offsets; and the nearest that a point is to a border."""
    x = x - x.mean(0)
    phi = np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    p = np.sort(x @ np.stack([np.cos(phi), np.sin(phi)]), axis=0).T
    centers = np.linspace(p[:, 0], p[:, -1], OFFSETS, axis=1)
    half = epsilon * np.sqrt((p**2).mean(1)[:, None] + centers**2)
    gap = np.abs(p[:, None, :] - centers[..., None]) - half[..., None]
    return (gap < -1e-5).sum(-1), (gap < 1e-5).sum(-1)


@settings(max_examples=12)
@given(SEEDS, st.sampled_from([0.1, 0.3]))
def test_the_sweep_counts_what_lies_in_each_band(seed, epsilon):
    x = cloud(seed)
    surely, perhaps = plain_counts(x.astype(float), epsilon)
    share = float(sweep(x, epsilon=epsilon).share)
    assert surely.max() <= round(share * N) <= perhaps.max()
    assert share * N == pytest.approx(round(share * N), abs=1e-3)


@settings(max_examples=12)
@given(SEEDS)
def test_bands_depend_on_the_cloud_alone(seed):
    """Not on the order of points, padding, a power of two of scale."""
    x, rng = cloud(seed), np.random.default_rng(seed)
    plain = sweep(x)
    chex.assert_trees_all_close(
        sweep(4 * x), plain._replace(center=4 * plain.center, half_width=4 * plain.half_width)
    )
    order = rng.permutation(N)
    assert abs(float(sweep(x[order]).share - plain.share)) <= 1.5 / N
    valid = np.arange(N) < 60
    junk = np.where(valid[:, None], x, 1e6)
    one, other = (float(sweep(points, valid).share) for points in (x, junk))
    assert one == other and one * 60 == pytest.approx(round(one * 60), abs=1e-3)


@settings(max_examples=12)
@given(SEEDS)
def test_the_quick_sweep_is_never_above_what_a_band_can_hold(seed):
    x = cloud(seed)
    band = mixture.fast_sweep(x)
    p = (x - x.mean(0)).astype(float) @ np.asarray(band.direction, float)
    gap = np.abs(p - float(band.center)) - float(band.half_width)
    assert (gap < -1e-4).sum() <= round(float(band.share) * N) <= (gap < 1e-4).sum()
    assert np.linalg.norm(band.direction) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 3.5, -(2.0**66)])
def test_a_constant_cloud_has_no_band_and_no_negative_share(value):
    """|0| < 0 holds for no point: the share is 0."""
    x = np.full((N, 2), value, np.float32)
    for found in (sweep(x), mixture.fast_sweep(x)):
        assert float(found.share) == 0


def plain_ascent(x, start, protocol, steps, rate=0.1, epsilon=0.1):
    """The published recipe with its gradient written out."""
    v, c = np.array(start, float), 0.0
    for i in range(steps):
        temperature = 1.0 if protocol == "B" else 1 - i / steps
        y = x @ v + c
        rms = np.sqrt((y**2).mean())
        z = y / rms
        soft = 1 / (1 + np.exp(-(epsilon - np.abs(z)) / temperature))
        by_z = -soft * (1 - soft) * np.sign(z) / temperature / len(x)
        by_y = (by_z - z * (by_z * z).mean()) / rms  # z has mean square one
        v, c = v + rate * x.T @ by_y, c + rate * by_y.sum()
    y = x @ v + c
    z = y / np.sqrt((y**2).mean())
    return (np.abs(z) < epsilon).mean(), v, c


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["B", "P"])
def test_ascents_follow_the_published_gradient(protocol):
    """A few steps: later ones of P are chaotic."""
    for seed in range(4):
        x, start = cloud(seed).astype(float), np.random.default_rng(seed).normal(size=2)
        found = mixture.ascend(x.astype(np.float32), start.astype(np.float32), protocol=protocol, steps=12)
        hard, v, c = plain_ascent(x, start, protocol, 12)
        np.testing.assert_allclose(found.direction, v, rtol=2e-3)
        assert float(found.offset) == pytest.approx(c, abs=2e-4)
        assert abs(float(found.hard) - hard) <= 1.5 / N
