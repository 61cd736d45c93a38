"""A network as something to ask: states and integer inputs in, states and integer outputs out.

Extraction sees every network through this: the package's own and the user's step functions.
Batches are padded to a few sizes, so that a jitted step compiles a few times and no more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree, Shaped

from mips.networks.relu import ReluConfig, ReluRNN
from mips.networks.tokens import TokenConfig, TokenNetwork
from mips.tasks.task import Inputs, Outputs, agree

State = PyTree[ArrayLike]  # of one sequence
States = PyTree[Shaped[Array | np.ndarray, "_states ..."]]  # of many, along the first axis

_LARGEST = 1 << 15
_NOT_A_NUMBER = -(1 << 31)


@dataclasses.dataclass(frozen=True, eq=False)
class Oracle:
    """A deterministic network over integer sequences.

    `advance` takes a state pytree with leading batch axis and int32 inputs (batch, inputs) and returns
    the next state and int32 outputs (batch, outputs); it is jitted by whoever makes it.
    """

    advance: Callable[
        [States, Int[np.ndarray, "states inputs"]], tuple[States, Int[Array | np.ndarray, "states outputs"]]
    ]
    start: State
    """initial state, without batch axis"""
    inputs: int
    outputs: int
    description: str = ""

    def initial(self, count: int) -> States:
        """The initial state, `count` times."""
        return jax.tree.map(lambda a: np.broadcast_to(np.asarray(a), (count, *np.shape(a))), self.start)

    def step(
        self, states: States, x: Int[np.ndarray, "states inputs"]
    ) -> tuple[States, Int[np.ndarray, "states outputs"]]:
        """One step from each state: inputs (count, inputs) to (next states, outputs (count, outputs))."""
        count = len(x)
        pieces = []
        for begin in range(0, count, _LARGEST):
            part = slice(begin, min(begin + _LARGEST, count))
            size = part.stop - part.start
            padded = max(64, 4 ** int(np.ceil(np.log(size) / np.log(4)))) if size > 1 else 64

            def pad(
                a: Shaped[Array | np.ndarray, " states *shape"],
                size: int = size,
                padded: int = padded,
                part: slice = part,
            ) -> Shaped[np.ndarray, " padded *shape"]:
                return np.concatenate([a[part], np.repeat(a[part][:1], padded - size, axis=0)])

            state, y = self.advance(jax.tree.map(pad, states), pad(np.asarray(x, np.int32)))
            pieces.append(jax.tree.map(lambda a, size=size: np.asarray(a)[:size], (state, y)))
        if len(pieces) == 1:
            state, y = pieces[0]
        else:
            state, y = jax.tree.map(lambda *a: np.concatenate(a), *pieces)
        if (y == _NOT_A_NUMBER).any():
            raise ValueError(f"{self.description} gives outputs that are not finite")
        return state, y.astype(np.int64)

    def run(self, x: Inputs, states: States | None = None) -> Outputs:
        """Outputs (count, length, outputs) on whole sequences, from the initial state or from `states`."""
        states = self.initial(len(x)) if states is None else states
        columns = []
        for t in range(x.shape[1]):
            states, y = self.step(states, x[:, t])
            columns.append(y)
        return np.stack(columns, axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """A network, and how well it does its task."""

    oracle: Oracle
    accuracy: float
    """share of test sequences that it has right at every step"""
    finished: bool = False
    """whether every reading was tried on it"""


def take(states: States, rows: Int[np.ndarray, " rows"]) -> States:
    """States by row."""
    return jax.tree.map(lambda a: a[rows], states)


def from_relu(config: ReluConfig, network: ReluRNN) -> Oracle:
    """The oracle of a numeric network; outputs rounded. `network` takes raw integers (see `unscale`)."""

    @jax.jit
    def advance(
        hidden: Float[Array, "states n"], x: Int[Array, "states inputs"]
    ) -> tuple[Float[Array, "states n"], Int[Array, "states outputs"]]:
        hidden, y = network.step(hidden.T, x.T.astype(jnp.float32))
        return hidden.T, jnp.round(y.T).astype(jnp.int32)

    start = np.zeros(network.hidden, np.float32)
    return Oracle(advance, start, config.inputs, config.outputs, config.describe())


def from_tokens(
    config: TokenConfig,
    network: TokenNetwork,
    *,
    low: int,
    high: int,
    inputs: int,
    values: Int[np.ndarray, "seen outputs"],
) -> Oracle:
    """The oracle of a network over symbols: channels of [low, high) in, `values[class]` out."""
    values = np.asarray(values, np.int32)
    # Classes beyond the observed ones exist only to share compiled shapes.
    used = jnp.where(jnp.arange(config.classes) < len(values), 0.0, -jnp.inf)

    @jax.jit
    def advance(
        hidden: Float[Array, "states n"], x: Int[Array, "states inputs"]
    ) -> tuple[Float[Array, "states n"], Int[Array, "states outputs"]]:
        symbol = jnp.zeros(x.shape[0], jnp.int32)
        for channel in range(inputs):
            symbol = symbol * (high - low) + jnp.clip(x[:, channel] - low, 0, high - low - 1)
        hidden = network.step(hidden, symbol)
        logits = hidden @ network.readout + network.readout_bias[None, :] + used[None, :]
        return hidden, jnp.asarray(values)[logits.argmax(axis=1)]

    return Oracle(advance, np.asarray(network.start), inputs, values.shape[1], config.describe())


def from_step(
    step: Callable[[State, Int[Array, "..."]], tuple[State, Shaped[Array, "..."]]],
    state: State,
    *,
    inputs: int = 1,
    outputs: int = 1,
    description: str = "",
) -> Oracle:
    """The oracle of any JAX step function `(state, input) -> (state, output)` on single examples.

    Args: step: takes a state and an int32 array (inputs,), or a scalar when inputs = 1 and it wants one;
        returns the next state, of the same structure, and outputs, real or integer, of `outputs` elements
        (rounded). state: initial state, any pytree of arrays.

    Raises: ValueError when the returned state or output has another shape or type than expected.
    """
    if inputs < 1 or outputs < 1:
        raise ValueError(f"inputs={inputs}, outputs={outputs}: must be at least 1")
    state = jax.tree.map(jnp.asarray, state)
    if any(jnp.issubdtype(a.dtype, jax.dtypes.prng_key) for a in jax.tree.leaves(state)):
        raise ValueError("a state with random keys: the network must be deterministic")

    shape = jax.ShapeDtypeStruct((inputs,), jnp.int32)
    scalar = False
    try:
        new, y = _result(step, state, shape)
    except (TypeError, ValueError) as first:
        if inputs != 1:
            raise ValueError(f"the step function fails on an input of shape ({inputs},): {first}") from first
        new, y = _result(step, state, jax.ShapeDtypeStruct((), jnp.int32))
        scalar = True
    if inputs == 1 and not scalar and _differs(state, new) is not None:
        scalar, (new, y) = True, _result(step, state, jax.ShapeDtypeStruct((), jnp.int32))
    problem = _differs(state, new)
    if problem is not None:
        raise ValueError(f"the step function must return a state like the one it takes: {problem}")
    if int(np.prod(y.shape)) != outputs:
        raise ValueError(
            f"the step function returns outputs of shape {y.shape}; {outputs} element(s) were expected"
        )

    @jax.jit
    def advance(
        states: tuple[Int[Array, " states"], States], x: Int[Array, "states inputs"]
    ) -> tuple[tuple[Int[Array, " states"], States], Int[Array, "states outputs"]]:
        padding, states = states
        states, y = jax.vmap(step)(states, x[:, 0] if scalar else x)
        y = jnp.asarray(y, jnp.float32) if y.dtype == bool else y
        rounded = jnp.where(jnp.isfinite(y), jnp.round(y), _NOT_A_NUMBER).astype(jnp.int32)
        return (padding, states), rounded.reshape(x.shape[0], outputs)

    # One more array in the state, so that there is a batch axis also where the network has no state.
    return Oracle(
        advance, (np.zeros((), np.int32), state), inputs, outputs, description or "the user's step function"
    )


def _result(
    step: Callable[..., object], state: PyTree[Array], x: jax.ShapeDtypeStruct
) -> tuple[PyTree[jax.ShapeDtypeStruct], jax.ShapeDtypeStruct]:
    result = jax.eval_shape(step, state, x)
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError("the step function must return (state, output)")
    if not hasattr(result[1], "shape"):
        raise ValueError(f"the step function's output must be one array, not {type(result[1]).__name__}")
    return result


def _differs(old: PyTree[Array], new: PyTree[jax.ShapeDtypeStruct]) -> str | None:
    if jax.tree.structure(old) != jax.tree.structure(new):
        return f"{jax.tree.structure(new)} instead of {jax.tree.structure(old)}"
    for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{b.dtype}{list(b.shape)} instead of {a.dtype}{list(a.shape)}"
    return None


def agreement(oracle: Oracle, x: Inputs, y: Outputs) -> tuple[float, float]:
    """Shares of single outputs and of whole sequences on which the network gives y."""
    hit = agree(oracle.run(x), y)
    return float(hit.mean()), float(hit.all(axis=1).mean())
