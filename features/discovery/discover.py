"""One call from an autoencoder and activations to a ranked table of candidate features (sections 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray, Shaped

from features.arrays import AnyArray
from features.circles import fit as circles
from features.discovery.clusters import cluster
from features.discovery.config import DiscoverConfig, Ranking
from features.discovery.nulls import false_discovery, independence_test
from features.discovery.reconstruction import FiringIndex, Reconstruction, planes, reconstruct_group
from features.irreducibility.limits import FEWEST_POINTS
from features.irreducibility.measure import (
    Irreducibility,
    measure_many,
    pooled_indices,
    rank_of,
)
from features.sae.model import SAE, Firing, firings


class Candidate(NamedTuple):
    """A group of latents and how irreducible its planes are."""

    latents: Int[np.ndarray, " group"]
    score: float
    planes: dict[tuple[int, int], Irreducibility]  # principal components, counted from 0
    reconstruction: Reconstruction
    p_value: float | None = None
    """were its latents to fire independently of each other (`discovery.nulls`)"""
    q_value: float | None = None
    """false discovery rate of Benjamini and Hochberg, over all groups that were measured"""

    @property
    def best_plane(self) -> tuple[int, int]:
        return max(self.planes, key=lambda plane: self.planes[plane].score)

    @property
    def separability(self) -> float:
        """Mean over planes, in bits; what the paper plots."""
        return float(np.mean([p.separability for p in self.planes.values()]))

    @property
    def mixture(self) -> float:
        """Mean over planes."""
        return float(np.mean([p.mixture for p in self.planes.values()]))


class Discovery(NamedTuple):
    """Ranked candidates, best first."""

    candidates: list[Candidate]
    groups: int  # found by clustering, measured or not
    tokens: int

    def table(self, first: int = 20) -> list[dict[str, object]]:
        """Plain rows of the first candidates, for printing or JSON."""
        return [
            {
                "rank": rank,
                "latents": [int(j) for j in c.latents],
                "score": round(c.score, 4),
                "S": round(c.separability, 4),
                "M": round(c.mixture, 4),
                "best plane": [i + 1 for i in c.best_plane],
                "S best": round(c.planes[c.best_plane].separability, 4),
                "S interval": c.planes[c.best_plane].separability_interval,
                "M best": round(c.planes[c.best_plane].mixture, 4),
                "M interval": c.planes[c.best_plane].mixture_interval,
                "p": c.p_value,
                "q": None if c.q_value is None else round(c.q_value, 4),
                "points": len(c.reconstruction.points),
            }
            for rank, c in enumerate(self.candidates[:first], 1)
        ]


def score(found: Sequence[Irreducibility], ranking: Ranking) -> float:
    """(1 - M) S over the planes of a cluster.

    "paper": the mean; "reference": with an extra zero in it and planes of M < 0.01 left out; "best
    plane": the largest.
    """
    if ranking == "best plane":
        return max(p.score for p in found)
    if ranking == "paper":
        return float(np.mean([p.score for p in found]))
    kept = [p.score for p in found if p.mixture >= 0.01]
    return float(np.sum(kept) / (len(kept) + 1))


def _plane(
    points: Float[np.ndarray, "n components"], plane: tuple[int, int], radius: float
) -> Float[np.ndarray, "kept 2"]:
    flat = points[:, list(plane)]
    return flat[np.linalg.norm(flat, axis=1) >= radius] if radius > 0 else flat


def discover(
    sae: SAE,
    activations: Shaped[AnyArray, "..."] | None = None,
    config: DiscoverConfig = DiscoverConfig(),  # noqa: B008, frozen
    *,
    key: PRNGKeyArray,
    firing: Firing | None = None,
    tokens: int | None = None,
) -> Discovery:
    """Groups the dictionary, measures every group's planes and ranks them. Nothing about the text is used.

    Args: activations: what the autoencoder reads; or `firing` and `tokens`, where they were encoded before.
    Raises: ValueError for activations of another width, not finite or constant, and where no group has points
      enough to be measured.
    """
    if firing is None:
        if activations is None:
            raise ValueError("discover needs activations, or firing and tokens")
        x = activations if isinstance(activations, np.ndarray) else np.asarray(activations)
        firing, tokens = firings(sae, x), len(x)
    if not len(firing.latent):
        raise ValueError("no latent fires on these activations")
    if firing.latent.max() >= sae.config.d_sae:
        raise ValueError(f"latent {firing.latent.max()} fires, but the SAE has d_sae={sae.config.d_sae}")
    tokens = tokens if tokens is not None else int(firing.token.max()) + 1
    directions = np.asarray(sae.W_dec)
    groups = cluster(directions, config.clusters, firing=firing, tokens=tokens)
    index = FiringIndex(firing, len(directions))
    drafts, clouds, owners = [], [], []
    for latents in groups:
        found = reconstruct_group(
            index, directions, latents,
            threshold=config.activation_threshold, most=config.most_points, components=config.components,
        )  # fmt: skip
        if len(found.points) < config.least_points:
            continue
        for plane in planes(found.points.shape[1]):
            cloud = _plane(found.points, plane, config.radius)
            flat = len(cloud) < FEWEST_POINTS or (cloud == cloud[:1]).all()
            if not flat:
                clouds.append(cloud)
                owners.append((len(drafts), plane))
        drafts.append((latents, found))
    if not clouds:
        raise ValueError(
            f"none of {len(groups)} groups ({sum(len(g) < 2 for g in groups)} of a single latent, which has "
            f"no plane) fires on {config.least_points} tokens: lower least_points, give more activations, or "
            "lower the threshold of the graph"
        )
    measured: list[dict[tuple[int, int], Irreducibility]] = [{} for _ in drafts]
    results = measure_many(clouds, bias_correction=config.bias_correction)
    for (owner, plane), result in zip(owners, results, strict=True):
        measured[owner][plane] = result
    candidates = [
        Candidate(latents, score(list(per_plane.values()), config.ranking), per_plane, found)
        for (latents, found), per_plane in zip(drafts, measured, strict=True)
        if per_plane
    ]
    candidates.sort(key=lambda c: -c.score)
    seeds = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    for number, candidate in enumerate(candidates[: config.detailed]):
        candidates[number] = _with_details(candidate, index, directions, tokens, config, seeds)
    rates = false_discovery([c.p_value for c in candidates])
    candidates = [c._replace(q_value=rate) for c, rate in zip(candidates, rates, strict=True)]
    return Discovery(candidates, len(groups), tokens)


def _with_details(
    candidate: Candidate,
    index: FiringIndex,
    directions: Float[np.ndarray, "d_sae d_in"],
    tokens: int,
    config: DiscoverConfig,
    rng: np.random.Generator,
) -> Candidate:
    """Intervals of the best plane and a permutation p-value."""
    plane = candidate.best_plane
    cloud = _plane(candidate.reconstruction.points, plane, config.radius)
    found = candidate.planes[plane]
    if rank_of(cloud) < 2:
        return candidate
    p_value = None
    if config.permutations:
        p_value = independence_test(
            index, directions, candidate.latents, tokens, config.permutations, rng,
            threshold=config.activation_threshold, components=config.components,
        )  # fmt: skip
    if config.bootstrap:
        n = len(cloud)
        drawn = np.array(
            pooled_indices(
                [cloud[rng.integers(0, n, n)] for _ in range(config.bootstrap)], config.bias_correction
            )
        )
        shifted = drawn - drawn.mean(0) + np.array([found.separability, found.mixture])
        low, high = np.quantile(shifted, [0.025, 0.975], axis=0)
        found = found._replace(
            separability_interval=(round(max(float(low[0]), 0.0), 4), round(float(high[0]), 4)),
            mixture_interval=(round(max(float(low[1]), 0.0), 4), round(min(float(high[1]), 1.0), 4)),
        )
    return candidate._replace(planes={**candidate.planes, plane: found}, p_value=p_value)


class Annotation(NamedTuple):
    """How a candidate relates to a cyclic concept, by the tokens on which it fires."""

    share: float  # of its tokens that name the concept
    covered: int  # members of the concept among its tokens
    plane: tuple[int, int] | None
    order: circles.NullTest | None  # cyclic order of the members' means in that plane
    fit: circles.NullTest | None  # r^2 of a circle through them
    labels: Int[np.ndarray, " n"]  # member of each token, -1 for other tokens


def _best_circle(
    inverses: list[Float[np.ndarray, "2 period"]],
    flats: list[Float[np.ndarray, "period 2"]],
    target: Float[np.ndarray, "period 2"],
) -> tuple[int, float]:
    """Plane whose centered class means map best onto the target circle, and that r^2."""
    errors = [
        ((target - flat @ (inverse @ target)) ** 2).sum()
        for flat, inverse in zip(flats, inverses, strict=True)
    ]
    best = int(np.argmin(errors))
    return best, 1 - errors[best] / (target**2).sum()


def annotate(
    candidate: Candidate,
    labels: Shaped[AnyArray, "..."],
    period: int,
    *,
    permutations: int = 2000,
    key: PRNGKeyArray,
) -> Annotation:
    """Looks at a candidate with labels in hand; nothing of it enters the ranking.

    Args: labels: (tokens,) for the whole stream: 0 ... period - 1 for the concept's members, else -1.
    The plane is the one whose class means fit a circle best. Both p-values account for that choice:
    their nulls relabel the members at random and choose the plane anew.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) <= candidate.reconstruction.tokens.max():
        raise ValueError(f"labels have shape {labels.shape}; one is needed for every token of the stream")
    if labels.max() >= period:
        raise ValueError(f"labels up to {labels.max()}: expected -1 to {period - 1}")
    here = labels[candidate.reconstruction.tokens]
    share = float((here >= 0).mean())
    covered = len(set(here[here >= 0].tolist()))
    options = planes(candidate.reconstruction.points.shape[1])
    if covered < period or period < 4 or not options:
        return Annotation(share, covered, None, None, None, here)
    points, members = candidate.reconstruction.points[here >= 0], here[here >= 0]
    means = np.asarray(circles.class_means(points, members, period), np.float64)
    means = means - means.mean(0)
    flats = [means[:, list(option)] for option in options]
    inverses = [np.linalg.pinv(flat) for flat in flats]
    target = np.asarray(circles.circle(np.arange(period), period), np.float64)
    best, r_squared = _best_circle(inverses, flats, target)
    order = circles.order_score(flats[best])
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    orders, fits = np.empty(permutations), np.empty(permutations)
    for draw in range(permutations):
        relabeled = rng.permutation(period)
        chosen, fits[draw] = _best_circle(inverses, flats, target[relabeled])
        orders[draw] = circles.order_score(flats[chosen][np.argsort(relabeled)])

    def p_value(null: Float[np.ndarray, " permutations"], value: float) -> float:
        return float((1 + (null >= value - 1e-9).sum()) / (1 + permutations))

    return Annotation(
        share, covered, options[best],
        circles.NullTest(order, orders, p_value(orders, order), circles.closed(flats[best])),
        circles.NullTest(float(r_squared), fits, p_value(fits, r_squared), circles.closed(flats[best])),
        here,
    )  # fmt: skip
