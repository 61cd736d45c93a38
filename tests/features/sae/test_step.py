"""One step of training in plain numpy: losses, penalties, schedules, what is kept of norms."""

import dataclasses

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from features.sae.config import SAEConfig, TrainConfig
from features.sae.model import SAE
from features.sae.sparse_products import decode_sparse, encode_top
from features.sae.step import geometric_median, init_run, loss, schedule, step

from .test_model import D_IN, D_SAE, K, example

SEEDS = st.integers(0, 2**32 - 1)
X = np.random.default_rng(0).normal(size=(32, D_IN)).astype(np.float32)


def plain_loss(sae, x, dead, step_number, config):
    """Squared error, sparsity and the auxiliary loss, from the recipes' papers."""
    kind = sae.config.activation
    W_enc, b_enc, W_dec, b_dec = (np.asarray(w, float) for w in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec))
    pre = (x - b_dec) @ W_enc + b_enc
    latents = np.maximum(pre, 0)
    if kind == "topk":
        latents = np.where(pre >= np.sort(pre)[:, -K, None], latents, 0)
    if kind == "batchtopk":
        latents = np.where(latents >= np.sort(latents.ravel())[-K * len(x)], latents, 0)
    if kind == "jumprelu":
        latents = np.where(pre > np.asarray(sae.threshold), latents, 0)
    residual = x - latents @ W_dec - b_dec
    mse = (residual**2).sum(1).mean()
    norms = np.linalg.norm(W_dec, axis=1)
    if kind in {"topk", "batchtopk"}:
        k = min(config.aux_k or D_IN // 2, D_SAE)
        alone = np.where(dead, pre, -np.inf)
        of_dead = np.where(alone >= -np.sort(-alone)[:, k - 1, None], np.maximum(alone, 0), 0)
        spread = ((residual - residual.mean(0)) ** 2).sum(1).mean()
        missed = ((of_dead @ W_dec - residual) ** 2).sum(1).mean() / spread
        return mse + config.aux_weight * mse * missed * dead.any()
    weighed = latents * (1 if config.unit_norm else norms)
    if kind == "jumprelu":
        penalty = np.tanh(4 * latents * norms) if config.tanh_penalty else pre > np.asarray(sae.threshold)
    else:
        penalty = weighed if config.p == 1 else (weighed + 1e-8) ** config.p - 1e-8**config.p
    rise = min(1, (step_number + 1) / max(config.sparsity_warmup, 1))
    return mse + config.sparsity * rise * penalty.sum(1).mean()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("relu", {}), ("relu", {"unit_norm": False, "sparsity_warmup": 10}), ("relu", {"p": 0.5}),
        ("jumprelu", {}), ("jumprelu", {"tanh_penalty": True}),
        ("topk", {"products": "sparse"}), ("topk", {"products": "dense", "aux_k": 1}),
        ("batchtopk", {"aux_weight": 0.5}),
    ],
    ids=str,
)  # fmt: skip
def test_losses_are_those_of_the_papers(kind, change):
    config = TrainConfig(**{"steps": 10, "dead_after": 5, "sparsity": 0.3, **change})
    run = jax.jit(lambda arrays, quiet, at: loss(eqx.combine(arrays, static), X, quiet, at, config)[0])
    for seed in range(3):
        sae = example(seed, kind)
        arrays, static = eqx.partition(sae, eqx.is_array)
        quiet = np.where(np.arange(D_SAE) < 3 * (seed % 2), 7, 0)
        for at in (0, 4, 50):
            expected = plain_loss(sae, X.astype(float), quiet >= 5, at, config)
            assert float(run(arrays, quiet, at)) == pytest.approx(expected, rel=1e-4)


def first_step(kind="relu", **change):
    config = TrainConfig(**{"steps": 10, "warmup": 0, "batch": 32, "dead_after": 3, **change})
    needs_k = kind in {"topk", "batchtopk"}
    run = init_run(SAEConfig(D_IN, D_SAE, kind, K if needs_k else None), config, X, key=jax.random.key(0))
    return config, run, *eqx.filter_jit(step)(run, jnp.asarray(X), config)


@pytest.mark.slow
def test_small_parts_of_a_batch_give_the_step_of_the_whole():
    _, _, whole, info = first_step(microbatch=32)
    _, _, parts, parted = first_step(microbatch=8)
    chex.assert_trees_all_close((whole, info), (parts, parted), atol=1e-5)


@pytest.mark.slow
def test_a_step_counts_who_fired_and_keeps_rows_at_norm_one():
    config, before, after, info = first_step("topk")
    W_enc, b_enc, W_dec, b_dec = map(np.asarray, jax.tree.leaves(before.sae))
    latents = np.maximum((X - b_dec) @ W_enc + b_enc, 0)
    kept = np.where(latents >= np.sort(latents)[:, -K, None], latents, 0)
    np.testing.assert_array_equal(after.quiet, np.where((kept > 0).any(0), 0, 1))
    assert float(info.l0) == pytest.approx((kept > 0).sum(1).mean()) and int(after.step) == 1
    np.testing.assert_allclose(jnp.linalg.norm(after.sae.W_dec, axis=1), 1, atol=1e-6)
    residual = X - kept @ W_dec - b_dec
    assert float(info.mse) == pytest.approx((residual**2).sum(1).mean(), rel=1e-4)
    spread = ((X - X.mean(0)) ** 2).sum(1).mean()
    assert float(info.fve) == pytest.approx(1 - float(info.mse) / spread, rel=1e-3)
    assert float(info.dead) == 0 and config.dead_after == 3


