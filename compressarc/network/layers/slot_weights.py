"""Weights laid out by color slot and kind of place (`Group.by_slot`, `Group.kinds`).

They are laid out before the loop over blocks, of all blocks at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from compressarc.multitensor import Group, Shape, slot_sets
from compressarc.network.layers.axes import exact_product
from compressarc.network.layers.by_platform import linear, operation


def _table(rows: Sequence[int], sets: int) -> Float[np.ndarray, "rows sets"]:
    """Zeros and ones: the set of each row, none if negative."""
    return (np.array(rows)[:, None] == np.arange(sets)).astype(float)


def _taken(weight: Float[Array, "sets n"], *, rows: Sequence[int], sets: int) -> Float[Array, "rows n"]:
    return exact_product(jnp.asarray(_table(rows, sets), weight.dtype), weight)


def _taken_on_cpu(
    weight: Float[Array, "sets n"], *, rows: Sequence[int], sets: int
) -> Float[Array, "rows n"]:
    if min(rows) < 0:
        weight = jnp.concatenate([weight, jnp.zeros_like(weight[:1])])
    return weight[np.array(rows)]


def _given_back(g: Float[Array, "rows n"], *, rows: Sequence[int], sets: int) -> Float[Array, "sets n"]:
    return exact_product(jnp.asarray(_table(rows, sets).T, g.dtype), g)


_take = operation(
    "take_sets",
    cpu=_taken_on_cpu,
    elsewhere=_taken,
    shape=lambda weight, rows, **_: (len(rows), *weight[1:]),
)
_give_back = operation(
    "give_back_sets",
    cpu=_given_back,
    elsewhere=_given_back,
    shape=lambda g, sets, **_: (sets, *g[1:]),
)
linear(_take, _give_back)
linear(_give_back, _take)


def chosen_sets(
    weight: Float[Array, "sets k n"], chosen: Sequence[Int[np.ndarray, "slots kinds"]]
) -> list[Float[Array, "slots kinds k n"]]:
    """Weight sets laid out by what is chosen, zero where that is negative."""
    rows = np.concatenate([index.ravel() for index in chosen])
    flat = weight.reshape(weight.shape[0], -1)
    taken = _take.bind(flat, lanes=0, rows=tuple(rows.tolist()), sets=weight.shape[0])
    parts = zip(jnp.split(taken, np.cumsum([index.size for index in chosen])[:-1]), chosen, strict=True)
    return [part.reshape(*index.shape, *weight.shape[1:]) for part, index in parts]


def by_slot(
    weight: Float[Array, "sets k n"], groups: Sequence[Group], shape: Shape
) -> list[Float[Array, "by_slot kinds k n"]]:
    """The weights of each group as `project` takes them.

    weight: of the stack of sets (plain or directed) that the groups' `sets` are slices of.
    """
    chosen = [slot_sets(group, shape) for group in groups]
    start = [group.sets.start for group in groups]
    return chosen_sets(weight, [np.where(c < 0, c, c + s) for c, s in zip(chosen, start, strict=True)])
