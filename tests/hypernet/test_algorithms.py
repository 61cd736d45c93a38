"""Exact constructions and what they cost in error."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import hypernet
from hypernet.networks.forward import evaluate64

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "hypernet"


def points(n, count=256):
    return np.random.default_rng(n).normal(size=(count, n))


def nmse(mlp, *, count=20_000):
    x = points(mlp.inputs, count)
    error = evaluate64(mlp, x) - np.abs(x).sum(1)
    return np.mean(error**2) / (mlp.inputs * (1 - 2 / np.pi))


@pytest.mark.parametrize("n", [1, 2, 5, 16])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("double-sided", lambda n: hypernet.double_sided(n, k=3.0, activation="relu")),
        ("positive", lambda n: hypernet.pudding(n, "positive", k=2.0, activation="relu")),
        ("negative", lambda n: hypernet.pudding(n, "negative", k=0.5, activation="relu")),
        ("mixed", lambda n: hypernet.pudding(n, [1, -1] * (n // 2) + [1] * (n % 2), activation="relu")),
    ],
)
def test_relu_constructions_are_the_norm(name, make, n):
    mlp, x = make(n), points(n)
    np.testing.assert_allclose(evaluate64(mlp, x), np.abs(x).sum(1), atol=1e-10)
    assert mlp.W.shape[1] == (2 * n if name == "double-sided" else n + 1)


def test_swish_double_sided_is_a_sum_of_hyperbolic_tangents():
    x = points(16)
    for k in (1.0, 7.0):
        found = evaluate64(hypernet.double_sided(16, k=k), x)
        np.testing.assert_allclose(found, (x * np.tanh(k * x / 2)).sum(1), atol=1e-9)


# NMSE at n = 16: raw, and with the mean error removed
@pytest.mark.parametrize(
    ("make", "value", "raw", "corrected"),
    [
        (lambda k: hypernet.double_sided(16, k=k), 4, 0.213, 0.0067),
        (lambda k: hypernet.double_sided(16, k=k), 8, 0.0185, 0.0016),
        (lambda k: hypernet.double_sided(16, k=k), 16, 0.0014, 2.7e-4),
        (lambda k: hypernet.double_sided(16, k=k), 32, 1.1e-4, 3.9e-5),
        (lambda C: hypernet.pudding(16, "negative", sea="linear", C=C), 10, 0.248, 0.194),
        (lambda C: hypernet.pudding(16, "negative", sea="linear", C=C), 100, 0.0061, 0.0034),
        (lambda t: hypernet.pudding(16, activation="relu", C=4 * t), 1, 0.2, 0.183),
        (lambda t: hypernet.pudding(16, activation="relu", C=4 * t), 2, 0.0159, 0.0157),
    ],
)
def test_error_tables(make, value, raw, corrected):
    (row,) = hypernet.error_table(make, [value], key=jax.random.key(1), points=100_000)
    assert row.nmse == pytest.approx(raw, rel=0.06)
    assert row.nmse_corrected == pytest.approx(corrected, rel=0.06)


def test_the_correction_removes_the_mean_error():
    for mlp in (
        hypernet.double_sided(8, k=5, corrected=True),
        hypernet.pudding(8, "positive", sea="linear", k=5, C=30, corrected=True),
    ):
        x = points(8, 200_000)
        assert abs(np.mean(evaluate64(mlp, x) - np.abs(x).sum(1))) < 0.02


def test_a_distributed_pudding_computes_the_norm():
    for n in (4, 16):
        assert nmse(hypernet.distributed_pudding(n, "positive")) < 1e-3


def test_the_convexity_floor():
    table = {2: 0.0426, 4: 0.0766, 8: 0.0985, 16: 0.1108, 32: 0.1173, 64: 0.1206}
    for n, floor in table.items():
        assert hypernet.convexity_floor(n) == pytest.approx(floor, abs=5e-5)
    # and it is what the best multiple of the Euclidean norm leaves over
    x = points(16, 200_000)
    radius, y = np.linalg.norm(x, axis=1), np.abs(x).sum(1)
    A = np.column_stack([radius, np.ones_like(radius)])
    left = y - A @ np.linalg.lstsq(A, y, rcond=None)[0]
    assert left.var() / (16 * (1 - 2 / np.pi)) == pytest.approx(0.1108, rel=0.02)


def test_convexity_nears_its_floor_with_more_rows():
    errors = [
        nmse(hypernet.convexity(8, hidden, key=jax.random.key(0), antipodal=True))
        for hidden in (24, 256, 2048)
    ]
    assert errors[0] > errors[1] > errors[2] > 0.95 * hypernet.convexity_floor(8)
    assert errors[2] < 0.13


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8])
def test_a_tournament_is_the_largest_size(n):
    mlp, x = hypernet.tournament(n), points(n)
    np.testing.assert_allclose(evaluate64(mlp, x), np.abs(x).max(1), atol=1e-12)
    assert len(mlp.weights) == max(1, int(np.ceil(np.log2(n))))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hypernet.double_sided(0), "at least one input"),
        (lambda: hypernet.double_sided(3, k=-1), "positive, finite slope"),
        (lambda: hypernet.double_sided(3, activation="tanh"), "'relu' and 'swish'"),
        (lambda: hypernet.pudding(3, "blue"), "'positive', 'negative'"),
        (lambda: hypernet.pudding(3, [1, 2, 1]), "each -1 or 1"),
        (lambda: hypernet.pudding(3, activation="relu", sea="linear"), "sea='bias'"),
        (lambda: hypernet.convexity(3, 7, antipodal=True, key=jax.random.key(0)), "even"),
        (lambda: hypernet.convexity(3, 8), "give a key"),
    ],
)
def test_bad_parameters_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.skipif(not GOLDEN.exists(), reason="the shared networks are not here")
def test_recorded_networks():
    """Forward pass, constructors and classifier on every thirtieth recorded network; the benchmark takes all."""
    from benchmarks.hypernet_classify import examine

    names = sorted(json.loads((GOLDEN / "networks.json").read_text()))[::30]
    found = examine(GOLDEN / "networks.npz", GOLDEN / "networks.json", names=names)
    assert found.scored > 5
    assert found.right == found.scored
    assert found.forward < 1e-9
    assert found.constructed < 1e-9
    assert found.order < 1e-6
