"""Diagonal Gaussian latents against a standard normal prior: the price of a network.

One description-length convention holds everywhere: a network costs KL(q || p) nats, summed over all its
latents; `bits` divides by ln 2.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

Nats = TypeVar("Nats", float, np.floating, Real[np.ndarray, "..."], Real[Array, "..."])


class Gaussian(NamedTuple):
    """A diagonal Gaussian over the last axis."""

    mean: Float[Array, "... z"]
    log_scale: Float[Array, "... z"]

    def at(self, noise: Float[Array, "... z"]) -> Float[Array, "... z"]:
        """The sample that standard normal noise gives."""
        return self.mean + jnp.exp(self.log_scale) * noise


_NARROWEST, _WIDEST = -7.0, 0.3  # log-scales of posteriors; beyond them rounding and divergence begin
_START = -1.0  # log-scale that an output of zero stands for


def log_scale_of(output: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """The log-scale of a posterior from what its perceptron says of it."""
    return jnp.clip(2 * output + _START, _NARROWEST, _WIDEST)


def kl_to_standard(q: Gaussian) -> Float[Array, "..."]:
    """KL(N(mean, scale^2) || N(0, 1)) in nats, summed over the last axis."""
    return 0.5 * jnp.sum(jnp.expm1(2 * q.log_scale) + q.mean**2 - 2 * q.log_scale, axis=-1)


def kl_between(q: Gaussian, p: Gaussian) -> Float[Array, "..."]:
    """KL(q || p) of diagonal Gaussians in nats, summed over the last axis."""
    shift = (q.mean - p.mean) * jnp.exp(-p.log_scale)
    ratio = q.log_scale - p.log_scale
    return 0.5 * jnp.sum(jnp.expm1(2 * ratio) + shift**2 - 2 * ratio, axis=-1)


def bits(nats: Nats) -> Nats:
    """Nats as bits."""
    return nats / math.log(2)
