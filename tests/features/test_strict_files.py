"""Files that mean something else than what is computed here are refused by file and key; none is read halfway."""

import json
import struct
import time

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from benchmarks.features_files import GGUF_KEYS, KINDS, _tokenizer, outcome, tensors_of_gguf, write_gguf
from benchmarks.features_hf import FAMILIES, write_model
from features.lm.decoder import forward
from features.lm.loading import load
from features.sae.config import SAEConfig
from features.sae.model import init
from features.sae.storage import load_sae, save_sae
from features.strict_keys import KnownKeys
from tests.features.sae.test_model import example
from tests.features.sae.test_storage import write_eleuther


def gguf_with(tmp_path, keys=(), tensors=(), architecture="llama"):
    made = {k: v for k, v in (GGUF_KEYS | dict(keys)).items() if v is not None}
    return write_gguf(tmp_path / "m.gguf", made, tensors_of_gguf() | dict(tensors), architecture)


def folder_with(tmp_path, change=(), family="llama", tensors=()):
    folder = write_model(tmp_path / "hf", FAMILIES[family])
    (folder / "config.json").write_text(json.dumps(FAMILIES[family] | dict(change)))
    (folder / "tokenizer.json").write_text(_tokenizer())
    file = folder / "model.safetensors"
    save_file(load_file(file) | dict(tensors), file)
    return folder


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_changed_files_are_read_whole_or_refused_by_name(kind, seed, tmp_path_factory):
    said, seconds = outcome(kind, seed, tmp_path_factory.mktemp(kind))
    assert said in ("read", "refused"), said
    assert seconds < 5


def test_what_nobody_changed_is_read(tmp_path):
    model = load(gguf_with(tmp_path)).decoder
    assert np.isfinite(forward(model, jnp.asarray([[1, 2]]))).all()
    for family in FAMILIES:
        assert load(folder_with(tmp_path / family, family=family)).tokenizer.encode("AB") == [26]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.rope.scaling.type", "linear"),
        ("llama.rope.scaling.type", "yarn"),
        ("llama.rope.scaling.factor", 4.0),
        ("llama.rope.scale_linear", 2.0),
        ("llama.rope.dimension_count", 2),
        ("llama.attention.value_length", 8),
        ("llama.attention.scale", 0.25),
        ("llama.attention.causal", False),
        ("llama.expert_count", 8),
        ("llama.logit_scale", 0.5),
        ("llama.attn_logit_softcapping", 50.0),
        ("llama.some_new_thing", 1),
        ("split.count", 2),
        ("mystery.key", "x"),
        ("tokenizer.ggml.precompiled_charsmap", [1, 2]),
        ("tokenizer.ggml.add_bos_token", 1),
    ],
)
def test_keys_of_a_gguf_header_that_change_the_function_are_refused(key, value, tmp_path):
    with pytest.raises(ValueError, match=rf"m\.gguf: key '{key}' is ") as told:
        load(gguf_with(tmp_path, {key: value}))
    assert "supported is" in str(told.value) or "unknown" in str(told.value) or "expected" in str(told.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("general.anything", "x"),
        ("llama.vocab_size", 32),
        ("llama.rope.dimension_count", 4),
        ("llama.attention.value_length", 4),
        ("llama.attention.scale", 0.5),
        ("llama.rope.scaling.type", "none"),
        ("llama.expert_count", 0),
        ("tokenizer.chat_template", "{{ x }}"),
        ("tokenizer.ggml.eos_token_id", 2),
        ("quantize.imatrix.file", "f"),
    ],
)
def test_keys_of_a_gguf_header_that_change_nothing_are_not(key, value, tmp_path):
    plain = load(gguf_with(tmp_path)).decoder
    again = load(gguf_with(tmp_path, {key: value})).decoder
    tokens = jnp.asarray([[1, 5, 3]])
    np.testing.assert_array_equal(forward(again, tokens), forward(plain, tokens))


