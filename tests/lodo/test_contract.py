"""What optax users rely on: one test or more for each row of the acceptance checklist."""

import functools
import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import lodo
from tests.lodo import problems

STATIC = ("seed",)
small = functools.partial(lodo.lodo, architecture=lodo.BlockNetwork(num_layers=2))


def tree_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def params_and_gradients():
    params = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}
    return params, jax.tree.map(lambda p: 0.1 * p + 0.3, params)


def test_row_1_second_call_compiles_nothing():
    params, gradients = params_and_gradients()
    optimizer = small(0.1)
    update = jax.jit(optimizer.update)
    state = jax.jit(optimizer.init)(params)
    for _ in range(4):
        _, state = update(gradients, state, params, unexpected_argument=1)
    assert update._cache_size() == 1


QUADRATICS = [problems.parabola, problems.matrix_parabola, problems.mixed]


@pytest.mark.parametrize("num_layers", [4, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("problem", [*QUADRATICS, problems.rosenbrock])
def test_row_2_converges(problem, num_layers):
    start, goal, loss = problem()
    rates = [1e-3, 1e-2] if problem is problems.rosenbrock else [1e-3, 1e-2, 0.1, 1.0]
    settings = jnp.array([(rate, meta) for rate in rates for meta in (1e-4, 1e-3)])

    @jax.jit
    @jax.vmap
    def final(setting):
        optimizer = lodo.lodo(setting[0], setting[1], architecture=lodo.BlockNetwork(num_layers=num_layers))
        return problems.run(optimizer, loss, start, 30_000)[0]

    for leaf, aim in zip(jax.tree.leaves(final(settings)), jax.tree.leaves(goal), strict=True):
        np.testing.assert_allclose(leaf, np.broadcast_to(aim, leaf.shape), rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_row_3_dtypes_are_kept(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        params, _, loss = problems.parabola(dtype)
        optimizer = small(0.05)
        state = jax.jit(optimizer.init)(params)
        assert state.theta[0].dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)
        shapes = jax.tree.map(lambda a: (a.shape, a.dtype), state)

        @jax.jit
        def maybe(params, state, yes):
            gradient = jax.grad(loss)(params)
            return jax.lax.cond(
                yes, lambda: optimizer.update(gradient, state, params), lambda: (params, state)
            )

        updates, state = maybe(params, state, True)
        assert updates.dtype == dtype
        assert jax.tree.map(lambda a: (a.shape, a.dtype), state) == shapes


def test_row_3_mixed_dtypes():
    with jax.enable_x64(True):
        params = {
            "a": jnp.ones(3, jnp.float32),
            "b": jnp.ones(2, jnp.float64),
            "c": jnp.ones(2, jnp.bfloat16),
        }
        optimizer = small(0.05)
        state = jax.jit(optimizer.init)(params)
        assert state.theta[0].dtype == jnp.float64
        updates, _ = jax.jit(optimizer.update)(params, state, params)
        assert jax.tree.map(lambda a: a.dtype, updates) == jax.tree.map(lambda a: a.dtype, params)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_row_4_multi_steps(dtype):
    params = jnp.array([1.0, 2.0], dtype)
    optimizer = optax.MultiSteps(small(0.1), 4)
    state = jax.jit(optimizer.init)(params)
    updates, state = jax.jit(optimizer.update)(params, state, params)
    np.testing.assert_array_equal(updates, 0)
    assert updates.dtype == dtype
    for _ in range(3):
        updates, state = jax.jit(optimizer.update)(params, state, params)
    assert np.all(np.asarray(updates, np.float32) != 0)


def test_row_5_inject_hyperparams():
    params, gradients = params_and_gradients()
    plain = lodo.lodo(0.1, architecture=lodo.BlockNetwork(num_layers=4))
    injected = optax.inject_hyperparams(lodo.lodo, static_args=STATIC)(
        0.1, architecture=lodo.BlockNetwork(num_layers=4)
    )
    state, inner = plain.init(params), injected.init(params)
    update = jax.jit(injected.update)
    for _ in range(3):
        expected, state = jax.jit(plain.update)(gradients, state, params)
        updates, inner = update(gradients, inner, params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, expected)
    compiled = update._cache_size()
    inner.hyperparams["learning_rate"] = jnp.array(0.05, jnp.float32)
    inner.hyperparams["meta_learning_rate"] = jnp.array(1e-4, jnp.float32)
    update(gradients, inner, params)
    assert update._cache_size() == compiled


def test_row_6_traced_structure_says_what_to_do():
    optimizer = optax.inject_hyperparams(lodo.lodo)(0.1)
    with pytest.raises(TypeError, match=r"static_args=.*seed"):
        jax.jit(optimizer.init)(jnp.ones(3))


@pytest.mark.parametrize("arguments", [{"num_layers": -1}, {"block_size": 0}, {"permutation": "rolled"}])
def test_bad_structure(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        lodo.BlockNetwork(**arguments)
    with pytest.raises(TypeError, match="expected an int"):
        lodo.lodo(0.1, architecture=lodo.BlockNetwork(num_layers=2.5))


def test_row_7_map_params():
    params, _ = params_and_gradients()
    optimizer = small(0.1)
    state = jax.jit(optimizer.init)(params)
    marked = optax.tree.map_params(
        optimizer, lambda m, p: m + p, state, params, transform_non_params=lambda a: a
    )
    tree_equal(marked.momentum, params)
    tree_equal(marked.theta, state.theta)


def test_row_8_init_reads_shapes():
    params, _ = params_and_gradients()
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    optimizer = small(0.1)
    tree_equal(optimizer.init(shapes), optimizer.init(params))
    abstract = jax.eval_shape(optimizer.init, params)
    assert abstract.momentum["w"].shape == (2, 3)


def test_row_9_composition():
    params, gradients = params_and_gradients()
    masked = optax.masked(small(0.1), {"w": True, "b": False})
    updates, _ = masked.update(gradients, masked.init(params), params)
    tree_equal(updates["b"], gradients["b"])
    split = optax.partition({"lodo": small(0.1), "adam": optax.adam(1e-3)}, {"w": "lodo", "b": "adam"})
    state = split.init(params)
    for _ in range(2):
        updates, state = jax.jit(split.update)(gradients, state, params)
    np.testing.assert_allclose(updates["b"], -1e-3, rtol=1e-3)
    chain = optax.chain(optax.clip_by_global_norm(1.0), small(0.1))
    jax.jit(chain.update)(gradients, chain.init(params), params)
    guarded = optax.apply_if_finite(small(0.1), 3)
    bad = jax.tree.map(lambda g: g * jnp.nan, gradients)
    updates, _ = jax.jit(guarded.update)(bad, guarded.init(params), params)
    assert all(np.all(np.asarray(u) == 0) for u in jax.tree.leaves(updates))


class Point(eqx.Module):
    a: jax.Array
    name: str = eqx.field(static=True, default="point")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"a": None, "b": jnp.ones(2)},
        {"empty": jnp.zeros((0, 3)), "b": jnp.ones(2)},
        jnp.ones(()),
        (jnp.ones(2), [jnp.ones(1)]),
        Point(jnp.ones(3)),
    ],
    ids=["empty", "none", "zero-size", "scalar", "nested", "module"],
)
def test_row_10_trees(params):
    optimizer = small(0.1)
    state = jax.jit(optimizer.init)(params)
    for _ in range(2):
        updates, state = jax.jit(optimizer.update)(params, state, params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


def test_row_11_missing_and_mismatched_gradients():
    params, gradients = params_and_gradients()
    optimizer = small(0.1)
    state = jax.jit(optimizer.init)(params)
    with pytest.raises(ValueError, match=r"no gradient for params\['b'\]"):
        optimizer.update({"w": gradients["w"], "b": None}, state, params)
    with pytest.raises(ValueError, match=r"params\['b'\] has shape \(4,\).*\(3,\)"):
        optimizer.update({"w": gradients["w"], "b": jnp.ones(4)}, state, params)
    with pytest.raises(ValueError, match="tree structure"):
        optimizer.update({**gradients, "extra": jnp.ones(2)}, state, params)
    with pytest.raises(TypeError, match="another optimizer"):
        optimizer.update(gradients, optax.adam(1e-3).init(params), params)


def test_row_12_complex_and_integer_parameters():
    with pytest.raises(TypeError, match=r"params\['z'\] is complex.*split_real_and_imaginary"):
        small(0.1).init({"z": jnp.ones(2, jnp.complex64)})
    with pytest.raises(TypeError, match=r"params\['i'\] has dtype int32"):
        small(0.1).init({"i": jnp.ones(2, jnp.int32)})
    wrapped = optax.contrib.split_real_and_imaginary(small(0.1))
    params = jnp.ones(2, jnp.complex64)
    updates, _ = wrapped.update(params, wrapped.init(params), params)
    assert updates.dtype == jnp.complex64


def test_row_13_vmap_and_donation():
    params = jnp.ones((3, 2))
    optimizer = small(0.1)
    state = jax.vmap(optimizer.init)(params)
    updates, state = jax.vmap(optimizer.update)(params, state)
    assert updates.shape == (3, 2)
    single = small(0.1).init(params)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(single) if leaf.size]
    assert len(set(buffers)) == len(buffers), "an array stands in two fields"
    step = jax.jit(
        lambda p, s: (lambda u, t: (optax.apply_updates(p, u), t))(*optimizer.update(p, s)),
        donate_argnums=(0, 1),
    )
    for _ in range(3):
        params, single = step(params, single)
    assert np.isfinite(params).all()


def test_row_14_unrolled_updates_are_differentiable():
    start, _, loss = problems.parabola()

    def after(rate):
        return loss(problems.run(small(rate), loss, start, 5)[0])

    gradient = jax.grad(after)(0.05)
    step = 1e-3
    numeric = (after(0.05 + step) - after(0.05 - step)) / (2 * step)
    np.testing.assert_allclose(gradient, numeric, rtol=2e-2)


def test_row_17_orbax_restores_a_run(tmp_path):
    import orbax.checkpoint as ocp

    params, gradients = params_and_gradients()
    optimizer = small(0.1)
    update = jax.jit(optimizer.update)
    state = jax.jit(optimizer.init)(params)
    for _ in range(5):
        _, state = update(gradients, state, params)
    with ocp.StandardCheckpointer() as saver:
        saver.save(tmp_path / "state", state)
    with ocp.StandardCheckpointer() as saver:
        restored = saver.restore(tmp_path / "state", jax.eval_shape(optimizer.init, params))
    assert isinstance(restored, lodo.LodoState)
    tree_equal(restored, state)
    for _ in range(10):
        expected, state = update(gradients, state, params)
        updates, restored = update(gradients, restored, params)
        tree_equal(updates, expected)


def test_row_19_state_is_found_by_name():
    params, gradients = params_and_gradients()
    optimizer = optax.chain(optax.clip(1.0), small(0.1))
    _, state = optimizer.update(gradients, optimizer.init(params), params)
    assert optax.tree.get(state, "theta") is state[1].theta
    assert int(optax.tree.get(state, "count")) == 1


def test_row_20_same_seed_same_run():
    start, _, loss = problems.mixed()
    runs = [problems.run(small(0.1, seed=seed), loss, start, 50)[0] for seed in (1, 1, 2)]
    tree_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][0], runs[2][0])
    by_key = problems.run(small(0.1, seed=jax.random.key(1)), loss, start, 50)[0]
    tree_equal(by_key, runs[0])


