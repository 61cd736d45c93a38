"""Autoencoders: forward passes, gradients, training, resuming, files."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import features
from features.sae import checkpoints
from features.sae.activations import CachedActivations, FreshSamples, StreamedActivations
from features.sae.config import SAEConfig
from features.sae.model import (
    SAE,
    activate,
    encode,
    firings,
    fold_scale,
    init,
    keep_top_of_batch,
    normalize,
    pre_activations,
    reconstruct,
)
from features.sae.sparse_products import decode_sparse, encode_top
from features.sae.step import (
    TrainConfig,
    _count,
    _jump,
    _run_chunk,
    init_run,
    loss,
    resample,
    step,
)
from features.sae.storage import load_sae, save_sae
from features.sae.train import train
from features.synthetic.planted import toy_circles

KINDS = {"relu": None, "topk": 3, "batchtopk": 3, "jumprelu": None}
X = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)


def example(kind="relu", **more) -> SAE:
    sae = init(SAEConfig(6, 20, kind, KINDS[kind], **more), key=jax.random.key(0), b_dec=jnp.arange(6) / 10)
    return eqx.tree_at(lambda s: s.b_enc, sae, 0.1 * jax.random.normal(jax.random.key(1), (20,)))


def test_relu_by_hand():
    sae = example()
    latents = np.maximum((X - np.arange(6) / 10) @ np.asarray(sae.W_enc) + np.asarray(sae.b_enc), 0)
    np.testing.assert_allclose(encode(sae, X), latents, atol=1e-5)
    np.testing.assert_allclose(
        reconstruct(sae, X), latents @ np.asarray(sae.W_dec) + np.arange(6) / 10, atol=1e-5
    )


def test_topk_keeps_k_and_jumprelu_what_passes():
    assert set(np.asarray((encode(example("topk"), X) > 0).sum(1)).tolist()) <= {1, 2, 3}
    sae = eqx.tree_at(lambda s: s.threshold, example("jumprelu"), jnp.full(20, 0.5))
    latents = np.asarray(encode(sae, X))
    assert (latents[latents > 0] > 0.5).all() and (latents > 0).any()


def test_batchtopk_keeps_k_per_token_on_average():
    kept, least = keep_top_of_batch(jnp.asarray(X), 2)
    assert int((kept > 0).sum()) == 400
    assert float(kept[kept > 0].min()) > float(least)


@pytest.mark.parametrize("mode", ["none", "expected_average_only_in", "constant_norm_rescale", "layer_norm"])
def test_normalizations_are_undone(mode):
    sae = example(normalize_activations=mode)
    if sae.scale is not None:
        sae = eqx.tree_at(lambda s: s.scale, sae, jnp.asarray(2.5))
    seen, undo = normalize(sae, jnp.asarray(X))
    np.testing.assert_allclose(seen * undo.factor + undo.mean, X, atol=1e-3)
    if mode == "constant_norm_rescale":
        np.testing.assert_allclose(jnp.linalg.norm(seen, axis=1), np.sqrt(6), rtol=1e-5)
    if mode == "expected_average_only_in":
        np.testing.assert_allclose(reconstruct(fold_scale(sae), X), reconstruct(sae, X), atol=1e-4)
        np.testing.assert_allclose(encode(fold_scale(sae), X), encode(sae, X), atol=1e-4)


def test_sparse_products_are_the_dense_ones():
    sae, x = example("topk"), jnp.asarray(X)

    def dense(W_enc, b_enc, W_dec, x):
        values, indices = jax.lax.top_k(x @ W_enc + b_enc[None], 3)
        latents = jnp.zeros((200, 20)).at[jnp.arange(200)[:, None], indices].set(jax.nn.relu(values))
        return jnp.sin(latents @ W_dec).sum()

    def sparse(W_enc, b_enc, W_dec, x):
        values, indices = encode_top(x, W_enc, b_enc, jnp.zeros(3))
        return jnp.sin(decode_sparse(jax.nn.relu(values), indices, W_dec)).sum()

    arguments = (sae.W_enc, sae.b_enc, sae.W_dec, x)
    for a, b in zip(
        jax.grad(sparse, (0, 1, 2, 3))(*arguments), jax.grad(dense, (0, 1, 2, 3))(*arguments), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_jumprelu_gradients_are_the_published_ones():
    """-(theta / bw) within half a bandwidth of the threshold, -(1 / bw) through the count."""
    pre = jnp.array([[0.98], [1.01], [1.2], [0.5]])
    theta = jnp.array([1.0])
    through = jax.grad(lambda t: jnp.asarray(_jump(pre, t, 0.05)).sum())(theta)
    np.testing.assert_allclose(through, -2 * 1.0 / 0.05, rtol=1e-5)
    np.testing.assert_allclose(
        jax.grad(lambda t: jnp.asarray(_count(pre, t, 0.05)).sum())(theta), -2 / 0.05, rtol=1e-5
    )
    by_value = jax.grad(lambda p: jnp.asarray(_jump(p, theta, 0.05)).sum())(pre)
    np.testing.assert_array_equal(by_value, [[0], [1], [1], [0]])


@pytest.mark.parametrize(
    ("kind", "products"), [("topk", "sparse"), *((kind, "dense") for kind in sorted(KINDS))]
)
def test_training_lowers_the_loss(kind, products):
    rng = np.random.default_rng(1)
    x = toy_circles(rng, 4000)
    config = TrainConfig(
        steps=300, batch=128, warmup=20, learning_rate=3e-3, sparsity=0.02, chunk=100, dead_after=50,
        products=products, p=0.5 if kind == "relu" else 1.0,
    )  # fmt: skip
    k = None if KINDS[kind] is None else 2
    trained = train(CachedActivations(x), SAEConfig(10, 32, kind, k), config, key=jax.random.key(0))
    assert trained.history.fve[-20:].mean() > 0.9 > trained.history.fve[:5].mean()
    np.testing.assert_allclose(jnp.linalg.norm(trained.sae.W_dec, axis=1), 1, atol=1e-5)
    quality = features.evaluate(trained.sae, x)
    assert quality.fve > 0.85 and 0 < quality.l0 < 12
    if kind == "batchtopk":
        assert abs(quality.l0 - 2) < 1


def test_sparse_and_dense_training_agree():
    x = toy_circles(np.random.default_rng(2), 2000)
    ends = []
    for products in ("sparse", "dense"):
        config = TrainConfig(steps=40, batch=64, chunk=20, products=products, dead_after=5)
        ends.append(train(CachedActivations(x), SAEConfig(10, 24, "topk", 2), config, key=jax.random.key(0)))
    np.testing.assert_allclose(ends[0].history.loss, ends[1].history.loss, rtol=1e-3)
    np.testing.assert_allclose(ends[0].sae.W_dec, ends[1].sae.W_dec, atol=1e-3)


def test_aux_loss_revives_dead_latents():
    x = toy_circles(np.random.default_rng(3), 4000)
    alive = []
    for weight in (0.0, 1.0):
        config = TrainConfig(steps=600, batch=64, chunk=100, dead_after=30, aux_weight=weight, aux_k=8,
                             learning_rate=3e-3, warmup=10)  # fmt: skip
        trained = train(CachedActivations(x), SAEConfig(10, 64, "topk", 1), config, key=jax.random.key(5))
        alive.append(1 - trained.history.dead[-1])
    assert alive[1] > alive[0]


def test_resampling_gives_dead_latents_new_directions():
    config = TrainConfig(steps=10, batch=64, dead_after=3)
    run = init_run(SAEConfig(6, 20), config, X, key=jax.random.key(0))
    run, _ = eqx.filter_jit(step)(run, jnp.asarray(X[:64]), config)
    run = run._replace(quiet=run.quiet.at[:5].set(9))
    after = resample(run, jnp.asarray(X), config, key=jax.random.key(1))
    assert (np.abs(after.sae.W_dec[:5] - run.sae.W_dec[:5]).sum(1) > 1e-3).all()
    np.testing.assert_array_equal(after.sae.W_dec[5:], run.sae.W_dec[5:])
    live = jnp.linalg.norm(run.sae.W_enc[:, 5:], axis=0).mean()
    np.testing.assert_allclose(jnp.linalg.norm(after.sae.W_enc[:, :5], axis=0), 0.2 * live, rtol=1e-4)
    np.testing.assert_array_equal(after.sae.b_enc[:5], 0)
    moments = [m for m in jax.tree.leaves(after.opt) if m.shape == (6, 20)]
    assert len(moments) == 2 and all((m[:, :5] == 0).all() and (m[:, 5:] != 0).any() for m in moments)


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    x = toy_circles(np.random.default_rng(4), 500)
    config = TrainConfig(steps=60, batch=32, chunk=20, resample_at=(30,), dead_after=5)
    sae_config = SAEConfig(10, 24, "topk", 2)
    whole = train(CachedActivations(x), sae_config, config, key=jax.random.key(0))

    class StopError(Exception):
        pass

    def stop(run, info):
        if int(run.step) == 40:
            raise StopError

    with pytest.raises(StopError):
        train(
            CachedActivations(x),
            sae_config,
            config,
            key=jax.random.key(0),
            checkpoint=tmp_path / "c",
            on_chunk=stop,
        )
    seen = []
    resumed = train(
        CachedActivations(x), sae_config, config, key=jax.random.key(0), checkpoint=tmp_path / "c", resume=True,
        on_chunk=lambda run, info: seen.append(int(run.step)),
    )  # fmt: skip
    assert seen == [60]
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="other settings or another seed, or "):
        train(
            CachedActivations(x),
            sae_config,
            config,
            key=jax.random.key(1),
            checkpoint=tmp_path / "c",
            resume=True,
        )
    other = dataclasses.replace(config, sparsity=9.0)
    assert checkpoints.identity(sae_config, config, jax.random.key(0), x) != checkpoints.identity(
        sae_config, other, jax.random.key(0), x
    )
    with pytest.raises(ValueError, match="from other data"):
        train(CachedActivations(x[::-1]), sae_config, config, key=jax.random.key(0),
              checkpoint=tmp_path / "c", resume=True)  # fmt: skip
    with pytest.raises(ValueError, match="holds a training already"):
        train(CachedActivations(x), sae_config, config, key=jax.random.key(0), checkpoint=tmp_path / "c")


def test_sources_depend_on_the_step_alone():
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    cached = CachedActivations(x, seed=3)
    whole = cached.batches(0, 6, 8)
    np.testing.assert_array_equal(cached.batches(3, 2, 8), whole[3:5])
    first = np.concatenate(whole[:2].tolist() + whole[2:3, :4].tolist())
    assert sorted(first[:, 0].tolist()) == x[:, 0].tolist()  # an epoch holds every row once
    tokens = np.arange(24).reshape(6, 4)
    calls = []

    def run(batch):
        calls.append(batch.shape)
        return jnp.stack([batch, -batch], -1).astype(jnp.float32)

    stream = StreamedActivations(run, tokens, 2, buffer=4, run_batch=2)
    whole = stream.batches(0, 8, 6)
    again = StreamedActivations(run, tokens, 2, buffer=4, run_batch=2)
    np.testing.assert_array_equal(again.batches(5, 3, 6), whole[5:])
    assert set(calls) == {(2, 4)}
    assert 0 not in whole[:, :, 0]  # first positions are left out
    fresh = FreshSamples(toy_circles, 10)
    np.testing.assert_array_equal(fresh.batches(2, 1, 4)[0], fresh.batches(0, 3, 4)[2])
    for source in (cached, stream, fresh):
        assert "width" in source.plan(8)


def test_firings_are_the_nonzero_latents():
    sae = example("topk")
    found = firings(sae, X, batch=64)
    dense = np.zeros((200, 20), np.float32)
    dense[found.token, found.latent] = found.value
    np.testing.assert_allclose(dense, encode(sae, X), atol=1e-6)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    """Whatever this machine is: what is left open is decided for the platform that is asked for."""
    for kind, k in KINDS.items():
        config = TrainConfig(steps=100, batch=16).on(platform)
        assert config.on("another") == config and config.products == (
            "sparse" if platform == "cpu" else "dense"
        )
        run = init_run(SAEConfig(6, 20, kind, k), config, X, key=jax.random.key(0))
        arrays, static = eqx.partition(run, eqx.is_array)

        def chunk(arrays, x, static=static, config=config):
            after, info = _run_chunk.__wrapped__(config, eqx.combine(arrays, static), x)
            return eqx.filter(after, eqx.is_array), info

        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)
        batches = jax.ShapeDtypeStruct((4, 16, 6), jnp.float32)
        jax.export.export(jax.jit(chunk), platforms=[platform])(shapes, batches)


@pytest.mark.parametrize("kind", ["relu", "topk", "jumprelu"])
def test_files_come_back_as_they_were(kind, tmp_path):
    sae = example(kind, apply_b_dec_to_input=False, normalize_activations="layer_norm", hook_name="blocks.3")
    folder = save_sae(sae, tmp_path / "sae", frequency=np.full(20, 0.01))
    back = load_sae(folder)
    assert back.config == sae.config
    np.testing.assert_array_equal(encode(back, X), encode(sae, X))
    save_sae(sae, tmp_path / "sae")  # again: replaced
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sae"]


def test_a_batchtopk_is_read_back_as_the_jumprelu_it_became(tmp_path):
    sae = eqx.tree_at(lambda s: s.threshold, example("batchtopk"), jnp.asarray(0.3))
    back = load_sae(save_sae(sae, tmp_path / "sae"))
    assert back.config.activation == "jumprelu"
    np.testing.assert_array_equal(encode(back, X), encode(sae, X))


def write(folder, settings, tensors, name="sae_weights.safetensors"):
    from safetensors.numpy import save_file

    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(settings))
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / name)
    return folder


def tensors_of(sae):
    return {n: np.asarray(getattr(sae, n)) for n in ("W_enc", "b_enc", "W_dec", "b_dec")}


def test_old_saelens_folders(tmp_path):
    """Renamed keys, missing defaults, a boolean normalization, k among the activation's arguments."""
    sae = example()
    old = {
        "hook_point": "blocks.7.hook_resid_pre", "d_in": 6, "d_sae": 20, "dtype": "torch.float32",
        "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}, "normalize_activations": True,
    }  # fmt: skip
    factor = {"scaling_factor": np.ones(20, np.float32)}
    with pytest.warns(UserWarning, match="does not say by what"):
        found = load_sae(write(tmp_path / "a", old, {**tensors_of(sae), **factor})).config
    assert found.hook_name == "blocks.7.hook_resid_pre" and found.activation == "topk" and found.k == 4
    assert found.apply_b_dec_to_input and found.normalize_activations == "expected_average_only_in"
    mistral = {"activation_fn_str": "relu", "apply_b_dec_to_input": False, "normalize_activations": False}
    found = load_sae(write(tmp_path / "b", mistral, tensors_of(sae))).config
    assert not found.apply_b_dec_to_input and found.normalize_activations == "none"
    jump = {"architecture": "jumprelu", "metadata": {"hook_name": "x", "model_name": "m"}}
    logs = {"log_threshold": np.full(20, np.log(0.5), np.float32)}
    read = load_sae(write(tmp_path / "c", jump, {**tensors_of(sae), **logs}))
    np.testing.assert_allclose(read.threshold, 0.5, rtol=1e-6)
    assert (read.config.hook_name, read.config.model_name) == ("x", "m")


