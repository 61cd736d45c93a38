"""Tournament: |x|_inf by comparing pairs, max(u, v) = (u + v + |u - v|) / 2, a hidden layer per round."""

from __future__ import annotations

import numpy as np

from hypernet.algorithms.spikes import check
from hypernet.networks.mlp import MLP


def tournament(n: int, *, k: float = 1.0, activation: str = "relu") -> MLP:
    """Exact for ReLU, ceil(log2 n) hidden layers (at least one); steep swish units come near.

    The first round needs no signs removed before: max(|a|, |b|) = (|a + b| + |a - b|) / 2.

    Raises: ValueError for n < 1, k <= 0 or another activation.
    """
    check(n, k, activation)
    # Players as rows over the units (or inputs) below them; signed: still carrying a sign.
    players, signed = [np.eye(n)[i] for i in range(n)], True
    weights = []
    while signed or len(players) > 1:
        columns, winners = [], []
        for at in range(0, len(players), 2):
            pair = players[at : at + 2]
            if len(pair) == 2:
                plus, minus = pair[0] + pair[1], pair[0] - pair[1]
                units = [plus, -plus, minus, -minus] if signed else [plus, minus, -minus]
                share = 0.5
            else:
                units, share = ([pair[0], -pair[0]] if signed else [pair[0]]), 1.0
            winners.append((len(columns), len(columns) + len(units), share))
            columns += units
        weights.append(k * np.stack(columns, axis=1))
        players = []
        for start, stop, share in winners:
            row = np.zeros(len(columns))
            row[start:stop] = share / k
            players.append(row)
        signed = False
    biases = tuple(np.zeros(w.shape[1]) for w in weights)
    return MLP(tuple(weights), biases, players[0], np.float64(0.0), activation)
