"""The default generator: a posterior per orbit, a decoder that sees one edge at a time.

With structural features alone an equivariant encoder of any depth is constant on orbits, so it is a table.
The decoder must not look across edges: attention there would find structure in prior noise, free of charge.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Real

from hypernet.generator.config import GeneratorConfig
from hypernet.generator.dense import Draws, Linear, Perceptron, draw_weights, init_linear, init_perceptron
from hypernet.generator.gaussians import Gaussian, kl_to_standard, log_scale_of
from hypernet.networks.mlp import MLP

CONDITIONS = 3  # size, beta, and their product
_LEAN = 0.75  # how far the means of leaning edges start from zero, along what moves the weight
_TIED = 2  # of several modes, so many have spikes of one sign only
_SIZE = 8.0  # where powers of n are one

# Where outputs of fresh perceptrons, which are near zero, are to lie.
_FIRST_SCALE = 0.7  # log of the scale of the weights from the inputs at n = 1
_LATER_SCALE = -0.3  # and of those between hidden layers
_SIZE_POWER = 0.25  # weights shrink as n^-this
_READOUT_SCALE = -1.0  # log of the readout's scale
_READOUT_MEAN = 0.3  # readouts start positive, so that signs of spikes decide
_POWER_START = -1.0  # logit of the power of n by which a weight falls
_MEAN_RATE = 4.0  # means move four times as fast, at Adam's equal steps
_GAIN_RATE = 2.0  # a gain moves a log-scale twice as fast, at Adam's equal steps


class Noise(NamedTuple):
    """Standard normal draws that decide one network: per layer here, per level in the transformer."""

    # with the slots of both ends here; the transformer's edges all start at inputs, which have none
    edges: tuple[Float[Array, "*slots_in columns slots columns z"], ...]
    units: tuple[Float[Array, "slots columns z"], ...]


class Branch(eqx.Module):
    """The part of theta that every mode has for itself: what is sent."""

    edges: tuple[Perceptron, ...]  # posterior of every edge orbit, one per weight matrix
    units: tuple[Perceptron, ...]  # posterior of every slot, one per hidden layer
    gains: Perceptron  # scales of the weight matrices and the readout, and the offset
    lean: tuple[Float[Array, "_orbits z"], ...] | None  # where edges' means start


class Decoder(eqx.Module):
    """The part of theta that modes share: how it is read."""

    weight: tuple[Perceptron, ...]  # latents of an edge and its units -> its weight (and power of n)
    skip: tuple[Linear, ...]  # and a linear path beside
    readout: Perceptron  # latent of a last unit (and an output's place) -> v
    bias: tuple[Perceptron, ...]  # latent of a unit -> its bias
    offset: Perceptron | None  # place of an output -> c, where outputs form a vector


def leanings(
    draws: Draws, config: GeneratorConfig, decoder: Decoder, mode: Int[Array, ""]
) -> tuple[Float[Array, "_orbits z"], ...]:
    """Initial posterior means of the edge latents: far out, along what decides a weight's sign.

    Which algorithm a training finds is decided early, by the signs of its slots' own edges: all equal for a
    pudding, both for double-sided. Columns: the first two modes start with spikes of one sign, + or -; others
    at random. A tree: every slot compares, with drawn signs, the two subtrees that meet at its depth.
    """
    found = []
    for depth, (a, b) in enumerate(config.assignment.layers()):
        relation = jnp.arange(config.assignment.relations)[:, None, None]
        if config.assignment.relation == "columns":
            first = (jnp.arange(b) == 0)[None, None, :]
            signs = (relation == 1) * first * jnp.where(mode < _TIED, 1 - 2 * mode, 0)
        else:
            drawn = jnp.where(draws.normal((2, b)) > 0, 1.0, -1.0)
            lower, upper = drawn[0][None, None, :], drawn[1][None, None, :]
            signs = (relation <= depth) * lower + (relation == depth + 1) * upper
        skip = decoder.skip[depth].weight[:, 0]
        along = skip[None, None, None, :]
        grid = jnp.broadcast_to(signs, (config.assignment.relations, a, b))[..., None]
        found.append(_LEAN * (grid * along / jnp.linalg.norm(skip)).reshape(-1, config.latent))
    return tuple(found)


def init_branch(draws: Draws, config: GeneratorConfig, decoder: Decoder, mode: Int[Array, ""]) -> Branch:
    """Fresh weights of one mode: LeCun-normal, biases zero, last layers with gains of their own."""
    z, c = config.latent, CONDITIONS
    layers = config.assignment.layers()
    orbits = [config.assignment.relations * a * b for a, b in layers]
    tree = config.assignment.relation == "tree"
    return Branch(
        edges=tuple(init_perceptron(draws, o + c, 2 * z, gain=0.5 if tree else 1.0) for o in orbits),
        units=tuple(init_perceptron(draws, b + c, 2 * z) for _, b in layers),
        gains=init_perceptron(draws, c, len(layers) + 2, gain=0.1),
        lean=leanings(draws, config, decoder, mode) if tree or config.modes > 1 else None,
    )


def init_decoder(draws: Draws, config: GeneratorConfig) -> Decoder:
    """Fresh shared weights, likewise."""
    z, c, place = config.latent, CONDITIONS, config.place_size
    layers = config.assignment.layers()
    ends = [1 if depth == 0 else 2 for depth in range(len(layers))]  # inputs carry no latents
    numbers = 2 if config.power_law else 1
    return Decoder(
        weight=tuple(init_perceptron(draws, z * (1 + e) + c, numbers) for e in ends),
        skip=tuple(init_linear(draws, z, 1) for _ in layers),
        readout=init_perceptron(draws, z + place + c, 1, gain=0.3),
        bias=tuple(init_perceptron(draws, z + c, 1, gain=0.3) for _ in layers),
        offset=init_perceptron(draws, place + c, 1, gain=0.3) if place else None,
    )


def draw_noise(key: PRNGKeyArray, config: GeneratorConfig, columns: int) -> Noise:
    """The draws for one network over (padded) columns."""
    layers, z = config.assignment.layers(), config.latent
    return draw_weights(
        key,
        lambda draws: Noise(
            tuple(draws.normal((a, columns, b, columns, z)) for a, b in layers),
            tuple(draws.normal((b, columns, z)) for _, b in layers),
        ),
    )


def _table(
    perceptron: Perceptron,
    orbits: tuple[int, int, int],
    c: Float[Array, " c"],
    lean: Float[Array, "orbits z"] | float = 0.0,
    tied: Bool[Array, ""] | None = None,
) -> Gaussian:
    """Posterior of every orbit (relation, slot, slot); of tied orbits, one at the mean of their features."""
    rows = math.prod(orbits)
    features = jnp.eye(rows)
    if tied is not None:
        group = _tied_groups(*orbits)
        same = (group[:, None] == group).astype(np.float32)
        features = jnp.where(tied, same / same.sum(1, keepdims=True), features)
        lean = features @ lean if isinstance(lean, jax.Array) else lean
    features = jnp.concatenate([features, jnp.broadcast_to(c, (rows, c.shape[0]))], axis=1)
    mean, log_scale = jnp.split(perceptron(features), 2, axis=1)
    return Gaussian(_MEAN_RATE * (mean + lean), log_scale_of(log_scale))


def _narrower(q: Gaussian, log_size: Float[Array, ""], amount: float) -> Gaussian:
    """Lets precise latents grow more precise as n^-amount, and leaves those at the prior alone."""
    if not amount:
        return q
    certain = jax.nn.sigmoid(-3 * (q.log_scale + 1.5))
    return q._replace(log_scale=q.log_scale - amount * log_size * certain)


def _tied_groups(relations: int, a: int, b: int) -> Int[np.ndarray, " orbits"]:
    """Which orbits a tied mode can't tell apart: only its first slot knows its column.

    That leaves one spike per input and spare units for the sea, the n + 1 units of a pudding.
    """
    relation, source, slot = np.meshgrid(range(relations), range(a), range(b), indexing="ij")
    known = np.where(slot == 0, relation, 0)
    return ((known * a + source) * b + slot).reshape(-1)


def posterior(
    branch: Branch,
    config: GeneratorConfig,
    c: Float[Array, " c"],
    n: Real[Array, ""],
    mode: Int[Array, ""],
) -> tuple[list[Gaussian], list[Gaussian]]:
    """Posterior of every edge orbit (relation, slot, slot) and of every slot, for each layer."""
    log_size = jnp.log(n / _SIZE)
    edges, units = [], []
    # puddings need equal signs, and double-sided wins wherever slots may differ
    several = config.modes > 1 and config.assignment.relation == "columns"
    tied = mode < _TIED if several and min(config.assignment.slots) > 1 else None
    layers = config.assignment.layers()
    leans = [0.0] * len(layers) if branch.lean is None else branch.lean
    for (a, b), edge, unit, lean in zip(layers, branch.edges, branch.units, leans, strict=True):
        relations = config.assignment.relations
        q = _narrower(_table(edge, (relations, a, b), c, lean, tied), log_size, config.size_exponent)
        edges.append(jax.tree.map(lambda leaf: leaf.reshape(relations, a, b, -1), q))  # noqa: B023
        units.append(_table(unit, (1, 1, b), c, tied=tied))
    return edges, units


def description_length(
    edges: list[Gaussian],
    units: list[Gaussian],
    pairs: Float[Array, "relations columns columns"],
    n: Real[Array, ""],
) -> Float[Array, ""]:
    """KL in nats of all latents of the real edges and units of one network."""
    counts = jnp.sum(pairs, axis=(1, 2))
    total = sum(jnp.sum(counts[:, None, None] * kl_to_standard(q)) for q in edges)
    return total + n * sum(jnp.sum(kl_to_standard(q)) for q in units)


def _on_edges(
    table: Float[Array, "relations a b z"], pairs: Float[Array, "relations columns columns"]
) -> Float[Array, "a columns b columns z"]:
    # masked sums, not a gather: the gradient of a gather is a slow scatter
    rows = (
        pair[None, :, None, :, None] * row[:, None, :, None, :]
        for pair, row in zip(pairs, table, strict=True)
    )
    return sum(rows, start=jnp.zeros((), table.dtype))


class _Column(NamedTuple):
    """What the decoding of every layer of one network reads."""

    c: Float[Array, " c"]  # conditioning
    n: Real[Array, ""]  # inputs
    pairs: Float[Array, "relations columns columns"]
    mask: Float[Array, " columns"]  # 1 for columns that exist


def _weight_matrix(
    theta: Decoder,
    depth: int,
    config: GeneratorConfig,
    given: _Column,
    latents: Float[Array, "a columns b columns z"],
    units: Float[Array, "b columns z"],
    sources: Float[Array, "a columns z"] | None,
    gain: Float[Array, ""],
) -> Float[Array, "a columns b columns"]:
    """Weights between two layers from the latents of edges and of the units at both ends."""
    z, c, decoder = config.latent, given.c, theta.weight[depth]
    if sources is None:  # inputs carry no latents
        on_edge, on_unit, on_c = decoder.parts(z, z, c.shape[0])
        shared = (units @ on_unit + (c @ on_c + decoder.first.bias)[None, None])[None, None]
    else:
        on_edge, on_source, on_unit, on_c = decoder.parts(z, z, z, c.shape[0])
        shared = (units @ on_unit + (c @ on_c + decoder.first.bias)[None, None])[None, None]
        shared = shared + (sources @ on_source)[:, :, None, None]
    found = decoder.last(jax.nn.silu(latents @ on_edge + shared))
    weight = (found[..., :1] + theta.skip[depth](latents))[..., 0]
    if config.power_law:
        # a power of n that an edge's latents decide and n does not: it extrapolates
        power = jax.nn.sigmoid(2 * found[..., 1] + _POWER_START)
        weight = weight * jnp.exp(-jnp.log(given.n / _SIZE) * power)
    start = _FIRST_SCALE if depth == 0 else _LATER_SCALE
    scale = jnp.exp(_GAIN_RATE * gain + start - _SIZE_POWER * jnp.log(given.n))
    return scale * weight * (given.mask[:, None] * given.mask[None, :])[None, :, None, :]


def _bias(
    theta: Decoder, depth: int, given: _Column, units: Float[Array, "b columns z"]
) -> tuple[Float[Array, "b columns"], Float[Array, "b columns zc"]]:
    """Biases of a layer's units, and the units' latents beside the conditioning."""
    wide = jnp.concatenate([units, jnp.broadcast_to(given.c, (*units.shape[:-1], given.c.shape[0]))], axis=-1)
    return theta.bias[depth](wide)[..., 0] * given.mask[None, :], wide


def _readout(
    theta: Decoder,
    config: GeneratorConfig,
    given: _Column,
    units: Float[Array, "b columns z"],
    wide: Float[Array, "b columns zc"],
    gains: Float[Array, " gains"],
    places: Float[Array, "outputs place"] | None,
) -> tuple[Float[Array, " hidden *outputs"], Float[Array, "*outputs"]]:
    """Readout v and offset c of the network: of a number, or of a vector with a place for each output."""
    level = jnp.exp(_GAIN_RATE * gains[-2] + _READOUT_SCALE)
    if places is None or theta.offset is None:  # a number
        v = level * (_READOUT_MEAN + theta.readout(wide)[..., 0]) * given.mask[None, :]
        return v.reshape(-1), given.n * gains[-1]
    c = given.c
    on_unit, on_place, on_c = theta.readout.parts(config.latent, config.place_size, c.shape[0])
    shared = units @ on_unit + (c @ on_c + theta.readout.first.bias)[None, None]
    first = shared[:, :, None] + (places @ on_place)[None, None]
    v = level * (_READOUT_MEAN + theta.readout.last(jax.nn.silu(first))[..., 0]) * given.mask[None, :, None]
    at = jnp.concatenate([places, jnp.broadcast_to(c, (places.shape[0], c.shape[0]))], axis=-1)
    return v.reshape(-1, places.shape[0]), theta.offset(at)[:, 0]


def decode(
    branch: Branch,
    theta: Decoder,
    config: GeneratorConfig,
    c: Float[Array, " c"],
    n: Real[Array, ""],
    noise: Noise,
    mode: Int[Array, ""],
    *,
    places: Float[Array, "outputs place"] | None = None,
) -> tuple[MLP, Float[Array, ""]]:
    """The network that noise stands for, and its description length in nats.

    Args: c: conditioning. n: inputs, at most the noise's columns; what lies beyond has weight zero.
    """
    columns = noise.units[0].shape[1]
    real = jnp.arange(columns) < n
    given = _Column(c, n, config.assignment.pairs(real), real.astype(jnp.float32))
    edge_tables, unit_tables = posterior(branch, config, c, n, mode)
    gains = branch.gains(c)
    weights, biases, sources = [], [], None
    units = wide = jnp.zeros(())  # of the last layer, behind the loop
    for depth, (a, b) in enumerate(config.assignment.layers()):
        table, q = edge_tables[depth], unit_tables[depth]
        deviation = _on_edges(jnp.exp(table.log_scale), given.pairs) * noise.edges[depth]
        latents = _on_edges(table.mean, given.pairs) + deviation
        units = q.mean[:, None] + jnp.exp(q.log_scale)[:, None] * noise.units[depth]
        weight = _weight_matrix(theta, depth, config, given, latents, units, sources, gains[depth])
        weights.append(weight.reshape(a * columns, b * columns))
        bias, wide = _bias(theta, depth, given, units)
        biases.append(bias.reshape(b * columns))
        sources = units
    v, offset = _readout(theta, config, given, units, wide, gains, places)
    nats = description_length(edge_tables, unit_tables, given.pairs, n)
    return MLP(tuple(weights), tuple(biases), v, offset, config.activation), nats
