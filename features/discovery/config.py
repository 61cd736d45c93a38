"""How candidate features are found, measured and ranked: settings alone, which need no jax."""

from __future__ import annotations

import dataclasses
from typing import Literal

from features.irreducibility.limits import FEWEST_POINTS

Affinity = Literal["cosine", "angular"]
Ranking = Literal["paper", "reference", "best plane"]
RANKINGS = ("paper", "reference", "best plane")


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """How dictionary elements are grouped.

    Raises: ValueError for values out of range.
    """

    method: Literal["graph", "spectral"] = "graph"
    """components of a thresholded graph, or spectral clustering"""
    neighbors: int = 2
    """edges go to the k nearest"""
    threshold: float = 0.5
    """cosine that an edge needs"""
    coactivation: float | None = None
    """Jaccard index that also makes an edge; None: cosines only"""
    count: int = 1000
    """clusters of the spectral method"""
    affinity: Affinity = "cosine"
    """max(cos, 0); "angular" is the published one, which tears circles apart"""
    least_frequency: float = 0.0
    """latents that fire on a smaller share of tokens are left out"""
    most_frequency: float = 1.0
    """and those that fire on a larger one"""
    least_size: int = 2
    """latents of a group, at least"""
    most_size: int = 1000
    """larger clusters are skipped, as in the paper"""
    seed: int = 0
    """decides resamples, and the starts of the spectral method"""

    def __post_init__(self) -> None:
        if self.method not in {"graph", "spectral"}:
            raise ValueError(f"method={self.method!r}: expected 'graph' or 'spectral'")
        if self.affinity not in {"cosine", "angular"}:
            raise ValueError(f"affinity={self.affinity!r}: expected 'cosine' or 'angular'")
        if not -1 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold}: a cosine lies between -1 and 1")
        if self.neighbors < 1 or self.count < 1 or self.least_size < 1:
            raise ValueError("neighbors, count and least_size must be at least 1")
        if not 0 <= self.least_frequency <= self.most_frequency <= 1:
            raise ValueError("frequencies must satisfy 0 <= least_frequency <= most_frequency <= 1")


@dataclasses.dataclass(frozen=True)
class DiscoverConfig:
    """How candidates are found, measured and ranked.

    Raises: ValueError for values out of range.
    """

    clusters: ClusterConfig = dataclasses.field(default_factory=ClusterConfig)
    """how dictionary elements are grouped"""
    ranking: Ranking = "paper"
    """mean over planes of (1 - M) S; reference: with a zero more in the mean"""
    activation_threshold: float = 0.0
    """activations up to it count as zero"""
    radius: float = 0.0
    """points of a plane nearer than this to the origin are left out"""
    most_points: int = 20_000
    """per cluster, as in the paper"""
    least_points: int = 200
    """clusters with fewer are not measured"""
    components: int = 5
    """principal ones: planes (1,2) ... (4,5)"""
    bias_correction: bool = True
    """of entropies, which finite samples estimate too low"""
    bootstrap: int = 40
    """resamples for intervals of the first `detailed` candidates"""
    permutations: int = 200
    """for their p-values"""
    detailed: int = 50
    """candidates, from the best on, with intervals and p-values"""

    def __post_init__(self) -> None:
        if self.ranking not in RANKINGS:
            raise ValueError(f"ranking={self.ranking!r}: expected one of {', '.join(RANKINGS)}")
        if self.least_points < FEWEST_POINTS:
            raise ValueError(f"least_points={self.least_points}: indices need at least {FEWEST_POINTS}")
        if self.components < 2:
            raise ValueError(f"components={self.components}: a plane needs two")
