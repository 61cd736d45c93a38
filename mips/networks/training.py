"""Training as jitted chunks of steps, many seeds at once; the host looks in between chunks only.

Everything a step needs is on the device: data, batches (contiguous slices at a place drawn from the
step's own key), learning rate, length curriculum, and the snapshot of each seed's weights at its
first perfect evaluation. Seeds are the leading axis of every array and may be spread over devices.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Shaped

from mips.networks.relu import UNRECORDED
from mips.tasks.task import MISSING

Network = TypeVar("Network", bound=eqx.Module)
Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm]  jaxlib ships this class without types


@runtime_checkable
class Family(Protocol[Network]):
    """What training needs of a kind of network; frozen, so static under jit."""

    @property
    def missing(self) -> int | None:
        """What stands for an output that nobody recorded; None if all are there."""
        ...

    def init(self, key: PRNGKeyArray) -> Network:
        """Fresh weights."""
        ...

    def loss_of(
        self,
        network: Network,
        x: Int[Array, "length batch *inputs"],
        y: Int[Array, "length batch *outputs"],
        weight: Float[Array, " length"],
    ) -> Float[Array, ""]:
        """Mean loss with weights over steps."""
        ...

    def predict(
        self, network: Network, x: Int[Array, "length batch *inputs"]
    ) -> Int[Array, "length batch *outputs"]:
        """Integer outputs."""
        ...


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a network is fitted. Defaults are the paper's."""

    steps: int = 10_000
    """optimizer steps"""
    batch: int = 4096
    """sequences per step"""
    learning_rate: float = 1e-3
    """Adam's"""
    schedule: Literal["constant", "cosine"] = "constant"
    """constant, or falling to zero over `steps` as a half cosine"""
    clip: float | None = None
    """largest global norm of a gradient"""
    curriculum: float | None = None
    """grow the scored prefix by a step whenever the running mean loss is below this; None: all steps"""
    seeds: int = 5
    """networks trained side by side"""
    chunk: int = 100
    """steps between evaluations"""
    keep: Literal["first", "last"] = "last"
    """which perfect evaluation's weights are kept"""

    def __post_init__(self) -> None:
        for field in ("steps", "batch", "seeds", "chunk"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)}: must be at least 1")
        if not 0 < self.learning_rate < np.inf:
            raise ValueError(f"learning_rate={self.learning_rate}: must be positive and finite")


class Data(NamedTuple):
    """Sequences on the device, time first."""

    x: Int[Array, "length count *inputs"]
    y: Int[Array, "length count *outputs"]
    test_x: Int[Array, "length tests *inputs"]
    test_y: Int[Array, "length tests *outputs"]


class Run(eqx.Module, Generic[Network]):
    """State of training; the leading axis of every array but `step` and `key` is the seed."""

    network: Network
    optimizer: optax.OptState
    prefix: Float[Array, " seed"]  # steps of a sequence that are scored now
    average: Float[Array, " seed"]  # running mean of the loss
    perfect: Network  # weights at the kept perfect evaluation
    perfect_step: Int[Array, " seed"]  # when that was; -1: never yet
    trainable: Network  # 1 or 0 for each weight: those at 0 stay as they are
    step: Int[Array, ""]
    key: PRNGKeyArray


class Evaluation(NamedTuple):
    """What the host sees after a chunk."""

    step: int
    loss: Float[np.ndarray, " seed"]  # mean over the chunk
    elements: Float[np.ndarray, " seed"]  # share of single outputs that are right
    sequences: Float[np.ndarray, " seed"]  # share of sequences right at every step
    prefix: Float[np.ndarray, " seed"]  # steps scored


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    rate: float | optax.Schedule = config.learning_rate
    if config.schedule == "cosine":
        rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    clip = optax.identity() if config.clip is None else optax.clip_by_global_norm(config.clip)
    return optax.chain(clip, optax.adam(rate))


