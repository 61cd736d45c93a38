"""Parameter trees as one vector and back; what they may contain."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, DTypeLike, Float


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [("params" + jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def check_params(params: Any) -> None:
    """Raises TypeError, naming the path, for leaves that no real gradient step can change."""
    for path, leaf in _named_leaves(params):
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise TypeError(f"{path}: expected an array, got {type(leaf).__name__}")
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise TypeError(
                f"{path} is complex ({leaf.dtype}): wrap the optimizer in "
                "optax.contrib.split_real_and_imaginary"
            )
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"{path} has dtype {leaf.dtype}: only floating-point parameters can be optimized; "
                "leave others out with optax.masked or optax.partition"
            )


def compute_dtype(params: Any) -> DTypeLike:
    """float64 if any leaf is, else float32: what momentum and weights are kept in."""
    wide = any(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(params))
    return jnp.float64 if wide else jnp.float32


def size(params: Any) -> int:
    """Number of parameters."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def num_bytes(tree: Any) -> int:
    """Bytes of all arrays, or of arrays with these shapes."""
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_updates(updates: Any, momentum: Any) -> None:
    """Raises ValueError, naming the path, if gradients do not match the state's parameters."""
    given = dict(_named_leaves(updates))
    for path, leaf in _named_leaves(momentum):
        if path not in given:
            raise ValueError(
                f"no gradient for {path} (shape {leaf.shape}): it is None or missing; leave frozen "
                "parameters out with optax.masked or eqx.partition before init"
            )
        if not hasattr(given[path], "shape") or not hasattr(given[path], "dtype"):
            raise TypeError(f"gradient of {path} is a {type(given[path]).__name__}, expected an array")
        if given[path].shape != leaf.shape:
            raise ValueError(
                f"gradient of {path} has shape {given[path].shape}, the parameter at init had {leaf.shape}"
            )
        if not jnp.issubdtype(given[path].dtype, jnp.floating):
            raise TypeError(
                f"gradient of {path} has dtype {given[path].dtype}, expected a real floating type"
            )
    structure, expected = jax.tree.structure(updates), jax.tree.structure(momentum)
    if structure != expected:
        raise ValueError(f"gradients have tree structure {structure}, the parameters at init had {expected}")


def check_like(name: str, tree: Any, expected: Any) -> None:
    """Raises ValueError, naming the path, unless structure, shapes and dtypes are as expected."""
    if jax.tree.structure(tree) != jax.tree.structure(expected):
        raise ValueError(
            f"state.{name} has structure {jax.tree.structure(tree)}, this optimizer's has "
            f"{jax.tree.structure(expected)}: state of another configuration?"
        )
    for (path, leaf), (_, like) in zip(_named_leaves(tree), _named_leaves(expected), strict=True):
        if leaf.shape != like.shape or leaf.dtype != like.dtype:
            raise ValueError(
                f"state.{name}{path.removeprefix('params')} is {leaf.dtype}{list(leaf.shape)}, this "
                f"optimizer's is {like.dtype}{list(like.shape)}: state of another configuration?"
            )


def _sharded(leaf: Any) -> bool:
    """Whether the leaf's type says that it is split over an explicit mesh axis."""
    return any(axis is not None for axis in jax.typeof(leaf).sharding.spec)


def ravel(tree: Any, dtype: DTypeLike) -> Float[Array, " n"]:
    """All leaves, in order, as one vector; leaves split over an explicit mesh are gathered."""
    flat = []
    for leaf in jax.tree.leaves(tree):
        whole = jax.sharding.reshard(leaf, PartitionSpec()) if _sharded(leaf) else leaf
        flat.append(whole.reshape(-1).astype(dtype))
    return jnp.concatenate(flat) if flat else jnp.zeros(0, dtype)


def unravel(vector: Float[Array, " n"], like: Any) -> Any:
    """The vector as a tree with the shapes, dtypes and explicit shardings of `like`."""
    leaves, structure = jax.tree.flatten(like)
    out, start = [], 0
    for leaf in leaves:
        count = int(np.prod(leaf.shape))
        part = vector[start : start + count].reshape(leaf.shape).astype(leaf.dtype)
        out.append(jax.sharding.reshard(part, jax.typeof(leaf).sharding) if _sharded(leaf) else part)
        start += count
    return jax.tree.unflatten(structure, out)
