"""Files that are damaged or mean something else: `python -m benchmarks.features_files [--count 10000] [--quick]`.

A small model as GGUF and as a folder of Hugging Face, and autoencoders in three forms, each changed at random:
bytes cut, changed, moved; settings of other kinds, added or left out; tensors added, left out, renamed, of another
type, not finite. What comes back must be a ValueError that names the file, or an object whose weights are finite;
in less than 5 s, with less than 200 MB more than the file. Prints how many were read and refused, what else came,
and the slowest; writes results/features_files.json.

--quick: 300 of each.
"""

from __future__ import annotations

import argparse
import collections
import json
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import output
from benchmarks.features_hf import FAMILIES, write_model

SECONDS, MEGABYTES = 5.0, 200.0
WORDS = [*map(chr, range(65, 91)), "AB", "CD", "Ġ", "!", "?", "<s>"]
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
_CONFIG = FAMILIES["llama"]
GGUF_KEYS: dict[str, Any] = {
    "llama.block_count": 2, "llama.context_length": 64, "llama.embedding_length": 24,
    "llama.feed_forward_length": 40, "llama.attention.head_count": 6, "llama.attention.head_count_kv": 2,
    "llama.attention.key_length": 4, "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 500.0,
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": WORDS,
    "tokenizer.ggml.token_type": [1] * 31 + [3], "tokenizer.ggml.merges": ["A B", "C D"],
}  # fmt: skip
ODD: tuple[Any, ...] = (
    0,
    -1,
    1,
    3,
    7,
    2**31,
    2**62,
    0.0,
    0.5,
    -1.0,
    1e30,
    float("inf"),
    float("nan"),
    True,
    False,
    "",
    "x",
)


def tensors_of_gguf(seed: int = 3) -> dict[str, np.ndarray]:
    """The tiny Llama of `features_hf` under GGUF's names."""
    from benchmarks.features_hf import shapes

    rng, found = np.random.default_rng(seed), {}
    for name, shape in shapes(_CONFIG).items():
        value = (0.3 * rng.normal(size=shape) + name.endswith("norm.weight")).astype(np.float32)
        parts = name.split(".")
        there = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
        ours = f"blk.{parts[2]}.{NAMES['.'.join(parts[3:-1])]}.weight" if "layers" in parts else there[name]
        found[ours] = value
    return found


def write_gguf(
    path: Path, keys: dict[str, Any], tensors: dict[str, np.ndarray], architecture: str = "llama"
) -> Path:
    """A GGUF file of these keys and tensors; integers as uint32 where they fit."""
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    for key, value in keys.items():
        _add(writer, key, value)
    for name, value in tensors.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        (writer.add_uint32 if 0 <= value < 2**32 else writer.add_int64)(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes cut short, changed in places, or with a piece out of place."""
    how, size = rng.integers(4), len(data)
    if how == 0:
        return data[: rng.integers(0, size)]
    changed = bytearray(data)
    if how == 1 and size > 80:
        a, b, length = *rng.integers(0, size - 40, 2), rng.integers(1, 40)
        changed[a : a + length] = data[b : b + length]
        return bytes(changed)
    for at in rng.integers(0, size if how == 2 else min(size, 2_000), 1 + rng.integers(6)):
        changed[at] = rng.integers(0, 256)
    return bytes(changed)


def changed_keys(keys: dict[str, Any], rng: np.random.Generator, unknown: tuple[str, ...]) -> dict[str, Any]:
    """Settings with one or two of other values, left out, or added."""
    found = dict(keys)
    for _ in range(1 + rng.integers(2)):
        value = ODD[rng.integers(len(ODD))]
        how = rng.integers(3)
        if how == 0:
            found.pop(str(rng.choice(list(found))), None)
        else:
            found[str(rng.choice(list(keys) if how == 1 else list(unknown)))] = value
    return found


def changed_tensors(tensors: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Tensors with one left out, added, renamed, cut, turned, of another type or not finite."""
    found = dict(tensors)
    name = str(rng.choice(list(found)))
    value, how = found[name], rng.integers(7)
    if how == 0:
        del found[name]
    elif how == 1:
        found[f"{name.removesuffix('weight')}{rng.choice(['bias', 'scale', 'zeros', 'more'])}"] = value
    elif how == 2:
        found[f"x{name}"] = found.pop(name)
    elif how == 3:
        found[name] = np.ascontiguousarray(value[:-1]) if len(value) > 1 else value.repeat(2)
    elif how == 4:
        found[name] = np.ascontiguousarray(value.T) if value.ndim == 2 else value[None]
    elif how == 5:
        found[name] = value.astype(rng.choice(["i1", "i4", "f2", "f8"]))
    else:
        value = value.copy()
        value.flat[rng.integers(value.size)] = rng.choice([np.nan, np.inf, -np.inf])
        found[name] = value
    return found


class Kind(NamedTuple):
    """A format: how a changed file is made, and how it is read."""

    make: Callable[[Path, np.random.Generator], Path]
    read: Callable[[Path], Any]


def _gguf(place: Path, rng: np.random.Generator) -> Path:
    keys, tensors, path = dict(GGUF_KEYS), tensors_of_gguf(), place / "model.gguf"
    how = rng.integers(3)
    if how == 0:
        unknown = ("llama.rope.scaling.type", "llama.logit_scale", "llama.expert_count", "llama.rope.dimension_count",
                   "tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", "llama.new", "general.new")  # fmt: skip
        keys = changed_keys(keys, rng, unknown)
    elif how == 1:
        tensors = changed_tensors(tensors, rng)
    write_gguf(path, keys, tensors)
    if how == 2:
        path.write_bytes(damaged(path.read_bytes(), rng))
    return path


def _folder(place: Path, rng: np.random.Generator) -> Path:
    from safetensors.numpy import load_file, save_file

    family = str(rng.choice(list(FAMILIES)))
    folder = write_model(place / "hf", FAMILIES[family])
    (folder / "tokenizer.json").write_text(_tokenizer())
    how, file = rng.integers(4), folder / "model.safetensors"
    if how == 0:
        unknown = ("attention_bias", "quantization_config", "logits_scaling", "partial_rotary_factor", "new", "use_cache",
                   "sliding_window", "layer_types", "qk_norm")  # fmt: skip
        (folder / "config.json").write_text(json.dumps(changed_keys(FAMILIES[family], rng, unknown)))
    elif how == 1:
        save_file(changed_tensors(load_file(file), rng), file)
    elif how == 2:
        name = str(rng.choice(["config.json", "model.safetensors", "tokenizer.json"]))
        (folder / name).write_bytes(damaged((folder / name).read_bytes(), rng))
    else:
        save_file(
            {str(rng.choice(["model.norm.weight", "more.weight"])): np.ones(24, np.float32)},
            folder / "two.safetensors",
        )
    return folder


def _tokenizer() -> str:
    from tokenizers import Tokenizer, models

    return Tokenizer(models.BPE({word: i for i, word in enumerate(WORDS)}, [("A", "B"), ("C", "D")])).to_str()


def _sae(place: Path, rng: np.random.Generator) -> Path:
    from safetensors.numpy import load_file, save_file

    from features.sae.config import ACTIVATIONS, SAEConfig
    from features.sae.model import init
    from features.sae.storage import save_sae

    folder = place / "sae"
    if rng.random() < 0.2:
        arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in (
            ("W_enc", (6, 9)), ("b_enc", (9,)), ("W_dec", (9, 6)), ("b_dec", (6,)), ("threshold", (9,)))}  # fmt: skip
        folder.mkdir()
        stored: Any = changed_tensors(arrays, rng) if rng.random() < 0.5 else arrays
        np.savez(folder / "params.npz", **stored)
        (folder / "params.npz").write_bytes(damaged((folder / "params.npz").read_bytes(), rng))
        return folder
    kind = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
    config = SAEConfig(6, 9, kind, 3 if "topk" in kind else None)
    save_sae(init(config, key=jax.random.key(int(rng.integers(9)))), folder)
    settings, file = folder / "cfg.json", folder / "sae_weights.safetensors"
    how = rng.integers(3)
    if how == 0:
        unknown = (
            "input_unit_norm",
            "use_error_term",
            "sae_type",
            "new",
            "activation_fn",
            "hook_name",
            "lr",
            "k",
        )
        settings.write_text(json.dumps(changed_keys(json.loads(settings.read_text()), rng, unknown)))
    elif how == 1:
        save_file(changed_tensors(load_file(file), rng), file)
    else:
        name = settings if rng.random() < 0.5 else file
        name.write_bytes(damaged(name.read_bytes(), rng))
    return folder


