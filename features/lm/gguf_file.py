"""Weights and settings from GGUF files, through the `gguf` library; quantized tensors become floats.

The library trusts what the header says; here sizes are checked against the file first, so that a damaged
file is named for what it is, and nothing large is allocated for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from features.extras import require
from features.lm.config import DecoderConfig, RopeLayout, RopeScaling

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFValueType, ReaderField, ReaderTensor

_SMALLEST_ENTRY = 12  # bytes of the shortest key-value pair or tensor description
_ARCHITECTURES = ("llama", "mistral", "gpt2")
# Factors that Llama 3.1 and 3.2 were released with; GGUF keeps only the stretched frequencies.
_KNOWN_SCALINGS = (RopeScaling(factor=8.0), RopeScaling(factor=32.0))


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
    try:
        return Checked(path)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


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
            raise ValueError(
                f"{path}: architecture {self.architecture!r}; supported are {', '.join(_ARCHITECTURES)}"
            )
        self.layout = "gguf-gpt2" if self.architecture == "gpt2" else "gguf-llama"

    def key(self, name: str, default: object = ...) -> Any:
        """A value of the header; KeyError-free: names the key that is missing."""
        field = self._reader.get_field(name)
        if field is None:
            if default is ...:
                raise ValueError(f"{self.path}: the header lacks the key {name!r}")
            return default
        return field.contents()

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
        width = self.key(f"{name}.embedding_length")
        heads = self.key(f"{name}.attention.head_count")
        gpt2 = name == "gpt2"
        epsilon = "layer_norm_epsilon" if gpt2 else "layer_norm_rms_epsilon"
        size = self.key(f"{name}.attention.key_length", width // heads)
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
        """Of all tensors."""
        return set(self._tensors)

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
