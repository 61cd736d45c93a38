"""A task run once through a model: states of the concept's token, and all that patching reuses.

A patch at layer l and the position of alpha changes nothing below l and nothing to its left. What lies
there is computed once: keys and values of the tokens to the left, residual states of the rest at every layer.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from features.arrays import AnyArray
from features.circles.concepts import Task
from features.lm.decoder import (
    Decoder,
    Prefix,
    Stream,
    advance,
    check_layer,
    check_tokens,
    embed,
    trace,
    unembed,
)
from features.lm.loading import LanguageModel

Spelling = Literal["space", "bare"]


class Encoded(NamedTuple):
    """Prompts as tokens, padded on the left so that alpha stands in one column."""

    tokens: Int[np.ndarray, "prompts length"]
    mask: Bool[np.ndarray, "prompts length"]
    column: int  # of alpha
    answers: Int[np.ndarray, " period"]  # token ids of the possible answers
    alpha: Int[np.ndarray, " prompts"]
    beta: Int[np.ndarray, " prompts"]
    gamma: Int[np.ndarray, " prompts"]
    period: int


class Cached(NamedTuple):
    """What a model made of the prompts."""

    decoder: Decoder
    encoded: Encoded
    states: Float[Array, "states prompts suffix width"]  # from alpha's column on
    prefix: Prefix  # left of it
    logits: Float[np.ndarray, "prompts period"]  # of the answers, after the last token

    def alpha_states(self, layer: int) -> Float[Array, "prompts width"]:
        """Residual state `layer` at alpha."""
        check_layer(self.decoder, layer)
        return self.states[layer][:, 0]

    def last_states(self, layer: int) -> Float[Array, "prompts width"]:
        """Residual state `layer` at the last token."""
        check_layer(self.decoder, layer)
        return self.states[layer][:, -1]

    @property
    def correct(self) -> Bool[np.ndarray, " prompts"]:
        """Whether the right answer is the likeliest of the possible ones."""
        return self.logits.argmax(1) == self.encoded.gamma

    @property
    def num_layers(self) -> int:
        return self.decoder.config.num_layers


def pad_left(
    rows: Sequence[Sequence[int]], fill: int = 0
) -> tuple[Int[np.ndarray, "rows length"], Bool[np.ndarray, "rows length"]]:
    """Token rows of different lengths as one array, and where it holds tokens."""
    length = max(map(len, rows))
    tokens = np.full((len(rows), length), fill, np.int32)
    mask = np.zeros((len(rows), length), bool)
    for row, ids in enumerate(rows):
        tokens[row, length - len(ids) :] = ids
        mask[row, length - len(ids) :] = True
    return tokens, mask


def encode_task(model: LanguageModel, task: Task, spelling: Spelling = "space") -> Encoded:
    """Tokens of a task's prompts and of its answers.

    Args: spelling: of the answers: "space", " Monday", the natural continuation in byte-level models; "bare",
      "Monday", what the reference scores.
    Raises: ValueError if the tokenizer splits a name, or alpha's place from the end differs between prompts.
    """
    words = model.tokenizer
    space = "" if task.template.startswith("{alpha}") else " "
    names = [words.single(space + name) for name in task.concept.members]
    answers = [words.single((" " if spelling == "space" else "") + name) for name in task.concept.members]
    for ids, shown in ((names, task.concept.members), (answers, task.concept.members)):
        if len(set(ids)) < len(ids):
            raise ValueError(f"some of {shown} are the same token: the tokenizer does not know these names")
    prompts = task.prompts()
    rows = [words.encode(prompt.text) for prompt in prompts]
    places = set()
    for prompt, ids in zip(prompts, rows, strict=True):
        found = [len(ids) - i for i, token in enumerate(ids) if token == names[prompt.alpha]]
        if not found:
            raise ValueError(f"the token of {task.concept.members[prompt.alpha]!r} is not in {prompt.text!r}")
        places.add(found[-1])
    if len(places) != 1:
        raise ValueError(
            f"task {task.name!r}: alpha stands {sorted(places)} tokens from the end; expected one place"
        )
    tokens, mask = pad_left(rows)
    column = tokens.shape[1] - places.pop()
    alpha, beta, gamma = (np.array([getattr(p, f) for p in prompts]) for f in ("alpha", "beta", "gamma"))
    return Encoded(tokens, mask, column, np.array(answers), alpha, beta, gamma, task.concept.period)


@functools.partial(jax.jit, static_argnames="column")
def _cache(
    decoder: Decoder,
    tokens: Int[Array, "prompts length"],
    mask: Bool[Array, "prompts length"],
    answers: Int[Array, " period"],
    column: int,
) -> tuple[Float[Array, "states prompts suffix width"], Prefix, Float[Array, "prompts period"]]:
    found = trace(decoder, embed(decoder, tokens, mask))
    prefix = Prefix(found.key[:, :, :column], found.value[:, :, :column], mask[:, :column])
    logits = unembed(decoder, found.residuals[-1][:, -1], answers)
    return found.residuals[:, :, column:], prefix, logits


def run_prompts(decoder: Decoder, encoded: Encoded) -> Cached:
    """Runs all prompts once and keeps what patches need."""
    e = encoded
    check_tokens(decoder, e.tokens)
    states, prefix, logits = _cache(
        decoder, jnp.asarray(e.tokens), jnp.asarray(e.mask), jnp.asarray(e.answers), e.column
    )
    return Cached(decoder, encoded, states, prefix, np.asarray(logits))


def run_task(model: LanguageModel, task: Task, spelling: Spelling = "space") -> Cached:
    """`encode_task`, then `run_prompts`."""
    return run_prompts(model.decoder, encode_task(model, task, spelling))


@jax.jit
def _continue(
    decoder: Decoder,
    states: Float[Array, "states prompts suffix width"],
    prefix: Prefix,
    mask: Bool[Array, "prompts length"],
    answers: Int[Array, " period"],
    rows: Int[Array, " patches"],
    values: Float[Array, "patches width"],
    layer: Int[Array, ""],
) -> Float[Array, "patches period"]:
    """Answer logits with alpha's state `layer` replaced by values."""
    column = prefix.mask.shape[1]
    x = jax.lax.dynamic_index_in_dim(states, layer, 0, keepdims=False)[rows]
    x = x.at[:, 0].set(values.astype(x.dtype))
    positions = jnp.maximum(jnp.cumsum(mask, -1) - 1, 0)[rows, column:]
    past = Prefix(prefix.key[:, rows], prefix.value[:, rows], prefix.mask[rows])
    stream = Stream(x, positions, mask[rows, column:], past)
    last = advance(decoder, stream, layer, decoder.config.num_layers).x[:, -1]
    return unembed(decoder, last, answers)