def test_constant_schedule_equals_the_constant():
    start, _, loss = problems.mixed()
    constant = problems.run(small(0.1, 1e-3), loss, start, 30)
    schedules = small(optax.constant_schedule(0.1), optax.constant_schedule(1e-3))
    tree_equal(problems.run(schedules, loss, start, 30)[0], constant[0])


def test_schedules_are_seen_by_the_hypergradient():
    """A rate that changes every step: the run equals the literal loop through the step."""
    from tests.lodo.test_transform import literal_loop

    schedule = lambda t: 0.2 * 0.7 ** jnp.asarray(t, jnp.float64)  # noqa: E731
    with jax.enable_x64(True):
        x, theta = literal_loop(schedule, steps=12)
        optimizer = lodo.lodo(schedule, 0.03, 0.9, architecture=lodo.BlockNetwork(num_layers=3))
        ours = problems.run(optimizer, lambda p: jnp.sum(jnp.cosh(p) * jnp.arange(1.0, 6)), jnp.ones(5), 12)
        np.testing.assert_allclose(ours[0], x, atol=1e-13)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13), ours[1].theta, theta)


def test_scale_by_lodo_ascends_and_lodo_descends():
    params, gradients = params_and_gradients()
    chain = optax.chain(
        lodo.scale_by_lodo(0.1, architecture=lodo.BlockNetwork(num_layers=2)),
        optax.scale_by_learning_rate(0.1),
    )
    state, other = chain.init(params), small(0.1).init(params)
    update, plain = jax.jit(chain.update), jax.jit(small(0.1).update)
    for _ in range(4):
        updates, state = update(gradients, state)
        expected, other = plain(gradients, other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, expected)


