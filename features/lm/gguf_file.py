"""Weights and settings from GGUF files, through the `gguf` library; quantized tensors become floats.

The library trusts what the header says; here sizes are checked against the file first, so that a damaged
file is named for what it is, and nothing large is allocated for it.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from features.extras import require
from features.lm.config import DecoderConfig, RopeLayout, RopeScaling
from features.strict_keys import KnownKeys

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFValueType, ReaderField, ReaderTensor

_SMALLEST_ENTRY = 12  # bytes of the shortest key-value pair or tensor description
_ARCHITECTURES = ("llama", "mistral", "gpt2")
# Factors that Llama 3.1 and 3.2 were released with; GGUF keeps only the stretched frequencies.
_KNOWN_SCALINGS = (RopeScaling(factor=8.0), RopeScaling(factor=32.0))
# Bytes of a scalar by its type number; 8 is a text, 9 an array.
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _ARRAY = 8, 9
_SHORT = 100  # values of an array that is looked at


def _known(architecture: str) -> KnownKeys:
    """What the keys of a header mean; `attention.key_length` and the like begin with the architecture."""
    name = re.escape(architecture)
    read = ("embedding_length", "block_count", "context_length", "feed_forward_length", "rope.freq_base")
    read += ("rope.dimension_count",)
    attention = ("head_count", "head_count_kv", "key_length", "value_length", "layer_norm_rms_epsilon")
    attention += ("layer_norm_epsilon", "sliding_window", "scale")
    return KnownKeys(
        read=(
            *(rf"{name}\.{re.escape(key)}" for key in read),
            *(rf"{name}\.attention\.{key}" for key in attention),
        ),
        harmless=(
            r"general\..*",
            r"tokenizer\..*",  # whoever makes a tokenizer of it looks at these
            r"quantize\..*",
            r"split\.(no|tensors\.count)",
            rf"{name}\.(vocab_size|tensor_data_layout)",
            rf"{name}\.rope\.scaling\.(original_context_length|finetuned)",  # of what `type` says
        ),
        fixed={
            r"split\.count": (0, 1),
            rf"{name}\.rope\.scaling\.type": ("none",),
            rf"{name}\.rope\.(scaling\.factor|scale_linear|scaling\.attn_factor)": (1.0,),
            rf"{name}\.attention\.causal": (True,),
            rf"{name}\.attention\.(max_alibi_bias|clamp_kqv)": (0.0,),
            rf"{name}\.(expert_count|expert_used_count|leading_dense_block_count)": (0,),
            rf"{name}\.use_parallel_residual": (False,),
            rf"{name}\.(logit_scale|embedding_scale|residual_scale)": (1.0,),
        },
    )


def _architecture_of(path: Path) -> str | None:
    """`general.architecture` from the file's head, before anything large is read; None where that fails.

    Vocabularies take the reader seconds and hundreds of megabytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:

        def number(count: int) -> int:
            data = file.read(count)
            if len(data) < count:
                raise ValueError("the file ends")
            return int.from_bytes(data, "little")

        def skip(count: int) -> None:
            if file.tell() + count > size:
                raise ValueError("the file ends")
            file.seek(count, 1)

        def value(kind: int) -> bytes | None:
            if kind in _SCALARS:
                skip(_SCALARS[kind])
            elif kind == _TEXT:
                length = number(8)
                if length > size:
                    raise ValueError("a text is longer than the file")
                return file.read(length)
            elif kind == _ARRAY:
                inner, count = number(4), number(8)
                if inner in _SCALARS:
                    skip(count * _SCALARS[inner])
                elif inner == _TEXT and count <= size:
                    for _ in range(count):
                        skip(number(8))
                else:
                    raise ValueError("an array of no known kind")
            else:
                raise ValueError("a value of no known kind")
            return None

        try:
            file.seek(16)
            for _ in range(min(number(8), size // _SMALLEST_ENTRY)):
                key = value(_TEXT)
                found = value(number(4))
                if key == b"general.architecture":
                    return None if found is None else found.decode()
        except ValueError:  # the reader itself says what is damaged
            pass
    return None


def _checked_reader(path: Path) -> GGUFReader:
    gguf = require("gguf")

    class Checked(gguf.GGUFReader):
        def _get_field_parts(
            self, orig_offs: int | np.integer, raw_type: int | np.integer
        ) -> tuple[int, list[np.ndarray], list[int], list[GGUFValueType]]:
            if raw_type == gguf.GGUFValueType.ARRAY:
                count = self._get(orig_offs + 4, np.uint64)
                if not len(count) or int(count[0]) > len(self.data) - orig_offs:
                    raise ValueError("an array is longer than the file")
            return super()._get_field_parts(orig_offs, raw_type)

        def _build_tensors(self, start_offs: int | np.integer, fields: list[ReaderField]) -> None:
            for field in fields:
                *_, dims, kind, offset = field.parts
                shape = tuple(int(d) for d in dims[::-1])
                try:
                    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(int(kind[0]))]
                except ValueError as error:
                    raise ValueError(f"tensor {field.name!r} is of unknown type {int(kind[0])}") from error
                elements = 1
                for d in shape:
                    elements *= d
                end = start_offs + int(offset[0]) + elements // block * size
                if end > len(self.data):
                    raise ValueError(
                        f"tensor {field.name!r} of shape {shape} should end at byte {end}, but the file has "
                        f"{len(self.data)}: it is truncated"
                    )
            return super()._build_tensors(start_offs, fields)

    size = path.stat().st_size
    head = path.open("rb").read(24)
    if len(head) < 24 or head[:4] != b"GGUF":
        raise ValueError(f"{path} is no GGUF file: it starts with {head[:4]!r}, not b'GGUF'")
    tensors, pairs = (int.from_bytes(head[i : i + 8], "little") for i in (8, 16))
    if (tensors + pairs) * _SMALLEST_ENTRY > size:
        raise ValueError(f"{path}: its header promises {tensors} tensors and {pairs} keys, in {size} bytes")
    architecture = _architecture_of(path)
    if architecture is not None and architecture not in _ARCHITECTURES:
        raise _unsupported(path, architecture)
    try:
        return Checked(path)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _unsupported(path: Path, architecture: object) -> ValueError:
    return ValueError(f"{path}: architecture {architecture!r}; supported are {', '.join(_ARCHITECTURES)}")


class GGUFSource:
    """A GGUF file: settings, tokens and tensors by name.

    Raises: ValueError for damaged files, unsupported architectures and unsupported quantizations.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _checked_reader(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.architecture = self.key("general.architecture")
        if self.architecture not in _ARCHITECTURES:
            raise _unsupported(path, self.architecture)
        self.layout = "gguf-gpt2" if self.architecture == "gpt2" else "gguf-llama"

    def key(self, name: str, default: object = ...) -> Any:
        """A value of the header; KeyError-free: names the key that is missing."""
        field = self._reader.get_field(name)
        if field is None:
            if default is ...:
                raise ValueError(f"{self.path}: the header lacks the key {name!r}")
            return default
        return self._contents(name, field)

    def _contents(self, name: str, field: ReaderField) -> Any:
        try:
            return field.contents()
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path}: the text under the key {name!r} is no UTF-8") from error

    def small_keys(self, prefix: str) -> dict[str, Any]:
        """Keys of the header that begin so, with their values; long arrays by their length alone."""
        found = {}
        for name, field in self._reader.fields.items():
            if name.startswith(prefix) and not name.startswith("GGUF."):
                short = len(field.data) <= _SHORT
                found[name] = self._contents(name, field) if short else f"{len(field.data)} values"
        return found

    def config(self, rope_layout: RopeLayout = "half") -> DecoderConfig:
        """The decoder's settings from the header and, for the vocabulary, the embedding's shape."""
        try:
            return self._config(rope_layout)
        except (TypeError, ArithmeticError) as error:
            raise ValueError(f"{self.path}: a setting is of the wrong type or zero ({error})") from error
        except ValueError as error:
            raise error if str(self.path) in str(error) else ValueError(f"{self.path}: {error}") from error

    def _config(self, rope_layout: RopeLayout) -> DecoderConfig:
        name = self.architecture
        _known(name).check(self.path, self.small_keys(""))
        width = self.key(f"{name}.embedding_length")
        heads = self.key(f"{name}.attention.head_count")
        gpt2 = name == "gpt2"
        epsilon = "layer_norm_epsilon" if gpt2 else "layer_norm_rms_epsilon"
        size = self.key(f"{name}.attention.key_length", width // heads)
        if f"{name}.attention.key_length" not in self._reader.fields and width % heads:
            raise ValueError(f"embedding_length {width} is no multiple of attention.head_count {heads}")
        for key, wanted in (
            ("attention.value_length", size),
            ("rope.dimension_count", size),  # fewer: only a part of each head turns
            ("attention.scale", 1 / math.sqrt(size)),
        ):
            value = self.key(f"{name}.{key}", wanted)
            if not math.isclose(value, wanted, rel_tol=1e-5):
                raise ValueError(
                    f"key {f'{name}.{key}'!r} is {value}; supported is {wanted}, as the heads' size is {size}"
                )
        return DecoderConfig(
            num_layers=self.key(f"{name}.block_count"),
            width=width,
            num_heads=heads,
            num_kv_heads=self.key(f"{name}.attention.head_count_kv", heads),
            head_size=size,
            mlp_width=self.key(f"{name}.feed_forward_length"),
            vocab_size=self.shape("token_embd.weight")[0],
            context=self.key(f"{name}.context_length"),
            norm="layer" if gpt2 else "rms",
            norm_eps=float(np.float32(self.key(f"{name}.attention.{epsilon}"))),
            activation="gelu" if gpt2 else "swiglu",
            positions="learned" if gpt2 else "rope",
            rope_base=float(self.key(f"{name}.rope.freq_base", 10_000.0)),
            rope_layout=rope_layout,
            rope_scaling=None if gpt2 else self._scaling(size),
            window=self.key(f"{name}.attention.sliding_window", None),
            bias=gpt2,
            tied="output.weight" not in self._tensors,
        )

    def _scaling(self, head_size: int) -> RopeScaling | None:
        if "rope_freqs.weight" not in self._tensors:
            return None
        import dataclasses

        from features.lm.decoder import rope_frequencies

        found = self.read("rope_freqs.weight")
        base = float(self.key(f"{self.architecture}.rope.freq_base", 10_000.0))
        plain = DecoderConfig(1, head_size, 1, 1, head_size, 1, 1, 1, rope_base=base)
        for scaling in _KNOWN_SCALINGS:
            stretched = rope_frequencies(dataclasses.replace(plain, rope_scaling=scaling))
            if np.allclose(rope_frequencies(plain) / stretched, found, rtol=1e-3):
                return scaling
        raise ValueError(f"{self.path}: rope_freqs.weight is not a stretch that Llama 3.1 or 3.2 use")

    def names(self) -> set[str]:
        """Of all tensors that a model is made of."""
        return set(self._tensors) - {"rope_freqs.weight"}  # which `config` reads

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape after dequantization, rows first."""
        return tuple(int(d) for d in self._find(name).shape[::-1])

    def _find(self, name: str) -> ReaderTensor:
        if name not in self._tensors:
            raise ValueError(f"{self.path}: tensor {name!r} is missing")
        return self._tensors[name]

    def read(self, name: str) -> Float32[np.ndarray, "..."]:
        """A tensor as float32, dequantized."""
        quants = require("gguf").quants
        tensor = self._find(name)
        try:
            values = quants.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as error:
            known = ", ".join(sorted(kind.name for kind in quants._type_traits))
            raise ValueError(
                f"{self.path}: tensor {name!r} is quantized as {tensor.tensor_type.name}; "
                f"supported are F32, F16, {known}"
            ) from error
        return np.asarray(values, np.float32)
