"""The networks that are generated, classified and drawn: multi-layer perceptrons as pytrees."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Real, Shaped

from hypernet.arrays import AnyArray

Activation: TypeAlias = Callable[[Float[AnyArray, "*shape"]], Float[Array, "*shape"]]
_Index: TypeAlias = int | np.integer | slice | EllipsisType | Shaped[AnyArray, "..."]

ACTIVATIONS: dict[str, Activation] = {
    "swish": jax.nn.silu,
    "relu": jax.nn.relu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu-tanh": functools.partial(jax.nn.gelu, approximate=True),
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


def activation_named(name: str) -> Activation:
    """An activation by name.

    Raises: ValueError for a name that is not in ACTIVATIONS.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r}: expected one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


class MLP(eqx.Module):
    """f(x) = v . phi(... phi(x W + b) ...) + c, with one or more hidden layers.

    Arrays may carry common leading axes (networks generated together); `x` then needs none. They are
    NumPy's where a network is exact (float64), jax's where it is generated or trained.
    """

    # `_inputs`, `_hidden`: other sizes in every layer
    weights: tuple[Float[AnyArray, "*networks _inputs _hidden"], ...]
    biases: tuple[Float[AnyArray, "*networks _hidden"], ...]
    # readout; no last axis: f is a number
    v: Float[AnyArray, "*networks _hidden"] | Float[AnyArray, "*networks _hidden _outputs"]
    # one number, or one per output
    c: Float[AnyArray | np.floating, "*networks"] | Float[AnyArray, "*networks _outputs"]
    activation: str = eqx.field(static=True, default="swish")

    @property
    def W(self) -> Float[AnyArray, "*networks inputs hidden"]:  # noqa: N802
        """Weights into the first hidden layer."""
        return self.weights[0]

    @property
    def b(self) -> Float[AnyArray, "*networks hidden"]:
        """Biases of the first hidden layer."""
        return self.biases[0]

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.weights[0].shape[-2]

    @property
    def batch(self) -> tuple[int, ...]:
        """Leading axes: () for one network."""
        return self.weights[0].shape[:-2]

    @property
    def vector(self) -> bool:
        """Whether outputs form an axis."""
        return self.v.ndim - len(self.batch) == 2

    def __call__(
        self, x: Real[AnyArray, "*points inputs"]
    ) -> Float[Array, "*points"] | Float[Array, "*points outputs"]:
        """Outputs at points; for networks with leading axes use `evaluate`."""
        if self.batch:
            raise ValueError(f"this holds networks of shape {self.batch}: use evaluate(mlps, x) or mlps[i]")
        phi = activation_named(self.activation)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            u = x @ weight
            x = phi(u + _beside(bias, u.ndim))
        f = x @ self.v
        c = self.c if isinstance(self.c, np.floating) or not self.vector else _beside(self.c, f.ndim)
        return jnp.asarray(f + c)

    def __getitem__(self, index: _Index | tuple[_Index, ...]) -> MLP:
        """One network (or some) of those with leading axes."""
        if not self.batch:
            raise IndexError("this is one network; there is nothing to index")
        if any(isinstance(part, Tracer) for part in jax.tree.leaves(index)):
            return jax.tree.map(lambda leaf: leaf[index], self)
        if isinstance(index, (int, np.integer)) and not -self.batch[0] <= index < self.batch[0]:
            raise IndexError(f"network {index} of {self.batch[0]}")
        # NumPy decides which networks are meant: jax would clamp an index that is out of bounds, and an
        # ellipsis or one index too many would reach into the weights' own axes
        chosen = np.arange(math.prod(self.batch)).reshape(self.batch)[index]
        axes = len(self.batch)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[axes:])[chosen], self)

    def __len__(self) -> int:
        if not self.batch:
            raise TypeError("this is one network; it has no length")
        return self.batch[0]

    def __iter__(self) -> Iterator[MLP]:
        return (self[index] for index in range(len(self)))

    def __bool__(self) -> bool:
        return True


def _beside(vector: Float[AnyArray, " width"], axes: int) -> Float[AnyArray, "*ones width"]:
    """A vector for arrays of so many axes, along their last one; NumPy's stays NumPy's."""
    return vector[(None,) * (axes - 1)]


def evaluate(
    mlps: MLP, x: Real[AnyArray, "points inputs"]
) -> Float[Array, "*networks points"] | Float[Array, "*networks points outputs"]:
    """Outputs of all networks of an MLP with any leading axes at the same points."""
    call = MLP.__call__
    for _ in mlps.batch:
        call = jax.vmap(call, in_axes=(0, None))
    return call(mlps, x)
