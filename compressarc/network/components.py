"""What a run's surviving tensors say at its end, on the host: for the report page.

`leading_components` takes the decoder's mean output (noise left out) in NumPy, type by type: no
program is compiled for it. `components` averages 100 samples.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from compressarc.multitensor import (
    DIRECTED_SETS,
    LATENT_WIDTH,
    PLAIN_SETS,
    TYPES,
    Stream,
    tied_to,
    unflattened,
    unpack,
)
from compressarc.network.inputs import Signature
from compressarc.network.layers.decode import CAPACITY_FLOOR, CAPACITY_SCALE, TARGET_RATE, decode
from compressarc.network.layers.normalize import EPSILON
from compressarc.network.parameters import Params, standard_normal, weights_by_slot

SURVIVING_NATS = 1.0


def mean_decoded(
    params: Params[np.ndarray], static: Signature
) -> tuple[dict[str, Float[np.ndarray, "..."]], Float[np.ndarray, "18"]]:
    """Each type's mean decoder output without bias, axes of the type and channel; KL in nats (18,).

    params: of a run without padding, host arrays.
    """
    means, locals_ = (
        unpack(packed, static.shape) for packed in (params.posterior.mean, params.posterior.local)
    )
    out, kl = {}, np.zeros(len(TYPES))
    for i, code in enumerate(TYPES):
        mean, local = np.asarray(means[code], float), np.asarray(locals_[code], float)
        axes = tuple(range(mean.ndim - 1))
        elements = np.prod(static.shape.axes(code)) * LATENT_WIDTH
        target = TARGET_RATE * np.asarray(params.posterior.target[i], float)
        scale = -np.expm1(-2 * (CAPACITY_SCALE * np.exp(target) + CAPACITY_FLOOR) / elements)
        adjusted = target - local.mean(axes) + local
        c = (CAPACITY_SCALE * np.exp(adjusted) + CAPACITY_FLOOR) / elements
        m = (mean - mean.mean(axes)) / np.sqrt(EPSILON + mean.var(axes))
        kl[i] = (0.5 * np.expm1(-2 * c) * (1 - m * m) + c).sum()
        sets, weights = (
            (DIRECTED_SETS, params.decode_weight.directed)
            if code[2] == "1"
            else (PLAIN_SETS, params.decode_weight.plain)
        )
        weight = np.asarray(weights[sets.index(tied_to(code))], float)
        out[code] = (scale * np.sqrt(-np.expm1(-2 * c)) * m) @ weight
    return out, kl


def leading_components(params: Params[np.ndarray], static: Signature) -> dict[str, Float[np.ndarray, "..."]]:
    """The strongest component of every tensor of more than 1 nat, largest KL first.

    Returns: type code -> values on the type's axes, scaled to max |value| = 1.
    """
    decoded, kl = mean_decoded(params, static)
    found: dict[str, np.ndarray] = {}
    if not np.isfinite(kl).all() or not all(np.isfinite(a).all() for a in decoded.values()):
        return found  # the last update can leave weights that the losses so far don't show
    for i in np.argsort(-kl):
        if kl[i] <= SURVIVING_NATS:
            break
        values = decoded[TYPES[i]]
        matrix = values.reshape(-1, values.shape[-1])
        left = np.linalg.svd(matrix - matrix.mean(0), full_matrices=False)[0][:, 0]
        largest = np.abs(left).max()
        found[TYPES[i]] = (left / largest if largest > 0 else left).reshape(static.shape.axes(TYPES[i]))
    return found


SAMPLES = 100


@dataclasses.dataclass(frozen=True)
class Component:
    """One principal component of one surviving tensor."""

    type: str  # type code, bits ecdxy
    kl: float  # nats, of the whole tensor
    index: int  # 0 is the strongest
    values: np.ndarray  # axes of the type, scaled to max |value| = 1
    strength: float  # singular value / number of positions


@functools.partial(jax.jit, static_argnames=("static", "samples"))
def mean_decoder_output(
    params: Params[Array], key: PRNGKeyArray, *, static: Signature, samples: int = SAMPLES
) -> tuple[Stream[Array], Float[Array, "18"]]:
    """Decoder outputs averaged over latent samples, and the KL per type in nats."""

    def one(key: PRNGKeyArray) -> tuple[Stream[Array], Float[Array, "18"]]:
        noise = standard_normal(key, static.shape, params.heads.color_bias.dtype)
        weight, bias = weights_by_slot(params.decode_weight, static.shape), params.decode_bias.by_group()
        return decode(params.posterior, noise, weight, bias, static.shape)

    def add(total: Stream[Array], key: PRNGKeyArray) -> tuple[Stream[Array], Float[Array, "18"]]:
        stream, kl = one(key)
        return jax.tree.map(jnp.add, total, stream), kl

    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, key)[0])
    total, kl = jax.lax.scan(add, zero, jax.random.split(key, samples))
    return jax.tree.map(lambda a: a / samples, total), kl[-1]


def components(
    params: Params[Array], static: Signature, *, key: PRNGKeyArray, top: int = 3, samples: int = SAMPLES
) -> list[Component]:
    """Leading components of every tensor with more than 1 nat, strongest tensor first.

    Args: params: of a trained run. key: for the latent samples. top: components a tensor.
    """
    stream, kl = mean_decoder_output(params, key, static=static, samples=samples)
    tensors = unpack(unflattened(jax.tree.map(np.asarray, stream), static.shape), static.shape)
    kl = np.asarray(kl)
    out = []
    for i in np.argsort(-kl):
        code = TYPES[i]
        if kl[i] <= SURVIVING_NATS:
            break
        axes = static.shape.axes(code)
        matrix = tensors[code].reshape(-1, tensors[code].shape[-1]).astype(float)
        matrix -= matrix.mean(0)
        left, singular, _ = np.linalg.svd(matrix, full_matrices=False)
        for k in range(min(top, len(singular))):
            values = left[:, k]
            largest = np.abs(values).max()
            values = values / largest if largest > 0 else values
            strength = float(singular[k] / len(matrix))
            out.append(Component(code, float(kl[i]), k, values.reshape(axes), strength))
    return out
