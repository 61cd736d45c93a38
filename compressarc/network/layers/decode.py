"""The decoding layer: latents sampled through channels of learned capacity (paper, "decoding layer").

Each tensor's latent is sent through an additive-white-Gaussian-noise channel whose
capacity (nats per element) is learned; the Kullback-Leibler divergence from the standard
normal prior is what the tensor costs.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float

from compressarc.multitensor import (
    GROUPS,
    LATENT_WIDTH,
    PACKED,
    TYPES,
    ArrayT,
    Group,
    Multitensor,
    Packed,
    Shape,
    Stream,
    map_groups,
    norm_types,
    row_sets,
)
from compressarc.network.layers.axes import exact_product
from compressarc.network.layers.normalize import normalize, to_rows, type_mean, type_sums
from compressarc.network.layers.project import project
from compressarc.network.padding import Padding, Part, masked, part

CAPACITY_SCALE = 1e4
CAPACITY_FLOOR = 0.5
TARGET_RATE = 10.0
NOISELESS = 20.0


class Posterior(NamedTuple, Generic[ArrayT]):
    """The latent posterior of one puzzle."""

    mean: Multitensor[ArrayT]  # packed, [..., 4]; plain points without their unused slot 0
    local: Multitensor[ArrayT]  # local capacity adjustments, packed like `mean`
    target: Float[ArrayT, "18 4"]  # target capacity per type and latent channel


def flattened(tensor: Multitensor[Array], shape: Shape) -> Stream[Array]:
    """Packed arrays as the layers have them; plain points with or without slot 0, which no type owns."""
    arrays = dict(zip(PACKED, tensor, strict=True))

    def laid(packed: Packed) -> Float[Array, "slots places *rest"]:
        array, lead = arrays[packed], packed.leading(shape)
        array = array.reshape(array.shape[0], -1, *array.shape[len(lead) :])
        if array.shape[0] < lead[0]:
            return jnp.concatenate([jnp.zeros_like(array[:1]), array], axis=0)
        return array

    return Stream(*(jnp.concatenate([laid(p) for p in group.packed], axis=1) for group in GROUPS))


def _elements(group: Group, shape: Shape, where: Part | None, dtype: DTypeLike) -> Float[Array, "types 1"]:
    """Elements per type, the four latent channels included."""
    if where is not None:
        return jnp.asarray(LATENT_WIDTH / where.inverse[:, None], dtype)
    counts = [[np.prod(shape.axes(code)) * LATENT_WIDTH] for code in norm_types(group)]
    return jnp.asarray(np.array(counts, float), dtype)


@jax.custom_jvp
def _variance_lost(c: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """exp(-2 c) - 1, precise for small c, with a derivative that is precise for large c.

    The derivative of expm1 as jax takes it, expm1 + 1, keeps no digit of exp(-2 c) there,
    and Adam makes full steps of such gradients.
    """
    return jnp.expm1(-2 * c)


@_variance_lost.defjvp
def _variance_lost_jvp(
    primals: tuple[Float[Array, "*axes"]], tangents: tuple[Float[Array, "*axes"]]
) -> tuple[Float[Array, "*axes"], Float[Array, "*axes"]]:
    (c,), (dc,) = primals, tangents
    return jnp.expm1(-2 * c), -2 * jnp.exp(-2 * c) * dc


def _decode_group(
    group: Group,
    shape: Shape,
    mean: Float[Array, "*axes 4"],
    local: Float[Array, "*axes 4"],
    target: Float[Array, "18 4"],
    noise: Float[Array, "*axes 4"],
    where: Part | None,
) -> tuple[Float[Array, "*positions 4"], Float[Array, " types"]]:
    """Latents z and KL in nats per type of the group."""
    mean, local, noise = (masked(a, where) for a in (mean, local, noise))
    rows = lambda values: to_rows(values, mean, group, shape)  # noqa: E731
    index = np.array([TYPES.index(code) for code in norm_types(group)])
    elements = _elements(group, shape, where, mean.dtype)
    t = TARGET_RATE * target[index]
    capacity = CAPACITY_SCALE * jnp.exp(t) + CAPACITY_FLOOR
    scale = -jnp.expm1(-2 * capacity / elements)

    adjusted = rows(t - type_mean(local, group, shape, group.copies, where)) + local
    per_element = rows(jnp.broadcast_to(1 / elements, t.shape))
    local_capacity = CAPACITY_SCALE * jnp.exp(adjusted) + CAPACITY_FLOOR
    c = local_capacity * per_element
    # Not of c: where capacity is ample, a local capacity's true gradient is rounding noise, which
    # Adam makes full steps of. Adding the two paths here rounds as the reference does.
    variance_lost = _variance_lost(local_capacity * per_element)  # sigma^2 - 1
    noiseless = 2 * c > NOISELESS
    signal = jnp.where(noiseless, 1, jnp.sqrt(jnp.where(noiseless | (c <= 0), 1, -variance_lost)))
    m = normalize(mean, group, shape, group.copies, where)
    z = rows(scale) * (signal * m + jnp.exp(-c) * noise)
    kl = masked(0.5 * variance_lost * (1 - m * m) + c, where)
    return z, type_sums(kl, group, shape).sum(-1)


def decode(
    posterior: Posterior[Array],
    noise: Multitensor[Array],
    weight: Stream[Array],
    bias: Stream[Array],
    shape: Shape,
    padding: Padding[Array] | None = None,
) -> tuple[Stream[Array], Float[Array, "18"]]:
    """Samples the latents and maps them to the residual stream.

    noise: standard normal, packed like `posterior.mean`; weight, 4 -> C, as `project` takes it, and bias
    [sets, C] per group. Returns the stream and the KL of each type in nats, in the order of `TYPES`.
    """
    kl: dict[str, Array] = {}

    def group_stream(
        group: Group,
        mean: Float[Array, "*axes 4"],
        local: Float[Array, "*axes 4"],
        eps: Float[Array, "*axes 4"],
        w: Float[Array, "by_slot kinds 4 k"],
        b: Float[Array, "sets k"],
    ) -> Float[Array, "*positions k"]:
        where = part(padding, group)
        z, per_type = _decode_group(group, shape, mean, local, posterior.target, eps, where)
        kl.update(zip(norm_types(group), per_type, strict=True))
        sets = row_sets(group, shape)
        lead = 1 if group.plane else 2
        offset = exact_product(jnp.asarray(sets, b.dtype), b)
        offset = offset.reshape(*z.shape[:lead], *(1,) * (z.ndim - lead - 1), b.shape[-1])
        return masked(project(z, w, group.kinds(z.shape[1], shape)) + offset, where)

    latents = (flattened(packed, shape) for packed in (posterior.mean, posterior.local, noise))
    stream = map_groups(group_stream, *latents, weight, bias)
    return stream, jnp.stack([kl[code] for code in TYPES])
