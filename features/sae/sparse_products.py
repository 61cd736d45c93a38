"""Products with rows that have few non-zeros: the cost of k dictionary rows per token, not of all.

On CPUs a TopK autoencoder spends most of its time in dense products with zeros. These loops over
the k entries of every row do the same sums (4096 x 8192, k = 32, d = 576 on two cores: decoding 13 ms
instead of 147, its gradient 38). Gradients are sparse too.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def _gather_sum(
    values: Float[Array, "batch k"], indices: Int[Array, "batch k"], table: Float[Array, "rows d"]
) -> Float[Array, "batch d"]:
    """sum_j values[b, j] table[indices[b, j]]."""

    def add(j: Int[Array, ""], total: Float[Array, "batch d"]) -> Float[Array, "batch d"]:
        return total + values[:, j, None] * table[indices[:, j]]

    start = jnp.zeros((values.shape[0], table.shape[1]), table.dtype)
    return jax.lax.fori_loop(0, values.shape[1], add, start)


def _gather_dot(
    rows: Float[Array, "batch d"], indices: Int[Array, "batch k"], table: Float[Array, "rows d"]
) -> Float[Array, "batch k"]:
    """rows[b] . table[indices[b, j]] for every j."""

    def column(_: None, index: Int[Array, " batch"]) -> tuple[None, Float[Array, " batch"]]:
        return None, (rows * table[index]).sum(-1)

    return jax.lax.scan(column, None, indices.T)[1].T


def _scatter_outer(
    values: Float[Array, "batch k"],
    indices: Int[Array, "batch k"],
    rows: Float[Array, "batch d"],
    length: int,
) -> Float[Array, "length d"]:
    """sum_b values[b, j] rows[b] onto row indices[b, j] of a (length, d) table."""

    def add(j: Int[Array, ""], total: Float[Array, "length d"]) -> Float[Array, "length d"]:
        return total.at[indices[:, j]].add(values[:, j, None] * rows)

    return jax.lax.fori_loop(0, values.shape[1], add, jnp.zeros((length, rows.shape[1]), rows.dtype))


@jax.custom_vjp
def decode_sparse(
    values: Float[Array, "batch k"], indices: Int[Array, "batch k"], W_dec: Float[Array, "d_sae d_in"]
) -> Float[Array, "batch d_in"]:
    """Product of W_dec with latents that are `values` at `indices` and zero elsewhere."""
    return _gather_sum(values, indices, W_dec)


_DecodeSaved = tuple[Float[Array, "batch k"], Int[Array, "batch k"], Float[Array, "d_sae d_in"]]


def _decode_forward(
    values: Float[Array, "batch k"], indices: Int[Array, "batch k"], W_dec: Float[Array, "d_sae d_in"]
) -> tuple[Float[Array, "batch d_in"], _DecodeSaved]:
    return _gather_sum(values, indices, W_dec), (values, indices, W_dec)


def _decode_backward(
    saved: _DecodeSaved, gradient: Float[Array, "batch d_in"]
) -> tuple[Float[Array, "batch k"], None, Float[Array, "d_sae d_in"]]:
    values, indices, W_dec = saved
    return (
        _gather_dot(gradient, indices, W_dec),
        None,
        _scatter_outer(values, indices, gradient, W_dec.shape[0]),
    )


decode_sparse.defvjp(_decode_forward, _decode_backward)


@jax.custom_vjp
def encode_top(
    x: Float[Array, "batch d_in"],
    W_enc: Float[Array, "d_in d_sae"],
    b_enc: Float[Array, " d_sae"],
    k_like: Float[Array, " k"],
) -> tuple[Float[Array, "batch k"], Int[Array, "batch k"]]:
    """The k largest of x W_enc + b_enc and their indices; k is the length of `k_like`."""
    values, indices = jax.lax.top_k(x @ W_enc + b_enc[None], k_like.shape[0])
    return values, indices


_Top = tuple[Float[Array, "batch k"], Int[Array, "batch k"]]
_EncodeSaved = tuple[Float[Array, "batch d_in"], Float[Array, "d_in d_sae"], Int[Array, "batch k"]]


def _encode_forward(
    x: Float[Array, "batch d_in"],
    W_enc: Float[Array, "d_in d_sae"],
    b_enc: Float[Array, " d_sae"],
    k_like: Float[Array, " k"],
) -> tuple[_Top, _EncodeSaved]:
    values, indices = jax.lax.top_k(x @ W_enc + b_enc[None], k_like.shape[0])
    return (values, indices), (x, W_enc, indices)


def _encode_backward(
    saved: _EncodeSaved,
    gradients: tuple[Float[Array, "batch k"], object],  # nothing for the indices
) -> tuple[Float[Array, "batch d_in"], Float[Array, "d_in d_sae"], Float[Array, " d_sae"], None]:
    x, W_enc, indices = saved
    values = gradients[0]
    return (
        _gather_sum(values, indices, W_enc.T),
        _scatter_outer(values, indices, x, W_enc.shape[1]).T,
        jnp.zeros(W_enc.shape[1], values.dtype).at[indices.reshape(-1)].add(values.reshape(-1)),
        None,
    )


encode_top.defvjp(_encode_forward, _encode_backward)
