"""Quantize: weights next to an integer become it."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Float

from mips.networks.relu import ReluRNN
from mips.normalize.basis import in_double


def quantize(network: ReluRNN, *, eps: float = 0.01) -> ReluRNN:
    """Rounds every weight and bias within `eps` of an integer."""

    def near(a: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        return np.where(np.abs(a - np.round(a)) < eps, np.round(a), a)

    return jax.tree.map(near, in_double(network))
