"""From tensors by name to a decoder, without files: every layout, and what is missing or misshapen."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from features.lm.assemble import assemble, half_split_rows, partition_specs, shard
from features.lm.config import DecoderConfig
from features.lm.decoder import init

LLAMA = DecoderConfig(
    num_layers=2,
    width=6,
    num_heads=4,
    num_kv_heads=2,
    head_size=2,
    mlp_width=10,
    vocab_size=8,
    context=8,
    tied=False,
)
GPT2 = DecoderConfig(
    num_layers=2, width=6, num_heads=2, num_kv_heads=2, head_size=3, mlp_width=12, vocab_size=8, context=5,
    norm="layer", activation="gelu", positions="learned", bias=True,
)  # fmt: skip
CONFIGS = {"hf-llama": LLAMA, "gguf-llama": LLAMA, "hf-gpt2": GPT2, "gguf-gpt2": GPT2}


class Memory:
    """A file that is a dictionary."""

    path = "memory"

    def __init__(self, layout, tensors):
        self.layout, self.tensors, self.reads = layout, tensors, []

    def names(self):
        return set(self.tensors)

    def shape(self, name):
        if name not in self.tensors:
            raise ValueError(f"{self.path}: tensor {name!r} is missing")
        return self.tensors[name].shape

    def read(self, name):
        self.reads.append(name)
        return self.tensors[name]


def numbered(config):
    """A model whose every weight is another number."""
    leaves, kind = jax.tree.flatten(jax.eval_shape(lambda: init(config, key=jax.random.key(0))))
    ends = np.cumsum([leaf.size for leaf in leaves])
    filled = [
        jnp.asarray(np.arange(end - leaf.size, end, dtype=np.float32).reshape(leaf.shape))
        for leaf, end in zip(leaves, ends, strict=True)
    ]
    return jax.tree.unflatten(kind, filled)


def interleaved(rows, heads):
    """Rows (i, i + half) of each head side by side, as GGUF has them."""
    out, inputs = rows.shape
    return rows.reshape(heads, 2, out // heads // 2, inputs).swapaxes(1, 2).reshape(out, inputs)


def stored(model, layout):
    """The tensors of a checkpoint, from the fields of a model."""
    config, b = model.config, jax.tree.map(np.asarray, model.blocks)
    found = {}
    if layout.endswith("llama"):
        hf = layout == "hf-llama"
        found["model.embed_tokens.weight" if hf else "token_embd.weight"] = np.asarray(model.embedding)
        found["model.norm.weight" if hf else "output_norm.weight"] = np.asarray(model.final_norm.scale)
        found["lm_head.weight" if hf else "output.weight"] = np.asarray(model.unembedding)
        names = {
            "query": ("self_attn.q_proj", "attn_q"), "key": ("self_attn.k_proj", "attn_k"),
            "value": ("self_attn.v_proj", "attn_v"), "output": ("self_attn.o_proj", "attn_output"),
            "gate": ("mlp.gate_proj", "ffn_gate"), "up": ("mlp.up_proj", "ffn_up"),
            "down": ("mlp.down_proj", "ffn_down"),
        }  # fmt: skip
        for layer in range(config.num_layers):
            block = f"model.layers.{layer}" if hf else f"blk.{layer}"
            for field, there in names.items():
                weight = getattr(b, field).weight[layer]
                if not hf and field in {"query", "key"}:
                    weight = interleaved(
                        weight, config.num_heads if field == "query" else config.num_kv_heads
                    )
                found[f"{block}.{there[not hf]}.weight"] = weight
            found[f"{block}.{'input_layernorm' if hf else 'attn_norm'}.weight"] = b.attention_norm.scale[
                layer
            ]
            found[f"{block}.{'post_attention_layernorm' if hf else 'ffn_norm'}.weight"] = b.mlp_norm.scale[
                layer
            ]
        return found
    hf = layout == "hf-gpt2"
    found["wte.weight" if hf else "token_embd.weight"] = np.asarray(model.embedding)
    found["wpe.weight" if hf else "position_embd.weight"] = np.asarray(model.position_embedding)
    for part, leaf in (("weight", model.final_norm.scale), ("bias", model.final_norm.shift)):
        found[f"{'ln_f' if hf else 'output_norm'}.{part}"] = np.asarray(leaf)
    for layer in range(config.num_layers):
        block = f"h.{layer}" if hf else f"blk.{layer}"
        fused = [np.concatenate([getattr(getattr(b, f), part)[layer] for f in ("query", "key", "value")])
                 for part in ("weight", "bias")]  # fmt: skip
        matrices = {
            ("attn.c_attn", "attn_qkv"): fused,
            ("attn.c_proj", "attn_output"): (b.output.weight[layer], b.output.bias[layer]),
            ("mlp.c_fc", "ffn_up"): (b.up.weight[layer], b.up.bias[layer]),
            ("mlp.c_proj", "ffn_down"): (b.down.weight[layer], b.down.bias[layer]),
        }
        for there, (weight, bias) in matrices.items():
            found[f"{block}.{there[not hf]}.weight"] = weight.T if hf else weight  # transposed by its makers
            found[f"{block}.{there[not hf]}.bias"] = bias
        for there, part in ((("ln_1", "attn_norm"), b.attention_norm), (("ln_2", "ffn_norm"), b.mlp_norm)):
            found[f"{block}.{there[not hf]}.weight"] = part.scale[layer]
            found[f"{block}.{there[not hf]}.bias"] = part.shift[layer]
    return found


@pytest.mark.parametrize("layout", sorted(CONFIGS))
def test_every_number_comes_to_its_place(layout):
    model = numbered(CONFIGS[layout])
    source = Memory(layout, stored(model, layout))
    chex.assert_trees_all_equal(assemble(source, model.config), model)
    once = 3 if layout.endswith("gpt2") else 1  # a fused matrix is read for each of its parts
    assert set(source.reads) == source.names()
    assert max(source.reads.count(name) for name in source.names()) == once
    half = assemble(source, model.config, dtype=jnp.bfloat16)
    chex.assert_trees_all_equal(half, jax.tree.map(lambda a: np.asarray(a).astype(jnp.bfloat16), model))


@pytest.mark.parametrize(
    "layout",
    ["hf-llama", "gguf-gpt2", *(pytest.param(n, marks=pytest.mark.slow) for n in ("gguf-llama", "hf-gpt2"))],
)
def test_whatever_is_missing_or_misshapen_is_named_before_anything_is_read(layout):
    model = numbered(CONFIGS[layout])
    whole = stored(model, layout)
    for name, value in whole.items():
        lacking = Memory(layout, {n: v for n, v in whole.items() if n != name})
        with pytest.raises(ValueError, match=f"memory: tensor '{name}' is missing"):
            assemble(lacking, model.config)
        wrong = Memory(layout, whole | {name: value[:-1]})
        with pytest.raises(ValueError, match=f"memory: tensor '{name}' has shape .*, expected "):
            assemble(wrong, model.config)
        assert not lacking.reads and not wrong.reads


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_rows_are_split_in_halves_again(heads, half, inputs):
    rows = np.arange(heads * 2 * half * inputs).reshape(-1, inputs)
    np.testing.assert_array_equal(half_split_rows(interleaved(rows, heads), heads), rows)
    np.testing.assert_array_equal(interleaved(half_split_rows(rows, heads), heads), rows)


@given(
    st.sampled_from([1, 2, 3, 4, 8]),
    st.sampled_from([LLAMA, GPT2]),
    st.sampled_from([3, 4, 8]),
    st.sampled_from([6, 9, 16]),
)
def test_what_the_devices_divide_is_divided_and_nothing_else(parts, config, vocabulary, hidden):
    import dataclasses

    config = dataclasses.replace(config, vocab_size=vocabulary, mlp_width=hidden)
    specs = partition_specs(config, parts)
    is_spec = lambda leaf: isinstance(leaf, PartitionSpec)  # noqa: E731
    shapes = jax.eval_shape(lambda: init(config, key=jax.random.key(0)))
    assert jax.tree.structure(specs, is_leaf=is_spec) == jax.tree.structure(shapes)
    for spec, leaf in zip(jax.tree.leaves(specs, is_leaf=is_spec), jax.tree.leaves(shapes), strict=True):
        assert all(name is None or leaf.shape[axis] % parts == 0 for axis, name in enumerate(spec))
    assert (specs.embedding[0] == "model") == (vocabulary % parts == 0)
    assert (
        (specs.blocks.up.weight[1] == "model")
        == (hidden % parts == 0)
        == (specs.blocks.down.weight[2] == "model")
    )
    assert (specs.blocks.query.weight[1] == "model") == (config.num_heads % parts == 0)
    assert (specs.blocks.key.weight[1] == "model") == (config.num_kv_heads % parts == 0)


def test_one_device_is_a_mesh_too():
    model = numbered(LLAMA)
    mesh = jax.make_mesh((1,), ("model",))
    source = Memory("hf-llama", stored(model, "hf-llama"))
    chex.assert_trees_all_equal(assemble(source, LLAMA, mesh=mesh), model)
    chex.assert_trees_all_equal(shard(model, mesh), model)
    with pytest.raises(ValueError, match=r"the mesh has the axes \('data',\); one must be called 'model'"):
        assemble(source, LLAMA, mesh=jax.make_mesh((1,), ("data",)))
