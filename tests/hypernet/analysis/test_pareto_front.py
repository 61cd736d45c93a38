"""Fronts by the definition of domination, knees by their chords, points by medians."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hypernet
from hypernet.analysis.measure import Measured
from hypernet.analysis.pareto_front import Front, Point, points_of
from tests.hypernet import plain

NET = hypernet.double_sided(2)
drawn_points = st.lists(
    st.tuples(st.sampled_from(hypernet.LABELS), st.integers(0, 5), st.integers(1, 6)), max_size=12
)


def front_of(rows):
    return Front(2, tuple(Point(label, -3.0, 0, 0, e / 4, float(b), 1.0, NET) for label, b, e in rows))


@given(rows=drawn_points)
def test_the_front_is_what_nothing_beats(rows):
    front = front_of(rows)
    best = [(p.bits, p.nmse) for p in front.front()]
    every = {(p.bits, p.nmse) for p in front.points}
    undominated = {p for p in every if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in every)}
    assert sorted(undominated) == best


@given(rows=drawn_points, order=st.randoms(use_true_random=False))
def test_the_front_does_not_know_the_order_of_the_points_and_is_its_own_front(rows, order):
    mixed = list(rows)
    order.shuffle(mixed)
    pairs = [[(p.bits, p.nmse) for p in front_of(r).front()] for r in (rows, mixed)]
    assert pairs[0] == pairs[1]
    own = front_of(rows).front()
    assert Front(2, tuple(own)).front() == own


@given(rows=drawn_points)
def test_knees_are_one_point_of_the_front_per_algorithm_by_bits(rows):
    front = front_of(rows)
    knees, best = front.knees(), front.front()
    assert [p.label for p in knees] == [p.label for p in sorted(knees, key=lambda p: p.bits)]
    assert {p.label for p in knees} == {p.label for p in best} - {"mixed", "none"}
    assert len({p.label for p in knees}) == len(knees)
    assert all(any(k is p for p in best) for k in knees)


def test_the_knee_is_where_the_curve_bends_most():
    rows = [(0, 64), (10, 60), (20, 1), (30, 0.9), (1000, 0.8)]
    points = tuple(Point("convexity", -3.0, 0, 0, float(e), float(b), 1.0, NET) for b, e in rows)
    (knee,) = Front(2, points).knees()
    assert knee.bits == 20
    # of two points the second where it halves the error, else the first
    assert [k.bits for k in Front(2, points[:2]).knees()] == [0]
    assert [k.bits for k in Front(2, points[1:3]).knees()] == [20]


def test_points_are_medians_of_a_seed_mode_beta_and_label_and_rare_labels_are_left_out():
    label = np.array([[["convexity"] * 5 + ["mixed"] + ["none", "none"]]])
    nmse = np.array([[[0.5, 0.1, 0.3, 0.2, 0.4, 9.0, 1.0, 2.0]]])
    nats = np.log(2) * np.array([[[5.0, 1.0, 3.0, 2.0, 4.0, 9.0, 7.0, 8.0]]])
    mode = np.array([[[0, 0, 0, 0, 0, 0, 1, 1]]])
    mlps = plain.random_network(0, (2, 3), batch=(1, 1, 8))
    found = points_of(Measured(2, np.array([-2.0]), mode, nmse, nats, 10 * nmse, label, None, mlps))
    assert [(p.label, p.mode, p.seed, p.log10_beta) for p in found] == [
        ("convexity", 0, 0, -2.0),
        ("none", 1, 0, -2.0),
    ]
    first, second = found
    assert (first.nmse, first.bits, first.loss) == pytest.approx((0.3, 3.0, 3.0))
    np.testing.assert_array_equal(first.mlp.W, mlps.W[0, 0, 2])  # the network of the median error
    assert (second.nmse, second.bits) == pytest.approx((1.5, 7.5))
    np.testing.assert_array_equal(second.mlp.W, mlps.W[0, 0, 6])
    # of networks that have no labels
    unlabeled = points_of(Measured(2, np.array([-2.0]), mode, nmse, nats, nmse, None, None, mlps))
    assert [p.label for p in unlabeled] == ["network", "network"]
