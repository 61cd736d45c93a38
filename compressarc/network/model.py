"""The decoder network: latents in, logits of every grid of the puzzle out (paper, "architecture")."""

from __future__ import annotations

import math
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compressarc.config import Form, Variant
from compressarc.multitensor import (
    KEPT_ELEMENTS,
    PLANE,
    ArrayT,
    Multitensor,
    Shape,
    Stream,
    largest_array,
    map_groups,
)
from compressarc.network.block_loop import packed, stacked
from compressarc.network.inputs import Grids, Signature
from compressarc.network.layers.cummax import cummax
from compressarc.network.layers.decode import decode
from compressarc.network.layers.direction import DirectionMaps, direction_maps, direction_share
from compressarc.network.layers.nonlinear import nonlinear
from compressarc.network.layers.normalize import normalize
from compressarc.network.layers.share import share_down, share_up
from compressarc.network.layers.shift import shift
from compressarc.network.layers.softmax import softmax, softmax_blocks
from compressarc.network.layers.sweep import sweep_weights
from compressarc.network.padding import part, without_colors_beyond
from compressarc.network.parameters import (
    HEAD_BIAS_SCALE,
    Layer,
    Params,
    softmax_out_by_group,
    weights_by_slot,
)


class Output(NamedTuple):
    """Everything the network says about one puzzle."""

    logits: Float[Array, "C+1 X Y E 2"]  # colors, black (always 0) first; last axis: input, output
    x_mask: Float[Array, "E X 2"]  # row logits, -1000 beyond the larger of input and output
    y_mask: Float[Array, "E Y 2"]
    kl: Float[Array, "18"]  # nats per type, in the order of TYPES


class BlockWeights(NamedTuple, Generic[ArrayT]):
    """One block's weights as its layers take them, made before the loop over blocks."""

    share_up: tuple[Stream[ArrayT], Stream[ArrayT]]
    softmax: tuple[Stream[ArrayT], Stream[tuple[ArrayT, ...]]]
    cummax: tuple[ArrayT, ArrayT]
    shift: tuple[ArrayT, ArrayT]
    direction: DirectionMaps[ArrayT]
    nonlinear: tuple[Stream[ArrayT], Stream[ArrayT]]
    share_down: tuple[Stream[ArrayT], Stream[ArrayT]]


def block_weights(layer: Layer[Array], shape: Shape, variant: Variant) -> BlockWeights[Array]:
    """Of one block; `jax.vmap` it for all."""
    laid = lambda sets: weights_by_slot(sets, shape)  # noqa: E731
    both = lambda linear: (laid(linear.into), laid(linear.out))  # noqa: E731
    out = softmax_out_by_group(layer.softmax.out)
    return BlockWeights(
        share_up=both(layer.share_up),
        softmax=(
            laid(layer.softmax.into),
            softmax_blocks(out, shape, symmetric=variant.symmetric_softmax),
        ),
        cummax=sweep_weights(layer.cummax.into, layer.cummax.out, shape),
        shift=sweep_weights(layer.shift.into, layer.shift.out, shape),
        direction=direction_maps(layer.direction_symmetric, layer.direction_line),
        nonlinear=both(layer.nonlinear),
        share_down=both(layer.share_down),
    )


def block(
    x: Stream[Array],
    weights: BlockWeights[Array],
    grids: Grids[Array],
    static: Signature,
    variant: Variant,
) -> Stream[Array]:
    """One of the four blocks."""
    shape, pad = static.shape, grids.padding
    pre_norm = variant.apply_pre_norm
    with jax.named_scope("share_up"):
        x = share_up(x, *weights.share_up, shape, pad)
    with jax.named_scope("softmax"):
        x = softmax(x, *weights.softmax, shape, apply_pre_norm=pre_norm, padding=pad)
    with jax.named_scope("cummax"):
        x = cummax(x, *weights.cummax, grids.union, shape, pad)
    with jax.named_scope("shift"):
        x = shift(x, *weights.shift, grids.union, shape, pad)
    with jax.named_scope("direction_share"):
        x = direction_share(x, weights.direction, shape, pad)
    with jax.named_scope("nonlinear"):
        x = nonlinear(x, *weights.nonlinear, shape, apply_pre_norm=pre_norm, padding=pad)
    with jax.named_scope("share_down"):
        x = share_down(x, *weights.share_down, grids.means, shape, pad)
    with jax.named_scope("normalize"):
        return map_groups(lambda g, a: normalize(a, g, shape, g.copies, part(pad, g)), x)


def forward(
    params: Params[Array],
    noise: Multitensor[Array],
    grids: Grids[Array],
    static: Signature,
    variant: Variant = Variant(),  # noqa: B008, frozen
    form: Form = Form(),  # noqa: B008, immutable
) -> Output:
    """Decodes one sample of the latents into all grids.

    noise: standard normal, packed like the posterior means (zeros for the mean sample). form: how
    intermediate results are kept, with the same result for all.
    """
    shape = static.shape
    weight, bias = weights_by_slot(params.decode_weight, shape), params.decode_bias.by_group()
    x, kl = decode(params.posterior, noise, weight, bias, shape, grids.padding)

    def one(x: Stream[Array], weights: BlockWeights[Array]) -> Stream[Array]:
        return block(x, weights, grids, static, variant)

    weights = jax.vmap(lambda layer: block_weights(layer, shape, variant))(params.layers)
    if form.lanes * largest_array(shape) > KEPT_ELEMENTS[form.platform]:
        x = stacked(jax.checkpoint(one, prevent_cse=False), x, weights)
    else:
        x = (packed if form.platform == "gpu" else stacked)(one, x, weights)
    return Output(*heads(x, params, grids, shape), kl)


def heads(
    x: Stream[Array], params: Params[Array], grids: Grids[Array], shape: Shape
) -> tuple[Float[Array, "C1 X Y E 2"], Float[Array, "E X 2"], Float[Array, "E Y 2"]]:
    """Color logits from type 11011, row and column masks from 10010 and 10001."""
    head, (slots, *cells), lines = params.heads, PLANE.leading(shape), (shape.x + shape.y, shape.examples)
    colors = x.planes[1:] @ head.color_weight + HEAD_BIAS_SCALE * head.color_bias[None, None]
    colors = colors.reshape(slots - 1, *cells, 2)
    logits = jnp.concatenate([jnp.zeros_like(colors[:1]), colors], axis=0)
    logits = without_colors_beyond(logits, grids.padding)
    masks = x.margin[0, : math.prod(lines)] @ head.mask_weight + head.mask_bias[None]
    masks = masks.reshape(*lines, 2).transpose(1, 0, 2)
    x_mask = masks[:, : shape.x] + grids.x_offset[..., None]
    y_mask = masks[:, shape.x :] + grids.y_offset[..., None]
    return logits, x_mask, y_mask
