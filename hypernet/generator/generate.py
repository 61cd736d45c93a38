"""A trained hypernetwork, and networks drawn from it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray, Real, Shaped

from hypernet.arrays import Number, WholeNumber
from hypernet.generator import orbit_tables as tables
from hypernet.generator import transformer
from hypernet.generator.beta_conditioning import Moving, Theta, amounts_at, init_code, init_moving
from hypernet.generator.config import GeneratorConfig
from hypernet.generator.dense import Draws, Perceptron, draw_weights
from hypernet.generator.orbit_tables import Noise
from hypernet.networks.mlp import MLP


class Generator(eqx.Module):
    """Weights of a hypernetwork; a leading axis on every array holds several seeds."""

    shared: Moving[tables.Decoder | transformer.Body]  # what all modes have in common
    branches: Moving[tables.Branch | transformer.Branch]  # what each has for itself: modes lead every array
    code: Perceptron  # how beta moves both
    config: GeneratorConfig = eqx.field(static=True)

    @property
    def seeds(self) -> int | None:
        """Number of seeds side by side; None for one generator."""
        return self.code.last.bias.shape[0] if self.code.last.bias.ndim == 2 else None

    def member(self, seed: int) -> Generator:
        """One of the generators trained side by side."""
        if self.seeds is None:
            raise ValueError("this is one generator, not several side by side")
        if not 0 <= seed < self.seeds:
            raise ValueError(f"seed={seed}: this holds seeds 0 to {self.seeds - 1}")
        return jax.tree.map(lambda leaf: leaf[seed], self)


class Drawn(NamedTuple):
    """A network and its price, or several side by side."""

    mlp: MLP
    nats: Float[Array, "*networks"]  # KL of its latents


@functools.partial(jax.jit, static_argnames="config")
def init_generator(key: PRNGKeyArray, config: GeneratorConfig = GeneratorConfig()) -> Generator:  # noqa: B008, frozen
    """A fresh generator."""
    init_shared = tables.init_decoder if config.backend == "tables" else transformer.init_body
    shared_key, branch_key = jax.random.split(key)

    def moving(draws: Draws, base: Theta) -> Moving[Theta]:
        return init_moving(draws, base, directions=config.directions)

    def init_branch(draws: Draws, mode: Int[Array, ""]) -> tables.Branch | transformer.Branch:
        if isinstance(shared.base, transformer.Body):
            return transformer.init_branch(draws, config, shared.base, mode)
        return tables.init_branch(draws, config, shared.base, mode)

    def branch(key: PRNGKeyArray, mode: Int[Array, ""]) -> Moving[tables.Branch | transformer.Branch]:
        return draw_weights(key, lambda draws: moving(draws, init_branch(draws, mode)))

    shared, code = draw_weights(
        shared_key,
        lambda draws: (moving(draws, init_shared(draws, config)), init_code(draws, config.directions)),
    )
    keys = jax.random.split(branch_key, config.modes)
    return Generator(shared, jax.vmap(branch)(keys, jnp.arange(config.modes)), code, config)


def place_of(config: GeneratorConfig, log10_beta: Float[Array, ""]) -> Float[Array, ""]:
    """log10 beta as -1 .. 1 over the trained range."""
    low, high = config.log10_beta
    return 2 * (log10_beta - low) / (high - low) - 1


def conditioning(n: Real[Array, ""], place: Float[Array, ""]) -> Float[Array, " 3"]:
    """Numbers every part of the hypernetwork sees: size, place of beta, and their product."""
    log_size = jnp.log(n)
    return jnp.stack([0.5 * log_size - 0.5, place, log_size * (place - 1) / 4])


def output_places(
    config: GeneratorConfig, n: Real[Array, ""], columns: int
) -> Float[Array, "outputs 3"] | None:
    """Where each output stands in a vector: its place in -1 .. 1, the square and the sign of it."""
    if config.outputs is None:
        return None
    count, real = (columns, n) if config.outputs == "inputs" else (config.outputs, config.outputs)
    r = 2 * (jnp.arange(count) + 0.5) / real - 1
    return jnp.stack([r, r**2, r**3], axis=-1)


def _masked(branches: Theta, mode: Int[Array, ""]) -> Theta:
    """One mode's weights: the sum over all modes of what is not masked."""

    def pick(leaf: Shaped[Array, " modes *weights"]) -> Shaped[Array, " *weights"]:
        here = (jnp.arange(len(leaf)) == mode).reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.where(here, leaf, 0).sum(0, dtype=leaf.dtype)

    return jax.tree.map(pick, branches)


def _of_mode(
    branches: Moving[tables.Branch | transformer.Branch], mode: WholeNumber
) -> Moving[tables.Branch | transformer.Branch]:
    """One mode's weights, exactly.

    On accelerators not by an index that only running knows: its gradient would be a scatter, which is a loop
    on a TPU. On a CPU masks cost more than they save.
    """
    if jax.tree.leaves(branches)[0].shape[0] == 1:
        return jax.tree.map(lambda leaf: leaf[0], branches)

    def indexed(branches: Theta, mode: Int[Array, ""]) -> Theta:
        return jax.tree.map(lambda leaf: leaf[mode], branches)

    return jax.lax.platform_dependent(branches, jnp.asarray(mode), cpu=indexed, default=_masked)


