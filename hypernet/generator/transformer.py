"""The paper-shaped generator: a graph transformer in a hierarchical variational autoencoder.

States live on inputs, hidden units and the edges between them. At each level a prior read from the decoder's
state and a posterior that also knows the structure (which column and slot an edge joins) give latents per
edge and per unit; they are added to the state, and a layer runs. Weights are read from the last state.

With `attention="both"`, as in the paper, the decoder's layers look across edges. Softmax over inputs then
finds structure in prior noise, so that puddings cost no KL at all; `attention="encoder"` keeps the
decoder edge-local and the price meaningful.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Real

from hypernet.generator.config import GeneratorConfig
from hypernet.generator.dense import Draws, Linear, Perceptron, draw_weights, init_linear, init_perceptron
from hypernet.generator.gaussians import Gaussian, kl_between, log_scale_of
from hypernet.generator.orbit_tables import CONDITIONS, Noise
from hypernet.networks.mlp import MLP

_WIDTH, _HEADS, _LEVELS, _LATENT = 16, 2, 2, 4

# Where outputs of fresh perceptrons, which are near zero, are to lie.
_WEIGHT_SCALE = 2.0  # of the weights at n = 1
_SIZE_POWER = 0.25  # they shrink as n^-this
_READOUT_SCALE = -1.0  # log of the readout's scale
_READOUT_MEAN = 0.3  # readouts start positive, so that signs of spikes decide
_MEAN_RATE = 4.0  # means move four times as fast, at Adam's equal steps
_GAIN_RATE = 2.0  # a gain moves a log-scale twice as fast, likewise


class State(NamedTuple):
    """What the layers pass on."""

    inputs: Float[Array, "columns width"]
    units: Float[Array, "slots columns width"]
    edges: Float[Array, "columns slots columns width"]


class Attention(eqx.Module):
    """Units attend over inputs and inputs over units; logits and values are read from edges."""

    logits: Linear
    values: Linear
    to_units: Linear
    to_inputs: Linear


class Layer(eqx.Module):
    """One layer; without attention and pooling it is local to an edge and its unit."""

    from_input: Linear
    from_unit: Linear
    edge: Perceptron
    unit: Perceptron
    input: Perceptron | None
    attention: Attention | None
    pooled: Linear | None


class Level(eqx.Module):
    """Latents of one level."""

    encoder: Layer
    edge_prior: Linear
    unit_prior: Linear
    edge_posterior: Perceptron
    unit_posterior: Perceptron
    edge_in: Linear
    unit_in: Linear
    edge_back: Linear  # samples into the encoder's state
    unit_back: Linear
    decoder: Layer


class Branch(eqx.Module):
    """The part of theta that every mode has for itself."""

    start: Linear  # conditioning -> the states' first value: edges, units, inputs
    edge_structure: Linear
    unit_structure: Linear
    gains: Perceptron  # scales of weights and readout, and the offset


class Body(eqx.Module):
    """The part of theta that modes share."""

    levels: tuple[Level, ...]
    weight: Linear
    unit_out: Linear  # v and b


def _init_layer(draws: Draws, *, attention: bool) -> Layer:
    d = _WIDTH

    def linear(outputs: int = d, gain: float = 1.0) -> Linear:
        return init_linear(draws, d, outputs, gain)

    def perceptron() -> Perceptron:
        return init_perceptron(draws, d, d, hidden=d, gain=0.5)

    look = Attention(linear(_HEADS), linear(), linear(), linear()) if attention else None
    return Layer(
        from_input=linear(),
        from_unit=linear(),
        edge=perceptron(),
        unit=perceptron(),
        input=perceptron() if attention else None,
        attention=look,
        pooled=linear(gain=0.5) if attention else None,
    )


def init_branch(draws: Draws, config: GeneratorConfig, body: Body, mode: Int[Array, ""]) -> Branch:
    """Fresh weights of one mode; neither the body nor the mode's number decides them."""
    del body, mode
    (slots,) = config.assignment.slots
    return Branch(
        start=init_linear(draws, CONDITIONS, 3 * _WIDTH),
        edge_structure=init_linear(draws, config.assignment.relations * slots, _WIDTH),
        unit_structure=init_linear(draws, slots, _WIDTH),
        gains=init_perceptron(draws, CONDITIONS, 3, gain=0.1),
    )


