"""Edits on plain arrays: what they change, what they leave, how they compose."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.lm.edits import Ablate, Both, Patch, Steer

SEEDS = st.integers(0, 2**32 - 1)
BATCH, TOKENS, WIDTH, HEADS, SIZE = 3, 5, 4, 2, 3
COLUMNS = st.integers(0, TOKENS - 1) | st.lists(st.integers(0, TOKENS - 1), min_size=BATCH, max_size=BATCH)


def stream(seed, *size):
    return np.random.default_rng(seed).normal(size=(BATCH, TOKENS, *size)).astype(np.float32)


def at(columns):
    return np.broadcast_to(np.asarray(columns), BATCH)


@settings(max_examples=10)
@given(SEEDS, COLUMNS, st.sampled_from(["resid", "attn", "mlp", "heads", "one head"]))
def test_a_patch_writes_one_token_of_each_row(seed, columns, where):
    site = "heads" if where == "one head" else where
    size = (HEADS, SIZE) if site == "heads" else (WIDTH,)
    x, rng = stream(seed, *size), np.random.default_rng(seed + 1)
    value = rng.normal(size=(BATCH, *(size[1:] if where == "one head" else size))).astype(np.float32)
    head = jnp.asarray(1) if where == "one head" else None
    edit = Patch(jnp.asarray(2), jnp.asarray(columns), jnp.asarray(value), site, head)
    expected = x.copy()
    for row, column in enumerate(at(columns)):
        if where == "one head":
            expected[row, column, 1] = value[row]
        else:
            expected[row, column] = value[row]
    np.testing.assert_array_equal(edit(site, jnp.asarray(2), jnp.asarray(x)), expected)
    # Other layers and other sites are left alone.
    np.testing.assert_array_equal(edit(site, jnp.asarray(1), jnp.asarray(x)), x)
    other = "mlp" if site == "resid" else "resid"
    np.testing.assert_array_equal(edit(other, jnp.asarray(2), jnp.asarray(x)), x)


@settings(max_examples=8)
@given(SEEDS, COLUMNS | st.none())
def test_steering_adds_and_steering_back_undoes_it(seed, columns):
    x = stream(seed, WIDTH)
    direction = np.random.default_rng(seed + 1).normal(size=WIDTH).astype(np.float32)
    position = None if columns is None else jnp.asarray(columns)
    there, back = (Steer(jnp.asarray(0), jnp.asarray(sign * direction), position) for sign in (1, -1))
    moved = np.ones((BATCH, TOKENS), bool)
    if columns is not None:
        moved = np.arange(TOKENS) == at(columns)[:, None]
    expected = x + direction * moved[..., None]
    np.testing.assert_allclose(there("resid", jnp.asarray(0), jnp.asarray(x)), expected, atol=1e-6)
    np.testing.assert_allclose(Both([there, back])("resid", jnp.asarray(0), jnp.asarray(x)), x, atol=1e-6)
    for site, layer in (("attn", 0), ("resid", 1)):
        np.testing.assert_array_equal(there(site, jnp.asarray(layer), jnp.asarray(x)), x)


@settings(max_examples=8)
@given(SEEDS, COLUMNS | st.none(), st.integers(0, WIDTH))
def test_ablation_puts_the_mean_into_a_subspace_once_and_for_all(seed, columns, k):
    rng = np.random.default_rng(seed)
    x, mean = stream(seed, WIDTH), rng.normal(size=WIDTH).astype(np.float32)
    basis = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0][:, :k].T.astype(np.float32)
    position = None if columns is None else jnp.asarray(columns)
    edit = Ablate(jnp.asarray(1), jnp.asarray(mean), jnp.asarray(basis), position)
    once = np.asarray(edit("resid", jnp.asarray(1), jnp.asarray(x)))
    chosen = np.ones((BATCH, TOKENS), bool) if columns is None else np.arange(TOKENS) == at(columns)[:, None]
    inside, outside = basis.T @ basis, np.eye(WIDTH) - basis.T @ basis
    np.testing.assert_allclose(once[chosen], x[chosen] @ outside + mean @ inside, atol=1e-5)
    np.testing.assert_array_equal(once[~chosen], x[~chosen])
    np.testing.assert_allclose(edit("resid", jnp.asarray(1), jnp.asarray(once)), once, atol=1e-5)
    whole = Ablate(jnp.asarray(1), jnp.asarray(mean), None, position)
    np.testing.assert_allclose(
        np.asarray(whole("resid", jnp.asarray(1), jnp.asarray(x)))[chosen], np.broadcast_to(mean, once[chosen].shape),
        atol=1e-6,
    )  # fmt: skip
    np.testing.assert_array_equal(edit("mlp", jnp.asarray(1), jnp.asarray(x)), x)
    np.testing.assert_array_equal(edit("resid", jnp.asarray(0), jnp.asarray(x)), x)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16])
def test_the_type_of_the_stream_is_kept(dtype):
    x = jnp.asarray(stream(0, WIDTH), dtype)
    vector = jnp.ones(WIDTH)
    for edit in (
        Patch(jnp.asarray(0), jnp.asarray(1), jnp.ones((BATCH, WIDTH))),
        Steer(jnp.asarray(0), vector),
        Ablate(jnp.asarray(0), vector, jnp.eye(WIDTH)[:2]),
    ):
        assert edit("resid", jnp.asarray(0), x).dtype == dtype


def test_several_edits_happen_one_after_another():
    x = jnp.asarray(stream(0, WIDTH))
    patch = Patch(jnp.asarray(0), jnp.asarray(1), jnp.ones((BATCH, WIDTH)))
    steer = Steer(jnp.asarray(0), jnp.full(WIDTH, 2.0))
    first, last = (Both(edits)("resid", jnp.asarray(0), x) for edits in ([patch, steer], [steer, patch]))
    np.testing.assert_array_equal(first[:, 1], 3)
    np.testing.assert_array_equal(last[:, 1], 1)
    np.testing.assert_array_equal(Both([])("resid", jnp.asarray(0), x), x)
