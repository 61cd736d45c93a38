"""Activation patching from clean to corrupted prompts: blocks and heads (section 5.3)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from features.circles.prompting import Encoded
from features.lm.decoder import Decoder, Site, advance, embed, record, unembed
from features.lm.edits import Patch


class PromptPairs(NamedTuple):
    """Rows of a task's prompts: what is patched from, and what into."""

    clean: Int[np.ndarray, " pairs"]
    corrupted: Int[np.ndarray, " pairs"]


def draw_pairs(encoded: Encoded, *, per_kind: int = 20, seed: int = 0) -> PromptPairs:
    """`per_kind` pairs that share alpha only and as many that share beta only; gamma always differs.

    Raises: ValueError for tasks with one step, whose prompts share beta always.
    """
    if len(set(encoded.beta.tolist())) < 2:
        raise ValueError("pairs that share alpha need a task with several steps")
    rng = np.random.default_rng(seed)
    n = len(encoded.alpha)
    clean, corrupted = [], []
    for same, other in ((encoded.alpha, encoded.beta), (encoded.beta, encoded.alpha)):
        i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
        fits = (same[i] == same[j]) & (other[i] != other[j]) & (encoded.gamma[i] != encoded.gamma[j])
        options = np.argwhere(fits)
        chosen = options[rng.choice(len(options), min(per_kind, len(options)), replace=False)]
        clean += chosen[:, 0].tolist()
        corrupted += chosen[:, 1].tolist()
    return PromptPairs(np.array(clean), np.array(corrupted))


BlockSite = Literal["resid", "attn", "mlp"]
_BLOCK_SITES: tuple[BlockSite, ...] = get_args(BlockSite)

_component = jax.jit(record, static_argnames="site")


@functools.partial(jax.jit, static_argnames="site")
def _patched(
    decoder: Decoder,
    tokens: Int[Array, "pairs length"],
    mask: Bool[Array, "pairs length"],
    answers: Int[Array, " period"],
    layer: Int[Array, ""],
    position: Int[Array, ""],
    value: Float[Array, "pairs size"],
    site: Site,
    head: Int[Array, ""] | None = None,
) -> Float[Array, "pairs period"]:
    stream = embed(decoder, tokens, mask)
    edit = Patch(layer, position, value, site, head)
    last = advance(decoder, stream, 0, decoder.config.num_layers, edit).x[:, -1]
    return unembed(decoder, last, answers)


def _difference(
    logits: Float[Array, "pairs period"], pairs: PromptPairs, gamma: Int[np.ndarray, " prompts"]
) -> Float[np.ndarray, " pairs"]:
    each = np.arange(len(logits))
    return np.asarray(logits)[each, gamma[pairs.clean]] - np.asarray(logits)[each, gamma[pairs.corrupted]]


class _Setting(NamedTuple):
    tokens: Int[Array, "pairs length"]
    mask: Bool[Array, "pairs length"]
    answers: Int[Array, " period"]
    before: Float[np.ndarray, " pairs"]  # logit difference of the corrupted prompts
    after: Float[np.ndarray, " pairs"]  # of the clean ones


@jax.jit
def _plain(
    decoder: Decoder,
    tokens: Int[Array, "pairs length"],
    mask: Bool[Array, "pairs length"],
    answers: Int[Array, " period"],
) -> Float[Array, "pairs period"]:
    stream = advance(decoder, embed(decoder, tokens, mask), 0, decoder.config.num_layers)
    return unembed(decoder, stream.x[:, -1], answers)


def _setting(
    decoder: Decoder, encoded: Encoded, pairs: PromptPairs, chosen: Sequence[int], positions: Sequence[int]
) -> _Setting:
    answers = jnp.asarray(encoded.answers)

    def logits(rows: Int[np.ndarray, " pairs"]) -> Float[Array, "pairs period"]:
        return _plain(decoder, jnp.asarray(encoded.tokens[rows]), jnp.asarray(encoded.mask[rows]), answers)

    layers = decoder.config.num_layers
    wrong = [layer for layer in chosen if not 0 <= layer < layers]
    if wrong:
        raise ValueError(f"layers {wrong}: expected 0 to {layers - 1}")
    length = encoded.tokens.shape[1]
    wrong = [column for column in positions if not -length <= column < length]
    if wrong:
        raise ValueError(f"positions {wrong}: prompts have {length} columns")
    before = _difference(logits(pairs.corrupted), pairs, encoded.gamma)
    after = _difference(logits(pairs.clean), pairs, encoded.gamma)
    if (after - before).mean() <= 0:
        raise ValueError(
            "the model does not prefer the right answers of these prompts "
            f"(mean gap {(after - before).mean():.3f}): nothing can be recovered"
        )
    rows = pairs.corrupted
    return _Setting(
        jnp.asarray(encoded.tokens[rows]), jnp.asarray(encoded.mask[rows]), answers, before, after
    )


