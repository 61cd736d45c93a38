"""Both generators read in plain NumPy, double precision: edge after edge for tables, without masks."""

import jax
import numpy as np
from scipy import special

from hypernet.networks.mlp import MLP

silu = lambda u: u * special.expit(u)  # noqa: E731


def linear(layer, x):
    return x @ np.asarray(layer.weight, float) + np.asarray(layer.bias, float)


def perceptron(p, *parts):
    return linear(p.last, silu(linear(p.first, np.concatenate(parts, axis=-1))))


def moved(moving, amounts):
    def move(base, directions):
        return np.asarray(base, float) + sum(
            a * np.asarray(d, float) for a, d in zip(amounts, directions, strict=True)
        )

    return jax.tree.map(move, moving.base, moving.directions)


def kl(mean, log_scale, prior_mean=0.0, prior_log_scale=0.0):
    variance, prior = np.exp(2 * log_scale), np.exp(2 * prior_log_scale)
    parts = prior_log_scale - log_scale + (variance + (mean - prior_mean) ** 2) / (2 * prior) - 0.5
    return np.sum(parts + np.zeros_like(mean))


def relation(config, i, j):
    """1 the same column, 0 another; in a tree how many halvings until both lie in one half."""
    if config.assignment.relation == "columns":
        return int(i == j)
    level = 0
    while i != j:
        i, j, level = i // 2, j // 2, level + 1
    return level


def parts_of(generator, n, lb, mode):
    """The weights at this beta, and the conditioning: sections 3.2 and 3.3 of the formulas."""
    low, high = generator.config.log10_beta
    place = 2 * (lb - low) / (high - low) - 1
    half = (place - 1) / 2
    amounts = np.tanh(
        perceptron(generator.code, np.array([half + 0.5, np.sin(np.pi * half), np.cos(np.pi * half)]))
    )
    branch = jax.tree.map(lambda leaf: np.asarray(leaf)[mode], generator.branches)
    c = np.array([np.log(n) / 2 - 0.5, place, np.log(n) * (place - 1) / 4])
    return moved(generator.shared, amounts), moved(branch, amounts), c


def tables(generator, noise, n, lb, mode=0):
    """The network and its price of an untied mode of the default generator."""
    config = generator.config
    shared, branch, c = parts_of(generator, n, lb, mode)
    z, gains = config.latent, perceptron(branch.gains, c)
    weights, biases, nats, below, units = [], [], 0.0, None, None
    for depth, (a, b) in enumerate(config.assignment.layers()):
        orbits = config.assignment.relations * a * b

        def posterior(p, row, rows, lean=0.0):
            out = perceptron(p, np.eye(rows)[row], c)
            return 4 * (out[:z] + lean), np.clip(2 * out[z:] - 1, -7, 0.3)

        units = np.zeros((b, n, z))
        for s in range(b):
            mean, log_scale = posterior(branch.units[depth], s, b)
            units[s] = mean + np.exp(log_scale) * np.asarray(noise.units[depth][s], float)
            nats += n * kl(mean, log_scale)
        W = np.zeros((a, n, b, n))
        for k, i, s, j in np.ndindex(W.shape):
            orbit = (relation(config, i, j) * a + k) * b + s
            lean = 0.0 if branch.lean is None else branch.lean[depth][orbit]
            mean, log_scale = posterior(branch.edges[depth], orbit, orbits, lean)
            certain = special.expit(-3 * (log_scale + 1.5))
            log_scale = log_scale - config.size_exponent * np.log(n / 8) * certain
            nats += kl(mean, log_scale)
            latent = mean + np.exp(log_scale) * np.asarray(noise.edges[depth][k, i, s, j], float)
            ends = (units[s, j],) if below is None else (below[k, i], units[s, j])
            out = perceptron(shared.weight[depth], latent, *ends, c)
            W[k, i, s, j] = out[0] + linear(shared.skip[depth], latent)[0]
            if config.power_law:
                W[k, i, s, j] *= (n / 8) ** -special.expit(2 * out[1] - 1)
        W *= np.exp(2 * gains[depth] + (-0.3 if depth else 0.7)) * n**-0.25
        weights.append(W.reshape(a * n, b * n))
        biases.append(np.array([perceptron(shared.bias[depth], u, c)[0] for u in units.reshape(b * n, z)]))
        below = units
    level = np.exp(2 * gains[-2] - 1)
    if config.outputs is None:
        v = np.array([level * (0.3 + perceptron(shared.readout, u, c)[0]) for u in units.reshape(-1, z)])
        return MLP(tuple(weights), tuple(biases), v, n * gains[-1], config.activation), nats
    places = [np.array([r, r**2, r**3]) for r in 2 * (np.arange(n) + 0.5) / n - 1]
    v = np.array(
        [
            [level * (0.3 + perceptron(shared.readout, u, p, c)[0]) for p in places]
            for u in units.reshape(-1, z)
        ]
    )
    offset = np.array([perceptron(shared.offset, p, c)[0] for p in places])
    return MLP(tuple(weights), tuple(biases), v, offset, config.activation), nats


