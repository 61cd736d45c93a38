"""What a decoder looks like: the settings that the Llama, Mistral and GPT-2 families share and differ in."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

Norm = Literal["rms", "layer", "none"]
Activation = Literal["swiglu", "gelu", "relu"]
Positions = Literal["rope", "learned"]
RopeLayout = Literal["half", "interleaved"]


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama 3.1's stretch of the low rotary frequencies to contexts longer than those trained on."""

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192  # tokens


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shape and choices of a pre-norm decoder-only transformer.

    Raises: ValueError where sizes do not fit each other.
    """

    num_layers: int
    width: int  # of the residual stream
    num_heads: int
    num_kv_heads: int  # = num_heads without grouped queries
    head_size: int
    mlp_width: int
    vocab_size: int
    context: int  # tokens at most
    norm: Norm = "rms"
    norm_eps: float = 1e-5
    activation: Activation = "swiglu"
    positions: Positions = "rope"
    rope_base: float = 10_000.0
    rope_layout: RopeLayout = "half"  # which coordinates turn together: (i, i + size / 2) or (2 i, 2 i + 1)
    rope_scaling: RopeScaling | None = None
    window: int | None = None  # tokens a query sees, itself included; None: all before it
    bias: bool = False
    tied: bool = True  # the unembedding is the embedding

    def __post_init__(self) -> None:
        sizes = ("num_layers", "width", "num_heads", "num_kv_heads", "head_size", "mlp_width", "vocab_size")
        for name in (*sizes, "context"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}={value!r}: expected a positive integer")
        for name, low, high in (("norm_eps", 0, 1), ("rope_base", 1, math.inf)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low < value < high:
                range_ = f"below {high}" if name == "norm_eps" else f"above {low}"
                raise ValueError(f"{name}={value!r}: expected a positive number {range_}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads={self.num_heads} is no multiple of num_kv_heads={self.num_kv_heads}: "
                "every key head serves the same number of query heads"
            )
        if self.positions == "rope" and self.head_size % 2:
            raise ValueError(f"head_size={self.head_size}: rotary positions turn pairs, so it must be even")
        if self.window is not None and (type(self.window) is not int or self.window < 1):
            raise ValueError(f"window={self.window}: expected at least one token, or None")
