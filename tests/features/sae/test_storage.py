"""Autoencoders on disk: round trips, and files that are damaged, foreign or full of wrong settings."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import features
from features.sae.config import ACTIVATIONS, NORMALIZATIONS
from features.sae.model import SAE, encode, fold_scale, reconstruct
from features.sae.storage import check_destination, load_sae, saelens_settings, save_sae

from .test_model import D_IN, D_SAE, K, example

SEEDS = st.integers(0, 2**32 - 1)
X = np.random.default_rng(0).normal(size=(20, D_IN)).astype(np.float32)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(K),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@pytest.mark.slow
@settings(max_examples=40)
@given(
    SEEDS, st.sampled_from(ACTIVATIONS), st.sampled_from(NORMALIZATIONS), st.booleans(), st.text(max_size=9)
)
def test_what_is_saved_is_what_is_read(tmp_path_factory, seed, activation, mode, subtract, hook):
    sae = example(seed, activation, mode, subtract)
    sae = dataclasses.replace(sae, config=dataclasses.replace(sae.config, hook_name=hook))
    folder = tmp_path_factory.mktemp("sae") / "it"
    assert save_sae(sae, folder) == folder
    back = load_sae(folder)
    np.testing.assert_allclose(encode(back, X), encode(sae, X), atol=1e-3)
    np.testing.assert_allclose(reconstruct(back, X), reconstruct(sae, X), rtol=1e-3, atol=1e-3)
    if activation != "batchtopk":  # which comes back as the jumprelu that it became
        assert back.config == fold_scale(sae).config
    # Once folded and read, another round changes nothing.
    again = load_sae(save_sae(back, folder.with_name("again")))
    assert again.config == back.config
    for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"):
        np.testing.assert_array_equal(getattr(again, name), getattr(back, name))


def test_frequencies_are_stored_as_logarithms(tmp_path):
    frequency = np.array([0, 1e-12, 0.001, 0.5, 1, 1, 0.1, 0.01, 0.2])
    folder = save_sae(example(0), tmp_path / "a", frequency=frequency)
    found = load_file(folder / "sparsity.safetensors")["sparsity"]
    np.testing.assert_allclose(found, np.log10(np.maximum(frequency, 1e-10)), rtol=1e-5)
    assert not (save_sae(example(0), tmp_path / "a") / "sparsity.safetensors").exists()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_settings_are_in_the_words_of_saelens(activation):
    found = saelens_settings(example(0, activation))
    kind = {"relu": "standard", "batchtopk": "jumprelu"}.get(activation, activation)
    assert found["architecture"] == kind and found["d_in"] == D_IN and found["d_sae"] == D_SAE
    assert found.get("k") == (K if activation == "topk" else None)
    assert json.loads(json.dumps(found)) == found


def tensors(sae):
    found = {n: np.asarray(getattr(sae, n)) for n in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
             if getattr(sae, n) is not None}  # fmt: skip
    return {name: np.ascontiguousarray(value) for name, value in found.items()}


def write_saelens(folder, settings_, stored):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(settings_))
    save_file(stored, folder / "sae_weights.safetensors")
    return folder


def write_eleuther(folder, settings_, sae):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(settings_))
    t = tensors(sae)
    renamed = {
        "encoder.weight": t["W_enc"].T,
        "encoder.bias": t["b_enc"],
        "W_dec": t["W_dec"],
        "b_dec": t["b_dec"],
    }
    save_file(
        {name: np.ascontiguousarray(value) for name, value in renamed.items()}, folder / "sae.safetensors"
    )
    return folder


def read_or_named(path, *named):
    """A valid autoencoder, or a ValueError that names the file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*does not say by what", UserWarning)
        try:
            sae = load_sae(path)
        except ValueError as error:
            assert str(path) in str(error) and all(name in str(error) for name in named), error
            return None
    assert isinstance(sae, SAE) and encode(sae, X).shape == (20, D_SAE)
    assert all(np.isfinite(value).all() for value in tensors(sae).values())
    return sae


KEYS = ["architecture", "d_in", "d_sae", "k", "activation_fn", "activation_fn_str", "activation_fn_kwargs",
        "apply_b_dec_to_input", "normalize_activations", "reshape_activations", "hook_name", "metadata",
        "rescale_acts_by_decoder_norm", "num_latents", "signed", "activation"]  # fmt: skip


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=3),
    st.sampled_from(["topk", "jumprelu", "eleuther"]),
)
def test_settings_of_any_kind_are_read_or_named(tmp_path_factory, change, kind):
    folder = tmp_path_factory.mktemp("sae")
    if kind == "eleuther":
        write_eleuther(folder, {"k": K, "num_latents": D_SAE} | change, example(0, "topk"))
    else:
        sae = example(0, kind)
        write_saelens(folder, saelens_settings(sae) | change, tensors(sae))
    read_or_named(folder)


SHAPES = st.lists(st.sampled_from([0, 1, D_IN, D_SAE]), max_size=3)


