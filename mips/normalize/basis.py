"""Changes of hidden coordinates."""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from mips.networks.relu import Affine, ReluRNN

Matrix = Float[np.ndarray, "n n"]


def in_double(network: ReluRNN) -> ReluRNN:
    """The weights as float64 numpy arrays."""
    return jax.tree.map(lambda a: np.asarray(a, np.float64), network)


def replace_layers(
    network: ReluRNN, transition: dict[int, Affine] | None = None, readout: dict[int, Affine] | None = None
) -> ReluRNN:
    """The network with some layers exchanged, by position."""
    f, g = list(network.transition), list(network.readout)
    for i, layer in (transition or {}).items():
        f[i] = layer
    for i, layer in (readout or {}).items():
        g[i] = layer
    return ReluRNN(tuple(f), tuple(g))


def change_basis(network: ReluRNN, t: Matrix) -> ReluRNN:
    """The same function with hidden state T h.

    Raises ValueError if T is singular or of another size.
    """
    network = in_double(network)
    n = network.hidden
    if t.shape != (n, n):
        raise ValueError(f"T has shape {t.shape}; the network has {n} hidden coordinates")
    if np.linalg.matrix_rank(t) < n:
        raise ValueError("T is singular: it would lose part of the state")
    inverse = np.linalg.inv(t)
    first = network.transition[0]
    columns = np.concatenate([first.weight[:, :n] @ inverse, first.weight[:, n:]], axis=1)
    network = eqx.tree_at(lambda r: r.transition[0].weight, network, columns)
    last = network.transition[-1]
    network = eqx.tree_at(lambda r: r.transition[-1], network, Affine(t @ last.weight, t @ last.bias))
    return eqx.tree_at(lambda r: r.readout[0].weight, network, network.readout[0].weight @ inverse)


def effective_transition(network: ReluRNN) -> Matrix:
    """Product of f's weights on hidden columns, activations and biases left out; exact for one layer."""
    network = in_double(network)
    product = np.asarray(network.transition[0].weight)[:, : network.hidden]
    for layer in network.transition[1:]:
        product = np.asarray(layer.weight) @ product
    return product


def effective_input(network: ReluRNN) -> Float[np.ndarray, "n inputs"]:
    """The same for the input columns."""
    network = in_double(network)
    product = np.asarray(network.transition[0].weight)[:, network.hidden :]
    for layer in network.transition[1:]:
        product = np.asarray(layer.weight) @ product
    return product
