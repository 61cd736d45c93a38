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
from typing import TypeVar

import jax
import jax.numpy as jnp
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
    return _settle.bind(x)


def _stored(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.maximum(x, jnp.minimum(x, 3e38))


def _unchanged(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return x


_settle = operation("settle", cpu=_stored, elsewhere=_unchanged)
linear(_settle, settle)


def keep(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """As `settle`, for a small array whose readers are all loops: a product with one.

    Nothing is fused into or across a matrix product; exact, since it adds only zeros.
    Arrays that are cheap to compute again are left alone.
    """
    return x if x.size < _CHEAP else _keep.bind(x)


def _through_product(x: Float[Array, "..."]) -> Float[Array, "..."]:
    n = x.shape[-1]
    return exact_product(x.reshape(-1, n), jnp.eye(n, dtype=x.dtype)).reshape(x.shape)


_keep = operation("keep", cpu=_through_product, elsewhere=_unchanged)
linear(_keep, keep)

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


def sum_axis(x: Float[Array, "..."], axis: int, n: int, start: int = 0) -> Float[Array, "..."]:
    """Sum of `x` over one axis of length `n`, from index `start` on, keeping the axis.

    The gradient reaches entries before `start` as zero.
    """
    return _sum_axis.bind(x, axis=axis, n=n, start=start)


def _sum_on_cpu(x: Float[Array, "..."], *, axis: int, n: int, start: int) -> Float[Array, "..."]:
    del n
    return _add_slices(x, axis, start)


def _sum(x: Float[Array, "..."], *, axis: int, n: int, start: int) -> Float[Array, "..."]:
    return jax.lax.slice_in_dim(x, start, n, axis=axis).sum(axis, keepdims=True)


def spread(x: Float[Array, "..."], axis: int, n: int, start: int = 0) -> Float[Array, "..."]:
    """Repeats a length-1 axis `n` times; entries before `start` are zero."""
    return _spread.bind(x, axis=axis, n=n, start=start)


def _repeated(x: Float[Array, "..."], *, axis: int, n: int, start: int) -> Float[Array, "..."]:
    out = jnp.broadcast_to(x, (*x.shape[:axis], n, *x.shape[axis + 1 :]))
    if start:
        present = (jnp.arange(n) >= start).reshape((n,) + (1,) * (x.ndim - axis - 1))
        out = jnp.where(present, out, 0)
    return out


_sum_axis = operation(
    "sum_axis", cpu=_sum_on_cpu, elsewhere=_sum, shape=lambda shape, *, axis, **_: replaced(shape, axis, 1)
)
_spread = operation(
    "spread",
    cpu=_repeated,
    elsewhere=_repeated,
    shape=lambda shape, *, axis, n, **_: replaced(shape, axis, n),
)
linear(_sum_axis, _spread.bind)
linear(_spread, _sum_axis.bind)


def max_axis(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Largest entry along one short axis, keeping the axis. Differentiate elsewhere."""
    return _max_axis.bind(x, axis=axis)


def _max_on_cpu(x: Float[Array, "..."], *, axis: int) -> Float[Array, "..."]:
    terms = _slices(x, axis)
    while len(terms) > 1:
        terms = [functools.reduce(jax.lax.max, terms[i : i + 2]) for i in range(0, len(terms), 2)]
    return terms[0]


def _max(x: Float[Array, "..."], *, axis: int) -> Float[Array, "..."]:
    return x.max(axis, keepdims=True)


_max_axis = operation(
    "max_axis", cpu=_max_on_cpu, elsewhere=_max, shape=lambda shape, *, axis: replaced(shape, axis, 1)
)