EXPLICIT = """
import jax, jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P, NamedSharding
import lodo
for axis_type in (AxisType.Explicit, AxisType.Auto):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, P(None, "x"))
        params = jax.device_put(jnp.ones((2, 8, 4), jnp.float16), sharding)
        split = axis_type is AxisType.Auto  # split theta belongs to automatic meshes
        for kwargs in ({}, {"sharding": lodo.Sharding(mesh, params=sharding)}) if split else ({},):
            optimizer = lodo.lodo(0.1, **kwargs, architecture=lodo.BlockNetwork(num_layers=2))
            for wrap in (lambda f: f, jax.jit):
                state = wrap(optimizer.init)(params)
                types = jax.tree.map(jax.typeof, state)
                updates, new = wrap(optimizer.update)(params, state, params)
                assert jax.tree.map(jax.typeof, new) == types, axis_type
                if axis_type is AxisType.Explicit:
                    assert jax.typeof(updates).sharding == jax.typeof(params).sharding
                    assert state.momentum.sharding.spec[1] == "x"
                if kwargs:
                    assert updates.sharding.is_equivalent_to(sharding, 3), updates.sharding
                    assert new.momentum.sharding.is_equivalent_to(sharding, 3)
                assert updates.dtype == jnp.float16
print("ok")
"""