def draw(
    generator: Generator,
    noise: Noise,
    n: Number,
    log10_beta: Number,
    mode: WholeNumber = 0,
) -> Drawn:
    """The network that given noise stands for; `n` may be traced and below the noise's columns.

    What lies beyond n inputs (columns) has weight zero and costs nothing.
    """
    config = generator.config
    n, log10_beta = jnp.asarray(n, jnp.float32), jnp.asarray(log10_beta, jnp.float32)
    place = place_of(config, log10_beta)
    c = conditioning(n, place)
    amounts = amounts_at(generator.code, place)
    shared = generator.shared.at(amounts)
    branch = _of_mode(generator.branches, mode).at(amounts)
    if isinstance(shared, transformer.Body):
        assert isinstance(branch, transformer.Branch)  # `init_generator` makes both of one backend
        return Drawn(*transformer.decode(branch, shared, config, c, n, noise))
    assert isinstance(branch, tables.Branch)
    columns = noise.units[0].shape[1]
    places = output_places(config, n, columns)
    return Drawn(*tables.decode(branch, shared, config, c, n, noise, jnp.asarray(mode), places=places))


def draw_noise(config: GeneratorConfig, key: PRNGKeyArray, columns: int) -> Noise:
    """Noise for one network over so many columns."""
    backend = tables if config.backend == "tables" else transformer
    return backend.draw_noise(key, config, columns)


@functools.partial(jax.jit, static_argnames="n")
def _generate(
    generator: Generator,
    key: PRNGKeyArray,
    log10_beta: Float[Array, ""],
    mode: Int[Array, ""],
    *,
    n: int | np.integer,
) -> Drawn:
    return draw(generator, draw_noise(generator.config, key, int(n)), n, log10_beta, mode)


def draw_network_and_price(
    generator: Generator,
    key: PRNGKeyArray,
    n: int | np.integer,
    beta: Number,
    *,
    mode: WholeNumber = 0,
    hidden: int | Sequence[int] | None = None,
) -> Drawn:
    """A fresh network for n inputs with its description length in nats; otherwise as `generate`."""
    config = generator.config
    if generator.seeds is not None:
        raise ValueError(
            f"this holds {generator.seeds} generators side by side: take one with .member(seed), or vmap"
        )
    for name, value in (("key", key), ("beta", beta), ("mode", mode)):
        if not isinstance(value, str) and np.shape(value) != ():
            raise ValueError(f"{name} has shape {np.shape(value)}: expected a single one; vmap over several")
    if not jnp.issubdtype(jnp.result_type(mode), jnp.integer):
        raise ValueError(f"mode={mode!r}: expected a whole number")
    config.assignment.check_size(n)
    config.assignment.check_hidden(n, hidden)
    if not isinstance(mode, Tracer) and not np.all(
        (np.asarray(mode) >= 0) & (np.asarray(mode) < config.modes)
    ):
        raise ValueError(f"mode={mode}: this generator holds modes 0 to {config.modes - 1}")
    return _generate(generator, key, _log10_within(config, beta), jnp.asarray(mode), n=n)


def generate(
    generator: Generator,
    key: PRNGKeyArray,
    n: int | np.integer,
    beta: Number,
    *,
    mode: WholeNumber = 0,
    hidden: int | Sequence[int] | None = None,
) -> MLP:
    """A fresh network for n inputs.

    Args:
        generator: a trained (or fresh) generator of one seed.
        key: decides the network; vmap over keys for many.
        n: number of inputs, trained or not; hidden layers have slots * n units.
        beta: price of a nat in units of the squared error (the loss is (MSE + beta KL) / n). One outside the
            trained range is clamped to its end, with a warning; under jit silently, and a negative one
            gives NaN.
        mode: branch of a generator that holds several.
        hidden: only checked: the number of hidden units you expect.
    Returns: MLP with weights (n, H), float32 unless jax_enable_x64 is on. jit- and vmap-able over key, beta,
        mode and seeds.
    Raises: ValueError for an n, hidden size or mode that can't be served, and for a beta that is not
        positive.
    """
    return draw_network_and_price(generator, key, n, beta, mode=mode, hidden=hidden).mlp


def _log10_within(config: GeneratorConfig, beta: Number) -> Float[Array, ""]:
    low, high = config.log10_beta
    if isinstance(beta, Tracer):
        return jnp.clip(jnp.log10(beta), low, high)
    if isinstance(beta, str):
        raise ValueError(f"beta={beta!r}: expected a number")
    values = np.asarray(beta, np.float64)
    if not np.all((values > 0) & np.isfinite(values)):
        raise ValueError(f"beta={beta}: expected a positive, finite price per nat")
    wanted = np.log10(values)
    # float32 betas of the range's ends are not outside it
    if np.any((wanted < low - 1e-4) | (wanted > high + 1e-4)):
        warnings.warn(
            f"beta={beta} is outside the trained range {10.0**low:g} .. {10.0**high:g}; clamped to its end",
            stacklevel=4,
        )
    return jnp.asarray(np.clip(wanted, low, high), jnp.float32)
