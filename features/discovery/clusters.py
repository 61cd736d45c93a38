"""Groups of dictionary elements: by a thresholded graph or by spectral clustering (section 5)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from features.arrays import AnyArray
from features.discovery.config import Affinity, ClusterConfig
from features.discovery.graph import Neighbors, coactivation, components, nearest, unit_rows
from features.extras import require
from features.sae.model import Firing


def spectral(
    directions: Float[AnyArray, "n d_in"], count: int, *, affinity: Affinity = "cosine", seed: int = 0
) -> Int[np.ndarray, " n"]:
    """Labels of spectral clustering with k-means, by scikit-learn.

    The published affinity, 1 - arccos(cos) / pi, gives orthogonal elements 0.5 and opposite ones of the same
    circle 0, and so cuts circles into arcs; max(cos, 0) does not.
    Above 20,000 elements only the 64 largest affinities of each are kept.
    Raises: ValueError for fewer elements than clusters, or rows that are zero or not finite.
    """
    cluster = require("sklearn.cluster")
    rows = np.asarray(unit_rows(directions))
    if len(rows) < count:
        raise ValueError(f"{len(rows)} elements can't make {count} clusters")

    def similarity(cosine: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        if affinity == "cosine":
            return np.maximum(cosine, 0)
        return 1 - np.arccos(np.clip(cosine, -1, 1)) / np.pi

    if len(rows) <= 20_000:
        cosine = rows @ rows.T
        np.fill_diagonal(cosine, 0)
        matrix = similarity(cosine)
        if affinity == "cosine":
            matrix = matrix + 1e-6  # no isolated elements
    else:
        sparse = require("scipy.sparse")
        found = nearest(rows, 64)
        source = np.repeat(np.arange(len(rows)), 64)
        values = similarity(found.cosine).ravel() + 1e-6
        matrix = sparse.csr_matrix((values, (source, found.index.ravel())), shape=(len(rows),) * 2)
        matrix = matrix.maximum(matrix.T)
    model = cluster.SpectralClustering(
        count, affinity="precomputed", assign_labels="kmeans", random_state=seed
    )
    return model.fit_predict(matrix)


def frequencies(firing: Firing, d_sae: int, tokens: int) -> Float[np.ndarray, " d_sae"]:
    """Share of tokens on which each latent fires."""
    return np.bincount(firing.latent, minlength=d_sae) / max(tokens, 1)


def cluster(
    directions: Float[AnyArray, "d_sae d_in"],
    config: ClusterConfig = ClusterConfig(),  # noqa: B008, frozen
    *,
    firing: Firing | None = None,
    tokens: int | None = None,
) -> list[Int[np.ndarray, " _group"]]:
    """Groups of latents, each a sorted array of indices, larger groups first.

    Args: directions: decoder rows. firing, tokens: what fired on how many tokens; needed for
      frequency pruning and co-activation edges.
    Raises: ValueError where those are missing, or fewer than three elements are left.
    """
    directions = np.asarray(directions, np.float32)
    d_sae = len(directions)
    kept = np.arange(d_sae)
    needs_firing = config.least_frequency > 0 or config.most_frequency < 1 or config.coactivation is not None
    if needs_firing and (firing is None or tokens is None):
        raise ValueError("pruning by frequency and co-activation edges need `firing` and `tokens`")
    if firing is not None and tokens is not None:
        share = frequencies(firing, d_sae, tokens)
        kept = np.flatnonzero(
            (share >= config.least_frequency) & (share <= config.most_frequency) & (share > 0)
        )
    if len(kept) <= max(config.neighbors, 2):
        raise ValueError(f"{len(kept)} of {d_sae} latents fire often enough: too few to group")
    if config.method == "spectral":
        labels = spectral(directions[kept], config.count, affinity=config.affinity, seed=config.seed)
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    else:
        more: tuple[tuple[Neighbors, float], ...] = ()
        if config.coactivation is not None and firing is not None:
            place = np.full(d_sae, -1)
            place[kept] = np.arange(len(kept))
            inside = place[firing.latent] >= 0
            local = Firing(firing.value[inside], place[firing.latent[inside]], firing.token[inside])
            more = ((coactivation(local, len(kept)), config.coactivation),)
        groups = components(nearest(directions[kept], config.neighbors), config.threshold, *more)
    groups = [kept[group] for group in groups if config.least_size <= len(group) <= config.most_size]
    return sorted(groups, key=lambda group: (-len(group), group[0]))
