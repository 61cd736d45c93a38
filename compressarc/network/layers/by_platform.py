"""Operations of one array that have one meaning and, on CPUs, a form of their own.

Each is a JAX primitive whose form is chosen where a program is lowered. `jax.lax.platform_dependent` would
write both forms into every program, as branches of a conditional, hundreds of times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

Form = Callable[..., Float[Array, "..."]]
"""Of x, and of static parameters by name."""


def same_shape(shape: tuple[int, ...], **_: Any) -> tuple[int, ...]:
    """The result is as large as x."""
    return shape


def replaced(shape: tuple[int, ...], axis: int, n: int) -> tuple[int, ...]:
    """A shape with another length along one axis."""
    return (*shape[:axis], n, *shape[axis + 1 :])


def operation(
    name: str, *, cpu: Form, elsewhere: Form, shape: Callable[..., tuple[int, ...]] = same_shape
) -> Primitive:
    """Makes such an operation; `linear` says what its transpose is, without which it has no derivative.

    cpu, elsewhere: the two forms, equal but for rounding. shape: that of the result, from that of x and the
    parameters. A parameter `axis` is an axis of x.
    """
    made = Primitive(name)

    def batched(
        arguments: tuple[Float[Array, "..."]], dims: tuple[int], **parameters: Any
    ) -> tuple[Float[Array, "..."], int]:
        (x,), (dim,) = arguments, dims
        if "axis" in parameters and dim <= parameters["axis"]:
            parameters = parameters | {"axis": parameters["axis"] + 1}
        return made.bind(x, **parameters), dim

    made.def_impl(elsewhere)
    made.def_abstract_eval(lambda x, **parameters: x.update(shape=shape(x.shape, **parameters)))
    batching.primitive_batchers[made] = batched
    mlir.register_lowering(made, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")
    mlir.register_lowering(made, mlir.lower_fun(elsewhere, multiple_results=False))
    return made


def linear(made: Primitive, transpose: Form) -> None:
    """Gives an operation its derivative, which is itself, and its transpose: of what is like the result."""
    ad.deflinear2(made, lambda g, _, **parameters: [transpose(g, **parameters)])
