"""Recognizes a tournament in a network with two hidden layers: its first layer compares pairs."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from hypernet.classification.classify import nmse_of
from hypernet.networks.forward import evaluate64
from hypernet.networks.mlp import MLP
from hypernet.targets import Target, get_target
from hypernet.validation import whole


class Rounds(NamedTuple):
    """What the first hidden layer compares.

    `label` is tournament, other, or none (NMSE above 0.9). `pairing`: mean of 2 |w_a w_b| / |w|^2 over rows
    of the first layer, at a row's best pair and weighted by what the row passes on: 1 where rows join two
    inputs in equal parts, 0 where they look at one. `winners`: least r^2 with which the first layer gives
    max(|x_a|, |x_b|) of its pairs linearly; `others`: the mean r^2 for pairs that it does not join.
    """

    label: str
    nmse: float
    pairs: tuple[tuple[int, int], ...]
    pairing: float
    winners: float
    others: float


def classify_rounds(mlp: MLP, *, target: Target | None = None, points: int = 20_000) -> Rounds:
    """Tests for a tournament of |x_i|: its first round is read out of the first hidden layer.

    The rule: NMSE <= 0.1, pairing >= 0.5, every input in one pair (of an odd number, one is left),
    winners >= 0.95 and at least 0.02 above the pairs that are not joined.

    Raises: ValueError for networks of other than two hidden layers, several outputs, or fewer than 3 inputs.
    """
    import networkx as nx

    if mlp.batch or len(mlp.weights) != 2 or mlp.vector or mlp.inputs < 3:
        raise ValueError("expected one network with two hidden layers, one output and at least 3 inputs")
    whole("points", points, 2)
    target = get_target("linf") if target is None else target
    n = mlp.inputs
    target.check_size(n)
    x = np.asarray(target.sample(jax.random.key(0), points, n), np.float64)
    nmse = nmse_of(mlp, target, x)
    W, passed = np.asarray(mlp.W, np.float64), np.abs(np.asarray(mlp.weights[1], np.float64)) @ np.abs(mlp.v)
    length = np.linalg.norm(W, axis=0)
    share = np.abs(W[:, None] * W[None]) * 2 / np.maximum(length, 1e-300) ** 2
    share[np.arange(n), np.arange(n)] = 0
    importance = passed * length / max(float((passed * length).sum()), 1e-300)
    joined = share @ importance
    graph = nx.Graph()
    graph.add_weighted_edges_from((i, j, float(joined[i, j])) for i in range(n) for j in range(i))
    pairs = tuple(sorted(tuple(sorted(pair)) for pair in nx.max_weight_matching(graph, maxcardinality=True)))
    pairing = float(share.max((0, 1)) @ importance)
    hidden = evaluate64(
        MLP(mlp.weights[:1], mlp.biases[:1], np.eye(W.shape[1]), np.zeros(W.shape[1]), mlp.activation), x
    )
    features = np.column_stack([hidden, np.ones(len(x))])
    half = len(x) // 2

    def readable(a: int, b: int) -> float:
        won = np.maximum(np.abs(x[:, a]), np.abs(x[:, b]))
        fitted = np.linalg.lstsq(features[:half], won[:half], rcond=None)[0]
        left = won[half:] - features[half:] @ fitted
        return 1 - float(np.mean(left**2) / won[half:].var())

    winners = min(readable(a, b) for a, b in pairs)
    rest = [(i, j) for i in range(n) for j in range(i) if (j, i) not in pairs]
    others = float(np.mean([readable(a, b) for a, b in rest])) if rest else 0.0
    compared = pairing >= 0.5 and len(pairs) == n // 2 and winners >= 0.95 and winners > others + 0.02
    label = "none" if not nmse <= 0.9 else "tournament" if nmse <= 0.1 and compared else "other"
    return Rounds(label, nmse, pairs, pairing, winners, others)
