"""Networks that read symbols and write classes: for tasks over a finite alphabet.

`GRU`: gated, learned initial state. `SwitchedAffine`: h_t = W_{x_t} h_{t-1} + b_{x_t} (Foerster et
al. 2017), which holds every finite machine, integer linear system and counter exactly.
Both read out classes linearly and learn under cross-entropy.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


class GRU(eqx.Module):
    """Weights of the gated network; gates in the order reset, update, candidate."""

    start: Float[Array, " n"]
    embedding: Float[Array, "symbols 3*n"]
    recurrent: Float[Array, "n 3*n"]
    candidate_bias: Float[Array, " n"]
    readout: Float[Array, "n classes"]
    readout_bias: Float[Array, " classes"]

    def step(self, hidden: Float[Array, "batch n"], symbol: Int[Array, " batch"]) -> Float[Array, "batch n"]:
        """The next state."""
        from_input = jnp.split(self.embedding[symbol], 3, axis=1)
        from_state = jnp.split(hidden @ self.recurrent, 3, axis=1)
        reset = jax.nn.sigmoid(from_input[0] + from_state[0])
        update = jax.nn.sigmoid(from_input[1] + from_state[1])
        candidate = jnp.tanh(from_input[2] + reset * (from_state[2] + self.candidate_bias[None, :]))
        return update * hidden + (1 - update) * candidate


class SwitchedAffine(eqx.Module):
    """An affine map of the state for each symbol."""

    start: Float[Array, " n"]
    matrices: Float[Array, "symbols n n"]
    offsets: Float[Array, "symbols n"]
    readout: Float[Array, "n classes"]
    readout_bias: Float[Array, " classes"]

    def step(self, hidden: Float[Array, "batch n"], symbol: Int[Array, " batch"]) -> Float[Array, "batch n"]:
        """The next state."""
        return jnp.einsum("bn,bnm->bm", hidden, self.matrices[symbol]) + self.offsets[symbol]


TokenNetwork = GRU | SwitchedAffine


@dataclasses.dataclass(frozen=True)
class TokenConfig:
    """A network from symbols to classes."""

    symbols: int
    """size of the alphabet (all channels of a step together)"""
    classes: int
    """different outputs"""
    hidden: int = 32
    """units of the state"""
    cell: Literal["gru", "affine"] = "gru"

    name = "token"

    def describe(self) -> str:
        """Architecture in a few words."""
        kind = "GRU" if self.cell == "gru" else "input-switched affine network"
        return f"{kind}, n={self.hidden}, {self.symbols} symbols, {self.classes} classes"

    def init(self, key: PRNGKeyArray) -> TokenNetwork:
        """Recurrent weights orthogonal, the others normal with standard deviation 1/sqrt(n)."""
        n = self.hidden
        start, table, recurrent, readout = jax.random.split(key, 4)
        out = jax.random.normal(readout, (n, self.classes)) * n**-0.5
        if self.cell == "affine":
            spread = 0.5 * n**-0.5 * jax.random.normal(recurrent, (self.symbols, n, n))
            return SwitchedAffine(
                jax.random.normal(start, (n,)),
                jnp.eye(n)[None] * 0.5 + spread,
                jax.random.normal(table, (self.symbols, n)) * 0.5,
                out,
                jnp.zeros(self.classes),
            )
        gates = jax.vmap(lambda k: jax.random.orthogonal(k, n))(jax.random.split(recurrent, 3))
        return GRU(
            jax.random.normal(start, (n,)) * 0.1,
            jax.random.normal(table, (self.symbols, 3 * n)),
            jnp.concatenate(gates, axis=1),
            jnp.zeros(n),
            out,
            jnp.zeros(self.classes),
        )

    def states_of(
        self, network: TokenNetwork, x: Int[Array, "length batch"]
    ) -> Float[Array, "length batch n"]:
        """States after every step."""

        def step(
            hidden: Float[Array, "batch n"], symbol: Int[Array, " batch"]
        ) -> tuple[Float[Array, "batch n"], Float[Array, "batch n"]]:
            hidden = network.step(hidden, symbol)
            return hidden, hidden

        start = jnp.broadcast_to(network.start, (x.shape[1], self.hidden))
        return jax.lax.scan(step, start, x, unroll=True)[1]

    def loss_of(
        self,
        network: TokenNetwork,
        x: Int[Array, "length batch"],
        y: Int[Array, "length batch"],
        weight: Float[Array, " length"],
    ) -> Float[Array, ""]:
        """Mean cross-entropy over batch and steps (weighted), in nats."""
        logits = self.states_of(network, x) @ network.readout + network.readout_bias[None, None, :]
        right = jnp.take_along_axis(logits, y[..., None], axis=2)[..., 0]
        value = jax.nn.logsumexp(logits, axis=2) - right
        return jnp.sum(value.mean(axis=1) * weight) / weight.sum()

    def predict(self, network: TokenNetwork, x: Int[Array, "length batch"]) -> Int[Array, "length batch"]:
        """Most likely classes."""
        return (self.states_of(network, x) @ network.readout + network.readout_bias[None, None, :]).argmax(
            axis=2
        )