def _load_model(path: Path) -> Any:
    from features.lm.loading import load

    return load(path).decoder


def _load_sae(path: Path) -> Any:
    from features.sae.storage import load_sae

    return load_sae(path)


KINDS = {"gguf": Kind(_gguf, _load_model), "hf": Kind(_folder, _load_model), "sae": Kind(_sae, _load_sae)}


def outcome(kind: str, seed: int, place: Path) -> tuple[str, float]:
    """What became of one changed file: "read", "refused", or what is wrong; and the seconds."""
    path = KINDS[kind].make(place, np.random.default_rng((seed, len(kind))))
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = KINDS[kind].read(path)
        except ValueError as error:
            said = "refused" if str(path) in str(error) else f"no file named: {error}"
            return said, time.perf_counter() - begun
        except Exception as error:  # what this is here to find
            return f"{type(error).__name__}: {error}", time.perf_counter() - begun
    seconds = time.perf_counter() - begun
    finite = all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(found))
    return ("read" if finite else "weights that are not finite"), seconds


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="of each format")
    parser.add_argument("--only", choices=tuple(KINDS))
    parser.add_argument("--quick", action="store_true", help="300 of each")
    asked = parser.parse_args()
    count, rows, bad = 300 if asked.quick else asked.count, {}, 0
    for kind in [asked.only] if asked.only else KINDS:
        counts: collections.Counter[str] = collections.Counter()
        slowest, first = (0.0, -1), {}
        before = None
        for seed in range(count):
            with tempfile.TemporaryDirectory() as scratch:
                said, seconds = outcome(kind, seed, Path(scratch))
            said = said if len(said) < 120 else said[:120]
            counts[said] += 1
            first.setdefault(said, seed)
            slowest = max(slowest, (seconds, seed)) if seed > 20 else slowest  # libraries are loaded by then
            if seed == 20:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - (before or 0)) / 1024
        others = {said: n for said, n in counts.items() if said not in ("read", "refused")}
        wrong = sum(others.values()) + (slowest[0] > SECONDS) + (grown > MEGABYTES)
        bad += wrong
        rows[kind] = {"files": count, "read": counts["read"], "refused": counts["refused"], "others": others,
                      "slowest seconds": round(slowest[0], 2), "peak memory grew by MB": round(grown, 1)}  # fmt: skip
        print(
            f"{kind:5s} {count} files: {counts['read']} read, {counts['refused']} refused by name, "
            f"{sum(others.values())} otherwise; slowest {slowest[0]:.2f} s (seed {slowest[1]}), memory grew by {grown:.0f} MB",
            flush=True,
        )
        for said, n in others.items():
            print(f"    {n} x {said} (first: seed {first[said]})")
    if asked.only is None:
        output.write(output.results(quick=asked.quick) / "features_files.json", rows)
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
