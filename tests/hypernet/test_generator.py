"""Generators before any training: sizes, prices, masks, symmetry, what they refuse."""

import functools
import itertools
import math
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hypernet
from hypernet.generator import generate as generators
from hypernet.generator.assignment import Assignment
from hypernet.generator.config import GeneratorConfig
from hypernet.generator.gaussians import Gaussian, kl_between, kl_to_standard
from hypernet.generator.generate import draw_noise, init_generator
from tests.hypernet.generator import by_hand

draw = jax.jit(generators.draw)

TREE = Assignment(slots=(3, 2), relation="tree", levels=3)
CONFIGS = {
    "plain": GeneratorConfig(power_law=False, size_exponent=0.0),
    "default": GeneratorConfig(),
    "modes": GeneratorConfig(modes=4),
    "five slots, relu": GeneratorConfig(assignment=Assignment(slots=(5,)), activation="relu"),
    "two layers": GeneratorConfig(assignment=Assignment(slots=(2, 3))),
    "tree": GeneratorConfig(assignment=TREE),
    "vectors": GeneratorConfig(outputs="inputs"),
    "transformer": GeneratorConfig(backend="transformer"),
    "transformer, edge-local": GeneratorConfig(backend="transformer", attention="encoder"),
}


def test_the_price_of_the_prior_is_nothing_and_others_match_monte_carlo():
    assert float(kl_to_standard(Gaussian(jnp.zeros(3), jnp.zeros(3)))) == 0
    q = Gaussian(jnp.array([0.5, -2.0]), jnp.log(jnp.array([0.3, 1.2])))
    p = Gaussian(jnp.array([0.1, 0.4]), jnp.log(jnp.array([0.9, 0.7])))
    z = jax.vmap(q.at)(jax.random.normal(jax.random.key(0), (400_000, 2)))

    @functools.partial(jax.vmap, in_axes=(None, 0))
    def log_density(g, z):
        return jnp.sum(-0.5 * ((z - g.mean) / jnp.exp(g.log_scale)) ** 2 - g.log_scale, -1)

    standard = Gaussian(jnp.zeros(2), jnp.zeros(2))
    for other, exact in ((standard, kl_to_standard(q)), (p, kl_between(q, p))):
        sampled = jnp.mean(log_density(q, z) - log_density(other, z))
        assert float(exact) == pytest.approx(float(sampled), rel=1e-2)
    assert hypernet.bits(math.log(2)) == 1


def test_the_size_of_the_spec():
    generator = init_generator(jax.random.key(0), CONFIGS["plain"])
    assert sum(leaf.size for leaf in jax.tree.leaves(generator)) == 7802
    base = generator.shared.base, generator.branches.base
    assert sum(leaf.size for leaf in jax.tree.leaves(base)) == 1534


@pytest.mark.parametrize("name", CONFIGS)
def test_networks_of_any_size(name):
    config = CONFIGS[name]
    generator = jax.eval_shape(lambda key: init_generator(key, config), jax.random.key(0))
    for n in (1, 5):
        mlp = jax.eval_shape(
            lambda g, key, n=n: hypernet.generate(g, key, n, 1e-3), generator, jax.random.key(1)
        )
        sizes = [n, *(s * n for s in config.assignment.slots)]
        assert [w.shape for w in mlp.weights] == list(itertools.pairwise(sizes))
        assert mlp.v.dtype == jnp.float32
        out = jax.eval_shape(lambda mlp, n=n: mlp(jnp.ones((7, n))), mlp)
        assert out.shape == ((7, n) if config.outputs else (7,))


@pytest.mark.parametrize("name", ["default", "tree", "vectors", "transformer"])
def test_padding_changes_nothing_and_permuting_the_noise_permutes_the_network(name):
    config = CONFIGS[name]
    generator = init_generator(jax.random.key(0), config)
    wide, n = draw_noise(config, jax.random.key(1), 8), 5

    def on_columns(leaf, size, index):
        for axis, length in enumerate(leaf.shape):
            leaf = jnp.take(leaf, index, axis=axis) if length == size else leaf
        return leaf

    noise = jax.tree.map(lambda leaf: on_columns(leaf, 8, np.arange(n)), wide)
    exact, padded = draw(generator, noise, n, -3.0), draw(generator, wide, n, -3.0)
    np.testing.assert_allclose(padded.nats, exact.nats, rtol=1e-5)
    x = jax.random.normal(jax.random.key(2), (20, n))
    found = padded.mlp(jnp.pad(x, ((0, 0), (0, 3))))
    found = found[:, :n] if config.outputs else found
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, exact.mlp(x), rtol=2e-4, atol=2e-4)
    # what lies beyond n inputs has no weight at all
    assert not np.asarray(padded.mlp.W[n:]).any()
    assert not np.asarray(padded.mlp.v).reshape(config.assignment.slots[-1], 8, -1)[:, n:].any()
    # inputs have no names: any permutation for columns, sisters swapped for a tree
    p = np.array([1, 0, 3, 2, 4]) if name == "tree" else np.array([3, 0, 4, 1, 2])
    again = draw(generator, jax.tree.map(lambda leaf: on_columns(leaf, n, p), noise), n, -3.0)
    np.testing.assert_allclose(again.mlp(x[:, p]), exact.mlp(x), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["default", "tree", "vectors", "transformer"])
