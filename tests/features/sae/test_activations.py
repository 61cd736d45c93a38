"""Sources of activations: every row once an epoch, the same step the same rows, nothing lost in a buffer."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.sae.activations import ActivationSource, CachedActivations, FreshSamples, StreamedActivations

SEEDS = st.integers(0, 2**32 - 1)


def rows(n, d=2):
    return np.arange(n * d, dtype=np.float32).reshape(n, d)


@given(SEEDS, st.integers(2, 40), st.integers(1, 9), st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_however_steps_are_grouped_they_see_the_same_rows(seed, n, batch, groups):
    whole = CachedActivations(rows(n), seed=seed).batches(0, sum(groups), batch)
    source, parts, done = CachedActivations(rows(n), seed=seed), [], 0
    for steps in groups:
        parts.append(source.batches(done, steps, batch))
        done += steps
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    # Any step again, out of order.
    np.testing.assert_array_equal(source.batches(0, 1, batch)[0], whole[0])


@given(SEEDS, st.integers(2, 25), st.integers(1, 3))
def test_every_epoch_holds_every_row_once_in_an_order_of_its_own(seed, n, epochs):
    found = CachedActivations(rows(n), seed=seed).batches(0, epochs * n, 1)[:, 0]
    for epoch in range(epochs):
        part = found[epoch * n : (epoch + 1) * n]
        np.testing.assert_array_equal(part[np.argsort(part[:, 0])], rows(n))
    if n > 12 and epochs > 1:
        assert not np.array_equal(found[:n], found[n : 2 * n])


def test_a_file_is_read_as_an_array_is(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float16)
    np.save(tmp_path / "x.npy", x)
    mapped, held = (
        CachedActivations(np.load(tmp_path / "x.npy", mmap_mode="r")),
        CachedActivations(jnp.asarray(x)),
    )
    np.testing.assert_array_equal(mapped.batches(3, 4, 7), held.batches(3, 4, 7))
    np.testing.assert_array_equal(mapped.sample(), held.sample())
    assert "memory-mapped" in mapped.plan(7) and "in memory" in held.plan(7)
    assert {tuple(row) for row in held.sample()} <= {tuple(row) for row in x.astype(np.float32)}
    assert mapped.batches(0, 1, 1).dtype == np.float32


def stream(n, length, seed=0, **how):
    """Activations that say which token they are of."""
    tokens = 100 * np.arange(n)[:, None] + np.arange(length)
    source = StreamedActivations(
        lambda t: jnp.stack([t, -t], -1).astype(jnp.float32), tokens, 2, seed=seed, **how
    )
    return tokens, source


@settings(max_examples=15)
@given(SEEDS, st.integers(1, 7), st.integers(2, 4), st.integers(1, 9), st.integers(1, 5), st.integers(0, 1))
def test_a_buffer_holds_its_sequences_and_nothing_else(seed, n, length, buffer, run_batch, skip):
    tokens, source = stream(n, length, seed, buffer=buffer, run_batch=run_batch, skip=skip)
    per_buffer = source.buffer * (length - skip)
    assert 0 < source.buffer <= buffer
    for number in range(3):
        found = source.batches(number * per_buffer, per_buffer, 1)[:, 0, 0]
        sequences = (
            number * source.buffer + np.arange(source.buffer)
        ) % n  # in order, and anew after the last
        assert sorted(found.tolist()) == sorted(tokens[sequences, skip:].ravel().tolist())


@given(SEEDS, st.integers(0, 20), st.integers(1, 4), st.integers(1, 11))
def test_a_stream_depends_on_the_step_alone(seed, first, steps, batch):
    whole = stream(5, 4, seed, buffer=3, run_batch=2)[1].batches(0, first + steps, batch)
    _, source = stream(5, 4, seed, buffer=3, run_batch=2)
    np.testing.assert_array_equal(source.batches(first, steps, batch), whole[first:])
    assert len(source.sample()) == source.buffer * 3
    np.testing.assert_array_equal(source.sample(), stream(5, 4, seed, buffer=3, run_batch=2)[1].sample())


@given(SEEDS, st.integers(0, 9), st.integers(1, 4), st.integers(1, 6))
def test_fresh_samples_depend_on_the_step_alone(seed, first, steps, batch):
    source = FreshSamples(lambda rng, n: rng.normal(size=(n, 3)), 3, seed=seed)
    found = source.batches(first, steps, batch)
    for place in range(steps):
        np.testing.assert_array_equal(found[place], source.batches(first + place, 1, batch)[0])
    assert len({row.tobytes() for row in found.reshape(-1, 3)}) == steps * batch
    np.testing.assert_array_equal(source.sample(), source.sample())


def test_sources_are_sources():
    for source in (CachedActivations(rows(4)), stream(3, 3)[1], FreshSamples(lambda rng, n: rows(n), 2)):
        assert isinstance(source, ActivationSource) and source.d_in == 2


def test_what_is_no_source_is_named():
    run = lambda t: jnp.zeros((*t.shape, 2))  # noqa: E731
    for make, message in (
        (lambda: CachedActivations(np.zeros(5)), r"shape \(5,\), expected \(tokens, d_in\)"),
        (lambda: CachedActivations(np.ones((5, 2))), "constant"),
        (lambda: CachedActivations(np.full((5, 2), np.nan)), "not finite: first in row 0"),
        (lambda: StreamedActivations(run, np.zeros(5, int), 2), r"shape \(5,\), expected \(sequences"),
        (lambda: StreamedActivations(run, np.zeros((5, 1), int), 2), "length > skip=1"),
        (lambda: StreamedActivations(run, np.zeros((0, 4), int), 2), r"shape \(0, 4\)"),
        (lambda: StreamedActivations(run, np.zeros((5, 4), int), 2, buffer=0), "buffer=0"),
        (lambda: StreamedActivations(run, np.zeros((5, 4), int), 2, run_batch=-1), "run_batch=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    broken = StreamedActivations(lambda t: jnp.full((*t.shape, 2), jnp.nan), np.zeros((5, 4), int), 2)
    with pytest.raises(ValueError, match="the model's activations are not finite"):
        broken.batches(0, 1, 2)
