"""Which hidden unit belongs to which input: the symmetry a generator keeps.

Every hidden layer has `slots` units per input. Hidden unit h belongs to column h mod n and slot h // n.
Two nodes of neighboring layers are related through their columns alone; all edges with the same relation
and the same slots form an orbit and share one posterior. That makes every generator equivariant under the
group that keeps the relation:

- `columns`: the same column or another one; all permutations of the inputs.
- `tree`: the level of the lowest common ancestor in a binary tree over the columns (0 the same, 1 sisters,
  2 cousins, ...); the automorphisms of the tree. Tournaments need it: they have to pair inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from hypernet.validation import as_tuple, whole


@dataclasses.dataclass(frozen=True)
class Assignment:
    """Hidden layers as slots per input, and how columns are related."""

    slots: Sequence[int] = (3,)
    """hidden units per input, one number for each hidden layer; kept as a tuple"""
    relation: Literal["columns", "tree"] = "columns"
    """what a generator knows of a pair of columns"""
    levels: int | None = None
    """tree: levels of the tree, so that it has 2^levels leaves; a training takes as many as its sizes need"""

    def __post_init__(self) -> None:
        slots = tuple(whole("slots", s) for s in as_tuple("slots", self.slots))
        object.__setattr__(self, "slots", slots)
        if not slots:
            raise ValueError("slots=(): give at least one hidden layer")
        if self.relation not in ("columns", "tree"):
            raise ValueError(f"relation={self.relation!r}: expected 'columns' or 'tree'")
        if self.levels is not None:
            levels = whole("levels", self.levels, 0)
            if (self.relation == "tree") != (levels > 0):
                raise ValueError(f"levels={self.levels}: a tree needs at least one, columns none")
            object.__setattr__(self, "levels", levels or None)  # columns with levels=0 are columns

    def serving(self, largest: int) -> Assignment:
        """The same with its tree's levels decided by the largest number of inputs if they are not yet."""
        if self.levels is not None or self.relation == "columns":
            return self
        return dataclasses.replace(self, levels=max(1, (largest - 1).bit_length()))

    @property
    def depth(self) -> int:
        """Levels of the tree. Raises: ValueError where they are not decided."""
        if self.levels is None:
            raise ValueError(
                "levels=None: a tree's levels must be given, or come from the sizes of a training"
            )
        return self.levels

    @property
    def relations(self) -> int:
        """Number of relations between two columns."""
        return self.depth + 1 if self.relation == "tree" else 2

    def check_size(self, n: object) -> None:
        """Raises ValueError for a number of inputs that can't be served."""
        if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 1:
            raise ValueError(f"n={n!r}: expected a whole number of inputs, at least 1")
        if self.relation == "tree" and n > 2**self.depth:
            raise ValueError(f"n={n}: a tree of {self.depth} levels serves at most {2**self.depth} inputs")

    def check_hidden(self, n: int | np.integer, hidden: int | Sequence[int] | None) -> None:
        """Raises ValueError for hidden sizes other than slots times n."""
        sizes = tuple(s * n for s in self.slots)
        wanted = (hidden,) if isinstance(hidden, int) else hidden
        if wanted is not None and tuple(wanted) != sizes:
            raise ValueError(
                f"hidden={hidden}: this generator was trained with {self.slots} units per input and "
                f"serves {sizes} hidden units for n={n}; train one with other slots for other sizes"
            )

    def layers(self) -> list[tuple[int, int]]:
        """Slots on both sides of every weight matrix; inputs have one."""
        return list(zip((1, *self.slots[:-1]), self.slots, strict=True))

    def related(self, columns: int) -> Int[np.ndarray, "columns columns"]:
        """The relation of every pair: 1 the same column and 0 another, or the level of the tree."""
        index = np.arange(columns)
        if self.relation == "columns":
            return (index[:, None] == index).astype(int)
        return np.vectorize(lambda i, k: int(i ^ k).bit_length(), otypes=[int])(index[:, None], index)

    def pairs(self, real: Bool[Array, " columns"]) -> Float[Array, "relations columns columns"]:
        """Indicator of every relation between real columns."""
        related = self.related(real.shape[0])
        alike = jnp.asarray(related == np.arange(self.relations)[:, None, None])
        return (alike & (real[:, None] & real[None, :])[None]).astype(jnp.float32)
