"""Solving one puzzle: pure `init`, `step` and `run_chunk`, and the driver `solve`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, DTypeLike, Float, Int, PRNGKeyArray, UInt32

from compressarc.config import Program
from compressarc.multitensor import KEPT_ELEMENTS, TYPES, ArrayT, Shape, largest_array
from compressarc.network.inputs import Grids, Signature
from compressarc.network.loss import Loss, loss_terms
from compressarc.network.model import Output, forward
from compressarc.network.parameters import Params, init_params, standard_normal
from compressarc.solver.candidates import (
    Candidates,
    TestOutputs,
    candidates,
    init_ema,
    test_outputs,
    update_ema,
)
from compressarc.solver.program_cache import CompiledProgram, OnCompile, compiled_program, default_platform


def optimizer(program: Program) -> optax.GradientTransformation:
    """Adam as the paper uses it, on all parameters as one vector."""
    adam = optax.adam(program.learning_rate, b1=program.b1, b2=program.b2, eps=program.eps)
    return optax.flatten(adam)


class Run(NamedTuple, Generic[ArrayT]):
    """Everything that training carries from step to step."""

    params: Params[ArrayT]
    optimizer: optax.OptState
    ema: TestOutputs[ArrayT]  # moving average of the test outputs' logits and masks
    step: Int[ArrayT, ""]  # steps taken


class StepInfo(NamedTuple, Generic[ArrayT]):
    """What one step reports. A skipped step votes with weight -inf."""

    kl: Float[ArrayT, "18"]  # nats per tensor type, in the order of TYPES
    reconstruction: Float[ArrayT, ""]  # nats, all known grids
    candidates: Candidates[ArrayT]


def init(
    static: Signature, program: Program, *, key: PRNGKeyArray, places: Int[Array, " N"] | None = None
) -> Run[Array]:
    """The state before the first step; places: `Padding.noise`, for a padded puzzle."""
    params = init_params(static.shape, key=key, places=places)
    return Run(params, optimizer(program).init(params), init_ema(static), jnp.zeros((), jnp.int32))


compiled_init = jax.jit(init, static_argnames=("static", "program"))


def _products(program: Program) -> AbstractContextManager[None]:
    """What matrix products are made in while a step is traced."""
    if program.products == "auto":  # as JAX is set to
        return contextlib.nullcontext()
    return jax.default_matmul_precision("float32" if program.products == "float32" else "default")


def step(
    run: Run[Array], data: Grids[Array], static: Signature, program: Program, *, key: PRNGKeyArray
) -> tuple[Run[Array], StepInfo[Array]]:
    """One training step: forward, loss, backward, Adam, and the step's two candidates.

    A step whose loss, gradient or candidates are not finite is skipped: parameters, moments and
    moving average stay as they are, and its votes weigh nothing. The next one has other noise.

    key: of the whole run; the step's noise depends on it and on `run.step` alone.
    program: one that leaves its products open ("auto") takes them as JAX is set to; `Program.on` decides.
    """
    with _products(program):
        return _step(run, data, static, program, key=key)


def _step(
    run: Run[Array], data: Grids[Array], static: Signature, program: Program, *, key: PRNGKeyArray
) -> tuple[Run[Array], StepInfo[Array]]:
    dtype, padding = run.ema.logits.dtype, data.padding
    places = None if padding is None else padding.noise
    noise = standard_normal(jax.random.fold_in(key, run.step), static.shape, dtype, places)

    def objective(params: Params[Array]) -> tuple[Float[Array, ""], tuple[Output, Loss]]:
        output = forward(params, noise, data, static, program.variant, program.form)
        terms = loss_terms(output, data, static, run.step)
        return terms.total, (output, terms)

    grads, (output, terms) = jax.grad(objective, has_aux=True)(run.params)
    updates, opt_state = optimizer(program).update(grads, run.optimizer)
    current = test_outputs(output, static, padding)
    ema = update_ema(run.ema, current)
    proposed = candidates(current, ema, data, run.step)
    good = _finite(opt_state) & jnp.isfinite(terms.total) & jnp.isfinite(proposed.weight).all()
    before = (run.params, run.optimizer, run.ema)
    after = (optax.apply_updates(run.params, updates), opt_state, ema)
    params, opt_state, ema = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, before)
    proposed = proposed._replace(weight=jnp.where(good, proposed.weight, -jnp.inf))
    info = StepInfo(terms.kl, terms.reconstruction, proposed)
    return Run(params, opt_state, ema, run.step + 1), info


def _finite(moments: optax.OptState) -> Bool[Array, ""]:
    """Whether all entries are finite; the gradient's and their squares, which they average, are then."""
    floating = [a for a in jax.tree.leaves(moments) if jnp.issubdtype(a.dtype, jnp.floating)]
    return functools.reduce(jnp.logical_and, [jnp.isfinite(a).all() for a in floating])


def empty_reports(static: Signature, chunk: int, dtype: DTypeLike) -> StepInfo[Array]:
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


