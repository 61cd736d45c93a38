"""Neighbors, co-activation and components against brute force."""

import chex
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from features.discovery.graph import Neighbors, coactivation, components, nearest
from features.sae.model import Firing

SEEDS = st.integers(0, 2**32 - 1)


def cosines(rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = unit @ unit.T
    np.fill_diagonal(found, -np.inf)
    return found


@settings(max_examples=16)
@given(
    SEEDS,
    st.sampled_from([(12, 2), (12, 11)]),
    st.sampled_from([(1024, 8192), (5, 4)]),
    st.booleans(),
)
def test_neighbors_are_the_largest_cosines(seed, size, blocks, rounded):
    """With equal rows and many equal cosines too: then any of the equal ones may be named."""
    (n, k), (block, tile) = size, blocks
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, (n, 3)) + np.array([0, 0, 0.5]) if rounded else rng.normal(size=(n, 3))
    found = nearest(rows, k, block=block, tile=tile)
    exact = cosines(rows)
    np.testing.assert_allclose(found.cosine, -np.sort(-exact, axis=1)[:, :k], atol=1e-5)
    np.testing.assert_allclose(found.cosine, np.take_along_axis(exact, found.index, 1), atol=1e-5)
    assert all(len(set(row)) == k for row in found.index.tolist())  # none twice, and never itself
    assert not (found.index == np.arange(n)[:, None]).any()


@given(SEEDS, st.lists(st.integers(-100, 100), min_size=12, max_size=12))
def test_lengths_of_rows_do_not_matter(seed, powers):
    """Of any size that single precision holds, the squares of which it may not."""
    rows = np.random.default_rng(seed).normal(size=(12, 3))
    scaled = rows * 2.0 ** np.array(powers)[:, None]
    a, b = nearest(rows, 4), nearest(scaled, 4)
    np.testing.assert_array_equal(a.index, b.index)
    np.testing.assert_allclose(a.cosine, b.cosine, atol=1e-5)


def random_firing(rng, latents, tokens, share=0.4):
    token, latent = np.nonzero(rng.random((tokens, latents)) < share)
    return Firing(rng.random(len(token)).astype(np.float32), latent, token)


@given(SEEDS, st.integers(1, 8), st.integers(1, 12), st.integers(1, 9))
def test_coactivation_is_shared_over_all(seed, latents, tokens, most):
    rng = np.random.default_rng(seed)
    firing = random_firing(rng, latents, tokens)
    fires = np.zeros((latents, tokens), bool)
    fires[firing.latent, firing.token] = True
    found = coactivation(firing, latents, most=most)
    for j in range(latents):
        shared = {
            i: (fires[i] & fires[j]).sum() / (fires[i] | fires[j]).sum()
            for i in range(latents)
            if i != j and (fires[i] & fires[j]).any()
        }
        best = sorted(shared.values(), reverse=True)[:most]
        np.testing.assert_allclose(found.cosine[j, : len(best)], best, atol=1e-6)
        assert np.isneginf(found.cosine[j, len(best) :]).all()
        for i, value in zip(found.index[j, : len(best)].tolist(), found.cosine[j], strict=False):
            assert shared[i] == pytest.approx(value, abs=1e-6)
    order = rng.permutation(len(firing.token))  # triples in another order are the same firings
    chex.assert_trees_all_close(coactivation(Firing(*(p[order] for p in firing)), latents, most=most), found)


def random_graph(rng, n, k=2):
    """Any directed graph of out-degree k, with similarities."""
    return Neighbors(
        rng.integers(0, n, (n, k)).astype(np.int32), rng.uniform(-1, 1, (n, k)).astype(np.float32)
    )


@given(SEEDS, st.integers(1, 15), st.floats(-1, 1), st.floats(-1, 1))
def test_components_are_those_of_scipy(seed, n, threshold, other):
    rng = np.random.default_rng(seed)
    graphs = ((random_graph(rng, n), threshold), (random_graph(rng, n, 1), other))
    joined = np.zeros((n, n))
    for found, least in graphs:
        source, place = np.nonzero(found.cosine > least)
        joined[source, found.index[source, place]] = 1
    labels = connected_components(csr_matrix(joined), directed=False)[1]
    parts = components(*graphs[0], graphs[1])
    assert sorted(map(len, parts), reverse=True) == [len(part) for part in parts]
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    for part in parts:
        assert (np.diff(part) > 0).all() and set(np.flatnonzero(labels == labels[part[0]])) == set(
            part.tolist()
        )


@given(SEEDS, st.integers(1, 15), st.floats(-1, 1), st.floats(0, 1))
def test_a_higher_threshold_only_splits(seed, n, threshold, more):
    graph = random_graph(np.random.default_rng(seed), n)
    whole = {j: number for number, part in enumerate(components(graph, threshold)) for j in part.tolist()}
    for part in components(graph, threshold + more):
        assert len({whole[j] for j in part.tolist()}) == 1


def test_mistakes_are_named():
    rows = np.random.default_rng(0).normal(size=(5, 3))
    for bad, k, message in (
        (rows, 0, "k=0: expected 1 <= k < 5, the number of elements"),
        (rows, 5, "k=5"),
        (np.where(np.arange(5)[:, None] == 2, 0, rows), 2, "finite and not zero"),
        (np.where(np.arange(5)[:, None] == 2, np.nan, rows), 2, "finite and not zero"),
        (np.where(np.arange(5)[:, None] == 2, np.inf, rows), 2, "finite and not zero"),
    ):
        with pytest.raises(ValueError, match=message):
            nearest(bad, k)
