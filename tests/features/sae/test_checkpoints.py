"""The state of a training on disk: what comes back, what decides a run, what is refused."""

import dataclasses

import chex
import equinox as eqx
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.sae import checkpoints
from features.sae.config import SAEConfig, TrainConfig
from features.sae.step import Info, init_run

CONFIG = TrainConfig(steps=10, batch=8)
SHAPE = SAEConfig(3, 5, "jumprelu", normalize_activations="expected_average_only_in")
SAMPLE = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def state(seed, step):
    """A run whose every array is filled with numbers of its own."""
    run = init_run(SHAPE, CONFIG, SAMPLE, key=jax.random.key(seed))
    arrays, static = eqx.partition(run, eqx.is_array)
    rng = np.random.default_rng(seed)
    filled = jax.tree.map(lambda a: jax.numpy.asarray(100 * rng.random(a.shape), a.dtype), arrays)
    return eqx.combine(filled, static)._replace(step=jax.numpy.asarray(step, jax.numpy.int32))


def history(seed, steps):
    rng = np.random.default_rng(seed)
    return Info(*(rng.random(steps).astype(np.float32) for _ in Info._fields))


@pytest.mark.slow
def test_the_latest_state_and_all_of_the_history_come_back(tmp_path):
    folder = tmp_path / "c"
    assert not checkpoints.exists(folder)
    fresh = state(9, 0)
    chex.assert_trees_all_equal(checkpoints.restore(folder, fresh, "me"), (fresh, []))
    infos = []
    for step in (3, 5, 6):
        infos.append(history(step, step))
        checkpoints.save(folder, state(step, step), infos, "me")
    assert checkpoints.exists(folder)
    assert sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) == [5, 6]  # two are kept
    run, found = checkpoints.restore(folder, fresh, "me")
    chex.assert_trees_all_equal(run, state(6, 6))
    assert run.sae.config == SHAPE and int(run.step) == 6
    whole = Info(*(np.concatenate(parts) for parts in zip(*infos, strict=True)))
    chex.assert_trees_all_equal(found, [whole])
    with pytest.raises(
        ValueError, match=r"c: the checkpoint was made with other settings or another seed, or from"
    ):
        checkpoints.restore(folder, fresh, "another")


@given(st.sampled_from(["steps", "sparsity", "dead_after", "chunk"]), st.integers(0, 5), st.integers(0, 59))
def test_everything_that_decides_a_run_is_in_its_identity(field, seed, place):
    key = jax.random.key(0)
    plain = checkpoints.identity(SHAPE, CONFIG, key, SAMPLE)
    assert plain == checkpoints.identity(SHAPE, CONFIG, jax.random.key(0), SAMPLE.copy())
    sample = SAMPLE.copy()
    sample.ravel()[place] = np.nextafter(sample.ravel()[place], np.float32(np.inf))
    others = (
        (SHAPE, dataclasses.replace(CONFIG, **{field: getattr(CONFIG, field) + 1}), key, SAMPLE),
        (dataclasses.replace(SHAPE, apply_b_dec_to_input=False), CONFIG, key, SAMPLE),
        (SHAPE, CONFIG, jax.random.key(1 + seed), SAMPLE),
        (SHAPE, CONFIG, key, sample),
    )
    assert len({plain, *(checkpoints.identity(*other) for other in others)}) == 5


def test_a_folder_without_states_holds_none(tmp_path):
    assert not checkpoints.exists(tmp_path)
    (tmp_path / "notes").mkdir()
    assert not checkpoints.exists(tmp_path)
