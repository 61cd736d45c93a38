"""Constructions over all their parameters: identities, symmetries, expansions for steep units, what is refused."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

import hypernet
from hypernet.algorithms.spikes import missing_mean
from tests.hypernet import plain

steep = st.floats(1e-3, 1e6)
size = st.integers(1, 9)


def points(seed, n):
    """Normal points, and among them zeros, equal inputs, tiny and large ones."""
    x = np.random.default_rng(seed).normal(size=(12, n))
    x[0], x[1], x[2], x[3] = 0, 1, -1e-200, x[3] * 1e3
    return x


@given(seed=plain.SEEDS, n=size, k=steep)
def test_rectified_double_sided_and_tournament_networks_are_exact(seed, n, k):
    x = points(seed, n)
    both = hypernet.double_sided(n, k=k, activation="relu")
    np.testing.assert_allclose(plain.forward(both, x), np.abs(x).sum(1), rtol=1e-12, atol=1e-12)
    largest = hypernet.tournament(n, k=k)
    np.testing.assert_allclose(plain.forward(largest, x), np.abs(x).max(1), rtol=1e-9, atol=1e-12)
    assert len(largest.weights) == max(1, int(n - 1).bit_length())


@given(seed=plain.SEEDS, k=steep, signs=st.lists(st.sampled_from([-1, 1]), min_size=1, max_size=9))
def test_rectified_puddings_are_exact_while_the_sea_is_deep(seed, k, signs):
    n, x = len(signs), points(seed, len(signs))
    mlp = hypernet.pudding(n, signs, k=k, activation="relu", C=1e5)
    np.testing.assert_allclose(plain.forward(mlp, x), np.abs(x).sum(1), rtol=1e-9, atol=1e-9)
    # where it is not, the sea is dry: only the spikes are left
    shallow = plain.forward(hypernet.pudding(n, signs, k=k, activation="relu", C=1e-9), x)
    total = (x * -np.array(signs)).sum(1)
    spikes = 2 * np.maximum(x * signs, 0).sum(1)
    np.testing.assert_allclose(shallow, spikes + np.maximum(total, 0), rtol=1e-9, atol=1e-8)


@given(seed=plain.SEEDS, n=size, k=st.floats(0.1, 50), C=st.floats(1, 1e4))
def test_swish_networks_are_their_closed_forms(seed, n, k, C):
    x = points(seed, n)
    spikes = x * np.tanh(k * x / 2)
    both = hypernet.double_sided(n, k=k)
    np.testing.assert_allclose(plain.forward(both, x), spikes.sum(1), rtol=1e-9, atol=1e-8)
    # 2 swish(u) = u + u tanh(u / 2), and the sea 2 C swish(s / C) = s + s tanh(s / 2C)
    for sign, s in (("positive", x.sum(1)), ("negative", -x.sum(1))):
        mlp = hypernet.pudding(n, sign, k=k, sea="linear", C=C)
        found = plain.forward(mlp, x)
        np.testing.assert_allclose(found, spikes.sum(1) + s * np.tanh(s / (2 * C)), rtol=1e-7, atol=1e-6)
    # what is missing from the norm is positive: 2 |x| / (1 + exp(k |x|)) of every input
    gap = np.abs(x).sum(1) - plain.forward(both, x)
    np.testing.assert_allclose(
        gap, (2 * np.abs(x) / (1 + np.exp(np.minimum(k * np.abs(x), 700)))).sum(1), atol=1e-8
    )


@given(seed=plain.SEEDS, n=st.integers(2, 9))
def test_constructions_treat_inputs_alike(seed, n):
    rng = np.random.default_rng(seed)
    x, p = points(seed, n), rng.permutation(n)
    flips = rng.choice([-1.0, 1.0], n)
    for mlp in (hypernet.double_sided(n), hypernet.pudding(n), hypernet.distributed_pudding(n, "negative")):
        np.testing.assert_allclose(plain.forward(mlp, x[:, p]), plain.forward(mlp, x), rtol=1e-9, atol=1e-9)
    both = hypernet.double_sided(n)
    np.testing.assert_allclose(plain.forward(both, x * flips), plain.forward(both, x), rtol=1e-9, atol=1e-9)
    # a pudding of the other sign sees the inputs turned round
    one, other = (hypernet.distributed_pudding(n, sign) for sign in ("positive", "negative"))
    np.testing.assert_allclose(plain.forward(one, x), plain.forward(other, -x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("k", [0.5, 3.0, 10.0, 40.0])
def test_the_missing_mean_is_the_integral_and_its_expansion(k):
    value = lambda t: 2 * stats.norm.pdf(t) * 2 * t / (1 + np.exp(k * t))  # noqa: E731
    assert missing_mean(k, "swish") == pytest.approx(integrate.quad(value, 0, 15)[0], rel=1e-6)
    assert missing_mean(k, "relu") == 0
    if k >= 10:
        assert missing_mean(k, "swish") == pytest.approx(1.3125 / k**2, rel=0.04)
    steeper = missing_mean(2 * k, "swish")
    assert 0 < steeper < missing_mean(k, "swish") < np.sqrt(2 / np.pi)


@given(n=st.integers(1, 1000))
def test_the_floor_of_convexity_rises_to_its_limit(n):
    low, high = hypernet.convexity_floor(n), hypernet.convexity_floor(n + 1)
    limit = (1 - 3 / np.pi) / (1 - 2 / np.pi)  # of many inputs
    assert 0 <= max(low, 0) <= high + 1e-9 < limit + 1e-6
    assert low == pytest.approx(0, abs=1e-12) if n == 1 else low > 0


@pytest.mark.parametrize("activation", ["relu", "swish"])
def test_the_constants_of_convexity_are_least_squares_on_its_points(activation):
    key = jax.random.key(4)
    mlp = hypernet.convexity(3, 12, key=key, activation=activation, antipodal=True, points=500)
    assert np.all(mlp.W[:, :6] == -mlp.W[:, 6:])
    assert len(set(mlp.v)) == 1
    x = np.asarray(jax.random.normal(jax.random.split(key)[1], (500, 3)), float)
    phi = plain.ACTIVATIONS[activation](x @ mlp.W).sum(1)
    alpha, c = np.linalg.lstsq(np.column_stack([phi, np.ones(500)]), np.abs(x).sum(1), rcond=None)[0]
    assert (float(mlp.v[0]), float(mlp.c)) == pytest.approx((alpha, c), rel=1e-9)
    # the same rows given are the same network, and given constants stay
    again = hypernet.convexity(3, 12, key=key, rows=mlp.W.T, activation=activation, points=500)
    assert float(again.v[0]) == pytest.approx(alpha, rel=1e-9)
    fixed = hypernet.convexity(3, 12, rows=mlp.W.T, alpha=2.0, c=-1.0, activation=activation)
    assert (set(fixed.v.tolist()), float(fixed.c)) == ({2.0}, -1.0)


def test_rows_of_signs_have_the_stated_size():
    for activation, scale in (("relu", 1.0), ("swish", 2.0)):
        mlp = hypernet.convexity(
            4, 8, key=jax.random.key(0), law="sign", activation=activation, alpha=1.0, c=0.0
        )
        assert set(np.abs(mlp.W).ravel().tolist()) == {scale / 2}


def test_a_distributed_pudding_has_spikes_on_its_sign_and_a_background_against_it():
    mlp = hypernet.distributed_pudding(
        3, [1, -1, 1], k=20.0, eps_spike=0.1, eps_sea=0.01, v_spike=0.5, v_sea=2.0, c=1.5
    )
    own = np.tile(np.eye(3, dtype=bool), (1, 2))
    signs = np.array([1, -1, 1])[:, None]
    spikes, sea = mlp.W[:, :6], mlp.W[:, 6:]
    np.testing.assert_array_equal(spikes, np.where(own, 20 * signs, -0.1 * signs))
    np.testing.assert_array_equal(sea, np.broadcast_to(-0.01 * signs, (3, 3)))
    assert (mlp.v.tolist(), float(mlp.c)) == ([0.5] * 6 + [2.0] * 3, 1.5)


def test_a_table_has_a_row_per_value_measured_on_the_same_points():
    target, key = hypernet.get_target("l1"), jax.random.key(0)
    rows = hypernet.error_table(lambda k: hypernet.double_sided(3, k=k), [2, 8.0], key=key, points=300)
    x = np.asarray(target.sample(key, 300, 3), float)
    for row, k in zip(rows, (2.0, 8.0), strict=True):
        error = (x * np.tanh(k * x / 2)).sum(1) - np.abs(x).sum(1)
        assert row.value == k
        assert row.nmse == pytest.approx(np.mean(error**2) / target.variance_of(3), rel=1e-9)
        assert row.nmse_corrected == pytest.approx(error.var() / target.variance_of(3), rel=1e-9)
    assert hypernet.error_table(lambda k: hypernet.double_sided(3), [], key=key) == []
    with pytest.raises(ValueError, match="networks of 2 and of 3 inputs in one table"):
        hypernet.error_table(lambda n: hypernet.double_sided(int(n)), [2, 3], key=key, points=10)


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hypernet.double_sided(2, k=0.0), "k=0.0: expected a positive, finite slope"),
        (lambda: hypernet.double_sided(2, k=float("inf")), "k=inf"),
        (lambda: hypernet.double_sided(2, k=float("nan")), "k=nan"),
        (lambda: hypernet.pudding(2, [1]), "expected 2 numbers, each -1 or 1"),
        (lambda: hypernet.pudding(2, [1, 0]), "each -1 or 1"),
        (lambda: hypernet.pudding(2, C=0.0), "C=0.0: must be positive and finite"),
        (lambda: hypernet.pudding(2, sea="wide"), "sea='wide': expected 'bias' or 'linear'"),
        (lambda: hypernet.distributed_pudding(0), "n=0: expected at least one input"),
        (lambda: hypernet.distributed_pudding(2, eps_sea=0.0), "eps_sea=0.0: must be positive"),
        (lambda: hypernet.distributed_pudding(2, eps_spike=-1.0), "eps_spike=-1.0"),
        (lambda: hypernet.tournament(0), "n=0"),
        (lambda: hypernet.tournament(2, activation="gelu"), "activation='gelu'"),
        (lambda: hypernet.convexity_floor(0), "n=0: expected at least one input"),
        (lambda: hypernet.convexity(2, 0, key=KEY), "hidden=0: expected a positive number"),
        (lambda: hypernet.convexity(2, 2, key=KEY, points=1), "points=1: must be at least 2"),
        (lambda: hypernet.convexity(2, 2, key=KEY, law="cauchy"), "law='cauchy': expected 'gauss' or 'sign'"),
        (
            lambda: hypernet.convexity(2, 2, key=KEY, rows=np.eye(3)),
            r"rows have shape \(3, 3\): expected \(2, 2\)",
        ),
        (lambda: hypernet.convexity(2, 2, rows=np.eye(2), alpha=1.0), "give a key, or rows, alpha and c"),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_parameters_of_constructions_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()
