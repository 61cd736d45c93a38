"""Mutual information of rotated clouds: recorded curves, known values, invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.features_parity import MI_BITS, cloud_checks
from features.irreducibility.separability import angles, mutual_information_curve, separability
from features.synthetic.clouds import DEMOS, circle, gaussian

NAMES = [
    "circle",
    "circle_noisy",
    "disc_intensity",
    "gaussian",
    "heptagon_noisy",
    "independent_pair",
    "line",
    "two_clusters",
    "two_lines_mixture",
]


@pytest.mark.parametrize("name", NAMES)
def test_recorded_clouds(clouds, name):
    for check in cloud_checks(clouds, name):
        assert check.ok, check
    assert MI_BITS == 0.003


def test_a_quarter_turn_only_exchanges_the_coordinates():
    x = jnp.asarray(DEMOS["circle"](np.random.default_rng(0), 3000) ** 3)
    turned = x @ jnp.array([[0.0, -1.0], [1.0, 0.0]])
    # Floors of the mirrored axis move points that lie on cell borders.
    np.testing.assert_allclose(mutual_information_curve(x), mutual_information_curve(turned), atol=0.01)


def test_scale_and_shift_do_not_matter():
    x = jnp.asarray(circle(np.random.default_rng(1), 2000), jnp.float32)
    for protocol in ("X", "P", "B"):
        a = separability(x, protocol=protocol)
        b = separability(4 * x + 8, protocol=protocol)
        assert abs(float(a - b)) < 0.02, protocol


def test_independent_coordinates_have_none_and_equal_ones_have_all():
    rng = np.random.default_rng(2)
    pair = rng.uniform(-1, 1, (20_000, 2))
    assert float(separability(jnp.asarray(pair))) < 0.01
    first = mutual_information_curve(jnp.asarray(np.repeat(pair[:, :1], 2, 1)))[0]
    assert abs(float(first) - np.log2(10)) < 0.02  # ten equal cells


def test_bias_correction_removes_most_of_the_excess():
    x = jnp.asarray(gaussian(np.random.default_rng(3), 800))
    at_zero = jnp.asarray(np.random.default_rng(4).normal(size=(800, 2)))
    plain = mutual_information_curve(at_zero)[0]
    corrected = mutual_information_curve(at_zero, bias_correction=True)[0]
    assert abs(float(corrected)) < 0.5 * float(plain)
    assert float(separability(x, bias_correction=True)) < float(separability(x))


def test_invalid_points_do_not_count():
    x = jnp.asarray(circle(np.random.default_rng(5), 1000), jnp.float32)
    padded = jnp.concatenate([x, 100 * jnp.ones((500, 2))])
    valid = jnp.arange(1500) < 1000
    for protocol in ("X", "P", "A"):
        np.testing.assert_allclose(
            mutual_information_curve(padded, valid, protocol=protocol)[:20],
            mutual_information_curve(x, protocol=protocol)[:20],
            atol=1e-5,
        )


def test_angles_are_the_protocols_own():
    assert len(angles("A")) == 1000 and len(angles("B")) == 100
    assert float(angles("B")[-1]) == pytest.approx(2 * np.pi)
    assert float(angles("X")[-1]) < np.pi / 2


def test_lowers_for_accelerators():
    x = jax.ShapeDtypeStruct((256, 2), jnp.float32)
    valid = jax.ShapeDtypeStruct((256,), bool)
    jax.export.export(jax.jit(lambda x, v: separability(x, v)), platforms=["cpu", "cuda", "tpu"])(x, valid)
