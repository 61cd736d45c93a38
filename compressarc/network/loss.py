"""The description length that is minimized (paper, "loss"): KL + 10 x reconstruction, in nats.

The network may draw a known grid anywhere on the canvas; all placements are marginalized.
The masks choose a segment of rows and of columns; while the sizes are uncertain, the mask
terms are softened early in training (coefficients c1 and c2 below).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int, Shaped

from compressarc.network.inputs import Grids, Signature, segment_signs, segments
from compressarc.network.layers.axes import exact_product
from compressarc.network.model import Output

RECONSTRUCTION_WEIGHT = 10.0
WARMUP_STEPS = 100


class Loss(NamedTuple):
    """Terms of the loss, nats."""

    kl: Float[Array, "18"]  # per type
    per_grid: Float[Array, " G"]  # negative log-likelihood of each known grid

    @property
    def total_kl(self) -> Float[Array, ""]:
        return self.kl.sum()

    @property
    def reconstruction(self) -> Float[Array, ""]:
        return self.per_grid.sum()

    @property
    def total(self) -> Float[Array, ""]:
        return self.total_kl + RECONSTRUCTION_WEIGHT * self.reconstruction


def _coefficients(
    step: Int[Array, ""], uncertain: Shaped[np.ndarray | Array, " G"], dtype: DTypeLike
) -> tuple[Float[Array, " G"], Float[Array, " G"]]:
    """c1 and c2 for each grid: 0.01^r and 0.1^r, r falling from 1 to 0 over 100 steps."""
    r = jnp.maximum(0, 1 - step.astype(dtype) / WARMUP_STEPS)
    r = r * jnp.asarray(uncertain, dtype)
    return 0.01**r, 0.1**r


def _known(output: Float[Array, "*axes E 2"], num_train: int) -> Float[Array, "*axes G"]:
    """[..., E, 2] -> [..., G]: all inputs, then the train outputs."""
    return jnp.concatenate([output[..., 0], output[..., :num_train, 1]], axis=-1)


def _pixel_scores(output: Output, grids: Grids[Array], static: Signature) -> Float[Array, "G O P"]:
    """K(o, p): log-probability of each known grid's pixels at every placement."""
    shape = static.shape
    c, x, y = shape.colors + 1, shape.x, shape.y
    offsets_x, offsets_y = static.placements
    log_p = _known(jax.nn.log_softmax(output.logits, axis=0), static.num_train)  # [C+1, X, Y, G]
    g = log_p.shape[-1]
    if offsets_x == offsets_y == 1:
        target = grids.target.reshape(g, c, y, x).transpose(1, 3, 2, 0)
        return (log_p * target).sum((0, 1, 2))[:, None, None]
    rows = log_p.transpose(3, 1, 0, 2).reshape(g, x, c * y)
    # score[a, i, p]: row i of the grid drawn on canvas row a, moved right by p
    score = exact_product(rows, grids.target).reshape(g, x * x, offsets_y)
    place = np.arange(x)
    diagonal = place[:, None] == place[None, :] + np.arange(offsets_x)[:, None, None]
    return exact_product(jnp.asarray(diagonal.reshape(offsets_x, x * x), score.dtype), score)


def _all_segments(n: int) -> tuple[Float[np.ndarray, "S n"], float]:
    """Signs of all segments of a line, and nothing that forbids one."""
    return segment_signs(segments(n), n), 0.0


def _mask_scores(
    mask: Float[Array, "G n"],
    signs: Float[Array, "G O n"],
    valid: Float[Array, "G O"],
    uncertain: Shaped[np.ndarray | Array, " G"],
    every: tuple[Float[np.ndarray | Array, "S n"], float | Float[Array, " S"]],
) -> Float[Array, "G O"]:
    """Log-probability of each placement along one axis: A(o) - log Z, [G, O]."""
    scores = jnp.einsum("gon,gn->go", signs, mask, precision="highest")
    log_z = jax.nn.logsumexp(scores + valid, axis=1)
    if isinstance(uncertain, jax.Array) or uncertain.any():
        all_signs, all_valid = every
        valid_any = jnp.reshape(jnp.asarray(all_valid, mask.dtype), (1, -1))
        log_z_any = jax.nn.logsumexp(
            exact_product(mask, jnp.asarray(all_signs, mask.dtype).T) + valid_any, axis=1
        )
        log_z = jnp.where(jnp.asarray(uncertain) > 0, log_z_any, log_z)
    return scores - log_z[:, None]


def loss_terms(output: Output, grids: Grids[Array], static: Signature, step: Int[Array, ""]) -> Loss:
    """All terms of the loss at a (0-based) training step.

    Where the size is certain, a placement that leaves the grid's own rectangle still
    costs the literal -1000 per pixel of the mask offsets (the reference's choice).
    """
    num_train, shape = static.num_train, static.shape
    num_inputs = shape.examples
    pad = grids.padding
    if pad is None:
        sizes = [static.uncertain_inputs] * num_inputs + [static.uncertain_outputs] * num_train
        uncertain, segments = np.array(sizes), (_all_segments(shape.x), _all_segments(shape.y))
    else:
        uncertain = pad.uncertain
        segments = (pad.segments_x, pad.segments_x_valid), (pad.segments_y, pad.segments_y_valid)
    c1, c2 = _coefficients(step, uncertain, output.logits.dtype)
    x_mask = c1[:, None] * _known(output.x_mask.transpose(1, 0, 2), num_train).T
    y_mask = c1[:, None] * _known(output.y_mask.transpose(1, 0, 2), num_train).T
    valid_x, valid_y = grids.valid.max(2), grids.valid.max(1)
    along_x = _mask_scores(x_mask, grids.signs_x, valid_x, uncertain, segments[0])
    along_y = _mask_scores(y_mask, grids.signs_y, valid_y, uncertain, segments[1])
    q = along_x[:, :, None] + along_y[:, None, :] + _pixel_scores(output, grids, static)
    q = (q * c2[:, None, None] + grids.valid).reshape(q.shape[0], -1)
    per_grid = -jax.nn.logsumexp(q, axis=1) / c2
    return Loss(kl=output.kl, per_grid=per_grid if pad is None else per_grid * pad.known)
