"""What a sparse autoencoder is, apart from its weights, and how it is trained."""

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
    activation: Activation = "relu"
    k: int | None = None  # latents kept per token (topk), or per token on average (batchtopk)
    apply_b_dec_to_input: bool = True
    normalize_activations: Normalize = "none"
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


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How an autoencoder is trained.

    Raises: ValueError for values out of range.
    """

    steps: int = 8000
    batch: int = 4096
    """tokens per step"""
    learning_rate: float = 1e-3
    warmup: int = 500
    """steps over which the learning rate rises"""
    decay: float = 0.3
    """share of the steps, at the end, over which it falls to zero"""
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    """of AdamW"""
    sparsity: float = 0.1
    """lambda: weight of the sparsity penalty (relu, jumprelu)"""
    sparsity_warmup: int = 0
    """steps over which it rises from zero"""
    p: float = 1.0
    """exponent of the L_p penalty, 0 < p <= 1"""
    unit_norm: bool = True
    """decoder rows of norm 1, gradients projected; else the penalty weighs their norms"""
    b_dec_init: Literal["zeros", "mean", "median"] = "mean"
    """median: geometric"""
    b_enc_init: float = 0.0
    dead_after: int = 1000
    """steps without firing"""
    resample_at: tuple[int, ...] = ()
    """steps at which latents dead for `dead_after` get new directions"""
    aux_k: int | None = None
    """dead latents that explain the residual (topk); None: half of d_in"""
    aux_weight: float = 1 / 32
    bandwidth: float = 0.05
    """of jumprelu's straight-through gradients"""
    tanh_penalty: bool = False
    """jumprelu: sum tanh(4 a |D|) in place of the count"""
    products: Literal["auto", "sparse", "dense"] = "auto"
    """of topk; auto: what `on` says, sparse on CPUs and dense elsewhere"""
    microbatch: int | None = None
    """tokens at a time of relu and jumprelu; None: what `on` says, 1024 on CPUs and all elsewhere"""
    chunk: int = 100
    """steps per compiled call"""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "chunk", "dead_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least 1")
        if not 0 < self.p <= 1:
            raise ValueError(f"p={self.p}: the penalty's exponent must be in (0, 1]")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay={self.decay}: a share of the steps, between 0 and 1")
        for name in ("learning_rate", "bandwidth"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be positive")
        for name in ("sparsity", "sparsity_warmup", "warmup", "weight_decay", "aux_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)}: must not be negative")
        for name in ("aux_k", "microbatch"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least 1, or None")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least 0 and below 1")
        for name, known in (
            ("b_dec_init", ("zeros", "mean", "median")),
            ("products", ("auto", "sparse", "dense")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected one of {', '.join(known)}")

    def on(self, platform: str) -> TrainConfig:
        """What these settings leave open, decided for a platform: "cpu", "tpu", or "gpu" in any of its names.

        The device that a program is compiled for need not be the one that compiles it.
        """
        decided: TrainConfig = self
        if self.products == "auto":
            decided = dataclasses.replace(decided, products="sparse" if platform == "cpu" else "dense")
        if self.microbatch is None:
            decided = dataclasses.replace(decided, microbatch=1024 if platform == "cpu" else self.batch)
        return decided
