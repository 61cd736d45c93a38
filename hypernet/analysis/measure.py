"""Measuring generators: errors, prices, order parameters and labels of networks they draw."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Real, Shaped

from hypernet.arrays import AnyArray
from hypernet.classification.order_parameters import OrderParameters, labels_of, order_parameters
from hypernet.generator.config import GeneratorConfig
from hypernet.generator.generate import Drawn, Generator, draw, draw_noise
from hypernet.networks.mlp import MLP, evaluate
from hypernet.targets import Target
from hypernet.validation import whole


class Measured(NamedTuple):
    """Networks drawn from every seed at every beta; axes (seeds, betas, networks)."""

    n: int
    log10_beta: Float[np.ndarray, " betas"]
    mode: Int[np.ndarray, "seeds betas networks"]
    nmse: Float[np.ndarray, "seeds betas networks"]
    nats: Float[np.ndarray, "seeds betas networks"]
    loss: Float[np.ndarray, "seeds betas networks"]  # (MSE + beta KL) / n
    # of one-hidden-layer networks with a single output
    label: Shaped[np.ndarray, "seeds betas networks"] | None
    order: OrderParameters | None
    mlps: MLP


@functools.partial(jax.jit, static_argnames=("columns", "networks"))
def _draw_all(
    generators: Generator,
    key: PRNGKeyArray,
    n: Real[Array, ""],
    log10_betas: Float[Array, " betas"],
    modes: Int[Array, " networks"],
    x: Float[Array, "points columns"],
    y: Float[Array, " points *outputs"],
    *,
    columns: int,
    networks: int,
) -> tuple[Drawn, Float[Array, "seeds betas networks"]]:
    """The networks of every seed, beta and mode, with their mean squared errors."""

    def one(
        seed_generator: tuple[Int[Array, ""], Generator],
    ) -> tuple[Drawn, Float[Array, "betas networks"]]:
        seed, generator = seed_generator
        keys = jax.random.split(jax.random.fold_in(key, seed), (log10_betas.shape[0], networks))

        def network(key: PRNGKeyArray, lb: Float[Array, ""], mode: Int[Array, ""]) -> Drawn:
            return draw(generator, draw_noise(generator.config, key, columns), n, lb, mode)

        drawn = jax.vmap(jax.vmap(network, (0, None, 0)), (0, 0, None))(keys, log10_betas, modes)
        error = evaluate(drawn.mlp, x) - y[None, None]
        if generator.config.outputs == "inputs":
            error = jnp.where((jnp.arange(columns) < n)[None, None, None], error, 0)
        square = jnp.sum(error**2, axis=tuple(range(3, error.ndim)))
        return drawn, jnp.mean(square, axis=-1)

    count = generators.code.last.bias.shape[0]
    return jax.lax.map(one, (jnp.arange(count), generators))


def check_betas(config: GeneratorConfig, log10_betas: Sequence[float]) -> None:
    """Raises ValueError for betas outside the trained range."""
    low, high = config.log10_beta
    if not len(log10_betas) or not all(low - 1e-4 <= lb <= high + 1e-4 for lb in log10_betas):
        raise ValueError(
            f"log10_betas={list(log10_betas)}: expected numbers within {low} .. {high}, the trained range"
        )


def trim(mlps: MLP, n: int, slots: Sequence[int], *, outputs: bool = False) -> MLP:
    """Networks without their padded inputs and units, and outputs where these are as many as inputs."""
    columns = mlps.weights[0].shape[-2]

    def units(count: int) -> Int[np.ndarray, " units"]:
        return (np.arange(count)[:, None] * columns + np.arange(n)).reshape(-1)

    kept = [np.arange(n), *(units(s) for s in slots)]
    weights = tuple(
        np.asarray(w)[..., before[:, None], after]
        for w, before, after in zip(mlps.weights, kept, kept[1:], strict=False)
    )
    biases = tuple(np.asarray(b)[..., after] for b, after in zip(mlps.biases, kept[1:], strict=True))
    v, c = np.asarray(mlps.v), np.asarray(mlps.c)
    if mlps.vector:
        v = v[..., kept[-1], :][..., : n if outputs else None]
        c = c[..., : n if outputs else None]
    else:
        v = v[..., kept[-1]]
    return MLP(weights, biases, v, c, mlps.activation)


def measure(
    generators: Generator,
    target: Target,
    key: PRNGKeyArray,
    n: int,
    log10_betas: float | Sequence[float] | Real[AnyArray, "*betas"],
    *,
    networks: int = 32,
    points: int = 2048,
    columns: int | None = None,
    modes: Sequence[int] | Int[AnyArray, " networks"] | None = None,
) -> Measured:
    """Draws networks from every seed at every beta and measures them on fresh inputs.

    Networks are sampled, never taken at the posterior mean, which computes something else where latents
    are wide. Network j uses mode j mod modes unless `modes` says otherwise.

    Args: generators: with or without a leading axis of seeds. columns: padded size, so that several n share
    one compiled program.
    """
    config = generators.config
    if target.outputs != config.outputs:
        raise ValueError(
            f"target {target.name!r} has outputs={target.outputs!r}, the generator outputs={config.outputs!r}"
        )
    whole("networks", networks)
    whole("points", points, 2)
    betas = np.atleast_1d(np.asarray(log10_betas, np.float32))
    check_betas(config, betas.tolist())
    if modes is not None and not np.all((np.asarray(modes) >= 0) & (np.asarray(modes) < config.modes)):
        raise ValueError(f"modes={np.asarray(modes)}: this generator holds modes 0 to {config.modes - 1}")
    if modes is not None and len(modes) != networks:
        raise ValueError(f"{len(modes)} modes for {networks} networks: expected one for each")
    target.check_size(n)
    if generators.seeds is None:
        generators = jax.tree.map(lambda leaf: leaf[None], generators)
    config.assignment.check_size(n)
    columns = n if columns is None else columns
    if columns < n:
        raise ValueError(f"columns={columns}: fewer than n={n}")
    data_key, draw_key = jax.random.split(key)
    x = target.sample(data_key, points, n)
    y = target.value(x)
    if config.outputs == "inputs":
        y = jnp.pad(y, ((0, 0), (0, columns - n)))
    x = jnp.pad(x, ((0, 0), (0, columns - n)))
    if modes is None:
        modes = jnp.arange(networks) % config.modes
    drawn, mse = _draw_all(
        generators, draw_key, jnp.float32(n), jnp.asarray(betas), jnp.asarray(modes), x, y,
        columns=columns, networks=networks,
    )  # fmt: skip
    mlps = trim(drawn.mlp, n, config.assignment.slots, outputs=config.outputs == "inputs")
    nmse = np.asarray(mse, np.float64) / target.variance_of(n)
    nats = np.asarray(drawn.nats, np.float64)
    loss = (np.asarray(mse, np.float64) + 10.0 ** betas[:, None] * nats) / n
    order = label = None
    if len(config.assignment.slots) == 1 and config.outputs is None:
        parts = [
            order_parameters(w, v, b, activation=config.activation, input_std=target.input_std)
            for w, v, b in zip(mlps.W, mlps.v, mlps.b, strict=True)
        ]
        order = OrderParameters(*(np.stack(column) for column in zip(*parts, strict=True)))
        label = labels_of(order, nmse)
    shape = nmse.shape
    return Measured(n, betas, np.broadcast_to(np.asarray(modes), shape), nmse, nats, loss, label, order, mlps)
