"""Steps of training: padded sizes, the optimizer against plain NumPy, statuses, collapse, keys, layouts."""

import dataclasses
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hypernet
from hypernet.training.step import Info, TrainConfig, optimizer, paddings, seed_keys
from hypernet.training.train import SeedStatus, Trained, _statuses, collapsed, spread
from tests.hypernet import plain

SMALL = TrainConfig(sizes=(2, 4), steps=30, chunk=10, seeds=2, points=32, networks=4)


@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=8, unique=True))
def test_padded_sizes_serve_every_size_and_waste_at_most_half_of_a_side(sizes):
    tops = paddings(sizes)
    assert list(tops) == sorted(set(tops)) and set(tops) <= set(sizes)
    assert tops[-1] == max(sizes)
    for n in sizes:
        top = min(t for t in tops if t >= n)  # raises where a size is served by none
        # but for the smallest, for which another program is not worth its compilation
        assert n > top / 2 or n <= 4 or top <= 8
    assert all(a <= b / 2 for a, b in itertools.pairwise(tops))
    assert paddings(sizes[::-1]) == tops


def adam_by_hand(config, gradients):
    """Clipping by the norm of all entries, Adam (.9, .98), linear warm-up, then a cosine to 2 %."""
    m = v = np.zeros(gradients.shape[1])
    moves = []
    for t, gradient in enumerate(gradients):
        g = gradient * min(1.0, config.clip / np.linalg.norm(gradient))
        m, v = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g**2
        if t < config.warmup:
            rate = config.learning_rate * t / config.warmup
        else:
            done = (t - config.warmup) / (config.steps - config.warmup)
            rate = config.learning_rate * (0.02 + 0.98 * (1 + np.cos(np.pi * done)) / 2)
        moves.append(-rate * m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.98 ** (t + 1))) + 1e-8))
    return np.array(moves)


@pytest.mark.parametrize("settings", [{"warmup": 3}, {"warmup": 0, "clip": 0.1, "learning_rate": 0.5}])
def test_the_optimizer_is_adam_after_clipping_with_warmup_and_cosine(settings):
    config = dataclasses.replace(SMALL, steps=8, **settings)
    gradients = np.random.default_rng(0).normal(size=(8, 5)) * np.logspace(-2, 2, 8)[:, None]
    tree = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(())}
    transform = optimizer(config)
    update, state, found = jax.jit(transform.update), transform.init(tree), []
    for g in gradients.astype(np.float32):
        moves, state = update({"a": jnp.asarray(g[:4].reshape(2, 2)), "b": jnp.asarray(g[4])}, state, tree)
        found.append([*np.ravel(moves["a"]), float(moves["b"])])
    np.testing.assert_allclose(found, adam_by_hand(config, gradients), rtol=2e-3, atol=1e-7)


def test_a_seed_s_key_does_not_depend_on_how_many_there_are():
    key = jax.random.key(5)
    few, many = (jax.random.key_data(seed_keys(key, count)) for count in (3, 7))
    np.testing.assert_array_equal(few, many[:3])
    assert len({tuple(row) for row in np.asarray(many).tolist()}) == 7
    np.testing.assert_array_equal(many[4], jax.random.key_data(jax.random.fold_in(key, 4)))


@given(seed=plain.SEEDS, last=st.integers(1, 12), below=st.sampled_from([-4.0, -2.0, -7.0]))
def test_collapse_is_a_small_median_price_where_a_nat_is_cheap(seed, last, below):
    rng = np.random.default_rng(seed)
    n, lb, nats = rng.integers(1, 9, 10), rng.uniform(-6, 0, (10, 2)), rng.exponential(5, (10, 2))
    found = collapsed(Info(n, lb, nats, nats, nats), below=below, last=last)
    for s in range(2):
        prices = [nats[t, s] / n[t] for t in range(max(0, 10 - last), 10) if lb[t, s] < below]
        # where no step was cheap nothing is known, and nothing claimed
        assert found[s] == (len(prices) > 0 and np.median(prices) < 1)


def history_of(loss):
    return Info(np.full(len(loss), 4), *(np.asarray(loss),) * 4)


def test_a_seed_is_lost_where_none_of_its_last_steps_is_finite():
    loss = np.ones((15, 4))
    loss[3, 1] = np.nan  # and recovered
    loss[-10:, 2] = np.inf
    loss[-9:, 3] = np.nan
    found = _statuses(history_of(loss)).tolist()
    assert found == [SeedStatus.FINISHED, SeedStatus.FINISHED, SeedStatus.NON_FINITE, SeedStatus.FINISHED]
    assert [str(status) for status in found] == ["finished", "finished", "non_finite", "finished"]


@pytest.mark.usefixtures("types_unchecked")
def test_the_generator_of_several_seeds_is_asked_for_by_name():
    trained = Trained(None, history_of(np.ones((3, 2))), SMALL)
    with pytest.raises(ValueError, match=r"2 seeds were trained: take generators\.member"):
        _ = trained.generator


@pytest.mark.usefixtures("types_unchecked")
def test_seeds_are_laid_out_evenly_or_not_at_all():
    keys, (device,) = seed_keys(jax.random.key(0), 3), jax.devices()
    with pytest.raises(ValueError, match="devices: none given"):
        spread({"a": jnp.ones(3)}, keys, [])
    with pytest.raises(ValueError, match="3 seeds can't be spread over 2 devices evenly"):
        spread({"a": jnp.ones(3)}, keys, [device, device])
    run, placed = spread({"a": jnp.arange(3.0), "b": jnp.float32(7)}, keys, [device])
    np.testing.assert_array_equal(run["a"], np.arange(3))
    assert float(run["b"]) == 7
    np.testing.assert_array_equal(jax.random.key_data(placed), jax.random.key_data(keys))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"networks": 0}, "networks=0: must be at least 1"),
        ({"points": 2.5}, "points=2.5: expected a whole number"),
        ({"seeds": -1}, "seeds=-1"),
        ({"chunk": 0}, "chunk=0"),
        ({"warmup": -1}, "warmup=-1: must be at least 0"),
        ({"kl_warmup": 0.5}, "kl_warmup=0.5: expected a whole number"),
        ({"clip": 0.0}, "clip=0.0: must be positive and finite"),
        ({"learning_rate": 10**400}, "must be positive and finite"),
        ({"sizes": ()}, "expected different numbers of inputs, at least one"),
        ({"sizes": "24"}, "sizes='24': expected a tuple"),
        ({"sizes": (2, 3.5)}, "sizes=3.5: expected a whole number"),
        (
            {"target": hypernet.Target("two", lambda x: x[..., 0], smallest=3)},
            "n=2: target 'two' needs at least 3",
        ),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_settings_of_trainings_are_checked(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(SMALL, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n=0: must be at least 1"),
        ({"hidden": 1.5}, "hidden=1.5: expected a whole number"),
        ({"seeds": 0}, "seeds=0"),
        ({"steps": 0}, "steps=0"),
        ({"batch": -3}, "batch=-3"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: must be positive and finite"),
        ({"l1": -0.1}, "l1=-0.1: must not be negative"),
        ({"l1": float("inf")}, "l1=inf"),
        ({"target": hypernet.get_target("sort")}, "'sort' has several outputs"),
        ({"activation": "sine"}, "activation='sine': expected one of swish"),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_settings_of_the_baseline_are_checked(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        hypernet.train_directly(jax.random.key(0), **settings)
