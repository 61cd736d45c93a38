"""Whitening: hidden coordinates of unit second moment."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mips.networks.relu import ReluRNN
from mips.normalize.basis import change_basis


def whiten(network: ReluRNN, hidden: Float[np.ndarray, "samples n"], *, eps: float = 0.1) -> ReluRNN:
    """Symmetric whitening by the uncentered second moment of hidden states (all steps of many sequences).

    C = U diag(s) U^T, T = U diag(r) U^T with r = s^(-1/2) where s > eps, else 1.
    """
    moment = hidden.T @ hidden / len(hidden)
    values, vectors = np.linalg.eigh(moment)
    scale = np.where(values > eps, np.maximum(values, eps) ** -0.5, 1.0)
    return change_basis(network, (vectors * scale) @ vectors.T)
