"""Training: what it reaches, that it resumes, that seeds are alone, devices, lowering."""

import dataclasses
import itertools
import os
import re
import signal
import subprocess
import sys
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hypernet
from hypernet.generator.assignment import Assignment
from hypernet.generator.config import GeneratorConfig
from hypernet.training import checkpoints
from hypernet.training.step import Info, TrainConfig, init, paddings, run_chunk, seed_keys
from hypernet.training.train import SeedStatus, Trained, collapsed, spread, train

SMALL = TrainConfig(sizes=(2, 4), steps=30, chunk=10, seeds=2, points=32, networks=4)


same = chex.assert_trees_all_equal


@pytest.fixture(scope="module")
def trained():
    """Two seeds, a quarter of the usual training: enough for structure."""
    return train(TrainConfig(seeds=2, steps=2000, chunk=500), jax.random.key(0))


@pytest.mark.slow
def test_low_beta_gives_structure_and_high_beta_convexity(trained):
    found = hypernet.measure(
        trained.generators, hypernet.get_target("l1"), jax.random.key(1), 16, [-5, -1], networks=16
    )
    low, high = np.median(found.nmse[:, 0], -1), found.label[:, 1]
    assert (low < 0.05).all()
    assert (
        np.isin(found.label[:, 0], ["double_sided", "pudding_pos", "pudding_neg", "pudding_mixed"]).mean()
        > 0.9
    )
    assert (high == "convexity").mean() > 0.9
    nats = np.median(found.nats, -1) / 16
    assert (nats[:, 1] < 0.3).all()
    assert (nats[:, 0] > 50).all()
    assert not collapsed(trained.history).any()


@pytest.mark.slow
def test_sizes_never_trained(trained):
    target = hypernet.get_target("l1")
    error = {
        n: np.median(
            hypernet.measure(trained.generators, target, jax.random.key(2), n, [-5], columns=24).nmse[:, 0],
            -1,
        )
        for n in (8, 10, 12, 24)
    }
    assert (error[10] < 1.3 * np.maximum(error[8], error[12])).all()
    assert (error[24] < 0.1).all()


@pytest.mark.slow
def test_formulas_and_simplification_of_generated_networks(trained):
    generator = trained.generators.member(0)
    mlp = hypernet.generate(generator, jax.random.key(5), 7, 1e-5)
    found = hypernet.classify(mlp)
    short = hypernet.formula(found)
    assert short.unexplained < 0.05
    assert short.label == found.label
    simple = hypernet.simplify(mlp)
    assert simple.change < 1e-9


@pytest.mark.slow
def test_the_phases_have_a_front(trained, tmp_path):
    front = hypernet.pareto_front(trained.generators, jax.random.key(0), 8, [-5, -3, -1], networks=8)
    best = front.front()
    assert len({p.label for p in best}) >= 2
    assert all(a.bits <= b.bits and a.nmse > b.nmse for a, b in itertools.pairwise(best))
    abouts = hypernet.write_gallery(front, hypernet.get_target("l1"), tmp_path / "gallery.html")
    page = (tmp_path / "gallery.html").read_text()
    assert page.count("data:image/png;base64") == len(abouts) + 1
    assert all(about["formula"].replace("‖", "‖") in page for about in abouts)
    hypernet.draw_front(front, tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def small():
    return train(SMALL, jax.random.key(0))


def test_every_step_reports_the_loss_of_its_error_and_price(small):
    found = small.history
    assert set(np.unique(found.n)) == set(SMALL.sizes)
    assert ((found.log10_beta >= -6) & (found.log10_beta <= 0)).all()
    # sizes are shared by seeds, betas are each seed's own
    assert len(np.unique(found.log10_beta)) == found.log10_beta.size
    expected = (found.mse + 10.0**found.log10_beta * found.nats) / found.n[:, None]
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5)
    assert small.statuses == (SeedStatus.FINISHED, SeedStatus.FINISHED)


