"""The packed network against a plain reading of its definition, on every size rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compressarc.multitensor import TYPES, unpack
from compressarc.network.inputs import grids, signature
from compressarc.network.loss import loss_terms
from compressarc.network.model import Output, forward
from compressarc.network.parameter_names import named
from compressarc.network.parameters import init_params, standard_normal
from tests.compressarc import oracle, zoo


def full_names(weights, shape):
    """Structured names with direction maps expanded to (8, 8, 8, 8)."""
    from compressarc.network.layers.direction import tying_table
    from compressarc.network.parameter_names import _free_pairs

    out = dict(weights)
    for code in TYPES:
        if code[2] == "0":
            continue
        kind = {"10": "row", "01": "column"}.get(code[3:], "symmetric")
        pairs = _free_pairs("row" if kind == "column" else kind)
        source = oracle.tied(code)
        for k in range(4):
            free = [weights[f"layer{k}/direction_share/{source}/{to}{frm}"] for to, frm in pairs]
            out[f"layer{k}/direction_share/{code}"] = np.stack(free)[tying_table(kind)]
    return {n: jnp.asarray(a) for n, a in out.items() if "direction_share" not in n or n[-3] != "/"}


@pytest.mark.slow
@pytest.mark.parametrize("puzzle", [zoo.VARYING, zoo.UNKNOWN], ids=lambda p: p.name)
def test_forward_and_loss(puzzle, x64):
    canvas = puzzle.canvas
    static, data = signature(canvas), grids(canvas, jnp.float64)
    params = init_params(static.shape, key=jax.random.key(7))
    params = jax.tree.map(lambda a: a.astype(jnp.float64), params)
    noise = standard_normal(jax.random.key(8), static.shape, jnp.float64)
    output = jax.jit(forward, static_argnums=3)(params, noise, data, static)
    terms = loss_terms(output, data, static, jnp.int32(30))

    weights = full_names(named(params, static.shape), static.shape)
    plain_noise = unpack(jax.tree.map(np.asarray, noise), static.shape)
    union = jnp.asarray(canvas.masks.any(-1), jnp.float64)

    def plain(weights, noise):
        return oracle.forward(weights, noise, union, canvas.sizes.max(1), canvas.size_known)

    # run once: what matters is how long it takes to compile
    quick = jax.jit(plain, compiler_options={"xla_backend_optimization_level": 0})
    logits, x_mask, y_mask, kl = quick(weights, plain_noise)
    np.testing.assert_allclose(output.logits.transpose(3, 0, 1, 2, 4), logits, atol=1e-9)
    np.testing.assert_allclose(output.x_mask, x_mask, atol=1e-9)
    np.testing.assert_allclose(output.y_mask, y_mask, atol=1e-9)
    np.testing.assert_allclose(output.kl, kl, rtol=1e-9)
    known = [(e, 0) for e in range(len(logits))] + [(e, 1) for e in range(canvas.num_train)]
    check_grids(canvas, known, logits, x_mask, y_mask, 30, terms.per_grid, rtol=1e-9)


def check_grids(canvas, known, logits, x_mask, y_mask, step, per_grid, **tolerance):
    """Each known grid's negative log-likelihood against the placement-by-placement sum."""
    for (e, io), nll in zip(known, per_grid, strict=True):
        h, w = canvas.sizes[e, io]
        target = jnp.asarray(canvas.problem[e, :h, :w, io].astype(np.int32))
        uncertain = canvas.size_uncertain(bool(io))
        expected = oracle.grid_nll(
            logits[e, ..., io], x_mask[e, :, io], y_mask[e, :, io], target, step, uncertain
        )
        np.testing.assert_allclose(nll, expected, **tolerance)


@pytest.mark.parametrize("puzzle", zoo.ALL, ids=lambda p: p.name)
@pytest.mark.parametrize("step", [0, 50, 100, 500])
def test_all_placements_are_marginalized(puzzle, step, x64):
    canvas = puzzle.canvas
    static, data = signature(canvas), grids(canvas, jnp.float64)
    s = static.shape
    rng = np.random.default_rng(step)
    logits = 3 * rng.normal(size=(s.colors + 1, s.x, s.y, s.examples, 2))
    logits[0] = 0
    x_mask = 2 * rng.normal(size=(s.examples, s.x, 2)) + np.asarray(data.x_offset)[..., None]
    y_mask = 2 * rng.normal(size=(s.examples, s.y, 2)) + np.asarray(data.y_offset)[..., None]
    output = Output(*map(jnp.asarray, (logits, x_mask, y_mask)), jnp.zeros(18))
    terms = loss_terms(output, data, static, jnp.int32(step))
    known = [(e, 0) for e in range(s.examples)] + [(e, 1) for e in range(canvas.num_train)]
    by_example = logits.transpose(3, 0, 1, 2, 4)
    check_grids(canvas, known, by_example, x_mask, y_mask, step, terms.per_grid, rtol=1e-9)
