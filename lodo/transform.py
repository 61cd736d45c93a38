"""LODO as an optax gradient transformation (Liao et al., TMLR 2023, section "Method")."""

import dataclasses
import functools
import math
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, DTypeLike, Float, Int, PRNGKeyArray, PyTree

from lodo import block_network, trees
from lodo.meta_optimizer import HoldingTransformation, reference_adam
from lodo.preconditioners import Architecture, BlockNetwork, Theta, Trace, Wiring, check_size
from lodo.sharding import Sharding

WARN_STATE_BYTES = 4_000_000_000
MAX_STATE_BYTES = 200_000_000_000
_SURELY_SMALL = 1_000_000  # parameters


class StateTooLargeError(ValueError):
    """The state would be larger than any device holds; `state_bytes` says how large."""

    def __init__(self, message: str, state_bytes: int) -> None:
        super().__init__(message)
        self.state_bytes = state_bytes


class LodoState(NamedTuple):
    """Carried between updates; arrays and trees of arrays only."""

    count: Int[Array, ""]  # updates made
    rate: Float[Array, ""]  # learning rate of the last update, which the hypergradient needs
    momentum: optax.Updates  # average of gradients, shaped as the parameters; not bias-corrected
    theta: Theta  # weights of the preconditioner
    wiring: Wiring  # its fixed permutations
    trace: Trace  # intermediates of preconditioning `momentum` with `theta`
    meta: optax.OptState  # of theta's own optimizer


def checked_state(state: object) -> LodoState:
    """The state. Raises TypeError for those of other optimizers, chains of optimizers among them."""
    if not isinstance(state, LodoState):
        raise TypeError(
            f"expected a LodoState, got {type(state).__name__}: state of another optimizer, or of a chain "
            "or wrapper, whose part that is a LodoState is meant"
        )
    return state


def _select(condition: Bool[Array, ""], new: PyTree, old: PyTree) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _advice(count: int, state_bytes: int) -> str:
    return (
        f"lodo keeps {state_bytes / 1e9:.1f} GB of state for {count:,} parameters; use it for the leaves "
        'where it pays, optax.partition({"lodo": lodo(...), "adam": optax.adam(...)}, labels), or fewer '
        "num_layers"
    )


def _check_seed(seed: Any) -> None:
    if isinstance(seed, jax.Array) and not _is_key(seed):
        raise TypeError(
            "seed is fixed when the optimizer is made and must be a Python int, got a "
            f"{type(seed).__name__}; under "
            'optax.inject_hyperparams name it in static_args=("seed",)'
        )
    if not _is_key(seed):
        check_size("seed", seed, -(2**63))


def _check_range(name: str, value: Any, least: float, beyond: float) -> None:
    """Raises ValueError for Python numbers outside [least, beyond); arrays may be traced."""
    if isinstance(value, int | float) and not least <= value < beyond:
        raise ValueError(f"{name}={value}: expected at least {least} and below {beyond}")


def _is_key(seed: Any) -> bool:
    return isinstance(seed, jax.Array) and (
        jnp.issubdtype(seed.dtype, jax.dtypes.prng_key) or (seed.dtype == jnp.uint32 and seed.shape == (2,))
    )


