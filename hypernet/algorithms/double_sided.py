"""Double-sided: |x|_1 = sum_i ReLU(x_i) + sum_i ReLU(-x_i), with 2n hidden units."""

from __future__ import annotations

import numpy as np

from hypernet.algorithms.spikes import check, missing_mean
from hypernet.networks.mlp import MLP


def double_sided(n: int, *, k: float = 10.0, activation: str = "swish", corrected: bool = False) -> MLP:
    """W = k [I, -I], v = 1 / k: exact for ReLU, sum_i x_i tanh(k x_i / 2) for swish.

    Args: k: steepness. corrected: remove the mean error on standard normal inputs through c.
    Raises: ValueError for n < 1, k <= 0 or an activation that does not become ReLU when it is steep.
    """
    check(n, k, activation)
    eye = np.eye(n)
    return MLP(
        weights=(k * np.hstack([eye, -eye]),),
        biases=(np.zeros(2 * n),),
        v=np.full(2 * n, 1 / k),
        c=np.float64(n * missing_mean(k, activation) if corrected else 0.0),
        activation=activation,
    )
