"""Canonical forms: laws over drawn networks with copies, dead and constant units."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hypernet
from hypernet.networks.canonical import activation_expression, expression, simplify
from hypernet.networks.mlp import ACTIVATIONS, MLP
from tests.hypernet import plain

UNITS = [  # (weights of two inputs, bias): copies, spikes, dead units, rescaled copies
    ((1.0, 0.0), 0.0),
    ((1.0, 0.0), 0.0),
    ((2.0, 0.0), 0.0),
    ((0.0, -3.0), 0.5),
    ((1.0, -1.0), -1.0),
    ((0.0, 0.0), 2.0),
]
drawn_units = st.lists(
    st.tuples(st.sampled_from(UNITS), st.sampled_from([1.0, -1.0, 0.0, 0.5])), min_size=4, max_size=4
)


def built(units, activation, outputs=None):
    W = np.array([row for (row, _), _ in units]).T
    b = np.array([bias for (_, bias), _ in units])
    v = np.array([out for _, out in units])
    if outputs:
        return MLP((W,), (b,), np.stack([v, 2 * v], axis=1), np.ones(2), activation)
    return MLP((W,), (b,), v, np.float64(0.25), activation)


@given(units=drawn_units, activation=st.sampled_from(["relu", "swish"]), vector=st.booleans())
def test_the_function_stays_and_every_unit_is_accounted_for(units, activation, vector):
    mlp = built(units, activation, vector)
    found = simplify(mlp)
    x = np.random.default_rng(0).normal(size=(50, 2)) * 3
    np.testing.assert_allclose(plain.forward(found.mlp, x), plain.forward(mlp, x), atol=1e-12)
    (groups,) = found.origin
    behind = list(itertools.chain(*groups))
    assert len(behind) == len(set(behind)) and set(behind) <= set(range(4))
    assert found.merged + found.dropped + len(groups) == 4
    assert found.mlp.W.shape[1] == len(groups)
    # a fixed point: nothing is left to drop, merge or move
    again = simplify(found.mlp)
    assert (again.merged, again.dropped) == (0, 0)
    np.testing.assert_allclose(again.mlp.W, found.mlp.W, rtol=1e-12)
    assert again.origin == (tuple((k,) for k in range(len(groups))),)


@given(units=drawn_units, order=st.permutations(range(4)), activation=st.sampled_from(["relu", "swish"]))
def test_the_form_does_not_know_the_order_of_the_units(units, order, activation):
    first = simplify(built(units, activation)).mlp
    second = simplify(built([units[k] for k in order], activation)).mlp
    # units of equal size and direction may change places: sorted, they are the same

    def rows(mlp):
        return sorted(np.round([*mlp.W.T[k], mlp.b[k], mlp.v[k]], 9).tolist() for k in range(mlp.W.shape[1]))

    assert rows(first) == rows(second)
    assert first.c == pytest.approx(second.c)


@given(scale=st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=3))
def test_rescaled_rectifiers_are_one_form(scale):
    scale = np.array(scale)
    mlp = plain.random_network(2, (2, 3), activation="relu")
    other = MLP((mlp.W * scale,), (mlp.b * scale,), mlp.v / scale, mlp.c, "relu")
    first, second = simplify(mlp).mlp, simplify(other).mlp
    np.testing.assert_allclose(first.W, second.W, rtol=1e-9)
    np.testing.assert_allclose(first.b, second.b, rtol=1e-9)
    np.testing.assert_allclose(first.v, second.v, rtol=1e-9)


def test_deep_networks_lose_whole_chains_without_listeners():
    """The second layer's only unit that hears the first layer's second unit is not read out."""
    mlp = MLP(
        (np.eye(2), np.array([[1.0, 0.0], [0.0, 1.0]])), (np.zeros(2), np.zeros(2)), np.array([1.0, 0.0]),
        np.float64(0), "swish",
    )  # fmt: skip
    found = simplify(mlp)
    assert [w.shape for w in found.mlp.weights] == [(2, 1), (1, 1)]
    assert found.origin == (((0,),), ((0,),))
    assert found.dropped == 2


@pytest.mark.parametrize(
    "settings", [{"tolerance": -1e-9}, {"tolerance": 1.0}, {"prune": -0.1}, {"tolerance": np.nan}]
)
def test_settings_beyond_their_range_are_named(settings):
    with pytest.raises(ValueError, match="expected numbers from 0 to below 1"):
        simplify(hypernet.double_sided(2), **settings)


@pytest.mark.parametrize("part", ["weights", "v", "c"])
def test_weights_that_are_not_finite_are_refused(part):
    mlp = hypernet.tournament(4)
    parts = {name: getattr(mlp, name) for name in ("weights", "biases", "v", "c", "activation")}
    parts[part] = (mlp.W, mlp.weights[1] * np.nan) if part == "weights" else parts[part] + np.inf
    with pytest.raises(ValueError, match="not finite"):
        simplify(MLP(**parts))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_as_sympy_are_their_formulas(name):
    phi = activation_expression(name)
    import sympy

    for u in (-4.0, -0.5, 0.0, 0.3, 5.0):
        assert float(phi(sympy.Float(u, 30))) == pytest.approx(float(plain.ACTIVATIONS[name](u)), abs=1e-14)


def test_digits_round_every_coefficient():
    import sympy

    mlp = MLP(
        (np.array([[1.23456]]),), (np.array([0.98765]),), np.array([2.34567]), np.float64(3.45678), "tanh"
    )
    (x1,) = sympy.symbols("x1:2", real=True)
    assert str(expression(mlp, digits=3)) == "2.35*tanh(1.23*x1 + 0.988) + 3.46"
    assert float(simplify(mlp).expression().subs(x1, 0.7)) == pytest.approx(
        plain.forward(mlp, [0.7]), abs=1e-14
    )


def test_expressions_of_several_networks_or_no_digits_are_refused():
    with pytest.raises(ValueError, match=r"networks of shape \(2,\); index one"):
        expression(plain.random_network(0, (2, 3), batch=(2,)))
    with pytest.raises(ValueError, match="digits=0"):
        expression(hypernet.double_sided(2), digits=0)
