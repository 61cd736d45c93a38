"""What a generator is, as frozen settings; by default a posterior table per orbit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from hypernet.generator.assignment import Assignment
from hypernet.networks.mlp import activation_named
from hypernet.validation import as_tuple, whole


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Form of a generator and of the networks it generates. Hashable: static under jit."""

    backend: Literal["tables", "transformer"] = "tables"
    """tables: a posterior per orbit. transformer: a graph transformer in a hierarchical VAE"""
    assignment: Assignment = dataclasses.field(default_factory=Assignment)
    """hidden layers and their slots; how columns are related"""
    activation: str = "swish"
    """of the generated networks: swish, relu, gelu, softplus, tanh"""
    outputs: int | Literal["inputs"] | None = None
    """None: the target's, else a number; an int: a vector of that length; inputs: one as long as the input"""
    log10_beta: Sequence[float] = (-6.0, 0.0)
    """range of log10 beta that is trained: low, high; kept as a tuple"""
    latent: int = 3
    """numbers per latent"""
    modes: int = 1
    """branches that one generator holds, each with its own posterior tables; decoders are shared"""
    power_law: bool = True
    """tables: an edge's latents also decide a power of n; False: the plain form"""
    size_exponent: float = 0.5
    """precise edge latents narrow as n^-this, beyond what is learned; 0.5 keeps the summed noise constant"""
    attention: Literal["both", "encoder"] = "both"
    """transformer: whether the decoder looks across edges too, as in the paper, or the encoder alone"""
    directions: int = 4
    """directions in which beta moves the weights"""

    def __post_init__(self) -> None:
        activation_named(self.activation)
        if self.backend not in ("tables", "transformer"):
            raise ValueError(f"backend={self.backend!r}: expected 'tables' or 'transformer'")
        if self.attention not in ("both", "encoder"):
            raise ValueError(f"attention={self.attention!r}: expected 'both' or 'encoder'")
        object.__setattr__(self, "log10_beta", as_tuple("log10_beta", self.log10_beta))
        if len(self.log10_beta) != 2:
            raise ValueError(f"log10_beta={self.log10_beta}: expected two numbers, low and high")
        low, high = self.log10_beta
        if not -20 <= low < high <= 5:
            raise ValueError(f"log10_beta={self.log10_beta}: expected an increasing pair within -20 .. 5")
        for name in ("latent", "modes", "directions"):
            whole(name, getattr(self, name))
        if not isinstance(self.power_law, bool):
            raise ValueError(f"power_law={self.power_law!r}: expected True or False")
        if not 0 <= self.size_exponent <= 2:
            raise ValueError(f"size_exponent={self.size_exponent}: expected 0 to 2")
        if self.outputs is not None and self.outputs != "inputs":
            if isinstance(self.outputs, str):
                raise ValueError(f"outputs={self.outputs!r}: expected a whole number, 'inputs', or None")
            whole("outputs", self.outputs)
        if self.backend == "transformer" and (len(self.assignment.slots) > 1 or self.outputs is not None):
            raise ValueError("backend='transformer': one hidden layer and a single output; use 'tables'")

    @property
    def place_size(self) -> int:
        """Numbers that say where in a vector an output stands."""
        return 0 if self.outputs is None else 3
