"""De-bias: biases that the recurrence never reads move to the output."""

from __future__ import annotations

import numpy as np

from mips.networks.relu import Affine, ReluRNN
from mips.normalize.basis import in_double, replace_layers


def debias(network: ReluRNN, *, eps: float = 0.1) -> ReluRNN:
    """Moves the bias written into the null space of f's hidden columns from the state to the output."""
    network = in_double(network)
    _, s, vh = np.linalg.svd(network.transition[0].weight[:, : network.hidden])
    rank = int((s > eps).sum())
    unread = vh[rank:].T @ vh[rank:]
    f, g = network.transition[-1], network.readout[0]
    # Exact where these singular values are zero; up to eps the state is read a little after all.
    moved = unread @ f.bias
    return replace_layers(
        network,
        {len(network.transition) - 1: Affine(f.weight, f.bias - moved)},
        {0: Affine(g.weight, g.bias + g.weight @ moved)},
    )
