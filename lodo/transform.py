"""LODO as an optax gradient transformation (Liao et al., TMLR 2023, section "Method")."""

import contextlib
import contextvars
import math
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lodo import trees
from lodo.meta_optimizer import reference_adam
from lodo.preconditioners import Architecture, BlockNetwork, check_size

WARN_STATE_BYTES = 4_000_000_000
MAX_STATE_BYTES = 200_000_000_000
_SURELY_SMALL = 1_000_000  # parameters
_measuring = contextvars.ContextVar("measuring", default=False)


@contextlib.contextmanager
def without_size_limit():
    """For asking what a state would take."""
    token = _measuring.set(True)
    try:
        yield
    finally:
        _measuring.reset(token)


class LodoState(NamedTuple):
    """Carried between updates; arrays and trees of arrays only."""

    count: Int[Array, ""]  # updates made
    rate: Float[Array, ""]  # learning rate of the last update, which the hypergradient needs
    momentum: optax.Updates  # average of gradients, shaped as the parameters; not bias-corrected
    theta: Any  # weights of the preconditioner
    wiring: Any  # its fixed permutations
    trace: Any  # intermediates of preconditioning `momentum` with `theta`
    meta: optax.OptState  # of theta's own optimizer


def check_state(state: Any) -> None:
    """Raises TypeError for states of other optimizers, chains of optimizers among them."""
    if not isinstance(state, LodoState):
        raise TypeError(
            f"expected a LodoState, got {type(state).__name__}: state of another optimizer, or of a chain "
            "or wrapper, whose part that is a LodoState is meant"
        )


def _constrain(tree: Any, mesh: Mesh | None, axis: str | None, width: int) -> Any:
    """Splits arrays whose last axis has `width` entries over a mesh axis, the rest is replicated."""
    if mesh is None:
        return tree
    if width > 0 and width % mesh.shape[axis]:
        raise ValueError(
            f"{width} blocks can't be split over {mesh.shape[axis]} devices of mesh axis {axis!r}: give the "
            f"architecture block_multiple={mesh.shape[axis]}"
        )

    def place(leaf: Array) -> Array:
        split = leaf.ndim > 1 and leaf.shape[-1] == width
        spec = PartitionSpec(*(None,) * (leaf.ndim - 1), axis) if split else PartitionSpec()
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(place, tree)


def _select(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _advice(count: int, state_bytes: int) -> str:
    return (
        f"lodo keeps {state_bytes / 1e9:.1f} GB of state for {count:,} parameters; use it for the leaves "
        'where it pays, optax.partition({"lodo": lodo(...), "adam": optax.adam(...)}, labels), or fewer '
        "num_layers"
    )


def _check_seed(seed: Any) -> None:
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


class _Settings(NamedTuple):
    """Arguments of `lodo` and `scale_by_lodo` but the rates' sign."""

    learning_rate: Any
    decay: Any
    seed: Any
    architecture: Architecture
    meta: optax.GradientTransformationExtraArgs
    meta_holds: bool  # whether its update takes `hold`
    frozen: bool
    normalize_hypergradient: bool
    clip_hypergradient: Any
    skip_nonfinite: bool
    mesh: Mesh | None
    mesh_axis: str | None
    param_sharding: Any


def _settings(**given: Any) -> _Settings:
    mesh, axis = given["mesh"], given["mesh_axis"]
    if mesh is not None:
        axis = axis or mesh.axis_names[0]
        if axis not in mesh.axis_names:
            raise ValueError(f"mesh_axis={axis!r}: the mesh has axes {mesh.axis_names}")
        if dict(zip(mesh.axis_names, mesh.axis_types, strict=True))[axis] != AxisType.Auto:
            raise ValueError(
                f"mesh axis {axis!r} is explicit: split weights need jax.make_mesh(..., axis_types="
                "(jax.sharding.AxisType.Auto, ...)); parameters on explicit meshes need no mesh argument"
            )
    _check_seed(given["seed"])
    _check_range("decay", given["decay"], 0, 1)
    _check_range("clip_hypergradient", given["clip_hypergradient"], 0, math.inf)
    _check_range("meta_eps", given["meta_eps"], 0, math.inf)
    architecture = given["architecture"]
    if architecture is None:
        architecture = BlockNetwork(
            given["num_layers"],
            given["block_size"],
            given["permutation"],
            block_multiple=1 if mesh is None else mesh.shape[axis],
        )
    meta = given["meta_optimizer"]
    if meta is None:
        meta = reference_adam(given["meta_learning_rate"], eps=given["meta_eps"])
    return _Settings(
        given["learning_rate"],
        given["decay"],
        given["seed"],
        architecture,
        optax.with_extra_args_support(meta),
        given["meta_optimizer"] is None,
        given["frozen"],
        given["normalize_hypergradient"],
        given["clip_hypergradient"],
        given["skip_nonfinite"],
        mesh,
        axis,
        given["param_sharding"],
    )


def _new_state(settings: _Settings, params: optax.Params) -> LodoState:
    architecture, seed = settings.architecture, settings.seed
    dtype, n = trees.compute_dtype(params), trees.size(params)
    key = jax.random.key(seed) if isinstance(seed, int) else seed
    theta, wiring = architecture.init(n, key, dtype)
    shapes = jax.eval_shape(lambda t, w: architecture.apply(t, w, jnp.zeros(n, dtype))[1], theta, wiring)
    trace = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    theta = _place(settings, theta, theta)
    return LodoState(
        count=jnp.zeros((), jnp.int32),
        rate=jnp.zeros((), dtype),
        momentum=jax.tree.map(lambda p: jnp.zeros_like(p, dtype=dtype), params),
        theta=theta,
        wiring=wiring,
        trace=_place(settings, trace, theta),
        meta=_place(settings, settings.meta.init(theta), theta),
    )


def _place(settings: _Settings, tree: Any, theta: Any) -> Any:
    leaves = jax.tree.leaves(theta)
    width = leaves[0].shape[-1] if leaves and leaves[0].ndim > 1 else -1
    return _constrain(tree, settings.mesh, settings.mesh_axis, width)


def _like_params(settings: _Settings, tree: Any) -> Any:
    if settings.param_sharding is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, settings.param_sharding)


