"""Sums, maxima and repetition along an axis: one meaning on all platforms, exact derivatives, under vmap too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressarc.network.layers import axes
from compressarc.network.layers.axes import keep, max_axis, settle, spread, sum_axis

SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)


@st.composite
def along(draw):
    """An array, an axis of it, and where a sum along it starts."""
    shape = draw(SHAPES)
    axis = draw(st.integers(0, len(shape) - 1))
    x = np.random.default_rng(draw(st.integers(0, 9))).normal(size=shape).astype(np.float32)
    return x, axis, draw(st.integers(0, shape[axis] - 1))


@given(along())
def test_both_forms_are_the_sum_and_the_maximum(case):
    x, axis, start = case
    part = np.take(x, range(start, x.shape[axis]), axis).astype(float)
    for form in (axes._sum_on_cpu, axes._sum):
        found = form(jnp.asarray(x), axis=axis, n=x.shape[axis], start=start)
        np.testing.assert_allclose(found, part.sum(axis, keepdims=True), rtol=1e-5, atol=1e-6)
    for form in (axes._max_on_cpu, axes._max):
        np.testing.assert_array_equal(form(jnp.asarray(x), axis=axis), x.max(axis, keepdims=True))


@settings(max_examples=25)
@given(along())
def test_a_sums_derivative_is_repetition_and_the_other_way_round(case):
    x, axis, start = case
    n, x = x.shape[axis], jnp.asarray(x)
    small = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
    total, back = jax.vjp(lambda a: sum_axis(a, axis, n, start), x)
    np.testing.assert_array_equal(back(small)[0], spread(small, axis, n, start))
    wide, back = jax.vjp(lambda a: spread(a, axis, n, start), small)
    np.testing.assert_array_equal(back(x)[0], total)
    present = (np.arange(n) >= start).reshape([n if a == axis else 1 for a in range(x.ndim)])
    np.testing.assert_array_equal(wide, np.where(present, small, 0) * np.ones_like(x))
    tangent = jax.jvp(lambda a: sum_axis(a, axis, n, start), (x,), (2 * x,))[1]
    np.testing.assert_allclose(tangent, 2 * total, rtol=1e-5, atol=1e-6)


@settings(max_examples=25)
@given(along(), st.integers(0, 4))
def test_lanes_may_be_any_axis(case, lane):
    x, axis, start = case
    lane = min(lane, x.ndim)
    n, lanes = x.shape[axis], jnp.stack([x, 2 * x, 3 * x], lane)
    for function in (
        lambda a: sum_axis(a, axis, n, start),
        lambda a: max_axis(a, axis),
        lambda a: spread(jax.lax.slice_in_dim(a, 0, 1, axis=axis), axis, n, start),
        settle,
        keep,
    ):
        found = jax.vmap(function, lane)(lanes)
        expected = np.stack([function(jnp.asarray(i * x)) for i in (1, 2, 3)])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("identity", [settle, keep])
def test_identities_are_exact_and_have_that_derivative(identity):
    for values in (
        np.random.default_rng(0).normal(size=(9, 16)) * 1e30,
        np.array([[1e-37, 3e38, -3e38, 0.0]] * 20),
    ):
        x = jnp.asarray(values, jnp.float32)
        value, back = jax.vjp(jax.jit(identity), x)
        np.testing.assert_array_equal(value, x)
        np.testing.assert_array_equal(back(x / 2)[0], x / 2)


def test_a_program_holds_the_form_of_its_platform_alone():
    def everything(x):
        return settle(keep(spread(sum_axis(x, 0, 9), 0, 9) + max_axis(x, 1)))

    forward = {
        platform: jax.jit(everything).trace(jnp.ones((9, 16))).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "tpu", "cuda")
    }
    assert all("stablehlo.case" not in text and "barrier" not in text for text in forward.values())
    assert "dot_general" in forward["cpu"] and "3.000000e+38" in forward["cpu"]
    for platform in ("tpu", "cuda"):
        assert "dot_general" not in forward[platform] and "3.000000e+38" not in forward[platform]
        assert "stablehlo.reduce" in forward[platform]
    both = jax.export.export(jax.jit(everything), platforms=["cpu", "tpu"])(jnp.ones((9, 16)))
    assert both.platforms == ("cpu", "tpu")
