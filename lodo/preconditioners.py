"""The learned preconditioners: LODO's block network and the simpler ones it was compared with.

A preconditioner is a symmetric matrix G(theta), n x n, that is never formed. All of them
share one interface, three pure functions of a frozen dataclass:

- `init(n, key, dtype)` -> (theta, wiring): what is learned, and fixed integers (or nothing);
- `apply(theta, wiring, v)` -> (G v, trace): the product, and the intermediates it made;
- `gradient(theta, wiring, trace_a, trace_b)`: d <a, G(theta) b> / d theta from two traces.

Since G is symmetric, <a, G b> is a bilinear form in two chains, and its gradient needs no
differentiation through them, only their traces (module `lodo.block_network`).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Int, PRNGKeyArray, PyTree

from lodo import block_network as network

# Trees of arrays, each architecture its own: what annotates the state of any of them.
Theta = PyTree[Float[Array, "..."]]
"""Weights: floating arrays."""
Wiring = PyTree[Int[Array, "..."]]
"""Fixed permutations: integer arrays, or nothing."""
Trace = PyTree[Float[Array, "..."]]
"""Intermediates of one product: floating arrays."""

ThetaT = TypeVar("ThetaT")
WiringT = TypeVar("WiringT")
TraceT = TypeVar("TraceT")


@runtime_checkable
class Architecture(Protocol[ThetaT, WiringT, TraceT]):
    """What `scale_by_lodo` asks of a preconditioner; frozen, so that equal ones are interchangeable."""

    def init(self, n: int, key: PRNGKeyArray, dtype: DTypeLike) -> tuple[ThetaT, WiringT]: ...
    def apply(
        self, theta: ThetaT, wiring: WiringT, v: Float[Array, " n"]
    ) -> tuple[Float[Array, " n"], TraceT]: ...
    def gradient(self, theta: ThetaT, wiring: WiringT, trace_a: TraceT, trace_b: TraceT) -> ThetaT: ...


def check_size(name: str, value: object, least: int = 1) -> None:
    """Structural numbers decide shapes: they must be Python integers.

    Raises: TypeError for arrays and traced values, ValueError below `least`.
    """
    if isinstance(value, jax.Array):
        raise TypeError(
            f"{name} is fixed when the optimizer is made and must be a Python int, got a "
            f"{type(value).__name__}"
        )
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r}: expected an int")
    if value < least:
        raise ValueError(f"{name}={value}: expected at least {least}")


@dataclasses.dataclass(frozen=True)
class BlockNetwork:
    """LODO: N block-diagonal layers between fixed permutations, forward and transposed.

    G(theta) = S' T(theta)' T(theta) S, with S appending zeros up to the hidden width and T
    the product of all layers: symmetric and positive semidefinite for every theta, and the
    identity at the start, where every block is a random orthogonal matrix.
    """

    num_layers: int = 16
    """N; each is used forward and transposed"""
    block_size: int = 4
    """k; a layer has h / k blocks of k x k"""
    permutation: network.Permutation = "random"
    """"random": drawn at the start, as published; "shuffle": a transpose, faster and as good;
    "identity": none, for ablations"""
    width: int = 2
    """the hidden width h is this times n, rounded up by 1 to k (published: 2)"""
    block_multiple: int = 1
    """the number of blocks is rounded up to a multiple of this, for sharding"""

    def __post_init__(self) -> None:
        check_size("num_layers", self.num_layers, 0)
        for name in ("block_size", "width", "block_multiple"):
            check_size(name, getattr(self, name))
        if self.permutation not in network.PERMUTATIONS:
            raise ValueError(f"permutation={self.permutation!r}: expected one of {network.PERMUTATIONS}")

    def num_blocks(self, n: int) -> int:
        """Blocks of a layer: one more than fit into width * n, also where they fit exactly."""
        blocks = self.width * n // self.block_size + 1
        return -(-blocks // self.block_multiple) * self.block_multiple

    def init(
        self, n: int, key: PRNGKeyArray, dtype: DTypeLike = jnp.float32
    ) -> tuple[network.Blocks, network.BlockWiring]:
        """Orthogonal blocks, one [k, k, h / k] array a layer; permutations if random."""
        blocks_key, wiring_key = jax.random.split(key)
        blocks = self.num_blocks(n)
        theta = network.orthogonal_blocks(blocks_key, self.num_layers, self.block_size, blocks, dtype)
        if self.permutation != "random":
            return theta, () if self.permutation == "shuffle" else None
        return theta, network.random_wiring(wiring_key, self.num_layers, self.block_size * blocks)

    def apply(
        self, theta: network.Blocks, wiring: network.BlockWiring, v: Float[Array, " n"]
    ) -> tuple[Float[Array, " n"], network.Trace]:
        """G v and the trace of the chain started from v."""
        return network.apply(theta, wiring, v)

    def gradient(
        self,
        theta: network.Blocks,
        wiring: network.BlockWiring,
        trace_a: network.Trace,
        trace_b: network.Trace,
    ) -> network.Blocks:
        """Gradient of <a, G b> by theta, one array a layer."""
        del theta, wiring
        return network.gradient(trace_a, trace_b)


@dataclasses.dataclass(frozen=True)
class Diagonal:
    """G = diag(w), w = 1 at the start; not squared, so entries may become negative."""

    def init(
        self, n: int, key: PRNGKeyArray, dtype: DTypeLike = jnp.float32
    ) -> tuple[Float[Array, " n"], tuple[()]]:
        """One weight per parameter."""
        del key
        return jnp.ones(n, dtype), ()

    def apply(
        self, theta: Float[Array, " n"], wiring: tuple[()], v: Float[Array, " n"]
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """W v elementwise; the trace is v."""
        del wiring
        return theta * v, v

    def gradient(
        self,
        theta: Float[Array, " n"],
        wiring: tuple[()],
        trace_a: Float[Array, " n"],
        trace_b: Float[Array, " n"],
    ) -> Float[Array, " n"]:
        """Elementwise product."""
        del theta, wiring
        return trace_a * trace_b


@dataclasses.dataclass(frozen=True)
class Global:
    """G = w, one learned number for all parameters; 1 at the start."""

    def init(
        self, n: int, key: PRNGKeyArray, dtype: DTypeLike = jnp.float32
    ) -> tuple[Float[Array, ""], tuple[()]]:
        """One weight."""
        del n, key
        return jnp.ones((), dtype), ()

    def apply(
        self, theta: Float[Array, ""], wiring: tuple[()], v: Float[Array, " n"]
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """W v; the trace is v."""
        del wiring
        return theta * v, v

    def gradient(
        self,
        theta: Float[Array, ""],
        wiring: tuple[()],
        trace_a: Float[Array, " n"],
        trace_b: Float[Array, " n"],
    ) -> Float[Array, ""]:
        """Inner product."""
        del theta, wiring
        return jnp.vdot(trace_a, trace_b)


Hidden = Float[Array, " hidden"]
Places = Int[Array, " hidden"]


class ResidualTheta(NamedTuple):
    """Weights of the residual network."""

    layers: Float[Array, "layer hidden"]
    diagonal: Float[Array, " hidden"]


class ResidualTrace(NamedTuple):
    """What one product with the residual network leaves."""

    inputs: Float[Array, "layer hidden"]  # permuted input of each layer
    top: Float[Array, " hidden"]  # before the diagonal
    outputs: Float[Array, "layer hidden"]  # what the transposed chain carries above each layer


@dataclasses.dataclass(frozen=True)
class Residual:
    """G = S' R' diag(u) R S, R the product of layers y + w * y[permutation].

    Not the identity at the start, and not positive semidefinite once an entry of u is
    negative. Hidden width 2n.
    """

    num_layers: int = 64

    def __post_init__(self) -> None:
        check_size("num_layers", self.num_layers)

    def init(
        self, n: int, key: PRNGKeyArray, dtype: DTypeLike = jnp.float32
    ) -> tuple[ResidualTheta, network.StackedWiring]:
        """Weights normal with standard deviation 1/8, u = 1; permutations and their inverses."""
        weights_key, wiring_key = jax.random.split(key)
        layers = jax.random.normal(weights_key, (self.num_layers, 2 * n), dtype) / 8
        forward = jax.vmap(lambda k: jax.random.permutation(k, 2 * n))(
            jax.random.split(wiring_key, self.num_layers)
        ).astype(jnp.int32)
        inverse = jnp.argsort(forward, 1).astype(jnp.int32)
        return ResidualTheta(layers, jnp.ones(2 * n, dtype)), network.StackedWiring(forward, inverse)

    def apply(
        self, theta: ResidualTheta, wiring: network.StackedWiring, v: Float[Array, " n"]
    ) -> tuple[Float[Array, " n"], ResidualTrace]:
        """G v and the trace; scans over layers, since unrolled ones take minutes to compile."""
        forward, inverse = wiring

        def up(y: Hidden, layer: tuple[Hidden, Places]) -> tuple[Hidden, Hidden]:
            w, permutation = layer
            z = y[permutation]
            return y + w * z, z

        def down(y: Hidden, layer: tuple[Hidden, Places]) -> tuple[Hidden, Hidden]:
            w, permutation = layer
            return y + (w * y)[permutation], y

        y = jnp.concatenate([v, jnp.zeros_like(v)])
        top, inputs = jax.lax.scan(up, y, (theta.layers, forward))
        y, outputs = jax.lax.scan(down, theta.diagonal * top, (theta.layers, inverse), reverse=True)
        return y[: v.shape[0]], ResidualTrace(inputs, top, outputs)

    def gradient(
        self,
        theta: ResidualTheta,
        wiring: network.StackedWiring,
        trace_a: ResidualTrace,
        trace_b: ResidualTrace,
    ) -> ResidualTheta:
        """Gradient of <a, G b> by theta."""
        del theta, wiring
        layers = trace_a.outputs * trace_b.inputs + trace_b.outputs * trace_a.inputs
        return ResidualTheta(layers, trace_a.top * trace_b.top)


def architecture_of(theta: Theta, wiring: Wiring) -> Architecture:
    """The architecture whose weights these are, as far as arrays tell.

    Raises: TypeError if no architecture of this module has such weights.
    """
    if isinstance(theta, tuple | list) and not isinstance(theta, ResidualTheta):
        size = theta[0].shape[0] if theta else 1
        permutation: network.Permutation = (
            "identity" if wiring is None else "shuffle" if wiring == () else "random"
        )
        return BlockNetwork(len(theta), size, permutation)
    if isinstance(theta, ResidualTheta):
        return Residual(theta.layers.shape[0])
    if hasattr(theta, "ndim") and theta.ndim < 2:
        return Diagonal() if theta.ndim else Global()
    raise TypeError(f"no known architecture has weights of type {type(theta).__name__}; pass architecture=")