def patched_logits(
    cached: Cached,
    layer: int,
    rows: Int[AnyArray, " patches"],
    values: Float[AnyArray, "patches width"],
    *,
    batch: int = 256,
) -> Float[np.ndarray, "patches period"]:
    """Answer logits of prompts `rows` with alpha's residual state `layer` overwritten by `values`.

    Only the blocks above `layer`, and only alpha's column and those to its right, are computed. Patches go
    in batches of one size: one compiled program for all layers.
    Raises: ValueError for a layer beyond the last block.
    """
    if not 0 <= layer < cached.num_layers:
        raise ValueError(f"layer={layer}: expected 0 to {cached.num_layers - 1}")
    rows, values = np.asarray(rows), jnp.asarray(values)
    batch = min(batch, max(len(rows), 1))
    mask, answers = jnp.asarray(cached.encoded.mask), jnp.asarray(cached.encoded.answers)
    found = []
    for start in range(0, len(rows), batch):
        # The last batch is filled up with repetitions.
        chosen = np.minimum(np.arange(start, start + batch), len(rows) - 1)
        found.append(
            _continue(
                cached.decoder, cached.states, cached.prefix, mask, answers,
                jnp.asarray(rows[chosen]), values[chosen], jnp.asarray(layer),
            )
        )  # fmt: skip
    return np.concatenate([np.asarray(part) for part in found])[: len(rows)]
