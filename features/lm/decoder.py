"""A decoder-only transformer whose residual stream can be read and written at any layer.

Residual states are numbered as in the paper (section 4): state l enters block l, state 0 is the embedding's
output and state `num_layers` is what the final norm sees. All blocks are one stacked pytree, run by a
compiled loop with traced bounds, so that one program starts or stops at any layer.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from features.arrays import AnyArray, over_last
from features.lm.config import DecoderConfig, RopeLayout

Site = Literal["resid", "heads", "attn", "mlp"]


@runtime_checkable
class Edit(Protocol):
    """Rewrites activations as they are computed.

    Called in every block with the site, the block's number (traced) and the activations: `resid` the stream
    entering the block (batch, tokens, width); `heads` what each head read (batch, tokens, heads, head_size);
    `attn` and `mlp` what the two halves add to the stream. Returns activations of the same shape.
    """

    def __call__(
        self, site: Site, layer: Int[Array, ""], x: Float[Array, "batch tokens *size"], /
    ) -> Float[Array, "batch tokens *size"]: ...


def no_edit(
    site: Site, layer: Int[Array, ""], x: Float[Array, "batch tokens *size"]
) -> Float[Array, "batch tokens *size"]:
    """Leaves everything as it is."""
    return x


class Norm(eqx.Module):
    """Scale (and shift) of a norm; both None where the model has no norms."""

    scale: Float[Array, "*layer width"] | None
    shift: Float[Array, "*layer width"] | None


class Linear(eqx.Module):
    """weight x + bias; weights are stored (out, in), as in checkpoints: XLA's fastest order on CPUs too."""

    weight: Float[Array, "*layer outputs inputs"]
    bias: Float[Array, "*layer outputs"] | None

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        y = jnp.einsum("...i,oi->...o", x, self.weight)
        return y if self.bias is None else y + over_last(self.bias, y)


class Block(eqx.Module):
    """Attention and MLP; in a model all blocks are stacked on a leading axis."""

    attention_norm: Norm
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    mlp_norm: Norm
    gate: Linear | None  # swiglu only
    up: Linear
    down: Linear


class Decoder(eqx.Module):
    """A language model: token ids (batch, tokens) to logits (batch, tokens, vocab_size)."""

    embedding: Float[Array, "vocab width"]
    position_embedding: Float[Array, "context width"] | None
    blocks: Block  # stacked
    final_norm: Norm
    unembedding: Float[Array, "vocab width"] | None  # None: tied
    config: DecoderConfig = eqx.field(static=True)


class Prefix(NamedTuple):
    """Keys and values of tokens that come before those that are run."""

    key: Float[Array, "layer batch past kv_heads head_size"]
    value: Float[Array, "layer batch past kv_heads head_size"]
    mask: Bool[Array, "batch past"]  # False where padded


class Stream(NamedTuple):
    """The residual stream of some tokens, and what their attention needs."""

    x: Float[Array, "batch tokens width"]
    positions: Int[Array, "batch tokens"]  # of the tokens in their text
    mask: Bool[Array, "batch tokens"]  # False where padded
    prefix: Prefix | None


# Keys and values of some tokens.
_KeyValue = tuple[
    Float[Array, "batch tokens kv_heads head_size"], Float[Array, "batch tokens kv_heads head_size"]
]


def _normalize(
    config: DecoderConfig, norm: Norm, x: Float[Array, "*batch width"]
) -> Float[Array, "*batch width"]:
    if config.norm == "none" or norm.scale is None:
        return x
    wide = x.astype(jnp.float32)
    if config.norm == "layer":
        wide = wide - wide.mean(-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + config.norm_eps)
    x = wide.astype(x.dtype) * over_last(norm.scale, x)
    return x if norm.shift is None else x + over_last(norm.shift, x)


def rope_frequencies(config: DecoderConfig) -> Float[Array, " half"]:
    """Radians per token of each rotated pair."""
    half = config.head_size // 2
    frequencies = config.rope_base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if config.rope_scaling is None:
        return frequencies
    scaling = config.rope_scaling
    turns = scaling.original_context * frequencies / (2 * math.pi)  # in the context trained on
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = jnp.clip(blend, 0, 1)
    return frequencies * (blend + (1 - blend) / scaling.factor)