@pytest.mark.slow
def test_rows_15_and_16_meshes(eight_devices):
    assert eight_devices(EXPLICIT).endswith("ok")


SHARDED = """
import re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P, NamedSharding
import lodo
mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
n = 1000
params = jnp.ones(n)
split = lodo.lodo(0.1, sharding=lodo.Sharding(mesh), architecture=lodo.BlockNetwork(num_layers=4))
like = lodo.lodo(0.1, architecture=lodo.BlockNetwork(4, block_multiple=8))
a, b = jax.jit(split.init)(params), jax.jit(like.init)(params)
update, other = jax.jit(split.update, donate_argnums=1), jax.jit(like.update)
for i in range(5):
    gradient = jnp.sin(jnp.arange(n) * (i + 1.0))
    u, a = update(gradient, a, params)
    v, b = other(gradient, b, params)
    np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-7)
for leaf in (*a.theta, *a.meta.mu, *a.meta.nu, *a.trace.inputs, *a.trace.outputs):
    assert leaf.sharding.spec[-1] == "x", leaf.sharding
    assert leaf.addressable_shards[0].data.nbytes * 8 == leaf.nbytes
# Vectors are gathered, never weights: once a layer, direction and product, but for the two read where they are.
text = update.lower(gradient, a, params).compile().as_text()
moved = re.findall(r"= (\\S+) (all-gather|all-reduce|all-to-all|collective-permute)(?:-start)?\\(", text)
assert {kind for _, kind in moved} == {"all-gather"} and len(moved) == 2 * 2 * 4 - 2, moved
print("ok")
"""


