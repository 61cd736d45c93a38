"""Decoders: Hugging Face's numbers, padding, prefixes, edits, devices, accelerators."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import features
from benchmarks.features_hf import FAMILIES, TOKENS, ours, theirs, write_model
from features.lm.assemble import assemble
from features.lm.config import DecoderConfig, RopeScaling
from features.lm.decoder import (
    Prefix,
    Stream,
    _rotate,
    advance,
    embed,
    forward,
    init,
    record,
    residual,
    residuals,
    rope_frequencies,
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
    long = dataclasses.replace(SMALL, context=300)
    model = init(long, key=jax.random.key(0))
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 40, (2, 200)))
    whole = forward(model, tokens)
    np.testing.assert_allclose(forward(model, tokens[:, :50]), whole[:, :50], atol=2e-5)


def plain_frequencies(config):
    """Radians per token, stretched as Llama 3.1's published code says: by wavelength."""
    half = config.head_size // 2
    frequencies = config.rope_base ** (-np.arange(half) / half)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    found = []
    for frequency in frequencies:
        wavelength = 2 * np.pi / frequency
        if wavelength < scaling.original_context / scaling.high_freq_factor:
            found.append(frequency)
        elif wavelength > scaling.original_context / scaling.low_freq_factor:
            found.append(frequency / scaling.factor)
        else:
            smooth = (scaling.original_context / wavelength - scaling.low_freq_factor) / (
                scaling.high_freq_factor - scaling.low_freq_factor
            )
            found.append((1 - smooth) * frequency / scaling.factor + smooth * frequency)
    return np.array(found)


def plain_logits(model, tokens):
    """The transformer in double precision, one token and one head at a time."""
    config = model.config
    get = lambda leaf: np.asarray(leaf, float)  # noqa: E731
    blocks = model.blocks

    def norm(part, x, layer=None):
        if part.scale is None:
            return x
        x = x - x.mean() if config.norm == "layer" else x
        x = x / np.sqrt((x**2).mean() + config.norm_eps)
        pick = lambda leaf: get(leaf) if layer is None else get(leaf)[layer]  # noqa: E731
        x = x * pick(part.scale)
        return x if part.shift is None else x + pick(part.shift)

    def linear(part, layer, x):
        y = get(part.weight)[layer] @ x
        return y if part.bias is None else y + get(part.bias)[layer]

    def turned(head, position):
        if config.positions != "rope":
            return head
        waves = np.exp(1j * position * plain_frequencies(config))
        half = config.head_size // 2
        if config.rope_layout == "half":
            z = (head[:half] + 1j * head[half:]) * waves
            return np.concatenate([z.real, z.imag])
        z = (head[::2] + 1j * head[1::2]) * waves
        return np.stack([z.real, z.imag], 1).ravel()

    def mlp(layer, h):
        up = linear(blocks.up, layer, h)
        if blocks.gate is not None:
            gate = linear(blocks.gate, layer, h)
            up = gate / (1 + np.exp(-gate)) * up
        elif config.activation == "gelu":
            up = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
        else:
            up = np.maximum(up, 0)
        return linear(blocks.down, layer, up)

    rows = []
    for row in np.asarray(tokens):
        x = get(model.embedding)[row]
        if model.position_embedding is not None:
            x = x + get(model.position_embedding)[: len(row)]
        for layer in range(config.num_layers):
            h = [norm(blocks.attention_norm, v, layer) for v in x]
            q, k, v = ([linear(p, layer, t).reshape(-1, config.head_size) for t in h]
                       for p in (blocks.query, blocks.key, blocks.value))  # fmt: skip
            after = []
            for i in range(len(row)):
                first = 0 if config.window is None else max(0, i - config.window + 1)
                read = []
                for head in range(config.num_heads):
                    shared = head // (config.num_heads // config.num_kv_heads)
                    query = turned(q[i][head], i)
                    scores = np.array([query @ turned(k[j][shared], j) for j in range(first, i + 1)])
                    weights = np.exp(scores / np.sqrt(config.head_size))
                    values = [v[j][shared] for j in range(first, i + 1)]
                    read.append(weights @ np.array(values) / weights.sum())
                y = x[i] + linear(blocks.output, layer, np.concatenate(read))
                after.append(y + mlp(layer, norm(blocks.mlp_norm, y, layer)))
            x = np.array(after)
        table = get(model.embedding if model.unembedding is None else model.unembedding)
        rows.append([table @ norm(model.final_norm, v) for v in x])
    return np.array(rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"rope_layout": "interleaved", "rope_base": 50.0, "window": 3, "tied": False},
        {"rope_scaling": RopeScaling(4.0, 1.0, 3.0, 12), "rope_base": 30.0, "bias": True},
        {"norm": "layer", "activation": "gelu", "positions": "learned", "bias": True, "num_kv_heads": 4},
        {"norm": "none", "activation": "relu", "positions": "learned", "num_kv_heads": 1},
    ],
    ids=str,
)  # fmt: skip
def test_logits_are_those_of_a_plain_transformer(change):
    model = init(dataclasses.replace(SMALL, num_layers=2, **change), key=jax.random.key(1))
    # Every weight its own number, scales and biases included.
    leaves, kind = jax.tree.flatten(model)
    rng = np.random.default_rng(0)
    moved = [leaf + jnp.asarray(0.2 * rng.normal(size=leaf.shape), jnp.float32) for leaf in leaves]
    model = jax.tree.unflatten(kind, moved)
    tokens = rng.integers(0, 40, (2, 7))
    np.testing.assert_allclose(forward(model, tokens), plain_logits(model, tokens), atol=2e-4)


