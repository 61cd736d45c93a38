"""Sums, maxima and repetition along an axis: one meaning on all platforms, exact derivatives, under vmap too."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressarc.network.layers import axes
from compressarc.network.layers.axes import keep, max_axis, settle, spread, sum_axis

SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)


class Along(NamedTuple):
    """An array, an axis of it that is [outer, n, inner] flattened, and where a sum over n starts."""

    apart: np.ndarray
    axis: int
    start: int

    @property
    def x(self):
        outer, n, inner = self.apart.shape[self.axis : self.axis + 3]
        return self.joined(self.apart, outer * n * inner)

    @property
    def where(self):
        return {"axis": self.axis, "n": self.apart.shape[self.axis + 1], "outer": self.apart.shape[self.axis]}

    def joined(self, a, length):
        return a.reshape(*a.shape[: self.axis], length, *a.shape[self.axis + 3 :])

    def without_middle(self, reduced):
        outer, _, inner = self.apart.shape[self.axis : self.axis + 3]
        return self.joined(reduced, outer * inner)


@st.composite
def along(draw):
    shape = draw(SHAPES)
    axis = draw(st.integers(0, len(shape) - 1))
    outer, inner = draw(st.sampled_from([(1, 1), (1, 3), (2, 1), (2, 3)]))
    shape = (*shape[:axis], outer, shape[axis], inner, *shape[axis + 1 :])
    x = np.random.default_rng(draw(st.integers(0, 9))).normal(size=shape).astype(np.float32)
    return Along(x, axis, draw(st.integers(0, shape[axis + 1] - 1)))


@settings(max_examples=12)
@given(along())
def test_all_forms_are_the_sum_the_maximum_and_the_repetition(case):
    axis, start, x = case.axis, case.start, jnp.asarray(case.x)
    part = np.take(case.apart, range(start, case.apart.shape[axis + 1]), axis + 1).astype(float)
    total = case.without_middle(part.sum(axis + 1, keepdims=True))
    for form in (axes._sum_on_cpu, axes._sum, axes._sum_on_tpu):
        found = form(x, start=start, **case.where)
        np.testing.assert_allclose(found, total, rtol=1e-5, atol=1e-6)
    for form in (axes._max_on_cpu, axes._max):
        most = case.without_middle(case.apart.max(axis + 1, keepdims=True))
        np.testing.assert_array_equal(form(x, **case.where), most)
    small = jnp.asarray(total, jnp.float32)
    for form in (axes._repeated, axes._spread_on_tpu):
        np.testing.assert_array_equal(form(small, start=start, **case.where), repeated(case, small))


def repeated(case, small):
    outer, n, inner = case.apart.shape[case.axis : case.axis + 3]
    apart = np.asarray(small).reshape(
        *case.apart.shape[: case.axis], outer, 1, inner, *case.apart.shape[case.axis + 3 :]
    )
    present = (np.arange(n) >= case.start).reshape(
        [n if a == case.axis + 1 else 1 for a in range(apart.ndim)]
    )
    return case.joined(apart * present, outer * n * inner)


@settings(max_examples=8)
@given(along())
def test_a_sums_derivative_is_repetition_and_the_other_way_round(case):
    x, where = jnp.asarray(case.x), case.where | {"start": case.start}
    total, back = jax.vjp(lambda a: sum_axis(a, **where), x)
    small = jnp.arange(total.size, dtype=jnp.float32).reshape(total.shape)
    np.testing.assert_array_equal(back(small)[0], spread(small, **where))
    wide, back = jax.vjp(lambda a: spread(a, **where), small)
    np.testing.assert_array_equal(back(x)[0], total)
    np.testing.assert_array_equal(wide, repeated(case, small))
    tangent = jax.jvp(lambda a: sum_axis(a, **where), (x,), (2 * x,))[1]
    np.testing.assert_allclose(tangent, 2 * total, rtol=1e-5, atol=1e-6)


@settings(max_examples=8)
@given(along(), st.integers(0, 4))
def test_lanes_may_be_any_axis(case, lane):
    x, where = case.x, case.where | {"start": case.start}
    lane = min(lane, x.ndim)
    lanes = jnp.stack([x, 2 * x, 3 * x], lane)
    for function in (
        lambda a: sum_axis(a, **where),
        lambda a: max_axis(a, **case.where),
        lambda a: spread(jax.lax.slice_in_dim(a, 0, case.where["outer"], axis=case.axis), **where),
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
