"""p-values of groups: uniform where latents are independent, small where they lie around a circle; q over groups."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.discovery.nulls import false_discovery, independence_test
from features.discovery.reconstruction import FiringIndex
from features.sae.model import Firing

TOKENS = 3000


def independent(rng, size, width=16):
    """Latents that fire now and then, by themselves, in any directions."""
    parts = []
    for j in range(size):
        on = np.flatnonzero(rng.random(TOKENS) < rng.uniform(0.03, 0.15))
        parts.append((rng.exponential(size=len(on)).astype(np.float32) + 0.1, np.full(len(on), j), on))
    value, latent, token = (np.concatenate(part) for part in zip(*parts, strict=True))
    return FiringIndex(Firing(value, latent, token), size), rng.normal(size=(size, width)).astype(np.float32)


def ring(rng, size, width=16):
    """Latents around a circle, of which neighbors fire together."""
    plane = np.linalg.qr(rng.normal(size=(width, 2)))[0].T
    angle = 2 * np.pi * np.arange(size) / size
    on = np.flatnonzero(rng.random(TOKENS) < 0.15)
    where, radius = rng.uniform(0, 2 * np.pi, (len(on), 1)), rng.uniform(0.8, 1.2, (len(on), 1))
    active = np.maximum(radius * np.cos(where - angle) - 0.3, 0).astype(np.float32)
    row, latent = np.nonzero(active)
    rows = np.stack([np.cos(angle), np.sin(angle)], 1) @ plane
    return FiringIndex(Firing(active[row, latent], latent, on[row]), size), rows.astype(np.float32)


def p_values(make, count, permutations=19):
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        size = int(rng.integers(3, 7))
        index, rows = make(rng, size)
        found.append(independence_test(index, rows, np.arange(size), TOKENS, permutations, rng))
    return np.array(found)


@pytest.mark.slow
def test_independent_latents_are_called_dependent_as_often_as_said():
    """Of 200 groups: 0.02 to 0.08 at the level 0.05, and no other level much beside."""
    found = p_values(independent, 200, permutations=39)
    assert 0.02 <= np.mean(found <= 0.05) <= 0.08
    for level in (0.1, 0.25, 0.5, 0.75):
        assert np.mean(found <= level) - level < 4 * np.sqrt(level * (1 - level) / 200)


def test_planted_circles_are_found():
    assert (p_values(ring, 8) == 2 / 20).all()  # as small as 19 permutations give


def test_names_of_latents_and_seeds_decide():
    """The same group under other numbers in a larger dictionary; and the same seed gives the same p."""
    index, rows = independent(np.random.default_rng(1), 4)
    moved = FiringIndex(Firing(index.value, np.repeat([9, 2, 5, 7], np.diff(index.start)), index.token), 12)
    wide = np.zeros((12, rows.shape[1]), np.float32)
    wide[[9, 2, 5, 7]] = rows
    found = [
        independence_test(*group, TOKENS, 19, np.random.default_rng(3))
        for group in (
            (index, rows, np.arange(4)),
            (index, rows, np.arange(4)),
            (moved, wide, np.array([9, 2, 5, 7])),
        )
    ]
    assert found[0] == found[1] == found[2]


def test_a_group_that_hardly_fires_is_no_discovery():
    index = FiringIndex(Firing(np.ones(4, np.float32), np.array([0, 0, 1, 1]), np.array([0, 5, 0, 7])), 2)
    rows, rng = np.eye(2, 6, dtype=np.float32), np.random.default_rng(0)
    assert independence_test(index, rows, np.arange(2), 50, 99, rng) > 0.05


@given(st.lists(st.none() | st.floats(0, 1), max_size=30))
def test_false_discovery_rates(p_values):
    """Benjamini and Hochberg's rule at any level, untested groups counted as p = 1."""
    q = false_discovery(p_values)
    assert [each is None for each in q] == [p is None for p in p_values]
    counted = np.array([1.0 if p is None else p for p in p_values])
    for level in (0.01, 0.05, 0.2):
        line = level * np.arange(1, len(counted) + 1) / max(len(counted), 1)
        below = np.flatnonzero(np.sort(counted) <= line)
        threshold = np.sort(counted)[below[-1]] if len(below) else -1.0
        for p, each in zip(p_values, q, strict=True):
            if p is not None and abs(each - level) > 1e-9:
                assert (each <= level) == (p <= threshold)
