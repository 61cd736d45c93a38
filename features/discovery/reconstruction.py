"""What a group of latents says about each token, and the planes in which to look at it (section 6)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from features.arrays import AnyArray
from features.sae.model import Firing


class FiringIndex:
    """Firings ordered by latent, so that those of a group are found without a search."""

    def __init__(self, firing: Firing, d_sae: int) -> None:
        order = np.argsort(firing.latent, kind="stable")
        self.value, self.token = firing.value[order], firing.token[order]
        self.start = np.searchsorted(firing.latent[order], np.arange(d_sae + 1))

    def of(
        self, latents: Int[np.ndarray, " group"], threshold: float = 0.0
    ) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n group"]]:
        """Tokens on which a latent of the group exceeds the threshold, and the group's activations there."""
        spans = [slice(self.start[j], self.start[j + 1]) for j in latents]
        token = np.concatenate([self.token[s] for s in spans])
        value = np.concatenate([self.value[s] for s in spans])
        place = np.repeat(np.arange(len(latents)), [s.stop - s.start for s in spans])
        strong = value > threshold
        tokens, row = np.unique(token[strong], return_inverse=True)
        active = np.zeros((len(tokens), len(latents)), np.float32)
        active[row, place[strong]] = value[strong]  # a latent fires once per token
        return tokens, active


class Reconstruction(NamedTuple):
    """A group's part of every token on which it fires, in principal coordinates."""

    tokens: Int[np.ndarray, " n"]  # positions in the stream of activations
    points: Float[np.ndarray, "n components"]  # centered principal coordinates, largest variance first
    components: Float[np.ndarray, "components d_in"]  # orthonormal
    mean: Float[np.ndarray, " d_in"]
    variance: Float[np.ndarray, " components"]
    in_latents: Float[np.ndarray, "group components"]  # points = activations @ in_latents - offset


def reconstruct_group(
    index: FiringIndex,
    directions: Float[AnyArray, "d_sae d_in"],
    latents: Int[np.ndarray, " group"],
    *,
    threshold: float = 0.0,
    most: int = 20_000,
    components: int = 5,
) -> Reconstruction:
    """Sum over the group of a_j D_j, without the decoder's bias, on tokens where one of them fires.

    Args: threshold: activations up to it count as zero. most: tokens kept, the first ones.
      components: principal ones kept, at most as many as latents.
    """
    tokens, active = index.of(latents, threshold)
    tokens, active = tokens[:most], active[:most]
    rows = np.asarray(directions[latents], np.float32)
    mean = active.mean(0) @ rows if len(active) else np.zeros(rows.shape[1], np.float32)
    # Everything lies in the span of few rows: principal directions come from a matrix of the group's size.
    _, span, basis = np.linalg.svd(rows, full_matrices=False)
    kept = basis[span > 1e-6 * span[0]]
    small = rows @ kept.T
    inside = (active - active.mean(0) if len(active) else active) @ small
    if len(inside) < 2:
        count = min(components, len(latents), len(kept))
        nothing = np.zeros((len(inside), count), np.float32)
        return Reconstruction(tokens, nothing, kept[:count], mean, np.zeros(count), small[:, :count])
    values, vectors = np.linalg.eigh(np.float64(inside.T) @ inside / len(inside))
    top = np.argsort(-values, kind="stable")[: min(components, len(latents))]
    turn = vectors[:, top].astype(np.float32)
    # Signs are arbitrary; the largest weight is made positive, so that pictures do not flip between runs.
    turn *= np.sign(turn[np.abs(turn).argmax(0), np.arange(turn.shape[1])])
    return Reconstruction(tokens, inside @ turn, turn.T @ kept, mean, values[top], small @ turn)


def planes(components: int) -> list[tuple[int, int]]:
    """Neighboring principal components, from 0; the first is mostly intensity, so circles lie later."""
    return [(i, i + 1) for i in range(max(components - 1, 0))]
