"""Training as jitted chunks of steps, seeds side by side.

    loss = (1/n) [ mean over networks and points of (f - y)^2 + beta * mean KL ]      (KL in nats)

A step has one size, drawn from the step's number alone, so that seeds share one branch of a program made
for few padded sizes; beta, noise and points come from each seed's own key. A seed's result does not depend
on its neighbors.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PRNGKeyArray, Shaped

from hypernet.arrays import AnyArray, SeedKeys
from hypernet.generator.generate import Generator
from hypernet.targets import TARGETS
from hypernet.training.step import Info, Run, TrainConfig, init, run_chunk, seed_keys

Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm]  jax types it as a variable


class SeedStatus(enum.StrEnum):
    """How the training of one seed ended."""

    FINISHED = "finished"
    NON_FINITE = "non_finite"  # its last steps were not finite; the generator is from before them


def _statuses(history: Info, last: int = 10) -> np.ndarray:
    """The status of every seed by its last steps."""
    lost = ~np.isfinite(np.asarray(history.loss)[-last:]).any(0)
    return np.where(lost, SeedStatus.NON_FINITE, SeedStatus.FINISHED)


class Trained(NamedTuple):
    """What `train` returns: generators side by side, and every step's report."""

    generators: Generator
    history: Info
    config: TrainConfig

    @property
    def statuses(self) -> tuple[SeedStatus, ...]:
        """How every seed's training ended."""
        return tuple(map(SeedStatus, _statuses(self.history)))

    @property
    def generator(self) -> Generator:
        """The generator, where one seed was trained."""
        if self.config.seeds != 1:
            raise ValueError(f"{self.config.seeds} seeds were trained: take generators.member(seed)")
        return self.generators.member(0)


def spread(run: Run, keys: SeedKeys, devices: Sequence[Device]) -> tuple[Run, SeedKeys]:
    """Lays seeds out over devices; nothing crosses between them in training.

    Raises: ValueError if the devices do not divide the seeds.
    """
    seeds = keys.shape[0]
    if not len(devices):
        raise ValueError("devices: none given")
    if seeds % len(devices):
        raise ValueError(f"{seeds} seeds can't be spread over {len(devices)} devices evenly")
    mesh = jax.sharding.Mesh(np.asarray(devices), ("seed",))

    def place(leaf: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
        by_seed = leaf.ndim > 0 and leaf.shape[0] == seeds
        spec = jax.sharding.PartitionSpec("seed") if by_seed else jax.sharding.PartitionSpec()
        sharding = jax.sharding.NamedSharding(mesh, spec)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            impl = jax.random.key_impl(leaf)
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=impl)
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(place, run), place(keys)


DEFAULTS = TrainConfig()


def train(
    config: TrainConfig = DEFAULTS,
    key: PRNGKeyArray | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 1000,
    devices: Sequence[Device] | None = None,
    on_chunk: Callable[[Run, Info], None] | None = None,
) -> Trained:
    """Trains generators, one per seed, side by side.

    Args:
        key: seed s trains from fold_in(key, s); the same key gives the same generators (default: key 0).
        out: folder for checkpoints; a run that was killed continues with `resume` to the same result.
        checkpoint_every: steps between checkpoints.
        devices: devices to spread the seeds over (default: as many as divide them; of several processes all,
            which must divide them).
        on_chunk: called with the run and the reports of the chunk; the run is donated to the next one, so
            copy what you keep.
    Raises: ValueError for sizes the assignment or the target can't serve, for a target of one's own with a
        name from the library, and for a folder that holds another run, or a finished or unfinished one
        without `resume`. FloatingPointError once the losses of all seeds are not finite; a seed that is
        alone in that stays where it was and is reported (`Trained.statuses`).
    """
    from hypernet.training import checkpoints

    key = jax.random.key(0) if key is None else key
    if TARGETS.get(config.target.name, config.target) is not config.target:
        # checkpoints know a target by its name
        raise ValueError(f"target {config.target.name!r} is the library's name for another one: rename yours")
    folder = None if out is None else Path(out)
    held = folder is not None and checkpoints.check(folder, config, key)
    if held and not resume:
        raise ValueError(f"{folder} already holds this run: resume it, or choose another folder")
    for n in config.sizes:
        config.target.variance_of(n)
    keys = seed_keys(key, config.seeds)
    run = init(config, keys)
    if devices is None:
        devices = jax.devices()
        if jax.process_count() == 1:
            devices = devices[: max(k for k in range(1, len(devices) + 1) if config.seeds % k == 0)]
    run, keys = spread(run, keys, devices)
    infos: list[Info] = []
    if folder is not None and held:
        run, infos = checkpoints.restore(folder, run)
    saved = int(run.step)
    while (at := int(run.step)) < config.steps:
        run, info = run_chunk(run, keys, config=config, steps=min(config.chunk, config.steps - at))
        info = Info(*(_whole(column) for column in info))
        infos.append(info)
        if (_statuses(info) == SeedStatus.NON_FINITE).all():
            raise FloatingPointError(
                f"the losses of all {config.seeds} seeds are not finite after step {at}: lower learning_rate"
            )
        if on_chunk is not None:
            on_chunk(run, info)
        done = int(run.step)
        if folder is not None and (done - saved >= checkpoint_every or done == config.steps):
            checkpoints.save(folder, run, infos, config, key)
            saved = done
    history = Info(*(np.concatenate(parts) for parts in zip(*infos, strict=True)))
    return Trained(run.generators, history, config)


def _whole(column: Shaped[AnyArray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """A column of the history on this host, whoever holds its parts."""
    if isinstance(column, jax.Array) and not column.is_fully_addressable:
        from jax.experimental import multihost_utils

        column = multihost_utils.process_allgather(column, tiled=True)
    return np.asarray(column)


def collapsed(
    history: Info, *, below: float = -4.0, nats_per_input: float = 1.0, last: int = 500
) -> Bool[np.ndarray, " seeds"]:
    """Which seeds send nothing although a nat is cheap: the posterior has collapsed onto the prior.

    A collapsed generator gives convexity at every beta. True where the median KL / n over the last steps with
    log10 beta below `below` is under `nats_per_input`.
    """
    recent = Info(*(np.asarray(column)[-last:] for column in history))
    price = np.where(recent.log10_beta < below, recent.nats / recent.n[:, None], np.nan)
    with np.errstate(all="ignore"):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return np.nanmedian(price, axis=0) < nats_per_input
