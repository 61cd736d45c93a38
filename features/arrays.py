"""Words for arrays in annotations, and vectors that meet the last axis of an array."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

AnyArray = Array | np.ndarray
"""What functions take where numpy's arrays do as well as jax's."""


def over_last(
    vector: Shaped[Array, "*last"], x: Shaped[AnyArray, "*batch width"]
) -> Shaped[Array, "*ones_and_last"]:
    """A vector or number with as many axes as x: it meets the last one, and no rank is promoted silently."""
    return jnp.expand_dims(vector, tuple(range(x.ndim - vector.ndim)))
