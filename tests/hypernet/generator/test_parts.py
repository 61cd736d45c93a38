"""Parts of generators: prices, relations of columns, perceptrons, how beta moves weights, settings."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import hypernet
from hypernet.generator import generate
from hypernet.generator.assignment import Assignment
from hypernet.generator.beta_conditioning import amounts_at, init_code, init_moving
from hypernet.generator.config import GeneratorConfig
from hypernet.generator.dense import Draws, Linear, Perceptron, draw_weights, init_linear, init_perceptron
from hypernet.generator.gaussians import Gaussian, bits, kl_between, kl_to_standard, log_scale_of
from hypernet.generator.generate import conditioning, output_places, place_of
from hypernet.generator.orbit_tables import (
    description_length,
    draw_noise,
    init_branch,
    init_decoder,
    posterior,
)
from tests.hypernet.generator import by_hand

three = st.lists(st.floats(-6, 2, width=32), min_size=3, max_size=3)


def gaussian(mean, log_scale):
    return Gaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(log_scale, jnp.float32))


@given(mean=three, log_scale=three, other_mean=three, other_scale=three, shift=st.floats(-3, 3, width=32))
def test_prices_are_their_closed_form_nonnegative_and_blind_to_units(
    mean, log_scale, other_mean, other_scale, shift
):
    q, p = gaussian(mean, log_scale), gaussian(other_mean, other_scale)
    exact = by_hand.kl(*(np.array(a) for a in (mean, log_scale, other_mean, other_scale)))
    assert float(kl_between(q, p)) == pytest.approx(exact, rel=1e-4, abs=1e-4)
    assert float(kl_between(q, p)) >= -1e-5
    assert float(kl_between(q, q)) == 0
    standard = gaussian(np.zeros(3), np.zeros(3))
    assert float(kl_to_standard(q)) == pytest.approx(float(kl_between(q, standard)), rel=1e-5, abs=1e-6)
    # measured in other units, both Gaussians move alike
    scaled = [gaussian(np.exp(shift) * g.mean, g.log_scale + shift) for g in (q, p)]
    assert float(kl_between(*scaled)) == pytest.approx(exact, rel=1e-3, abs=1e-3)


@given(output=st.floats(-(2.0**99), 2.0**99, width=32), more=st.floats(0, 10, width=32))
def test_log_scales_lie_within_bounds_and_rise_with_what_says_them(output, more):
    low, high = (float(log_scale_of(jnp.float32(a))) for a in (output, output + more))
    assert -7 <= low <= high <= np.float32(0.3)
    if -2.9 < output < 0.6:
        assert low == pytest.approx(2 * output - 1, abs=1e-5)


def test_bits_are_nats_over_ln_2_for_numbers_and_arrays():
    for nats in (3.0, np.float64(3), np.array([3.0, 3.0]), jnp.float32(3)):
        np.testing.assert_allclose(bits(nats), 3 / np.log(2), rtol=1e-6)


@pytest.mark.parametrize("columns", [1, 6, 16])
@pytest.mark.parametrize("relation", ["columns", "tree"])
def test_relations_are_symmetric_and_every_real_pair_has_one(columns, relation):
    assignment = Assignment(relation=relation).serving(16)
    related = assignment.related(columns)
    config = GeneratorConfig(assignment=assignment)
    for i, j in np.ndindex(columns, columns):
        assert related[i, j] == related[j, i] == by_hand.relation(config, i, j)
        if relation == "tree":  # no third column is nearer to both than they are to each other
            assert all(related[i, j] <= max(related[i, k], related[k, j]) for k in range(columns))
    real = np.arange(columns) < (columns + 1) // 2
    pairs = np.asarray(assignment.pairs(jnp.asarray(real)))
    np.testing.assert_array_equal(pairs.sum(0), np.outer(real, real))
    for r in range(assignment.relations):
        np.testing.assert_array_equal(pairs[r], (related == r) & np.outer(real, real))


@given(largest=st.integers(1, 1000), slots=st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_a_tree_is_as_deep_as_its_largest_size_needs(largest, slots):
    open_tree = Assignment(slots, "tree")
    tree = open_tree.serving(largest)
    assert 2**tree.depth >= largest > 2 ** (tree.depth - 1) or tree.depth == 1
    tree.check_size(largest)
    assert tree.serving(5 * largest) == tree
    assert Assignment(slots).serving(largest) == Assignment(slots, levels=0)
    with pytest.raises(ValueError, match="serves at most"):
        tree.check_size(2**tree.depth + 1)
    # layers meet: what ends one begins the next, and inputs have one slot
    flat = [1, *slots]
    assert tree.layers() == list(itertools.pairwise(flat))
    sizes = tuple(s * largest for s in slots)
    tree.check_hidden(largest, None)
    tree.check_hidden(largest, list(sizes))
    with pytest.raises(ValueError, match=re.escape(f"serves {sizes} hidden units for n={largest}")):
        tree.check_hidden(largest, (*sizes[:-1], sizes[-1] + 1))


@pytest.mark.parametrize("n", [0, -1, 2.0, "3", True, None, np.float64(2)])
@pytest.mark.usefixtures("types_unchecked")
def test_sizes_that_are_no_whole_numbers_are_named(n):
    with pytest.raises(ValueError, match="expected a whole number of inputs, at least 1"):
        Assignment().check_size(n)


def test_perceptrons_are_their_formula_whole_and_in_parts():
    made = draw_weights(jax.random.key(0), lambda draws: init_perceptron(draws, 6, 2, hidden=5, gain=0.5))
    made = Perceptron(Linear(made.first.weight, jnp.arange(5.0)), Linear(made.last.weight, jnp.ones(2)))
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    np.testing.assert_allclose(
        made(jnp.asarray(x)), by_hand.perceptron(made, x.astype(float)), rtol=1e-4, atol=1e-5
    )
    a, b, c = made.parts(1, 2, 3)
    a, b, c = map(np.asarray, (a, b, c))
    whole = x[:, :1] @ a + x[:, 1:3] @ b + x[:, 3:] @ c + np.asarray(made.first.bias)
    np.testing.assert_allclose(whole, made.first(jnp.asarray(x)), rtol=1e-4, atol=1e-5)
    for sizes in ((1, 2), (1, 2, 4), ()):
        with pytest.raises(ValueError, match="of a layer with 6 inputs"):
            made.parts(*sizes)


def test_draws_are_handed_out_once_and_in_order():
    draws = Draws(jnp.arange(10.0))
    np.testing.assert_array_equal(draws.normal((2, 3)), np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(draws.normal((4,)), np.arange(6, 10))
    counting = Draws()
    assert counting.normal((2, 5)).shape == (2, 5)
    assert counting.used == 10


def test_fresh_weights_are_normal_with_the_stated_spread():
    layer = draw_weights(jax.random.key(0), lambda draws: init_linear(draws, 100, 50, gain=3.0))
    assert stats.kstest(np.asarray(layer.weight).ravel() * 10 / 3, "norm").pvalue > 1e-3
    assert not np.asarray(layer.bias).any()


def test_noise_is_standard_normal_and_depends_on_the_key_alone():
    config = GeneratorConfig(assignment=Assignment((3, 2)))
    first, again, other = (draw_noise(jax.random.key(k), config, 7) for k in (0, 0, 1))
    numbers = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(first)])
    assert stats.kstest(numbers, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 4 / np.sqrt(len(numbers))
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True))
    assert not any(
        (a == b).any() for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True)
    )


def test_weights_move_linearly_along_the_directions():
    base = draw_weights(jax.random.key(0), lambda draws: init_linear(draws, 4, 3))
    moving = draw_weights(jax.random.key(1), lambda draws: init_moving(draws, base, directions=2, scale=0.5))
    amounts = np.array([0.3, -0.7], np.float32)
    np.testing.assert_allclose(
        moving.at(jnp.asarray(amounts)).weight, by_hand.moved(moving, amounts).weight, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(moving.at(jnp.zeros(2)).weight, base.weight)
    # N(0, scale^2 / first axis)
    assert np.asarray(moving.directions.weight).std() == pytest.approx(0.5 / 2, rel=0.4)


@given(lb=st.floats(-6, 0, width=32), n=st.integers(1, 100))
def test_places_and_conditions_are_the_formulas_of_the_paper_s_range(lb, n):
    config = GeneratorConfig()
    place = float(place_of(config, jnp.float32(lb)))
    assert place == pytest.approx(lb / 3 + 1, abs=1e-6)
    c = np.asarray(conditioning(jnp.float32(n), jnp.float32(place)))
    np.testing.assert_allclose(
        c, [np.log(n) / 2 - 0.5, lb / 3 + 1, np.log(n) * lb / 12], rtol=1e-4, atol=1e-5
    )


def test_amounts_are_bounded_and_follow_the_code():
    code = draw_weights(jax.random.key(0), lambda draws: init_code(draws, 4))
    for place in (-1.0, -0.2, 1.0):
        half = (place - 1) / 2
        u = np.array([half + 0.5, np.sin(np.pi * half), np.cos(np.pi * half)])
        found = np.asarray(amounts_at(code, jnp.float32(place)))
        np.testing.assert_allclose(found, np.tanh(by_hand.perceptron(code, u)), rtol=1e-4, atol=1e-5)
        assert (np.abs(found) <= 1).all()


def test_places_of_outputs_are_symmetric_powers():
    assert output_places(GeneratorConfig(), jnp.float32(3), 5) is None
    fixed = np.asarray(output_places(GeneratorConfig(outputs=4), jnp.float32(3), 5))
    np.testing.assert_allclose(fixed[:, 0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(fixed, fixed[:, :1] ** [1, 2, 3], rtol=1e-6)
    # as many as inputs: padding does not move the real ones
    wide, exact = (output_places(GeneratorConfig(outputs="inputs"), jnp.float32(3), k) for k in (5, 3))
    np.testing.assert_allclose(wide[:3], exact, rtol=1e-6)


def test_the_first_two_modes_know_inputs_in_their_first_slot_only():
    config = GeneratorConfig(modes=3)
    c, n = jnp.array([0.3, -0.5, 0.1]), jnp.float32(4)

    @jax.jit
    def edges_of(mode):
        def make(draws):
            return init_branch(draws, config, init_decoder(draws, config), mode)

        branch = draw_weights(jax.random.key(0), make)
        return posterior(branch, config, c, n, mode)[0][0].mean

    for mode in range(3):
        mean = np.asarray(edges_of(jnp.int32(mode)))
        tied = [bool(np.allclose(mean[0, 0, s], mean[1, 0, s], atol=1e-5)) for s in range(3)]
        assert tied == ([False, True, True] if mode < 2 else [False] * 3)
    # their spikes start with opposite signs
    first, second = (np.asarray(edges_of(jnp.int32(mode)))[1, 0, 0] for mode in (0, 1))
    assert first @ second < 0


def test_the_price_of_a_network_is_the_sum_over_its_edges_and_units():
    rng = np.random.default_rng(0)
    assignment = Assignment((2, 3), "tree", 2)
    config = GeneratorConfig(assignment=assignment)
    edges = [gaussian(*rng.normal(size=(2, 3, a, b, 2))) for a, b in assignment.layers()]
    units = [gaussian(*rng.normal(size=(2, b, 2))) for _, b in assignment.layers()]
    total = 0.0
    for q, (a, b) in zip(edges, assignment.layers(), strict=True):
        for k, i, s, j in np.ndindex(a, 3, b, 3):
            at = by_hand.relation(config, i, j), k, s
            total += by_hand.kl(np.asarray(q.mean[at], float), np.asarray(q.log_scale[at], float))
    for q in units:
        total += 3 * by_hand.kl(np.asarray(q.mean, float), np.asarray(q.log_scale, float))
    found = jax.jit(description_length)(edges, units, assignment.pairs(jnp.arange(4) < 3), jnp.float32(3))
    assert float(found) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "lookup"}, "backend='lookup': expected 'tables' or 'transformer'"),
        ({"attention": "none"}, "attention='none'"),
        ({"log10_beta": (-6.0,)}, "expected two numbers, low and high"),
        ({"log10_beta": 3}, "log10_beta=3: expected a tuple"),
        ({"log10_beta": (-21.0, 0.0)}, "within -20 .. 5"),
        ({"log10_beta": (0.0, float("nan"))}, "increasing pair"),
        ({"latent": 0}, "latent=0: must be at least 1"),
        ({"modes": 1.5}, "modes=1.5: expected a whole number"),
        ({"directions": -1}, "directions=-1"),
        ({"size_exponent": 2.1}, "size_exponent=2.1: expected 0 to 2"),
        ({"size_exponent": float("nan")}, "size_exponent=nan"),
        ({"power_law": "no"}, "power_law='no': expected True or False"),
        ({"outputs": 0}, "outputs=0: must be at least 1"),
        ({"outputs": "outputs"}, "expected a whole number, 'inputs', or None"),
        (
            {"backend": "transformer", "assignment": Assignment((3, 3))},
            "one hidden layer and a single output",
        ),
    ],
)
def test_settings_of_generators_are_checked(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        GeneratorConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slots": (3, 0)}, "slots=0: must be at least 1"),
        ({"slots": 3}, "slots=3: expected a tuple"),
        ({"relation": "ring"}, "relation='ring': expected 'columns' or 'tree'"),
        ({"levels": 2}, "levels=2: a tree needs at least one, columns none"),
        ({"relation": "tree", "levels": -1}, "levels=-1: must be at least 0"),
    ],
)
def test_settings_of_assignments_are_checked(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Assignment(**settings)


def test_settings_given_as_lists_are_hashable_and_equal():
    first = GeneratorConfig(assignment=Assignment([3, 2]), log10_beta=[-5, 0])
    assert hash(first) == hash(GeneratorConfig(assignment=Assignment((3, 2)), log10_beta=(-5, 0)))


def test_what_several_generators_or_wrong_shapes_are_asked_is_named():
    shapes = jax.eval_shape(
        lambda key: jax.vmap(hypernet.init_generator)(key), jax.random.split(jax.random.key(0), 3)
    )
    assert shapes.seeds == 3
    for call, message in (
        (lambda: hypernet.generate(shapes, jax.random.key(0), 4, 1e-3), "holds 3 generators side by side"),
        (lambda: shapes.member(3), "seed=3: this holds seeds 0 to 2"),
        (lambda: shapes.member(-1), "seed=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": jnp.ones(2)}, r"beta has shape \(2,\): expected a single one"),
        ({"key": jax.random.split(jax.random.key(0))}, r"key has shape \(2,\)"),
        ({"mode": jnp.zeros(2, int)}, r"mode has shape \(2,\)"),
        ({"mode": 0.0}, r"mode=0.0: expected a whole number"),
        ({"mode": -1}, "mode=-1: this generator holds modes 0 to 0"),
        ({"beta": "1e-3"}, "beta='1e-3': expected a number"),
        ({"beta": float("nan")}, "beta=nan: expected a positive"),
        ({"beta": 0.0}, "beta=0.0: expected a positive"),
        ({"hidden": (12, 12)}, r"serves \(12,\) hidden units"),
        ({"n": True}, "n=True"),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_what_a_generator_cannot_draw_is_named(arguments, message):
    shapes = jax.eval_shape(hypernet.init_generator, jax.random.key(0))
    given_all = {"key": jax.random.key(0), "n": 4, "beta": 1e-3} | arguments
    with pytest.raises(ValueError, match=message):
        hypernet.generate(shapes, **given_all)


@pytest.mark.parametrize("how", [generate._of_mode, generate._masked])
@pytest.mark.parametrize("modes", [1, 3])
def test_a_modes_weights_are_its_own_and_so_are_their_gradients(modes, how):
    branches = hypernet.init_generator(jax.random.key(0), GeneratorConfig(modes=modes)).branches
    for mode in range(modes):
        chosen, back = jax.vjp(lambda tree, mode=mode: how(tree, jnp.int32(mode)), branches)
        (gradient,) = back(chosen)
        for leaf, one, slope in zip(*map(jax.tree.leaves, (branches, chosen, gradient)), strict=True):
            np.testing.assert_array_equal(one, leaf[mode])
            np.testing.assert_array_equal(slope[mode], leaf[mode])
            assert not np.delete(np.asarray(slope), mode, 0).any()