def _learn(settings: _Settings, state: LodoState, g: Array, rate: Array) -> tuple[Any, optax.OptState, Array]:
    """One step of theta's optimizer down the loss, through the last update alone.

    Also whether g and the new learning rate were finite, and g went through the network
    without overflow.
    """
    architecture = settings.architecture
    product, trace = architecture.apply(state.theta, state.wiring, g)
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
    gradient = architecture.gradient(state.theta, state.wiring, trace, state.trace)
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
    hold = {"hold": ~ok} if settings.skip_nonfinite and settings.meta_holds else {}
    change, meta = settings.meta.update(gradient, state.meta, state.theta, **hold)
    theta = jax.tree.map(lambda t, c: (t + c).astype(t.dtype), state.theta, change)
    if settings.skip_nonfinite and not settings.meta_holds:
        theta, meta = _select(ok, (theta, meta), (state.theta, state.meta))
    return _place(settings, theta, theta), _place(settings, meta, theta), ok


def _step(settings: _Settings, updates: optax.Updates, state: LodoState) -> tuple[Array, LodoState]:
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
    momentum = _like_params(settings, momentum)
    if settings.skip_nonfinite:
        # The last update stays the one to learn from: with momentum and theta as they were,
        # the trace below comes out as it was.
        momentum, rate = _select(ok, (momentum, rate), (state.momentum, state.rate))
    direction, trace = settings.architecture.apply(theta, state.wiring, trees.ravel(momentum, dtype))
    if settings.skip_nonfinite:
        direction = jnp.where(ok & jnp.all(jnp.isfinite(direction)), direction, 0)
    count = optax.safe_increment(state.count)
    trace = _place(settings, trace, theta)
    return direction, LodoState(count, rate, momentum, theta, state.wiring, trace, meta)


