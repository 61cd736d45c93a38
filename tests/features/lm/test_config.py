"""Settings of decoders, and config.json files of every kind."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.features_hf import FAMILIES, write_model
from features.lm.config import DecoderConfig
from features.lm.hf_folder import HFSource, read_json

PLAIN = DecoderConfig(
    num_layers=2, width=8, num_heads=4, num_kv_heads=2, head_size=2, mlp_width=8, vocab_size=9, context=8
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([0, 1, 6, 24]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
ROPE = st.dictionaries(
    st.sampled_from(["rope_type", "type", "factor", "low_freq_factor", "original_max_position_embeddings", "rope_theta"]),
    JSON | st.just("llama3"),
    max_size=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {f: write_model(tmp_path_factory.mktemp(f), config) for f, config in FAMILIES.items()}


@settings(max_examples=80)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_settings_of_any_kind_are_read_or_named(folders, data, family):
    """A valid config, or a ValueError that names the file."""
    known = FAMILIES[family]
    keys = st.sampled_from([*known, "head_dim", "rope_theta", "attention_bias", "n_inner", "sliding_window"])
    change = data.draw(st.dictionaries(keys, JSON, min_size=1, max_size=3))
    if data.draw(st.booleans()):
        change[data.draw(st.sampled_from(["rope_scaling", "rope_parameters"]))] = data.draw(ROPE | JSON)
    path = folders[family] / "config.json"
    path.write_text(json.dumps({**known, **change}))
    try:
        found = HFSource(folders[family]).config()
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert isinstance(found, DecoderConfig)
        for field in ("norm_eps", "rope_base"):
            assert 0 < getattr(found, field) < float("inf")
    finally:
        path.write_text(json.dumps(known))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_settings_are_those_of_the_file(folders, family):
    told, found = FAMILIES[family], HFSource(folders[family]).config()
    gpt2 = family == "gpt2"
    assert found.width == told["n_embd" if gpt2 else "hidden_size"]
    assert found.num_layers == told["n_layer" if gpt2 else "num_hidden_layers"]
    assert found.num_heads == told["n_head" if gpt2 else "num_attention_heads"]
    assert found.context == told["n_positions" if gpt2 else "max_position_embeddings"]
    assert found.mlp_width == (4 * told["n_embd"] if gpt2 else told["intermediate_size"])
    assert (found.norm, found.activation) == (("layer", "gelu") if gpt2 else ("rms", "swiglu"))
    assert found.window == told.get("sliding_window") and found.tied == told["tie_word_embeddings"]
    assert (found.rope_scaling is None) == (family != "llama3")
    with pytest.raises(
        ValueError, match="rope_layout='interleaved': weights of this form are laid out 'half'"
    ):
        HFSource(folders[family]).config("interleaved")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width=0: expected a positive integer"),
        ({"vocab_size": 2.5}, "vocab_size=2.5: expected a positive integer"),
        ({"context": -1}, "context=-1"),
        ({"num_kv_heads": 3}, "num_heads=4 is no multiple of num_kv_heads=3"),
        ({"head_size": 3}, "head_size=3: rotary positions turn pairs"),
        ({"window": 0}, "window=0: expected at least one token"),
        ({"norm_eps": 0.0}, "norm_eps=0.0: expected a positive number"),
        ({"norm_eps": "small"}, "norm_eps='small': expected a positive number"),
        ({"rope_base": float("inf")}, "rope_base=inf: expected a positive number"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAIN, **change)
    assert dataclasses.replace(PLAIN, head_size=3, positions="learned").head_size == 3


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=3) | JSON)
def test_json_objects_are_read_and_nothing_else(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    if isinstance(value, dict):
        assert json.dumps(read_json(path)) == json.dumps(value)
    else:
        with pytest.raises(ValueError, match=f"x.json holds a {type(value).__name__}, expected an object"):
            read_json(path)


def test_files_that_are_missing_or_no_text_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"x.json cannot be read: No such file"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r"x.json is no JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(ValueError, match=r"config.json cannot be read"):
        HFSource(tmp_path)
