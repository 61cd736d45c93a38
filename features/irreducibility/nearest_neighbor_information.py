"""Mutual information in more than two dimensions, where histograms have too few points.

Kraskov, Stoegbauer and Grassberger's first estimator (2004), over nearest neighbors found by scipy. Its
least value over rotations and splits estimates S; candidates are the axes of an independent component
analysis (which separates what is separable), principal axes and random rotations, refined by turns.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float

from features.extras import require

_MOST_SPLITS = 20  # per size


def information(a: Float[np.ndarray, "n k"], b: Float[np.ndarray, "n l"], neighbors: int = 5) -> float:
    """I(a; b) in bits of samples (n, k) and (n, l)."""
    scipy_spatial, digamma = require("scipy.spatial"), require("scipy.special").digamma
    both = np.concatenate([a, b], 1)
    tree = scipy_spatial.cKDTree(both)
    radius = tree.query(both, neighbors + 1, p=np.inf)[0][:, -1]
    radius = np.nextafter(radius, 0)
    counts = [
        scipy_spatial.cKDTree(part).query_ball_point(part, radius, p=np.inf, return_length=True)
        for part in (a, b)
    ]
    n = len(a)
    nats = digamma(neighbors) + digamma(n) - np.mean(sum(digamma(np.maximum(c, 1)) for c in counts))
    return float(nats / np.log(2))


def _best_split(points: Float[np.ndarray, "n d"]) -> float:
    """Least information between k coordinates and the rest; of very many splits, some."""
    d = points.shape[1]
    found = []
    for k in range(1, d // 2 + 1):
        splits = list(itertools.combinations(range(d), k))
        if 2 * k == d:
            splits = splits[: len(splits) // 2]  # the rest are the same with both parts exchanged
        for chosen in splits[:: max(1, len(splits) // _MOST_SPLITS)]:
            rest = [i for i in range(d) if i not in chosen]
            found.append(information(points[:, list(chosen)], points[:, rest]))
    return min(found)


def least_information(
    points: Float[np.ndarray, "n d"], *, rotations: int = 12, most: int = 1500, seed: int = 0
) -> float:
    """S in bits of a cloud (n, d): the least information over rotations and splits, at least 0.

    Args: rotations: random ones that are tried. most: points that are used (drawn at random).
    """
    decomposition = require("sklearn.decomposition")
    import warnings

    rng = np.random.default_rng(seed)
    points = np.asarray(points, np.float64)
    if len(points) > most:
        points = points[rng.choice(len(points), most, replace=False)]
    points = points - points.mean(0)
    d = points.shape[1]
    principal = np.linalg.svd(points, full_matrices=False)[2]
    candidates = [np.eye(d), principal]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ICA need not converge: it only proposes
        ica = decomposition.FastICA(d, random_state=seed, max_iter=500).fit(points)
    u, _, vt = np.linalg.svd(ica.components_)
    candidates.append(u @ vt)
    candidates += [np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(rotations)]
    values = [_best_split(points @ c.T) for c in candidates]
    best, value = candidates[int(np.argmin(values))], min(values)
    for size in (0.3, 0.1):
        for _ in range(6):
            i, j = rng.choice(d, 2, replace=False)
            angle = size * rng.normal()
            turn = np.eye(d)
            turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
            if (tried := _best_split(points @ (turn @ best).T)) < value:
                best, value = turn @ best, tried
    return max(value, 0.0)
