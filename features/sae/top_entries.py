"""Each row's largest entries at their places, as a TopK autoencoder's latents."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def keep_top(pre: Float[Array, "*batch d_sae"], k: int) -> Float[Array, "*batch d_sae"]:
    """The k largest of each row, negative ones as zero; the rest zero. Of equal ones the first are kept.

    On accelerators no row is sorted: the k-th largest value is found by bisection over its bits.
    """
    kept = jax.lax.platform_dependent(
        pre.reshape(-1, pre.shape[-1]),
        cpu=lambda rows: _sorted(rows, k),
        default=lambda rows: _bisected(rows, k),
    )
    return kept.reshape(pre.shape)


@keep_top.defjvp
def _keep_top_jvp(
    k: int, primals: tuple[Float[Array, "*batch d_sae"]], tangents: tuple[Float[Array, "*batch d_sae"]]
) -> tuple[Float[Array, "*batch d_sae"], Float[Array, "*batch d_sae"]]:
    kept = jnp.asarray(keep_top(*primals, k))
    return kept, jnp.where(kept > 0, tangents[0], 0)


def _sorted(rows: Float[Array, "rows n"], k: int) -> Float[Array, "rows n"]:
    values, indices = jax.lax.top_k(rows, k)
    return jnp.zeros_like(rows).at[jnp.arange(len(rows))[:, None], indices].set(jax.nn.relu(values))


def _bisected(rows: Float[Array, "rows n"], k: int) -> Float[Array, "rows n"]:
    rows = jax.nn.relu(rows)
    wide = rows if rows.dtype == jnp.float64 else rows.astype(jnp.float32)
    whole = jnp.int64 if wide.dtype == jnp.float64 else jnp.int32
    # floats that are not negative are in the order of their bits
    bits = jax.lax.bitcast_convert_type(wide, whole)
    least = _largest(
        lambda bound: (bits >= bound[:, None]).sum(-1) >= k,
        jnp.zeros(len(rows), whole),
        bits=wide.dtype.itemsize * 8 - 1,
    )
    above, equal = bits > least[:, None], (bits == least[:, None]) & (bits > 0)
    missing = k - above.sum(-1)
    ties = (equal.sum(-1) > missing).any()
    kept = above | jax.lax.cond(ties, _first, lambda equal, _: equal, equal, missing)
    return jnp.where(kept, rows, 0)


def _first(equal: Bool[Array, "rows n"], missing: Int[Array, " rows"]) -> Bool[Array, "rows n"]:
    """The first so many of each row's."""
    columns = jnp.arange(equal.shape[1])
    end = _largest(
        lambda end: (equal & (columns[None] < end[:, None])).sum(-1) <= missing,
        jnp.zeros(len(equal), jnp.int32),
        bits=equal.shape[1].bit_length(),
    )
    return equal & (columns[None] < end[:, None])


_DIGIT = 3
"""Bits that are found at a time: of one pass through memory the cost is reading, not counting."""


def _largest(
    holds: Callable[[Int[Array, " rows"]], Bool[Array, " rows"]], zero: Int[Array, " rows"], *, bits: int
) -> Int[Array, " rows"]:
    """The largest number of so many bits of which something holds; it holds of zero and of all below it."""

    def digit(found: Int[Array, " rows"], shift: Int[Array, ""], base: int) -> Int[Array, " rows"]:
        steps = (jnp.asarray(step, found.dtype) << shift for step in range(1, base))
        reached = sum((holds(found + step).astype(found.dtype) for step in steps), jnp.zeros_like(found))
        return found + (reached << shift)

    rest = bits // _DIGIT * _DIGIT
    shift = lambda i: (rest - _DIGIT * (i + 1)).astype(zero.dtype)  # noqa: E731
    found = digit(zero, jnp.asarray(rest, zero.dtype), 2 ** (bits - rest))
    return jax.lax.fori_loop(0, rest // _DIGIT, lambda i, found: digit(found, shift(i), 2**_DIGIT), found)
