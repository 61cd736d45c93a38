"""What a run's surviving tensors say at its end, on the host: for the report page.

The decoder's mean output (noise left out, where `analyze.components` averages 100 samples),
in NumPy, type by type: no program is compiled for it.
"""

from __future__ import annotations

import numpy as np

from compressarc.inputs import Signature
from compressarc.layers.decode import CAPACITY_FLOOR, CAPACITY_SCALE, TARGET_RATE
from compressarc.layers.normalize import EPSILON
from compressarc.multitensor import DIRECTED_SETS, LATENT_WIDTH, PLAIN_SETS, TYPES, tied_to, unpack
from compressarc.parameters import Params

SURVIVING_NATS = 1.0


def mean_decoded(params: Params, static: Signature) -> tuple[dict[str, np.ndarray], np.ndarray]:
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


def leading_components(params: Params, static: Signature) -> dict[str, np.ndarray]:
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
