"""The fullest band: analytic values, the quick sweep, more dimensions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
