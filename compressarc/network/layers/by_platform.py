"""Operations on arrays that have one meaning and a form for each platform.

Each is a JAX primitive whose form is chosen where a program is lowered. `jax.lax.platform_dependent` would
write all forms into every program, as branches of a conditional, hundreds of times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

Form = Callable[..., Float[Array, "..."]]
"""Of arrays, and of static parameters by name."""

_LANES = 64
"""So many runs side by side fill a TPU's tiles, whatever an array's other axes are."""


def same_shape(shape: tuple[int, ...], **_: Any) -> tuple[int, ...]:
    """The result is as large as x."""
    return shape


def replaced(shape: tuple[int, ...], axis: int, n: int) -> tuple[int, ...]:
    """A shape with another length along one axis."""
    return (*shape[:axis], n, *shape[axis + 1 :])


def operation(
    name: str,
    *,
    cpu: Form,
    elsewhere: Form,
    tpu: Form | None = None,
    shape: Callable[..., tuple[int, ...]] = same_shape,
) -> Primitive:
    """Makes such an operation; `linear` says what its transpose is, without which it has no derivative.

    cpu, elsewhere: the two forms, equal but for rounding; tpu: where a TPU's tiles want another than
    elsewhere, unless there are many lanes. shape: of the result, from those of the arrays and the
    parameters.
    """
    made = Primitive(name)

    def over_lanes(form: Form) -> Form:
        def formed(*arrays: Float[Array, "..."], lanes: int, **parameters: Any) -> Float[Array, "..."]:
            each = lambda *arrays: form(*arrays, **parameters)  # noqa: E731
            for _ in range(lanes):
                each = jax.vmap(each)
            return each(*arrays)

        return formed

    def on_tpu(*arrays: Float[Array, "..."], lanes: int, **parameters: Any) -> Float[Array, "..."]:
        many = math.prod(arrays[0].shape[:lanes]) >= _LANES
        return over_lanes(tpu if tpu and not many else elsewhere)(*arrays, lanes=lanes, **parameters)

    def batched(
        arrays: tuple[Float[Array, "..."], ...], dims: tuple[Any, ...], *, lanes: int, **parameters: Any
    ) -> tuple[Float[Array, "..."], int]:
        size = next(a.shape[d] for a, d in zip(arrays, dims, strict=True) if d is not None)
        first = [batching.bdim_at_front(a, d, size) for a, d in zip(arrays, dims, strict=True)]
        return made.bind(*first, lanes=lanes + 1, **parameters), 0

    def abstract(*arrays: Any, lanes: int, **parameters: Any) -> Any:
        own = shape(*(a.shape[lanes:] for a in arrays), **parameters)
        return arrays[0].update(shape=(*arrays[0].shape[:lanes], *own))

    made.def_impl(over_lanes(elsewhere))
    made.def_abstract_eval(abstract)
    batching.primitive_batchers[made] = batched
    mlir.register_lowering(made, mlir.lower_fun(over_lanes(cpu), multiple_results=False), platform="cpu")
    if tpu:
        mlir.register_lowering(made, mlir.lower_fun(on_tpu, multiple_results=False), platform="tpu")
    mlir.register_lowering(made, mlir.lower_fun(over_lanes(elsewhere), multiple_results=False))
    return made


def linear(made: Primitive, transpose: Primitive) -> None:
    """Gives an operation of one array its derivative, itself, and its transpose, of like parameters."""
    ad.deflinear2(made, lambda g, _, **parameters: [transpose.bind(g, **parameters)])
