"""Sums over one axis and their transpose, in forms that compile well.

XLA's CPU backend turns a reduction over an outer axis, and above all the multi-axis
reductions that differentiation makes out of broadcasts, into scalar strided loops: up to
30 times slower than reading the array once. Here a short axis is summed by adding its
slices (one fused, vectorized loop), a long one as a [outer, axis, inner] reduction, and
`spread` and `sum_axis` are each other's derivative, so no other reduction appears.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compressarc.network.layers.by_platform import linear, operation, replaced

ResultT = TypeVar("ResultT")

exact_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
"""A product that averages, adds up or chooses: float32 whatever products with weights are made in.

It is small, and what rounding leaves of a mean that has been subtracted is shared by all entries.
"""


def custom_vjp(
    nondiff_argnums: tuple[int, ...],
) -> Callable[[Callable[..., ResultT]], jax.custom_vjp[ResultT]]:
    """`jax.custom_vjp` with arguments, as a decorator that keeps the result's type."""

    def decorated(function: Callable[..., ResultT]) -> jax.custom_vjp[ResultT]:
        made = jax.custom_vjp(function, nondiff_argnums=nondiff_argnums)
        return made  # pyright: ignore[reportReturnType]  jax chooses between two classes of that name

    return decorated


def settle(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The identity, where a value is to be computed once and stored.

    XLA's CPU backend repeats a chain of cheap operations inside every loop that reads it,
    whole broadcasts included, and drops optimization barriers before it does so. A value
    made of two full-sized operands is exempt from that if a product or a reduction reads
    it; so there x is written max(x, min(x, 3e38)), which is x. Elsewhere nothing is done: barriers
    gain nothing there, and double what compilation takes.
    """
    return _settle.bind(x, lanes=0)


def _stored(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.maximum(x, jnp.minimum(x, 3e38))


def _unchanged(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return x


def settled_rows(x: Float[Array, "*axes k"]) -> Float[Array, "*axes k"]:
    """As `settle`, stored as the matrix that a product over all positions reads."""
    return _settle_rows.bind(x, lanes=0)


def _stored_rows(x: Float[Array, "*axes k"]) -> Float[Array, "*axes k"]:
    return _stored(x.reshape(-1, x.shape[-1])).reshape(x.shape)


_settle = operation("settle", cpu=_stored, elsewhere=_unchanged)
_settle_rows = operation("settle_rows", cpu=_stored_rows, elsewhere=_unchanged)
linear(_settle, _settle)
linear(_settle_rows, _settle_rows)


def keep(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """As `settle`, for a small array whose readers are all loops: a product with one.

    Nothing is fused into or across a matrix product; exact, since it adds only zeros.
    Arrays that are cheap to compute again are left alone.
    """
    return x if x.size < _CHEAP else _keep.bind(x, lanes=0)


def _through_product(x: Float[Array, "..."]) -> Float[Array, "..."]:
    n = x.shape[-1]
    return exact_product(x.reshape(-1, n), jnp.eye(n, dtype=x.dtype)).reshape(x.shape)


_keep = operation("keep", cpu=_through_product, elsewhere=_unchanged)
linear(_keep, _keep)

_CHEAP = 64
_UNROLLED = 32  # the longest axis of a grid is 30


def _three(x: Float[Array, "..."], axis: int) -> Float[Array, "outer axis inner"]:
    shape = x.shape
    return x.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


def _slices(x: Float[Array, "..."], axis: int) -> Sequence[Float[Array, "..."]]:
    """The entries along one axis, kept as length 1; one operation, which is quick to trace."""
    return jax.lax.split(x, (1,) * x.shape[axis], axis=axis)


def _add_slices(x: Float[Array, "..."], axis: int, start: int) -> Float[Array, "..."]:
    """Sum over `axis` from index `start` on; keeps the axis with length 1."""
    n = x.shape[axis]
    if n - start > _UNROLLED:
        part = jax.lax.slice_in_dim(x, start, n, axis=axis)
        total = _three(part, axis).sum(1)
        return total.reshape(*x.shape[:axis], 1, *x.shape[axis + 1 :])
    terms = _slices(x, axis)[start:]
    while len(terms) > 1:  # pairwise: shorter dependency chains and smaller rounding
        terms = [functools.reduce(jax.lax.add, terms[i : i + 2]) for i in range(0, len(terms), 2)]
    return terms[0]


def sum_axis(
    x: Float[Array, "..."], axis: int, n: int, start: int = 0, outer: int = 1
) -> Float[Array, "..."]:
    """Sum of `x` over an axis of length `n`, from index `start` on, which stays with length 1.

    outer: if the axis of x is several, [outer, n, inner] flattened, it is summed over the middle one. The
    gradient reaches entries before `start` as zero.
    """
    return _sum_axis.bind(x, lanes=0, axis=axis, n=n, start=start, outer=outer)


def spread(x: Float[Array, "..."], axis: int, n: int, start: int = 0, outer: int = 1) -> Float[Array, "..."]:
    """Repeats an axis of length 1 `n` times; entries before `start` are zero. outer: see `sum_axis`."""
    return _spread.bind(x, lanes=0, axis=axis, n=n, start=start, outer=outer)


def max_axis(x: Float[Array, "..."], axis: int, n: int | None = None, outer: int = 1) -> Float[Array, "..."]:
    """Largest entry along one short axis, which stays with length 1. Differentiate elsewhere.

    n, outer: see `sum_axis`; n is the whole axis if not given.
    """
    return _max_axis.bind(x, lanes=0, axis=axis, n=n or x.shape[axis], outer=outer)


def _summed_shape(shape: tuple[int, ...], *, axis: int, n: int, **_: Any) -> tuple[int, ...]:
    return replaced(shape, axis, shape[axis] // n)


def _spread_shape(shape: tuple[int, ...], *, axis: int, n: int, **_: Any) -> tuple[int, ...]:
    return replaced(shape, axis, shape[axis] * n)


def _middle(x: Float[Array, "..."], axis: int, n: int, outer: int) -> tuple[Float[Array, "..."], int]:
    """An axis [outer * n * inner] as [outer, n, inner], unless it is the middle alone; and where that is."""
    if n == x.shape[axis]:
        return x, axis
    return x.reshape(*x.shape[:axis], outer, n, -1, *x.shape[axis + 1 :]), axis + 1


def _sum_on_cpu(x: Float[Array, "..."], *, axis: int, n: int, start: int, outer: int) -> Float[Array, "..."]:
    total = _add_slices(*_middle(x, axis, n, outer), start)
    return total.reshape(_summed_shape(x.shape, axis=axis, n=n))


def _sum(x: Float[Array, "..."], *, axis: int, n: int, start: int, outer: int) -> Float[Array, "..."]:
    apart, middle = _middle(x, axis, n, outer)
    total = jax.lax.slice_in_dim(apart, start, n, axis=middle).sum(middle)
    return total.reshape(_summed_shape(x.shape, axis=axis, n=n))


def _repeated(x: Float[Array, "..."], *, axis: int, n: int, start: int, outer: int) -> Float[Array, "..."]:
    apart, middle = _middle(x, axis, 1, outer)
    out = jnp.broadcast_to(apart, replaced(apart.shape, middle, n))
    if start:
        present = (np.arange(n) >= start).reshape((n,) + (1,) * (out.ndim - middle - 1))
        present = jnp.broadcast_to(jnp.asarray(present), out.shape)
        out = jax.lax.select(present, out, jnp.zeros_like(out))
    return out.reshape(_spread_shape(x.shape, axis=axis, n=n))


def _max_on_cpu(x: Float[Array, "..."], *, axis: int, n: int, outer: int) -> Float[Array, "..."]:
    terms = _slices(*_middle(x, axis, n, outer))
    while len(terms) > 1:
        terms = [functools.reduce(jax.lax.max, terms[i : i + 2]) for i in range(0, len(terms), 2)]
    return terms[0].reshape(_summed_shape(x.shape, axis=axis, n=n))


def _max(x: Float[Array, "..."], *, axis: int, n: int, outer: int) -> Float[Array, "..."]:
    apart, middle = _middle(x, axis, n, outer)
    return apart.max(middle).reshape(_summed_shape(x.shape, axis=axis, n=n))


_LARGEST_TABLE = 1 << 21
"""Entries of a table of zeros and ones that a TPU multiplies with, rather than lay an array out anew."""


def _table(n: int, start: int, outer: int, inner: int) -> Float[np.ndarray, "whole summed"]:
    """Zeros and ones: which entries of an axis [outer, n, inner] belong to those without the middle one."""
    middle = (np.arange(n) >= start).astype(np.float32)[:, None]
    return np.kron(np.eye(outer, dtype=np.float32), np.kron(middle, np.eye(inner, dtype=np.float32)))


def _along(x: Float[Array, "..."], axis: int, table: Float[np.ndarray, "from to"]) -> Float[Array, "..."]:
    product = jax.lax.dot_general(
        x, jnp.asarray(table, x.dtype), (((axis,), (0,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )
    return jnp.moveaxis(product, -1, axis)


def _sum_on_tpu(x: Float[Array, "..."], *, axis: int, n: int, start: int, outer: int) -> Float[Array, "..."]:
    summed = x.shape[axis] // n
    if summed == 1 or x.shape[axis] * summed > _LARGEST_TABLE:
        return _sum(x, axis=axis, n=n, start=start, outer=outer)
    return _along(x, axis, _table(n, start, outer, summed // outer))


def _spread_on_tpu(
    x: Float[Array, "..."], *, axis: int, n: int, start: int, outer: int
) -> Float[Array, "..."]:
    summed = x.shape[axis]
    if summed == 1 or summed * n * summed > _LARGEST_TABLE:
        return _repeated(x, axis=axis, n=n, start=start, outer=outer)
    return _along(x, axis, _table(n, start, outer, summed // outer).T)


_sum_axis = operation("sum_axis", cpu=_sum_on_cpu, elsewhere=_sum, tpu=_sum_on_tpu, shape=_summed_shape)
_spread = operation("spread", cpu=_repeated, elsewhere=_repeated, tpu=_spread_on_tpu, shape=_spread_shape)
_max_axis = operation("max_axis", cpu=_max_on_cpu, elsewhere=_max, shape=_summed_shape)
linear(_sum_axis, _spread)
linear(_spread, _sum_axis)
