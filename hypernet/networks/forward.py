"""Outputs in double precision, for comparisons that single precision would blur."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real

from hypernet.arrays import AnyArray
from hypernet.networks.mlp import MLP, evaluate


def evaluate64(
    mlp: MLP, x: Real[AnyArray, "points inputs"]
) -> Float[np.ndarray, "*networks points"] | Float[np.ndarray, "*networks points outputs"]:
    """f(x) of one network, or of networks side by side, in float64."""
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), mlp)
        return np.asarray(evaluate(double, jnp.asarray(x, jnp.float64)))
