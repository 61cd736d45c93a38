"""How good an autoencoder is: error, variance explained, sparsity, dead latents, and what the model loses."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from features.arrays import AnyArray
from features.lm.decoder import Decoder, advance, check_layer, check_tokens, embed, unembed
from features.lm.edits import Edit, Site
from features.sae.model import SAE, activate, check_activations, decode, normalize, pre_activations


class Quality(NamedTuple):
    """Of an autoencoder on some activations."""

    mse: float  # mean over tokens of the squared error's norm, in the scale of the input
    fve: float  # fraction of variance explained
    l0: float  # latents per token
    dead: float  # share of latents that never fire here
    frequency: Float[np.ndarray, " d_sae"]  # share of tokens on which each fires


@eqx.filter_jit
def _errors(sae: SAE, rows: Float[AnyArray, "batch d_in"]) -> tuple[Float[Array, ""], Int[Array, " d_sae"]]:
    """Sum of squared errors, and how often each latent fires."""
    seen, undo = normalize(sae, rows)
    latents = activate(sae, pre_activations(sae, seen))
    error = rows - decode(sae, latents, undo)
    return (error**2).sum(), (latents > 0).sum(0)


def evaluate(sae: SAE, x: Shaped[AnyArray, "..."], *, batch: int = 4096) -> Quality:
    """Metrics on activations (tokens, d_in); ValueError for those of another width or not finite."""
    x = check_activations(sae.config, x)

    total = sum(np.asarray(x[s : s + batch], np.float64).sum(0) for s in range(0, len(x), batch))
    mean = total / len(x)
    error, fired, spread = 0.0, np.zeros(sae.config.d_sae), 0.0
    for start in range(0, len(x), batch):
        rows = np.asarray(x[start : start + batch], np.float32)
        squared, count = _errors(sae, rows)
        error += float(squared)
        fired += np.asarray(count)
        spread += float(((rows - mean) ** 2).sum())
    n = len(x)
    return Quality(
        error / n, 1 - error / spread, float(fired.sum() / n), float((fired == 0).mean()), fired / n
    )


class Recovered(NamedTuple):
    """Cross-entropies of the next token (nats) and the share that the autoencoder recovers."""

    clean: float
    reconstructed: float
    zeroed: float

    @property
    def share(self) -> float:
        """1 - (CE_sae - CE) / (CE_zero - CE)."""
        return 1 - (self.reconstructed - self.clean) / (self.zeroed - self.clean)


class _Reconstruct(eqx.Module):
    """Edit: one residual state goes through an autoencoder, or becomes zero; `skip` tokens stay."""

    layer: Int[Array, ""]
    sae: SAE
    zero: Bool[Array, ""]
    skip: int = eqx.field(static=True)

    def __call__(
        self, site: Site, layer: Int[Array, ""], x: Float[Array, "batch tokens *size"]
    ) -> Float[Array, "batch tokens *size"]:
        if site != "resid":
            return x
        seen, undo = normalize(self.sae, x)
        through = decode(self.sae, activate(self.sae, pre_activations(self.sae, seen)), undo)
        changed = jnp.where(self.zero, jnp.zeros_like(x), through.astype(x.dtype))
        keep = (jnp.arange(x.shape[1]) < self.skip)[None, :, None] | (layer != self.layer)
        return jnp.where(keep, x, changed)


@eqx.filter_jit
def _cross_entropy(
    decoder: Decoder, tokens: Int[Array, "rows length"], edit: Edit | None
) -> Float[Array, ""]:
    from features.lm.decoder import no_edit

    edit = no_edit if edit is None else edit
    x = advance(decoder, embed(decoder, tokens), 0, decoder.config.num_layers, edit).x
    logits = jax.nn.log_softmax(unembed(decoder, x[:, :-1]))
    return -jnp.take_along_axis(logits, tokens[:, 1:, None], -1).mean()


def loss_recovered(
    decoder: Decoder,
    sae: SAE,
    tokens: Shaped[AnyArray, "..."],
    layer: int,
    *,
    skip: int = 1,
    batch: int = 8,
) -> Recovered:
    """What the model loses when residual state `layer` is replaced by its reconstruction, or by zero.

    Args: skip: first positions left alone (the attention sink). batch: rows at a time.
    Raises: ValueError for a layer without a block after it, or tokens the model can't take.
    """
    tokens = np.asarray(tokens)
    check_tokens(decoder, tokens)
    check_layer(decoder, layer, states=False)
    parts = [
        np.average(
            [
                _cross_entropy(decoder, jnp.asarray(tokens[s : s + batch]), edit)
                for s in range(0, len(tokens), batch)
            ],
            weights=[len(tokens[s : s + batch]) for s in range(0, len(tokens), batch)],
        )
        for edit in (
            None,
            _Reconstruct(jnp.asarray(layer), sae, jnp.asarray(False), skip),
            _Reconstruct(jnp.asarray(layer), sae, jnp.asarray(True), skip),
        )
    ]
    return Recovered(*map(float, parts))
