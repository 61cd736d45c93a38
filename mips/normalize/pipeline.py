"""All normalizers in the paper's order, each checked for what it did to the function."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

from mips.networks.relu import Affine, ReluRNN
from mips.normalize.basis import in_double
from mips.normalize.debias import debias
from mips.normalize.jordan import jordan
from mips.normalize.quantize import quantize
from mips.normalize.toeplitz import toeplitz
from mips.normalize.whiten import whiten


class Step(NamedTuple):
    """A normalizer's result."""

    name: str
    network: ReluRNN
    change: float  # largest change of an output on the test sequences
    kept: bool  # whether it was kept


def run(
    network: ReluRNN, x: Real[np.ndarray, "count length inputs"]
) -> tuple[Float[np.ndarray, "count length n"], Float[np.ndarray, "count length outputs"]]:
    """Hidden states (count, length, n) and outputs (count, length, outputs) in float64."""
    network = in_double(network)

    def mlp(layers: tuple[Affine, ...], a: Float[np.ndarray, "count in"]) -> Float[np.ndarray, "count out"]:
        for layer in layers[:-1]:
            a = np.maximum(a @ layer.weight.T + layer.bias, 0)
        return a @ layers[-1].weight.T + layers[-1].bias

    hidden = np.zeros((len(x), network.hidden))
    states, outputs = [], []
    for t in range(x.shape[1]):
        hidden = mlp(network.transition, np.concatenate([hidden, x[:, t]], axis=1))
        states.append(hidden)
        outputs.append(mlp(network.readout, hidden))
    return np.stack(states, axis=1), np.stack(outputs, axis=1)


def normalize(
    network: ReluRNN,
    x: Real[np.ndarray, "count length inputs"],
    *,
    jordan_eps: float = 0.7,
    tolerance: float | None = None,
) -> list[Step]:
    """Whitening, Jordan form, Toeplitz, de-bias, quantize; each applied to the last kept result.

    Args: x: input sequences (count, length, inputs) for whitening and for checking.
        jordan_eps: what counts as equal eigenvalues (0.7 in the paper's driver).
        tolerance: largest change of an output with which a step is kept; None keeps all, as published.
    """
    network = in_double(network)
    states, reference = run(network, x)
    hammers = (
        ("whiten", lambda net: whiten(net, states.reshape(-1, net.hidden))),
        ("jordan", lambda net: jordan(net, eps=jordan_eps)),
        ("toeplitz", toeplitz),
        ("debias", debias),
        ("quantize", quantize),
    )
    steps = []
    for name, hammer in hammers:
        changed = hammer(network)
        change = float(np.abs(run(changed, x)[1] - reference).max())
        kept = tolerance is None or change <= tolerance
        if kept:
            network = changed
        steps.append(Step(name, network, change, kept))
    return steps
