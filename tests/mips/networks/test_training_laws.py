"""Training step by step in double precision, and which of several perfect weights are kept."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int

from mips.networks.relu import ReluConfig
from mips.networks.training import TrainConfig, init_run, network_of, place, run_chunk, train
from tests.mips.networks.test_relu import outputs_of

KEY = jax.random.key(5)
FAMILY = ReluConfig(1, 1, 2, loss="squared", input_scale=3.0)
STEPS, LENGTH, BATCH = 3, 3, 4
CONFIG = TrainConfig(
    steps=6, batch=99, learning_rate=0.05, schedule="cosine", clip=0.7, curriculum=1.5, seeds=2, chunk=STEPS
)


def slope(loss, leaves):
    """Central differences, entry by entry."""
    found = []
    for leaf in leaves:
        grad = np.zeros(leaf.shape)
        for place_ in np.ndindex(*leaf.shape):
            sides = []
            for sign in (1, -1):
                leaf[place_] += sign * 1e-6
                sides.append(loss())
                leaf[place_] -= sign * 1e-6
            grad[place_] = (sides[0] - sides[1]) / 2e-6
        found.append(grad)
    return found


def by_hand(start, trainable, x, y):
    """Adam (Kingma and Ba 2015) with clipping, a half cosine and the growing prefix; one network."""
    network = jax.tree.map(lambda a: np.array(a, float), start)
    leaves, masks = jax.tree.leaves(network), jax.tree.leaves(trainable)
    first, second = ([np.zeros(a.shape) for a in leaves] for _ in range(2))
    prefix, average, losses = 2, 1.0, []

    def loss():
        error = outputs_of(FAMILY, network, x) - y
        return (0.5 * error**2)[:prefix].mean()

    for step in range(STEPS):
        losses.append(loss())
        grads = slope(loss, leaves)
        norm = math.sqrt(sum((g**2).sum() for g in grads))
        rate = CONFIG.learning_rate * 0.5 * (1 + math.cos(math.pi * step / CONFIG.steps))
        for leaf, grad, m, v, mask in zip(leaves, grads, first, second, masks, strict=True):
            clipped = grad * min(1.0, CONFIG.clip / norm)
            m[...] = 0.9 * m + 0.1 * clipped
            v[...] = 0.999 * v + 0.001 * clipped**2
            corrected = m / (1 - 0.9 ** (step + 1)) / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8)
            leaf[...] -= rate * corrected * mask
        average = 0.95 * average + 0.05 * losses[-1]
        if average < CONFIG.curriculum and prefix < LENGTH:
            prefix, average = prefix + 1, average + CONFIG.curriculum
    return network, np.mean(losses), prefix, average


def test_a_chunk_is_adam_with_clipping_a_half_cosine_and_a_growing_prefix():
    rng = np.random.default_rng(0)
    x, y = rng.integers(-3, 4, (2, BATCH + 3, LENGTH, 1))
    # As many sequences as the batch takes: the place of the slice is certain.
    data = place(x, y, 3)
    shape = jax.eval_shape(FAMILY.init, KEY)
    trainable = jax.tree.map(lambda a: np.ones(a.shape, np.float32), shape)
    trainable.transition[0].weight[0, 1] = 0
    run = init_run(FAMILY, CONFIG, length=LENGTH, key=KEY, trainable=trainable)
    starts = {1: network_of(run, 1)}  # not the first: seeds do not mix
    run, (loss, elements, sequences) = run_chunk(run, data, family=FAMILY, config=CONFIG)
    swapped = [np.swapaxes(a[3:], 0, 1) for a in (x, y)]
    for seed, start in starts.items():
        network, mean, prefix, average = by_hand(start, trainable, *swapped)
        for ours, want in zip(jax.tree.leaves(network_of(run, seed)), jax.tree.leaves(network), strict=True):
            np.testing.assert_allclose(ours, want, rtol=1e-3, atol=1e-5)
        assert loss[seed] == pytest.approx(mean, rel=1e-4)
        assert (run.prefix[seed], run.average[seed]) == pytest.approx((prefix, average), rel=1e-4)
        # The weights that are not trained are those of the start, to the last bit.
        assert network_of(run, seed).transition[0].weight[0, 1] == start.transition[0].weight[0, 1]
        hits = np.round(outputs_of(FAMILY, network, np.swapaxes(x[:3], 0, 1))) == np.swapaxes(y[:3], 0, 1)
        assert (elements[seed], sequences[seed]) == pytest.approx((hits.mean(), hits.all(axis=(0, 2)).mean()))
    assert int(run.step) == STEPS


class Number(eqx.Module):
    """A network of one weight."""

    weight: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Climbing:
    """Says its weight, which grows by the learning rate at each step."""

    name = "climbing"
    missing = None

    def init(self, key):
        return Number(jnp.float32(0) * jax.random.uniform(key))

    def loss_of(
        self,
        network,
        x: Int[Array, "length batch"],
        y: Int[Array, "length batch"],
        weight: Float[Array, " length"],
    ):
        return -network.weight * weight.mean()

    def predict(self, network, x: Int[Array, "length batch"]):
        return jnp.round(network.weight).astype(jnp.int32) + 0 * x


@pytest.mark.parametrize(("keep", "step"), [("first", 2), ("last", 5)])
def test_the_first_or_the_last_perfect_weights_are_kept(keep, step):
    # A quarter at each step: rounds to one after two steps, and to two after six.
    config = TrainConfig(steps=7, batch=2, learning_rate=0.26, seeds=1, chunk=1, keep=keep)
    ones = np.ones((4, 3), int)
    found, shares = -1, []
    for run, seen in train(Climbing(), place(ones, ones, 2), config, key=KEY):
        found, weight = int(run.perfect_step[0]), float(network_of(run, 0, perfect=True).weight)
        shares.append(float(seen.sequences[0]))
    assert shares == [0, 1, 1, 1, 1, 0, 0] and found == step
    assert weight == pytest.approx(0.26 * step, rel=1e-4)


def test_steps_come_in_whole_chunks_and_never_too_few():
    ones = np.ones((4, 3), int)
    config = TrainConfig(steps=5, batch=2, learning_rate=1e-3, seeds=1, chunk=2)
    seen = [s for _, s in train(Climbing(), place(ones, ones, 2), config, key=KEY)]
    assert [s.step for s in seen] == [2, 4, 6]
    assert all(s.prefix.tolist() == [3] for s in seen)


def test_sequences_are_placed_time_first_and_the_first_are_for_judging():
    x = np.arange(24).reshape(6, 4, 1)
    data = place(x, -x, 2)
    np.testing.assert_array_equal(data.test_x, np.swapaxes(x[:2], 0, 1))
    np.testing.assert_array_equal(data.x, np.swapaxes(x[2:], 0, 1))
    np.testing.assert_array_equal(data.y, -np.asarray(data.x))
    assert data.x.dtype == jnp.int32


@pytest.mark.parametrize("field", ["steps", "batch", "seeds", "chunk"])
def test_counts_are_at_least_one(field):
    with pytest.raises(ValueError, match=f"{field}=0: must be at least 1"):
        TrainConfig(**{field: 0})


@pytest.mark.parametrize("rate", [0.0, -1e-3, math.inf, math.nan])
def test_rates_are_positive_and_finite(rate):
    with pytest.raises(ValueError, match=r"learning_rate=.*must be positive and finite"):
        TrainConfig(learning_rate=rate)
