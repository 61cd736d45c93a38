"""A group's part of every token, against dense sums and their principal components."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.discovery.reconstruction import FiringIndex, planes, reconstruct_group
from features.sae.model import Firing

SEEDS = st.integers(0, 2**32 - 1)
LATENTS, TOKENS, WIDTH = 9, 40, 6


def example(seed):
    """Dense activations, the same as shuffled triples, a dictionary and a group of latents."""
    rng = np.random.default_rng(seed)
    dense = (rng.random((TOKENS, LATENTS)) * (rng.random((TOKENS, LATENTS)) < 0.3)).astype(np.float32)
    token, latent = np.nonzero(dense)
    order = rng.permutation(len(token))
    firing = Firing(dense[token, latent][order], latent[order], token[order])
    rows = rng.normal(size=(LATENTS, WIDTH)).astype(np.float32)
    if rng.random() < 0.3:
        rows[1] = rows[0]  # dependent elements
    group = np.sort(rng.choice(LATENTS, rng.integers(1, 7), replace=False))
    return dense, firing, rows, group


@given(SEEDS, st.floats(0, 0.9))
def test_an_index_finds_what_a_dense_table_holds(seed, threshold):
    dense, firing, _, group = example(seed)
    tokens, active = FiringIndex(firing, LATENTS).of(group, threshold)
    strong = np.where(dense[:, group] > threshold, dense[:, group], 0)
    np.testing.assert_array_equal(tokens, np.flatnonzero(strong.any(1)))
    np.testing.assert_array_equal(active, strong[tokens])


@given(SEEDS, st.integers(1, 7), st.sampled_from([3, 25, 10_000]))
def test_a_reconstruction_is_the_sum_in_principal_coordinates(seed, count, most):
    dense, firing, rows, group = example(seed)
    found = reconstruct_group(FiringIndex(firing, LATENTS), rows, group, most=most, components=count)
    direct = (dense[:, group] @ rows[group])[dense[:, group].any(1)][:most].astype(float)
    np.testing.assert_array_equal(found.tokens, np.flatnonzero(dense[:, group].any(1))[:most])
    kept = len(found.components)
    assert kept <= min(count, len(group)) and found.points.shape == (len(direct), kept)
    if len(direct) < 2:
        return
    centered = direct - direct.mean(0)
    np.testing.assert_allclose(found.mean, direct.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(kept), atol=1e-4)
    np.testing.assert_allclose(found.points, centered @ found.components.T, atol=1e-4)
    variance = np.linalg.svd(centered, compute_uv=False)[:kept] ** 2 / len(direct)
    np.testing.assert_allclose(found.variance[: len(variance)], variance, atol=1e-4)
    active = dense[:, group][found.tokens]
    np.testing.assert_allclose(found.points, (active - active.mean(0)) @ found.in_latents, atol=1e-4)


def test_groups_that_hardly_fire_have_no_spread():
    firing = Firing(np.array([0.5], np.float32), np.array([2]), np.array([7]))
    rows = np.eye(4, WIDTH, dtype=np.float32)
    for group, tokens in (([2, 3], [7]), ([0, 1], [])):
        found = reconstruct_group(FiringIndex(firing, 4), rows, np.array(group))
        assert found.tokens.tolist() == tokens and found.points.shape == (len(tokens), 2)
        assert not found.points.any() and not found.variance.any()


@given(st.integers(0, 9))
def test_planes_are_neighboring_components(count):
    assert planes(count) == [(i, i + 1) for i in range(9) if i + 1 < count]


@pytest.mark.parametrize("seed", range(3))
def test_the_sign_of_a_component_does_not_depend_on_the_order_of_tokens(seed):
    dense, firing, rows, group = example(10 + seed)
    other = dense[::-1]
    token, latent = np.nonzero(other)
    mirrored = FiringIndex(Firing(other[token, latent], latent, token), LATENTS)
    a, b = (reconstruct_group(i, rows, group) for i in (FiringIndex(firing, LATENTS), mirrored))
    gaps = np.diff(a.variance)
    assert (np.abs(gaps) > 1e-4).all()  # else components may turn into one another
    np.testing.assert_allclose(a.components, b.components, atol=1e-3)
    np.testing.assert_allclose(a.points, b.points[::-1], atol=1e-3)
