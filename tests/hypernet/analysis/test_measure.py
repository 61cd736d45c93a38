"""Measurements: every figure again from the networks themselves, in plain NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hypernet
from hypernet.analysis.measure import check_betas, measure, trim
from hypernet.classification.order_parameters import labels_of
from hypernet.generator.config import GeneratorConfig
from hypernet.generator.generate import init_generator
from tests.hypernet import plain

L1 = hypernet.get_target("l1")
CONFIG = GeneratorConfig(modes=2)


@pytest.fixture(scope="module")
def generators():
    return jax.vmap(lambda key: init_generator(key, CONFIG))(jax.random.split(jax.random.key(0), 2))


@pytest.fixture(scope="module")
def measured(generators):
    return measure(generators, L1, jax.random.key(1), 3, [-5, -1], networks=4, points=64, columns=4)


def test_errors_and_losses_are_those_of_the_networks_that_come_with_them(measured):
    x = np.asarray(L1.sample(jax.random.split(jax.random.key(1))[0], 64, 3), float)
    assert measured.mlps.W.shape == (2, 2, 4, 3, 9)  # three inputs, not four
    for at in np.ndindex(2, 2, 4):
        mse = np.mean((plain.forward(measured.mlps[at], x) - np.abs(x).sum(-1)) ** 2)
        assert measured.nmse[at] == pytest.approx(mse / (3 * (1 - 2 / np.pi)), rel=2e-3)
        beta = 10.0 ** measured.log10_beta[at[1]]
        assert measured.loss[at] == pytest.approx((mse + beta * measured.nats[at]) / 3, rel=2e-3)


def test_labels_and_order_parameters_are_those_of_the_classifier(measured):
    _, order, _ = hypernet.classify_many(measured.mlps, points=64)
    for name, column in order._asdict().items():
        np.testing.assert_allclose(getattr(measured.order, name), column, rtol=1e-6, err_msg=name)
    np.testing.assert_array_equal(labels_of(order, measured.nmse), measured.label)


def test_networks_take_modes_in_turn_and_prices_are_of_the_mode(measured):
    assert measured.mode.tolist() == [[[0, 1, 0, 1]] * 2] * 2
    # the price of orbits' posteriors does not depend on what was drawn: one per seed, beta and mode
    for mode in (0, 1):
        prices = measured.nats[:, :, mode::2]
        np.testing.assert_allclose(prices[..., :1], prices[..., 1:], rtol=1e-5)
    assert len(np.unique(np.round(measured.nats, 3))) == 8


def test_seeds_draw_networks_of_their_own_whoever_their_neighbors_are(generators, measured):
    twice = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[[0, 0]]), generators)
    found = measure(twice, L1, jax.random.key(1), 3, [-5, -1], networks=4, points=64, columns=4)
    np.testing.assert_array_equal(found.nmse[0], measured.nmse[0])
    np.testing.assert_allclose(found.nats[0], found.nats[1], rtol=1e-5)
    assert not (found.nmse[0] == found.nmse[1]).any()


@pytest.mark.parametrize("outputs", [None, "inputs", "fixed"])
@pytest.mark.parametrize("slots", [(3,), (2, 3)])
def test_trimming_drops_what_padding_added(outputs, slots):
    """Entries marked by the column they belong to: those of real columns stay, in order."""
    columns, n = 5, 3

    def marks(count):  # slot after slot, each over all columns
        return np.arange(count * columns, dtype=float)

    sizes = [1, *slots]
    weights = tuple(np.add.outer(1000 * marks(a), marks(b)) for a, b in zip(sizes, slots, strict=False))
    last = marks(slots[-1])
    wide = columns if outputs == "inputs" else 2
    v = last if outputs is None else np.add.outer(last, 1000.0 * np.arange(wide))
    c = np.float64(7) if outputs is None else np.arange(float(wide))
    found = trim(
        hypernet.MLP(weights, tuple(marks(b) for b in slots), v, c), n, slots, outputs=outputs == "inputs"
    )

    def kept(count):
        return np.array([s * columns + k for s in range(count) for k in range(n)], float)

    for w, a, b in zip(found.weights, sizes, slots, strict=False):
        np.testing.assert_array_equal(w, np.add.outer(1000 * kept(a), kept(b)))
    np.testing.assert_array_equal(np.concatenate(found.biases), np.concatenate([kept(b) for b in slots]))
    real = n if outputs == "inputs" else 2
    expected = kept(slots[-1]) if outputs is None else np.add.outer(kept(slots[-1]), 1000.0 * np.arange(real))
    np.testing.assert_array_equal(found.v, expected)
    np.testing.assert_array_equal(found.c, 7 if outputs is None else np.arange(real))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": hypernet.get_target("sort")}, "has outputs='inputs', the generator outputs=None"),
        ({"networks": 0}, "networks=0"),
        ({"points": 1}, "points=1: must be at least 2"),
        ({"log10_betas": [-6.5]}, r"expected numbers within -6\.0"),
        ({"log10_betas": []}, "expected numbers within"),
        ({"log10_betas": [float("nan")]}, "expected numbers within"),
        ({"modes": [0, 2]}, "holds modes 0 to 1"),
        ({"modes": [-1]}, "holds modes 0 to 1"),
        ({"n": 0}, "n=0"),
        ({"columns": 2}, "columns=2: fewer than n=3"),
        ({"modes": [0, 1, 1]}, "3 modes for 4 networks"),
    ],
)
def test_what_cannot_be_measured_is_named(settings, message, generators):
    call = {"target": L1, "key": jax.random.key(0), "n": 3, "log10_betas": [-1], "networks": 4} | settings
    with pytest.raises(ValueError, match=message):
        measure(generators, **call)


def test_betas_at_the_ends_of_the_range_are_inside_it_in_single_precision():
    config = dataclasses.replace(CONFIG, log10_beta=(-5.3, -0.7))
    check_betas(config, [float(jnp.float32(-5.3)), float(jnp.float32(-0.7))])
    with pytest.raises(ValueError, match=r"within -5\.3 \.\. -0\.7"):
        check_betas(config, [-5.301])
