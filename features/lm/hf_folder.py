"""Weights and settings from folders in the form of Hugging Face: config.json and safetensors files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from features.extras import require
from features.lm.config import DecoderConfig, RopeLayout, RopeScaling

if TYPE_CHECKING:
    from safetensors import safe_open

_MODEL_TYPES = ("llama", "mistral", "gpt2")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ValueError names the file that is none, or cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, numbers too long, nested too deep
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, expected an object")
    return found


def open_safetensors(path: Path) -> safe_open:
    """A safetensors file, lazily; ValueError for damaged ones (nothing is allocated for their headers)."""
    import ml_dtypes  # noqa: F401  (teaches numpy bfloat16)

    safetensors = require("safetensors")
    try:
        return safetensors.safe_open(path, framework="numpy")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


class HFSource:
    """A folder with config.json and *.safetensors.

    Raises: ValueError for missing keys and tensors, unsupported families and damaged files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = read_json(path / "config.json")
        self.architecture = self.settings.get("model_type")
        if self.architecture not in _MODEL_TYPES:
            raise ValueError(
                f"{path / 'config.json'}: model_type {self.architecture!r}; "
                f"supported are {', '.join(_MODEL_TYPES)}"
            )
        self.layout = "hf-gpt2" if self.architecture == "gpt2" else "hf-llama"
        files = sorted(path.glob("*.safetensors"))
        if not files:
            others = sorted(p.name for p in path.iterdir() if p.suffix in {".bin", ".pt", ".pth"})
            raise ValueError(
                f"{path} holds no *.safetensors file"
                + (
                    f"; {others} are pickles, which can run code when read and are not read here. "
                    "Convert them with `safetensors.torch.save_file`"
                    if others
                    else ""
                )
            )
        self._files: dict[str, tuple[safe_open, str]] = {}
        for file in files:
            handle = open_safetensors(file)
            for name in handle.keys():  # noqa: SIM118  (no mapping)
                self._files[name.removeprefix("transformer.") if self.architecture == "gpt2" else name] = (
                    handle,
                    name,
                )

    def key(self, name: str, default: object = ...) -> Any:
        """A value of config.json."""
        value = self.settings.get(name)
        if value is not None:
            return value
        if default is ...:
            raise ValueError(f"{self.path / 'config.json'}: key {name!r} is missing")
        return default

    def config(self, rope_layout: RopeLayout = "half") -> DecoderConfig:
        """The decoder's settings."""
        if rope_layout != "half":
            raise ValueError(f"rope_layout={rope_layout!r}: weights of this form are laid out 'half'")
        file = self.path / "config.json"
        try:
            return self._config()
        except (TypeError, KeyError, ArithmeticError, AttributeError) as error:
            raise ValueError(f"{file}: a setting is missing or of the wrong type ({error!r})") from error
        except ValueError as error:
            raise error if str(file) in str(error) else ValueError(f"{file}: {error}") from error

    def _config(self) -> DecoderConfig:
        if self.architecture == "gpt2":
            if self.key("activation_function", "gelu_new") not in {"gelu_new", "gelu_pytorch_tanh"}:
                raise ValueError(
                    f"{self.path / 'config.json'}: activation_function "
                    f"{self.settings['activation_function']!r}; supported is gelu_new"
                )
            if self.settings.get("scale_attn_by_inverse_layer_idx"):
                raise ValueError(
                    f"{self.path / 'config.json'}: scale_attn_by_inverse_layer_idx is not supported"
                )
            width, heads = self.key("n_embd"), self.key("n_head")
            return DecoderConfig(
                num_layers=self.key("n_layer"),
                width=width,
                num_heads=heads,
                num_kv_heads=heads,
                head_size=width // heads,
                mlp_width=self.key("n_inner", 4 * width),
                vocab_size=self.key("vocab_size"),
                context=self.key("n_positions", 1024),
                norm="layer",
                norm_eps=self.key("layer_norm_epsilon", 1e-5),
                activation="gelu",
                positions="learned",
                bias=True,
                tied=bool(self.settings.get("tie_word_embeddings", True)),
            )
        if self.settings.get("attention_bias") or self.settings.get("mlp_bias"):
            raise ValueError(f"{self.path / 'config.json'}: Llama weights with biases are not supported")
        if self.key("hidden_act", "silu") != "silu":
            raise ValueError(f"hidden_act {self.settings['hidden_act']!r}: only silu is supported")
        width, heads = self.key("hidden_size"), self.key("num_attention_heads")
        rope = self.settings.get("rope_parameters") or self.settings.get("rope_scaling") or {}
        return DecoderConfig(
            num_layers=self.key("num_hidden_layers"),
            width=width,
            num_heads=heads,
            num_kv_heads=self.key("num_key_value_heads", heads),
            head_size=self.key("head_dim", width // heads),
            mlp_width=self.key("intermediate_size"),
            vocab_size=self.key("vocab_size"),
            context=self.key("max_position_embeddings", 2048),
            norm_eps=self.key("rms_norm_eps", 1e-6),
            rope_base=float(rope.get("rope_theta") or self.key("rope_theta", 10_000.0)),
            rope_scaling=self._scaling(rope),
            window=self.settings.get("sliding_window") if self.architecture == "mistral" else None,
            tied=bool(self.settings.get("tie_word_embeddings", False)),
        )

    def _scaling(self, rope: dict[str, Any]) -> RopeScaling | None:
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind == "default":
            return None
        if kind != "llama3":
            raise ValueError(f"{self.path / 'config.json'}: rope_type {kind!r}; supported: default, llama3")
        return RopeScaling(
            float(rope["factor"]),
            float(rope["low_freq_factor"]),
            float(rope["high_freq_factor"]),
            int(rope["original_max_position_embeddings"]),
        )

    def names(self) -> set[str]:
        """Of all tensors."""
        return set(self._files)

    def _find(self, name: str) -> tuple[safe_open, str]:
        if name not in self._files:
            raise ValueError(f"{self.path}: tensor {name!r} is missing")
        return self._files[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """As the file says."""
        handle, stored = self._find(name)
        return tuple(handle.get_slice(stored).get_shape())

    def read(self, name: str) -> Shaped[np.ndarray, "..."]:
        """A tensor in the file's own type."""
        handle, stored = self._find(name)
        return handle.get_tensor(stored)
