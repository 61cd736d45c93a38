"""The paper's network: two ReLU MLPs in a loop (paper, section 3).

    h_0 = 0;   h_t = f([h_{t-1}; x_t]);   y_t = g(h_t)

Activations are batch-last, (units, batch): with layers this small the batch is what fills vectors.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

UNRECORDED = -(1 << 31)
"""Stands among targets for an output that nobody recorded."""


class Affine(eqx.Module):
    """W a + b on batch-last activations; arrays of numpy, in double precision, where weights are read."""

    weight: Float[Array | np.ndarray, "out in"]
    bias: Float[Array | np.ndarray, " out"]

    def __call__(self, a: Float[Array, "in batch"]) -> Float[Array, "out batch"]:
        return jnp.asarray(self.weight) @ a + jnp.asarray(self.bias)[:, None]


def _mlp(layers: tuple[Affine, ...], a: Float[Array, "in batch"]) -> Float[Array, "out batch"]:
    for layer in layers[:-1]:
        a = jax.nn.relu(layer(a))
    return layers[-1](a)


class ReluRNN(eqx.Module):
    """Weights of f (`transition`, hidden columns first, then inputs) and of g (`readout`)."""

    transition: tuple[Affine, ...]
    readout: tuple[Affine, ...]

    @property
    def hidden(self) -> int:
        """Number of hidden coordinates n."""
        return self.transition[-1].bias.shape[0]

    @property
    def is_linear(self) -> bool:
        """Whether the network is an affine linear system (both depths one)."""
        return len(self.transition) == len(self.readout) == 1

    def initial(self, batch: int) -> Float[Array, "hidden batch"]:
        """The state before the first step."""
        return jnp.zeros((self.hidden, batch), self.transition[0].weight.dtype)

    def step(
        self, hidden: Float[Array, "hidden batch"], x: Float[Array, "inputs batch"]
    ) -> tuple[Float[Array, "hidden batch"], Float[Array, "outputs batch"]]:
        """One step: the new state and the output that reads it."""
        hidden = _mlp(self.transition, jnp.concatenate([hidden, x]))
        return hidden, _mlp(self.readout, hidden)


@dataclasses.dataclass(frozen=True)
class ReluConfig:
    """An architecture and how it is fitted. Defaults are the paper's."""

    inputs: int = 1
    outputs: int = 1
    hidden: int = 2
    """n, hidden coordinates"""
    transition_depth: int = 1
    """d_f, affine layers of f"""
    transition_width: int = 1
    """w_f, units of f's inner layers"""
    readout_depth: int = 1
    """d_g, affine layers of g"""
    readout_width: int = 1
    """w_g, units of g's inner layers"""
    loss: Literal["log", "squared"] = "log"
    """0.5 log(1 + e^2) or 0.5 e^2 of the error e"""
    orthogonal: bool = False
    """orthogonal recurrent weights and zero biases at the start, for long linear memories"""
    input_scale: float = 1.0
    """inputs are divided by this in training; afterwards the weights take raw integers"""
    output_scale: float = 1.0
    """targets are divided by this in training; afterwards outputs are raw"""
    partial: bool = False
    """whether some targets are `UNRECORDED`"""

    name = "relu"

    @property
    def missing(self) -> int | None:
        """What stands for an output that nobody recorded; None if all are there."""
        return UNRECORDED if self.partial else None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ValueError(f"{field.name}={value}: must be at least 1")

    def describe(self) -> str:
        """Architecture in a few words, as n, d_f, w_f, d_g, w_g."""
        f = f"f {self.transition_depth}x{self.transition_width}" if self.transition_depth > 1 else "f linear"
        g = f"g {self.readout_depth}x{self.readout_width}" if self.readout_depth > 1 else "g linear"
        return f"ReLU RNN, n={self.hidden}, {f}, {g}"

    def init(self, key: PRNGKeyArray) -> ReluRNN:
        """Weights and biases uniform in +-1/sqrt(fan_in), as the reference has them."""
        n = self.hidden
        f = [n + self.inputs, *[self.transition_width] * (self.transition_depth - 1), n]
        g = [n, *[self.readout_width] * (self.readout_depth - 1), self.outputs]
        keys = iter(jax.random.split(key, 2 * (len(f) + len(g)) + 1))

        def layers(widths: list[int]) -> tuple[Affine, ...]:
            made = []
            for fan_in, fan_out in itertools.pairwise(widths):
                bound = fan_in**-0.5
                weight = jax.random.uniform(next(keys), (fan_out, fan_in), minval=-bound, maxval=bound)
                bias = jax.random.uniform(next(keys), (fan_out,), minval=-bound, maxval=bound)
                made.append(Affine(weight, jnp.zeros_like(bias) if self.orthogonal else bias))
            return tuple(made)

        network = ReluRNN(layers(f), layers(g))
        if self.orthogonal and self.transition_depth == 1:
            recurrent = jax.random.orthogonal(next(keys), n)
            weight = jnp.asarray(network.transition[0].weight).at[:, :n].set(recurrent)
            network = eqx.tree_at(lambda r: r.transition[0].weight, network, weight)
        return network

    def outputs_of(
        self, network: ReluRNN, x: Int[Array, "length batch inputs"]
    ) -> Float[Array, "length outputs batch"]:
        """Scaled outputs at every step."""
        x = jnp.swapaxes(x, 1, 2).astype(jnp.float32) / self.input_scale

        def step(
            hidden: Float[Array, "hidden batch"], inputs: Float[Array, "inputs batch"]
        ) -> tuple[Float[Array, "hidden batch"], Float[Array, "outputs batch"]]:
            return network.step(hidden, inputs)

        return jax.lax.scan(step, network.initial(x.shape[2]), x, unroll=True)[1]

    def loss_of(
        self,
        network: ReluRNN,
        x: Int[Array, "length batch inputs"],
        y: Int[Array, "length batch outputs"],
        weight: Float[Array, " length"],
    ) -> Float[Array, ""]:
        """Mean loss over batch, steps (weighted) and outputs."""
        target = jnp.swapaxes(y, 1, 2).astype(jnp.float32) / self.output_scale
        error = jnp.square(self.outputs_of(network, x) - target)
        value = 0.5 * (jnp.log1p(error) if self.loss == "log" else error)
        if self.partial:
            known = (y != UNRECORDED).all(axis=2) * weight[:, None]
            return jnp.sum(value.mean(axis=1) * known) / jnp.maximum(known.sum(), 1.0)
        return jnp.sum(value.mean(axis=(1, 2)) * weight) / weight.sum()

    def predict(
        self, network: ReluRNN, x: Int[Array, "length batch inputs"]
    ) -> Int[Array, "length batch outputs"]:
        """Outputs rounded to integers."""
        y = jnp.swapaxes(self.outputs_of(network, x), 1, 2) * self.output_scale
        return jnp.round(y).astype(jnp.int32)

    def unscale(self, network: ReluRNN) -> ReluRNN:
        """The same function on raw inputs and raw outputs: scales folded into the first and last weights."""
        n = self.hidden
        first, last = network.transition[0], network.readout[-1]
        columns = jnp.concatenate([jnp.ones(n), jnp.full(self.inputs, 1 / self.input_scale)])
        return eqx.tree_at(
            lambda r: (r.transition[0].weight, r.readout[-1]),
            network,
            (
                first.weight * columns[None, :],
                Affine(last.weight * self.output_scale, last.bias * self.output_scale),
            ),
        )


def published_architecture(index: int, *, inputs: int, outputs: int) -> ReluConfig:
    """The architecture of an index N in the paper's order.

    N counts (d_g, d_f, n, w_g, w_f), the last fastest; n to 128, widths to 256, depths to 3.
    """
    limits = (3, 3, 128, 256, 256)
    if not 0 <= index < np.prod(limits):
        raise ValueError(f"index={index}: there are {np.prod(limits)} architectures")
    digits = [int(d) + 1 for d in np.unravel_index(index, limits)]
    d_g, d_f, n, w_g, w_f = digits
    return ReluConfig(inputs, outputs, n, d_f, w_f if d_f > 1 else 1, d_g, w_g if d_g > 1 else 1)
