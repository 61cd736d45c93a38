"""Sparse autoencoders: activations to latents and back (paper, section 4 and appendix on SAEs).

x' = normalized x;  a = act((x' - b_dec) W_enc + b_enc);  reconstruction = a W_dec + b_dec, denormalized.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Real, Shaped

from features.arrays import AnyArray, over_last
from features.sae.config import SAEConfig
from features.sae.top_entries import keep_top


class SAE(eqx.Module):
    """Weights under the names and in the shapes of SAELens files."""

    W_enc: Float[Array, "d_in d_sae"]
    b_enc: Float[Array, " d_sae"]
    W_dec: Float[Array, "d_sae d_in"]  # rows are the dictionary elements
    b_dec: Float[Array, " d_in"]
    # jumprelu: per latent; batchtopk: one number, kept while training, that replaces the batch when encoding
    threshold: Float[Array, " d_sae"] | Float[Array, ""] | None
    # expected_average_only_in: inputs are multiplied by it so that their mean norm is sqrt(d_in)
    scale: Float[Array, ""] | None
    config: SAEConfig = eqx.field(static=True)


class Scale(NamedTuple):
    """What undoes a normalization."""

    mean: Float[Array, "*batch 1"] | float
    factor: Float[Array, "*batch 1"] | Float[Array, ""] | float


def init(
    config: SAEConfig, *, key: PRNGKeyArray, b_enc: float = 0.0, b_dec: Real[AnyArray, " d_in"] | None = None
) -> SAE:
    """Random unit decoder rows, the encoder their transpose (tied at the start).

    Args: b_enc: start of the encoder's bias. b_dec: start of the decoder's (d_in,), e.g. the data's mean.
    """
    rows = jax.random.normal(key, (config.d_sae, config.d_in))
    rows = rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
    threshold = {"jumprelu": jnp.full((config.d_sae,), 0.01), "batchtopk": jnp.zeros(())}
    averaged = config.normalize_activations == "expected_average_only_in"
    return SAE(
        rows.T,
        jnp.full((config.d_sae,), b_enc),
        rows,
        jnp.zeros(config.d_in) if b_dec is None else jnp.asarray(b_dec, jnp.float32),
        threshold.get(config.activation),
        jnp.ones(()) if averaged else None,
        config,
    )


def normalize(sae: SAE, x: Float[AnyArray, "*batch d_in"]) -> tuple[Float[AnyArray, "*batch d_in"], Scale]:
    """The input as the autoencoder sees it, and what undoes that."""
    mode = sae.config.normalize_activations
    if mode == "expected_average_only_in" and sae.scale is not None:
        return x * sae.scale, Scale(0.0, 1 / sae.scale)
    if mode == "constant_norm_rescale":
        norm = jnp.linalg.norm(x, axis=-1, keepdims=True) / jnp.sqrt(x.shape[-1])
        norm = jnp.where(norm > 0, norm, 1.0)  # a zero vector stays one
        return x / norm, Scale(0.0, norm)
    if mode == "layer_norm":
        mean = x.mean(-1, keepdims=True)
        deviation = jnp.std(x - mean, axis=-1, keepdims=True, ddof=1)
        return (x - mean) / (deviation + 1e-5), Scale(mean, deviation)  # as SAELens does
    return x, Scale(0.0, 1.0)


def pre_activations(sae: SAE, x: Float[AnyArray, "*batch d_in"]) -> Float[Array, "*batch d_sae"]:
    """Encoder outputs before the activation, for normalized x."""
    x = jnp.asarray(x)
    if sae.config.apply_b_dec_to_input:
        x = x - over_last(sae.b_dec, x)
    return x @ sae.W_enc + over_last(sae.b_enc, x)


_Bounds = tuple[Float[Array, ""], Float[Array, ""]]
# Latents, and the least one that was kept.
_KeptAndLeast = tuple[Float[Array, "batch d_sae"], Float[Array, ""]]


def keep_top_of_batch(pre: Float[Array, "batch d_sae"], k: int) -> _KeptAndLeast:
    """About the k * batch largest of a whole batch (ties apart), and the least value kept.

    The value is found by bisection: one pass per bit beats sorting millions of numbers.
    """
    kept = jax.nn.relu(pre)
    wanted = k * pre.shape[0]

    def halve(_: Int[Array, ""], bounds: _Bounds) -> _Bounds:
        low, high = bounds
        middle = (low + high) / 2
        enough = (kept > middle).sum() >= wanted
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    least = jax.lax.fori_loop(0, 30, halve, (jnp.zeros(()), jax.lax.stop_gradient(kept.max())))[0]
    return jnp.where(kept > least, kept, 0), least


def activate(sae: SAE, pre: Float[Array, "*batch d_sae"]) -> Float[Array, "*batch d_sae"]:
    """Latents from pre-activations, each token by itself (batchtopk by its threshold)."""
    config = sae.config
    if config.activation == "topk":
        return keep_top(pre, config.k or 1)
    if config.activation == "relu" or sae.threshold is None:
        return jax.nn.relu(pre)
    return jnp.where(pre > over_last(sae.threshold, pre), jax.nn.relu(pre), 0)


def encode(sae: SAE, x: Float[AnyArray, "*batch d_in"]) -> Float[Array, "*batch d_sae"]:
    """Latents of raw activations x."""
    return activate(sae, pre_activations(sae, normalize(sae, x)[0]))


def decode(
    sae: SAE, latents: Float[AnyArray, "*batch d_sae"], undo: Scale | None = None
) -> Float[Array, "*batch d_in"]:
    """Reconstruction; pass what `normalize` returned to undo a per-token normalization."""
    x = jnp.asarray(latents) @ sae.W_dec + over_last(sae.b_dec, latents)
    return x if undo is None else x * undo.factor + undo.mean


def reconstruct(sae: SAE, x: Float[AnyArray, "*batch d_in"]) -> Float[Array, "*batch d_in"]:
    """Sends x through the autoencoder, in the scale of x."""
    seen, undo = normalize(sae, x)
    return decode(sae, activate(sae, pre_activations(sae, seen)), undo)


def fold_scale(sae: SAE) -> SAE:
    """The same function without the scalar input scale, which moves into weights and biases.

    Latents keep their size; reconstructions are in the scale of the raw input.
    """
    if sae.scale is None:
        return sae
    import dataclasses

    config = dataclasses.replace(sae.config, normalize_activations="none")
    return SAE(
        sae.W_enc * sae.scale,
        sae.b_enc,
        sae.W_dec / sae.scale,
        sae.b_dec / sae.scale,
        sae.threshold,
        None,
        config,
    )


class Firing(NamedTuple):
    """Non-zero latents as triples, sorted by token."""

    value: Float[np.ndarray, " n"]
    latent: Int[np.ndarray, " n"]
    token: Int[np.ndarray, " n"]


def firings(sae: SAE, x: Shaped[AnyArray, "..."], *, batch: int = 4096, floor: float = 1e-6) -> Firing:
    """All latents above `floor` (1e-6 as in the paper's harvest) of activations (n, d_in), as numpy triples.

    Raises: ValueError if x has another width than the autoencoder or is not finite.
    """
    x = check_activations(sae.config, x)
    run = eqx.filter_jit(encode)
    values, latents, tokens = [], [], []
    for start in range(0, len(x), batch):
        rows = np.asarray(x[start : start + batch], np.float32)
        missing = min(batch, len(x)) - len(rows)
        padded = np.concatenate([rows, np.zeros((missing, x.shape[1]), np.float32)]) if missing > 0 else rows
        found = np.asarray(run(sae, padded))[: len(rows)]
        token, latent = np.nonzero(found > floor)
        values.append(found[token, latent])
        latents.append(latent.astype(np.int32))
        tokens.append((token + start).astype(np.int32))
    return Firing(*(np.concatenate(part) for part in (values, latents, tokens)))


def check_activations(config: SAEConfig, x: Shaped[AnyArray, "..."]) -> Real[AnyArray, "tokens d_in"]:
    """Raises ValueError where activations do not suit an autoencoder.

    Their shape, width and type, what is not finite, what is constant.
    """
    if np.ndim(x) != 2:
        raise ValueError(f"activations have shape {np.shape(x)}, expected (tokens, d_in={config.d_in})")
    if x.shape[1] != config.d_in:
        raise ValueError(f"activations are {x.shape[1]} wide, but the SAE reads d_in={config.d_in}")
    if len(x) == 0:
        raise ValueError("there are no activations")
    if not jnp.issubdtype(x.dtype, jnp.floating) and not np.issubdtype(x.dtype, np.integer):
        raise ValueError(f"activations are of type {x.dtype}, expected real numbers")
    low, high = np.inf, -np.inf
    for start in range(0, len(x), 65536):
        part = np.asarray(x[start : start + 65536])
        if not np.isfinite(part).all():
            row = start + int(np.argmin(np.isfinite(part).all(1)))
            raise ValueError(f"activations are not finite: first in row {row}")
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    if low == high:
        raise ValueError(f"activations are constant ({low}): there is nothing to learn")
    return x