@dataclasses.dataclass(frozen=True)
class _Settings:
    """Arguments of `lodo` and `scale_by_lodo`, checked."""

    learning_rate: optax.ScalarOrSchedule
    meta_learning_rate: optax.ScalarOrSchedule
    decay: float | Float[Array, ""]
    seed: int | PRNGKeyArray
    architecture: Architecture
    meta_optimizer: optax.GradientTransformation | None
    frozen: bool
    normalize_hypergradient: bool
    clip_hypergradient: float | None
    skip_nonfinite: bool
    sharding: Sharding | None

    def __post_init__(self) -> None:
        _check_seed(self.seed)
        _check_range("decay", self.decay, 0, 1)
        _check_range("clip_hypergradient", self.clip_hypergradient, 0, math.inf)
        if not isinstance(self.architecture, Architecture):
            raise TypeError(
                f"architecture={self.architecture!r}: expected BlockNetwork(...) or another object with "
                "init, apply and gradient"
            )
        try:
            hash(self.architecture)
        except TypeError:
            raise TypeError(
                f"architecture={self.architecture!r}: expected a hashable object, such as a frozen dataclass"
            ) from None

    @functools.cached_property
    def network(self) -> Architecture:
        """The architecture; a block network's blocks are rounded up to what splits evenly."""
        if self.sharding is None or not isinstance(self.architecture, BlockNetwork):
            return self.architecture
        multiple = math.lcm(self.architecture.block_multiple, self.sharding.parts)
        return dataclasses.replace(self.architecture, block_multiple=multiple)

    @functools.cached_property
    def meta(self) -> optax.GradientTransformationExtraArgs:
        """The optimizer of theta."""
        given = self.meta_optimizer
        return optax.with_extra_args_support(
            reference_adam(self.meta_learning_rate) if given is None else given
        )

    def place(self, tree: Any, theta: Theta) -> Any:
        """Splits what is like theta over the devices."""
        if self.sharding is None or self.sharding.mesh is None:
            return tree
        leaves = jax.tree.leaves(theta)
        width = leaves[0].shape[-1] if leaves and leaves[0].ndim > 1 else -1
        return self.sharding.split(tree, width)

    def product(
        self, theta: Theta, wiring: Wiring, v: Float[Array, " n"]
    ) -> tuple[Float[Array, " n"], Trace]:
        """G v and its trace, made where theta is."""
        sharding = self.sharding
        if sharding is None or sharding.mesh is None or not isinstance(self.network, BlockNetwork):
            return self.network.apply(theta, wiring, v)
        return block_network.apply(
            theta, wiring, v, split=lambda z: sharding.split(z, z.shape[-1]), whole=sharding.whole
        )

    def like_params(self, tree: optax.Updates) -> optax.Updates:
        """Lays updates and momentum out as the parameters are."""
        if self.sharding is None or self.sharding.params is None:
            return tree
        return jax.lax.with_sharding_constraint(tree, self.sharding.params)


def _first_network(
    architecture: Architecture, n: int, key: PRNGKeyArray, dtype: DTypeLike
) -> tuple[Theta, Wiring, Trace]:
    """Initial weights, permutations, and the trace of a product that was not made yet: zero."""
    theta, wiring = architecture.init(n, key, dtype)
    shapes = jax.eval_shape(lambda t, w: architecture.apply(t, w, jnp.zeros(n, dtype))[1], theta, wiring)
    return theta, wiring, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)


@functools.lru_cache(maxsize=64)
def _expected_network(architecture: Architecture, n: int, dtype: DTypeLike) -> tuple[PyTree, PyTree, PyTree]:
    """Shapes of `_first_network`, which depend on no key. Remembered: un-jitted updates ask every time."""
    shapes = jax.eval_shape(lambda: _first_network(architecture, n, jax.random.key(0), dtype))
    # Without the mesh that happens to be set now.
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), shapes)


def _check_configuration(settings: _Settings, state: LodoState) -> None:
    """Raises ValueError for a state of another architecture, size or meta-optimizer."""
    n, dtype = trees.size(state.momentum), jnp.dtype(state.rate.dtype)
    theta, wiring, trace = _expected_network(settings.network, n, dtype)
    meta = jax.eval_shape(settings.meta.init, theta)
    for name, expected in (("theta", theta), ("wiring", wiring), ("trace", trace), ("meta", meta)):
        trees.check_like(name, getattr(state, name), expected)


def _new_state(settings: _Settings, params: optax.Params) -> LodoState:
    seed, dtype = settings.seed, trees.compute_dtype(params)
    key = jax.random.key(seed) if isinstance(seed, int) else seed
    theta, wiring, trace = _first_network(settings.network, trees.size(params), key, dtype)
    theta = settings.place(theta, theta)
    return LodoState(
        count=jnp.zeros((), jnp.int32),
        rate=jnp.zeros((), dtype),
        momentum=jax.tree.map(lambda p: jnp.zeros_like(p, dtype=dtype), params),
        theta=theta,
        wiring=wiring,
        trace=settings.place(trace, theta),
        meta=settings.place(settings.meta.init(theta), theta),
    )


