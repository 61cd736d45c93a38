"""Canonical form of a network, and the sympy expression of the same function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from hypernet.networks.forward import evaluate64
from hypernet.networks.mlp import MLP, Activation
from hypernet.networks.read_write import read_network
from hypernet.validation import whole

if TYPE_CHECKING:
    import sympy


class Simplified(NamedTuple):
    """A network in canonical form; `origin[layer][k]` are the units of the original behind unit k."""

    mlp: MLP
    origin: tuple[tuple[tuple[int, ...], ...], ...]
    dropped: int  # units without effect
    merged: int  # units that doubled another
    change: float  # largest |f - f'| on 1,024 normal points

    def expression(self, digits: int | None = None) -> sympy.Expr | sympy.Matrix:
        """The function as sympy, of symbols x1 .. xn; a vector gives a Matrix.

        Args: digits: significant digits of the coefficients; None: all, so that values agree to rounding.
        """
        return expression(self.mlp, digits=digits)


def simplify(
    network: object,
    *,
    activation: str | Activation | None = None,
    tolerance: float = 1e-9,
    prune: float = 0.0,
) -> Simplified:
    """Drops dead units, merges units that compute the same, and orders the rest.

    With ReLU, rows are scaled to unit length first, so that rescaled copies merge too. Constant units go into
    the next bias. In every layer, units with a spike come first, by input and sign, then the others by size.

    Args:
        network: an MLP of any depth, or any form that `classify` reads.
        tolerance: units go whose variation (row length times readout) is below this share of the largest, and
            units merge whose rows and biases differ by less than this share of the row. At 0 nothing goes
            but exact copies and exact zeros.
        prune: entries below this share of their row's length are set to zero first. That alters the
            function, by what `change` says.
    Raises: as `classify` for networks of other forms; ValueError for negative settings.
    """
    if not 0 <= tolerance < 1 or not 0 <= prune < 1:
        raise ValueError(f"tolerance={tolerance}, prune={prune}: expected numbers from 0 to below 1")
    if isinstance(network, MLP) and not network.batch:
        mlp = network
    else:
        mlp = read_network(network, activation=activation)
    arrays = [np.asarray(a, np.float64) for a in (*mlp.weights, *mlp.biases, mlp.v, mlp.c)]
    if not all(np.isfinite(a).all() for a in arrays):
        raise ValueError("the network holds weights that are not finite")
    depth = len(mlp.weights)
    weights, biases = [a.copy() for a in arrays[:depth]], [a.copy() for a in arrays[depth : 2 * depth]]
    for weight in weights if prune else []:
        weight[np.abs(weight) < prune * np.linalg.norm(weight, axis=0)] = 0
    # the readout as one more layer, outputs as its units
    onward = arrays[-2] if mlp.vector else arrays[-2][:, None]
    state = _Layers([*weights, onward.copy()], [*biases, np.atleast_1d(arrays[-1]).copy()])
    origin: list[list[tuple[int, ...]]] = [[(h,) for h in range(w.shape[1])] for w in weights]
    before, merged = sum(map(len, origin)), 0
    while True:
        count = sum(map(len, origin))
        # from the last layer down: a unit nobody listens to may leave those below it without listeners
        for layer in reversed(range(depth)):
            groups = _tidy(state, layer, mlp.activation, tolerance)
            merged += sum(len(group) - 1 for group in groups)
            origin[layer] = [
                tuple(sorted(h for unit in group for h in origin[layer][unit])) for group in groups
            ]
        if sum(map(len, origin)) == count:
            break
    v, c = state.weights[-1], state.biases[-1]
    if not mlp.vector:
        v, c = v[:, 0], c.reshape(())
    found = MLP(tuple(state.weights[:-1]), tuple(state.biases[:-1]), v, c, mlp.activation)
    x = np.random.default_rng(0).normal(size=(1024, mlp.inputs))
    change = float(np.abs(evaluate64(found, x) - evaluate64(mlp, x)).max())
    dropped = before - merged - sum(map(len, origin))
    return Simplified(found, tuple(map(tuple, origin)), dropped, merged, change)


class _Layers(NamedTuple):
    """Weights and biases of all layers, the readout last; changed in place."""

    weights: list[Float[np.ndarray, "inputs hidden"]]
    biases: list[Float[np.ndarray, " hidden"]]


def _tidy(state: _Layers, layer: int, activation: str, tolerance: float) -> list[list[int]]:
    """Merges and drops units of one layer, orders the rest, and returns the units behind each."""
    W, b, onward = state.weights[layer], state.biases[layer], state.weights[layer + 1].copy()
    length = np.linalg.norm(W, axis=0)
    if activation == "relu":
        scale = np.where(length > 0, length, 1)
        W, b, onward = W / scale, b / scale, onward * scale[:, None]
        length = np.linalg.norm(W, axis=0)
    groups: list[list[int]] = []
    for unit in range(len(b)):
        for group in groups:
            first = group[0]
            # rows and biases against the rows: a big bias must not hide that rows differ
            gap = max(np.abs(W[:, unit] - W[:, first]).max(initial=0), abs(b[unit] - b[first]))
            if gap <= tolerance * length[first]:
                group.append(unit)
                break
        else:
            groups.append([unit])
    flow = np.linalg.norm(onward, axis=1) * length  # how much a unit varies, in the next layer
    least = tolerance * flow.max(initial=0)
    live, constant = [], np.zeros(onward.shape[1])
    for group in groups:
        first = group[0]
        total = onward[group].sum(0)
        if np.linalg.norm(total) * length[first] > least:
            onward[first] = total
            live.append(group)
        else:  # what it adds where its input is zero stays
            unit = MLP((np.zeros((1, 1)),), (b[first : first + 1],), np.ones(1), np.float64(0), activation)
            constant += float(evaluate64(unit, np.zeros((1, 1)))[0]) * total

    def place(group: list[int]) -> tuple[bool, int, bool, float, int]:
        h = group[0]
        top = int(np.argmax(np.abs(W[:, h])))
        spike = bool(W[top, h] ** 2 > 0.5 * length[h] ** 2)
        size = -float(np.linalg.norm(onward[h]) * length[h])
        return (not spike, top if spike else 0, bool(W[top, h] < 0) if spike else False, size, h)

    live.sort(key=place)
    heads = [group[0] for group in live]
    state.weights[layer], state.biases[layer] = W[:, heads], b[heads]
    state.weights[layer + 1] = onward[heads]
    state.biases[layer + 1] = state.biases[layer + 1] + constant
    return live


def expression(mlp: MLP, *, digits: int | None = None) -> sympy.Expr | sympy.Matrix:
    """A network of any depth as sympy, of symbols x1 .. xn.

    Raises: ValueError for several networks at once, or digits below 1.
    """
    import sympy

    if digits is not None:
        whole("digits", digits)
    if mlp.batch:
        raise ValueError(f"this MLP holds networks of shape {mlp.batch}; index one")

    def number(value: np.floating) -> sympy.Expr:
        return sympy.Float(float(value), 17 if digits is None else digits)

    def affine(
        values: list[sympy.Expr],
        W: Float[np.ndarray, "inputs hidden"],
        b: Float[np.ndarray, " hidden"],
    ) -> list[sympy.Expr]:
        return [
            sympy.Add(*(number(w) * x for w, x in zip(column, values, strict=True) if w != 0), number(shift))
            for column, shift in zip(W.T, b, strict=True)
        ]

    phi = activation_expression(mlp.activation)
    values = list(sympy.symbols(f"x1:{mlp.inputs + 1}", real=True))
    for W, b in zip(mlp.weights, mlp.biases, strict=True):
        values = [phi(u) for u in affine(values, np.asarray(W), np.asarray(b))]
    v = np.asarray(mlp.v) if mlp.vector else np.asarray(mlp.v)[:, None]
    outputs = affine(values, v, np.atleast_1d(np.asarray(mlp.c)))
    return sympy.Matrix(outputs) if mlp.vector else outputs[0]


def activation_expression(name: str) -> Callable[[sympy.Expr], sympy.Expr]:
    """An activation as a function of sympy expressions."""
    import sympy

    return {
        "relu": lambda u: sympy.Max(0, u),
        "swish": lambda u: u / (1 + sympy.exp(-u)),
        "gelu": lambda u: u * (1 + sympy.erf(u / sympy.sqrt(2))) / 2,
        "gelu-tanh": lambda u: u * (1 + sympy.tanh(sympy.sqrt(2 / sympy.pi) * (u + 0.044715 * u**3))) / 2,
        "softplus": lambda u: sympy.log(1 + sympy.exp(u)),
        "tanh": sympy.tanh,
    }[name]
