"""Decoders: Hugging Face's numbers, padding, prefixes, edits, devices, accelerators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import features
from benchmarks.features_hf import FAMILIES, TOKENS, ours, theirs, write_model
from features.lm.assemble import assemble
from features.lm.config import DecoderConfig
from features.lm.decoder import (
    Prefix,
    Stream,
    advance,
    embed,
    forward,
    init,
    record,
    residual,
    residuals,
    trace,
    unembed,
)
from features.lm.edits import Ablate, Both, Patch, Steer
from features.lm.hf_folder import HFSource
from tests.conftest import DATA

SMALL = DecoderConfig(
    num_layers=3, width=16, num_heads=4, num_kv_heads=2, head_size=8, mlp_width=24, vocab_size=40, context=32
)


@pytest.fixture(scope="module")
def small():
    return init(SMALL, key=jax.random.key(0))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_recorded_logits_of_transformers(family, tmp_path):
    logits, _ = ours(write_model(tmp_path, FAMILIES[family]))
    with np.load(DATA / "features_hf.npz") as recorded:
        np.testing.assert_allclose(logits, recorded[family], atol=2e-5)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_transformers_itself(family, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    folder = write_model(tmp_path, FAMILIES[family])
    (logits, states), (their_logits, their_states) = ours(folder), theirs(folder)
    np.testing.assert_allclose(logits, their_logits, atol=2e-5)
    np.testing.assert_allclose(states[:-1], their_states, atol=2e-5)


def test_the_window_and_the_scaling_matter(tmp_path):
    """The records would not notice their absence otherwise."""
    for family, key in (("mistral", "sliding_window"), ("llama3", "rope_scaling")):
        folder = write_model(tmp_path / family, FAMILIES[family])
        with_it = ours(folder)[0]
        write_model(folder, {k: v for k, v in FAMILIES[family].items() if k != key})
        assert np.abs(ours(folder)[0] - with_it).max() > 1e-3


def test_left_padding_changes_nothing(small):
    tokens = jnp.asarray(TOKENS)
    padded = jnp.concatenate([jnp.full((1, 3), 9), tokens], 1)
    mask = jnp.arange(15)[None] >= 3
    np.testing.assert_allclose(forward(small, padded, mask)[:, 3:], forward(small, tokens), atol=2e-5)
    assert bool(jnp.isfinite(forward(small, padded, mask)).all())


def test_a_prefix_takes_the_place_of_its_tokens(small):
    tokens = jnp.asarray(TOKENS)
    found = trace(small, embed(small, tokens))
    whole = jnp.ones((1, 12), bool)
    prefix = Prefix(found.key[:, :, :5], found.value[:, :, :5], whole[:, :5])
    for layer in range(3):
        stream = Stream(found.residuals[layer][:, 5:], jnp.arange(5, 12)[None], whole[:, 5:], prefix)
        np.testing.assert_allclose(advance(small, stream, layer, 3).x, found.residuals[3][:, 5:], atol=2e-5)


def test_residual_states_stop_where_they_are_asked_for(small):
    tokens = jnp.asarray(TOKENS)
    states = residuals(small, tokens)
    assert states.shape == (4, 1, 12, 16)
    for layer in range(4):
        np.testing.assert_allclose(residual(small, tokens, jnp.asarray(layer)), states[layer], atol=2e-5)
    np.testing.assert_allclose(unembed(small, states[3]), forward(small, tokens), atol=2e-5)


def test_one_program_for_all_layers(small):
    traces = []

    @jax.jit
    def at(layer):
        traces.append(1)
        return residual(small, jnp.asarray(TOKENS), layer)

    for layer in range(3):
        at(jnp.asarray(layer))
    assert len(traces) == 1


def test_edits(small):
    tokens = jnp.tile(jnp.asarray(TOKENS), (2, 1))
    states = residuals(small, tokens)
    value = jnp.stack([jnp.ones(16), -jnp.ones(16)])
    patch = Patch(jnp.asarray(1), jnp.asarray(4), value)
    patched = residuals(small, tokens, None, patch)
    np.testing.assert_allclose(patched[1][:, 4], value)
    np.testing.assert_allclose(patched[1][:, :4], states[1][:, :4], atol=1e-6)
    np.testing.assert_allclose(patched[0], states[0])
    assert np.abs(patched[3][:, 5:] - states[3][:, 5:]).max() > 1e-3  # later tokens see it
    np.testing.assert_allclose(patched[3][:, :4], states[3][:, :4], atol=1e-6)  # earlier ones don't

    steered = residuals(small, tokens, None, Steer(jnp.asarray(2), jnp.ones(16)))
    np.testing.assert_allclose(steered[2], states[2] + 1, atol=1e-5)
    basis = jnp.eye(16)[:2]
    ablated = residuals(small, tokens, None, Ablate(jnp.asarray(2), jnp.full(16, 5.0), basis, jnp.asarray(3)))
    np.testing.assert_allclose(ablated[2][:, 3, :2], 5.0, atol=1e-5)
    np.testing.assert_allclose(ablated[2][:, 3, 2:], states[2][:, 3, 2:], atol=1e-5)
    np.testing.assert_allclose(ablated[2][:, :3], states[2][:, :3], atol=1e-6)
    both = residuals(small, tokens, None, Both([patch, Steer(jnp.asarray(1), jnp.ones(16))]))
    np.testing.assert_allclose(both[1][:, 4], value + 1, atol=1e-6)


@pytest.mark.parametrize("site", ["attn", "mlp", "heads"])
def test_patching_a_component_with_itself_changes_nothing(small, site):
    tokens = jnp.asarray(TOKENS)
    kept = record(small, tokens, None, site)
    assert kept.shape[:3] == (3, 1, 12)
    edit = Patch(jnp.asarray(1), jnp.asarray(4), kept[1][:, 4], site)
    np.testing.assert_allclose(forward(small, tokens, None, edit), forward(small, tokens), atol=1e-5)
    other = Patch(jnp.asarray(1), jnp.asarray(4), 1 + kept[1][:, 4], site)
    assert np.abs(forward(small, tokens, None, other) - forward(small, tokens)).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_kv_heads": 3}, "multiple of num_kv_heads"),
        ({"head_size": 7}, "even"),
        ({"num_layers": 0}, "positive integer"),
        ({"window": 0}, "window=0"),
    ],
)
def test_bad_settings(change, message):
    import dataclasses

    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def test_lowers_for_accelerators(small):
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), small)
    tokens = jax.ShapeDtypeStruct((2, 12), jnp.int32)
    layer = jax.ShapeDtypeStruct((), jnp.int32)

    def states(model, tokens, layer):
        return advance(model, embed(model, tokens), layer, SMALL.num_layers).x

    for function, arguments in (
        (lambda m, t: forward(m, t), (shapes, tokens)),
        (states, (shapes, tokens, layer)),
    ):
        jax.export.export(jax.jit(function), platforms=["cpu", "cuda", "tpu"])(*arguments)


def test_a_model_over_eight_devices(eight_devices, tmp_path):
    """Loaded onto a mesh, each device holding its part, with the logits of one device."""
    big = {**FAMILIES["llama"], "num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 64}
    write_model(tmp_path, big)
    code = f"""
