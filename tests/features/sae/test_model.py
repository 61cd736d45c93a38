"""Autoencoders in double precision, for every activation and normalization; firings and bad activations."""

import dataclasses
import itertools

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import features
from features.sae.config import ACTIVATIONS, NORMALIZATIONS, SAEConfig, TrainConfig
from features.sae.model import (
    SAE,
    check_activations,
    decode,
    encode,
    firings,
    fold_scale,
    init,
    keep_top_of_batch,
    normalize,
    reconstruct,
)

SEEDS = st.integers(0, 2**32 - 1)
D_IN, D_SAE, K = 5, 9, 3


def example(seed, activation="relu", mode="none", subtract=True):
    """An autoencoder whose weights have nothing to do with one another."""
    rng = np.random.default_rng(seed)
    needs_k = activation in {"topk", "batchtopk"}
    config = SAEConfig(D_IN, D_SAE, activation, K if needs_k else None, subtract, mode)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    threshold = {"jumprelu": jnp.abs(draw(D_SAE)), "batchtopk": jnp.abs(draw())}.get(activation)
    scale = jnp.asarray(rng.uniform(0.5, 3), jnp.float32) if mode == "expected_average_only_in" else None
    return SAE(draw(D_IN, D_SAE), draw(D_SAE), draw(D_SAE, D_IN), draw(D_IN), threshold, scale, config)


def plain(sae, x):
    """Latents and reconstruction from the formulas."""
    config, x = sae.config, x.astype(float)
    W_enc, b_enc, W_dec, b_dec = (np.asarray(w, float) for w in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec))
    mean, factor = 0.0, 1.0
    if config.normalize_activations == "expected_average_only_in":
        factor = 1 / float(sae.scale)
    elif config.normalize_activations == "constant_norm_rescale":
        factor = np.linalg.norm(x, axis=-1, keepdims=True) / np.sqrt(D_IN)
    elif config.normalize_activations == "layer_norm":
        mean, factor = x.mean(-1, keepdims=True), x.std(-1, ddof=1, keepdims=True) + 1e-5
    seen = (x - mean) / factor
    pre = (seen - b_dec * config.apply_b_dec_to_input) @ W_enc + b_enc
    latents = np.maximum(pre, 0)
    if config.activation == "topk":
        latents = np.where(pre >= -np.sort(-pre, axis=-1)[..., K - 1 : K], latents, 0)
    elif config.activation != "relu":
        latents = np.where(pre > np.asarray(sae.threshold), latents, 0)
    return latents, (latents @ W_dec + b_dec) * factor + mean


@pytest.mark.parametrize(
    ("activation", "mode"),
    [
        # One of the two as plain as can be; the other pairs are slow ones.
        pair if "relu" in pair or "none" in pair else pytest.param(*pair, marks=pytest.mark.slow)
        for pair in itertools.product(ACTIVATIONS, NORMALIZATIONS)
    ],
)
def test_latents_and_reconstructions_are_those_of_the_formulas(activation, mode):
    for seed in range(2):
        sae = example(seed, activation, mode, subtract=bool(seed))
        x = np.random.default_rng(seed).normal(size=(40, D_IN)).astype(np.float32)
        latents, out = plain(sae, x)
        np.testing.assert_allclose(encode(sae, x), latents, atol=2e-4)
        np.testing.assert_allclose(reconstruct(sae, x), out, atol=1e-3)
        np.testing.assert_allclose(
            decode(sae, latents.astype(np.float32), normalize(sae, x)[1]), out, atol=1e-3
        )
        # Each token by itself, whatever the shape of the batch.
        np.testing.assert_allclose(encode(sae, x.reshape(4, 2, 5, D_IN)).reshape(40, -1), latents, atol=2e-4)


def test_folding_the_scale_changes_nothing_but_the_weights():
    x = np.random.default_rng(0).normal(size=(40, D_IN)).astype(np.float32)
    for seed, activation in enumerate(ACTIVATIONS):
        sae = example(seed, activation, "expected_average_only_in")
        folded = fold_scale(sae)
        assert folded.scale is None and folded.config.normalize_activations == "none"
        np.testing.assert_allclose(encode(folded, x), encode(sae, x), atol=1e-3)
        np.testing.assert_allclose(reconstruct(folded, x), reconstruct(sae, x), atol=1e-3)
        chex.assert_trees_all_equal(fold_scale(folded), folded)


TOP_OF_BATCH = jax.jit(keep_top_of_batch, static_argnums=1)