@pytest.mark.parametrize(
    "name", ["blk.0.attn_q.bias", "blk.1.attn_q_norm.weight", "blk.7.attn_q.weight", "new"]
)
def test_a_tensor_that_would_be_left_out_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=rf"m\.gguf: tensor '{name}' \(1 such\) is no part of a model"):
        load(gguf_with(tmp_path, tensors={name: np.ones(24, np.float32)}))
    with pytest.raises(ValueError, match=rf"hf: tensor '{name}' \(1 such\) is no part of a model"):
        load(folder_with(tmp_path, tensors={name: np.ones(24, np.float32)}))


def test_texts_that_are_no_utf8_are_named_by_their_key(tmp_path):
    """Found among 10,000 changed files."""
    path = gguf_with(tmp_path, {"general.name": "zzzzzzzz"})
    path.write_bytes(path.read_bytes().replace(b"zzzzzzzz", b"zz\x80\x80zzzz"))
    with pytest.raises(ValueError, match=r"m\.gguf: the text under the key 'general.name' is no UTF-8"):
        load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(value, tmp_path):
    weights = tensors_of_gguf()
    name = "blk.1.ffn_up.weight"
    weights[name][3, 2] = value
    with pytest.raises(ValueError, match=rf"m\.gguf: tensor '{name}' is not finite"):
        load(gguf_with(tmp_path, tensors=weights))
    large = {"model.norm.weight": np.full(24, 1e6, np.float32)}
    folder = folder_with(tmp_path, tensors=large)
    load(folder)
    with pytest.raises(ValueError, match=r"tensor 'model.norm.weight' has numbers too large for float16"):
        load(folder, dtype=jnp.float16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantization_config": {"bits": 8}}, r"key 'quantization_config' is \{'bits': 8\}; unknown"),
        ({"partial_rotary_factor": 0.5}, "key 'partial_rotary_factor' is 0.5; supported is 1.0"),
        ({"use_qk_norm": True}, "key 'use_qk_norm' is True; supported is False"),
        ({"logit_scale": 0.0625}, "key 'logit_scale' is 0.0625"),
        ({"sliding_window": 16}, "key 'sliding_window' is 16; supported is null"),
        ({"layer_types": ["full_attention", "chunked"]}, "key 'layer_types'"),
        ({"rope_scaling": {"rope_type": "default", "mscale": 2}}, "rope_parameters: key 'mscale' is 2"),
        ({"hidden_act": "gelu"}, "key 'hidden_act' is 'gelu'; supported is 'silu'"),
        ({"num_hidden_layers": 1}, "tensor 'model.layers.1.input_layernorm.weight' .* is no part"),
        ({"num_hidden_layers": True}, "num_layers=True"),
        ({"num_hidden_layers": 10**9}, "1000000000 layers, but only"),
        ({"rms_norm_eps": 1.5}, "norm_eps=1.5: expected a positive number below 1"),
        ({"rope_theta": 0.5}, "rope_base=0.5"),
        ({"tie_word_embeddings": 1}, "key 'tie_word_embeddings' is 1, expected true or false"),
        (
            {"head_dim": None, "num_attention_heads": 5},
            "hidden_size 24 is no multiple of num_attention_heads 5",
        ),
        ({"brand_new": 3}, "key 'brand_new' is 3; unknown"),
    ],
    ids=str,
)
def test_settings_of_a_folder_that_change_the_function_are_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=message) as told:
        load(folder_with(tmp_path, change))
    assert str(tmp_path / "hf") in str(told.value)


