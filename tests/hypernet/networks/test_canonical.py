"""Canonical form: the same function with fewer units, and as sympy."""

import jax
import numpy as np
import pytest
import sympy

import hypernet
from hypernet.networks.forward import evaluate64
from hypernet.networks.mlp import MLP


def test_copies_merge_and_dead_units_go():
    mlp = hypernet.double_sided(3, k=2.0, activation="relu")
    W = np.hstack([mlp.W, 3 * mlp.W[:, :1], np.zeros((3, 1)), np.ones((3, 1)), mlp.W[:, 1:2], mlp.W[:, 1:2]])
    v = np.concatenate([mlp.v, [0.1, 2.0, 0.0, 1.0, -1.0]])
    b = np.concatenate([np.zeros(7), [0.5], np.zeros(3)])
    big = MLP((W,), (b,), v, np.float64(0.25), "relu")
    found = hypernet.simplify(big)
    assert found.mlp.W.shape == (3, 6)
    assert found.merged == 3
    assert found.dropped == 2
    assert found.mlp.c == pytest.approx(0.25 + 2 * 0.5)
    assert found.change < 1e-12
    # rows in order of inputs, positive first
    np.testing.assert_array_equal(np.argmax(np.abs(found.mlp.W), axis=0), [0, 0, 1, 1, 2, 2])
    assert np.sign(found.mlp.W.sum(0)).tolist() == [1, -1, 1, -1, 1, -1]
    assert (0, 6) in found.origin[0]


def test_canonical_forms_do_not_depend_on_the_order_of_units():
    mlp = hypernet.pudding(5, "positive")
    q = np.random.default_rng(0).permutation(6)
    shuffled = MLP((mlp.W[:, q],), (mlp.b[q],), mlp.v[q], mlp.c, "swish")
    first, second = hypernet.simplify(mlp).mlp, hypernet.simplify(shuffled).mlp
    np.testing.assert_allclose(first.W, second.W)
    np.testing.assert_allclose(first.v, second.v)


def test_canceling_copies_vanish():
    mlp = MLP(
        (np.array([[1.0, 1.0, 2.0]]),), (np.zeros(3),), np.array([1.0, -1.0, 0.5]), np.float64(0), "swish"
    )
    found = hypernet.simplify(mlp)
    assert found.mlp.W.shape == (1, 1)
    assert found.change < 1e-12


@pytest.mark.parametrize("activation", ["relu", "swish", "gelu", "softplus", "tanh"])
def test_expressions_evaluate_to_the_network(activation):
    key = jax.random.key(0)
    n, H = 3, 4
    W = np.asarray(jax.random.normal(key, (n, H)), float)
    mlp = MLP((W,), (np.linspace(-1, 1, H),), np.linspace(1, 2, H), np.float64(0.3), activation)
    x = np.random.default_rng(1).normal(size=(5, n))
    value = sympy.lambdify(sympy.symbols("x1:4", real=True), hypernet.expression(mlp), "math")
    np.testing.assert_allclose([value(*row) for row in x], evaluate64(mlp, x), rtol=1e-12)


def test_expressions_of_deep_networks_and_vectors():
    mlp = hypernet.simplify(hypernet.tournament(4)).mlp
    assert [w.shape for w in mlp.weights] == [(4, 8), (8, 3)]
    x = np.random.default_rng(0).normal(size=(4, 4))
    value = sympy.lambdify(sympy.symbols("x1:5", real=True), hypernet.expression(mlp), "math")
    np.testing.assert_allclose([value(*row) for row in x], np.abs(x).max(1), atol=1e-12)
    both = MLP((np.eye(2),), (np.zeros(2),), np.eye(2), np.zeros(2), "relu")
    assert hypernet.expression(both) == sympy.Matrix(
        [sympy.Max(0, s) for s in sympy.symbols("x1:3", real=True)]
    ) or (hypernet.expression(both).shape == (2, 1))


def test_pruning_says_what_it_changed():
    mlp = hypernet.distributed_pudding(4)
    found = hypernet.simplify(mlp, prune=0.01)
    assert found.change > 0.01
    assert found.mlp.W.shape[1] < 12
    with pytest.raises(ValueError, match="prune=2"):
        hypernet.simplify(mlp, prune=2)


@pytest.mark.parametrize(
    "mlp",
    [
        MLP((np.array([[1.0, 1e-8]]),), (np.array([0.0, 1e3]),), np.ones(2), np.float64(0), "swish"),
        MLP((np.eye(2),), (np.full(2, 1e9),), np.array([1.0, -1.0]), np.float64(0), "relu"),
        hypernet.pudding(4, activation="relu", C=4e9),
        hypernet.pudding(4, sea="linear", C=1e9),
    ],
    ids=["a slow unit", "large equal biases", "a large sea", "a slow sea"],
)
def test_big_biases_and_slow_units_are_kept(mlp):
    found = hypernet.simplify(mlp)
    assert found.mlp.W.shape == mlp.W.shape
    assert found.change < 1e-5


def test_a_loose_tolerance_drops_what_varies_least_and_keeps_its_constant():
    found = hypernet.simplify(hypernet.pudding(16), tolerance=0.05)
    assert found.mlp.W.shape == (16, 17)
    tiny = MLP(
        (np.array([[1.0, 1e-3]]),), (np.array([0.0, 5.0]),), np.array([1.0, 2.0]), np.float64(0), "relu"
    )
    assert hypernet.simplify(tiny, tolerance=0.01).mlp.c == pytest.approx(10)


def test_dead_networks_and_fixed_points():
    dead = hypernet.simplify(MLP((np.zeros((3, 4)),), (np.ones(4),), np.ones(4), np.float64(1), "relu"))
    assert dead.mlp.W.shape == (3, 0)
    assert float(dead.expression()) == 5
    assert hypernet.simplify(dead.mlp).mlp.c == 5
    assert hypernet.classify(dead.mlp, points=100).label == "none"
    constant = hypernet.formula(dead.mlp, points=100)
    assert (constant.terms, constant.constant, constant.unexplained) == ((), 5.0, 0.0)
    deep = MLP(
        (np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([[1.0, 1.0], [-1.0, 0.0]])),
        (np.zeros(2), np.array([1.0, 0.0])), np.ones(2), np.float64(0), "relu",
    )  # fmt: skip
    once = hypernet.simplify(deep)
    assert [w.shape for w in once.mlp.weights] == [w.shape for w in hypernet.simplify(once.mlp).mlp.weights]
    assert once.change < 1e-12
