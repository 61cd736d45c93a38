"""The loop over the four blocks, and how what a block computed is kept for its derivative.

`jax.lax.scan` writes each array that the backward pass reads into a stack of its own: some two
hundred kernels a block. On CPUs they are cheap; on GPUs, where a kernel costs microseconds whatever
it does, they are a third of a small puzzle's step. There, all arrays lie in one vector per block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

StateT = TypeVar("StateT")
WeightsT = TypeVar("WeightsT")
Vectors = dict[str, Shaped[Array, "*blocks _"]]
"""One for each type of number, of one block or stacked."""


class _Packing(NamedTuple):
    """How arrays lie in vectors."""

    shapes: tuple[tuple[int, ...], ...]
    kinds: tuple[str, ...]

    @classmethod
    def of(cls, arrays: Sequence[Shaped[Array, "..."]]) -> _Packing:
        return cls(tuple(a.shape for a in arrays), tuple(str(a.dtype) for a in arrays))

    def pack(self, arrays: Sequence[Shaped[Array, "..."]]) -> Vectors:
        return {
            kind: jnp.concatenate([a.ravel() for a, k in zip(arrays, self.kinds, strict=True) if k == kind])
            for kind in sorted(set(self.kinds))
        }

    def unpack(self, vectors: Vectors) -> list[Shaped[Array, "..."]]:
        parts = {}
        for kind, vector in vectors.items():
            sizes = [math.prod(s) for s, k in zip(self.shapes, self.kinds, strict=True) if k == kind]
            parts[kind] = iter(jnp.split(vector, np.cumsum(sizes)[:-1]))
        return [next(parts[kind]).reshape(s) for s, kind in zip(self.shapes, self.kinds, strict=True)]


def stacked(block: Callable[[StateT, WeightsT], StateT], x: StateT, weights: WeightsT) -> StateT:
    """Applies `block(x, weights[i])` for each i; what the backward pass reads is kept array by array."""
    return jax.lax.scan(lambda x, w: (block(x, w), None), x, weights)[0]


def packed(block: Callable[[StateT, WeightsT], StateT], x: StateT, weights: WeightsT) -> StateT:
    """As `stacked`, with one vector per block of all that the backward pass reads, and one of all weights.

    weights: a tree of arrays, blocks leading. `block` may read other arrays that aren't differentiated.
    """
    known: dict[str, Any] = {}

    def of_block(w: WeightsT) -> Vectors:
        leaves, known["weights tree"] = jax.tree.flatten(w)
        known["weights"] = _Packing.of(leaves)
        return known["weights"].pack(leaves)

    def taken(vectors: Vectors) -> WeightsT:
        return jax.tree.unflatten(known["weights tree"], known["weights"].unpack(vectors))

    @jax.custom_vjp
    def run(x: StateT, vectors: Vectors) -> StateT:
        return jax.lax.scan(lambda x, v: (block(x, taken(v)), None), x, vectors)[0]

    def forward(x: StateT, vectors: Vectors) -> tuple[StateT, tuple[Vectors, Vectors]]:
        def one(x: StateT, v: Vectors) -> tuple[StateT, Vectors]:
            w = taken(v)
            out, pullback = jax.vjp(block, x, w)
            leaves, known["pullback"] = jax.tree.flatten(pullback)
            places = {id(a): i for i, a in enumerate(jax.tree.leaves(w))}
            kept = list({id(a): a for a in leaves if id(a) not in places}.values())
            order = {id(a): len(places) + i for i, a in enumerate(kept)}
            known["source"] = [(places | order)[id(a)] for a in leaves]
            known["kept"] = _Packing.of(kept)
            return out, known["kept"].pack(kept)

        out, kept = jax.lax.scan(one, x, vectors)
        return out, (vectors, kept)

    def backward(saved: tuple[Vectors, Vectors], g: StateT) -> tuple[StateT, Vectors]:
        def one(g: StateT, v: tuple[Vectors, Vectors]) -> tuple[StateT, Vectors]:
            arrays = known["weights"].unpack(v[0]) + known["kept"].unpack(v[1])
            pullback = jax.tree.unflatten(known["pullback"], [arrays[i] for i in known["source"]])
            dx, dw = pullback(g)
            return dx, known["weights"].pack(jax.tree.leaves(dw))

        return jax.lax.scan(one, g, saved, reverse=True)

    run.defvjp(forward, backward)
    return run(x, jax.vmap(of_block)(weights))
