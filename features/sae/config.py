"""What a sparse autoencoder is, apart from its weights."""

from __future__ import annotations

import dataclasses
from typing import Literal

Activation = Literal["relu", "topk", "batchtopk", "jumprelu"]
Normalize = Literal["none", "expected_average_only_in", "constant_norm_rescale", "layer_norm"]
ACTIVATIONS: tuple[Activation, ...] = ("relu", "topk", "batchtopk", "jumprelu")
NORMALIZATIONS: tuple[Normalize, ...] = (
    "none",
    "expected_average_only_in",
    "constant_norm_rescale",
    "layer_norm",
)


@dataclasses.dataclass(frozen=True)
class SAEConfig:
    """Shape and choices of an autoencoder; the names are those of SAELens.

    Raises: ValueError for sizes, k or names out of range.
    """

    d_in: int
    d_sae: int
    activation: Activation | str = "relu"  # another one is refused, by name
    k: int | None = None  # latents kept per token (topk), or per token on average (batchtopk)
    apply_b_dec_to_input: bool = True
    normalize_activations: Normalize | str = "none"  # likewise
    hook_name: str = ""  # which activations it reads, in the words of whoever trained it
    model_name: str = ""

    def __post_init__(self) -> None:
        for name in ("d_in", "d_sae"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected a positive integer")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation={self.activation!r}: expected one of {', '.join(ACTIVATIONS)}")
        if self.normalize_activations not in NORMALIZATIONS:
            raise ValueError(
                f"normalize_activations={self.normalize_activations!r}: expected one of "
                + ", ".join(NORMALIZATIONS)
            )
        needs_k = self.activation in {"topk", "batchtopk"}
        if needs_k and not (isinstance(self.k, int) and 1 <= self.k <= self.d_sae):
            raise ValueError(f"k={self.k!r}: {self.activation} needs 1 <= k <= d_sae={self.d_sae}")
        if not needs_k and self.k is not None:
            raise ValueError(f"k={self.k}: only topk and batchtopk have one, not {self.activation}")
