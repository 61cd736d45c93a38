"""The optimizer's moments: a vector each while steps are taken, trees like the parameters in files.

A step of Adam on forty arrays is a hundred and thirty kernels, on one vector five. In files
each moment has its parameter's place, as a run that moves to other padding needs it.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
from jaxtyping import Shaped

from compressarc.network.parameters import Params
from compressarc.solver.step import Run


def as_trees(run: Run[Any]) -> Run[Any]:
    """A run (arrays of the host, or shapes) whose moments have the structure of its parameters."""
    leaves, structure = jax.tree.flatten(run.params)
    cuts = list(itertools.accumulate((int(np.prod(leaf.shape)) for leaf in leaves), initial=0))

    def split(
        a: Shaped[np.ndarray, "..."] | jax.ShapeDtypeStruct,
    ) -> Shaped[np.ndarray, "..."] | jax.ShapeDtypeStruct | Params[Any]:
        if a.shape != (cuts[-1],):
            return a
        if isinstance(a, jax.ShapeDtypeStruct):
            parts = [jax.ShapeDtypeStruct(leaf.shape, a.dtype) for leaf in leaves]
        else:
            between = itertools.pairwise(cuts)
            parts = [a[i:j].reshape(leaf.shape) for (i, j), leaf in zip(between, leaves, strict=True)]
        return jax.tree.unflatten(structure, parts)

    return run._replace(optimizer=jax.tree.map(split, run.optimizer))


def as_vectors(run: Run[Any]) -> Run[Any]:
    """The inverse of `as_trees`; host arrays."""
    is_tree = lambda node: isinstance(node, Params)  # noqa: E731
    joined = jax.tree.map(
        lambda node: np.concatenate([np.ravel(a) for a in jax.tree.leaves(node)]) if is_tree(node) else node,
        run.optimizer,
        is_leaf=is_tree,
    )
    return run._replace(optimizer=joined)
