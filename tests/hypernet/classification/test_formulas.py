"""Formulas: what they say, what their sympy form computes and what they claim to miss agree."""

import jax
import numpy as np
import pytest
import sympy

import hypernet
from hypernet.classification.formulas import Formula, Term, _fit
from tests.hypernet import plain

NETWORKS = {
    "double_sided": hypernet.double_sided(4, k=5.0),
    "pudding_pos": hypernet.pudding(4, "positive", k=8.0),
    "pudding_neg": hypernet.pudding(4, "negative", activation="relu"),
    "pudding_mixed": hypernet.pudding(4, [1, -1, 1, -1]),
    "convexity": hypernet.convexity(4, 64, key=jax.random.key(0)),
    "none": plain.random_network(0, (4, 5)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_share_that_is_missed_is_that_of_the_expression(name):
    mlp = NETWORKS[name]
    found = hypernet.formula(mlp, points=2000)
    assert found.label == name
    x = np.asarray(hypernet.get_target("l1").sample(jax.random.key(1), 2000, 4), float)
    expression = sympy.lambdify(sympy.symbols("x1:5", real=True), found.expression(), "numpy")
    g, f, y = expression(*x.T), plain.forward(mlp, x), np.abs(x).sum(-1)
    assert found.unexplained == pytest.approx(np.mean((f - g) ** 2) / f.var(), rel=1e-6, abs=1e-9)
    assert found.nmse == pytest.approx(np.mean((g - y) ** 2) / (4 * (1 - 2 / np.pi)), rel=1e-6)
    # a fit with a constant is right in the mean, and better than none
    assert g.mean() == pytest.approx(f.mean(), abs=1e-9)
    assert 0 <= found.unexplained <= 1


def test_a_formula_of_a_classification_is_that_of_its_network():
    mlp = NETWORKS["double_sided"]
    assert hypernet.formula(hypernet.classify(mlp, points=2000), points=2000) == hypernet.formula(
        mlp, points=2000
    )


@pytest.mark.parametrize(
    ("against", "shares", "wanted"),
    [
        # spikes of one length: their difference is the sea, which explains nothing more
        (5.0, (0.0, 0.9), [["spikes+", "spikes-"]] * 2),
        # no algorithm of the three: the sea alone misses a third
        (1.5, (0.0, 0.2, 0.9), [["radial", "sea"], ["radial", "sea"], ["sea"]]),
    ],
)
def test_more_terms_are_taken_where_fewer_miss_too_much(against, shares, wanted):
    """Spikes and a sea beside them: the shorter form is taken where it misses little, or misses are allowed."""
    mlp = hypernet.double_sided(4, k=5.0)
    W = np.where(mlp.W < 0, -against, mlp.W)
    W = np.hstack([W, np.full((4, 1), 1.0)])
    leaning = (W, np.append(mlp.b, 40.0), np.append(mlp.v, 0.2), -8.0)
    names = [
        [t.name for t in hypernet.formula(leaning, activation="swish", points=2000, least_share=share).terms]
        for share in shares
    ]
    assert names == wanted


def test_a_fit_is_least_squares_and_leaves_out_what_is_nearly_dependent():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 500)) * [[1.0], [1e6]]
    f = 2 * a - 3e-6 * b + 5 + 0.1 * rng.normal(size=500)
    left, amplitudes, constant = _fit({"a": a, "b": b}, ["a", "b"], f)
    exact = np.linalg.lstsq(np.column_stack([a, b, np.ones(500)]), f, rcond=None)[0]
    np.testing.assert_allclose([*amplitudes, constant], exact, rtol=1e-9)
    assert left == pytest.approx(np.mean((f - a * exact[0] - b * exact[1] - exact[2]) ** 2) / f.var())
    _, twice, _ = _fit({"a": a, "b": a + 1e-6 * rng.normal(size=500)}, ["a", "b"], f)
    np.testing.assert_allclose(twice, [1, 1], atol=0.1)  # and not a million each, of opposite signs


@pytest.mark.parametrize(
    ("terms", "constant", "signs", "text"),
    [
        ((), 5.0, (1, 1), "5"),
        ((), -0.25, (1,), "− 0.25"),
        ((Term("radial", 1.2345, 0.0),), -1.0, (1, 1), "1.23 ‖x‖₂ − 1"),
        ((Term("spikes+", 0.5, 2.0), Term("sea", -1.0, 0.0)), 0.0, (1, 1), "0.5 Σ relu(2 x) − 1 Σ x + 0"),
        ((Term("spikes-", -2.0, 3.14159),), 1.0, (1, -1), "− 2 Σ relu(−3.14 s x) + 1, s = (+, −)"),
    ],
)
def test_text_has_three_digits_and_signs_of_its_own(terms, constant, signs, text):
    assert Formula("mixed", terms, constant, signs, "relu", 0.0, 0.0).text == text


def test_signs_of_inputs_reach_the_expression():
    found = Formula(
        "pudding_mixed", (Term("spikes-", 1.0, 2.0), Term("sea", 3.0, 0.0)), 0.5, (1, -1), "relu", 0.0, 0.0
    )
    x1, x2 = sympy.symbols("x1:3", real=True)
    for a, b in ((1.0, 2.0), (-1.0, -0.5)):
        expected = max(0, -2 * a) + max(0, 2 * b) + 3 * (a - b) + 0.5
        assert float(found.expression().subs({x1: a, x2: b})) == pytest.approx(expected)
