"""Networks and their training: shapes, snapshots, seeds, devices, lowering."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mips.networks.relu import ReluConfig, published_architecture
from mips.networks.tokens import TokenConfig
from mips.networks.training import TrainConfig, init_run, network_of, place, run_chunk, train
from mips.reading import oracle
from mips.reading.machine_extraction import alphabet, encode
from mips.tasks import get_task

KEY = jax.random.key(0)
LINEAR = ReluConfig(1, 1, 2, loss="squared", orthogonal=True, input_scale=99.0, output_scale=40.0)
SHORT = TrainConfig(steps=100, batch=64, seeds=2, chunk=50)  # one, so that it compiles once
FIT = TrainConfig(steps=600, batch=256, learning_rate=1e-2, schedule="cosine", clip=1.0, seeds=4, chunk=100)


def numbers(name, count=3000, tests=500):
    return place(*get_task(name).sample(0, count), tests)


def symbols(name, count=3000, tests=500):
    task = get_task(name)
    x, y = task.sample(0, count)
    return place(encode(alphabet(task.low, task.high, task.inputs), x), y[..., 0], tests)


@pytest.mark.parametrize(
    "config",
    [ReluConfig(2, 2, 3), ReluConfig(1, 1, 4, 2, 8, 1, 1), ReluConfig(1, 2, 2, 3, 5, 2, 6)],
    ids=ReluConfig.describe,
)
def test_shapes_and_a_plain_numpy_unrolling(config):
    network = config.init(KEY)
    x = np.random.default_rng(0).integers(-5, 6, (7, 6, config.inputs))
    ours = np.swapaxes(config.outputs_of(network, jnp.asarray(np.swapaxes(x, 0, 1))), 1, 2)

    def mlp(layers, a):
        for layer in layers[:-1]:
            a = np.maximum(a @ np.asarray(layer.weight).T + np.asarray(layer.bias), 0)
        return a @ np.asarray(layers[-1].weight).T + np.asarray(layers[-1].bias)

    hidden = np.zeros((7, config.hidden))
    for t in range(6):
        hidden = mlp(network.transition, np.concatenate([hidden, x[:, t]], axis=1))
        np.testing.assert_allclose(ours[t], mlp(network.readout, hidden), rtol=1e-4, atol=1e-4)


def test_scales_fold_into_the_weights():
    config = ReluConfig(1, 1, 3, 2, 6, 2, 5, input_scale=50.0, output_scale=20.0)
    network = config.init(KEY)
    x = jnp.asarray(np.random.default_rng(0).integers(0, 99, (8, 5, 1)))
    raw = ReluConfig(1, 1, 3, 2, 6, 2, 5)
    np.testing.assert_allclose(
        raw.outputs_of(config.unscale(network), x), 20 * config.outputs_of(network, x), rtol=1e-4, atol=1e-3
    )


def test_the_published_order_of_architectures():
    start = published_architecture(256 * 256, inputs=1, outputs=1)
    assert (start.hidden, start.transition_depth, start.readout_depth) == (2, 1, 1)
    deep = published_architecture(128 * 256 * 256, inputs=1, outputs=1)
    assert (deep.hidden, deep.transition_depth, deep.readout_depth) == (1, 2, 1)
    with pytest.raises(ValueError, match="architectures"):
        published_architecture(3 * 3 * 128 * 256 * 256, inputs=1, outputs=1)


def test_a_linear_network_learns_and_keeps_its_perfect_weights():
    data = numbers("Sum_Last2")
    for run, seen in train(LINEAR, data, FIT, key=KEY):  # noqa: B007
        if seen.sequences.max() == 1.0:
            break
    assert seen.sequences.max() == 1.0
    best = int(seen.sequences.argmax())
    assert int(run.perfect_step[best]) == seen.step
    asked = oracle.from_relu(LINEAR, LINEAR.unscale(network_of(run, best, perfect=True)))
    assert oracle.agreement(asked, *get_task("Sum_Last2").sample(7, 300)) == (1.0, 1.0)


@pytest.mark.parametrize("cell", ["affine", "gru"])
def test_symbol_networks_learn_with_a_growing_prefix(cell):
    family = TokenConfig(4, 4, 16, cell)
    config = TrainConfig(
        steps=600,
        batch=128,
        learning_rate=1e-2,
        schedule="cosine",
        clip=1.0,
        curriculum=0.1,
        seeds=2,
        keep="first",
    )
    prefixes = []
    for _, seen in train(family, symbols("Div_3"), config, key=KEY):
        prefixes.append(seen.prefix.max())
        if seen.sequences.max() == 1.0:
            break
    assert seen.sequences.max() > 0.99
    assert prefixes[0] < 10 and prefixes[-1] == 10 and prefixes == sorted(prefixes)


def test_equal_keys_give_equal_networks_and_seeds_do_not_mix():
    data = numbers("Sum_Last2")
    runs = [list(train(LINEAR, data, SHORT, key=KEY))[-1][0] for _ in range(2)]
    for a, b in zip(*map(jax.tree.leaves, (r.network for r in runs)), strict=True):
        np.testing.assert_array_equal(a, b)
    wide = init_run(LINEAR, TrainConfig(seeds=5), length=10, key=KEY).network
    narrow = init_run(LINEAR, TrainConfig(seeds=2), length=10, key=KEY).network
    np.testing.assert_array_equal(wide.transition[0].weight[:2], narrow.transition[0].weight)


def test_frozen_weights_stay():
    start = LINEAR.init(KEY)
    trainable = jax.tree.map(jnp.zeros_like, start)
    *_, (run, _) = train(LINEAR, numbers("Sum_Last2"), SHORT, key=KEY, start=start, trainable=trainable)
    for a, b in zip(jax.tree.leaves(network_of(run, 0)), jax.tree.leaves(start), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "family", [LINEAR, TokenConfig(4, 4, 8, "gru"), TokenConfig(4, 4, 8, "affine")], ids=str
)
def test_the_chunk_lowers_for_every_platform(family):
    config = TrainConfig(steps=4, batch=16, seeds=2, chunk=2, curriculum=0.1, clip=1.0)
    data = numbers("Sum_Last2", 100, 20) if family is LINEAR else symbols("Div_3", 100, 20)
    run = init_run(family, config, length=10, key=KEY)
    exported = jax.export.export(run_chunk, platforms=["cpu", "cuda", "tpu"])(
        run, data, family=family, config=config
    )
    assert exported.platforms == ("cpu", "cuda", "tpu")


def test_one_compilation_serves_all_chunks():
    family = ReluConfig(1, 1, 2, loss="squared", input_scale=7.0)
    before = run_chunk._cache_size()
    list(
        train(
            family, numbers("Sum_Last2", 200, 20), TrainConfig(steps=6, batch=16, seeds=1, chunk=2), key=KEY
        )
    )
    assert run_chunk._cache_size() - before == 1


@pytest.mark.slow
def test_eight_devices_train_the_same_networks(eight_devices):
    code = """