def init_run(
    family: Family[Network],
    config: TrainConfig,
    *,
    length: int,
    key: PRNGKeyArray,
    start: Network | None = None,
    trainable: Network | None = None,
) -> Run[Network]:
    """Fresh networks, one per seed; seed i depends on `key` and i alone. Or copies of `start`.

    `trainable`: like one network, 1 or 0 for each weight; None trains all.
    """
    init_key, batch_key = jax.random.split(key)
    keys = jax.vmap(lambda i: jax.random.fold_in(init_key, i))(jnp.arange(config.seeds))
    # Strong types throughout, as a step returns them: a weak one would compile the chunk twice.
    network = jax.vmap(family.init)(keys)
    if start is not None:
        network = jax.tree.map(
            lambda new, old: jnp.broadcast_to(jnp.asarray(old, new.dtype), new.shape), network, start
        )
    if trainable is None:
        trainable = jax.tree.map(lambda a: jnp.ones(a.shape[1:], a.dtype), network)
    trainable = jax.tree.map(
        lambda a, t: jnp.broadcast_to(jnp.asarray(t, a.dtype), a.shape), network, trainable
    )
    prefix = min(2.0, length) if config.curriculum is not None else float(length)
    return Run(
        network,
        jax.vmap(_optimizer(config).init)(network),  # pyright: ignore[reportArgumentType]  optax types trees without modules
        jnp.full(config.seeds, prefix, jnp.float32),
        jnp.full(config.seeds, jnp.inf if config.curriculum is None else 1.0, jnp.float32),
        jax.tree.map(jnp.copy, network),
        jnp.full(config.seeds, -1, jnp.int32),
        trainable,
        jnp.zeros((), jnp.int32),
        batch_key,
    )


