"""Answer candidates, made on the device after every step (paper, "solution selection").

Two candidates a step: the sample that was just trained on, and an exponential moving
average (EMA) of the logits, started at zero and not bias-corrected. For each the most
likely crop and colors are read off, with a weight that falls with its uncertainty.
"""

from __future__ import annotations

import functools
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int

from compressarc.multitensor import ArrayT
from compressarc.network.inputs import Grids, Signature, grids_on_host
from compressarc.network.model import Output
from compressarc.network.padding import Padding
from compressarc.puzzle import Canvas

EMA_DECAY = 0.97
BURN_IN_STEPS = 150
BURN_IN_PENALTY = 10.0
EMA_PENALTY = 4.0
UNCERTAINTY_WEIGHT = 10.0


class TestOutputs(NamedTuple, Generic[ArrayT]):
    """Logits and size masks of the T test outputs."""

    logits: Float[ArrayT, "C+1 X Y T"]
    x_mask: Float[ArrayT, "T X"]
    y_mask: Float[ArrayT, "T Y"]


class Candidates(NamedTuple, Generic[ArrayT]):
    """Two candidate answers of one step: index 0 the sample, index 1 the EMA."""

    colors: Int[ArrayT, "2 T X Y"]  # int8 color indices on the whole canvas
    crop: Int[ArrayT, "2 T 2 2"]  # int16 [offset, length] of the rows, then of the columns
    weight: Float[ArrayT, "2"]  # log-weight in the vote


def test_outputs(
    output: Output, static: Signature, padding: Padding[Array] | None = None
) -> TestOutputs[Array]:
    """The output grids of the test examples."""
    if padding is not None:
        chosen = functools.partial(jnp.take, indices=padding.tests)
        logits, x_mask, y_mask = output.logits[..., 1], output.x_mask[..., 1], output.y_mask[..., 1]
        return TestOutputs(chosen(logits, axis=3), chosen(x_mask, axis=0), chosen(y_mask, axis=0))
    n = static.num_train
    return TestOutputs(output.logits[:, :, :, n:, 1], output.x_mask[n:, :, 1], output.y_mask[n:, :, 1])


def init_ema(static: Signature, dtype: DTypeLike = jnp.float32) -> TestOutputs[Array]:
    """The moving average before the first step: zero."""
    s, t = static.shape, static.num_test
    zeros = lambda *shape: jnp.zeros(shape, dtype)  # noqa: E731
    return TestOutputs(zeros(s.colors + 1, s.x, s.y, t), zeros(t, s.x), zeros(t, s.y))


def update_ema(ema: TestOutputs[Array], current: TestOutputs[Array]) -> TestOutputs[Array]:
    """One step of the moving average."""
    return TestOutputs(*(EMA_DECAY * a + (1 - EMA_DECAY) * b for a, b in zip(ema, current, strict=True)))


def _best_segment(
    mask: Float[Array, "T n"],
    signs: Float[Array, "T L n"],
    valid: Float[Array, "T L"],
    spans: Float[Array, "T L 2"],
) -> Float[Array, "T 2"]:
    """[offset, length] that maximizes sum inside - sum outside; the first of equals."""
    best = jnp.argmax(jnp.einsum("tln,tn->tl", signs, mask, precision="highest") + valid, axis=1)
    return jnp.take_along_axis(spans, best[:, None, None], axis=1)[:, 0]


def _candidate(
    outputs: TestOutputs[Array], data: Grids[Array]
) -> tuple[Int[Array, "T X Y"], Float[Array, "T 2 2"], Float[Array, ""]]:
    """Colors [T, X, Y], crops [T, 2, 2] and the mean uncertainty of one candidate."""
    rows = _best_segment(outputs.x_mask, data.crop_x, data.crop_x_valid, data.crop_x_span)
    columns = _best_segment(outputs.y_mask, data.crop_y, data.crop_y_valid, data.crop_y_span)
    unsure = jax.nn.logsumexp(outputs.logits, axis=0) - outputs.logits.max(0)  # [X, Y, T]

    def inside(span: Float[Array, "T 2"], n: int) -> Float[Array, "T n"]:
        place = jnp.arange(n, dtype=span.dtype)
        low, length = span[:, :1], span[:, 1:]
        return ((place[None] >= low) & (place[None] < low + length)).astype(unsure.dtype)

    row, column = inside(rows, unsure.shape[0]), inside(columns, unsure.shape[1])
    per_test = jnp.einsum("xyt,tx,ty->t", unsure, row, column, precision="highest") / (
        rows[:, 1] * columns[:, 1]
    )
    colors = jnp.argmax(outputs.logits, axis=0).transpose(2, 0, 1)
    pad = data.padding
    unsure_mean = per_test.mean() if pad is None else (per_test * pad.test_share).sum()
    return colors, jnp.stack([rows, columns], axis=1), unsure_mean


def candidates(
    current: TestOutputs[Array], ema: TestOutputs[Array], data: Grids[Array], step: Int[Array, ""]
) -> Candidates[Array]:
    """The step's two candidates; `ema` is the average after this step's update."""
    parts = [_candidate(outputs, data) for outputs in (current, ema)]
    uncertainty = jnp.stack([u for _, _, u in parts])
    penalty = BURN_IN_PENALTY * (step < BURN_IN_STEPS) + EMA_PENALTY * jnp.arange(2)
    return Candidates(
        colors=jnp.stack([c for c, _, _ in parts]).astype(jnp.int8),
        crop=jnp.stack([c for _, c, _ in parts]).astype(jnp.int16),
        weight=-UNCERTAINTY_WEIGHT * uncertainty - penalty.astype(uncertainty.dtype),
    )


def crops_of(outputs: TestOutputs[Array], canvas: Canvas) -> Int[np.ndarray, "T 2 2"]:
    """The most likely crop of each test output, int (T, 2, 2) as in `Candidates.crop`; on the host."""
    data = grids_on_host(canvas)
    axes = (
        (outputs.x_mask, data.crop_x, data.crop_x_valid, data.crop_x_span),
        (outputs.y_mask, data.crop_y, data.crop_y_valid, data.crop_y_span),
    )
    chosen = []
    for mask, signs, valid, spans in axes:
        best = (np.einsum("tln,tn->tl", np.asarray(signs), np.asarray(mask)) + valid).argmax(1)
        chosen.append(np.take_along_axis(np.asarray(spans), best[:, None, None], 1)[:, 0])
    return np.stack(chosen, 1).astype(int)
