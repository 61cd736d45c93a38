"""Settings of a run. Imports nothing heavy, so that the command line answers at once."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import operator
from collections.abc import Collection
from typing import Any, Literal, NamedTuple


def unknown(kind: str, name: str, known: Collection[str]) -> ValueError:
    """The error for a name that is none of the known ones, with what may have been meant."""
    near = difflib.get_close_matches(name, known, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return ValueError(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}")


def positive_integer(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """The value as an int; NumPy's integers are integers.

    Raises: ValueError if it is none, too small or too large.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        wanted = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"{name}={value!r}: expected {wanted}")
    if most is not None and number > most:
        raise ValueError(f"{name}={value!r}: expected at most {most}")
    return number


def seed_number(value: Any) -> int:
    """The value as a seed. Raises: ValueError unless it is an integer from 0 to 2^32 - 1.

    jax makes its keys of 32 bits: larger numbers would be another seed than they say.
    """
    return positive_integer("seed", value, least=0, most=2**32 - 1)


@dataclasses.dataclass(frozen=True)
class Variant:
    """Departures from the reference's network; the defaults have none.

    The paper describes a normalization before the softmax and the nonlinear layer; the
    authors' code computes it and then ignores it. `apply_pre_norm` applies it.
    Transposing a puzzle changes the reference's result through one layer only, softmax,
    whose outputs over rows and over columns have separate weights; `symmetric_softmax`
    averages them, which makes transposition an exact symmetry.
    """

    apply_pre_norm: bool = False
    symmetric_softmax: bool = False


MOST_CHUNK = 10_000
"""Steps of a device call at most: what every step reports lies on the device until then."""


PRODUCTS = ("auto", "float32", "fast")

ADDED_LATER = {"products": "auto"}
"""Settings that folders of earlier versions say nothing of, and what they were then."""


class Form(NamedTuple):
    """What a step is written for; the result is the same but for rounding."""

    platform: Literal["cpu", "gpu", "tpu"] = "cpu"
    lanes: int = 1
    """runs side by side on one device, where that makes a difference: on GPUs"""


class Program(NamedTuple):
    """Static settings of the compiled step; hashable."""

    chunk: int
    learning_rate: float
    b1: float
    b2: float
    eps: float
    variant: Variant
    products: Literal["auto", "float32", "fast"] = "auto"
    form: Form = Form()

    def on(self, platform: str, lanes: int = 1) -> Program:
        """What is left open, decided for a platform: "cpu", "tpu", or "gpu" in any of its names.

        lanes: runs side by side on one device.
        """
        form = (
            Form("gpu", lanes)
            if platform not in ("cpu", "tpu")
            else Form("tpu" if platform == "tpu" else "cpu")
        )
        products = "float32" if self.products == "auto" and platform == "tpu" else self.products
        return self._replace(products=products, form=form)


@dataclasses.dataclass(frozen=True)
class SolveConfig:
    """Settings of a run; the defaults are the paper's."""

    steps: int = 2000
    """training steps; 2000 in the published runs, a few hundred solve easy puzzles"""
    chunk: int = 25
    """steps per device call; progress, checkpoints and the vote happen between calls"""
    learning_rate: float = 0.01
    """of Adam, constant"""
    b1: float = 0.5
    """Adam's decay of the mean gradient"""
    b2: float = 0.9
    """Adam's decay of the mean squared gradient"""
    eps: float = 1e-8
    """Adam's denominator offset"""
    apply_pre_norm: bool = False
    """normalize before softmax and nonlinear layers, as the paper says and the reference's code does not"""
    symmetric_softmax: bool = False
    """average row and column weights of softmax layers: transposition becomes an exact symmetry"""
    products: Literal["auto", "float32", "fast"] = "auto"
    """matrix products: in float32; fast, as the device has them (bfloat16 on TPUs, TF32 on GPUs);
    auto, float32 on TPUs and elsewhere as JAX is set to"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", positive_integer("steps", self.steps))
        object.__setattr__(self, "chunk", positive_integer("chunk", self.chunk, most=MOST_CHUNK))
        for name in ("apply_pre_norm", "symmetric_softmax"):
            value = getattr(self, name)
            value = value.item() if hasattr(value, "item") else value  # NumPy's are fine
            if not isinstance(value, bool):
                raise ValueError(f"{name}={value!r}: expected True or False")
            object.__setattr__(self, name, value)
        if self.products not in PRODUCTS:
            raise ValueError(f"products={self.products!r}: expected one of {', '.join(PRODUCTS)}")
        for name, low, high in (
            ("learning_rate", 0, math.inf),
            ("eps", 0, math.inf),
            ("b1", -1e-300, 1),
            ("b2", -1e-300, 1),
        ):
            value = getattr(self, name)
            real = isinstance(value, numbers.Real) and not isinstance(value, bool)
            number = float(value) if real else math.nan
            if not low < number < high:
                raise ValueError(f"{name}={value!r}: expected a number between {max(low, 0):g} and {high:g}")
            object.__setattr__(self, name, number)

    @property
    def program(self) -> Program:
        """The part of the settings that the compiled program depends on."""
        return Program(
            self.chunk,
            self.learning_rate,
            self.b1,
            self.b2,
            self.eps,
            Variant(self.apply_pre_norm, self.symmetric_softmax),
            self.products,
        )
