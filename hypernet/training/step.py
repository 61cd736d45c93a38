"""One optimizer step of many seeds, and chunks of steps, as pure functions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Real

from hypernet.arrays import AnyArray, Number, SeedKeys
from hypernet.generator.config import GeneratorConfig
from hypernet.generator.generate import Generator, draw, draw_noise, init_generator
from hypernet.networks.mlp import evaluate
from hypernet.targets import L1, Target
from hypernet.validation import as_tuple, positive, whole


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a generator is trained. Hashable: static under jit."""

    generator: GeneratorConfig = dataclasses.field(default_factory=GeneratorConfig)
    """what is trained"""
    target: Target = L1
    """what its networks are to compute: l1, l2, linf, product and others, by name or made of a function"""
    sizes: Sequence[int] = (2, 3, 4, 6, 8, 12, 16)
    """numbers of inputs, drawn uniformly; kept as a tuple"""
    steps: int = 4000
    """optimizer steps; 8,000 for best accuracy"""
    networks: int = 8
    """networks drawn per step"""
    points: int = 128
    """inputs per step, shared by the networks"""
    learning_rate: float = 4e-3
    """Adam's, at its peak"""
    warmup: int = 100
    """steps of linear rise; then a cosine falls to 2 %"""
    clip: float = 1.0
    """largest global norm of a gradient"""
    kl_warmup: int = 0
    """steps over which the price of a network rises from zero; 0: none"""
    seeds: int = 1
    """generators trained side by side"""
    chunk: int = 50
    """steps between looks of the host"""

    def __post_init__(self) -> None:
        for name in ("steps", "networks", "points", "seeds", "chunk"):
            whole(name, getattr(self, name))
        object.__setattr__(self, "sizes", as_tuple("sizes", self.sizes))
        if not self.sizes or len(set(self.sizes)) != len(self.sizes):
            raise ValueError(f"sizes={self.sizes}: expected different numbers of inputs, at least one")
        object.__setattr__(self, "generator", self._fitted())
        if self.target.outputs != self.generator.outputs:
            raise ValueError(
                f"target {self.target.name!r} has outputs={self.target.outputs!r}, the generator "
                f"outputs={self.generator.outputs!r}: they must agree"
            )
        for n in self.sizes:
            self.generator.assignment.check_size(n)
            self.target.check_size(n)
        for name in ("kl_warmup", "warmup"):
            whole(name, getattr(self, name), 0)
        for name in ("learning_rate", "clip"):
            positive(name, getattr(self, name))

    def _fitted(self) -> GeneratorConfig:
        """The generator, with what it leaves open: the target's outputs, a tree for the largest size."""
        made = self.generator
        largest = max(whole("sizes", n) for n in self.sizes)
        made = dataclasses.replace(made, assignment=made.assignment.serving(largest))
        if made.outputs is None and self.target.outputs is not None:
            made = dataclasses.replace(made, outputs=self.target.outputs)
        return made


class Run(NamedTuple):
    """Carried between chunks; seeds lead every array of `generators` and `optimizer`."""

    generators: Generator
    optimizer: optax.OptState
    step: Int[Array, ""]


class Info(NamedTuple):
    """What every step reports; steps lead. Arrays of the device in a chunk, NumPy's in a history."""

    n: Int[AnyArray, "*steps"]
    log10_beta: Float[AnyArray, "*steps seeds"]
    loss: Float[AnyArray, "*steps seeds"]
    mse: Float[AnyArray, "*steps seeds"]
    nats: Float[AnyArray, "*steps seeds"]


def paddings(sizes: Sequence[int]) -> tuple[int, ...]:
    """Padded sizes a program is compiled for: the largest, and halves of it that serve sizes above four."""
    found, rest = [], sorted(sizes)
    while rest:
        top = rest[-1]
        found.append(top)
        rest = [size for size in rest if 4 < size <= top / 2] if top > 8 else []
    return tuple(sorted(found))