@pytest.mark.slow
def test_adams_first_step_is_the_sign_of_the_gradient():
    config, before, after, _ = first_step(unit_norm=False, learning_rate=1e-3, decay=0.0)
    value = lambda sae: loss(sae, X, before.quiet, before.step, config)[0]  # noqa: E731
    gradient = eqx.filter_grad(value)(before.sae)
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        slope, moved = (np.asarray(getattr(t, name)) for t in (gradient, after.sae))
        clear = np.abs(slope) > 1e-4  # where the constant in Adam's denominator does not show
        assert clear.any()
        expected = np.asarray(getattr(before.sae, name)) - 1e-3 * np.sign(slope)
        np.testing.assert_allclose(moved[clear], expected[clear], atol=1e-6)


@given(
    st.integers(1, 200), st.integers(0, 80), st.floats(0, 1), st.floats(1e-5, 1),
)  # fmt: skip
def test_the_rate_rises_stays_and_falls(steps, warmup, decay, peak):
    rate = schedule(TrainConfig(steps=steps, warmup=warmup, decay=decay, learning_rate=peak))
    fall = round(decay * steps)
    rise = min(warmup, steps - fall)
    at = np.unique(np.linspace(0, steps, 6).round())
    up = np.clip(at / rise, 0, 1) if rise else np.ones_like(at)
    down = np.clip((steps - at) / fall, 0, 1) if fall else np.ones_like(at)
    np.testing.assert_allclose(
        [float(rate(int(s))) for s in at], peak * np.minimum(up, down), rtol=1e-4, atol=1e-6 * peak
    )


@given(SEEDS)
def test_the_geometric_median_has_the_least_sum_of_distances(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, 2)) * [1, 5] + rng.normal(size=2)
    total = lambda at: np.linalg.norm(x - at, axis=1).sum()  # noqa: E731
    best = minimize(total, x.mean(0), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}).fun
    found = MEDIAN(jnp.asarray(x, jnp.float32))
    assert total(np.asarray(found, float)) <= best * (1 + 1e-4)
    moved = MEDIAN(jnp.asarray(4 * x[::-1] + 1, jnp.float32))
    np.testing.assert_allclose(moved, 4 * np.asarray(found) + 1, atol=1e-2)


MEDIAN = jax.jit(geometric_median)


@pytest.mark.parametrize("start", ["zeros", "mean", "median"])
def test_a_training_starts_from_the_sample(start):
    sample = np.random.default_rng(1).exponential(size=(200, D_IN)).astype(np.float32)
    config = TrainConfig(b_dec_init=start, b_enc_init=-0.1)
    sae_config = SAEConfig(D_IN, D_SAE, normalize_activations="expected_average_only_in")
    run = init_run(sae_config, config, sample, key=jax.random.key(0))
    scaled = sample * float(run.sae.scale)
    assert np.linalg.norm(scaled, axis=1).mean() == pytest.approx(np.sqrt(D_IN), rel=1e-4)
    expected = {"zeros": 0 * scaled[0], "mean": scaled.mean(0), "median": MEDIAN(jnp.asarray(scaled))}[start]
    np.testing.assert_allclose(run.sae.b_dec, expected, atol=1e-4)
    np.testing.assert_allclose(run.sae.b_enc, -0.1)
    assert int(run.step) == 0 and not run.quiet.any()


@given(SEEDS)
def test_sparse_products_are_dense_ones_also_where_an_index_repeats(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(6, K)).astype(np.float32)
    indices = rng.integers(0, D_SAE, (6, K)).astype(np.int32)
    table = rng.normal(size=(D_SAE, D_IN)).astype(np.float32)
    out = rng.normal(size=(6, D_IN)).astype(np.float32)
    one_hot = np.eye(D_SAE)[indices]  # (batch, k, rows)
    np.testing.assert_allclose(
        DECODE(values, indices, table), np.einsum("bk,bkr,rd->bd", values, one_hot, table), atol=1e-4
    )
    by_values, by_table = GRADIENTS(values, indices, table, out)
    np.testing.assert_allclose(by_values, np.einsum("bd,bkr,rd->bk", out, one_hot, table), atol=1e-4)
    np.testing.assert_allclose(by_table, np.einsum("bk,bkr,bd->rd", values, one_hot, out), atol=1e-4)


DECODE = jax.jit(decode_sparse)
GRADIENTS = jax.jit(
    lambda values, indices, table, out: jax.grad(
        lambda v, t: (out * decode_sparse(v, indices, t)).sum(), (0, 1)
    )(values, table)
)


@given(SEEDS)
def test_the_largest_are_encoded_in_order(seed):
    sae = example(seed)
    values, indices = encode_top(jnp.asarray(X), sae.W_enc, sae.b_enc, jnp.zeros(K))
    pre = X.astype(float) @ np.asarray(sae.W_enc) + np.asarray(sae.b_enc)
    np.testing.assert_allclose(values, -np.sort(-pre)[:, :K], atol=1e-4)
    np.testing.assert_allclose(values, np.take_along_axis(pre, np.asarray(indices), 1), atol=1e-4)


@pytest.mark.slow
def test_what_is_not_trained_stays():
    """The scale of inputs is a property of the data; thresholds of jumprelu do not go below nothing."""
    config = TrainConfig(steps=10, warmup=0, learning_rate=1.0, decay=0.0)
    sae_config = SAEConfig(D_IN, D_SAE, "jumprelu", normalize_activations="expected_average_only_in")
    run = init_run(sae_config, config, X, key=jax.random.key(0))
    after, _ = eqx.filter_jit(step)(run, jnp.asarray(X), config)
    assert float(after.sae.scale) == float(run.sae.scale)
    assert float(after.sae.threshold.min()) >= 0 and isinstance(after.sae, SAE)
    assert not np.array_equal(after.sae.W_enc, run.sae.W_enc)
    assert dataclasses.asdict(after.sae.config) == dataclasses.asdict(sae_config)
