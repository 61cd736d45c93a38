"""Exact symmetries of the network without noise, in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compressarc.config import Variant
from compressarc.multitensor import TYPES, pack
from compressarc.network.inputs import grids, signature
from compressarc.network.model import forward
from compressarc.network.parameter_names import from_named, named
from compressarc.network.parameters import init_params
from tests.compressarc.zoo import SQUARE

AXES = "ecdxy"
REFERENCE = Variant()
FLIP_X = [(4 - d) % 8 for d in range(8)]
FLIP_Y = [-d % 8 for d in range(8)]
TRANSPOSE = [(2 - d) % 8 for d in range(8)]


@pytest.fixture(scope="module")
def network():
    """logits(named posterior means) -> (E, C+1, X, Y, 2), and the initial means."""
    with jax.enable_x64(True):
        static = signature(SQUARE.canvas)
        data = grids(SQUARE.canvas, jnp.float64)
        weights = named(init_params(static.shape, key=jax.random.key(5)), static.shape)
        rng = np.random.default_rng(0)
        means = {c: rng.normal(size=(*static.shape.axes(c), 4)) for c in TYPES}
        zeros = jax.tree.map(jnp.zeros_like, jax.tree.map(jnp.asarray, pack(means, static.shape)))
        run = jax.jit(forward, static_argnums=(3, 4))

        def logits(means, variant=REFERENCE):
            params = from_named(
                weights | {f"post_mean/{c}": m for c, m in means.items()}, static.shape, np.float64
            )
            out = run(params, zeros, data, static, variant).logits
            return np.asarray(out).transpose(3, 0, 1, 2, 4)

        yield logits, means


def moved(means, axis, order):
    """The posterior means with one axis reordered in every tensor that has it."""
    out = {}
    for code, m in means.items():
        axes = [a for a, bit in zip(AXES, code, strict=True) if bit == "1"]
        out[code] = np.take(m, order, axes.index(axis)) if axis in axes else m
    return out


def error(value, reference):
    return np.abs(value - reference).max() / np.abs(reference).max()


def test_color_permutation(network):
    logits, means = network
    order = [2, 0, 1]
    reference = logits(means)
    expected = reference[:, [0, *(1 + i for i in order)]]
    assert error(logits(moved(means, "c", order)), expected) < 1e-12
    assert error(reference, expected) > 1e-3  # the permutation does something


def test_example_permutation(network):
    logits, means = network
    order = [1, 2, 0]
    assert error(logits(moved(means, "e", order)), logits(means)[order]) < 1e-12


@pytest.mark.parametrize(("axis", "place", "directions"), [("x", 2, FLIP_X), ("y", 3, FLIP_Y)])
def test_flips(network, axis, place, directions):
    logits, means = network
    flipped = moved(moved(means, axis, [3, 2, 1, 0]), "d", directions)
    assert error(logits(flipped), np.flip(logits(means), place)) < 1e-12


def transposed(means):
    out = {}
    for code, m in moved(means, "d", TRANSPOSE).items():
        if code[3:] == "11":
            out[code] = np.swapaxes(m, -2, -3)
        else:
            out[code[:3] + code[:2:-1]] = m
    return out


def test_transposition_is_broken_by_the_softmax_layer_only(network):
    logits, means = network
    swapped = transposed(means)
    assert 1e-4 < error(logits(swapped), np.swapaxes(logits(means), 2, 3)) < 0.2
    symmetric = Variant(symmetric_softmax=True)
    exact = np.swapaxes(logits(means, symmetric), 2, 3)
    assert error(logits(swapped, symmetric), exact) < 1e-12


def test_the_pre_norm_switch_changes_the_network(network):
    logits, means = network
    assert error(logits(means, Variant(apply_pre_norm=True)), logits(means)) > 1e-3