@pytest.mark.slow
@given(
    st.integers(0, 10**6), st.sampled_from(["half", "interleaved"]), st.integers(0, 50), st.integers(-20, 20)
)
def test_a_turn_keeps_lengths_and_shows_distances_alone(seed, layout, position, shift):
    rng = np.random.default_rng(seed)
    q, k = rng.normal(size=(2, 8))

    def turn(x, place):
        angles = place * plain_frequencies(SMALL)
        return np.asarray(_rotate(jnp.asarray(x[None, None, None], jnp.float32),
                                  jnp.asarray(angles[None, None], jnp.float32), layout))[0, 0, 0]  # fmt: skip

    np.testing.assert_allclose(np.linalg.norm(turn(q, position)), np.linalg.norm(q), rtol=1e-5)
    here = turn(q, position) @ turn(k, position + 3)
    np.testing.assert_allclose(turn(q, position + shift) @ turn(k, position + 3 + shift), here, atol=1e-3)
    pairs = np.arange(8).reshape(2, 4).T.ravel()  # (i, i + 4) side by side
    if layout == "half":
        inside = _rotate(jnp.asarray(q[pairs][None, None, None], jnp.float32),
                         jnp.asarray(position * plain_frequencies(SMALL)[None, None], jnp.float32), "interleaved")  # fmt: skip
        np.testing.assert_allclose(inside[0, 0, 0], turn(q, position)[pairs], atol=1e-5)


@pytest.mark.parametrize("base", [100.0, 1e4, 5e5])
@pytest.mark.parametrize("scaling", [None, RopeScaling(), RopeScaling(32.0), RopeScaling(2.0, 1.0, 2.0, 64)])
def test_frequencies_are_the_published_ones(base, scaling):
    config = dataclasses.replace(SMALL, head_size=32, rope_base=base, rope_scaling=scaling)
    found = rope_frequencies(config)
    np.testing.assert_allclose(found, plain_frequencies(config), rtol=1e-4)
    assert (np.diff(found) < 0).all() and float(found[0]) == 1


@pytest.mark.slow
def test_new_weights_have_the_spread_of_their_inputs():
    config = dataclasses.replace(
        SMALL, width=64, mlp_width=128, head_size=16, vocab_size=200, tied=False, bias=True
    )
    model = init(config, key=jax.random.key(0))
    for leaf, inputs in (
        (model.blocks.query.weight, 64), (model.blocks.output.weight, 64), (model.blocks.up.weight, 64),
        (model.blocks.down.weight, 128), (model.embedding, 64), (model.unembedding, 64),
    ):  # fmt: skip
        assert float(leaf.std()) * np.sqrt(inputs) == pytest.approx(1, abs=0.05)
    assert not np.asarray(model.blocks.up.bias).any() and (np.asarray(model.final_norm.scale) == 1).all()
    assert not np.array_equal(model.embedding, model.unembedding)