def test_a_seed_does_not_depend_on_its_neighbors(small):
    both = small
    alone = train(dataclasses.replace(SMALL, seeds=1), jax.random.key(0))
    for a, b in zip(
        jax.tree.leaves(both.generators.member(0)), jax.tree.leaves(alone.generator), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    assert not np.allclose(both.history.loss[:, 0], both.history.loss[:, 1])


def test_equal_keys_give_equal_generators_whatever_the_chunks():
    first = train(SMALL, jax.random.key(3))
    second = train(dataclasses.replace(SMALL, chunk=30), jax.random.key(3))
    same(first.generators, second.generators)
    same(first.history, second.history)


def test_a_run_resumes_to_the_same_result_and_refuses_others(tmp_path):
    whole = train(SMALL, jax.random.key(0), out=tmp_path / "whole")
    for wanted in (10, 20):

        def stop(run, info, wanted=wanted):
            if int(run.step) > wanted:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(
                SMALL,
                jax.random.key(0),
                out=tmp_path / "part",
                resume=wanted > 10,
                checkpoint_every=10,
                on_chunk=stop,
            )
    done = train(SMALL, jax.random.key(0), out=tmp_path / "part", resume=True, checkpoint_every=10)
    same(whole.generators, done.generators)
    same(whole.history, done.history)
    same(hypernet.load(tmp_path / "part"), done.generators)
    assert dataclasses.replace(hypernet.load_config(tmp_path / "part"), chunk=10) == SMALL
    with pytest.raises(ValueError, match="already holds this run"):
        train(SMALL, jax.random.key(0), out=tmp_path / "part")
    with pytest.raises(ValueError, match=r"learning_rate: 0\.004 there, 0\.001 here"):
        train(
            dataclasses.replace(SMALL, learning_rate=1e-3),
            jax.random.key(0),
            out=tmp_path / "part",
            resume=True,
        )
    with pytest.raises(ValueError, match="key:"):
        train(SMALL, jax.random.key(1), out=tmp_path / "part", resume=True)
    with pytest.raises(ValueError, match="holds no trained generator"):
        hypernet.load(tmp_path / "nothing")


@pytest.mark.slow
def test_killed_and_resumed_on_the_command_line(tmp_path, subprocess_env):
    command = [
        sys.executable, "-m", "hypernet.cli.main", "train", "--sizes", "2", "4", "--seeds", "1", "--steps", "3000",
        "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    process = subprocess.Popen(command, env=subprocess_env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    state = tmp_path / "run" / "state"
    until = time.monotonic() + 200
    while not (state.is_dir() and any(p.name.isdigit() for p in state.iterdir())):
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(
        [*command, "--resume"], env=subprocess_env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    whole = train(TrainConfig(sizes=(2, 4), steps=3000, seeds=1), jax.random.key(0))
    same(hypernet.load(tmp_path / "run"), whole.generators)
    assert (tmp_path / "run" / "history.png").stat().st_size > 5000


@pytest.mark.slow
def test_eight_devices_train_as_one(eight_devices):
    printed = eight_devices(
        "import jax, numpy as np, re\n"
        "from hypernet.training.train import *\n"
        "c = TrainConfig(sizes=(2, 4), steps=10, chunk=10, seeds=8, points=32, networks=4)\n"
        "key = jax.random.key(0)\n"
        "a = train(c, key)\n"
        "assert len(a.generators.code.last.bias.sharding.device_set) == 8\n"
        "b = train(c, key, devices=jax.devices()[:1])\n"
        "pairs = zip(jax.tree.leaves(a.generators), jax.tree.leaves(b.generators))\n"
        "print(max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs))\n"
        "run, keys = spread(init(c, seed_keys(key, 8)), seed_keys(key, 8), jax.devices())\n"
        "text = run_chunk.lower(run, keys, config=c, steps=10).compile().as_text()\n"
        "print(sorted(set(re.findall(r'all-gather|all-reduce|all-to-all|collective-permute', text))))\n"
    )
    gap, collectives = printed.splitlines()[-2:]
    assert float(gap) < 1e-3
    assert collectives == "[]"


@pytest.mark.slow
def test_two_processes_train_as_one(two_processes, tmp_path):
    two_processes(
        "import jax, sys\n"
        'jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))\n'
        "import numpy as np\n"
        "from hypernet.training.train import *\n"
        "c = TrainConfig(sizes=(2, 4), steps=10, chunk=5, seeds=4, points=32, networks=4)\n"
        f"a = train(c, jax.random.key(0), out={str(tmp_path / 'run')!r}, checkpoint_every=5)\n"
        "assert not a.generators.code.last.bias.is_fully_addressable\n"
        "assert a.history.loss.shape == (10, 4)\n"
        "print('ok')\n"
    )
    config = dataclasses.replace(SMALL, steps=10, seeds=4)
    # another number of processes and devices goes on from there
    again = train(config, jax.random.key(0), out=tmp_path / "run", resume=True)
    alone = train(config, jax.random.key(0))
    for a, b in zip(jax.tree.leaves(again.generators), jax.tree.leaves(alone.generators), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        dataclasses.replace(SMALL, generator=GeneratorConfig(modes=4)),
        dataclasses.replace(SMALL, generator=GeneratorConfig(assignment=Assignment((3, 3), "tree", 2))),
        pytest.param(
            dataclasses.replace(SMALL, generator=GeneratorConfig(backend="transformer")),
            marks=pytest.mark.slow,
        ),
        dataclasses.replace(
            SMALL, target=hypernet.get_target("sort"), generator=GeneratorConfig(outputs="inputs")
        ),
    ],
    ids=["tables", "modes", "tree", "transformer", "vectors"],
)
def test_the_loop_lowers_for_accelerators(config):
    keys = seed_keys(jax.random.key(0), config.seeds)
    shapes = jax.eval_shape(lambda keys: init(config, keys), keys)
    exported = jax.export.export(
        jax.jit(lambda run, data: run_chunk(run, jax.random.wrap_key_data(data), config=config, steps=2)),
        platforms=["cpu", "cuda", "tpu"],
    )(shapes, jax.eval_shape(jax.random.key_data, keys))
    assert exported.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.parametrize("backend", ["tables", pytest.param("transformer", marks=pytest.mark.slow)])
def test_gradients_reach_every_weight(backend):
    from hypernet.training.step import network_loss

    generator_config = GeneratorConfig(backend=backend, modes=2)
    config = dataclasses.replace(SMALL, generator=generator_config)
    generator = hypernet.init_generator(jax.random.key(0), generator_config)
    x = jax.random.normal(jax.random.key(1), (16, 4))
    y, n, lb = jnp.abs(x).sum(-1), jnp.float32(4), jnp.float32(-2)
    loss = jax.jit(jax.grad(lambda g: network_loss(g, config, jax.random.key(2), x, y, n, lb)[0]))
    leaves = jax.tree.leaves(loss(generator))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    # nothing reads what the transformer's last layers say about inputs
    moved = np.mean([np.abs(leaf).max() > 0 for leaf in leaves])
    assert moved == 1 if backend == "tables" else moved > 0.8


def test_vectors_are_saved_and_names_of_the_library_are_its_own(tmp_path):
    sort = hypernet.get_target("sort")
    config = dataclasses.replace(SMALL, target=sort, generator=GeneratorConfig(outputs="inputs"), steps=2)
    keys = seed_keys(jax.random.key(0), 2)
    run = init(config, keys)
    history = [Info(np.zeros(2), *np.zeros((4, 2, 2)))]
    checkpoints.save(tmp_path / "sort", run, history, config, jax.random.key(0))
    assert checkpoints.check(tmp_path / "sort", config, jax.random.key(0))
    same(hypernet.load(tmp_path / "sort"), run.generators)
    (tmp_path / "sort" / "generator.json").write_text("[]")
    with pytest.raises(ValueError, match="is damaged"):
        hypernet.load(tmp_path / "sort")
    mine = hypernet.Target("l1", lambda x: jnp.max(x, -1))
    with pytest.raises(ValueError, match="rename yours"):
        train(dataclasses.replace(SMALL, target=mine))


def test_collapse_is_seen():
    steps = 600
    nats = np.ones((steps, 2)) * [0.1, 500.0]
    history = Info(np.full(steps, 8), np.full((steps, 2), -5.0), nats, nats, nats)
    assert collapsed(history).tolist() == [True, False]


def test_padded_sizes_waste_at_most_half_of_a_side():
    assert paddings((2, 3, 4, 6, 8, 12, 16)) == (8, 16)
    assert paddings((4,)) == (4,)
    assert paddings((16, 32, 20)) == (16, 32)


def test_the_price_rises_with_the_warmup():
    config = dataclasses.replace(SMALL, kl_warmup=1000, seeds=1, sizes=(2,))
    first = train(dataclasses.replace(config, steps=10), jax.random.key(0)).history
    np.testing.assert_allclose(first.loss[0] * first.n[0], first.mse[0], rtol=1e-4)
    price = np.arange(10)[:, None] / 1000 * 10.0**first.log10_beta
    expected = (first.mse + price * first.nats) / first.n[:, None]
    np.testing.assert_allclose(first.loss, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"sizes": (2, 2)}, "different numbers"),
        ({"sizes": (0, 2)}, "sizes=0: must be at least 1"),
        ({"generator": GeneratorConfig(outputs=3)}, "they must agree"),
        (
            {"sizes": (16,), "generator": GeneratorConfig(assignment=Assignment((3, 3), "tree", 2))},
            "at most 4 inputs",
        ),
        ({"learning_rate": float("nan")}, "positive and finite"),
        ({"steps": 60.5}, "steps=60.5: expected a whole number"),
        ({"sizes": 4}, "sizes=4: expected a tuple"),
        ({"target": hypernet.Target("wide", lambda x: x)}, "expected (3,)"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(SMALL, **settings)
    assert dataclasses.replace(SMALL, sizes=[2, 4]) == SMALL


def test_what_a_generator_leaves_open_comes_from_target_and_sizes():
    vector = hypernet.TrainConfig(target=hypernet.get_target("sort"))
    assert vector.generator.outputs == hypernet.get_target("sort").outputs
    tree = GeneratorConfig(assignment=Assignment(relation="tree"))
    assert hypernet.TrainConfig(generator=tree, sizes=(3, 9)).generator.assignment.levels == 4
    assert dataclasses.replace(SMALL, sizes=(2,)).generator.assignment == Assignment()


def test_a_seed_that_is_not_finite_does_not_end_the_others():
    """One seed's weights are made so large that its loss overflows; its neighbor trains as if alone."""
    config = SMALL  # and chunks as above: one program, laid out alike
    keys = seed_keys(jax.random.key(0), 2)
    run, keys = spread(init(config, keys), keys, jax.devices()[:1])
    huge = jax.tree.map(lambda a: a.at[1].multiply(1e30), run.generators)
    huge_before = jax.tree.map(np.asarray, huge)  # the state is donated
    healthy = jax.tree.map(jnp.copy, run)
    broken, info = run_chunk(run._replace(generators=huge), keys, config=config, steps=10)
    alone, _ = run_chunk(healthy, keys, config=config, steps=10)
    assert np.isfinite(info.loss[:, 0]).all() and not np.isfinite(info.loss[:, 1]).any()
    first = lambda tree: jax.tree.map(lambda a: np.asarray(a[0]), tree)  # noqa: E731
    chex.assert_trees_all_equal(first(broken.generators), first(alone.generators))
    lost = jax.tree.map(lambda a: np.asarray(a[1]), broken.generators)
    chex.assert_trees_all_equal(lost, jax.tree.map(lambda a: a[1], huge_before))
    trained = Trained(broken.generators, jax.tree.map(np.asarray, info), config)
    assert trained.statuses == (SeedStatus.FINISHED, SeedStatus.NON_FINITE)


def test_training_ends_when_no_seed_is_finite(monkeypatch):
    target = hypernet.Target("huge", lambda x: x.sum(-1) * 1e30)
    with pytest.raises(FloatingPointError, match="all 1 seeds are not finite"):
        hypernet.train(
            dataclasses.replace(SMALL, target=target, seeds=1, steps=20, sizes=(2,)), jax.random.key(0)
        )


def test_direct_training_is_the_unreadable_baseline():
    mlps = hypernet.train_directly(jax.random.key(0), seeds=1, steps=2000)
    labels, order, nmse = hypernet.classify_many(mlps)
    assert labels.tolist() == ["convexity"]
    assert 0.10 < nmse[0] < 0.2
    assert order.L[0] < 0.15
