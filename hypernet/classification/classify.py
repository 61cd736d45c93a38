"""Says which algorithm a network uses, with the evidence."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray, Shaped

from hypernet.classification.order_parameters import OrderParameters, labels_of, order_parameters
from hypernet.networks.forward import evaluate64
from hypernet.networks.mlp import MLP, Activation
from hypernet.networks.read_write import read_network
from hypernet.targets import L1, Target
from hypernet.validation import whole


class Server(NamedTuple):
    """A hidden unit with its spike on an input."""

    unit: int
    sign: int  # of the spike's weight
    pull: float  # bend mass times |u|: its part of K_i


class Classification(NamedTuple):
    """What a network was found to be.

    `label` is one of double_sided, pudding_pos, pudding_neg, pudding_mixed, convexity, mixed, none.
    `servers[i]` are the units with a spike on input i, strongest first; `sea` those with none that matter
    (2 % of the network's slopes or more).
    """

    label: str
    nmse: float
    order: OrderParameters
    servers: tuple[tuple[Server, ...], ...]
    sea: tuple[int, ...]
    ambiguous: bool  # n <= 3: the algorithms coincide or nearly do
    mlp: MLP

    def evidence(self) -> str:
        """The order parameters and who serves whom, as text."""
        p = self.order
        lines = [
            f"{self.label}{' (ambiguous: n <= 3)' if self.ambiguous else ''}, NMSE {self.nmse:.4g}",
            f"L {float(p.L):.3f}  A {float(p.A):+.3f}  B {float(p.B):.3f}  cover {float(p.cover):.2f}  "
            f"S {float(p.S):+.3f}  S_spikes {float(p.S_spikes):+.3f}  K {float(p.K):.3f}",
        ]
        for i, servers in enumerate(self.servers):
            units = ", ".join(
                f"{'+' if s.sign > 0 else '-'}unit {s.unit} ({s.pull:.2f})" for s in servers[:6]
            )
            lines.append(f"x{i + 1}: {units or 'no spike'}")
        if self.sea:
            shown = ", ".join(map(str, self.sea[:12])) + (", ..." if len(self.sea) > 12 else "")
            lines.append(f"sea: {len(self.sea)} units ({shown})")
        return "\n".join(lines)


def nmse_of(mlp: MLP, target: Target, x: Float[np.ndarray, "points n"]) -> float:
    """Mean squared error over Var y at given points, in double precision."""
    with jax.enable_x64(True):
        y = np.asarray(target.value(jax.numpy.asarray(x, jax.numpy.float64)))
    error = (evaluate64(mlp, x) - y) ** 2
    return float(error.reshape(len(x), -1).sum(1).mean() / target.variance_of(x.shape[1]))


def classify(
    network: object,
    *,
    activation: str | Activation | None = None,
    target: Target = L1,
    points: int = 20_000,
    key: PRNGKeyArray | None = None,
) -> Classification:
    """The algorithm of any network with one hidden layer and one output.

    Args:
        network: a hypernet.MLP; a mapping with W, v, b, c; a tuple (W, b, v, c); an equinox MLP of depth 1;
            flax linen parameters or an NNX module with two layers; or the path of a .npz file.
        activation: name or function, where the form does not say it.
        target: what the network is to compute; decides its error and the inputs' spread.
        points, key: how many inputs the error is measured on, and which (default: key 0).
    Raises: TypeError or ValueError that says which form is supported; ValueError for non-finite weights.
    """
    whole("points", points)
    mlp = read_network(network, activation=activation)
    target.check_size(mlp.inputs)
    if target.outputs is not None:
        raise ValueError(
            f"target {target.name!r} has several outputs; the classifier reads networks with one"
        )
    order = order_parameters(mlp.W, mlp.v, mlp.b, activation=mlp.activation, input_std=target.input_std)
    x = np.asarray(target.sample(jax.random.key(0) if key is None else key, points, mlp.inputs), np.float64)
    nmse = nmse_of(mlp, target, x)
    servers, sea = _who_serves(mlp, target.input_std)
    return Classification(
        str(labels_of(order, np.asarray(nmse))), nmse, order, servers, sea, mlp.inputs <= 3, mlp
    )


def _who_serves(mlp: MLP, input_std: float) -> tuple[tuple[tuple[Server, ...], ...], tuple[int, ...]]:
    from hypernet.classification.order_parameters import bends_and_slopes

    W, v, b = np.asarray(mlp.W), np.asarray(mlp.v), np.asarray(mlp.b)
    r = np.linalg.norm(W, axis=0)
    u = W / np.where(r > 0, r, 1)
    bend, slope = bends_and_slopes(mlp.activation, b, input_std * r)
    mass = v * r * bend
    spike = u**2 > 0.5
    found = []
    for i in range(W.shape[0]):
        units = np.flatnonzero(spike[i] & (mass != 0))
        units = units[np.argsort(-np.abs(mass[units] * u[i, units]), kind="stable")]
        found.append(
            tuple(Server(int(h), int(np.sign(u[i, h])), float(mass[h] * abs(u[i, h]))) for h in units)
        )
    flow = np.abs(v * slope) * r
    sea = np.flatnonzero(~spike.any(0) & (flow > 0.02 * flow.sum()))
    return tuple(found), tuple(int(h) for h in sea)


def classify_many(
    mlps: MLP, target: Target = L1, *, points: int = 4096
) -> tuple[Shaped[np.ndarray, "*networks"], OrderParameters, Float[np.ndarray, "*networks"]]:
    """Labels, order parameters and NMSE of networks side by side (leading axes kept)."""
    whole("points", points)
    target.check_size(mlps.inputs)
    if len(mlps.weights) != 1 or mlps.vector:
        raise ValueError("networks with one hidden layer and one output can be classified")
    order = order_parameters(mlps.W, mlps.v, mlps.b, activation=mlps.activation, input_std=target.input_std)
    x = jax.numpy.asarray(target.sample(jax.random.key(0), points, mlps.inputs))
    from hypernet.networks.mlp import evaluate

    y = target.value(x)[(None,) * len(mlps.batch)]
    error = np.asarray(evaluate(jax.tree.map(jax.numpy.asarray, mlps), x) - y)
    nmse = np.asarray(np.mean(error.astype(np.float64) ** 2, axis=-1) / target.variance_of(mlps.inputs))
    return labels_of(order, nmse), order, nmse