def loop(
    take_step: Callable[[Run[Array]], tuple[Run[Array], StepInfo[Array]]],
    run: Run[Array],
    count: Int[Array, ""],
    reports: StepInfo[Array],
) -> tuple[Run[Array], StepInfo[Array]]:
    """Takes `count` steps on the device, of one run or of many at once.

    reports: buffers for what each step reports, steps leading; entries from `count` on stay.
    """

    def body(
        i: Int[Array, ""], carry: tuple[Run[Array], StepInfo[Array]]
    ) -> tuple[Run[Array], StepInfo[Array]]:
        run, reports = carry
        run, report = take_step(run)
        reports = jax.tree.map(
            lambda all_, one: jax.lax.dynamic_update_index_in_dim(all_, one, i, 0), reports, report
        )
        return run, reports

    return jax.lax.fori_loop(0, count, body, (run, reports))


def _chunk(
    run: Run[Array],
    data: Grids[Array],
    count: Int[Array, ""],
    key: PRNGKeyArray,
    static: Signature,
    program: Program,
) -> tuple[Run[Array], StepInfo[Array]]:
    """As `run_chunk`, not jitted."""
    reports = empty_reports(static, program.chunk, run.ema.logits.dtype)
    return loop(lambda run: step(run, data, static, program, key=key), run, count, reports)


_FASTER = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""Without YNNPACK's fusions, on by default, steps with many tiny products and means take 15 % less."""
_SOONER = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}
"""Half the compilation in a third of the memory; the steps of larger puzzles are 10 to 18 % slower."""


def compiler_options(platform: str, shape: Shape, lanes: int = 1) -> dict[str, Any]:
    """For steps of `lanes` runs on a platform, what this XLA knows of the options wanted: today, on CPUs."""
    if platform != "cpu":
        return {}
    small = lanes * largest_array(shape) <= KEPT_ELEMENTS["cpu"]
    return dict(_known_options(small, jax.config.read("jax_disable_most_optimizations")))


@functools.cache
def _known_options(small: bool, hurried: bool) -> dict[str, Any]:
    wanted = _FASTER | (_SOONER if small else {})
    if hurried:  # JAX is told to optimize little, and does
        wanted.pop("xla_backend_optimization_level", None)
    known = {}
    for name, value in wanted.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError), jax.default_device("cpu"):
            jax.jit(lambda x: x + 1, compiler_options={name: value}).lower(0.0).compile()
            known[name] = value
    return known


def run_chunk(
    run: Run[Array],
    data: Grids[Array],
    count: Int[Array, ""],
    key: PRNGKeyArray,
    *,
    static: Signature,
    program: Program,
) -> tuple[Run[Array], StepInfo[Array]]:
    """Takes `count` <= program.chunk steps on the device, without the host.

    The state is donated: copy what you keep. Entries of the reports from `count` on are
    zero. One compilation serves all puzzles with this signature, all seeds and counts.
    """
    platform = default_platform()
    jitted = _jitted_chunk(platform, static.shape)
    return jitted(run, data, count, key, static=static, program=program.on(platform))


@functools.cache
def _jitted_chunk(platform: str, shape: Shape) -> Callable[..., tuple[Run[Array], StepInfo[Array]]]:
    """Made at the first call: which options the compiler knows is found out by compiling."""
    return jax.jit(
        _chunk,
        static_argnames=("static", "program"),
        donate_argnames="run",
        compiler_options=compiler_options(platform, shape),
    )


@dataclasses.dataclass(frozen=True)
class ChunkProgram:
    """A compiled `run_chunk`: call it with (run, data, count, key)."""

    program: CompiledProgram

    def __call__(
        self, run: Run, data: Grids, count: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Run[Array], StepInfo[Array]]:
        """Takes `count` steps; the state is donated."""
        return self.program(run, (data, count, jax.random.key_data(key)))


def chunk_program(
    run: Run[Array],
    data: Grids[Array],
    key: PRNGKeyArray,
    static: Signature,
    program: Program,
    on_compile: OnCompile | None = None,
) -> ChunkProgram:
    """`run_chunk` compiled for arguments like these, from the persistent cache without tracing.

    One program serves all seeds, counts and puzzles of the signature; the state is donated.
    """
    implementation, platform = str(jax.random.key_impl(key)), default_platform()
    program = program.on(platform)

    def chunk(
        run: Run[Array], rest: tuple[Grids[Array], Int[Array, ""], UInt32[Array, "..."]]
    ) -> tuple[Run[Array], StepInfo[Array]]:
        data, count, key_data = rest
        key = jax.random.wrap_key_data(key_data, impl=implementation)
        return _chunk(run, data, count, key, static, program)

    reports = jax.eval_shape(lambda: empty_reports(static, program.chunk, run.ema.logits.dtype))
    compiled = compiled_program(
        chunk,
        run,
        (data, jnp.int32(0), jax.random.key_data(key)),
        (run, reports),
        static=("chunk", static, program, implementation),
        compiler_options=compiler_options(platform, static.shape),
        platform=platform,
        on_compile=on_compile,
    )
    return ChunkProgram(compiled)