def test_gemmascope_and_eleuther(tmp_path):
    sae = example("jumprelu")
    t = tensors_of(sae)
    np.savez(tmp_path / "params.npz", w_enc=t["W_enc"], w_dec=t["W_dec"], b_enc=t["b_enc"], b_dec=t["b_dec"],
             threshold=np.asarray(sae.threshold))  # fmt: skip
    read = load_sae(tmp_path / "params.npz")
    expected = dataclasses.replace(sae.config, apply_b_dec_to_input=False)
    np.testing.assert_array_equal(
        encode(read, X),
        encode(SAE(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, sae.threshold, None, expected), X),
    )
    assert load_sae(tmp_path).config == read.config
    top = example("topk")
    t = tensors_of(top)
    renamed = {
        "encoder.weight": t["W_enc"].T,
        "encoder.bias": t["b_enc"],
        "W_dec": t["W_dec"],
        "b_dec": t["b_dec"],
    }
    folder = write(tmp_path / "e", {"k": 3, "num_latents": 20, "d_in": 6}, renamed, "sae.safetensors")
    np.testing.assert_array_equal(encode(load_sae(folder), X), encode(top, X))


def test_bad_files_are_named(tmp_path):
    sae = example()
    t = tensors_of(sae)
    cases = [
        ({"architecture": "gated"}, t, "architecture 'gated'; supported are"),
        ({"d_in": 7}, t, "d_in is 7, but W_enc says 6"),
        ({"architecture": "topk"}, t, "needs the key 'k'"),
        ({"architecture": "jumprelu"}, t, "tensor 'threshold' is missing"),
        ({}, {**t, "b_enc": t["b_enc"][:-1]}, r"'b_enc' has shape \(19,\), expected \(20,\)"),
        ({}, {n: v for n, v in t.items() if n != "b_dec"}, "tensor 'b_dec' is missing"),
        ({}, {**t, "b_dec": np.full(6, np.nan, np.float32)}, "'b_dec' is not finite"),
        ({"normalize_activations": "zscore"}, t, "normalize_activations 'zscore'"),
    ]
    for number, (settings, tensors, message) in enumerate(cases):
        with pytest.raises(ValueError, match=message):
            load_sae(write(tmp_path / str(number), settings, tensors))
    (tmp_path / "sae.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match="pickle"):
        load_sae(tmp_path / "sae.pt")
    with pytest.raises(ValueError, match=r"cfg.json is missing; \['sae.pt'\] are pickles"):
        load_sae(tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        load_sae(tmp_path / "nothing")
    (tmp_path / "bad.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="no npz of plain arrays"):
        load_sae(tmp_path / "bad.npz")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("x")
    with pytest.raises(ValueError, match="no SAELens folder"):
        save_sae(sae, tmp_path / "full")


def test_bad_activations_and_settings():
    sae = example()
    for x, message in (
        (X[:, :5], "5 wide, but the SAE reads d_in=6"),
        (np.where(np.arange(200)[:, None] == 7, np.nan, X), "first in row 7"),
        (np.ones((30, 6)), "constant"),
        (X[0], "shape"),
        (X[:0], "no activations"),
    ):
        with pytest.raises(ValueError, match=message):
            features.evaluate(sae, x)
    with pytest.raises(ValueError, match="6 wide, but the SAE reads d_in=7"):
        train(CachedActivations(X), SAEConfig(7, 8), key=jax.random.key(0))
    for kwargs, message in (
        ({"activation": "topk"}, "needs 1 <= k"),
        ({"k": 3}, "only topk"),
        ({"activation": "gelu"}, "expected one of relu, topk"),
        ({"normalize_activations": "x"}, "expected one of none"),
    ):
        with pytest.raises(ValueError, match=message):
            SAEConfig(6, 20, **kwargs)
    for kwargs in ({"p": 0.0}, {"steps": 0}, {"decay": 2.0}, {"learning_rate": -1.0}):
        with pytest.raises(ValueError):
            TrainConfig(**kwargs)


def test_losses_use_the_dead():
    """The auxiliary loss is there only where a latent is dead."""
    config = TrainConfig(steps=10, batch=64, dead_after=3, aux_k=4)
    run = init_run(SAEConfig(6, 20, "topk", 3), config, X, key=jax.random.key(0))
    quiet = run.quiet.at[:6].set(9)
    x = jnp.asarray(X[:64])
    alive, dead = (float(loss(run.sae, x, q, run.step, config)[0]) for q in (run.quiet, quiet))
    assert dead > alive
    np.testing.assert_allclose(activate(run.sae, pre_activations(run.sae, x)), encode(run.sae, x))


def test_the_models_loss_recovered(smollm2):
    """A perfect autoencoder loses nothing, an empty one everything."""
    width = smollm2.decoder.config.width
    rows = jnp.asarray(
        [smollm2.tokenizer.encode("The meeting is on Monday, and the next one is on Tuesday.")]
    )
    eye = jnp.eye(width)
    both = SAE(
        jnp.concatenate([eye, -eye], 1), jnp.zeros(2 * width), jnp.concatenate([eye, -eye]), jnp.zeros(width), None, None,
        SAEConfig(width, 2 * width),
    )  # fmt: skip
    assert features.loss_recovered(smollm2.decoder, both, rows, 6).share == pytest.approx(1, abs=1e-3)
    nothing = eqx.tree_at(lambda s: s.W_dec, both, 0 * both.W_dec)
    found = features.loss_recovered(smollm2.decoder, nothing, rows, 6)
    assert found.share == pytest.approx(0, abs=1e-3) and found.zeroed > found.clean + 1


def test_quality_does_not_depend_on_the_batch():
    x = np.sort(np.random.default_rng(5).normal(size=(300, 6)).astype(np.float32), axis=0)
    whole, parts = (features.evaluate(example(), x, batch=b) for b in (300, 128))
    assert whole.fve == pytest.approx(parts.fve, abs=1e-5) and whole.mse == pytest.approx(parts.mse, rel=1e-5)


def test_zero_vectors_and_infinite_losses():
    x = X.copy()
    x[3] = 0
    sae = example(normalize_activations="constant_norm_rescale")
    assert np.isfinite(features.evaluate(sae, x).fve)
    config = TrainConfig(steps=20, batch=64, chunk=10, warmup=0, learning_rate=1e30, unit_norm=False)
    with pytest.raises(FloatingPointError, match="not finite from step"):
        train(CachedActivations(x), SAEConfig(6, 20), config, key=jax.random.key(0))


def test_files_that_say_more_than_we_do_are_refused(tmp_path):
    sae = example()
    t = tensors_of(sae)
    for number, (settings, tensors, message) in enumerate((
        ({"reshape_activations": "hook_z"}, t, "hook_z"),
        ({"rescale_acts_by_decoder_norm": True}, {**t, "W_dec": 2 * t["W_dec"]}, "fold the norms"),
        ({"architecture": "topk", "k": "x"}, t, "found 'x'"),
    )):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            load_sae(write(tmp_path / str(number), settings, tensors))
    load_sae(write(tmp_path / "unit", {"rescale_acts_by_decoder_norm": True}, t))
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file"):
        save_sae(sae, tmp_path / "file")
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("x.npz", "empty.npz"):
        with pytest.raises(ValueError, match="no npz"):
            load_sae(tmp_path / name)