def test_settings_of_a_folder_that_change_nothing_are_not(tmp_path):
    harmless = {
        "use_cache": False, "torch_dtype": "bfloat16", "bos_token_id": 0, "attention_dropout": 0.1, "top_p": 0.9,
        "attention_bias": False, "mlp_bias": False, "rope_interleaved": False, "layer_types": ["full_attention"] * 2,
        "sliding_window": None, "transformers_version": "5.0", "id2label": {"0": "a"}, "anything": None,
    }  # fmt: skip
    load(folder_with(tmp_path, harmless))
    load(folder_with(tmp_path, {"attn_pdrop": 0.1, "n_ctx": 64, "scale_attn_weights": True}, "gpt2"))
    masks = {
        "h.0.attn.bias": np.ones((1, 1, 4, 4), np.float32),
        "h.0.attn.masked_bias": np.ones((), np.float32),
    }
    load(folder_with(tmp_path / "masks", (), "gpt2", masks))
    load(
        folder_with(
            tmp_path / "rotary",
            tensors={"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32)},
        )
    )


def test_a_tensor_in_two_files_is_refused_and_mistrals_second_copy_is_not_read(tmp_path):
    folder = folder_with(tmp_path)
    save_file({"layers.0.attention.wq.weight": np.ones(3, np.float32)}, folder / "consolidated.safetensors")
    load(folder)
    save_file({"model.norm.weight": np.ones(24, np.float32)}, folder / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors: tensor 'model.norm.weight' is there twice"):
        load(folder)


def test_an_unembedding_that_is_said_to_be_tied_must_be_the_embedding(tmp_path):
    embedding = load_file(folder_with(tmp_path) / "model.safetensors")["model.embed_tokens.weight"]
    load(folder_with(tmp_path, tensors={"lm_head.weight": embedding}))
    with pytest.raises(ValueError, match="tie_word_embeddings is true, but lm_head"):
        load(folder_with(tmp_path, tensors={"lm_head.weight": embedding + 1}))


@pytest.mark.parametrize("kind", ["int8", "int32", "uint8"])
def test_weights_that_are_integers_are_refused(kind, tmp_path):
    name = "model.layers.0.mlp.up_proj.weight"
    with pytest.raises(ValueError, match=rf"tensor '{name}' is stored as [IU]\d+; supported are BF16, F16"):
        load(folder_with(tmp_path, tensors={name: np.ones((40, 24), kind)}))


def test_a_key_that_stands_twice_is_refused(tmp_path):
    folder = folder_with(tmp_path)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text[:-1] + ', "rms_norm_eps": 0.1}')
    with pytest.raises(ValueError, match=r"config\.json is no JSON: key 'rms_norm_eps' stands there twice"):
        load(folder)


def test_texts_begin_with_bos_as_llama_cpp_has_it(tmp_path):
    """Where a file doesn't say: the Llama 3 pre-tokenizer puts one, the GPT-2 one does not."""
    bos = {"tokenizer.ggml.bos_token_id": 31}
    assert load(gguf_with(tmp_path, bos)).tokenizer.bos is None
    llama = {**bos, "tokenizer.ggml.pre": "llama-bpe"}
    assert load(gguf_with(tmp_path, llama)).tokenizer.encode("AB")[0] == 31
    assert load(gguf_with(tmp_path, {**llama, "tokenizer.ggml.add_bos_token": False})).tokenizer.bos is None
    assert load(gguf_with(tmp_path, {**bos, "tokenizer.ggml.add_bos_token": True})).tokenizer.bos == 31
    for wrong in (32, -1, None):
        with pytest.raises(ValueError, match=r"bos_token_id"):
            load(gguf_with(tmp_path, {**llama, "tokenizer.ggml.bos_token_id": wrong}))


def test_tokens_that_users_defined_stay_whole(tmp_path):
    types = [1] * 32
    types[28] = 4  # "Ġ"; as a plain token no text gives it
    words = [*GGUF_KEYS["tokenizer.ggml.tokens"]]
    words[29] = "CAB"
    types[29] = 4
    model = load(gguf_with(tmp_path, {"tokenizer.ggml.token_type": types, "tokenizer.ggml.tokens": words}))
    assert model.tokenizer.encode("CABAB") == [29, 26]


def test_an_unsupported_architecture_is_refused_before_its_vocabulary_is_read(tmp_path):
    words = [f"word{i}" for i in range(200_000)]
    keys = {"tokenizer.ggml.tokens": words, "tokenizer.ggml.model": "gpt2"}
    path = write_gguf(tmp_path / "m.gguf", keys, {"a": np.ones(3, np.float32)}, "mamba")
    begun = time.perf_counter()
    with pytest.raises(ValueError, match=r"architecture 'mamba'; supported are llama"):
        load(path)
    assert time.perf_counter() - begun < 1


def test_an_architecture_at_the_headers_end_is_found_too(tmp_path):
    text = lambda s: struct.pack("<Q", len(s)) + s  # noqa: E731
    pairs = text(b"a") + struct.pack("<IIQ", 9, 8, 2) + text(b"x") + text(b"yy")
    pairs += text(b"b") + struct.pack("<II", 4, 7)
    pairs += text(b"c") + struct.pack("<IIQ", 9, 5, 3) + bytes(12)
    pairs += text(b"general.architecture") + struct.pack("<I", 8) + text(b"mamba")
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 4) + pairs + bytes(64))
    with pytest.raises(ValueError, match="architecture 'mamba'"):
        load(path)


