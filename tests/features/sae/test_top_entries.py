"""The k largest of every row, as a CPU finds them and as an accelerator does, against sorting in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from features.sae import top_entries
from features.sae.top_entries import keep_top

COLUMNS = 13
WAYS = {"cpu": top_entries._sorted, "default": top_entries._bisected}
COMPILED = {way: jax.jit(function, static_argnums=1) for way, function in WAYS.items()}


def largest(rows, k):
    """Stable: of equal entries the first."""
    kept = np.zeros_like(rows)
    for row, out in zip(rows, kept, strict=True):
        for place in np.argsort(-row, kind="stable")[:k]:
            out[place] = max(row[place], 0)
    return kept


# Normal floats: whether subnormal ones are zero is the device's choice.
NUMBERS = st.floats(width=32, allow_nan=False, allow_subnormal=False)


@pytest.mark.parametrize("way", WAYS)
@given(
    arrays.arrays(np.float32, (3, COLUMNS), elements=NUMBERS | st.sampled_from([-1.0, 0.0, 0.5, 1.0])),
    st.integers(1, COLUMNS),
)
def test_the_first_of_the_largest_are_kept_at_their_places(way, rows, k):
    np.testing.assert_array_equal(COMPILED[way](rows, k), largest(rows, k))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["ties", "one value", "negative", "tiny", "huge", "plain"])
@pytest.mark.parametrize(("columns", "k"), [(1, 1), (2, 1), (64, 32), (1000, 7), (1024, 1024)])
def test_rows_of_many_sizes(way, kind, columns, k):
    rows = np.random.default_rng(columns).normal(size=(5, columns)).astype(np.float32)
    rows = {
        "ties": np.round(rows),
        "one value": np.ones_like(rows),
        "negative": -np.abs(rows),
        "tiny": rows * np.float32(2) ** -110,
        "huge": rows * np.float32(2) ** 125,
        "plain": rows,
    }[kind]
    np.testing.assert_array_equal(COMPILED[way](rows, k), largest(rows, k))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_floats(way, dtype):
    with jax.enable_x64(True):
        rows = jnp.asarray(np.random.default_rng(0).normal(size=(4, 100)), dtype)
        kept = WAYS[way](rows, 9)
        assert kept.dtype == rows.dtype
        np.testing.assert_array_equal(np.asarray(kept, float), largest(np.asarray(rows, float), 9))


def test_gradients_go_to_what_was_kept_and_batches_may_have_any_axes():
    pre = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 20)), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 20)), jnp.float32)
    kept, gradient = jax.value_and_grad(lambda pre: (keep_top(pre, 4) * weights).sum())(pre)
    expected = largest(np.asarray(pre).reshape(6, 20), 4).reshape(2, 3, 20)
    np.testing.assert_allclose(kept, (expected * weights).sum(), rtol=1e-5)
    np.testing.assert_array_equal(gradient, np.where(expected > 0, weights, 0))
    np.testing.assert_array_equal(jax.vmap(lambda rows: keep_top(rows, 4))(pre), expected)


def test_no_accelerator_sorts():
    lowered = {
        platform: jax.jit(keep_top, static_argnums=1)
        .trace(jnp.zeros((8, 64)), 3)
        .lower(lowering_platforms=(platform,))
        .as_text()
        for platform in ("cpu", "tpu", "cuda")
    }
    assert {platform: "top_k" in text or "sort" in text for platform, text in lowered.items()} == {
        "cpu": True,
        "tpu": False,
        "cuda": False,
    }
