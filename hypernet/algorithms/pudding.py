"""Pudding: |x|_1 = 2 sum_j ReLU(s_j x_j) - sum_j s_j x_j, spikes in a linear sea, n + 1 hidden units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from hypernet.algorithms.spikes import check, missing_mean
from hypernet.networks.mlp import MLP
from hypernet.validation import positive

Sign = Literal["positive", "negative"] | Sequence[int]


def _spike_signs(n: int, sign: Sign) -> Float[np.ndarray, " n"]:
    if isinstance(sign, str):
        if sign not in ("positive", "negative"):
            raise ValueError(f"sign={sign!r}: expected 'positive', 'negative' or one of -1, 1 per input")
        return np.full(n, -1.0 if sign == "positive" else 1.0)
    signs = np.asarray(sign, float)
    if signs.shape != (n,) or not np.all(np.abs(signs) == 1):
        raise ValueError(f"sign={sign!r}: expected {n} numbers, each -1 or 1")
    return signs


def pudding(
    n: int,
    sign: Sign = "positive",
    *,
    k: float = 10.0,
    activation: str = "swish",
    sea: Literal["bias", "linear"] = "bias",
    C: float | None = None,
    corrected: bool = False,
) -> MLP:
    """N spikes and one unit for the sea.

    Args:
        sign: of the sea; positive: spikes on -x, sea +sum x; or the sign of every spike (a mixed pudding).
        k: slope of the spikes.
        sea: bias: phi(C + sum) - C, exact for ReLU while |sum x| <= C; linear: 2 C phi(sum / C), without a
            bias, for swish.
        C: default 8 sqrt(n) (12 more for swish), or 100 for the linear sea.
        corrected: remove the mean error on standard normal inputs through c.
    Raises: ValueError for n < 1, slopes that are not positive, unknown signs or activations, and a linear sea
        of ReLU.
    """
    check(n, k, activation)
    signs = _spike_signs(n, sign)
    if C is not None:
        positive("C", C)
    if sea == "bias":
        level = 8 * np.sqrt(n) + (12 if activation == "swish" else 0) if C is None else C
        row, bias, out, c = -signs, level, 1.0, -level
    elif sea == "linear":
        if activation != "swish":
            raise ValueError("sea='linear' uses the linear start of swish; with ReLU take sea='bias'")
        level = 100.0 if C is None else C
        row, bias, out, c = -signs / level, 0.0, 2 * level, 0.0
    else:
        raise ValueError(f"sea={sea!r}: expected 'bias' or 'linear' (or use distributed_pudding)")
    if corrected:
        # spikes fall short by half of what two opposed units would, twice; a linear sea adds n / 2C
        c += n * missing_mean(k, activation) - (n / (2 * level) if sea == "linear" else 0.0)
    return MLP(
        weights=(np.hstack([k * np.diag(signs), row[:, None]]),),
        biases=(np.append(np.zeros(n), bias),),
        v=np.append(np.full(n, 2 / k), out),
        c=np.float64(c),
        activation=activation,
    )


def distributed_pudding(
    n: int,
    sign: Sign = "positive",
    *,
    k: float = 30.0,
    eps_spike: float = 0.05,
    eps_sea: float = 0.004,
    v_spike: float | None = None,
    v_sea: float | None = None,
    c: float | None = None,
) -> MLP:
    """The form in the paper's figure: two spikes per input, a uniform opposite background, n spare units.

    3n swish units without biases; all output weights are positive, and the small-signal slope 1/2 of all
    units together is the sea. Defaults make the slopes right and remove the mean error of the spikes.

    Raises: ValueError as for `pudding`.
    """
    check(n, k, "swish")
    signs = _spike_signs(n, sign)
    positive("eps_sea", eps_sea)
    positive("eps_spike", eps_spike)
    v_spike = 1 / k if v_spike is None else v_spike
    if v_sea is None:
        v_sea = (2 - 2 * (n - 1) * v_spike * eps_spike) / (n * eps_sea)
    spikes = np.where(np.eye(n) > 0, k * signs[:, None], -eps_spike * signs[:, None])
    sea = np.tile(-eps_sea * signs[:, None], (1, n))
    return MLP(
        weights=(np.hstack([spikes, spikes, sea]),),
        biases=(np.zeros(3 * n),),
        v=np.concatenate([np.full(2 * n, v_spike), np.full(n, v_sea)]),
        c=np.float64(n * missing_mean(k, "swish") if c is None else c),
        activation="swish",
    )