def sae_with(tmp_path, change=(), tensors=(), activation="relu"):
    config = SAEConfig(6, 9, activation, 3 if "topk" in activation else None)
    import jax

    folder = save_sae(init(config, key=jax.random.key(0)), tmp_path / "sae")
    said = json.loads((folder / "cfg.json").read_text()) | dict(change)
    (folder / "cfg.json").write_text(json.dumps(said))
    file = folder / "sae_weights.safetensors"
    save_file(load_file(file) | dict(tensors), file)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "batch_topk"}, "architecture 'batch_topk'; supported are"),
        ({"input_unit_norm": True}, "key 'input_unit_norm' is True; supported is False"),
        ({"use_error_term": True}, "key 'use_error_term' is True"),
        ({"apply_b_dec_to_input": 1}, "key 'apply_b_dec_to_input' is 1, expected true or false"),
        (
            {"activation_fn": "relu", "activation_fn_kwargs": {"slope": 2}},
            "activation_fn_kwargs: key 'slope' is 2",
        ),
        (
            {"hook_name_out": "blocks.3.hook_mlp_out"},
            "key 'hook_name_out' is 'blocks.3.hook_mlp_out'; unknown",
        ),
        ({"brand_new": 0.5}, "key 'brand_new' is 0.5; unknown"),
    ],
    ids=str,
)
def test_settings_of_an_autoencoder_that_change_the_function_are_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=message) as told:
        load_sae(sae_with(tmp_path, change))
    assert "cfg.json" in str(told.value)


def test_settings_of_an_autoencoders_training_are_not(tmp_path):
    training = {
        "l1_coefficient": 5, "lr": 1e-4, "training_tokens": 10**9, "hook_layer": 6, "context_size": 128, "seed": 1,
        "dataset_path": "x", "train_batch_size_tokens": 4096, "wandb_project": "y", "neuronpedia_id": None,
        "finetuning_scaling_factor": False, "decoder_heuristic_init": True, "sae_lens_training_version": "6.0",
    }  # fmt: skip
    load_sae(sae_with(tmp_path, training))


@pytest.mark.parametrize("activation", ["relu", "topk"])
@pytest.mark.parametrize("name", ["threshold", "W_skip", "b_gate"])
def test_a_tensor_that_the_settings_do_not_know_is_refused(activation, name, tmp_path):
    """A threshold under a ReLU's settings is a JumpReLU that would be read as something else."""
    folder = sae_with(tmp_path, tensors={name: np.ones(9, np.float32)}, activation=activation)
    with pytest.raises(ValueError, match=rf"sae_weights.safetensors: tensor '{name}' is no part"):
        load_sae(folder)


def test_eleuther_folders_with_unknown_settings_are_refused(tmp_path):
    sae = example(0, "topk")
    load_sae(write_eleuther(tmp_path / "a", {"k": 3, "expansion_factor": 8, "normalize_decoder": True}, sae))
    for change, message in (
        ({"normalize_io": True}, "key 'normalize_io'"),
        ({"odd": 1}, "key 'odd' is 1; unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            load_sae(write_eleuther(tmp_path / "b", {"k": 3} | change, sae))


def test_true_is_not_one_and_float32_is_its_neighbor():
    known = KnownKeys(("a",), ("b_.*",), {"c": (1.0,), "d": (False,)})
    known.check("f", {"a": object(), "b_x": 3, "c": float(np.float32(1.0000001)), "d": False, "e": None})
    for key, value in (("c", True), ("c", 1.1), ("d", 0), ("e", 1), ("b", 2), ("c", "1")):
        with pytest.raises(ValueError, match=rf"f: key '{key}'"):
            known.check("f", {key: value})
