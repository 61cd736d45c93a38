"""Edits of activations as pytrees: patch, ablate, steer at a layer and position.

Compiled functions take them as arguments, so that another layer, position or value is no new program.
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from features.arrays import over_last
from features.lm.decoder import Edit, Site


class Patch(eqx.Module):
    """Overwrites one token's activations at one site of one layer.

    patch(layer, position, value): with `heads` given as a site, `head` says which head.
    """

    layer: Int[Array, ""]
    position: Int[Array, " *batch"]  # column in the batch of tokens, one or one per row
    value: Float[Array, " *rows_and_size"]
    site: Site = eqx.field(static=True, default="resid")
    head: Int[Array, ""] | None = None

    def __call__(
        self, site: Site, layer: Int[Array, ""], x: Float[Array, "batch tokens *size"]
    ) -> Float[Array, "batch tokens *size"]:
        if site != self.site:
            return x
        rows = jnp.arange(x.shape[0])
        column = jnp.broadcast_to(self.position, (x.shape[0],))
        value = self.value.astype(x.dtype)
        if self.head is None:
            written = x.at[rows, column].set(value)
        else:
            written = x.at[rows, column, self.head].set(value)
        return jnp.where(layer == self.layer, written, x)


class Steer(eqx.Module):
    """Adds a direction to the residual stream at one layer, at one column or (position None) everywhere."""

    layer: Int[Array, ""]
    direction: Float[Array, " width"]
    position: Int[Array, " *batch"] | None = None

    def __call__(
        self, site: Site, layer: Int[Array, ""], x: Float[Array, "batch tokens *size"]
    ) -> Float[Array, "batch tokens *size"]:
        if site != "resid":
            return x
        direction = self.direction.astype(x.dtype)
        if self.position is None:
            moved = x + over_last(direction, x)
        else:
            column = jnp.broadcast_to(self.position, (x.shape[0],))
            moved = x.at[jnp.arange(x.shape[0]), column].add(direction)
        return jnp.where(layer == self.layer, moved, x)


class Ablate(eqx.Module):
    """Replaces a subspace of the residual stream by its mean, at one layer and column (or everywhere).

    `basis` (k, width) has orthonormal rows; without it the whole vector becomes `mean`.
    """

    layer: Int[Array, ""]
    mean: Float[Array, " width"]
    basis: Float[Array, "k width"] | None = None
    position: Int[Array, " *batch"] | None = None

    def __call__(
        self, site: Site, layer: Int[Array, ""], x: Float[Array, "batch tokens *size"]
    ) -> Float[Array, "batch tokens *size"]:
        if site != "resid":
            return x
        difference = over_last(self.mean, x) - x
        if self.basis is not None:
            difference = difference @ self.basis.T @ self.basis
        written = x + difference.astype(x.dtype)
        if self.position is not None:
            column = jnp.broadcast_to(self.position, (x.shape[0],))[:, None, None]
            written = jnp.where(jnp.arange(x.shape[1])[None, :, None] == column, written, x)
        return jnp.where(layer == self.layer, written, x)


class Both(eqx.Module):
    """Several edits, one after another."""

    edits: Sequence[Edit]

    def __call__(
        self, site: Site, layer: Int[Array, ""], x: Float[Array, "batch tokens *size"]
    ) -> Float[Array, "batch tokens *size"]:
        for edit in self.edits:
            x = edit(site, layer, x)
        return x