def _transformation(settings: _Settings, *, descend: bool) -> optax.GradientTransformationExtraArgs:
    own_seed = settings._replace(seed=0)  # shapes do not depend on it, and it may be traced
    expected: dict[Any, Any] = {}  # shapes of the state, by number of parameters and dtype

    def check_configuration(state: LodoState) -> None:
        key = trees.size(state.momentum), jnp.dtype(state.rate.dtype)
        if key not in expected:
            vector = jax.ShapeDtypeStruct((key[0],), key[1])
            expected[key] = jax.eval_shape(lambda p: _new_state(own_seed, p), vector)
        for name in ("theta", "wiring", "trace", "meta"):
            trees.check_like(name, getattr(state, name), getattr(expected[key], name))

    def init(params: optax.Params) -> LodoState:
        trees.check_params(params)
        n = trees.size(params)
        if n > _SURELY_SMALL and not _measuring.get():
            shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
            needed = trees.num_bytes(jax.eval_shape(lambda p: _new_state(settings, p), shapes))
            if needed > MAX_STATE_BYTES:
                raise ValueError(_advice(n, needed))
            if needed > WARN_STATE_BYTES:
                warnings.warn(_advice(n, needed), ResourceWarning, stacklevel=2)
        return _new_state(settings, params)

    def update(updates, state: LodoState, params=None, **extra):
        del params, extra
        check_state(state)
        trees.check_updates(updates, state.momentum)
        check_configuration(state)
        direction, state = _step(settings, updates, state)
        vector = -state.rate * direction if descend else direction
        return _like_params(settings, trees.unravel(vector, updates)), state

    return optax.GradientTransformationExtraArgs(init, update)


def scale_by_lodo(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    meta_learning_rate: optax.ScalarOrSchedule = 1e-3,
    decay: float = 0.9,
    *,
    num_layers: int = 16,
    block_size: int = 4,
    seed: int | PRNGKeyArray = 0,
    permutation: str = "random",
    architecture: Architecture | None = None,
    meta_optimizer: optax.GradientTransformation | None = None,
    meta_eps: float = 1e-7,
    frozen: bool = False,
    normalize_hypergradient: bool = False,
    clip_hypergradient: float | None = None,
    skip_nonfinite: bool = True,
    mesh: Mesh | None = None,
    mesh_axis: str | None = None,
    param_sharding: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Preconditions averaged gradients with a matrix that is learned on the way.

    Emits G(theta) m in the direction of ascent; `lodo` is this with the learning rate
    applied. `learning_rate` must be the factor that will be applied: theta goes down the loss
    as a function of theta through the step as taken, -learning_rate G(theta) m. Arguments,
    errors and source: see `lodo`.
    """
    return _transformation(_settings(**locals()), descend=False)


def lodo(
    learning_rate: optax.ScalarOrSchedule,
    meta_learning_rate: optax.ScalarOrSchedule = 1e-3,
    decay: float = 0.9,
    *,
    num_layers: int = 16,
    block_size: int = 4,
    seed: int | PRNGKeyArray = 0,
    permutation: str = "random",
    architecture: Architecture | None = None,
    meta_optimizer: optax.GradientTransformation | None = None,
    meta_eps: float = 1e-7,
    frozen: bool = False,
    normalize_hypergradient: bool = False,
    clip_hypergradient: float | None = None,
    skip_nonfinite: bool = True,
    mesh: Mesh | None = None,
    mesh_axis: str | None = None,
    param_sharding: Any = None,
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
      num_layers, block_size, permutation: of the block network, see `BlockNetwork`.
      seed: an int or a PRNG key; decides initial weights and permutations.
      architecture: another preconditioner (`BlockNetwork` with further settings, `Diagonal`,
        `Global`, `Residual`); the three arguments above are then unused.
      meta_optimizer: any optax transformation in place of `reference_adam`; the meta learning
        rate and `meta_eps` are then its own.
      meta_eps: epsilon of `reference_adam`.
      frozen: keep theta as it is; with the state of a learning run, uses what was learned.
      normalize_hypergradient: divide d by |g|^2 (online scaled gradient methods).
      clip_hypergradient: largest norm of d.
      skip_nonfinite: on NaN or infinite gradients, or a learning rate that is, emit zeros and
        keep theta and m (the counter, which schedules read, goes on).
      mesh, mesh_axis: split theta and all state like it over this axis (the first, if not
        said), so that state per device falls with the number of devices.
      param_sharding: sharding, or tree of them, that updates and momentum are to have; for
        automatic meshes, where the compiler may otherwise replicate them. Under explicit
        meshes they keep the gradients' shardings.

    Raises:
      TypeError: complex or integer parameters, with their path; structural arguments that are
        not Python ints; a state that is not LODO's.
      ValueError: sizes below 1 (0 for num_layers), decay outside [0, 1), unknown permutation or
        mesh axis, a mesh that can't be used; gradients that are missing or do not match the
        parameters' shapes or tree, with their path; state of another configuration; more than
        200 GB of state.

    Source: Liao, Dangovski, Foerster, Soljacic, "Learning to Optimize Quasi-Newton Methods",
    TMLR 2023, arXiv 2210.06171.
    """
    return _transformation(_settings(**locals()), descend=True)