def init_body(draws: Draws, config: GeneratorConfig) -> Body:
    """Fresh shared weights; the width, heads, levels and latents of the published form in small."""
    d, z = _WIDTH, _LATENT

    def level() -> Level:
        return Level(
            encoder=_init_layer(draws, attention=True),
            edge_prior=init_linear(draws, d, 2 * z, 0.1),
            unit_prior=init_linear(draws, d, 2 * z, 0.1),
            edge_posterior=init_perceptron(draws, 2 * d, 2 * z),
            unit_posterior=init_perceptron(draws, 2 * d, 2 * z),
            edge_in=init_linear(draws, z, d),
            unit_in=init_linear(draws, z, d),
            edge_back=init_linear(draws, z, d, 0.3),
            unit_back=init_linear(draws, z, d, 0.3),
            decoder=_init_layer(draws, attention=config.attention == "both"),
        )

    return Body(
        levels=tuple(level() for _ in range(_LEVELS)),
        weight=init_linear(draws, d, 1),
        unit_out=init_linear(draws, d, 2, 0.3),
    )


def draw_noise(key: PRNGKeyArray, config: GeneratorConfig, columns: int) -> Noise:
    """The draws for one network over (padded) columns, per level."""
    (slots,) = config.assignment.slots
    return draw_weights(
        key,
        lambda draws: Noise(
            tuple(draws.normal((columns, slots, columns, _LATENT)) for _ in range(_LEVELS)),
            tuple(draws.normal((slots, columns, _LATENT)) for _ in range(_LEVELS)),
        ),
    )


def _normalized(x: Float[Array, "... width"]) -> Float[Array, "... width"]:
    shifted = x - jnp.mean(x, axis=-1, keepdims=True)
    return shifted * jax.lax.rsqrt(jnp.mean(shifted**2, axis=-1, keepdims=True) + 1e-6)


