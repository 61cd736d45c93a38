"""Explanation via regression: projections, what functions say, nulls, colors."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import features
from features.circles.regression import hidden_circle, hidden_circle_null, residual_colors

from .test_fit import at_most_by_chance

SEEDS = st.integers(0, 2**32 - 1)
ALPHA, BETA = (v.ravel() for v in np.meshgrid(np.arange(7), np.arange(7), indexing="ij"))


@given(SEEDS, st.integers(1, 12), st.integers(1, 6), st.integers(1, 4), st.floats(-80, 80))
def test_a_regression_is_a_projection(seed, n, k, d, power):
    """Against the projector on the columns, made from their singular vectors."""
    rng = np.random.default_rng(seed)
    columns = rng.integers(-2, 3, (n, k)).astype(float)  # often dependent
    states = 10.0**power * rng.normal(size=(n, d))
    assume(n > 1)
    fit = features.regress(states, columns)
    u, s, _ = np.linalg.svd(np.c_[np.ones(n), columns], full_matrices=False)
    basis = u[:, s > 1e-9 * s[0]]
    assert fit.rank == basis.shape[1]
    scale = np.abs(states).max()
    np.testing.assert_allclose(fit.predicted / scale, basis @ (basis.T @ states) / scale, atol=1e-8)
    np.testing.assert_allclose((fit.predicted + fit.residual) / scale, states / scale, atol=1e-12)
    total = ((states - states.mean(0)) ** 2).sum()
    assert fit.r_squared == pytest.approx(1 - (fit.residual**2).sum() / total)
    assert -1e-9 <= fit.r_squared <= 1
    if fit.rank < n:
        assert fit.adjusted == pytest.approx(1 - (1 - fit.r_squared) * (n - 1) / (n - fit.rank))
    else:
        assert fit.adjusted == -np.inf


@given(SEEDS, st.floats(-1e150, 1e150), st.integers(1, 9))
def test_constant_states_are_refused_whatever_their_value(seed, value, n):
    with pytest.raises(ValueError, match="states are constant"):
        features.regress(np.full((n, 3), value), np.random.default_rng(seed).normal(size=(n, 2)))


@given(SEEDS)
def test_what_is_explained_depends_on_the_span_alone(seed):
    """Neither on mixing columns, nor on turning, moving or scaling the states."""
    rng = np.random.default_rng(seed)
    columns, states = rng.normal(size=(49, 4)), rng.normal(size=(49, 5))
    mixed = columns @ (rng.normal(size=(4, 4)) + 3 * np.eye(4)) + rng.normal(size=4)
    turned = 1e3 * (states @ np.linalg.qr(rng.normal(size=(5, 5)))[0]) + rng.normal(size=5)
    assert features.regress(turned, mixed).r_squared == pytest.approx(
        features.regress(states, columns).r_squared
    )


@given(SEEDS, st.permutations(["alpha", "beta", "circle gamma", "parity", "tomorrow"]))
def test_steps_never_lose_and_end_where_any_order_ends(seed, names):
    states = np.random.default_rng(seed).normal(size=(49, 6))
    functions = features.library(ALPHA, BETA, 7)
    steps, fit = features.explain(states, functions, names)
    values = [step.r_squared for step in steps]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(values)) and [s.name for s in steps] == names
    assert fit.r_squared == values[-1]
    other, _ = features.explain(states, functions, sorted(names), components=None)
    assert other[-1].r_squared == pytest.approx(values[-1])  # six dimensions: all components are kept


@given(SEEDS, st.sampled_from([3, 5, 7, 12]))
def test_functions_are_what_their_names_say(seed, period):
    rng = np.random.default_rng(seed)
    alpha, beta = rng.integers(0, period, 30), rng.integers(0, 4, 30)
    steps = rng.permutation(np.arange(-3, 9))[:4]
    f = features.library(alpha, beta, period, steps=steps.tolist())
    step = steps[beta]
    gamma = (alpha + step) % period
    for name, values in (("alpha", alpha), ("beta", beta), ("gamma", gamma), ("sum", alpha + step)):
        kinds = sorted(set(values.tolist()))
        np.testing.assert_array_equal(f[name], [[float(v == kind) for kind in kinds] for v in values])
    for name, values in (("circle gamma", gamma), ("circle 2 gamma", 2 * gamma), ("circle alpha", alpha),
                         ("circle alpha - beta", alpha - step)):  # fmt: skip
        angle = 2 * np.pi * values / period
        np.testing.assert_allclose(f[name], np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-5)
    np.testing.assert_array_equal(f["alpha, beta"], np.c_[f["alpha"], f["beta"]])
    np.testing.assert_array_equal(f["parity"][:, 0], np.abs(alpha + step) % 2)
    np.testing.assert_array_equal(f["alpha + 1 = beta"][:, 0], alpha + 1 == step)
    np.testing.assert_array_equal(f["tomorrow"], f["alpha"] * (step == 1)[:, None])
    default = features.library(alpha, beta, period)
    np.testing.assert_array_equal(default["gamma"].sum(0), np.bincount((alpha + beta + 1) % period)[
        np.unique((alpha + beta + 1) % period)
    ])  # fmt: skip


def test_the_choice_is_greedy_and_stops():
    rng = np.random.default_rng(0)
    functions = features.library(ALPHA, BETA, 7)
    states = functions["alpha"] @ rng.normal(size=(7, 8)) + 0.3 * functions["parity"] @ rng.normal(
        size=(1, 8)
    )
    chosen, fit = features.explain_automatically(states, functions)
    assert [s.name for s in chosen] == ["alpha", "parity"] and fit.r_squared == pytest.approx(1)
    first = {name: features.regress(states, columns).adjusted for name, columns in functions.items()}
    assert chosen[0].adjusted == pytest.approx(max(first.values()))
    nothing, fit = features.explain_automatically(rng.normal(size=(49, 8)), functions, least_gain=0.9)
    assert nothing == [] and fit.r_squared == pytest.approx(0)


def gamma_circle(rng, noise):
    """States that hold one-hot alpha and beta, and gamma as a circle below the noise of neither."""
    f = features.library(ALPHA, BETA, 7)
    hidden = noise[0] * f["circle gamma"] @ rng.normal(size=(2, 8))
    return f["alpha, beta"] @ rng.normal(size=(14, 8)) + hidden + noise[1] * rng.normal(size=(49, 8))


def test_p_values_of_hidden_circles_are_uniform_where_there_is_none():
    removed, gamma = features.library(ALPHA, BETA, 7)["alpha, beta"], (ALPHA + BETA + 1) % 7
    found = [
        hidden_circle_null(
            gamma_circle(np.random.default_rng(seed), (0, 1)), removed, gamma, 7, permutations=9, seed=seed
        ).p_value
        for seed in range(80)
    ]
    at_most_by_chance(found, levels=(0.1, 0.3, 0.5, 0.8))


def test_a_hidden_circle_is_found_and_its_null_holds_it():
    states, gamma = gamma_circle(np.random.default_rng(0), (1, 0.1)), (ALPHA + BETA + 1) % 7
    removed = features.library(ALPHA, BETA, 7)["alpha, beta"]
    null = hidden_circle_null(states, removed, gamma, 7, permutations=60)
    assert null.value == hidden_circle(states, removed, gamma, 7) > 0.9 > null.quantile_95
    assert null.p_value == pytest.approx((1 + (null.null >= null.value - 1e-9).sum()) / 61)


@given(SEEDS, st.integers(1, 5), st.integers(2, 6), st.integers(2, 6))
def test_colors_lie_in_the_unit_cube_at_their_cells(seed, width, alphas, betas):
    rng = np.random.default_rng(seed)
    alpha, beta = (v.ravel() for v in np.meshgrid(np.arange(alphas), np.arange(betas), indexing="ij"))
    residual = rng.normal(size=(alphas * betas, width))
    image = residual_colors(residual, alpha, beta)
    assert image.shape == (alphas, betas, 3) and image.min() == 0 and image.max() <= 1
    order = rng.permutation(alphas * betas)
    again = residual_colors(residual[order], alpha[order], beta[order])
    for channel in range(min(width, 3)):  # the signs of components are arbitrary
        a, b = image[..., channel], again[..., channel]
        assert np.allclose(a, b, atol=1e-6) or np.allclose(a, 1 - b, atol=1e-6)
    assert not image[..., width:].any()


def test_mistakes_are_named():
    states = np.random.default_rng(0).normal(size=(49, 3))
    with pytest.raises(ValueError, match="48 rows of columns for 49 states"):
        features.regress(states, np.ones((48, 2)))
    with pytest.raises(ValueError, match=r"unknown functions \['delta'\]; known are alpha, beta"):
        features.explain(states, features.library(ALPHA, BETA, 7), ["alpha", "delta"])