def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Adam (b1 0.9, b2 0.98) after clipping, warm-up and cosine."""
    decay = max(config.steps - config.warmup, 1)
    schedule = optax.join_schedules(
        [
            optax.linear_schedule(0.0, config.learning_rate, config.warmup),
            optax.cosine_decay_schedule(config.learning_rate, decay, alpha=0.02),
        ],
        [config.warmup],
    )
    adam = optax.adam(schedule, b1=0.9, b2=0.98)
    # one vector instead of dozens of small arrays: fewer kernels, and less to compile
    return optax.flatten(optax.chain(optax.clip_by_global_norm(config.clip), adam))


def seed_keys(key: PRNGKeyArray, seeds: int) -> SeedKeys:
    """The key of every seed; seed s is fold_in(key, s), whatever the number of seeds."""
    return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(seeds))


def init(config: TrainConfig, keys: SeedKeys) -> Run:
    """Fresh generators, one per key."""
    generators = jax.vmap(lambda key: init_generator(jax.random.fold_in(key, 0), config.generator))(keys)
    return Run(generators, jax.vmap(optimizer(config).init)(generators), jnp.zeros((), jnp.int32))


def _batch(
    config: TrainConfig, keys: SeedKeys, size: Int[Array, ""], sizes: tuple[int, ...], columns: int
) -> tuple[Float[Array, "seeds points columns"], Float[Array, "seeds points *outputs"]]:
    """Points and values for every seed at one of the sizes, padded with zeros."""

    def at(
        n: int,
    ) -> Callable[
        [SeedKeys], tuple[Float[Array, "seeds points columns"], Float[Array, "seeds points *outputs"]]
    ]:
        def make(
            keys: SeedKeys,
        ) -> tuple[Float[Array, "seeds points columns"], Float[Array, "seeds points *outputs"]]:
            x = jax.vmap(lambda key: config.target.sample(key, config.points, n))(keys)
            y = config.target.value(x)
            if config.generator.outputs == "inputs":
                y = jnp.pad(y, ((0, 0), (0, 0), (0, columns - n)))
            return jnp.pad(x, ((0, 0), (0, 0), (0, columns - n))), y

        return make

    return jax.lax.switch(jnp.searchsorted(jnp.asarray(sizes), size), [at(n) for n in sizes], keys)


def network_loss(
    generator: Generator,
    config: TrainConfig,
    key: PRNGKeyArray,
    x: Float[Array, "points columns"],
    y: Float[Array, " points *outputs"],
    n: Real[Array, ""],
    log10_beta: Float[Array, ""],
    price: Number = 1.0,
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Float[Array, ""]]]:
    """Loss of networks drawn from a generator, with (mean squared error, mean KL in nats)."""
    mode_key, noise_key = jax.random.split(key)
    # networks take modes in turn from a drawn one on, so that a step serves as many as it can
    modes = jax.random.randint(mode_key, (), 0, config.generator.modes) + jnp.arange(config.networks)
    noise = jax.vmap(lambda k: draw_noise(config.generator, k, x.shape[1]))(
        jax.random.split(noise_key, config.networks)
    )
    drawn = jax.vmap(lambda z, m: draw(generator, z, n, log10_beta, m))(noise, modes % config.generator.modes)
    error = evaluate(drawn.mlp, x) - y[None]
    if config.generator.outputs == "inputs":
        error = jnp.where((jnp.arange(x.shape[1]) < n)[None, None], error, 0)
    mse = jnp.sum(error**2) / (config.networks * config.points)
    nats = jnp.mean(drawn.nats)
    return (mse + price * 10.0**log10_beta * nats) / n, (mse, nats)


_LossAndGradient: TypeAlias = tuple[
    tuple[Float[Array, " seeds"], tuple[Float[Array, " seeds"], Float[Array, " seeds"]]], Generator
]
"""(loss, (mean squared error, nats)) of every seed, and the gradient"""


def step(config: TrainConfig, run: Run, keys: SeedKeys) -> tuple[Run, Info]:
    """One optimizer step of every seed; one whose loss or gradient is not finite stays where it is."""
    sizes = tuple(sorted(config.sizes))
    n = jnp.asarray(sizes)[
        jax.random.randint(jax.random.fold_in(jax.random.key(0), run.step), (), 0, len(sizes))
    ]
    keys = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, 1), run.step))(keys)
    beta_keys, batch_keys, noise_keys = jnp.moveaxis(jax.vmap(lambda k: jax.random.split(k, 3))(keys), 1, 0)
    low, high = config.generator.log10_beta
    log10_beta = jax.vmap(lambda k: jax.random.uniform(k, minval=low, maxval=high))(beta_keys)
    price = 1.0 if not config.kl_warmup else jnp.minimum(1.0, run.step / config.kl_warmup)

    def padded(columns: int, served: tuple[int, ...]) -> Callable[[Generator], _LossAndGradient]:
        def compute(generators: Generator) -> _LossAndGradient:
            x, y = _batch(config, batch_keys, n, served, columns)
            loss = jax.value_and_grad(
                lambda g, k, x, y, lb: network_loss(g, config, k, x, y, n.astype(jnp.float32), lb, price),
                has_aux=True,
            )
            return jax.vmap(loss)(generators, noise_keys, x, y, log10_beta)

        return compute

    tops = paddings(sizes)
    served = [tuple(s for s in sizes if low < s <= top) for low, top in zip((0, *tops), tops, strict=False)]
    which = jnp.searchsorted(jnp.asarray(tops), n)
    branches = [padded(top, group) for top, group in zip(tops, served, strict=True)]
    (loss, (mse, nats)), grads = jax.lax.switch(which, branches, run.generators)
    update = jax.vmap(optimizer(config).update)
    updates, state = update(grads, run.optimizer, run.generators)  # pyright: ignore[reportArgumentType]  optax's Params know no eqx.Module
    moved: Generator = optax.apply_updates(run.generators, updates)  # pyright: ignore[reportArgumentType, reportAssignmentType]  likewise: optax's Params know no eqx.Module
    finite = _finite(loss, grads)
    generators, state = jax.tree.map(
        lambda new, old: jnp.where(finite.reshape(-1, *(1,) * (new.ndim - 1)), new, old),
        (moved, state),
        (run.generators, run.optimizer),
    )
    return Run(generators, state, run.step + 1), Info(n, log10_beta, loss, mse, nats)


def _finite(loss: Float[Array, " seeds"], grads: Generator) -> Bool[Array, " seeds"]:
    """Which seeds' loss and gradient are finite, and the gradient's squares, which Adam averages."""
    return jnp.isfinite(loss) & jnp.isfinite(jax.vmap(optax.tree.norm)(grads))


@functools.partial(jax.jit, static_argnames=("config", "steps"), donate_argnames="run")
def run_chunk(run: Run, keys: SeedKeys, *, config: TrainConfig, steps: int) -> tuple[Run, Info]:
    """Advances all seeds on the device; the host does nothing inside."""
    return jax.lax.scan(lambda run, _: step(config, run, keys), run, length=steps)
