"""The block network: block-diagonal layers between permutations, in arrays that compile well.

A hidden vector of h = k B entries is kept as [k, B], row within the block first, block
last, so that a layer is k^2 multiply-adds of contiguous vectors. In the paper's order entry
b k + i is row i of block b; the permutations of the first layer read that order, those of
the others our own, so nothing is ever transposed for the sake of the layout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int, PRNGKeyArray

Permutation = Literal["random", "shuffle", "identity"]
PERMUTATIONS: tuple[str, ...] = get_args(Permutation)


class Wiring(NamedTuple):
    """Fixed permutations, one array per layer; y[forward] enters the layer."""

    forward: tuple[Int[Array, " hidden"], ...]
    inverse: tuple[Int[Array, " hidden"], ...]


class StackedWiring(NamedTuple):
    """As `Wiring`, for layers that are scanned over."""

    forward: Int[Array, "layer hidden"]
    inverse: Int[Array, "layer hidden"]


Blocks = tuple[Float[Array, "k k B"], ...]
"""Weights, one array per layer."""
BlockWiring = Wiring | tuple[()] | None
"""Of random permutations; () of a shuffle, None of none at all, which hold no arrays."""


class Trace(NamedTuple):
    """What G v leaves behind, per layer."""

    inputs: tuple[Float[Array, "k B"], ...]  # what enters the blocks on the way up
    outputs: tuple[Float[Array, "k B"], ...]  # what the transposed chain carries above the blocks


def orthogonal_blocks(
    key: PRNGKeyArray, num_layers: int, block_size: int, blocks: int, dtype: DTypeLike
) -> Blocks:
    """Independent random orthogonal blocks, uniform over the group; one array a layer."""
    drawn = jax.random.orthogonal(key, block_size, (num_layers, blocks), dtype)
    return tuple(jnp.moveaxis(drawn, 1, -1)[layer] for layer in range(num_layers))


def random_wiring(key: PRNGKeyArray, num_layers: int, hidden: int) -> Wiring:
    """Independent uniform permutations and their inverses, int32."""
    keys = jax.random.split(key, max(num_layers, 1))
    forward = jax.vmap(lambda k: jax.random.permutation(k, hidden))(keys).astype(jnp.int32)
    inverse = jnp.argsort(forward, axis=1).astype(jnp.int32)
    rows = lambda a: tuple(a[layer] for layer in range(num_layers))  # noqa: E731
    return Wiring(rows(forward), rows(inverse))


Moved = Float[Array, "..."]


def _alone(
    move: Callable[[Moved], Moved],
    y: Moved,
    runtime: Int[Array, ""],
    on_tpu: Callable[[Moved], Moved] | None = None,
) -> Float[Array, " hidden"]:
    """`move(y)`, a rearrangement, made once and stored. on_tpu: the same in a form that suits a TPU.

    XLA's CPU backend repeats a gather or transpose in every one of the k^2 loops that read
    it, and drops optimization barriers before it does so. Nothing is moved into or out of a
    conditional: this one, whose condition only running decides, keeps the rearrangement to
    itself. Flat going in and coming out: a two-dimensional result would only be labeled as
    transposed, and moved by its readers. runtime: any integer scalar that is never negative.
    """

    def moved() -> Float[Array, " hidden"]:
        return move(y).reshape(-1)

    def isolated() -> Float[Array, " hidden"]:
        return jax.lax.cond(runtime >= 0, moved, lambda: jnp.zeros(y.size, y.dtype))

    if on_tpu is None:
        return jax.lax.platform_dependent(cpu=isolated, default=moved)
    return jax.lax.platform_dependent(cpu=isolated, tpu=lambda: on_tpu(y).reshape(-1), default=moved)


_TILE = 128  # entries of a TPU's minor dimension
_MOST_ROWS = 8  # beyond, the matrices of zeros and ones below grow too large


def _one_hot(k: int, dtype: DTypeLike) -> Float[Array, "k tile entries"]:
    """Entry (row i, column c) of a tile of k rows goes to place c k + i."""
    place = jnp.arange(_TILE)[None, :] * k + jnp.arange(k)[:, None]
    return (place[..., None] == jnp.arange(k * _TILE)[None, None]).astype(dtype)


def _interleaved(y: Float[Array, "k B"]) -> Float[Array, " hidden"]:
    """The columns of y one after another, `y.T.reshape(-1)`, by exact products with zeros and ones.

    A transpose to a minor dimension of k entries is stored by a TPU in tiles of 128, padded 32-fold for
    k = 4, in everything that reads it. A number that is not finite makes NaN of all its tile.
    """
    k, blocks = y.shape
    tiles = -(-blocks // _TILE)
    padded = jnp.pad(y, ((0, 0), (0, tiles * _TILE - blocks))).reshape(k, tiles, _TILE)
    spread = jnp.einsum("itc,icq->tq", padded, _one_hot(k, y.dtype), precision="highest")
    return spread.reshape(-1)[: y.size]


def _deinterleaved(flat: Float[Array, " hidden"], k: int) -> Float[Array, "k B"]:
    """The inverse of `_interleaved`."""
    blocks = flat.size // k
    tiles = -(-blocks // _TILE)
    padded = jnp.pad(flat, (0, tiles * _TILE * k - flat.size)).reshape(tiles, k * _TILE)
    gathered = jnp.einsum("tq,icq->itc", padded, _one_hot(k, flat.dtype), precision="highest")
    return gathered.reshape(k, -1)[:, :blocks]


def _take(index: Int[Array, " hidden"]) -> Callable[[Moved], Moved]:
    return lambda y: y.at[index].get(mode="promise_in_bounds", unique_indices=True)


def _is_shuffle(wiring: BlockWiring) -> bool:
    """Whether there are no arrays because the permutation is a shuffle, not because there is none."""
    if wiring is not None and not (isinstance(wiring, tuple) and not wiring):
        raise TypeError(
            f"wiring of a block network: got {type(wiring).__name__}, expected Wiring, () or None"
        )
    return wiring is not None


def _enter(y: Moved, layer: int, wiring: BlockWiring, k: int, runtime: Int[Array, ""]) -> Float[Array, "k B"]:
    """The permuted input of a layer; y is flat below the first layer, else [k, B]."""
    if isinstance(wiring, Wiring):
        index = wiring.forward[layer]
        return _alone(_take(index), y.reshape(-1), runtime).reshape(k, -1)
    if _is_shuffle(wiring):
        by_product = _interleaved if k <= _MOST_ROWS else None
        return (
            y.reshape(k, -1) if layer == 0 else _alone(jnp.transpose, y, runtime, by_product).reshape(k, -1)
        )
    return _alone(lambda y: y.reshape(-1, k).T, y, runtime).reshape(k, -1) if layer == 0 else y


def _leave(z: Float[Array, "k B"], layer: int, wiring: BlockWiring, k: int, runtime: Int[Array, ""]) -> Moved:
    """The inverse of `_enter`."""
    if isinstance(wiring, Wiring):
        out = _alone(_take(wiring.inverse[layer]), z.reshape(-1), runtime)
        return out if layer == 0 else out.reshape(k, -1)
    if _is_shuffle(wiring):
        if layer == 0:
            return z.reshape(-1)
        by_product = (lambda z: _deinterleaved(z.reshape(-1), k)) if k <= _MOST_ROWS else None
        return _alone(lambda z: z.reshape(-1, k).T, z, runtime, by_product).reshape(k, -1)
    return _alone(jnp.transpose, z, runtime) if layer == 0 else z


def _blocks(w: Float[Array, "k k B"], z: Float[Array, "k B"]) -> Float[Array, "k B"]:
    """out[j, b] = sum_i z[i, b] w[i, j, b]."""
    return sum((w[i] * z[i][None] for i in range(1, w.shape[0])), w[0] * z[0][None])


def _blocks_transposed(w: Float[Array, "k k B"], y: Float[Array, "k B"]) -> Float[Array, "k B"]:
    """out[i, b] = sum_j w[i, j, b] y[j, b]."""
    return sum((w[:, j] * y[j][None] for j in range(1, w.shape[1])), w[:, 0] * y[0][None])


def _as_it_is(y: Moved) -> Moved:
    return y


def apply(
    theta: Blocks,
    wiring: BlockWiring,
    v: Float[Array, " n"],
    *,
    split: Callable[[Moved], Moved] = _as_it_is,
    whole: Callable[[Moved], Moved] = _as_it_is,
) -> tuple[Float[Array, " n"], Trace]:
    """G v = S' T' T S v, and the trace of both chains.

    split, whole: lay hidden vectors [k, B] out over devices, by blocks as theta is, and on each. Left to
    itself the compiler may gather weights, of which there are k times as many.
    """
    if not theta:
        return v, Trace((), ())
    k, _, blocks = theta[0].shape
    y = jnp.pad(v, (0, k * blocks - v.shape[0]))
    runtime = jnp.isnan(y[0]).astype(jnp.int32)  # 0 or 1, which only running tells
    inputs, outputs = [], []
    for layer, w in enumerate(theta):
        z = split(_enter(y, layer, wiring, k, runtime))
        inputs.append(z)
        y = _blocks(w, z)
        y = whole(y) if layer + 1 < len(theta) else y  # the last is read where it is
    for layer in reversed(range(len(theta))):
        y = split(y)
        outputs.append(y)
        y = _leave(whole(_blocks_transposed(theta[layer], y)), layer, wiring, k, runtime)
    return y[: v.shape[0]], Trace(tuple(inputs), tuple(reversed(outputs)))


def gradient(a: Trace, b: Trace) -> Blocks:
    """Gradient of <a, G b> by theta: Z_a D_b + Z_b D_a, an outer product within each block."""
    return tuple(
        za[:, None] * db[None] + zb[:, None] * da[None]
        for za, da, zb, db in zip(a.inputs, a.outputs, b.inputs, b.outputs, strict=True)
    )


def from_paper_order(
    theta: Float[np.ndarray, "layer B k k"],
    permutations: Int[np.ndarray, "layer hidden"],
    dtype: DTypeLike | None = None,
) -> tuple[Blocks, Wiring]:
    """Weights and wiring of this module from arrays in the paper's order.

    theta[l, b, i, o] multiplies row i of block b into row o; permutations[l] is applied
    first, y[permutation], with entry b k + i being row i of block b.
    """
    theta, permutations = np.asarray(theta), np.asarray(permutations)
    _, blocks, k, _ = theta.shape
    ours = np.arange(k * blocks).reshape(blocks, k).T.reshape(-1)  # paper's index of our entries
    back = np.argsort(ours)
    forward = [back[p[ours]] if layer else p[ours] for layer, p in enumerate(permutations)]
    as_index = lambda arrays: tuple(jnp.asarray(a, jnp.int32) for a in arrays)  # noqa: E731
    weights = tuple(jnp.asarray(np.moveaxis(layer, 0, -1), dtype) for layer in theta)
    return weights, Wiring(as_index(forward), as_index(np.argsort(p) for p in forward))


def to_paper_order(theta: Blocks) -> Float[np.ndarray, "layer B k k"]:
    """The weights as [layer, block, row in, row out]."""
    return np.stack([np.moveaxis(np.asarray(w), -1, 0) for w in theta])