import jax, numpy as np, jax.numpy as jnp
from benchmarks.features_hf import TOKENS
from features.lm.assemble import assemble, shard
from features.lm.decoder import forward
from features.lm.hf_folder import HFSource
source = HFSource(__import__("pathlib").Path({str(tmp_path)!r}))
alone = assemble(source, source.config())
for shape, parts in (((8,), 8), ((2, 4), 4)):
    mesh = jax.make_mesh(shape, ("data", "model")[-len(shape):])
    spread = assemble(source, source.config(), mesh=mesh)
    assert spread.blocks.up.weight.addressable_shards[0].data.shape == (2, 64 // parts, 24)
    assert spread.blocks.down.weight.addressable_shards[0].data.shape == (2, 24, 64 // parts)
    again = shard(alone, mesh)
    assert again.blocks.query.weight.sharding == spread.blocks.query.weight.sharding
    tokens = jnp.tile(jnp.asarray(TOKENS), (4, 1))
    np.testing.assert_allclose(forward(spread, tokens), forward(alone, tokens), atol=2e-5)
print("ok")
"""
    assert eight_devices(code).endswith("ok")


def test_bfloat16_weights(tmp_path):
    source = HFSource(write_model(tmp_path, FAMILIES["llama"]))
    model = assemble(source, source.config(), dtype=jnp.bfloat16)
    logits = forward(model, jnp.asarray(TOKENS))
    assert model.embedding.dtype == jnp.bfloat16 and logits.dtype == jnp.float32
    assert np.abs(np.asarray(logits[0]) - ours(tmp_path)[0]).max() < 0.3


def test_public_names_are_these():
    assert features.forward is forward and features.residuals is residuals


def test_a_model_over_two_processes(two_processes, tmp_path):
    """Each process reads and holds only the parts of its own devices."""
    big = {**FAMILIES["llama"], "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 64}
    write_model(tmp_path, big)
    two_processes(f"""
import sys
import jax
jax.distributed.initialize(f"localhost:{{sys.argv[1]}}", 2, int(sys.argv[2]))
import numpy as np
from jax.experimental import multihost_utils
from benchmarks.features_hf import TOKENS
from features.lm.assemble import assemble
from features.lm.decoder import forward
from features.lm.hf_folder import HFSource
source = HFSource(__import__("pathlib").Path({str(tmp_path)!r}))
spread = assemble(source, source.config(), mesh=jax.make_mesh((4,), ("model",)))
weight = spread.blocks.up.weight
assert len(weight.addressable_shards) == 2 and weight.addressable_shards[0].data.shape == (2, 16, 24)
found = multihost_utils.process_allgather(forward(spread, TOKENS), tiled=True)
alone = assemble(source, source.config())
np.testing.assert_allclose(found, forward(alone, TOKENS), atol=2e-5)
print("ok")
""")


def test_layers_tokens_and_contexts_are_checked(small):
    tokens = jnp.asarray(TOKENS)
    for layer in (-1, 4):
        with pytest.raises(ValueError, match=f"layer={layer}: expected 0 to 3"):
            residual(small, tokens, layer)
    for function in (forward, residuals):
        for bad, message in (
            (tokens + 40, "the vocabulary has 0 to 39"),
            (jnp.zeros((1, 33), int), "the model's context is 32"),
            (tokens[0], "expected integer ids"),
            (tokens.astype(float), "expected integer ids"),
        ):
            with pytest.raises(ValueError, match=message):
                function(small, bad)


def test_long_inputs_go_in_blocks_of_queries(small):
    """Attention in causal blocks is attention at once."""
    import dataclasses

    long = dataclasses.replace(SMALL, context=300)
    model = init(long, key=jax.random.key(0))
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 40, (2, 200)))
    whole = forward(model, tokens)
    np.testing.assert_allclose(forward(model, tokens[:, :50]), whole[:, :50], atol=2e-5)
