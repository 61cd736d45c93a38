"""Canonical form of a network, and the sympy expression of the same function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hypernet.forward import evaluate64
from hypernet.network import MLP
from hypernet.reading import read_network

if TYPE_CHECKING:
    import sympy


class Simplified(NamedTuple):
    """A network in canonical form; `origin[layer][k]` are the units of the original behind unit k."""

    mlp: MLP
    origin: tuple[tuple[tuple[int, ...], ...], ...]
    dropped: int  # units without effect
    merged: int  # units that doubled another
    change: float  # largest |f - f'| on 1,024 normal points

    def expression(self, digits: int | None = None) -> sympy.Expr:
        """The function as sympy, of symbols x1 .. xn; a vector gives a Matrix.

        Args: digits: significant digits of the coefficients; None: all, so that values agree to rounding.
        """
        return expression(self.mlp, digits=digits)


def simplify(
    network: Any, *, activation: Any = None, tolerance: float = 1e-9, prune: float = 0.0
) -> Simplified:
    """Drops dead units, merges units that compute the same, and orders the rest.

    With ReLU, rows are scaled to unit length first, so that rescaled copies merge too. Constant units go into
    the next bias. In every layer, units with a spike come first, by input and sign, then the others by size.

    Args:
        network: an MLP of any depth, or any form that `classify` reads.
        tolerance: what counts as zero and as equal, relative to the layer's largest row. At 0 nothing but
            exact copies and exact zeros go.
        prune: entries below this share of their row's length are set to zero first. That alters the
            function, by what `change` says.
    Raises: as `classify` for networks of other forms; ValueError for negative settings.
    """
    if tolerance < 0 or not 0 <= prune < 1:
        raise ValueError(f"tolerance={tolerance}, prune={prune}: expected >= 0, and 0 <= prune < 1")
    mlp = (
        network
        if isinstance(network, MLP) and not network.batch
        else read_network(network, activation=activation)
    )
    arrays = [np.asarray(a, np.float64) for a in (*mlp.weights, *mlp.biases, mlp.v, mlp.c)]
    if not all(np.isfinite(a).all() for a in arrays):
        raise ValueError("the network holds weights that are not finite")
    depth = len(mlp.weights)
    weights, biases = [a.copy() for a in arrays[:depth]], [a.copy() for a in arrays[depth : 2 * depth]]
    scalar = not mlp.vector
    out = arrays[-2].reshape(len(arrays[-2]), -1).copy()
    offset = np.atleast_1d(arrays[-1]).astype(float)
    origin: list[tuple[tuple[int, ...], ...]] = [()] * depth
    dropped = merged = 0
    for layer in range(depth):
        if prune:
            length = np.linalg.norm(weights[layer], axis=0)
            weights[layer][np.abs(weights[layer]) < prune * length] = 0
    # from the last layer down: a unit nobody listens to may leave those below it without listeners
    for layer in reversed(range(depth)):
        onward = out if layer == depth - 1 else weights[layer + 1]
        W, b, onward, constant, kept, lost, doubled = _layer(
            weights[layer], biases[layer], onward, mlp.activation, tolerance
        )
        weights[layer], biases[layer] = W, b
        if layer == depth - 1:
            out, offset = onward, offset + constant
        else:
            weights[layer + 1], biases[layer + 1] = onward, biases[layer + 1] + constant
        origin[layer] = kept
        dropped, merged = dropped + lost, merged + doubled
    v, c = (out[:, 0], offset.reshape(())) if scalar else (out, offset)
    found = MLP(tuple(weights), tuple(biases), v, c, mlp.activation)
    x = np.random.default_rng(0).normal(size=(1024, mlp.inputs))
    change = float(np.abs(evaluate64(found, x) - evaluate64(mlp, x)).max())
    return Simplified(found, tuple(origin), dropped, merged, change)


def _layer(W: np.ndarray, b: np.ndarray, onward: np.ndarray, activation: str, tolerance: float):
    """One layer: what remains, what its constant units add to the next, and what became of the units."""
    W, b, onward = W.copy(), b.copy(), onward.copy()
    length = np.linalg.norm(W, axis=0)
    if activation == "relu":
        scale = np.where(length > 0, length, 1)
        W, b, onward = W / scale, b / scale, onward * scale[:, None]
        length = np.linalg.norm(W, axis=0)
    small = tolerance * max(length.max(initial=0), 1e-300)
    flow = np.linalg.norm(onward, axis=1) * np.maximum(length, np.abs(b))
    still = length <= small
    # constant units: evaluate them alone
    row = MLP((np.zeros((1, len(b))),), (b,), onward, np.zeros(onward.shape[1]), activation)
    heights = evaluate64(
        MLP(row.weights, row.biases, np.eye(len(b)), np.zeros(len(b)), activation), np.zeros((1, 1))
    )[0]
    constant = (heights * still) @ onward
    dead = still | (flow <= tolerance * max(flow.max(initial=0), 1e-300))
    kept: list[list[int]] = []
    for unit in np.flatnonzero(~dead):
        for group in kept:
            first = group[0]
            gap = max(np.abs(W[:, unit] - W[:, first]).max(), abs(b[unit] - b[first]))
            if gap <= tolerance * max(length[first], np.abs(b[first])):
                onward[first] += onward[unit]
                group.append(int(unit))
                break
        else:
            kept.append([int(unit)])
    doubled = sum(len(group) - 1 for group in kept)
    # copies may cancel
    live = [g for g in kept if np.abs(onward[g[0]]).max() * length[g[0]] > tolerance * flow.max(initial=0)]
    lost = len(b) - doubled - len(live)

    def place(group: list[int]):
        h = group[0]
        top = int(np.argmax(np.abs(W[:, h])))
        spike = W[top, h] ** 2 > 0.5 * length[h] ** 2
        size = -float(np.linalg.norm(onward[h]) * length[h])
        return (not spike, top if spike else 0, W[top, h] < 0 if spike else False, size, h)

    live.sort(key=place)
    heads = [group[0] for group in live]
    return W[:, heads], b[heads], onward[heads], constant, tuple(map(tuple, live)), lost, doubled


def expression(mlp: MLP, *, digits: int | None = None) -> sympy.Expr:
    """A network of any depth as sympy, of symbols x1 .. xn.

    Raises: ValueError for several networks at once.
    """
    import sympy

    if mlp.batch:
        raise ValueError(f"this MLP holds networks of shape {mlp.batch}; index one")

    def number(value) -> sympy.Expr:
        return sympy.Float(float(value), 17 if digits is None else digits)

    def affine(values: list, W: np.ndarray, b: np.ndarray) -> list:
        return [
            sympy.Add(*(number(w) * x for w, x in zip(column, values, strict=True) if w != 0), number(shift))
            for column, shift in zip(W.T, b, strict=True)
        ]

    phi = activation_expression(mlp.activation)
    values = list(sympy.symbols(f"x1:{mlp.inputs + 1}", real=True))
    for W, b in zip(mlp.weights, mlp.biases, strict=True):
        values = [phi(u) for u in affine(values, np.asarray(W), np.asarray(b))]
    v = np.asarray(mlp.v).reshape(len(values), -1)
    outputs = affine(values, v, np.atleast_1d(np.asarray(mlp.c)))
    return sympy.Matrix(outputs) if mlp.vector else outputs[0]


def activation_expression(name: str):
    """An activation as a function of sympy expressions."""
    import sympy

    return {
        "relu": lambda u: sympy.Max(0, u),
        "swish": lambda u: u / (1 + sympy.exp(-u)),
        "gelu": lambda u: u * (1 + sympy.erf(u / sympy.sqrt(2))) / 2,
        "softplus": lambda u: sympy.log(1 + sympy.exp(u)),
        "tanh": sympy.tanh,
    }[name]
