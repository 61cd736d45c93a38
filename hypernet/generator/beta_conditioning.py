"""The Pareto hyper-hypernetwork: every weight of a hypernetwork as a function of beta.

theta(beta) = theta_0 + sum_k tanh(MLP(u))_k Theta_k, so that one training covers the whole front.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hypernet.generator.dense import Draws, Perceptron, init_perceptron

Theta = TypeVar("Theta", bound=eqx.Module)


class Moving(eqx.Module, Generic[Theta]):
    """Weights that move with beta."""

    base: Theta  # theta_0
    directions: Theta  # Theta: the leaves of theta with a leading axis

    def at(self, amounts: Float[Array, " directions"]) -> Theta:
        """Theta where it has moved so far along each direction."""
        return jax.tree.map(
            lambda leaf, moves: leaf + jnp.tensordot(amounts, moves, 1), self.base, self.directions
        )


def init_moving(draws: Draws, base: Theta, *, directions: int = 4, scale: float = 0.1) -> Moving[Theta]:
    """Directions start as N(0, scale^2 / first axis) around the given weights."""
    moves = jax.tree.map(
        lambda leaf: scale / math.sqrt(leaf.shape[0]) * draws.normal((directions, *leaf.shape)), base
    )
    return Moving(base, moves)


def init_code(draws: Draws, directions: int = 4) -> Perceptron:
    """The network from a place of the front to amounts of the directions, before tanh."""
    return init_perceptron(draws, 3, directions, hidden=16)


def amounts_at(code: Perceptron, place: Float[Array, ""]) -> Float[Array, " directions"]:
    """How far weights move at a place of the trained range of log10 beta: -1 its lower end, 1 its upper."""
    half = (place - 1) / 2  # lb / 6 for the range -6 .. 0
    u = jnp.stack([half + 0.5, jnp.sin(jnp.pi * half), jnp.cos(jnp.pi * half)])
    return jnp.tanh(code(u))
