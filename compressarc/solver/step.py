"""Solving one puzzle: pure `init`, `step` and `run_chunk`, and the driver `solve`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from compressarc.config import Program
from compressarc.multitensor import TYPES
from compressarc.network.inputs import Grids, Signature
from compressarc.network.loss import loss_terms
from compressarc.network.model import forward
from compressarc.network.parameters import Params, init_params, standard_normal
from compressarc.solver.candidates import (
    Candidates,
    TestOutputs,
    candidates,
    init_ema,
    test_outputs,
    update_ema,
)
from compressarc.solver.program_cache import CompiledProgram, OnCompile, compiled_program


def optimizer(program: Program) -> optax.GradientTransformation:
    """Adam as the paper uses it."""
    return optax.adam(program.learning_rate, b1=program.b1, b2=program.b2, eps=program.eps)


class Run(NamedTuple):
    """Everything that training carries from step to step."""

    params: Params
    optimizer: optax.OptState
    ema: TestOutputs  # moving average of the test outputs' logits and masks
    step: Int[Array, ""]  # steps taken


class StepInfo(NamedTuple):
    """What one step reports. A skipped step votes with weight -inf."""

    kl: Float[Array, "18"]  # nats per tensor type, in the order of TYPES
    reconstruction: Float[Array, ""]  # nats, all known grids
    candidates: Candidates


def init(static: Signature, program: Program, *, key: PRNGKeyArray, places: Array | None = None) -> Run:
    """The state before the first step; places: `Padding.noise`, for a padded puzzle."""
    params = init_params(static.shape, key=key, places=places)
    return Run(params, optimizer(program).init(params), init_ema(static), jnp.zeros((), jnp.int32))


compiled_init = jax.jit(init, static_argnames=("static", "program"))


def step(
    run: Run, data: Grids, static: Signature, program: Program, *, key: PRNGKeyArray
) -> tuple[Run, StepInfo]:
    """One training step: forward, loss, backward, Adam, and the step's two candidates.

    A step whose loss, gradient or candidates are not finite is skipped: parameters, moments and
    moving average stay as they are, and its votes weigh nothing. The next one has other noise.

    key: of the whole run; the step's noise depends on it and on `run.step` alone.
    """
    dtype, padding = run.ema.logits.dtype, data.padding
    places = None if padding is None else padding.noise
    noise = standard_normal(jax.random.fold_in(key, run.step), static.shape, dtype, places)

    def objective(params: Params):
        output = forward(params, noise, data, static, program.variant)
        terms = loss_terms(output, data, static, run.step)
        return terms.total, (output, terms)

    grads, (output, terms) = jax.grad(objective, has_aux=True)(run.params)
    updates, opt_state = optimizer(program).update(grads, run.optimizer, run.params)
    current = test_outputs(output, static, padding)
    ema = update_ema(run.ema, current)
    proposed = candidates(current, ema, data, run.step)
    good = _finite(grads) & jnp.isfinite(terms.total) & jnp.isfinite(proposed.weight).all()
    before = (run.params, run.optimizer, run.ema)
    after = (optax.apply_updates(run.params, updates), opt_state, ema)
    params, opt_state, ema = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, before)
    proposed = proposed._replace(weight=jnp.where(good, proposed.weight, -jnp.inf))
    info = StepInfo(terms.kl, terms.reconstruction, proposed)
    return Run(params, opt_state, ema, run.step + 1), info


def _finite(grads: Params) -> Array:
    """Whether all entries are finite, and their squares, which Adam averages."""
    each = [jnp.isfinite(jnp.square(g)).all() for g in jax.tree.leaves(grads)]
    return functools.reduce(jnp.logical_and, each)


def _empty_infos(static: Signature, chunk: int, dtype) -> StepInfo:
    """Zero-filled buffers for the per-step reports of a chunk."""
    tests, shape = static.num_test, static.shape
    return StepInfo(
        kl=jnp.zeros((chunk, len(TYPES)), dtype),
        reconstruction=jnp.zeros(chunk, dtype),
        candidates=Candidates(
            colors=jnp.zeros((chunk, 2, tests, shape.x, shape.y), jnp.int8),
            crop=jnp.zeros((chunk, 2, tests, 2, 2), jnp.int16),
            weight=jnp.zeros((chunk, 2), dtype),
        ),
    )


def chunk_of_steps(
    run: Run, data: Grids, count: Array, key: PRNGKeyArray, static: Signature, program: Program
) -> tuple[Run, StepInfo]:
    """As `run_chunk`, not jitted."""
    empty = _empty_infos(static, program.chunk, run.ema.logits.dtype)

    def body(i, carry):
        run, infos = carry
        run, info = step(run, data, static, program, key=key)
        infos = jax.tree.map(
            lambda all_, one: jax.lax.dynamic_update_index_in_dim(all_, one, i, 0), infos, info
        )
        return run, infos

    return jax.lax.fori_loop(0, count, body, (run, empty))


@functools.cache
def compiler_options() -> dict[str, str]:
    """Options that make the step faster on a CPU, as far as this XLA knows them.

    YNNPACK's fusions, on by default, are slow for the many tiny products and means of a
    small puzzle: without them a step takes 15 % less.
    """
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # an XLA without this option
        return {}
    return options


def run_chunk(
    run: Run, data: Grids, count: Array, key: PRNGKeyArray, *, static: Signature, program: Program
) -> tuple[Run, StepInfo]:
    """Takes `count` <= program.chunk steps on the device, without the host.

    The state is donated: copy what you keep. Entries of the infos from `count` on are
    zero. One compilation serves all puzzles with this signature, all seeds and counts.
    """
    return _compiled_chunk()(run, data, count, key, static=static, program=program)


@functools.cache
def _compiled_chunk() -> Callable[..., tuple[Run, StepInfo]]:
    return jax.jit(
        chunk_of_steps,
        static_argnames=("static", "program"),
        donate_argnames="run",
        compiler_options=compiler_options(),
    )


@dataclasses.dataclass(frozen=True)
class ChunkProgram:
    """A compiled `run_chunk`: call it with (run, data, count, key)."""

    program: CompiledProgram

    def __call__(self, run: Run, data: Grids, count: Array, key: PRNGKeyArray) -> tuple[Run, StepInfo]:
        """Takes `count` steps; the state is donated."""
        return self.program(run, (data, count, jax.random.key_data(key)))


def chunk_program(
    run: Run,
    data: Grids,
    key: PRNGKeyArray,
    static: Signature,
    program: Program,
    on_compile: OnCompile | None = None,
) -> ChunkProgram:
    """`run_chunk` compiled for arguments like these, from the persistent cache without tracing.

    One program serves all seeds, counts and puzzles of the signature; the state is donated.
    """
    implementation = str(jax.random.key_impl(key))

    def chunk(run: Run, rest: tuple[Grids, Array, Array]) -> tuple[Run, StepInfo]:
        data, count, key_data = rest
        key = jax.random.wrap_key_data(key_data, impl=implementation)
        return chunk_of_steps(run, data, count, key, static, program)

    infos = jax.eval_shape(lambda: _empty_infos(static, program.chunk, run.ema.logits.dtype))
    compiled = compiled_program(
        chunk,
        run,
        (data, jnp.int32(0), jax.random.key_data(key)),
        (run, infos),
        static=("chunk", static, program, implementation),
        compiler_options=compiler_options(),
        on_compile=on_compile,
    )
    return ChunkProgram(compiled)