def test_networks_are_those_of_a_plain_reading(name):
    """Both backends' formulas edge by edge in NumPy; the program is that of the test above."""
    config, n = CONFIGS[name], 5
    generator = init_generator(jax.random.key(0), config)
    read = by_hand.transformer if name == "transformer" else by_hand.tables
    for log10_beta in (-5.5, -1.0):
        noise = draw_noise(config, jax.random.key(6), n)
        found = draw(generator, noise, n, log10_beta)
        mlp, nats = read(generator, noise, n, log10_beta)
        chex.assert_trees_all_close(found.mlp, mlp, rtol=2e-3, atol=2e-4)
        assert float(found.nats) == pytest.approx(nats, rel=1e-4)


def test_generating_is_a_pure_function():
    generator = init_generator(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 3)
    betas = jnp.array([1e-5, 1e-3, 1e-1])
    many = jax.jit(jax.vmap(lambda k, b: hypernet.generate(generator, k, 4, b)))(keys, betas)
    for i in range(3):
        one = hypernet.generate(generator, keys[i], 4, float(betas[i]))
        np.testing.assert_allclose(many.W[i], one.W, rtol=1e-4, atol=1e-5)
    seeds = jax.vmap(init_generator)(keys)
    over = jax.vmap(lambda g, k: hypernet.generate(g, k, 4, 1e-2))(seeds, keys)
    np.testing.assert_allclose(
        over.W[2], hypernet.generate(seeds.member(2), keys[2], 4, 1e-2).W, rtol=1e-4, atol=1e-5
    )


def test_beta_outside_the_range_is_clamped_with_a_warning():
    generator = init_generator(jax.random.key(0))
    with pytest.warns(UserWarning, match="outside the trained range 1e-06 .. 1; clamped"):
        low = hypernet.generate(generator, jax.random.key(1), 3, 1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        end = hypernet.generate(generator, jax.random.key(1), 3, 1e-6)
    np.testing.assert_array_equal(low.W, end.W)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda g: hypernet.generate(g, jax.random.key(0), 0, 1e-3),
            "n=0: expected a whole number of inputs",
        ),
        (lambda g: hypernet.generate(g, jax.random.key(0), 2.5, 1e-3), "n=2.5"),
        (
            lambda g: hypernet.generate(g, jax.random.key(0), 4, 1e-3, hidden=10),
            r"serves \(12,\) hidden units",
        ),
        (lambda g: hypernet.generate(g, jax.random.key(0), 4, -1.0), "beta=-1.0: expected a positive"),
        (
            lambda g: hypernet.generate(g, jax.random.key(0), 4, 1e-3, mode=1),
            "mode=1: this generator holds modes 0 to 0",
        ),
        (lambda g: g.member(0), "one generator"),
        (lambda g: Assignment(slots=()), "at least one hidden layer"),
        (lambda g: Assignment(relation="tree", levels=0), "levels=0"),
        (lambda g: Assignment(relation="tree").check_size(4), "levels=None: a tree's levels must be given"),
        (lambda g: GeneratorConfig(activation="sine"), "expected one of swish"),
        (lambda g: GeneratorConfig(log10_beta=(0.0, -6.0)), "increasing pair"),
        (
            lambda g: GeneratorConfig(backend="transformer", outputs="inputs"),
            "one hidden layer and a single output",
        ),
        (lambda g: hypernet.get_target("l3"), "did you mean l2 or l1"),
    ],
)
def test_what_cannot_be_served_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(init_generator(jax.random.key(0)))


def test_a_tree_serves_no_more_inputs_than_it_has_leaves():
    generator = init_generator(jax.random.key(0), CONFIGS["tree"])
    hypernet.generate(generator, jax.random.key(0), 8, 1e-3)
    with pytest.raises(ValueError, match="a tree of 3 levels serves at most 8 inputs"):
        hypernet.generate(generator, jax.random.key(0), 9, 1e-3)


@pytest.mark.parametrize("name", hypernet.TARGETS)
def test_variances_of_targets(name):
    target = hypernet.get_target(name)
    for n in (2, 5):
        x = target.sample(jax.random.key(3), 200_000, n)
        y = np.asarray(target.value(x), np.float64).reshape(200_000, -1)
        assert target.variance_of(n) == pytest.approx(y.var(0).sum(), rel=0.02)
        if target.outputs == "inputs":
            assert y.shape[1] == n
    assert np.asarray(x).std() == pytest.approx(target.input_std, rel=0.02)


def test_a_target_of_ones_own():
    target = hypernet.Target("range", lambda x: jnp.max(x, -1) - jnp.min(x, -1), smallest=2)
    assert 0.5 < target.variance_of(4) < 1
    with pytest.raises(ValueError, match="needs at least 2 inputs"):
        target.variance_of(1)
    with pytest.raises(ValueError, match="modulus=1"):
        hypernet.modular_addition(1)