def test_theta_is_split_over_devices(eight_devices):
    assert eight_devices(SHARDED).endswith("ok")


DISTRIBUTED = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
import lodo
assert jax.process_count() == 2 and jax.device_count() == 4
mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
n = 200
split = lodo.lodo(0.1, sharding=lodo.Sharding(mesh), architecture=lodo.BlockNetwork(num_layers=3))
like = lodo.lodo(0.1, architecture=lodo.BlockNetwork(3, block_multiple=4))
params = np.ones(n, np.float32)
whole = jax.device_put(params, NamedSharding(mesh, P()))
a, b = jax.jit(split.init)(whole), jax.jit(like.init)(params)
for i in range(4):
    gradient = np.sin(np.arange(n, dtype=np.float32) * (i + 1))
    u, a = jax.jit(split.update)(jax.device_put(gradient, NamedSharding(mesh, P())), a)
    v, b = jax.jit(like.update)(gradient, b)
    ours = np.asarray(u.addressable_shards[0].data)
    np.testing.assert_allclose(ours.reshape(-1), np.asarray(v)[u.addressable_shards[0].index].reshape(-1), rtol=1e-4, atol=1e-7)
theta = a.theta[0]
assert len(theta.addressable_shards) == 2 and theta.addressable_shards[0].data.nbytes * 4 == theta.nbytes
print("ok")
"""


def test_theta_is_split_over_processes(two_processes):
    two_processes(DISTRIBUTED)


def test_mesh_axis_must_exist():
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Auto,))
    assert NamedSharding(mesh, P("x"))
    with pytest.raises(ValueError, match=r"axis='y'.*'x'"):
        lodo.Sharding(mesh, "y")


def test_nonfinite_gradients_change_nothing():
    params, gradients = params_and_gradients()
    for options in ({}, {"meta_optimizer": optax.adam(1e-3)}):
        optimizer = small(0.1, **options)
        update = jax.jit(optimizer.update)
        state = jax.jit(optimizer.init)(params)
        for _ in range(3):
            _, state = update(gradients, state, params)
        for poison in (jnp.nan, jnp.inf):
            bad = {**gradients, "b": gradients["b"].at[1].set(poison)}
            updates, after = update(bad, state, params)
            assert all(np.all(np.asarray(u) == 0) for u in jax.tree.leaves(updates))
            tree_equal(after._replace(count=state.count), state)
    loud = small(0.1, skip_nonfinite=False)
    updates, _ = loud.update(bad, loud.init(params), params)
    assert np.isnan(np.asarray(updates["w"])).any()


def test_the_rate_is_annotated_as_optax_asks():
    assert inspect.signature(lodo.lodo).parameters["learning_rate"].annotation == optax.ScalarOrSchedule


POISONS = {
    "huge": [1e20, 1e20, 1, 1],
    "large": [1e11, 1e11, 1, 1],
    "zero": [1, 0, 1, 1],
}


@pytest.mark.parametrize(
    "options",
    [{}, {"normalize_hypergradient": True}, {"meta_optimizer": lodo.reference_adam(1e-3, eps=0.0)}],
    ids=["plain", "normalized", "no epsilon"],
)
@pytest.mark.parametrize("factors", POISONS.values(), ids=POISONS)
def test_finite_gradients_never_poison_the_state(factors, options):
    optimizer = small(5.0, **options)
    params = jnp.ones(3)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for factor in factors:
        updates, state = update(jnp.ones(3) * factor, state)
        assert np.isfinite(updates).all()
    for part in (state.theta, state.meta, state.momentum):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(part))
    assert np.any(np.asarray(updates) != 0)


def test_a_rate_that_is_not_a_number_changes_nothing():
    for rate in ("learning_rate", "meta_learning_rate"):
        schedule = lambda t: jnp.where(t == 2, jnp.nan, 1e-3)  # noqa: E731
        optimizer = small(**{"learning_rate": 0.1, rate: schedule})
        state, update = optimizer.init(jnp.ones(3)), jax.jit(optimizer.update)
        for _ in range(5):
            updates, state = update(jnp.ones(3), state)
            assert np.isfinite(updates).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


OTHERS = {
    "layers": {"architecture": lodo.BlockNetwork(3)},
    "blocks": {"architecture": lodo.BlockNetwork(2, 3)},
    "shuffle": {"architecture": lodo.BlockNetwork(2, permutation="shuffle")},
    "identity": {"architecture": lodo.BlockNetwork(2, permutation="identity")},
    "diagonal": {"architecture": lodo.Diagonal()},
    "meta": {"meta_optimizer": optax.adam(1e-3)},
}


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_state_of_another_configuration(options):
    params = jnp.ones(3)
    with pytest.raises(ValueError, match=r"state\.\w+.*another configuration"):
        small(0.1).update(params, small(0.1, **options).init(params))
    with pytest.raises(ValueError, match=r"state\.\w+.*another configuration"):
        small(0.1, **options).update(params, small(0.1).init(params))


def test_gradients_of_another_type():
    optimizer = small(0.1)
    state = optimizer.init({"w": jnp.ones(3)})
    with pytest.raises(TypeError, match=r"params\['w'\] has dtype int32"):
        optimizer.update({"w": jnp.ones(3, jnp.int32)}, state)
    with pytest.raises(TypeError, match=r"params\['w'\] is a float"):
        optimizer.update({"w": 1.0}, state)


@pytest.mark.parametrize(
    "options",
    [{"decay": 1.5}, {"decay": float("nan")}, {"clip_hypergradient": -1.0}],
    ids=str,
)
def test_numbers_out_of_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        lodo.lodo(0.1, **options)


def test_meshes_that_cannot_be_used():
    with pytest.raises(ValueError, match="axis 'x' is explicit"):
        lodo.Sharding(jax.make_mesh((1,), ("x",), axis_types=(AxisType.Explicit,)))


def test_an_epsilon_out_of_range():
    with pytest.raises(ValueError, match="eps=-1e-07"):
        lodo.reference_adam(1e-3, eps=-1e-7)


def test_what_is_no_architecture():
    with pytest.raises(TypeError, match="architecture='deep': expected BlockNetwork"):
        lodo.lodo(0.1, architecture="deep")


def test_an_architecture_must_be_hashable():
    class Mine(lodo.Diagonal):
        __hash__ = None

    with pytest.raises(TypeError, match="expected a hashable object"):
        lodo.lodo(0.1, architecture=Mine())


def test_wiring_of_another_kind_is_refused():
    params = jnp.ones(3)
    for architecture in (lodo.BlockNetwork(2), lodo.BlockNetwork(2, 4, "shuffle")):
        state = jax.jit(lodo.lodo(0.1, architecture=architecture).init)(params)
        for wiring in (
            {"forward": (), "inverse": ()},
            jnp.zeros((2, 3), jnp.int32),
            (jnp.zeros(3, jnp.int32),),
        ):
            broken = state._replace(wiring=wiring)
            with pytest.raises((TypeError, ValueError), match=r"wiring of a block network: got|another"):
                lodo.apply_preconditioner(broken, params, learning_rate=0.1, architecture=architecture)


def test_a_state_that_is_not_its_own_is_refused_by_adam():
    import optax

    params = {"w": jnp.ones(3)}
    with pytest.raises(TypeError, match="state of reference_adam: got tuple"):
        lodo.reference_adam(1e-3).update(params, optax.adam(1e-3).init(params))
