"""Weights and settings from folders in the form of Hugging Face: config.json and safetensors files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from features.extras import require
from features.lm.config import DecoderConfig, RopeLayout, RopeScaling
from features.strict_keys import KnownKeys

if TYPE_CHECKING:
    from safetensors import safe_open

_MODEL_TYPES = ("llama", "mistral", "gpt2")

# What every configuration of transformers may hold: how text is generated, how the model was trained, labels.
_HARMLESS = (
    "architectures|model_type|_name_or_path|transformers_version|torch_dtype|dtype|_commit_hash|name_or_path",
    "use_cache|output_\\w+|return_dict\\w*|torchscript|tf_legacy_loss|use_bfloat16|gradient_checkpointing",
    "chunk_size_feed_forward|pretraining_tp|_?attn_implementation\\w*|use_flash_attention\\w*",
    "(bos|eos|pad|sep|unk|decoder_start|image|mask)_token_id|tokenizer_class|prefix|vocab_file",
    "initializer_range|init_std|(attention|hidden|attn|resid|embd|embedding|classifier|mlp)_?(pdrop|dropout)|dropout",
    "task_specific_params|problem_type|finetuning_task|num_labels|id2label|label2id|summary_\\w+",
    "temperature|top_k|top_p|typical_p|do_sample|(max|min)_length|max_new_tokens|num_beams|num_beam_groups",
    "\\w*_penalty|early_stopping|num_return_sequences|bad_words_ids|forced_\\w+|(begin_)?suppress_tokens",
    "exponential_decay_length_penalty|(encoder_)?no_repeat_ngram_size|remove_invalid_values|model_max_length",
    "max_sequence_length|transformers\\.js_config|unsloth_\\w+|is_llama_config|n_ctx|n_special|language|license",
    "predict_special_tokens|reorder_and_upcast_attn|is_decoder|is_encoder_decoder|cross_attention_hidden_size",
    "tie_encoder_decoder|max_window_layers|scalar|rope_interleaved|_flash_attn_2_enabled|training_\\w+",
)
_FIXED: dict[str, tuple[Any, ...]] = {
    "pruned_heads": ({},),
    "add_cross_attention|use_sliding_window|attention_bias|mlp_bias|qk_layernorm|use_qk_norm": (False,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "scale_attn_weights": (True,),
    "partial_rotary_factor|logit_scale|logits_scaling|embedding_multiplier|residual_multiplier": (1.0,),
}
_LLAMA_KEYS = KnownKeys(
    read=(
        "hidden_size|intermediate_size|num_hidden_layers|num_attention_heads|num_key_value_heads|head_dim",
        "vocab_size|max_position_embeddings|rms_norm_eps|rope_theta|rope_scaling|rope_parameters",
        "tie_word_embeddings|layer_types|sliding_window",
    ),
    harmless=_HARMLESS,
    fixed={"hidden_act|hidden_activation": ("silu",), **_FIXED},
)
_GPT2_KEYS = KnownKeys(
    read=("n_embd|n_head|n_layer|n_inner|vocab_size|n_positions|layer_norm_epsilon|tie_word_embeddings",),
    harmless=_HARMLESS,
    fixed={"activation_function": ("gelu_new", "gelu_pytorch_tanh"), **_FIXED},
)
_ROPE_KEYS = KnownKeys(
    read=(
        "rope_type|type|rope_theta|factor|low_freq_factor|high_freq_factor|original_max_position_embeddings",
    ),
    harmless=(),
    fixed={"partial_rotary_factor|attention_factor": (1.0,)},
)
_FLOATS = {"F32", "F16", "BF16", "F64"}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ValueError names the file that is none, or cannot be read."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} stands there twice")
        return dict(pairs)

    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
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


def read_floats(path: Path, handle: safe_open, name: str) -> Shaped[np.ndarray, "..."]:
    """A tensor in the file's own type. Raises ValueError for integers, which stand for something else."""
    kind = handle.get_slice(name).get_dtype()
    if kind not in _FLOATS:
        raise ValueError(
            f"{path}: tensor {name!r} is stored as {kind}; supported are {', '.join(sorted(_FLOATS))}"
        )
    return handle.get_tensor(name)


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
        # Mistral's own copy of the weights, under other names, beside those of transformers.
        files = [f for f in files if not f.name.startswith("consolidated")] or files
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
                ours = name.removeprefix("transformer.") if self.architecture == "gpt2" else name
                if ours in self._files:
                    raise ValueError(
                        f"{file}: tensor {name!r} is there twice; another file of the folder holds it, too"
                    )
                self._files[ours] = (handle, name)

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
        if self.settings.get("attention_bias") or self.settings.get("mlp_bias"):
            raise ValueError(f"{self.path / 'config.json'}: Llama weights with biases are not supported")
        known = _GPT2_KEYS if self.architecture == "gpt2" else _LLAMA_KEYS
        known.check(self.path / "config.json", self.settings)
        if self.architecture == "gpt2":
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
                tied=self._tied(True),
            )
        width, heads = self.key("hidden_size"), self.key("num_attention_heads")
        if self.settings.get("head_dim") is None and width % heads:
            raise ValueError(f"hidden_size {width} is no multiple of num_attention_heads {heads}")
        rope = self.settings.get("rope_parameters") or self.settings.get("rope_scaling") or {}
        _ROPE_KEYS.check(f"{self.path / 'config.json'}: rope_parameters", rope)
        window = self.settings.get("sliding_window")
        layers = self.settings.get("layer_types") or []
        if window is not None and self.architecture != "mistral":
            raise ValueError(f"key 'sliding_window' is {window!r}; supported is null, as a llama has none")
        uniform = "full_attention" if window is None else "sliding_attention"
        if any(layer != uniform for layer in layers):
            raise ValueError(f"key 'layer_types' is {layers!r}; supported is {uniform!r} throughout")
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
            window=window,
            tied=self._tied(False),
        )

    def _tied(self, default: bool) -> bool:
        """Whether the unembedding is the embedding; where a file holds both then, they must be the same."""
        tied = self.key("tie_word_embeddings", default)
        if not isinstance(tied, bool):
            raise ValueError(f"key 'tie_word_embeddings' is {tied!r}, expected true or false")
        embedding = "wte.weight" if self.architecture == "gpt2" else "model.embed_tokens.weight"
        if tied and "lm_head.weight" in self._files and embedding in self._files:
            same = self.shape("lm_head.weight") == self.shape(embedding)
            if not same or not np.array_equal(self.read("lm_head.weight"), self.read(embedding)):
                raise ValueError("tie_word_embeddings is true, but lm_head.weight is not the embedding")
        return tied

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
        """Of all tensors that a model is made of; masks and the like that older versions stored are not."""
        stored = (
            r"h\.\d+\.attn\.(masked_)?bias" if self.architecture == "gpt2" else r".*\.rotary_emb\.inv_freq"
        )
        copies = (
            {"lm_head.weight"}
            if self.settings.get("tie_word_embeddings", self.architecture == "gpt2")
            else set()
        )
        return {name for name in self._files if name not in copies and not re.fullmatch(stored, name)}

    def _find(self, name: str) -> tuple[safe_open, str]:
        if name not in self._files:
            raise ValueError(f"{self.path}: tensor {name!r} is missing")
        return self._files[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """As the file says."""
        handle, stored = self._find(name)
        return tuple(handle.get_slice(stored).get_shape())

    def read(self, name: str) -> Shaped[np.ndarray, "..."]:
        """`read_floats`, by the name that it has here."""
        return read_floats(self.path, *self._find(name))