def _hypergradient(
    settings: _Settings, state: LodoState, g: Float[Array, " n"], trace: Trace, scale: Float[Array, ""]
) -> Theta:
    """d/dtheta of g . (-rate G(theta) m), limited to what the meta-optimizer's squares can hold."""
    gradient = settings.network.gradient(state.theta, state.wiring, trace, state.trace)
    gradient = jax.tree.map(lambda d: scale * d, gradient)
    if settings.skip_nonfinite:
        # Products of finite numbers can overflow, and their squares have to be finite too.
        limit = jnp.sqrt(jnp.finfo(g.dtype).max) / 16
        gradient = jax.tree.map(lambda d: jnp.clip(jnp.where(jnp.isnan(d), 0, d), -limit, limit), gradient)
    if settings.clip_hypergradient is not None:
        norm = optax.tree.norm(gradient)
        limit = jnp.asarray(settings.clip_hypergradient, norm.dtype)
        factor = jnp.minimum(1, limit / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
        gradient = jax.tree.map(lambda d: factor * d, gradient)
    return gradient


def _learn(
    settings: _Settings, state: LodoState, g: Float[Array, " n"], rate: Float[Array, ""]
) -> tuple[Theta, optax.OptState, Bool[Array, ""]]:
    """One step of theta's optimizer down the loss, through the last update alone.

    Also whether g and the new learning rate were finite, and g went through the network
    without overflow.
    """
    product, trace = settings.product(state.theta, state.wiring, g)
    # Of the end of the chain: theta is then overwritten after its last reader, in place.
    ok = jnp.all(jnp.isfinite(product)) & jnp.all(jnp.isfinite(g)) & jnp.isfinite(rate)
    if settings.skip_nonfinite:
        trace = _select(ok, trace, state.trace)
    scale = -state.rate
    if settings.normalize_hypergradient:
        square = jnp.vdot(g, g)
        present = square > jnp.finfo(g.dtype).tiny
        scale = jnp.where(present, scale / jnp.where(present, square, 1), 0)
    if settings.skip_nonfinite:
        scale = jnp.where(ok, scale, 0)
    gradient = _hypergradient(settings, state, g, trace, scale)
    holds = isinstance(settings.meta, HoldingTransformation)
    hold = {"hold": ~ok} if settings.skip_nonfinite and holds else {}
    change, meta = settings.meta.update(gradient, state.meta, state.theta, **hold)
    theta = jax.tree.map(lambda t, c: (t + c).astype(t.dtype), state.theta, change)
    if settings.skip_nonfinite and not holds:
        theta, meta = _select(ok, (theta, meta), (state.theta, state.meta))
    return settings.place(theta, theta), settings.place(meta, theta), ok


def _step(
    settings: _Settings, updates: optax.Updates, state: LodoState
) -> tuple[Float[Array, " n"], LodoState]:
    """The preconditioned momentum, as a vector, and the state after it."""
    dtype, decay = state.rate.dtype, settings.decay
    g = trees.ravel(updates, dtype)
    rate = settings.learning_rate
    rate = jnp.asarray(rate(state.count) if callable(rate) else rate, dtype)
    if settings.frozen:
        theta, meta = state.theta, state.meta
        ok = jnp.all(jnp.isfinite(g)) & jnp.isfinite(rate)
    else:
        theta, meta, ok = _learn(settings, state, g, rate)
    momentum = jax.tree.map(
        lambda m, u: (decay * m + (1 - decay) * u.astype(dtype)).astype(dtype), state.momentum, updates
    )
    momentum = settings.like_params(momentum)
    if settings.skip_nonfinite:
        # The last update stays the one to learn from: with momentum and theta as they were,
        # the trace below comes out as it was.
        momentum, rate = _select(ok, (momentum, rate), (state.momentum, state.rate))
    direction, trace = settings.product(theta, state.wiring, trees.ravel(momentum, dtype))
    if settings.skip_nonfinite:
        direction = jnp.where(ok & jnp.all(jnp.isfinite(direction)), direction, 0)
    count = jnp.asarray(optax.safe_increment(state.count))
    trace = settings.place(trace, theta)
    return direction, LodoState(count, rate, momentum, theta, state.wiring, trace, meta)


def _check_memory(settings: _Settings, params: optax.Params) -> None:
    """Raises StateTooLargeError, or warns, before much is allocated."""
    n = trees.size(params)
    if n <= _SURELY_SMALL:
        return
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    needed = trees.num_bytes(jax.eval_shape(lambda p: _new_state(settings, p), shapes))
    if needed > MAX_STATE_BYTES:
        raise StateTooLargeError(_advice(n, needed), needed)
    if needed > WARN_STATE_BYTES:
        warnings.warn(_advice(n, needed), ResourceWarning, stacklevel=3)


def _transformation(settings: _Settings, *, descend: bool) -> optax.GradientTransformationExtraArgs:
    def init(params: optax.Params) -> LodoState:
        trees.check_params(params)
        _check_memory(settings, params)
        return _new_state(settings, params)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, LodoState]:
        del params, extra
        state = checked_state(state)
        trees.check_updates(updates, state.momentum)
        _check_configuration(settings, state)
        direction, state = _step(settings, updates, state)
        vector = -state.rate * direction if descend else direction
        return settings.like_params(trees.unravel(vector, updates)), state

    return optax.GradientTransformationExtraArgs(init, update)


