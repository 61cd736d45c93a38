"""Classifications: errors, servers and seas against plain NumPy; many networks as one by one; what is refused."""

import jax
import numpy as np
import pytest

import hypernet
from hypernet.classification.classify import nmse_of
from hypernet.networks.mlp import MLP
from tests.hypernet import plain

L1 = hypernet.get_target("l1")


@pytest.mark.parametrize("outputs", [None, 3])
def test_the_error_is_the_mean_square_over_the_variance(outputs):
    target = hypernet.get_target("sort") if outputs else L1
    mlp = plain.random_network(0, (3, 4), outputs=outputs)
    x = np.random.default_rng(1).normal(size=(100, 3))
    y = np.sort(x, -1) if outputs else np.abs(x).sum(-1)
    square = ((plain.forward(mlp, x) - y) ** 2).reshape(100, -1).sum(-1)
    assert nmse_of(mlp, target, x) == pytest.approx(square.mean() / target.variance_of(3), rel=1e-10)


def test_servers_are_the_units_with_a_spike_strongest_first_and_seas_the_rest_that_matter():
    W = np.array([[3.0, -5, 0.1, 1, 0, 0.001], [0.2, 0.1, 4, 1, 0, 0.001], [0, 0, 0, 1, 0, 0.001]])
    v = np.array([1.0, 0.1, 0.5, 0.3, 1.0, 1e-4])
    found = hypernet.classify((W, np.zeros(6), v, 0.0), activation="relu", points=512)
    assert [(s.unit, s.sign) for s in found.servers[0]] == [(0, 1), (1, -1)]
    assert [(s.unit, s.sign) for s in found.servers[1]] == [(2, 1)]
    # with ReLU and no bias a unit bends by one: its pull is v |w_i|
    assert [s.pull for s in found.servers[0]] == pytest.approx([3.0, 0.5])
    # what spikes pull at an input together is its K
    for i, servers in enumerate(found.servers):
        assert sum(s.pull for s in servers) == pytest.approx(found.order.K_plus[i] + found.order.K_minus[i])
    assert found.sea == (3,)
    assert found.ambiguous
    said = found.evidence().splitlines()
    assert said[0].startswith(f"{found.label} (ambiguous: n <= 3), NMSE")
    assert said[2:] == [
        "x1: +unit 0 (3.00), -unit 1 (0.50)",
        "x2: +unit 2 (2.00)",
        "x3: no spike",
        "sea: 1 units (3)",
    ]


def test_evidence_is_cut_where_there_are_many_units_and_says_where_there_are_none():
    mlp = hypernet.convexity(4, 40, key=jax.random.key(0), law="sign", alpha=1.0, c=0.0)
    text = hypernet.classify(mlp, points=512).evidence()
    assert "x1: no spike" in text
    assert "sea: 40 units (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...)" in text


def test_many_networks_are_labeled_as_one_by_one():
    rng = np.random.default_rng(0)
    base = hypernet.double_sided(4, k=6.0)
    mlps = jax.tree.map(
        lambda leaf: np.stack([leaf + 0.3 * s * rng.normal(size=leaf.shape) for s in range(4)]), base
    )
    labels, order, nmse = hypernet.classify_many(mlps, points=512)
    for k, mlp in enumerate(mlps):
        one = hypernet.classify(mlp, points=512)
        assert labels[k] == one.label
        assert nmse[k] == pytest.approx(one.nmse, rel=1e-4)
        np.testing.assert_allclose(order.K_plus[k], one.order.K_plus, rtol=1e-12)
    label, _, error = hypernet.classify_many(base, points=512)
    assert (str(label), float(error)) == ("double_sided", pytest.approx(float(nmse[0]), rel=1e-5))


def test_the_key_decides_the_points_and_their_number_the_precision():
    mlp = hypernet.double_sided(4, k=3.0)
    errors = [hypernet.classify(mlp, points=512, key=jax.random.key(k)).nmse for k in (0, 0, 1, 2, 3, 4, 5)]
    assert errors[0] == errors[1] != errors[2]
    exact = hypernet.classify(mlp, points=20_000).nmse
    assert np.mean(errors[1:]) == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hypernet.classify(hypernet.double_sided(3), points=0), "points=0: must be at least 1"),
        (
            lambda: hypernet.classify(hypernet.double_sided(3), target=hypernet.get_target("sort")),
            "several outputs",
        ),
        (lambda: hypernet.classify_many(hypernet.tournament(4)), "one hidden layer and one output"),
        (
            lambda: hypernet.classify_many(plain.random_network(0, (2, 3), outputs=2)),
            "one hidden layer and one output",
        ),
        (lambda: hypernet.classify_many(hypernet.double_sided(2), points=0), "points=0"),
        (lambda: hypernet.classify_rounds(plain.random_network(0, (2, 3, 3))), "at least 3 inputs"),
        (lambda: hypernet.classify_rounds(plain.random_network(0, (4, 3, 3), outputs=2)), "one output"),
        (lambda: hypernet.classify_rounds(plain.random_network(0, (4, 3, 3), batch=(2,))), "one network"),
        (lambda: hypernet.classify_rounds(hypernet.tournament(4), points=1), "points=1: must be at least 2"),
    ],
)
def test_what_cannot_be_classified_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_pairs_of_a_tournament_follow_the_inputs():
    mlp, order = hypernet.tournament(4), [2, 0, 3, 1]
    moved = MLP((mlp.W[order], mlp.weights[1]), mlp.biases, mlp.v, mlp.c, mlp.activation)
    found = hypernet.classify_rounds(moved, points=512)
    # inputs 1 and 3 stand where 0 and 1 stood, 0 and 2 where 2 and 3 did
    assert found.label == "tournament"
    assert found.pairs == ((0, 2), (1, 3))
    assert found.pairing == pytest.approx(1)
    assert found.nmse < 1e-12


def test_a_random_deep_network_is_no_tournament():
    assert hypernet.classify_rounds(plain.random_network(1, (4, 12, 6)), points=512).label in (
        "none",
        "other",
    )
