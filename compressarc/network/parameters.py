"""The decoder's parameters: free weights only, stacked by weight set, and their initialization.

All linear maps start as N(0, 1 / inputs), biases alike (the reference's version of the
paper's "Xavier normal"). Tied weights (y-only types use those of their x twins; direction
maps follow the symmetries of the square) exist once. 83,628 numbers take part in the
forward pass, whatever the puzzle; the posterior comes on top.
"""

from __future__ import annotations

import math
from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Int, PRNGKeyArray, Shaped

from compressarc.multitensor import (
    DIRECTED_SETS,
    DIRECTED_WIDTH,
    GROUPS,
    LATENT_WIDTH,
    NUM_LAYERS,
    PACKED,
    PLAIN_SETS,
    PLAIN_WIDTH,
    TYPES,
    ArrayT,
    Group,
    Multitensor,
    Packed,
    Shape,
    Stream,
)
from compressarc.network.layers import softmax as softmax_layer
from compressarc.network.layers import sweep
from compressarc.network.layers.decode import Posterior
from compressarc.network.layers.direction import FREE_LINE_MAPS, FREE_MAPS, LINE_TYPES, SYMMETRIC_TYPES
from compressarc.network.layers.slot_weights import by_slot

SHARE_UP_WIDTH = 16
SHARE_DOWN_WIDTH = 8
NONLINEAR_WIDTH = 16
POSTERIOR_STD = 0.01
HEAD_BIAS_SCALE = 100.0


class Sets(NamedTuple, Generic[ArrayT]):
    """One weight per tied set of types: plain and directed types differ in width."""

    plain: Shaped[ArrayT, "*layers 6 inputs outputs"]  # sets in the order of PLAIN_SETS
    directed: Shaped[ArrayT, "*layers 8 inputs outputs"]  # sets in the order of DIRECTED_SETS

    def by_group(self) -> Stream[ArrayT]:
        """The slice of sets that belongs to each array of the stream; without layer axes."""
        arrays: tuple[Any, Any] = self.plain, self.directed
        return Stream(*(arrays[g.directed][g.sets] for g in GROUPS))


def weights_by_slot(sets: Sets[Array], shape: Shape) -> Stream[Array]:
    """Weights [sets, inputs, outputs] as `project` takes them, for each array of the stream."""
    plain, directed = (
        by_slot(weight, [g for g in GROUPS if g.directed == is_directed], shape)
        for weight, is_directed in ((sets.plain, False), (sets.directed, True))
    )
    return Stream(plain[0], directed[0], plain[1], directed[1])


class Linear(NamedTuple, Generic[ArrayT]):
    """Reads from the residual stream and writes back to it."""

    into: Sets[ArrayT]
    out: Sets[ArrayT]


class SweepLinear(NamedTuple, Generic[ArrayT]):
    """As `Linear`, for the directional layers (types 10111 and 11111 only)."""

    into: Float[ArrayT, "*layers 2 8 4"]
    out: Float[ArrayT, "*layers 2 4 8"]


class Layer(NamedTuple, Generic[ArrayT]):
    """Weights of one block; stacked over the four blocks in `Params`."""

    share_up: Linear[ArrayT]
    softmax: Linear[ArrayT]  # out: the types' [2 (2^k - 1), C] weights one below the other
    cummax: SweepLinear[ArrayT]
    shift: SweepLinear[ArrayT]
    direction_symmetric: Float[ArrayT, "*layers 6 10 8 8"]
    direction_line: Float[ArrayT, "*layers 2 18 8 8"]
    nonlinear: Linear[ArrayT]
    share_down: Linear[ArrayT]


class Heads(NamedTuple, Generic[ArrayT]):
    """Readings of the final stream: colors from 11011, masks from 10010 and 10001."""

    color_weight: Float[ArrayT, "16 2"]
    color_bias: Float[ArrayT, "2"]  # used times 100
    mask_weight: Float[ArrayT, "16 2"]
    mask_bias: Float[ArrayT, "2"]


