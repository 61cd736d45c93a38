"""Is a group more than latents that fire independently? A null that keeps what each latent does by itself.

Every latent's activations are moved to other tokens, and the group goes through everything that it went
through before: the tokens on which it fires, principal axes, planes. It is judged by the least mixture index
of the planes, and by how often pairs of latents fire together. (Permuting coordinates of the points instead
would call any group dependent: leaving out tokens without a firing, and turning to principal axes, make
independent latents so.) Latents whose directions overlap fire together on anything, noise included: such
groups are not independent, and the test says no more.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from features.discovery.reconstruction import FiringIndex, planes, reconstruct_group
from features.irreducibility.limits import FEWEST_POINTS
from features.irreducibility.measure import padded_length
from features.irreducibility.mixture import fast_sweep
from features.sae.model import Firing

_MOST_POINTS = 1000  # of a group that are looked at, drawn anew each time
_DIRECTIONS, _OFFSETS = 45, 201  # coarser than where M is reported: the true group is measured alike


class Statistics(NamedTuple):
    """Of a group's firings, each small under dependence."""

    mixture: float
    """least M over the planes; 1 without a plane"""
    agreement: float
    """minus chi squared of how often pairs of latents fire together, against independence"""


def statistics(
    index: FiringIndex,
    rows: Float[np.ndarray, "group d_in"],
    tokens: int,
    rng: np.random.Generator,
    *,
    threshold: float = 0.0,
    components: int = 5,
) -> Statistics:
    """What a group is judged by. Its latents are 0 ... group - 1 of the index."""
    latents = np.arange(len(rows))
    on, active = index.of(latents, threshold)
    fires = (active > 0).astype(np.float64)
    together, alone = fires.T @ fires, fires.sum(0)
    expected = np.maximum(np.outer(alone, alone) / tokens, 1e-12)
    pairs = np.triu_indices(len(rows), 1)
    agreement = -float((((together - expected) ** 2 / expected)[pairs]).sum())
    found = reconstruct_group(
        index, rows, latents, threshold=threshold, most=max(len(on), 1), components=components
    )
    points = found.points
    if len(points) < FEWEST_POINTS:
        return Statistics(1.0, agreement)
    if len(points) > _MOST_POINTS:
        points = points[rng.choice(len(points), _MOST_POINTS, replace=False)]
    length = padded_length(len(points))
    valid = np.arange(length) < len(points)
    least = 1.0
    for plane in planes(points.shape[1]):
        padded = np.zeros((length, 2), np.float32)
        padded[: len(points)] = points[:, list(plane)]
        if np.ptp(padded[: len(points)], axis=0).min() > 0:
            band = fast_sweep(jnp.asarray(padded), valid, directions=_DIRECTIONS, offsets=_OFFSETS)
            least = min(least, float(band.share))
    return Statistics(least, agreement)


def independence_test(
    index: FiringIndex,
    directions: Float[np.ndarray, "d_sae d_in"],
    latents: Int[np.ndarray, " group"],
    tokens: int,
    permutations: int,
    rng: np.random.Generator,
    *,
    threshold: float = 0.0,
    components: int = 5,
) -> float:
    """p-value of a group, were its latents independent of each other: twice the smaller of two.

    One is of the least mixture index, one of how often pairs fire together.

    Args: tokens: of the stream, over which each latent's activations are spread at random in the null; how
      often a latent fires and how strongly stays as it is.
    """
    spans = [slice(index.start[j], index.start[j + 1]) for j in latents]
    values = [index.value[span] for span in spans]
    rows = np.asarray(directions[latents], np.float32)
    number = np.repeat(np.arange(len(latents)), [len(v) for v in values])

    def of(places: Sequence[Int[np.ndarray, " _count"]], own: np.random.Generator) -> Statistics:
        firing = Firing(np.concatenate(values), number, np.concatenate(places))
        return statistics(
            FiringIndex(firing, len(latents)), rows, tokens, own, threshold=threshold, components=components
        )

    def shuffled(own: np.random.Generator) -> Statistics:
        return of([own.choice(tokens, len(v), replace=False) for v in values], own)

    children = rng.spawn(permutations + 1)
    true = np.array(of([index.token[span] for span in spans], children[0]))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        null = np.array(list(pool.map(shuffled, children[1:])))
    p_values = (1 + (null <= true).sum(0)) / (1 + permutations)
    return float(min(2 * p_values.min(), 1.0))


def false_discovery(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini and Hochberg's q for each p; groups that were not tested count as p = 1, and have none.

    So the number of groups is accounted for, however few of them are looked at.
    """
    p = np.array([1.0 if value is None else value for value in p_values])
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return [None if value is None else float(each) for value, each in zip(p_values, q, strict=True)]