def _score(setting: _Setting, difference: Float[np.ndarray, " pairs"]) -> float:
    """Recovered share of the logit difference, averaged over pairs as a ratio of means; negatives are 0."""
    gap = (setting.after - setting.before).mean()
    return float(max((difference - setting.before).mean() / gap, 0.0))


def patch_blocks(
    decoder: Decoder,
    encoded: Encoded,
    pairs: PromptPairs,
    *,
    site: BlockSite = "mlp",
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    on_layer: Callable[[int], None] | None = None,
) -> Float[np.ndarray, "layers positions"]:
    """Share of the clean answer's lead that one block's output at one position brings back.

    (LD_patched - LD_corrupted) / (LD_clean - LD_corrupted), LD = logit(gamma clean) - logit(gamma corrupted).
    Args: positions: columns, negative from the end; default all.
    Raises: ValueError for layers or positions that are none, and where the model does not prefer the right
      answers (then nothing can be recovered).
    """
    layers = range(decoder.config.num_layers) if layers is None else layers
    length = encoded.tokens.shape[1]
    positions = range(-length, 0) if positions is None else positions
    if site not in _BLOCK_SITES:
        raise ValueError(f"site={site!r}: expected 'resid', 'attn' or 'mlp'")
    setting = _setting(decoder, encoded, pairs, layers, positions)
    tokens, mask = jnp.asarray(encoded.tokens[pairs.clean]), jnp.asarray(encoded.mask[pairs.clean])
    source = _component(decoder, tokens, mask, site)
    table = np.zeros((len(layers), len(positions)))
    for row, layer in enumerate(layers):
        for column, position in enumerate(positions):
            logits = _patched(
                decoder, setting.tokens, setting.mask, setting.answers, jnp.asarray(layer),
                jnp.asarray(position % length), source[layer][:, position], site,
            )  # fmt: skip
            table[row, column] = _score(setting, _difference(logits, pairs, encoded.gamma))
        if on_layer is not None:
            on_layer(layer)
    return table


def patch_heads(
    decoder: Decoder,
    encoded: Encoded,
    pairs: PromptPairs,
    *,
    layers: Sequence[int] | None = None,
    position: int = -1,
) -> Float[np.ndarray, "layers heads"]:
    """The same for what single heads read, at one position (the last token in the paper)."""
    layers = range(decoder.config.num_layers) if layers is None else layers
    length = encoded.tokens.shape[1]
    setting = _setting(decoder, encoded, pairs, layers, [position])
    tokens, mask = jnp.asarray(encoded.tokens[pairs.clean]), jnp.asarray(encoded.mask[pairs.clean])
    source = _component(decoder, tokens, mask, "heads")
    table = np.zeros((len(layers), decoder.config.num_heads))
    for row, layer in enumerate(layers):
        for head in range(decoder.config.num_heads):
            logits = _patched(
                decoder, setting.tokens, setting.mask, setting.answers, jnp.asarray(layer),
                jnp.asarray(position % length), source[layer][:, position, head], "heads", jnp.asarray(head),
            )  # fmt: skip
            table[row, head] = _score(setting, _difference(logits, pairs, encoded.gamma))
    return table


def head_outputs(
    decoder: Decoder, encoded: Encoded, layer: int, head: int, position: int = -1
) -> Float[Array, "prompts head_size"]:
    """What one head reads at one position, for every prompt; for regression."""
    source = _component(decoder, jnp.asarray(encoded.tokens), jnp.asarray(encoded.mask), "heads")
    return source[layer][:, position, head]