@given(
    SEEDS,
    st.sampled_from([1, 4]),
    st.sampled_from(["normal", "ties", "negative", "few"]),
    st.integers(-60, 60),
)
def test_the_top_of_a_batch_is_cut_at_one_value(seed, k, kind, power):
    rng = np.random.default_rng(seed)
    pre = rng.normal(size=(8, D_SAE))
    pre = {"normal": pre, "ties": np.round(pre), "negative": -np.abs(pre), "few": pre - 1.5}[kind]
    pre = (pre * 2.0**power).astype(np.float32)
    kept, least = (np.asarray(part) for part in TOP_OF_BATCH(pre, k))
    np.testing.assert_array_equal(kept, np.where(pre > max(least, 0), pre, 0))
    positive = np.sort(pre[pre > 0])[::-1]
    assert (kept > 0).sum() >= min(8 * k, len(positive))
    if kind != "ties":  # equal values stay or go together
        assert (kept > 0).sum() <= 8 * k
    order = rng.permutation(8)
    np.testing.assert_array_equal(TOP_OF_BATCH(pre[order], k)[0], kept[order])


def test_a_new_autoencoder_is_tied_and_its_rows_are_units():
    for activation in ACTIVATIONS:
        config = example(0, activation, "expected_average_only_in").config
        sae = init(config, key=jax.random.key(1), b_enc=-0.03, b_dec=np.arange(D_IN))
        np.testing.assert_array_equal(sae.W_enc, sae.W_dec.T)
        np.testing.assert_allclose(jnp.linalg.norm(sae.W_dec, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(sae.b_enc, -0.03)
        np.testing.assert_array_equal(sae.b_dec, np.arange(D_IN))
        assert (sae.threshold is None) == (activation in {"relu", "topk"}) and float(sae.scale) == 1


@given(SEEDS, st.integers(1, 30), st.sampled_from([0.0, 1e-6, 0.4]))
def test_firings_are_triples_of_what_is_above_the_floor(seed, tokens, floor):
    sae = example(0)
    x = np.random.default_rng(seed).normal(size=(tokens, D_IN)).astype(np.float32)
    latents = plain(sae, x)[0]
    if (np.abs(latents - floor) < 1e-4).any() and floor:
        return  # too near to the floor to say
    found = firings(sae, x, batch=7, floor=floor)
    token, latent = np.nonzero(latents > floor)
    np.testing.assert_array_equal(found.token, token)
    np.testing.assert_array_equal(found.latent, latent)
    np.testing.assert_allclose(found.value, latents[token, latent], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8])
def test_numbers_of_any_type_are_activations(dtype):
    x = (10 * np.abs(np.random.default_rng(0).normal(size=(20, D_IN)))).astype(dtype)
    found = firings(example(0), x)
    chex.assert_trees_all_close(found, firings(example(0), x.astype(np.float32)), atol=1e-3)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 4)), "4 wide, but the SAE reads d_in=5"),
        (np.zeros(5), r"shape \(5,\), expected \(tokens, d_in=5\)"),
        (np.zeros((0, 5)), "there are no activations"),
        (np.full((3, 5), 2.5), r"constant \(2.5\)"),
        (np.where(np.arange(4)[:, None] == 2, -np.inf, np.ones((4, 5))), "not finite: first in row 2"),
        (np.ones((3, 5)) * 1j, "complex128, expected real numbers"),
        (np.full((3, 5), "a"), "expected real numbers"),
        (np.full((3, 5), None), "object, expected real numbers"),
    ],
)
def test_activations_that_are_none_are_named(x, message):
    for function in (firings, features.evaluate):
        with pytest.raises(ValueError, match=message):
            function(example(0), x)
    with pytest.raises(ValueError, match=message):
        check_activations(SAEConfig(5, 2), x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_in": 0}, "d_in=0: expected a positive integer"),
        ({"d_sae": 2.0}, "d_sae=2.0: expected a positive integer"),
        ({"activation": "topk"}, "k=None: topk needs 1 <= k <= d_sae=9"),
        ({"activation": "batchtopk", "k": 10}, "k=10: batchtopk needs"),
        ({"activation": "topk", "k": 1.5}, "k=1.5: topk needs"),
        ({"activation": "jumprelu", "k": 2}, "only topk and batchtopk have one, not jumprelu"),
        ({"normalize_activations": "zscore"}, "expected one of none, expected_average_only_in"),
    ],
)
def test_settings_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SAEConfig(D_IN, D_SAE), **change)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0}, {"batch": 0}, {"chunk": -1}, {"dead_after": 0}, {"p": 0.0}, {"p": 1.1}, {"decay": -0.1},
        {"decay": 1.1}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"sparsity": -1.0},
        {"warmup": -1}, {"sparsity_warmup": -1}, {"beta1": 1.0}, {"beta2": -0.1}, {"weight_decay": -1.0},
        {"aux_weight": -1.0}, {"aux_k": 0}, {"bandwidth": 0.0}, {"microbatch": 0}, {"b_dec_init": "middle"},
        {"products": "fast"},
    ],
    ids=str,
)  # fmt: skip
def test_training_settings_out_of_range_are_named(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        TrainConfig(**change)


def test_settings_are_part_of_the_program_not_of_the_arrays():
    """Two autoencoders of one shape and kind share a compiled program."""
    traced = chex.assert_max_traces(lambda sae, x: encode(sae, x), n=1)
    run = eqx.filter_jit(traced)
    x = np.ones((4, D_IN), np.float32)
    for seed in range(3):
        run(example(seed), x)
