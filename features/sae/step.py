"""Training of sparse autoencoders as compiled chunks of steps.

The recipes are those of the paper's two autoencoders and of the field: ReLU with an L_p penalty and
resampling of dead latents (Bricken et al. 2023), TopK and BatchTopK with an auxiliary loss on dead latents
(Gao et al. 2024), JumpReLU with straight-through gradients (Rajamanoharan et al. 2024).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from features.arrays import AnyArray
from features.sae.config import SAEConfig, TrainConfig
from features.sae.model import (
    SAE,
    activate,
    init,
    keep_top_of_batch,
    normalize,
    pre_activations,
)
from features.sae.sparse_products import decode_sparse, encode_top
from features.sae.top_entries import keep_top


class Run(NamedTuple):
    """Carried between steps; arrays only, apart from the autoencoder's static settings."""

    sae: SAE
    opt: optax.OptState
    quiet: Int[Array, " d_sae"]  # steps since each latent fired
    step: Int[Array, ""]


class Info(NamedTuple):
    """Of one step, or of several, one entry each."""

    loss: Float[AnyArray, "*steps"]
    mse: Float[AnyArray, "*steps"]  # mean over tokens of the squared error's norm, in the SAE's own scale
    fve: Float[AnyArray, "*steps"]  # fraction of variance explained, within the batch
    l0: Float[AnyArray, "*steps"]  # latents that fire, per token
    dead: Float[AnyArray, "*steps"]  # share of latents that have not fired for `dead_after` steps


def schedule(config: TrainConfig) -> optax.Schedule:
    """Learning rate: linear rise, plateau, linear fall."""
    fall = round(config.decay * config.steps)
    rise = min(config.warmup, config.steps - fall)
    peak = config.learning_rate
    parts = [optax.linear_schedule(0.0, peak, rise), optax.constant_schedule(peak)]
    if fall:
        parts.append(optax.linear_schedule(peak, 0.0, fall))
    return optax.join_schedules(parts, [rise, config.steps - fall][: len(parts) - 1])


def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW at the scheduled rate."""
    return optax.adamw(schedule(config), config.beta1, config.beta2, weight_decay=config.weight_decay)


def _project_decoder(sae: SAE, gradient: SAE) -> SAE:
    """Removes the part of the decoder's gradient that would only change the norms of its rows."""
    along = (gradient.W_dec * sae.W_dec).sum(-1, keepdims=True) * sae.W_dec
    return eqx.tree_at(lambda g: g.W_dec, gradient, gradient.W_dec - along)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _jump(
    pre: Float[Array, "batch d_sae"], threshold: Float[Array, " d_sae"], bandwidth: float
) -> Float[Array, "batch d_sae"]:
    """JumpReLU of pre-activations."""
    return jnp.where(pre > threshold[None], jax.nn.relu(pre), 0)


_JumpSaved = tuple[Float[Array, "batch d_sae"], Float[Array, " d_sae"]]  # pre-activations, thresholds


def _jump_forward(
    pre: Float[Array, "batch d_sae"], threshold: Float[Array, " d_sae"], bandwidth: float
) -> tuple[Float[Array, "batch d_sae"], _JumpSaved]:
    return _jump(pre, threshold, bandwidth), (pre, threshold)


def _jump_backward(
    bandwidth: float, saved: _JumpSaved, gradient: Float[Array, "batch d_sae"]
) -> tuple[Float[Array, "batch d_sae"], Float[Array, " d_sae"]]:
    pre, threshold = saved
    near = jnp.abs(pre - threshold[None]) < bandwidth / 2
    return (
        jnp.where((pre > threshold[None]) & (pre > 0), gradient, 0),
        -(threshold / bandwidth) * (near * gradient).sum(0),
    )