import jax, numpy as np
from mips.networks.relu import ReluConfig
from mips.networks.training import TrainConfig, place, train
from mips.tasks import get_task
assert len(jax.devices()) == 8
family = ReluConfig(1, 1, 2, loss="squared", input_scale=99.0, output_scale=40.0)
data = place(*get_task("Sum_Last2").sample(0, 600), 100)
config = TrainConfig(steps=40, batch=64, seeds=8, chunk=20)
losses = []
for devices in (None, jax.devices()):
    for run, seen in train(family, data, config, key=jax.random.key(0), devices=devices):
        pass
    losses.append(seen.loss)
    print(len(run.network.transition[0].weight.sharding.device_set))
np.testing.assert_allclose(*losses, rtol=1e-5)
try:
    next(train(family, data, TrainConfig(seeds=3), key=jax.random.key(0), devices=jax.devices()))
except ValueError as error:
    print(error)
"""
    assert eight_devices(code).splitlines() == ["1", "8", "3 seeds cannot be spread evenly over 8 devices"]


DISTRIBUTED = """
import sys
import jax, numpy as np
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
from mips.networks.relu import ReluConfig
from mips.networks.training import TrainConfig, network_of, place, train
from mips.tasks import get_task
assert jax.process_count() == 2 and jax.device_count() == 4
family = ReluConfig(1, 1, 2, loss="squared", input_scale=99.0, output_scale=40.0)
data = place(*get_task("Sum_Last2").sample(0, 300), 60)
config = TrainConfig(steps=20, batch=64, seeds=4, chunk=10)
results = []
for devices in (None, jax.devices()):
    for run, seen in train(family, data, config, key=jax.random.key(0), devices=devices):
        network = network_of(run, 3)
    results.append((seen.loss, *map(np.asarray, jax.tree.leaves(network))))
for one, two in zip(*results):
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
assert len(run.network.transition[0].weight.addressable_shards) == 2
print("ok")
"""


@pytest.mark.slow
def test_two_processes_train_the_same_networks(two_processes):
    two_processes(DISTRIBUTED)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="hidden=0"):
        ReluConfig(hidden=0)
    with pytest.raises(ValueError, match="learning_rate=-1"):
        TrainConfig(learning_rate=-1)


class TestStepFunctions:
    def test_scalar_and_vector_inputs(self):
        counter = oracle.from_step(lambda s, x: (s + x, s + x), jnp.int32(0))
        assert counter.run(np.array([[[1], [2], [3]]]))[0, :, 0].tolist() == [1, 3, 6]
        pair = oracle.from_step(
            lambda s, x: (s + x[0] * x[1], jnp.stack([s, x[0]])), jnp.int32(0), inputs=2, outputs=2
        )
        assert pair.run(np.array([[[1, 2], [3, 4]]])).tolist() == [[[0, 1], [2, 3]]]

    @pytest.mark.parametrize(
        ("step", "state", "error"),
        [
            (lambda s, x: s, jnp.int32(0), r"must return \(state, output\)"),
            (lambda s, x: (jnp.stack([s, s]), x), jnp.int32(0), r"int32\[2\] instead of int32\[\]"),
            (lambda s, x: (s * 1.5, x), jnp.int32(0), "float32"),
            (lambda s, x: (s, jnp.stack([s, s])), jnp.int32(0), "1 element"),
        ],
    )
    def test_wrong_shapes_are_named(self, step, state, error):
        with pytest.raises((ValueError, TypeError), match=error):
            oracle.from_step(step, state)
