"""Order parameters: which algorithm a one-hidden-layer network uses, in numbers.

For hidden unit h with r = |w_h|, u = w_h / r and s = input_std * r:

- bend e_h = phi'(b + 2s) - phi'(b - 2s); bend mass m_h = v_h r e_h; mean slope gamma_h = E phi'(b + s xi)
- a spike is an entry with u_ih^2 > 1/2 (at most one per unit)
- L, localization: sum_h m_h |u_h|_4^4 / sum_h m_h, shifted and scaled so that isotropic rows give 0 and
  rows along axes 1
- K_i: bend mass of the spikes on input i by sign (both signs together: 2 where |x_i| is exact); cover: share
  of inputs with K_i > 1
- A, asymmetry: mean of (K+ - K-) / (|K+| + |K-|) over inputs with K_i > 0.2; B: mean of its absolute value
- S, sea: mean over inputs of the slope v_h W_ih gamma_h that is not in spikes; S_spikes: that in spikes

Invariant under permutations of units and inputs, split and dead units, and, for ReLU, positive rescaling.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real, Shaped

from hypernet.arrays import AnyArray
from hypernet.networks.mlp import Activation, activation_named

_NODES = 61


class OrderParameters(NamedTuple):
    """Arrays over networks (scalars for one); the two K hold one number per input."""

    L: Float[np.ndarray | np.floating, "*networks"]
    A: Float[np.ndarray | np.floating, "*networks"]
    B: Float[np.ndarray | np.floating, "*networks"]
    cover: Float[np.ndarray | np.floating, "*networks"]
    S: Float[np.ndarray | np.floating, "*networks"]
    S_spikes: Float[np.ndarray | np.floating, "*networks"]
    K: Float[np.ndarray | np.floating, "*networks"]  # mean over inputs
    K_plus: Float[np.ndarray, "*networks n"]
    K_minus: Float[np.ndarray, "*networks n"]


@functools.lru_cache(maxsize=1)
def _hermite() -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return nodes, weights / weights.sum()


def _slope(activation: str, u: Float[np.ndarray, "*units"]) -> Float[np.ndarray, "*units"]:
    """Phi' in double precision."""
    if activation == "swish":
        p = 1 / (1 + np.exp(-np.clip(u, -500, 500)))
        return p * (1 + u * (1 - p))
    with jax.enable_x64(True):
        return np.asarray(_derivative(activation)(jnp.asarray(u.reshape(-1), jnp.float64))).reshape(u.shape)


@functools.lru_cache(maxsize=16)
def _derivative(activation: str) -> Activation:
    """Phi' of many numbers; one function per name, so that it is compiled once per shape."""
    return jax.jit(jax.vmap(jax.grad(activation_named(activation))))


def bends_and_slopes(
    activation: str,
    bias: Float[np.ndarray, "*networks hidden"],
    spread: Float[np.ndarray, "*networks hidden"],
) -> tuple[Float[np.ndarray, "*networks hidden"], Float[np.ndarray, "*networks hidden"]]:
    """Bend e and mean slope gamma of units with these biases whose inputs have this standard deviation."""
    if activation == "relu":
        from scipy import special

        bend = (np.abs(bias) < 2 * spread).astype(float)
        still = spread == 0
        slope = special.ndtr(bias / np.where(still, 1, spread))
        return bend, np.where(still, bias > 0, slope)
    bend = _slope(activation, bias + 2 * spread) - _slope(activation, bias - 2 * spread)
    nodes, weights = _hermite()
    slope = np.zeros_like(bias)
    for node, weight in zip(nodes, weights, strict=True):  # a loop: 61 times the memory otherwise
        slope += weight * _slope(activation, bias + spread * node)
    return bend, slope


def order_parameters(
    W: Real[AnyArray, "*networks n hidden"],
    v: Real[AnyArray, "*networks hidden"],
    b: Real[AnyArray, "*networks hidden"],
    *,
    activation: str,
    input_std: float = 1.0,
) -> OrderParameters:
    """Order parameters of networks with W (..., n, H), v (..., H), b (..., H), in double precision."""
    W, v, b = (np.asarray(a, np.float64) for a in (W, v, b))
    n = W.shape[-2]
    r = np.linalg.norm(W, axis=-2)
    u = W / np.where(r > 0, r, 1)[..., None, :]
    bend, slope = bends_and_slopes(activation, b, input_std * r)
    mass = v * r * bend
    total, size = mass.sum(-1), np.abs(mass).sum(-1)
    weight = np.where((np.abs(total) > 1e-9 * size)[..., None], mass, np.abs(mass))
    norm = weight.sum(-1)
    fourth = (weight * (u**4).sum(-2)).sum(-1) / np.where(norm == 0, 1, norm)
    even = 3 / (n + 2)
    local = np.ones_like(fourth) if n == 1 else (fourth - even) / (1 - even)
    spike = u**2 > 0.5
    pull = mass[..., None, :] * np.abs(u)
    plus = np.where(spike & (u > 0), pull, 0).sum(-1)
    minus = np.where(spike & (u < 0), pull, 0).sum(-1)
    both = plus + minus
    sides = np.abs(plus) + np.abs(minus)
    asymmetry = (plus - minus) / np.where(sides > 0, sides, 1)
    seen = both > 0.2
    count = np.maximum(seen.sum(-1), 1)
    slopes = v[..., None, :] * W * slope[..., None, :]
    return OrderParameters(
        L=np.where(size > 0, local, np.nan),  # no unit bends: there is nothing to localize
        A=np.where(seen, asymmetry, 0).sum(-1) / count,
        B=np.where(seen, np.abs(asymmetry), 0).sum(-1) / count,
        cover=(both > 1).mean(-1),
        S=np.where(spike, 0, slopes).sum((-1, -2)) / n,
        S_spikes=np.where(spike, slopes, 0).sum((-1, -2)) / n,
        K=both.mean(-1),
        K_plus=plus,
        K_minus=minus,
    )


LABELS = ("double_sided", "pudding_pos", "pudding_neg", "pudding_mixed", "convexity", "mixed", "none")


def labels_of(
    parameters: OrderParameters, nmse: float | Float[np.ndarray | np.floating, "*networks"]
) -> Shaped[np.ndarray, "*networks"]:
    """The rule for networks side by side: an array of names from LABELS."""
    p, nmse = parameters, np.asarray(nmse)
    covered = (p.L >= 0.5) & (p.cover >= 0.5)
    # a NaN error is no algorithm either
    return np.select(
        [
            ~(nmse <= 0.9),
            p.L < 0.35,
            covered & (p.B < 0.5),
            covered & (p.A <= -0.5),
            covered & (p.A >= 0.5),
            covered,
        ],
        ["none", "convexity", "double_sided", "pudding_pos", "pudding_neg", "pudding_mixed"],
        default="mixed",
    )