@functools.partial(jax.jit, static_argnames=("family", "config"), donate_argnames="run")
def run_chunk(
    run: Run[Network], data: Data, *, family: Family[Network], config: TrainConfig
) -> tuple[Run[Network], tuple[Float[Array, " seed"], Float[Array, " seed"], Float[Array, " seed"]]]:
    """Advances all seeds by `config.chunk` steps, then evaluates them on the test sequences.

    Returns the run and, per seed, the chunk's mean loss and the shares of right elements and sequences.
    """
    optimizer = _optimizer(config)
    length, count = data.x.shape[:2]
    batch = min(config.batch, count)

    # All at once: within a step an accelerator would take a hundred instructions to draw one number.
    keys = jax.vmap(lambda i: jax.random.fold_in(run.key, run.step + i))(jnp.arange(config.chunk))
    places = jax.vmap(lambda key: jax.random.randint(key, (), 0, count - batch + 1))(keys)

    def step(run: Run[Network], place: Int[Array, ""]) -> tuple[Run[Network], Float[Array, " seed"]]:
        x = jax.lax.dynamic_slice_in_dim(data.x, place, batch, axis=1)
        y = jax.lax.dynamic_slice_in_dim(data.y, place, batch, axis=1)

        def advance(
            network: Network,
            state: optax.OptState,
            prefix: Float[Array, ""],
            average: Float[Array, ""],
            trainable: Network,
        ) -> tuple[Network, optax.OptState, Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
            weight = jnp.where(jnp.arange(length) < prefix, 1.0, 0.0)
            loss, grads = jax.value_and_grad(family.loss_of)(network, x, y, weight)
            updates, state = optimizer.update(grads, state, network)  # pyright: ignore[reportArgumentType]  optax types trees without modules
            updates = jax.tree.map(jnp.multiply, updates, trainable)
            if config.curriculum is not None:
                average = 0.95 * average + 0.05 * loss
                grow = (average < config.curriculum) & (prefix < length)
                prefix = prefix + grow
                average = jnp.where(grow, average + config.curriculum, average)
            network = optax.apply_updates(network, updates)  # pyright: ignore[reportArgumentType, reportAssignmentType]  optax types trees without modules
            return network, state, prefix, average, loss

        network, state, prefix, average, loss = jax.vmap(advance)(
            run.network, run.optimizer, run.prefix, run.average, run.trainable
        )
        new = dataclasses.replace(
            run, network=network, optimizer=state, prefix=prefix, average=average, step=run.step + 1
        )
        return new, loss

    run, losses = jax.lax.scan(step, run, places)

    def evaluate(network: Network) -> tuple[Float[Array, ""], Float[Array, ""]]:
        hit = family.predict(network, data.test_x) == data.test_y
        if family.missing is None:
            right = hit.reshape(*hit.shape[:2], -1).all(axis=2)
            return hit.mean(), right.all(axis=0).mean()
        known = data.test_y != family.missing
        right = (hit | ~known).reshape(*hit.shape[:2], -1).all(axis=2)
        return (hit & known).sum() / jnp.maximum(known.sum(), 1), right.all(axis=0).mean()

    elements, sequences = jax.vmap(evaluate)(run.network)
    found = sequences == 1.0
    if config.keep == "first":
        found &= run.perfect_step < 0
    run = dataclasses.replace(
        run,
        perfect=jax.tree.map(lambda new, old: _select(found, new, old), run.network, run.perfect),
        perfect_step=jnp.where(found, run.step, run.perfect_step),
    )
    return run, (losses.mean(axis=0), elements, sequences)


def _select(
    which: Bool[Array, " seed"], new: Shaped[Array, " seed *weights"], old: Shaped[Array, " seed *weights"]
) -> Shaped[Array, " seed *weights"]:
    return jnp.where(which.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def train(
    family: Family[Network],
    data: Data,
    config: TrainConfig,
    *,
    key: PRNGKeyArray,
    devices: Sequence[Device] | None = None,
    start: Network | None = None,
    trainable: Network | None = None,
) -> Iterator[tuple[Run[Network], Evaluation]]:
    """Trains chunk by chunk: a generator, which the caller stops iterating when it is enough.

    The run yielded is donated to the next chunk: take what you keep with `network_of` before asking on.
    `devices`: spread the seeds over these (their number must divide `config.seeds`). `start`, `trainable`:
    see `init_run`.
    """
    run = init_run(family, config, length=data.x.shape[0], key=key, start=start, trainable=trainable)
    if devices is not None and len(devices) > 1:
        if config.seeds % len(devices):
            raise ValueError(f"{config.seeds} seeds cannot be spread evenly over {len(devices)} devices")
        run, data = _spread(run, data, devices)
    for _ in range(-(-config.steps // config.chunk)):
        run, (loss, elements, sequences) = run_chunk(run, data, family=family, config=config)
        yield (
            run,
            Evaluation(
                int(_fetch(run.step)), _fetch(loss), _fetch(elements), _fetch(sequences), _fetch(run.prefix)
            ),
        )


def _spread(run: Run[Network], data: Data, devices: Sequence[Device]) -> tuple[Run[Network], Data]:
    """Seeds over the devices, everything else on each; every process has made the same arrays itself."""
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(devices), ("seed",))
    seeded, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("seed",), ()))

    def put(array: Shaped[Array, "*shape"], sharding: NamedSharding) -> Shaped[Array, "*shape"]:
        values = np.asarray(array)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    key = jax.random.wrap_key_data(
        put(jax.random.key_data(run.key), whole), impl=jax.random.key_impl(run.key)
    )
    common = {"step": put(run.step, whole), "key": key}
    names = (field.name for field in dataclasses.fields(run))
    parts = {name: getattr(run, name) for name in names if name not in common}
    spread = jax.tree.map(lambda a: put(a, seeded), parts)
    return Run(**spread, **common), jax.tree.map(lambda a: put(a, whole), data)


def _fetch(array: Shaped[Array, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """All of an array on this host, also where other processes hold parts of it."""
    if array.is_fully_addressable:
        return np.asarray(array)
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(array, tiled=True))


def network_of(run: Run[Network], seed: int, *, perfect: bool = False) -> Network:
    """A copy of one seed's weights; those of its kept perfect evaluation if asked.

    With several processes all must ask for it.
    """
    return jax.tree.map(lambda a: jnp.array(_fetch(a)[seed]), run.perfect if perfect else run.network)


def place(
    x: Int[np.ndarray, "count length *inputs"], y: Int[np.ndarray, "count length *outputs"], tests: int
) -> Data:
    """Puts sequences (count, length, ...) on the device, time first; the first `tests` are for evaluation."""
    y = np.where(y == MISSING, UNRECORDED, y)
    xs, ys = (jnp.asarray(np.ascontiguousarray(np.swapaxes(a, 0, 1)), jnp.int32) for a in (x, y))
    return Data(xs[:, tests:], ys[:, tests:], xs[:, :tests], ys[:, :tests])


def count_parameters(network: PyTree) -> int:
    """Number of weights."""
    return sum(a.size for a in jax.tree.leaves(eqx.filter(network, eqx.is_array)))
