"""The networks that are generated, classified and drawn: multi-layer perceptrons as pytrees."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "swish": jax.nn.silu,
    "relu": jax.nn.relu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu-tanh": functools.partial(jax.nn.gelu, approximate=True),
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


def activation_named(name: str) -> Callable[[Array], Array]:
    """An activation by name.

    Raises: ValueError for a name that is not in ACTIVATIONS.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r}: expected one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


class MLP(eqx.Module):
    """f(x) = v . phi(... phi(x W + b) ...) + c, with one or more hidden layers.

    Arrays may carry common leading axes (networks generated together); `x` then needs none.
    """

    weights: tuple[Float[Array, "... inputs hidden"], ...]
    biases: tuple[Float[Array, "... hidden"], ...]
    v: Float[Array, "... hidden *outputs"]  # readout; no last axis: f is a number
    c: Float[Array, "..."]  # one number, or one per output
    activation: str = eqx.field(static=True, default="swish")

    @property
    def W(self) -> Float[Array, "... inputs hidden"]:  # noqa: N802
        """Weights into the first hidden layer."""
        return self.weights[0]

    @property
    def b(self) -> Float[Array, "... hidden"]:
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

    def __call__(self, x: Float[Array, "*points inputs"]) -> Float[Array, "*points"]:
        """Outputs at points; for networks with leading axes use `evaluate`."""
        if self.batch:
            raise ValueError(f"this holds networks of shape {self.batch}: use evaluate(mlps, x) or mlps[i]")
        phi = activation_named(self.activation)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = phi(x @ weight + bias)
        return x @ self.v + self.c

    def __getitem__(self, index) -> MLP:
        """One network (or some) of those with leading axes."""
        if not self.batch:
            raise IndexError("this is one network; there is nothing to index")
        if isinstance(index, int) and not -self.batch[0] <= index < self.batch[0]:
            raise IndexError(f"network {index} of {self.batch[0]}")  # jax would clamp
        return jax.tree.map(lambda leaf: leaf[index], self)

    def __len__(self) -> int:
        if not self.batch:
            raise TypeError("this is one network; it has no length")
        return self.batch[0]

    def __iter__(self) -> Iterator[MLP]:
        return (self[index] for index in range(len(self)))

    def __bool__(self) -> bool:
        return True


def evaluate(mlps: MLP, x: Float[Array, "points inputs"]) -> Float[Array, "*networks points"]:
    """Outputs of all networks of an MLP with any leading axes at the same points."""
    call = MLP.__call__
    for _ in mlps.batch:
        call = jax.vmap(call, in_axes=(0, None))
    return call(mlps, x)