class Params(NamedTuple, Generic[ArrayT]):
    """Everything that is trained for one puzzle."""

    posterior: Posterior[ArrayT]
    decode_weight: Sets[ArrayT]
    decode_bias: Sets[ArrayT]
    layers: Layer[ArrayT]
    heads: Heads[ArrayT]


class _Normal(NamedTuple):
    """A weight to be drawn: N(0, 1 / inputs)."""

    shape: tuple[int, ...]
    inputs: int


def _sets(inputs: tuple[int, int], outputs: tuple[int, int], *lead: int) -> Sets[_Normal]:
    """Weights of plain and directed types, with these numbers of inputs and outputs."""
    return Sets(
        _Normal((*lead, len(PLAIN_SETS), inputs[0], outputs[0]), inputs[0]),
        _Normal((*lead, len(DIRECTED_SETS), inputs[1], outputs[1]), inputs[1]),
    )


_STREAM = (PLAIN_WIDTH, DIRECTED_WIDTH)


def _linear(width: int) -> Linear[_Normal]:
    both = (width, width)
    return Linear(_sets(_STREAM, both, NUM_LAYERS), _sets(both, _STREAM, NUM_LAYERS))


def _sweep() -> SweepLinear[_Normal]:
    n, width = DIRECTED_WIDTH, sweep.WIDTH
    return SweepLinear(_Normal((NUM_LAYERS, 2, n, width), n), _Normal((NUM_LAYERS, 2, width, n), width))


def _softmax_out(types: tuple[str, ...], channels: int) -> list[_Normal]:
    """One block of rows per type; joined below one another once they are drawn."""
    sizes = [softmax_layer.WIDTH * len(softmax_layer.subsets(code)) for code in types]
    return [_Normal((NUM_LAYERS, size, channels), size) for size in sizes]


def _weights() -> dict[str, Any]:
    """What is drawn for the decoder, in a fixed order."""
    n, soft = DIRECTED_WIDTH, (softmax_layer.WIDTH, softmax_layer.WIDTH)
    latent = (LATENT_WIDTH, LATENT_WIDTH)
    return {
        "decode_weight": _sets(latent, _STREAM),
        "decode_bias": [
            _Normal((len(PLAIN_SETS), PLAIN_WIDTH), LATENT_WIDTH),
            _Normal((len(DIRECTED_SETS), DIRECTED_WIDTH), LATENT_WIDTH),
        ],
        "share_up": _linear(SHARE_UP_WIDTH),
        "softmax_in": _sets(_STREAM, soft, NUM_LAYERS),
        "softmax_out": [_softmax_out(PLAIN_SETS, PLAIN_WIDTH), _softmax_out(DIRECTED_SETS, DIRECTED_WIDTH)],
        "cummax": _sweep(),
        "shift": _sweep(),
        "direction_symmetric": _Normal((NUM_LAYERS, len(SYMMETRIC_TYPES), FREE_MAPS, n, n), n),
        "direction_line": _Normal((NUM_LAYERS, len(LINE_TYPES), FREE_LINE_MAPS, n, n), n),
        "nonlinear": _linear(NONLINEAR_WIDTH),
        "share_down": _linear(SHARE_DOWN_WIDTH),
        "color_weight": _Normal((PLAIN_WIDTH, 1), PLAIN_WIDTH),
        "color_bias": _Normal((2,), PLAIN_WIDTH),
        "mask_weight": _Normal((PLAIN_WIDTH, 2), PLAIN_WIDTH),
        "mask_bias": _Normal((2,), PLAIN_WIDTH),
    }


