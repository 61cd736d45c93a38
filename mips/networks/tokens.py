"""Networks that read symbols and write classes: for tasks over a finite alphabet.

`GRU`: gated, learned initial state. `SwitchedAffine`: h_t = W_{x_t} h_{t-1} + b_{x_t} (Foerster et
al. 2017), which holds every finite machine, integer linear system and counter exactly.
Both read out classes linearly and learn under cross-entropy.

`step` is the rule. Training over few symbols takes the same rule as one product per step: `becomes` of
`reads @ joined`, whose gradient has neither look-ups nor sums over steps.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


class GRU(eqx.Module):
    """Weights of the gated network; gates in the order reset, update, candidate."""

    few: ClassVar[int] = 24
    """Up to so many symbols training is fastest where each is one-hot: products then, no look-ups."""
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

    def joined(self) -> Float[Array, "reads sums"]:
        """(n + symbols, 4 n): reset, update, and the candidate from state and input."""
        state = jnp.split(self.recurrent, 3, axis=1)
        symbol = jnp.split(self.embedding, 3, axis=1)
        bias = jnp.broadcast_to(self.candidate_bias, symbol[2].shape)
        return jnp.concatenate(
            [
                jnp.concatenate([*state, jnp.zeros_like(state[2])], axis=1),
                jnp.concatenate([symbol[0], symbol[1], bias, symbol[2]], axis=1),
            ]
        )

    @staticmethod
    def reads(
        hidden: Float[Array, "batch n"], hot: Float[Array, "batch symbols"]
    ) -> Float[Array, "batch reads"]:
        """What `joined` is applied to."""
        return jnp.concatenate([hidden, hot], axis=1)

    @staticmethod
    def becomes(sums: Float[Array, "batch sums"], hidden: Float[Array, "batch n"]) -> Float[Array, "batch n"]:
        """The next state."""
        reset, update, from_state, from_input = jnp.split(sums, 4, axis=1)
        update = jax.nn.sigmoid(update)
        candidate = jnp.tanh(from_input + jax.nn.sigmoid(reset) * from_state)
        return update * hidden + (1 - update) * candidate


class SwitchedAffine(eqx.Module):
    """An affine map of the state for each symbol."""

    few: ClassVar[int] = 8
    """As for the gated network; here the work grows with the alphabet."""
    start: Float[Array, " n"]
    matrices: Float[Array, "symbols n n"]
    offsets: Float[Array, "symbols n"]
    readout: Float[Array, "n classes"]
    readout_bias: Float[Array, " classes"]

    def step(self, hidden: Float[Array, "batch n"], symbol: Int[Array, " batch"]) -> Float[Array, "batch n"]:
        """The next state."""
        return jnp.einsum("bn,bnm->bm", hidden, self.matrices[symbol]) + self.offsets[symbol]

    def joined(self) -> Float[Array, "reads n"]:
        """(symbols n + symbols, n): all matrices, one below the other, then the offsets."""
        n = self.offsets.shape[1]
        return jnp.concatenate([self.matrices.reshape(-1, n), self.offsets])

    @staticmethod
    def reads(
        hidden: Float[Array, "batch n"], hot: Float[Array, "batch symbols"]
    ) -> Float[Array, "batch reads"]:
        """The state in its symbol's place, zeros in the others'; then the symbol."""
        apart = hot[:, :, None] * hidden[:, None, :]
        return jnp.concatenate([apart.reshape(len(hidden), -1), hot], axis=1)

    @staticmethod
    def becomes(sums: Float[Array, "batch n"], hidden: Float[Array, "batch n"]) -> Float[Array, "batch n"]:
        """The next state."""
        return sums


TokenNetwork = GRU | SwitchedAffine

_States = Float[Array, "length batch n"]
_Hot = Float[Array, "length batch symbols"]  # one-hot
_Saved = tuple[
    Float[Array, "reads sums"], Float[Array, "batch n"], _Hot, _States, Float[Array, "length batch sums"]
]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _steps(
    cell: type[TokenNetwork], joined: Float[Array, "reads sums"], start: Float[Array, "batch n"], hot: _Hot
) -> _States:
    """States after every step.

    Derived by hand so that the gradient of the weights is one product over all steps, not a sum of as many.
    """
    return _steps_forward(cell, joined, start, hot)[0]


def _steps_forward(
    cell: type[TokenNetwork], joined: Float[Array, "reads sums"], start: Float[Array, "batch n"], hot: _Hot
) -> tuple[_States, _Saved]:
    def step(
        hidden: Float[Array, "batch n"], hot: Float[Array, "batch symbols"]
    ) -> tuple[Float[Array, "batch n"], tuple[Float[Array, "batch n"], Float[Array, "batch sums"]]]:
        sums = cell.reads(hidden, hot) @ joined
        after = cell.becomes(sums, hidden)
        return after, (after, sums)

    states, sums = jax.lax.scan(step, start, hot, unroll=True)[1]
    return states, (joined, start, hot, states, sums)


def _steps_backward(
    cell: type[TokenNetwork], saved: _Saved, of_states: _States
) -> tuple[Float[Array, "reads sums"], Float[Array, "batch n"], None]:
    joined, start, hot, states, sums = saved
    before = jnp.concatenate([start[None], states[:-1]])

    def step(
        of_after: Float[Array, "batch n"],
        at: tuple[
            Float[Array, "batch n"],
            Float[Array, "batch sums"],
            Float[Array, "batch n"],
            Float[Array, "batch symbols"],
        ],
    ) -> tuple[Float[Array, "batch n"], Float[Array, "batch sums"]]:
        of_state, sums, before, hot = at
        of_sums, of_before = jax.vjp(cell.becomes, sums, before)[1](of_after + of_state)
        (through_sums,) = jax.vjp(lambda hidden: cell.reads(hidden, hot), before)[1](of_sums @ joined.T)
        return of_before + through_sums, of_sums

    steps = (of_states, sums, before, hot)
    of_start, of_sums = jax.lax.scan(step, jnp.zeros_like(start), steps, reverse=True, unroll=True)
    of_joined = jnp.einsum("tbr,tbs->rs", jax.vmap(cell.reads)(before, hot), of_sums)
    return of_joined, of_start, None


_steps.defvjp(_steps_forward, _steps_backward)


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
    partial: bool = False
    """whether some classes are -1, which stands for an output that nobody recorded"""

    name = "token"

    @property
    def missing(self) -> int | None:
        """What stands for an output that nobody recorded; None if all are there."""
        return -1 if self.partial else None

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
        if self.symbols <= network.few:
            hot = jax.nn.one_hot(x, self.symbols, dtype=start.dtype)
            return _steps(type(network), network.joined(), start, hot)
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
        of_class = y[..., None] == jnp.arange(self.classes)[None, None, :]
        right = jnp.where(of_class, logits, 0).sum(axis=2)  # the gradient of a look-up would be scattered
        value = jax.nn.logsumexp(logits, axis=2) - right
        if self.partial:
            known = (y >= 0) * weight[:, None]
            return jnp.sum(value * known) / jnp.maximum(known.sum(), 1.0)
        return jnp.sum(value.mean(axis=1) * weight) / weight.sum()

    def predict(self, network: TokenNetwork, x: Int[Array, "length batch"]) -> Int[Array, "length batch"]:
        """Most likely classes."""
        return (self.states_of(network, x) @ network.readout + network.readout_bias[None, None, :]).argmax(
            axis=2
        )