_jump.defvjp(_jump_forward, _jump_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _count(
    pre: Float[Array, "batch d_sae"], threshold: Float[Array, " d_sae"], bandwidth: float
) -> Float[Array, "batch d_sae"]:
    """Which latents fire, as numbers."""
    return (pre > threshold[None]).astype(pre.dtype)


def _count_forward(
    pre: Float[Array, "batch d_sae"], threshold: Float[Array, " d_sae"], bandwidth: float
) -> tuple[Float[Array, "batch d_sae"], _JumpSaved]:
    return _count(pre, threshold, bandwidth), (pre, threshold)


def _count_backward(
    bandwidth: float, saved: _JumpSaved, gradient: Float[Array, "batch d_sae"]
) -> tuple[Float[Array, "batch d_sae"], Float[Array, " d_sae"]]:
    pre, threshold = saved
    near = jnp.abs(pre - threshold[None]) < bandwidth / 2
    return jnp.zeros_like(pre), -(1 / bandwidth) * (near * gradient).sum(0)


_count.defvjp(_count_forward, _count_backward)


def _uses_sparse(config: TrainConfig) -> bool:
    return config.products == "sparse"  # left open, the products that suit every platform


def _row_norms(sae: SAE) -> Float[Array, " d_sae"]:
    return jnp.linalg.norm(sae.W_dec, axis=-1)


def _pre_activations_cheap_bias(sae: SAE, seen: Float[Array, "batch d_in"]) -> Float[Array, "batch d_sae"]:
    """`pre_activations` whose gradient to b_dec is one product with a vector.

    As written, (x - b_dec) W_enc sends a gradient to every x - b_dec, a sixth of all products, only to
    sum it. The second term is zero and carries that sum.
    """
    if not sae.config.apply_b_dec_to_input:
        return seen @ sae.W_enc + sae.b_enc[None]
    held = jax.lax.stop_gradient(sae.b_dec)
    return (seen - held[None]) @ sae.W_enc + ((held - sae.b_dec) @ sae.W_enc + sae.b_enc)[None]


class _Aside(NamedTuple):
    """What the loss leaves behind besides its value."""

    mse: Float[Array, ""]
    l0: Float[Array, ""]
    fired: Bool[Array, " d_sae"]
    least: Float[Array, ""]  # value that batchtopk kept


def _penalty(
    sae: SAE, latents: Float[Array, "batch d_sae"], pre: Float[Array, "batch d_sae"], config: TrainConfig
) -> Float[Array, ""]:
    """Sparsity per token, averaged."""
    norms = 1.0 if config.unit_norm else _row_norms(sae)[None]
    if sae.config.activation == "jumprelu":
        if config.tanh_penalty:
            return jnp.tanh(4 * latents * _row_norms(sae)[None]).sum(-1).mean()
        return jnp.asarray(_count(pre, sae.threshold, config.bandwidth)).sum(-1).mean()
    if config.p == 1:
        return (latents * norms).sum(-1).mean()
    # |a|^p has an infinite slope at 0: smoothed there.
    return (((latents * norms) + 1e-8) ** config.p - 1e-8**config.p).sum(-1).mean()


def _aux_loss(
    sae: SAE,
    pre: Float[Array, "batch d_sae"],
    residual: Float[Array, "batch d_in"],
    dead: Bool[Array, " d_sae"],
    config: TrainConfig,
) -> Float[Array, ""]:
    """How badly the dead latents, the top aux_k of them, explain what the others left."""
    k = min(config.aux_k or sae.config.d_in // 2, sae.config.d_sae)

    latents = keep_top(jnp.where(dead[None], pre, -jnp.inf), k)
    residual = jax.lax.stop_gradient(residual)
    error = latents @ sae.W_dec - residual
    spread = ((residual - residual.mean(0, keepdims=True)) ** 2).sum(-1).mean()
    return jnp.nan_to_num((error**2).sum(-1).mean() / (spread + 1e-12))


def loss(
    sae: SAE,
    x: Float[AnyArray, "batch d_in"],
    quiet: Int[Array, " d_sae"],
    step: Int[Array, ""],
    config: TrainConfig,
) -> tuple[Float[Array, ""], _Aside]:
    """Reconstruction error plus sparsity; x is raw, errors are in the autoencoder's own scale."""
    seen, _ = normalize(sae, x)
    seen = jax.lax.stop_gradient(jnp.asarray(seen))
    kind = sae.config.activation
    least = jnp.zeros(())
    dead = quiet >= config.dead_after
    if kind == "topk" and _uses_sparse(config):
        shifted = seen - sae.b_dec[None] if sae.config.apply_b_dec_to_input else seen
        values, indices = encode_top(shifted, sae.W_enc, sae.b_enc, jnp.zeros(sae.config.k or 1))
        values = jax.nn.relu(values)
        out = decode_sparse(values, indices, sae.W_dec) + sae.b_dec[None]
        fired = jnp.zeros(sae.config.d_sae, bool).at[indices.reshape(-1)].max((values > 0).reshape(-1))
        l0 = (values > 0).sum(-1).mean(dtype=jnp.float32)
        # Computed only where some latent is dead: the branch of `cond` holds it.
        pre = lambda: pre_activations(sae, seen)  # noqa: E731
        penalty = 0.0
    elif kind in {"topk", "batchtopk"}:
        dense = pre_activations(sae, seen)
        pre = lambda: dense  # noqa: E731
        if kind == "topk":
            latents = keep_top(dense, sae.config.k or 1)
        else:
            latents, least = keep_top_of_batch(dense, sae.config.k or 1)
        out = latents @ sae.W_dec + sae.b_dec[None]
        counts = (latents > 0).sum(0, dtype=jnp.float32)
        fired, l0 = counts > 0, counts.sum() / len(x)
        penalty = 0.0
    else:
        dense = _pre_activations_cheap_bias(sae, seen)
        pre = lambda: dense  # noqa: E731
        if kind == "jumprelu":
            latents = jnp.asarray(_jump(dense, sae.threshold, config.bandwidth))
        else:
            latents = jax.nn.relu(dense)
        out = latents @ sae.W_dec + sae.b_dec[None]
        counts = (latents > 0).sum(0, dtype=jnp.float32)
        fired, l0 = counts > 0, counts.sum() / len(x)
        rise = jnp.minimum(1.0, (step + 1) / max(config.sparsity_warmup, 1))
        penalty = config.sparsity * rise * _penalty(sae, latents, dense, config)
    residual = seen - out
    mse = (residual**2).sum(-1).mean()
    total = mse + penalty
    if kind in {"topk", "batchtopk"} and config.aux_weight > 0:
        aux = jax.lax.cond(
            dead.any(),
            lambda: _aux_loss(sae, pre(), residual, dead, config),
            lambda: jnp.zeros(()),
        )
        total = total + config.aux_weight * jax.lax.stop_gradient(mse) * aux
    return total, _Aside(mse, l0, fired, least)


def _microbatch(sae: SAE, size: int, config: TrainConfig) -> int:
    """Tokens whose gradients are computed together: on CPUs, few enough to stay in the cache.

    Losses of relu and jumprelu are means over tokens, so parts may be averaged; the others look at the batch.
    """
    if sae.config.activation not in {"relu", "jumprelu"}:
        return size
    part = config.microbatch or size
    return part if size % part == 0 else size


def _gradient(
    run: Run, x: Float[Array, "batch d_in"], config: TrainConfig
) -> tuple[tuple[Float[Array, ""], _Aside], SAE]:
    """Loss, what it leaves behind, and its gradient, summed over parts of the batch."""
    part = _microbatch(run.sae, len(x), config)
    function = eqx.filter_value_and_grad(loss, has_aux=True)
    if part == len(x):
        return function(run.sae, x, run.quiet, run.step, config)
    parts = x.reshape(-1, part, x.shape[-1])
    count = len(parts)
    arrays, static = eqx.partition(run.sae, eqx.is_array)

    def add(total: SAE, rows: Float[Array, "part d_in"]) -> tuple[SAE, tuple[Float[Array, ""], _Aside]]:
        (value, aside), gradient = function(run.sae, rows, run.quiet, run.step, config)
        return jax.tree.map(lambda t, g: t + g / count, total, eqx.filter(gradient, eqx.is_array)), (
            value,
            aside,
        )

    zero = jax.tree.map(jnp.zeros_like, arrays)
    total, (values, asides) = jax.lax.scan(add, zero, parts)
    aside = _Aside(asides.mse.mean(), asides.l0.mean(), asides.fired.any(0), asides.least[-1])
    return (values.mean(), aside), eqx.combine(total, static)


def step(run: Run, x: Float[Array, "batch d_in"], config: TrainConfig) -> tuple[Run, Info]:
    """One update from one batch."""
    (value, aside), gradient = _gradient(run, x, config)
    if config.unit_norm:
        gradient = _project_decoder(run.sae, gradient)
    weights = eqx.filter(run.sae, eqx.is_array)
    updates, opt = optimizer(config).update(gradient, run.opt, weights)  # pyright: ignore[reportArgumentType]  optax types pytrees as nests of arrays
    sae = eqx.apply_updates(run.sae, updates)
    if config.unit_norm:
        sae = eqx.tree_at(lambda s: s.W_dec, sae, sae.W_dec / _row_norms(sae)[:, None])
    if sae.config.activation == "jumprelu":
        sae = eqx.tree_at(lambda s: s.threshold, sae, jnp.maximum(sae.threshold, 0))
    elif run.sae.threshold is not None:  # batchtopk
        moved = 0.99 * run.sae.threshold + 0.01 * aside.least
        sae = eqx.tree_at(lambda s: s.threshold, sae, jnp.where(run.step == 0, aside.least, moved))
    if sae.scale is not None:  # a property of the data, not trained
        sae = eqx.tree_at(lambda s: s.scale, sae, run.sae.scale)
    quiet = jnp.where(aside.fired, 0, run.quiet + 1)
    seen, _ = normalize(run.sae, x)
    spread = ((seen - seen.mean(0, keepdims=True)) ** 2).sum(-1).mean()
    dead = (quiet >= config.dead_after).mean(dtype=jnp.float32)
    info = Info(value, aside.mse, 1 - aside.mse / spread, aside.l0, dead)
    return Run(sae, opt, quiet, run.step + 1), info


def run_chunk(config: TrainConfig, run: Run, batches: Float[Array, "steps batch d_in"]) -> tuple[Run, Info]:
    """As many steps as there are batches, on the device. `run` and `batches` are donated.

    What the settings leave open is decided for the device on which `run` lies. Where that is not known, while
    something around this is traced, what suits every platform is taken; pass `config.on(platform)` there.
    """
    if not isinstance(run.step, Tracer):
        config = config.on(next(iter(run.step.devices())).platform)
    return _run_chunk(config, run, batches)


@functools.partial(eqx.filter_jit, donate="all-except-first")
def _run_chunk(config: TrainConfig, run: Run, batches: Float[Array, "steps batch d_in"]) -> tuple[Run, Info]:
    arrays, static = eqx.partition(run, eqx.is_array)

    def body(arrays: Run, x: Float[Array, "batch d_in"]) -> tuple[Run, Info]:
        after, info = step(eqx.combine(arrays, static), x, config)
        return eqx.filter(after, eqx.is_array), info

    arrays, infos = jax.lax.scan(body, arrays, batches)
    return eqx.combine(arrays, static), infos


@eqx.filter_jit
def resample(run: Run, x: Float[Array, "batch d_in"], config: TrainConfig, *, key: PRNGKeyArray) -> Run:
    """Gives dead latents the directions of badly reconstructed inputs (Bricken et al. 2023).

    Inputs are drawn with probability proportional to their squared loss; the decoder row becomes the
    normalized residual (the input itself where b_dec is not subtracted from it), the encoder column 0.2
    mean live norms of it, the bias 0, the moments 0.
    """
    sae = run.sae
    seen, _ = normalize(sae, x)
    residual = seen - (activate(sae, pre_activations(sae, seen)) @ sae.W_dec + sae.b_dec[None])
    weights = (residual**2).sum(-1) ** 2
    rows = jax.random.choice(key, len(x), (sae.config.d_sae,), p=weights / weights.sum())
    target = residual[rows] if sae.config.apply_b_dec_to_input else seen[rows]
    target = target / jnp.maximum(jnp.linalg.norm(target, axis=-1, keepdims=True), 1e-8)
    dead = run.quiet >= config.dead_after
    norms = jnp.linalg.norm(sae.W_enc, axis=0)
    live = jnp.where(dead, 0, norms).sum() / jnp.maximum((~dead).sum(), 1)
    renewed = eqx.tree_at(
        lambda s: (s.W_enc, s.b_enc, s.W_dec),
        sae,
        (
            jnp.where(dead[None], 0.2 * live * target.T, sae.W_enc),
            jnp.where(dead, 0.0, sae.b_enc),
            jnp.where(dead[:, None], target, sae.W_dec),
        ),
    )

    def clear(moments: SAE) -> SAE:
        return eqx.tree_at(
            lambda s: (s.W_enc, s.b_enc, s.W_dec),
            moments,
            (
                jnp.where(dead[None], 0, moments.W_enc),
                jnp.where(dead, 0, moments.b_enc),
                jnp.where(dead[:, None], 0, moments.W_dec),
            ),
        )

    opt = jax.tree.map(
        lambda part: clear(part) if isinstance(part, SAE) else part,
        run.opt,
        is_leaf=lambda part: isinstance(part, SAE),
    )
    return Run(renewed, opt, jnp.where(dead, 0, run.quiet), run.step)


def geometric_median(x: Float[AnyArray, "n d"], steps: int = 100) -> Float[Array, " d"]:
    """Weiszfeld's iteration from the mean."""

    def move(_: Int[Array, ""], center: Float[Array, " d"]) -> Float[Array, " d"]:
        weights = 1 / jnp.maximum(jnp.linalg.norm(x - center[None], axis=-1), 1e-6)
        return (weights[:, None] * x).sum(0) / weights.sum()

    return jax.lax.fori_loop(0, steps, move, x.mean(0))


def init_run(
    sae_config: SAEConfig, config: TrainConfig, sample: Float[AnyArray, "n d_in"], *, key: PRNGKeyArray
) -> Run:
    """The start of a training; a `sample` of the data sets biases and scale."""
    sample = jnp.asarray(sample, jnp.float32)
    sae = init(sae_config, key=key, b_enc=config.b_enc_init)
    if sae.scale is not None:
        scale = jnp.sqrt(sae_config.d_in) / jnp.linalg.norm(sample, axis=-1).mean()
        sae = eqx.tree_at(lambda s: s.scale, sae, scale)
    if config.b_dec_init != "zeros":
        seen, _ = normalize(sae, sample)
        center = seen.mean(0) if config.b_dec_init == "mean" else geometric_median(seen)
        sae = eqx.tree_at(lambda s: s.b_dec, sae, center)
    opt = optimizer(config).init(eqx.filter(sae, eqx.is_array))
    return Run(sae, opt, jnp.zeros(sae_config.d_sae, jnp.int32), jnp.zeros((), jnp.int32))
