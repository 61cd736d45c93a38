"""Mutual information of rotated clouds: recorded curves, known values, invariances."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


SEEDS = st.integers(0, 2**32 - 1)
N = 192
TURN = {"X": np.pi / 2, "B": 2 * np.pi, "P": 2 * np.pi, "A": 2 * np.pi}


def plain_curve(x, protocol, corrected=False):
    """Mutual information by angle as the protocols are written down, in double precision."""
    bins = 10 if protocol in "XB" else 40
    theta = np.linspace(0, TURN[protocol], {"X": 50, "B": 100}.get(protocol, 1000), endpoint=protocol == "B")
    x = x - x.mean(0)
    if protocol == "P":
        x = x * np.sqrt(2) / np.sqrt((x**2).sum(1).mean())
    if protocol == "A":
        x = x / np.mean(x**2)
    curve = []
    for angle in theta:
        c, s = np.cos(angle), np.sin(angle)
        turned = x @ np.array([[c, -s], [s, c]])
        if protocol in "XB":
            counts = np.histogram2d(*turned.T, bins=bins)[0]
        else:
            cell = np.floor(np.clip((turned + 3) / 3 * 20, 0, 39.9)).astype(int)
            counts = np.zeros((40, 40))
            np.add.at(counts, (cell[:, 0], cell[:, 1]), 1)
        p = counts / counts.sum()
        q = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
        damping, used = (1e-10, p > 0) if protocol in "XB" else (1e-4, p > -1)
        bits = (p[used] * np.log((p[used] + damping) / (q[used] + damping))).sum() / np.log(2)
        if corrected:
            kinds = (counts > 0).sum() - (counts.sum(1) > 0).sum() - (counts.sum(0) > 0).sum() + 1
            bits -= kinds / (2 * len(x) * np.log(2))
        curve.append(bits)
    return np.array(curve)


def cloud(seed):
    """Some cloud of 192 points: round, long, cubed or with many equal points."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 2))
    kind = rng.integers(4)
    if kind == 1:
        x = x @ rng.normal(size=(2, 2))
    elif kind == 2:
        x = x**3
    elif kind == 3:
        x = x[rng.integers(0, 20, N)]
    return x.astype(np.float32)


@pytest.mark.parametrize(
    ("protocol", "corrected"),
    [
        ("X", True),
        ("A", False),
        *(pytest.param(*more, marks=pytest.mark.slow) for more in (("X", False), ("B", False), ("P", True))),
    ],
)
def test_curves_are_those_of_the_formulas(protocol, corrected):
    for seed in range(1 if protocol in "PA" else 6):
        x = cloud(4 * seed + 1)
        found = mutual_information_curve(x, protocol=protocol, bias_correction=corrected)
        gap = np.abs(np.asarray(found) - plain_curve(x.astype(float), protocol, corrected))
        # A point that lies on the border of two cells in one precision only moves a curve by some 0.01 bits.
        assert np.quantile(gap, 0.9) < 1e-4 and gap.max() < 0.1
        s = separability(x, protocol=protocol, bias_correction=corrected)
        assert float(s) == pytest.approx(float(found.min()))


@given(SEEDS)
def test_the_order_of_points_does_not_matter_and_padding_does_not_count(seed):
    x, rng = cloud(seed), np.random.default_rng(seed)
    curve = mutual_information_curve(x, np.ones(N, bool))
    order = rng.permutation(N)
    valid = np.arange(N) < N - 50
    part = mutual_information_curve(x, valid)
    junk = np.where(valid[:, None], x, 1e6 * rng.normal(size=(N, 2)).astype(np.float32))
    chex.assert_trees_all_close(mutual_information_curve(junk[order], valid[order]), part, atol=2e-2)
    gap = np.abs(np.asarray(mutual_information_curve(x[order], np.ones(N, bool))) - np.asarray(curve))
    # Sums in another order move the mean by a rounding, and with it points that lie on a border.
    assert np.median(gap) < 1e-5 and gap.max() < 0.1


@given(SEEDS, st.integers(-60, 40))
def test_a_power_of_two_of_scale_is_nothing_at_all(seed, power):
    x = cloud(seed)
    chex.assert_trees_all_equal(
        mutual_information_curve(x * np.float32(2.0**power)), mutual_information_curve(x)
    )


@given(SEEDS)
def test_every_point_twice_is_the_same_histogram(seed):
    x = cloud(seed)[:96]
    valid = np.arange(N) < 96
    once = mutual_information_curve(np.concatenate([x, x]), valid)
    twice = mutual_information_curve(np.concatenate([x, x]), np.ones(N, bool))
    gap = np.abs(np.asarray(once) - np.asarray(twice))
    assert np.median(gap) < 1e-5 and gap.max() < 0.1


@given(SEEDS)
def test_information_lies_between_nothing_and_all_ten_cells(seed):
    curve = np.asarray(mutual_information_curve(cloud(seed)))
    assert (curve > -1e-5).all() and (curve <= np.log2(10) + 1e-5).all()


def test_points_that_are_all_equal_tell_nothing():
    curve = mutual_information_curve(np.full((N, 2), 3.5, np.float32))
    np.testing.assert_allclose(curve, 0, atol=1e-5)