def _rotate(
    x: Float[Array, "batch tokens heads head_size"],
    angles: Float[Array, "batch tokens half"],
    layout: RopeLayout,
) -> Float[Array, "batch tokens heads head_size"]:
    """Turns the pairs of x by angles, one per pair (half of the head's size)."""
    cos, sin = jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]
    cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
    if layout == "half":
        a, b = jnp.split(x, 2, -1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
    a, b = x[..., ::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)


def _angles(
    config: DecoderConfig, positions: Int[Array, "batch tokens"]
) -> Float[Array, "batch tokens half"]:
    return positions[..., None].astype(jnp.float32) * rope_frequencies(config)[None, None]


def _attention_mask(config: DecoderConfig, stream: Stream) -> Bool[Array, "batch 1 tokens keys"]:
    keys, valid = stream.positions, stream.mask
    if stream.prefix is not None:
        past = jnp.cumsum(stream.prefix.mask, -1) - 1
        batch = keys.shape[0]
        keys = jnp.concatenate([jnp.broadcast_to(past, (batch, past.shape[1])), keys], -1)
        before = jnp.broadcast_to(stream.prefix.mask, (batch, past.shape[1]))
        valid = jnp.concatenate([before, valid], -1)
    distance = stream.positions[:, :, None] - keys[:, None, :]
    seen = (distance >= 0) & valid[:, None, :]
    if config.window is not None:
        seen &= distance < config.window
    return seen[:, None]


def _geometry(
    config: DecoderConfig, stream: Stream
) -> tuple[Float[Array, "batch tokens half"] | None, Bool[Array, "batch 1 tokens keys"]]:
    """What attention needs to know of places: rotary angles, and who sees whom."""
    angles = _angles(config, stream.positions) if config.positions == "rope" else None
    return angles, _attention_mask(config, stream)


def _keys_and_values(
    config: DecoderConfig,
    block: Block,
    x: Float[Array, "batch tokens width"],
    angles: Float[Array, "batch tokens half"] | None,
) -> _KeyValue:
    batch, tokens, _ = x.shape
    shape = (batch, tokens, config.num_kv_heads, config.head_size)
    key, value = block.key(x).reshape(shape), block.value(x).reshape(shape)
    if angles is not None:
        key = _rotate(key, angles, config.rope_layout)
    return key, value


# Keys and values of a prefix in one layer; one row may serve the whole batch.
_Past = tuple[Float[Array, "rows past kv_heads head_size"], Float[Array, "rows past kv_heads head_size"]]

_BLOCK = 64  # queries of one causal block


def _attend(
    config: DecoderConfig,
    query: Float[Array, "batch tokens heads head_size"],
    key: Float[Array, "batch keys kv_heads head_size"],
    value: Float[Array, "batch keys kv_heads head_size"],
    mask: Bool[Array, "batch 1 tokens keys"],
) -> Float[Array, "batch tokens heads head_size"]:
    """What each head reads; softmax in float32. Query heads of a group share a key head.

    Long inputs go in blocks of queries that skip the keys after them: fewer products, the same sums.
    """
    tokens, past = query.shape[1], key.shape[1] - query.shape[1]
    blocks = max(tokens // _BLOCK, 1)
    edges = [tokens * i // blocks for i in range(blocks + 1)]
    read = [
        _attend_block(
            config, query[:, a:b], key[:, : past + b], value[:, : past + b], mask[:, :, a:b, : past + b]
        )
        for a, b in itertools.pairwise(edges)
    ]
    return read[0] if blocks == 1 else jnp.concatenate(read, 1)


def _attend_block(
    config: DecoderConfig,
    query: Float[Array, "batch tokens heads head_size"],
    key: Float[Array, "batch keys kv_heads head_size"],
    value: Float[Array, "batch keys kv_heads head_size"],
    mask: Bool[Array, "batch 1 tokens keys"],
) -> Float[Array, "batch tokens heads head_size"]:
    """One batched product per key head, group and tokens side by side.

    Einsum over the five axes leaves XLA on CPUs with slower products.
    """
    batch, tokens, heads, size = query.shape
    shared, keys = config.num_kv_heads, key.shape[1]
    group = heads // shared
    query = query.reshape(batch, tokens, shared, group, size).transpose(0, 2, 3, 1, 4)
    query = query.reshape(batch, shared, group * tokens, size)
    scores = query @ key.transpose(0, 2, 3, 1)
    scores = scores.astype(jnp.float32).reshape(batch, shared, group, tokens, keys) / math.sqrt(size)
    # The largest negative number, not -inf: rows of padding see nothing and must stay finite.
    scores = jnp.where(mask[:, :, None], scores, jnp.finfo(jnp.float32).min)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    total = weights.sum(-1)
    weights = weights.astype(value.dtype).reshape(batch, shared, group * tokens, keys)
    read = (weights @ value.transpose(0, 2, 1, 3)).reshape(batch, shared, group, tokens, size)
    read = read / total[..., None].astype(value.dtype)
    return read.transpose(0, 3, 1, 2, 4).reshape(batch, tokens, heads, size)


def _mlp(
    config: DecoderConfig, block: Block, x: Float[Array, "batch tokens width"]
) -> Float[Array, "batch tokens width"]:
    up = block.up(x)
    if block.gate is not None:
        up = jax.nn.silu(block.gate(x)) * up
    elif config.activation == "gelu":
        up = jax.nn.gelu(up, approximate=True)
    else:
        up = jax.nn.relu(up)
    return block.down(up)


def _block(
    config: DecoderConfig,
    block: Block,
    stream: Stream,
    angles: Float[Array, "batch tokens half"] | None,
    mask: Bool[Array, "batch 1 tokens keys"],
    past: _Past | None,
    layer: Int[Array, ""],
    edit: Edit,
) -> tuple[Float[Array, "batch tokens width"], _KeyValue]:
    """One block; also returns its keys and values, without those of the prefix."""
    x = edit("resid", layer, stream.x)
    h = _normalize(config, block.attention_norm, x)
    batch, tokens, _ = x.shape
    query = block.query(h).reshape(batch, tokens, config.num_heads, config.head_size)
    if angles is not None:
        query = _rotate(query, angles, config.rope_layout)
    own = _keys_and_values(config, block, h, angles)
    key, value = own
    if past is not None:
        spread = [jnp.broadcast_to(p, (batch, *p.shape[1:])) for p in past]
        key, value = (jnp.concatenate(pair, 1) for pair in zip(spread, own, strict=True))
    heads = edit("heads", layer, _attend(config, query, key, value, mask))
    attention = block.output(heads.reshape(batch, tokens, -1))
    x = x + edit("attn", layer, attention)
    h = _normalize(config, block.mlp_norm, x)
    return x + edit("mlp", layer, _mlp(config, block, h)), own


def _at(blocks: Block, index: Int[Array, ""]) -> Block:
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, 0, keepdims=False), blocks)


_Residual = Float[Array, "batch tokens width"]
_Kept = Float[Array, "batch tokens kv_heads head_size"]  # keys or values


def embed(
    model: Decoder, tokens: Int[AnyArray, "batch tokens"], mask: Bool[AnyArray, "batch tokens"] | None = None
) -> Stream:
    """Residual state 0 of a batch. Rows may be padded on the left: mask is False there."""
    mask = jnp.ones(tokens.shape, bool) if mask is None else jnp.asarray(mask)
    positions = jnp.maximum(jnp.cumsum(mask, -1) - 1, 0)
    return _embed_at(model, jnp.asarray(tokens), positions, mask, None)


def _embed_at(
    model: Decoder,
    tokens: Int[Array, "batch tokens"],
    positions: Int[Array, "batch tokens"],
    mask: Bool[Array, "batch tokens"],
    prefix: Prefix | None,
) -> Stream:
    x = model.embedding[tokens]
    if model.position_embedding is not None:
        x = x + model.position_embedding[positions]
    return Stream(x, positions, mask, prefix)


def advance(
    model: Decoder,
    stream: Stream,
    start: int | Int[Array, ""],
    stop: int | Int[Array, ""],
    edit: Edit = no_edit,
) -> Stream:
    """Runs blocks start..stop-1. Bounds may be traced: one compiled program serves all layers."""
    config = model.config
    angles, mask = _geometry(config, stream)

    def body(layer: Int[Array, ""], x: _Residual) -> _Residual:
        past = None if stream.prefix is None else (stream.prefix.key[layer], stream.prefix.value[layer])
        here = stream._replace(x=x)
        return _block(config, _at(model.blocks, layer), here, angles, mask, past, layer, edit)[0]

    return stream._replace(x=jax.lax.fori_loop(start, stop, body, stream.x))


def record(
    model: Decoder,
    tokens: Int[AnyArray, "batch tokens"],
    mask: Bool[AnyArray, "batch tokens"] | None,
    site: Site,
) -> Float[Array, "layer batch tokens *size"]:
    """Activations of one site in every layer."""
    stream = embed(model, tokens, mask)
    config = model.config
    angles, seen = _geometry(config, stream)

    def body(x: _Residual, layer: Int[Array, ""]) -> tuple[_Residual, Float[Array, "batch tokens *size"]]:
        kept: list[Float[Array, "batch tokens *size"]] = []

        def keep(
            where: Site, _: Int[Array, ""], value: Float[Array, "batch tokens *size"]
        ) -> Float[Array, "batch tokens *size"]:
            if where == site:
                kept.append(value)
            return value

        y, _ = _block(config, _at(model.blocks, layer), stream._replace(x=x), angles, seen, None, layer, keep)
        return y, kept[0]

    return jax.lax.scan(body, stream.x, jnp.arange(config.num_layers))[1]


class Trace(NamedTuple):
    """Everything a run leaves behind."""

    residuals: Float[Array, "states batch tokens width"]  # num_layers + 1 states
    key: Float[Array, "layer batch tokens kv_heads head_size"]
    value: Float[Array, "layer batch tokens kv_heads head_size"]


def trace(model: Decoder, stream: Stream, edit: Edit = no_edit) -> Trace:
    """Runs all blocks and keeps every residual state, key and value."""
    config = model.config
    angles, mask = _geometry(config, stream)

    def body(x: _Residual, layer: Int[Array, ""]) -> tuple[_Residual, tuple[_Residual, _Kept, _Kept]]:
        past = None if stream.prefix is None else (stream.prefix.key[layer], stream.prefix.value[layer])
        here = stream._replace(x=x)
        y, (key, value) = _block(config, _at(model.blocks, layer), here, angles, mask, past, layer, edit)
        return y, (edit("resid", layer, x), key, value)

    last, (states, key, value) = jax.lax.scan(body, stream.x, jnp.arange(config.num_layers))
    return Trace(jnp.concatenate([states, last[None]]), key, value)


def unembed(
    model: Decoder, x: Float[Array, "*batch width"], answers: Int[Array, " answers"] | None = None
) -> Float[Array, "*batch vocab"]:
    """Logits (float32) of a final residual state; of the given token ids only, where given."""
    x = _normalize(model.config, model.final_norm, x)
    table = model.embedding if model.unembedding is None else model.unembedding
    rows = table if answers is None else table[answers]
    return jnp.einsum("...d,vd->...v", x, rows, preferred_element_type=jnp.float32)


def check_tokens(model: Decoder, tokens: Shaped[AnyArray, "..."]) -> None:
    """Raises ValueError for tokens that are no ids (batch, tokens) of the vocabulary, or too many.

    Inside a compiled function only shapes are checked.
    """
    if jnp.ndim(tokens) != 2 or not jnp.issubdtype(jnp.result_type(tokens), jnp.integer):
        said = f"{jnp.result_type(tokens)} {jnp.shape(tokens)}"
        raise ValueError(f"tokens are {said}, expected integer ids (batch, tokens)")
    if tokens.shape[1] > model.config.context:
        raise ValueError(f"{tokens.shape[1]} tokens, but the model's context is {model.config.context}")
    if not isinstance(tokens, Tracer) and tokens.size:
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= model.config.vocab_size:
            raise ValueError(
                f"token ids {low} to {high}: the vocabulary has 0 to {model.config.vocab_size - 1}"
            )


def check_layer(model: Decoder, layer: int | Int[AnyArray, ""], *, states: bool = True) -> None:
    """Raises ValueError for a layer that is none; `states` allows the last residual state too."""
    most = model.config.num_layers if states else model.config.num_layers - 1
    if not isinstance(layer, Tracer) and not 0 <= int(layer) <= most:
        raise ValueError(f"layer={int(layer)}: expected 0 to {most}")


def forward(
    model: Decoder,
    tokens: Shaped[AnyArray, "..."],
    mask: Bool[AnyArray, "batch tokens"] | None = None,
    edit: Edit = no_edit,
) -> Float[Array, "batch tokens vocab"]:
    """Logits (float32) of every token. Compiled; an `edit` that is a pytree (lm.edits) is not retraced.

    Raises: ValueError for ids outside the vocabulary, or more tokens than the context.
    """
    tokens = jnp.asarray(tokens)
    check_tokens(model, tokens)
    return _forward(model, tokens, mask, edit)


@eqx.filter_jit
def _forward(
    model: Decoder,
    tokens: Int[Array, "batch tokens"],
    mask: Bool[AnyArray, "batch tokens"] | None,
    edit: Edit,
) -> Float[Array, "batch tokens vocab"]:
    stream = advance(model, embed(model, tokens, mask), 0, model.config.num_layers, edit)
    return unembed(model, stream.x)


def residual(
    model: Decoder,
    tokens: Shaped[AnyArray, "..."],
    layer: int | Int[AnyArray, ""],
    mask: Bool[AnyArray, "batch tokens"] | None = None,
    edit: Edit = no_edit,
) -> Float[Array, "batch tokens width"]:
    """Residual state `layer`, 0 to num_layers; the blocks after it are not run. One program for all layers.

    Raises: ValueError for a layer that is none, ids outside the vocabulary, more tokens than the context.
    """
    tokens = jnp.asarray(tokens)
    check_tokens(model, tokens)
    check_layer(model, layer)
    return _residual(model, tokens, jnp.asarray(layer), mask, edit)


@eqx.filter_jit
def _residual(
    model: Decoder,
    tokens: Int[Array, "batch tokens"],
    layer: Int[Array, ""],
    mask: Bool[AnyArray, "batch tokens"] | None,
    edit: Edit,
) -> Float[Array, "batch tokens width"]:
    return advance(model, embed(model, tokens, mask), 0, layer, edit).x


def residuals(
    model: Decoder,
    tokens: Shaped[AnyArray, "..."],
    mask: Bool[AnyArray, "batch tokens"] | None = None,
    edit: Edit = no_edit,
) -> Float[Array, "states batch tokens width"]:
    """All num_layers + 1 residual states; ValueError as in `forward`."""
    tokens = jnp.asarray(tokens)
    check_tokens(model, tokens)
    return _residuals(model, tokens, mask, edit)


@eqx.filter_jit
def _residuals(
    model: Decoder,
    tokens: Int[Array, "batch tokens"],
    mask: Bool[AnyArray, "batch tokens"] | None,
    edit: Edit,
) -> Float[Array, "states batch tokens width"]:
    return trace(model, embed(model, tokens, mask), edit).residuals


def init(config: DecoderConfig, *, key: PRNGKeyArray, dtype: DTypeLike = jnp.float32) -> Decoder:
    """Random weights: N(0, 1 / fan_in), embeddings and positions N(0, 1 / width), no biases set."""
    embed_key, position_key, unembed_key, *block_keys = jax.random.split(key, 10)
    layers, width = config.num_layers, config.width

    def linear(key: PRNGKeyArray, inputs: int, outputs: int) -> Linear:
        weight = jax.random.normal(key, (layers, outputs, inputs), dtype) / math.sqrt(inputs)
        return Linear(weight, jnp.zeros((layers, outputs), dtype) if config.bias else None)

    def norm(*leading: int) -> Norm:
        if config.norm == "none":
            return Norm(None, None)
        shift = jnp.zeros((*leading, width), dtype) if config.norm == "layer" else None
        return Norm(jnp.ones((*leading, width), dtype), shift)

    q, k, v, o, gate, up, down = block_keys
    queries, shared = config.num_heads * config.head_size, config.num_kv_heads * config.head_size
    blocks = Block(
        norm(layers),
        linear(q, width, queries),
        linear(k, width, shared),
        linear(v, width, shared),
        linear(o, queries, width),
        norm(layers),
        linear(gate, width, config.mlp_width) if config.activation == "swiglu" else None,
        linear(up, width, config.mlp_width),
        linear(down, config.mlp_width, width),
    )

    def table(key: PRNGKeyArray, *shape: int) -> Float[Array, "rows width"]:
        return jax.random.normal(key, shape, dtype) / math.sqrt(width)

    return Decoder(
        table(embed_key, config.vocab_size, width),
        table(position_key, config.context, width) if config.positions == "learned" else None,
        blocks,
        norm(),
        None if config.tied else table(unembed_key, config.vocab_size, width),
        config,
    )