def scale_by_lodo(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    meta_learning_rate: optax.ScalarOrSchedule = 1e-3,
    decay: float | Float[Array, ""] = 0.9,
    *,
    seed: int | PRNGKeyArray = 0,
    architecture: Architecture = BlockNetwork(),  # noqa: B008, frozen
    meta_optimizer: optax.GradientTransformation | None = None,
    frozen: bool = False,
    normalize_hypergradient: bool = False,
    clip_hypergradient: float | None = None,
    skip_nonfinite: bool = True,
    sharding: Sharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Preconditions averaged gradients with a matrix that is learned on the way.

    Emits G(theta) m in the direction of ascent; `lodo` is this with the learning rate
    applied. `learning_rate` must be the factor that will be applied: theta goes down the loss
    as a function of theta through the step as taken, -learning_rate G(theta) m. Arguments,
    errors and source: see `lodo`.
    """
    settings = _Settings(
        learning_rate,
        meta_learning_rate,
        decay,
        seed,
        architecture,
        meta_optimizer,
        frozen,
        normalize_hypergradient,
        clip_hypergradient,
        skip_nonfinite,
        sharding,
    )
    return _transformation(settings, descend=False)


def lodo(
    learning_rate: optax.ScalarOrSchedule,
    meta_learning_rate: optax.ScalarOrSchedule = 1e-3,
    decay: float | Float[Array, ""] = 0.9,
    *,
    seed: int | PRNGKeyArray = 0,
    architecture: Architecture = BlockNetwork(),  # noqa: B008, frozen
    meta_optimizer: optax.GradientTransformation | None = None,
    frozen: bool = False,
    normalize_hypergradient: bool = False,
    clip_hypergradient: float | None = None,
    skip_nonfinite: bool = True,
    sharding: Sharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    """LODO: a quasi-Newton optimizer that learns its preconditioner while it optimizes.

    Call t, with gradient g at the current parameters:

        d      = d/dtheta of g . (-rate_{t-1} G(theta) m)    theta, m, rate of the last update
        theta  = theta + meta-Adam step for d
        m      = decay m + (1 - decay) g                     no bias correction
        update = -rate_t G(theta) m

    G(theta) is symmetric, positive semidefinite and the identity at the start. In call 1,
    d = 0 and the meta-optimizer's counter advances all the same. What comes after `lodo` in
    a chain is not seen by d: put clipping and weight decay before it.

    State: 2.05 kB per parameter in single precision with the defaults (`state_bytes`).
    Momentum, theta and arithmetic are float32, float64 if any parameter is; updates have the
    gradients' dtypes.

    Args:
      learning_rate: alpha_0, the step before anything is learned; a number or a schedule of
        the number of updates made.
      meta_learning_rate: of the preconditioner's weights; number or schedule. 0 learns nothing.
      decay: of the average of gradients, in [0, 1).
      seed: an int or a PRNG key; decides initial weights and permutations.
      architecture: the preconditioner: `BlockNetwork(num_layers, block_size, permutation)` as
        published by default, `Diagonal`, `Global`, `Residual` or your own.
      meta_optimizer: any optax transformation in place of `reference_adam(meta_learning_rate)`,
        `reference_adam` with another epsilon among them; the rate is then its own.
      frozen: keep theta as it is; with the state of a learning run, uses what was learned.
      normalize_hypergradient: divide d by |g|^2 (online scaled gradient methods).
      clip_hypergradient: largest norm of d.
      skip_nonfinite: on NaN or infinite gradients, or a learning rate that is, emit zeros and
        keep theta and m (the counter, which schedules read, goes on).
      sharding: how state is split over devices, see `Sharding`; by default it is not.

    Raises:
      TypeError: complex or integer parameters, with their path; an architecture that is none; a state
        that is not LODO's.
      ValueError: decay outside [0, 1); gradients that are missing or do not match the
        parameters' shapes or tree, with their path; state of another configuration; more than
        200 GB of state (`StateTooLargeError`).

    Source: Liao, Dangovski, Foerster, Soljacic, "Learning to Optimize Quasi-Newton Methods",
    TMLR 2023, arXiv 2210.06171.
    """
    settings = _Settings(
        learning_rate,
        meta_learning_rate,
        decay,
        seed,
        architecture,
        meta_optimizer,
        frozen,
        normalize_hypergradient,
        clip_hypergradient,
        skip_nonfinite,
        sharding,
    )
    return _transformation(settings, descend=True)
