"""The small perceptrons a hypernetwork is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class Linear(eqx.Module):
    """x W + b, with W stored (inputs, outputs)."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        out = x @ self.weight
        return out + jnp.expand_dims(self.bias, range(out.ndim - 1))


class Perceptron(eqx.Module):
    """One hidden SiLU layer. `parts` lets a sum of inputs be applied where each of them is small."""

    first: Linear
    last: Linear

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        return self.last(jax.nn.silu(self.first(x)))

    def parts(self, *sizes: int) -> list[Float[Array, "part hidden"]]:
        """The first layer's weights split over concatenated inputs of these sizes.

        Edges far outnumber units, so what an edge shares with its unit is multiplied once per unit.
        """
        cuts, at = [], 0
        for size in sizes:
            cuts.append(self.first.weight[at : at + size])
            at += size
        if at != self.first.weight.shape[0]:
            raise ValueError(f"parts {sizes} of a layer with {self.first.weight.shape[0]} inputs")
        return cuts


class Draws:
    """Standard normal numbers, handed out piece by piece.

    One call of the generator for all weights: a hundred small ones would take most of the compilation.
    """

    def __init__(self, numbers: Float[Array, " numbers"] | None = None) -> None:
        self.numbers, self.used = numbers, 0

    def normal(self, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The next numbers."""
        start, self.used = self.used, self.used + math.prod(shape)
        if self.numbers is None:  # only counting
            return jnp.zeros(shape)
        return self.numbers[start : self.used].reshape(shape)


T = TypeVar("T")


def draw_weights(key: PRNGKeyArray, make: Callable[[Draws], T]) -> T:
    """What `make` builds from normal numbers of a key; it must ask for the same shapes every time."""
    counter = Draws()
    jax.eval_shape(lambda: make(counter))
    return make(Draws(jax.random.normal(key, (counter.used,))))


def init_linear(draws: Draws, inputs: int, outputs: int, gain: float = 1.0) -> Linear:
    """LeCun-normal weights times `gain`, zero biases."""
    weight = draws.normal((inputs, outputs)) * (gain / math.sqrt(inputs))
    return Linear(weight, jnp.zeros(outputs))


def init_perceptron(
    draws: Draws, inputs: int, outputs: int, *, hidden: int = 24, gain: float = 1.0
) -> Perceptron:
    """LeCun-normal weights, zero biases; the last layer times `gain`."""
    return Perceptron(init_linear(draws, inputs, hidden), init_linear(draws, hidden, outputs, gain))
