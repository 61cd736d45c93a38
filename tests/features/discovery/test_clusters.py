"""Grouping: laws of the options, and dictionaries whose latents have other names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.discovery.clusters import cluster, frequencies, spectral
from features.discovery.config import ClusterConfig, DiscoverConfig
from features.sae.model import Firing

SEEDS = st.integers(0, 2**32 - 1)


def example(seed, latents=14, tokens=60):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(latents, 4)).astype(np.float32)
    rows[7:] = rows[:7] + 0.3 * rng.normal(size=(7, 4)).astype(np.float32)
    token, latent = np.nonzero(rng.random((tokens, latents)) < rng.uniform(0.1, 0.6, latents))
    return rng, rows, Firing(np.ones(len(token), np.float32), latent, token)


def as_sets(groups):
    return {frozenset(group.tolist()) for group in groups}


@settings(max_examples=15)
@given(SEEDS, st.sampled_from([None, 0.3]))
def test_new_names_of_latents_are_new_names_in_the_groups(seed, jaccard):
    rng, rows, firing = example(seed)
    config = ClusterConfig(coactivation=jaccard, threshold=0.6)
    name = rng.permutation(14)
    renamed = np.empty_like(rows)
    renamed[name] = rows
    given_ = cluster(rows, config, firing=firing, tokens=60)
    found = cluster(renamed, config, firing=firing._replace(latent=name[firing.latent]), tokens=60)
    assert as_sets(found) == {frozenset(name[list(group)].tolist()) for group in as_sets(given_)}


@pytest.mark.slow
@settings(max_examples=8)  # each number of latents that are left is a program of its own
@given(SEEDS, st.floats(0, 0.3), st.floats(0.4, 1), st.integers(1, 3), st.integers(2, 14))
def test_groups_keep_to_their_settings(seed, least, most, least_size, most_size):
    _, rows, firing = example(seed)
    config = ClusterConfig(
        least_frequency=least, most_frequency=most, least_size=least_size, most_size=most_size
    )
    share = np.array([(firing.latent == j).sum() / 60 for j in range(14)])
    np.testing.assert_allclose(frequencies(firing, 14, 60), share)
    kept = np.flatnonzero((share >= least) & (share <= most) & (share > 0))
    if len(kept) <= 2:
        with pytest.raises(ValueError, match=f"{len(kept)} of 14 latents fire often enough"):
            cluster(rows, config, firing=firing, tokens=60)
        return
    groups = cluster(rows, config, firing=firing, tokens=60)
    sizes = [len(group) for group in groups]
    assert sizes == sorted(sizes, reverse=True) and all(least_size <= s <= most_size for s in sizes)
    members = [j for group in groups for j in group.tolist()]
    assert len(members) == len(set(members)) and set(members) <= set(kept.tolist())
    if least_size == 1 and most_size == 14:
        assert set(members) == set(kept.tolist())


@settings(max_examples=15)
@given(SEEDS)
def test_edges_of_coactivation_only_join(seed):
    _, rows, firing = example(seed)
    plain = cluster(rows, ClusterConfig(least_size=1), firing=firing, tokens=60)
    joined = cluster(rows, ClusterConfig(least_size=1, coactivation=0.4), firing=firing, tokens=60)
    assert all(any(small <= large for large in as_sets(joined)) for small in as_sets(plain))


@pytest.mark.slow
@pytest.mark.parametrize("affinity", ["cosine", "angular"])
def test_spectral_groups_are_the_pairs_that_lie_together(affinity):
    rng = np.random.default_rng(0)
    centers = np.eye(4, 6)
    rows = np.repeat(centers, 5, 0) + 0.05 * rng.normal(size=(20, 6))
    labels = spectral(7 * rows, 4, affinity=affinity)
    assert len(set(labels.tolist())) == 4
    assert all(len(set(labels[5 * i : 5 * i + 5].tolist())) == 1 for i in range(4))
    found = cluster(rows, ClusterConfig("spectral", count=4, affinity=affinity))
    assert as_sets(found) == {frozenset(range(5 * i, 5 * i + 5)) for i in range(4)}


def test_mistakes_are_named():
    rows = np.eye(6)
    with pytest.raises(ValueError, match="6 elements can't make 7 clusters"):
        spectral(rows, 7)
    with pytest.raises(ValueError, match="finite and not zero"):
        spectral(np.where(np.arange(6)[:, None] == 2, 0, rows), 2)
    for config in (
        ClusterConfig(least_frequency=0.1),
        ClusterConfig(most_frequency=0.9),
        ClusterConfig(coactivation=0.1),
    ):
        with pytest.raises(ValueError, match="need `firing` and `tokens`"):
            cluster(rows, config)
    with pytest.raises(ValueError, match="2 of 2 latents fire often enough: too few to group"):
        cluster(rows[:2])
    for make, message in (
        (lambda: ClusterConfig("graphs"), "method='graphs': expected 'graph' or 'spectral'"),
        (lambda: ClusterConfig(affinity="cos"), "affinity='cos': expected 'cosine' or 'angular'"),
        (lambda: ClusterConfig(threshold=-1.5), "threshold=-1.5: a cosine lies between"),
        (lambda: ClusterConfig(count=0), "must be at least 1"),
        (lambda: ClusterConfig(least_size=0), "must be at least 1"),
        (lambda: ClusterConfig(least_frequency=0.5, most_frequency=0.4), "least_frequency <= most_frequency"),
        (lambda: DiscoverConfig(ranking="best"), "ranking='best': expected one of paper, reference, best plane"),
        (lambda: DiscoverConfig(least_points=99), "least_points=99: indices need at least 100"),
        (lambda: DiscoverConfig(components=1), "components=1: a plane needs two"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            make()