def softmax_out_by_group(out: Sets[ArrayT]) -> Stream[ArrayT]:
    """The softmax layer's output weights (one block, no layer axis) per array of the stream."""

    def part(group: Group) -> ArrayT:
        types = DIRECTED_SETS if group.directed else PLAIN_SETS
        rows = softmax_layer.out_rows(types)
        weight: Any = out.directed if group.directed else out.plain
        return weight[rows[group.sets.start].start : rows[group.sets.stop - 1].stop]

    return Stream(*(part(group) for group in GROUPS))


def posterior_shapes(shape: Shape) -> Multitensor[tuple[int, ...]]:
    """Shapes of the packed posterior arrays (plain points without the slot no type owns)."""

    def one(packed: Packed) -> tuple[int, ...]:
        axes = packed.axes(shape)
        if packed.without_slot:
            axes = (axes[0] - 1, *axes[1:])
        return (*axes, LATENT_WIDTH)

    return Multitensor(*(one(packed) for packed in PACKED))


def standard_normal(
    key: PRNGKeyArray, shape: Shape, dtype: DTypeLike, places: Int[Array, " N"] | None = None
) -> Multitensor[Array]:
    """One standard-normal draw for the whole posterior, cut into its packed arrays.

    places: for each latent its place in the draw, -1 for none (`Padding.noise`). With
    JAX's default keys a draw's first entries don't depend on its length, so that a padded
    puzzle sees the noise of the unpadded one.
    """
    shapes = posterior_shapes(shape)
    flat = jax.random.normal(key, (sum(math.prod(s) for s in shapes),), dtype)
    if places is not None:
        flat = jnp.where(places >= 0, flat[places], 0)
    out, start = [], 0
    for s in shapes:
        out.append(flat[start : start + math.prod(s)].reshape(s))
        start += math.prod(s)
    return Multitensor(*out)


def init_params(shape: Shape, *, key: PRNGKeyArray, places: Int[Array, " N"] | None = None) -> Params[Array]:
    """Draws the initial parameters for a puzzle of the given shape, float32.

    The decoder's weights depend on the key alone, not on the puzzle's shape. places: see
    `standard_normal`.
    """
    posterior_key, weight_key = jax.random.split(key)
    mean = standard_normal(posterior_key, shape, jnp.float32, places)
    is_drawn = lambda leaf: isinstance(leaf, _Normal)  # noqa: E731
    specs, structure = jax.tree.flatten(_weights(), is_leaf=is_drawn)
    # One draw for everything: a program of forty draws takes ten seconds to compile.
    flat = jax.random.normal(weight_key, (sum(math.prod(spec.shape) for spec in specs),))
    leaves, start = [], 0
    for spec in specs:
        end = start + math.prod(spec.shape)
        leaves.append(flat[start:end].reshape(spec.shape) / math.sqrt(spec.inputs))
        start = end
    drawn = jax.tree.unflatten(structure, leaves)
    softmax_out = Sets(*(jnp.concatenate(blocks, axis=1) for blocks in drawn["softmax_out"]))
    blocks = (
        "share_up",
        "cummax",
        "shift",
        "direction_symmetric",
        "direction_line",
        "nonlinear",
        "share_down",
    )
    layers = Layer(softmax=Linear(drawn["softmax_in"], softmax_out), **{name: drawn[name] for name in blocks})
    return Params(
        posterior=Posterior(
            mean=jax.tree.map(lambda a: POSTERIOR_STD * a, mean),
            local=jax.tree.map(jnp.zeros_like, mean),
            target=jnp.zeros((len(TYPES), LATENT_WIDTH)),
        ),
        decode_weight=drawn["decode_weight"],
        decode_bias=Sets(*drawn["decode_bias"]),
        layers=layers,
        heads=Heads(
            # Both columns start equal, so inputs and outputs start with equal logits.
            color_weight=jnp.tile(drawn["color_weight"], (1, 2)),
            color_bias=drawn["color_bias"],
            mask_weight=drawn["mask_weight"],
            mask_bias=drawn["mask_bias"],
        ),
    )
