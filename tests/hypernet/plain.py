"""Networks, activations and inputs in plain NumPy, double precision: what the package is measured against."""

import itertools

import numpy as np
from hypothesis import strategies as st
from scipy import special

from hypernet.networks.mlp import MLP

ACTIVATIONS = {
    "swish": lambda u: u * special.expit(u),
    "relu": lambda u: np.maximum(u, 0),
    "gelu": lambda u: u * special.ndtr(u),
    "gelu-tanh": lambda u: u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3))) / 2,
    "softplus": lambda u: np.logaddexp(u, 0),
    "tanh": np.tanh,
}

SEEDS = st.integers(0, 2**32 - 1)


def forward(mlp, x):
    """f(x) of one network, layer by layer."""
    for W, b in zip(mlp.weights, mlp.biases, strict=True):
        x = ACTIVATIONS[mlp.activation](x @ np.asarray(W, float) + np.asarray(b, float))
    return x @ np.asarray(mlp.v, float) + np.asarray(mlp.c, float)


def random_network(seed, sizes, *, outputs=None, batch=(), activation="swish", scale=1.0):
    """A network of normal weights; `sizes`: inputs, then the hidden layers."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return scale * rng.normal(size=(*batch, *shape))

    last = (sizes[-1],) if outputs is None else (sizes[-1], outputs)
    return MLP(
        tuple(normal(a, b) for a, b in itertools.pairwise(sizes)),
        tuple(normal(b) for b in sizes[1:]),
        normal(*last),
        np.asarray(normal(*last[1:])),
        activation,
    )
