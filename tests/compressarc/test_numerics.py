"""Layers and loss in single precision against plain double-precision readings, over their whole range.

Each asserts first that finite inputs give finite results and gradients. Where the method itself has a
bound, it is this: squares overflow beyond 10^18 in a normalization; a channel that is constant at c comes
out of it as c / 100, since 10^-6 of c is what rounding leaves of its mean and 10^-4 what it is divided by;
10^4 exp(10 x target capacity) is infinite from a target capacity of 7.9 on.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compressarc.multitensor import (
    GROUPS,
    LATENT_WIDTH,
    TYPES,
    Stream,
    norm_types,
    pack,
    slot_sets,
    unflattened,
    unpack,
)
from compressarc.network.inputs import grids, signature
from compressarc.network.layers import cummax as cummax_layer
from compressarc.network.layers.decode import Posterior, decode
from compressarc.network.layers.nonlinear import _silu
from compressarc.network.layers.normalize import normalize, normalize_project
from compressarc.network.loss import loss_terms
from compressarc.network.model import Output
from compressarc.network.parameters import init_params, standard_normal, weights_by_slot
from tests.compressarc import oracle, zoo

CANVAS = zoo.VARYING.canvas
SHAPE = signature(CANVAS).shape
SEEDS = st.integers(0, 2**32 - 1)


def powers(low, high):
    """10^e for e between low and high, evenly in e."""
    return st.floats(low, high).map(lambda e: 10.0**e)


def close(got, want, size, tolerance=1e-5):
    got, want = np.asarray(got, float), np.asarray(want, float)
    assert np.isfinite(got).all()
    wrong = np.abs(got - want) > tolerance * np.asarray(size, float) + 1e-30
    assert not wrong.any(), (np.abs(got - want)[wrong].max(), np.broadcast_to(size, wrong.shape)[wrong].max())


# Normalization


@functools.cache
def normalizing(name, fold):
    """(x, g) -> result and gradient of `normalize`; (x, w, g) -> ... of `normalize_project` with a fold."""
    group = next(g for g in GROUPS if g.name == name)

    def plain(x, g):
        result, back = jax.vjp(lambda x: normalize(x, group, SHAPE, group.copies), x)
        return result, back(g)[0]

    def projected(x, w, g):
        kinds = group.kinds(x.shape[1], SHAPE)
        result, back = jax.vjp(lambda x, w: normalize_project(x, w, group, SHAPE, kinds, fold), x, w)
        return (result, *back(g))

    return jax.jit(projected if fold else plain)


def normalized(x, g):
    """Double precision: (positions, k) -> result, gradient, and how large the terms are that cancel."""
    centered = x - x.mean(0)
    scale = 1 / np.sqrt(1e-8 + np.square(centered).mean(0))
    out = centered * scale
    back = scale * (g - g.mean(0) - out * (g * out).mean(0))
    size = scale * (np.abs(g) + np.abs(g).mean(0) + np.abs(out) * np.abs(g * out).mean(0))
    # Rounding the mean by one part in 10^7 moves a channel by this many of its standard deviations.
    doubt = 1 + 1e-2 * np.abs(x).max(0) * scale
    return out, back, np.abs(out) + np.abs(x).max(0) * scale, size * doubt**2


@pytest.mark.parametrize("name", [g.name for g in GROUPS])
@given(SEEDS, powers(-8, 17), powers(-8, 17), powers(-8, 6), st.booleans())
def test_normalization(name, seed, offset, deviation, size, constant):
    """Channels far from zero, with hardly any or no deviation; cotangents of any size."""
    group = next(g for g in GROUPS if g.name == name)
    rng = np.random.default_rng(seed)
    x = rng.choice([-1, 1]) * offset + deviation * rng.normal(size=(*axes(group), 3))
    if constant:
        x[..., 1] = offset
    x, g = x.astype(np.float32), (size * rng.normal(size=x.shape)).astype(np.float32)
    out, dx = normalizing(name, 0)(x, g)
    tensors = [unpack(only(group, np.asarray(a, float)), SHAPE) for a in (x, g, out, dx)]
    for code in norm_types(group):
        a, cotangent, got, gradient = (t[code].reshape(-1, 3) for t in tensors)
        want, back, out_size, back_size = normalized(a, cotangent)
        close(got, want, out_size)
        close(gradient, back, back_size)


def axes(group):
    """Of an array of the stream, without channels."""
    return (*group.flat(SHAPE), 8) if group.directed else group.flat(SHAPE)


def only(group, array):
    """A multitensor of which one array of the stream is given; the others are zero."""
    k = array.shape[-1]
    stream = Stream(*(array if g is group else np.zeros((*axes(g), k)) for g in GROUPS))
    return unflattened(stream, SHAPE)


@pytest.mark.parametrize("name", [g.name for g in GROUPS])
@given(SEEDS, powers(-6, 4), powers(-6, 4), powers(-6, 6), st.booleans())
def test_projections_of_a_normalization_are_finite_and_right(name, seed, offset, deviation, size, constant):
    group = next(g for g in GROUPS if g.name == name)
    rng = np.random.default_rng(seed)
    fold = 8 if group.directed else 1
    x = offset * rng.normal(size=3) + deviation * rng.normal(size=(*axes(group), 3))
    if constant:
        x[..., 2] = offset
    x = x.reshape(*group.flat(SHAPE), fold * 3).astype(np.float32)
    sets, w = slot_sets(group, SHAPE), rng.normal(size=(len(group.types), fold * 3, 5))
    w = np.where(sets[..., None, None] < 0, 0, w[sets]).astype(np.float32)
    g = (size * rng.normal(size=(*x.shape[:-1], 5))).astype(np.float32)
    results = normalizing(name, fold)(x, w, g)
    assert all(np.isfinite(a).all() for a in results)
    # A constant channel c comes out as what rounding leaves of its mean, c 10^-6 / 10^-4, not as zero.
    if deviation >= 1e-2 * offset and not constant:
        with jax.enable_x64(True):
            expected = normalizing(name, fold)(*(np.asarray(a, float) for a in (x, w, g)))
        for got, want in zip(results, expected, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max())


# Cumulative maxima


@functools.cache
def sweeping(doubled):
    """(v, g) -> result and gradient of the cumulative maxima of columns [C+1, X, Y, E, 32]."""
    union = jnp.asarray(CANVAS.masks.any(-1).transpose(1, 2, 0), jnp.float64 if doubled else jnp.float32)

    def both(v, g):
        masked = lambda v: cummax_layer._all_directions(v * union[None, ..., None], union)  # noqa: E731
        result, back = jax.vjp(masked, v)
        return result, back(g)[0]

    return jax.jit(both)


@given(SEEDS, powers(-6, 5), st.sampled_from(["normal", "ties", "constant", "one"]), powers(-6, 6))
@example(0, 1e5, "constant", 1.0)  # margins of 10^-3 are lost beside 10^5: zero divided by zero
def test_cumulative_maxima(seed, scale, kind, size):
    rng = np.random.default_rng(seed)
    shape = (SHAPE.colors + 1, SHAPE.x, SHAPE.y, SHAPE.examples, 32)
    v = rng.normal(size=shape)
    if kind == "ties":
        v = rng.integers(-1, 2, size=shape).astype(float)
    elif kind == "constant":
        v[:] = rng.choice([-1.0, 0.0, 1.0])
    elif kind == "one":
        v[:] = 0
        v.reshape(-1)[rng.integers(v.size)] = 1
    v = (scale * v).astype(np.float32)
    g = (size * rng.normal(size=shape)).astype(np.float32)
    result, gradient = sweeping(False)(v, g)
    with jax.enable_x64(True):
        want, back = sweeping(True)(np.asarray(v, float), np.asarray(g, float))
    # Beyond 1000 a pixel inside may lie below the -1000 of those outside, as in the reference.
    close(result, want, 1 + np.abs(want), 2e-4 if scale < 1e3 else 1e-2)
    # Slopes of up to 10^3 (lines of equal values are 2 x 10^-3 wide) cancel along a line.
    bound = 1e-4 * np.abs(np.asarray(back)).max() + 1e-6 * 1e3 * np.abs(g).max()
    np.testing.assert_allclose(gradient, back, rtol=0, atol=bound)


@pytest.mark.parametrize("level", [0.0, 1.0, 1e5, -1e5])
def test_a_line_of_equal_values_lies_in_the_middle(level):
    """As in double precision: (0 + margin) / (2 margin), rescaled to zero, along rows and columns."""
    shape = (SHAPE.colors + 1, SHAPE.x, SHAPE.y, SHAPE.examples, 32)
    result, _ = sweeping(False)(np.full(shape, level, np.float32), np.zeros(shape, np.float32))
    full = CANVAS.masks.any(-1).transpose(1, 2, 0)[None, ..., None] & np.ones(shape, bool)
    along_rows = np.asarray(result)[..., :8][full[..., :8]]
    assert np.isfinite(result).all()
    if abs(level) < 1000:
        with jax.enable_x64(True):
            want, _ = sweeping(True)(np.full(shape, level), np.zeros(shape))
        np.testing.assert_allclose(along_rows, np.asarray(want)[..., :8][full[..., :8]], atol=0.1)


# Latents


@functools.cache
def decoding():
    weights = init_params(SHAPE, key=jax.random.key(1))

    def both(posterior, noise):
        def value(posterior):
            weight, bias = weights_by_slot(weights.decode_weight, SHAPE), weights.decode_bias.by_group()
            return decode(posterior, noise, weight, bias, SHAPE)

        (stream, kl), back = jax.vjp(value, posterior)
        return stream, kl, back((jax.tree.map(jnp.ones_like, stream), jnp.ones_like(kl)))[0]

    return jax.jit(both)


def plain_kl(mean, local, target):
    """The divergence of one tensor in nats, in double precision (paper, "decoding layer")."""
    axes, size = tuple(range(mean.ndim - 1)), mean.size
    t = 10 * target
    c = (1e4 * np.exp(t + local - local.mean(axes)) + 0.5) / size
    m = mean - mean.mean(axes)
    m = m / np.sqrt(np.square(m).mean(axes) + 1e-8)
    return (0.5 * np.expm1(-2 * c) * (1 - m * m) + c).sum(), (0.5 * (1 + m * m) + c).sum()


@given(SEEDS, st.floats(-30, 7), powers(-6, 4), powers(-3, 0.5))
@example(0, -30.0, 1e-6, 1.0)  # capacities at their floor: half a nat for a whole tensor
@example(0, 7.0, 1.0, 1.0)
def test_latents_at_capacities_from_the_floor_up(seed, level, means, spread):
    rng = np.random.default_rng(seed)
    mean = {c: means * rng.normal(size=(*SHAPE.axes(c), LATENT_WIDTH)) for c in TYPES}
    local = {c: spread * rng.normal(size=a.shape) for c, a in mean.items()}
    mean["11011"][...] = 1.0  # a constant mean
    target = np.clip(level + 0.1 * rng.normal(size=(len(TYPES), LATENT_WIDTH)), None, 7.2)
    packed = (jax.tree.map(lambda a: a.astype(np.float32), pack(t, SHAPE)) for t in (mean, local))
    posterior = Posterior(*packed, target.astype(np.float32))
    stream, kl, gradient = decoding()(posterior, standard_normal(jax.random.key(2), SHAPE, jnp.float32))
    for leaf in jax.tree.leaves((stream, gradient)):
        assert np.isfinite(leaf).all()
    single = [unpack(jax.tree.map(lambda a: np.asarray(a, float), t), SHAPE) for t in posterior[:2]]
    want, size = np.transpose([plain_kl(single[0][c], single[1][c], np.asarray(posterior.target[i], float))
                               for i, c in enumerate(TYPES)])  # fmt: skip
    close(kl, want, size, 1e-4)  # exp(70) rounds by 70 parts in 10^7


# Nonlinearity


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(-1e6, 1e6))
def test_silu(v, g):
    result, back = jax.vjp(_silu, jnp.float32(v))
    with np.errstate(over="ignore"):
        s = 1 / (1 + np.exp(-np.float64(v)))
    close(result, v * s, abs(v * s) + 1e-37)
    close(back(jnp.float32(g))[0], g * s * (1 + v * (1 - s)), abs(g) * (s + abs(v) * s * (1 - s)) + 1e-30)


# Loss


@functools.cache
def losing(name):
    canvas = next(p for p in zoo.ALL if p.name == name).canvas
    static, data = signature(canvas), grids(canvas)

    def both(logits, x_mask, y_mask, step):
        def value(logits, x_mask, y_mask):
            per_grid = loss_terms(Output(logits, x_mask, y_mask, jnp.zeros(18)), data, static, step).per_grid
            return per_grid.sum(), per_grid

        gradient, per_grid = jax.grad(value, (0, 1, 2), has_aux=True)(logits, x_mask, y_mask)
        return per_grid, gradient

    return jax.jit(both)


@pytest.mark.parametrize("name", ["varying", "unknown"])
@given(SEEDS, powers(-2, 4), powers(-2, 4), st.sampled_from([0, 50, 100, 2000]))
def test_reconstruction_at_large_logits(name, seed, logit_scale, mask_scale, step):
    puzzle = next(p for p in zoo.ALL if p.name == name)
    canvas = puzzle.canvas
    s, data = signature(canvas).shape, grids(canvas)
    rng = np.random.default_rng(seed)
    logits = logit_scale * rng.normal(size=(s.colors + 1, s.x, s.y, s.examples, 2))
    logits[0] = 0
    x_mask = mask_scale * rng.normal(size=(s.examples, s.x, 2)) + np.asarray(data.x_offset)[..., None]
    y_mask = mask_scale * rng.normal(size=(s.examples, s.y, 2)) + np.asarray(data.y_offset)[..., None]
    inputs = [a.astype(np.float32) for a in (logits, x_mask, y_mask)]
    per_grid, gradients = losing(name)(*inputs, step)
    for leaf in gradients:
        assert np.isfinite(leaf).all()
    known = [(e, 0) for e in range(s.examples)] + [(e, 1) for e in range(canvas.num_train)]
    pixels = s.x * s.y * np.abs(inputs[0]).max() + 2 * sum(np.abs(a).sum(1).max() for a in inputs[1:])
    for (e, io), got in zip(known, np.asarray(per_grid), strict=True):
        h, w = canvas.sizes[e, io]
        target = canvas.problem[e, :h, :w, io].astype(np.int32)
        with jax.enable_x64(True):
            double = [jnp.asarray(a, float) for a in inputs]
            want = oracle.grid_nll(
                double[0][:, :, :, e, io], double[1][e, :, io], double[2][e, :, io], jnp.asarray(target), step,
                canvas.size_uncertain(bool(io)),
            )  # fmt: skip
        close(got, want, 1 + pixels, 2e-6)