def _attend(
    look: Attention, edges: Float[Array, "columns slots columns width"], real: Bool[Array, " columns"]
) -> tuple[Float[Array, "slots columns width"], Float[Array, "columns width"]]:
    """What units read from inputs, and inputs from units."""
    logits = look.logits(edges)
    values = look.values(edges)
    values = values.reshape(*values.shape[:-1], _HEADS, _WIDTH // _HEADS)
    over_inputs = jnp.where(real[:, None, None, None], logits, -1e9)
    over_units = jnp.where(real[None, None, :, None], logits, -1e9)
    to_units = jnp.einsum("iskh,iskhd->skhd", jax.nn.softmax(over_inputs, axis=0), values)
    to_inputs = jnp.einsum("iskh,iskhd->ihd", jax.nn.softmax(over_units, axis=(1, 2)), values)
    return (
        look.to_units(to_units.reshape(*to_units.shape[:2], _WIDTH)),
        look.to_inputs(to_inputs.reshape(-1, _WIDTH)),
    )


def _run(layer: Layer, state: State, real: Bool[Array, " columns"]) -> State:
    met = layer.from_input(state.inputs)[:, None, None] + layer.from_unit(state.units)[None]
    edges = state.edges + layer.edge(met + _normalized(state.edges))
    inputs, units = state.inputs, state.units
    if layer.attention is not None and layer.pooled is not None and layer.input is not None:
        to_units, to_inputs = _attend(layer.attention, _normalized(edges), real)
        units, inputs = units + to_units, inputs + to_inputs
        mean = jnp.sum(jnp.where(real[:, None], jnp.mean(units, axis=0), 0), axis=0) / jnp.sum(real)
        shared = layer.pooled(_normalized(mean))
        units, inputs = units + shared[None, None], inputs + shared[None]
        inputs = inputs + layer.input(_normalized(inputs))
    units = units + layer.unit(_normalized(units))
    return State(inputs, units, edges)


def _gaussian(numbers: Float[Array, "... two_z"]) -> Gaussian:
    mean, log_scale = jnp.split(numbers, 2, axis=-1)
    return Gaussian(mean, jnp.clip(log_scale, -5, 2))


def _posterior(numbers: Float[Array, "... two_z"], prior: Gaussian) -> Gaussian:
    """Starts away from the prior and narrower: means near zero leave the loss no slope."""
    shift, narrowing = jnp.split(numbers, 2, axis=-1)
    return Gaussian(prior.mean + _MEAN_RATE * shift, prior.log_scale + log_scale_of(narrowing))


def decode(
    branch: Branch,
    theta: Body,
    config: GeneratorConfig,
    c: Float[Array, " c"],
    n: Real[Array, ""],
    noise: Noise,
) -> tuple[MLP, Float[Array, ""]]:
    """The network that noise stands for, and its description length in nats (of its real entries)."""
    slots, columns = noise.units[0].shape[:2]
    real = jnp.arange(columns) < n
    pairs = config.assignment.pairs(jnp.ones(columns, bool))
    edge, unit, node = jnp.split(branch.start(c), 3)
    decoder = State(
        jnp.broadcast_to(node, (columns, _WIDTH)),
        jnp.broadcast_to(unit, (slots, columns, _WIDTH)),
        jnp.broadcast_to(edge, (columns, slots, columns, _WIDTH)),
    )
    table = branch.edge_structure.weight.reshape(-1, slots, _WIDTH)
    structure = jnp.einsum("rik,rsd->iskd", pairs, table) + branch.edge_structure.bias[None, None, None]
    by_slot = branch.unit_structure(jnp.eye(slots))[:, None]
    encoder = State(decoder.inputs, decoder.units + by_slot, decoder.edges + structure)
    on_units = real.astype(jnp.float32)
    on_edges = on_units[:, None, None] * on_units[None, None, :]
    nats = jnp.zeros(())
    for level, edge_noise, unit_noise in zip(theta.levels, noise.edges, noise.units, strict=True):
        encoder = _run(level.encoder, encoder, real)
        p_edge = _gaussian(level.edge_prior(_normalized(decoder.edges)))
        p_unit = _gaussian(level.unit_prior(_normalized(decoder.units)))
        seen_edges = jnp.concatenate([_normalized(decoder.edges), _normalized(encoder.edges)], axis=-1)
        seen_units = jnp.concatenate([_normalized(decoder.units), _normalized(encoder.units)], axis=-1)
        q_edge = _posterior(level.edge_posterior(seen_edges), p_edge)
        q_unit = _posterior(level.unit_posterior(seen_units), p_unit)
        nats += jnp.sum(on_edges * kl_between(q_edge, p_edge)) + jnp.sum(
            on_units[None] * kl_between(q_unit, p_unit)
        )
        z_edge, z_unit = q_edge.at(edge_noise), q_unit.at(unit_noise)
        decoder = State(
            decoder.inputs, decoder.units + level.unit_in(z_unit), decoder.edges + level.edge_in(z_edge)
        )
        decoder = _run(level.decoder, decoder, real)
        encoder = State(
            encoder.inputs, encoder.units + level.unit_back(z_unit), encoder.edges + level.edge_back(z_edge)
        )
    gains = branch.gains(c)
    scale = _WEIGHT_SCALE * jnp.exp(_GAIN_RATE * gains[0]) * n**-_SIZE_POWER
    weight = scale * theta.weight(_normalized(decoder.edges))[..., 0] * on_edges
    out = theta.unit_out(_normalized(decoder.units))
    level = jnp.exp(_GAIN_RATE * gains[1] + _READOUT_SCALE)
    v = level * (_READOUT_MEAN + out[..., 0]) * on_units[None]
    bias = (out[..., 1] * on_units[None]).reshape(-1)
    mlp = MLP((weight.reshape(columns, -1),), (bias,), v.reshape(-1), n * gains[2], config.activation)
    return mlp, nats