@given(
    st.sampled_from(["W_enc", "b_enc", "W_dec", "b_dec", "threshold", "log_threshold", "scaling_factor"]),
    SHAPES, st.sampled_from(["f4", "f8", "i4", "u1", "?"]), st.sampled_from(["jumprelu", "batchtopk", "standard"]),
)  # fmt: skip
def test_tensors_of_any_shape_are_read_or_named(tmp_path_factory, name, shape, dtype, architecture):
    sae = example(0, "jumprelu")
    settings_ = saelens_settings(sae) | {
        "architecture": architecture,
        "k": K,
        "rescale_acts_by_decoder_norm": True,
    }
    stored = tensors(sae) | {name: np.ones(shape, dtype)}
    folder = write_saelens(tmp_path_factory.mktemp("sae"), settings_, stored)
    read_or_named(folder)


def damaged(data, how, seed):
    """Bytes cut short, changed in places, or with a piece out of place."""
    rng = np.random.default_rng(seed)
    if how == "cut":
        return data[: rng.integers(0, len(data))]
    changed = bytearray(data)
    if how == "moved":
        a, b, size = *rng.integers(0, len(data) - 40, 2), rng.integers(1, 40)
        changed[a : a + size] = data[b : b + size]
        return bytes(changed)
    for at in rng.integers(0, len(data) if how == "changed" else min(len(data), 400), 1 + seed % 8):
        changed[at] = rng.integers(0, 256)
    return bytes(changed)


@settings(max_examples=100)
@given(st.sampled_from(["cut", "changed", "start", "moved"]), SEEDS, st.booleans())
def test_a_damaged_npz_is_read_or_named(tmp_path_factory, how, seed, compressed):
    file = tmp_path_factory.mktemp("npz") / "params.npz"
    (np.savez_compressed if compressed else np.savez)(file, **tensors(example(0, "jumprelu")))
    file.write_bytes(damaged(file.read_bytes(), how, seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, of headers that it can still read
        read_or_named(file)


@settings(max_examples=80)
@given(
    st.sampled_from(["cut", "changed", "start", "moved"]),
    SEEDS,
    st.sampled_from(["sae_weights.safetensors", "cfg.json"]),
)
def test_a_damaged_folder_is_read_or_named(tmp_path_factory, how, seed, name):
    sae = example(0, "topk")
    folder = write_saelens(tmp_path_factory.mktemp("sae"), saelens_settings(sae), tensors(sae))
    (folder / name).write_bytes(damaged((folder / name).read_bytes(), how, seed))
    read_or_named(folder)


@pytest.mark.parametrize(
    "value", [np.ones((D_IN, D_SAE)) * 1j, np.full((D_IN, D_SAE), "a"), np.ones(D_IN), np.ones((2, 2, 2))]
)
def test_arrays_that_are_no_weights_are_named(tmp_path, value):
    np.savez(tmp_path / "params.npz", **{**tensors(example(0, "jumprelu")), "W_enc": value})
    assert read_or_named(tmp_path / "params.npz", "params.npz") is None


def test_settings_nested_too_deep_or_too_long_are_named(tmp_path):
    sae = example(0)
    folder = write_saelens(tmp_path / "a", {}, tensors(sae))
    for text in ("[" * 100_000, '{"k": ' + "1" * 5000 + "}", '"text"', "[1]", "", "\xff"):
        (folder / "cfg.json").write_bytes(text.encode("latin-1"))
        assert read_or_named(folder, "cfg.json") is None
    (folder / "cfg.json").unlink()
    (folder / "cfg.json").mkdir()
    assert read_or_named(folder, "cfg.json") is None


def test_a_place_that_holds_something_else_is_kept(tmp_path, monkeypatch):
    sae = example(0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for folder, message in (
        (".", "is the current folder"),
        ("notes", r"it holds \['mine.txt'\]"),
        ("file", "is a file"),
    ):
        with pytest.raises(ValueError, match=message):
            save_sae(sae, folder)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "x"
    for fine in ("new", "deep/er"):
        check_destination(tmp_path / fine)
        save_sae(sae, tmp_path / fine)
        save_sae(sae, tmp_path / fine)  # its own kind is replaced
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "file", "new", "notes"]


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
    import safetensors.numpy

    folder = save_sae(example(0), tmp_path / "a")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_sae(example(1), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]  # and nothing half-written beside it


def test_eleuther_folders_that_do_more_are_refused(tmp_path):
    sae = example(0, "topk")
    for number, (change, message) in enumerate((
        ({"signed": True}, "signed"), ({"transcode": True}, "transcode"), ({"activation": "groupmax"}, "groupmax"),
        ({"num_latents": 8}, "num_latents is 8, the weights say 9"), ({"k": None}, "'k' is None, expected an integer"),
        ({"k": 50}, "k=50"),
    )):  # fmt: skip
        folder = write_eleuther(tmp_path / str(number), {"k": K} | change, sae)
        with pytest.raises(ValueError, match=message):
            load_sae(folder)
    plain = write_eleuther(tmp_path / "plain", {"k": K}, sae)
    np.testing.assert_array_equal(features.encode(load_sae(plain), X), features.encode(sae, X))
    save_file({"W_skip": np.ones(2, np.float32)}, plain / "more.safetensors")
    with pytest.raises(
        ValueError, match=r"expected one .safetensors file, found \['more.safetensors', 'sae.saf"
    ):
        load_sae(plain)
