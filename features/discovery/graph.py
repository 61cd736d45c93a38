"""Which dictionary elements belong together: the nearest by angle, and those that fire together (section 5).

A sparse code of an irreducible feature tiles it with elements of high mutual cosine, while elements of other
features are nearly orthogonal to them.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from features.arrays import AnyArray
from features.extras import require
from features.sae.model import Firing


class Neighbors(NamedTuple):
    """The k most similar elements of each element, best first."""

    index: Int[np.ndarray, "n k"]
    cosine: Float[np.ndarray, "n k"]


_Best = tuple[Float[Array, "block k"], Int[Array, "block k"]]  # cosines and indices


@functools.partial(jax.jit, static_argnames=("k", "tile"))
def _block_neighbors(
    block: Float[Array, "block d"], first: Int[Array, ""], rows: Float[Array, "n d"], k: int, tile: int
) -> _Best:
    """Top k of a block of rows against all rows, one tile of columns at a time."""
    n = rows.shape[0]
    tiles = -(-n // tile)

    def merge(carry: _Best, number: Int[Array, ""]) -> tuple[_Best, None]:
        # The last tile overlaps its neighbor: columns already seen are left out.
        start = jnp.minimum(number * tile, n - tile)
        columns = start + jnp.arange(tile)
        part = jax.lax.dynamic_slice_in_dim(rows, start, tile)
        cosine = block @ part.T
        itself = columns[None] == first + jnp.arange(block.shape[0])[:, None]
        cosine = jnp.where(itself | (columns < number * tile)[None], -jnp.inf, cosine)
        values, found = jax.lax.top_k(cosine, k)
        values = jnp.concatenate([carry[0], values], 1)
        indices = jnp.concatenate([carry[1], start + found], 1)
        best, order = jax.lax.top_k(values, k)
        return (best, jnp.take_along_axis(indices, order, 1)), None

    empty = (jnp.full((block.shape[0], k), -jnp.inf), jnp.zeros((block.shape[0], k), jnp.int32))
    return jax.lax.scan(merge, empty, jnp.arange(tiles))[0]


def unit_rows(directions: Float[AnyArray, "n d"]) -> Float[Array, "n d"]:
    """Rows of norm 1, in single precision; ValueError for rows that are zero or not finite."""
    rows = jnp.asarray(directions, jnp.float32)
    largest = jnp.abs(rows).max(1, keepdims=True)
    if not bool(jnp.isfinite(largest).all() & (largest > 0).all()):
        raise ValueError("directions must be finite and not zero")
    rows = rows / largest  # before the squares, which single precision may not hold
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)


def nearest(
    directions: Float[AnyArray, "n d"], k: int = 2, *, block: int = 1024, tile: int = 8192
) -> Neighbors:
    """The k nearest elements by cosine, without ever holding more than block x tile cosines.

    65,536 elements need 70 MB beside the dictionary itself, where all cosines would be 17 GB.
    Raises: ValueError for k out of range, or rows that are zero or not finite.
    """
    n = len(directions)
    if not 1 <= k < n:
        raise ValueError(f"k={k}: expected 1 <= k < {n}, the number of elements")
    rows = unit_rows(directions)
    block, tile = min(block, n), max(min(tile, n), k)
    indices, cosines = [], []
    for start in range(0, n, block):
        first = min(start, n - block)  # the last block overlaps: one shape, one program
        cosine, index = _block_neighbors(rows[first : first + block], first, rows, k, tile)
        indices.append(np.asarray(index)[start - first :])
        cosines.append(np.asarray(cosine)[start - first :])
    return Neighbors(np.concatenate(indices), np.concatenate(cosines))


def coactivation(firing: Firing, d_sae: int, *, most: int = 32) -> Neighbors:
    """The latents with which each one shares most tokens: Jaccard index, |A and B| / |A or B|, best first.

    Places beyond those that ever fire together hold index 0 and similarity -inf.
    """
    sparse = require("scipy.sparse")
    tokens = int(firing.token.max()) + 1 if len(firing.token) else 1
    ones = np.ones(len(firing.token), np.float32)
    fires = sparse.csr_matrix((ones, (firing.latent, firing.token)), shape=(d_sae, tokens))
    count = np.asarray(fires.sum(1)).ravel()
    index = np.zeros((d_sae, most), np.int32)
    value = np.full((d_sae, most), -np.inf, np.float32)
    for start in range(0, d_sae, 1024):
        both = (fires[start : start + 1024] @ fires.T).tocsr()
        for row in range(both.shape[0]):
            latent = start + row
            span = slice(both.indptr[row], both.indptr[row + 1])
            others, shared = both.indices[span], both.data[span]
            keep = others != latent
            others, shared = others[keep], shared[keep]
            jaccard = shared / (count[latent] + count[others] - shared)
            best = np.argsort(-jaccard, kind="stable")[:most]
            index[latent, : len(best)] = others[best]
            value[latent, : len(best)] = jaccard[best]
    return Neighbors(index, value)


def components(
    neighbors: Neighbors, threshold: float, *more: tuple[Neighbors, float]
) -> list[Int[np.ndarray, " _group"]]:
    """Connected components, largest first, of the edges above a threshold; `more` graphs add theirs.

    Every component is a sorted array of latents; those of one latent are included.
    """
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(len(neighbors.index)))
    for found, least in ((neighbors, threshold), *more):
        source, place = np.nonzero(found.cosine > least)
        graph.add_edges_from(zip(source.tolist(), found.index[source, place].tolist(), strict=True))
    parts = [np.array(sorted(part)) for part in nx.connected_components(graph)]
    return sorted(parts, key=lambda part: (-len(part), part[0]))