def normalized(x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def layer(p, inputs, units, edges):
    met = linear(p.from_input, inputs)[:, None, None] + linear(p.from_unit, units)[None]
    edges = edges + perceptron(p.edge, met + normalized(edges))
    if p.attention is not None:
        logits, values = (
            linear(p.attention.logits, normalized(edges)),
            linear(p.attention.values, normalized(edges)),
        )
        to_units, to_inputs = np.zeros_like(units), np.zeros_like(inputs)
        for h, own in enumerate((slice(0, 8), slice(8, 16))):
            attends = special.softmax(logits[..., h], axis=0)
            to_units[..., own] = (attends[..., None] * values[..., own]).sum(0)
            attends = special.softmax(logits[..., h], axis=(1, 2))
            to_inputs[..., own] = (attends[..., None] * values[..., own]).sum((1, 2))
        units = units + linear(p.attention.to_units, to_units)
        inputs = inputs + linear(p.attention.to_inputs, to_inputs)
        pooled = linear(p.pooled, normalized(units.mean((0, 1))))
        units, inputs = units + pooled, inputs + pooled
        inputs = inputs + perceptron(p.input, normalized(inputs))
    return inputs, units + perceptron(p.unit, normalized(units)), edges


def transformer(generator, noise, n, lb, mode=0):
    """The network and its price of the generator of the paper's shape."""
    shared, branch, c = parts_of(generator, n, lb, mode)
    (slots,) = generator.config.assignment.slots
    edge, unit, node = np.split(linear(branch.start, c), 3)
    inputs = np.tile(node, (n, 1))
    units, edges = np.tile(unit, (slots, n, 1)), np.tile(edge, (n, slots, n, 1))
    seen_units = units + (branch.unit_structure.weight + branch.unit_structure.bias)[:, None]
    seen_edges = edges.copy()
    for i, s, j in np.ndindex(n, slots, n):
        seen_edges[i, s, j] += (
            branch.edge_structure.weight[int(i == j) * slots + s] + branch.edge_structure.bias
        )
    encoder, decoder, nats = (inputs, seen_units, seen_edges), (inputs, units, edges), 0.0
    for level, edge_noise, unit_noise in zip(shared.levels, noise.edges, noise.units, strict=True):
        encoder, drawn = layer(level.encoder, *encoder), []
        for kind, k, given in (("unit", 1, unit_noise), ("edge", 2, edge_noise)):
            mean, log_scale = np.split(
                linear(getattr(level, f"{kind}_prior"), normalized(decoder[k])), 2, axis=-1
            )
            log_scale = np.clip(log_scale, -5, 2)
            both = normalized(decoder[k]), normalized(encoder[k])
            shift, narrowing = np.split(perceptron(getattr(level, f"{kind}_posterior"), *both), 2, axis=-1)
            q = mean + 4 * shift, log_scale + np.clip(2 * narrowing - 1, -7, 0.3)
            nats += kl(*q, mean, log_scale)
            drawn.append(q[0] + np.exp(q[1]) * np.asarray(given, float))
        decoder = (
            decoder[0], decoder[1] + linear(level.unit_in, drawn[0]), decoder[2] + linear(level.edge_in, drawn[1])
        )  # fmt: skip
        decoder = layer(level.decoder, *decoder)
        encoder = (
            encoder[0], encoder[1] + linear(level.unit_back, drawn[0]), encoder[2] + linear(level.edge_back, drawn[1])
        )  # fmt: skip
    gains = perceptron(branch.gains, c)
    W = 2 * np.exp(2 * gains[0]) * n**-0.25 * linear(shared.weight, normalized(decoder[2]))[..., 0]
    out = linear(shared.unit_out, normalized(decoder[1]))
    v = np.exp(2 * gains[1] - 1) * (0.3 + out[..., 0])
    config = generator.config
    return MLP(
        (W.reshape(n, -1),), (out[..., 1].reshape(-1),), v.reshape(-1), n * gains[2], config.activation
    ), nats
