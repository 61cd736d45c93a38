"""The published finders and regressions, with their failures and repairs."""

import dataclasses

import numpy as np
import pytest

from mips.judging.verification import right, verify
from mips.networks.relu import Affine, ReluRNN
from mips.normalize import change_basis
from mips.paper import gcd_lattice, linear_lattice, published_search
from mips.paper.boolean import Clusters, boolean_program, formula
from mips.paper.lattice import Lattice, clean, find_lattice, reduce_lattice
from mips.paper.pipeline import programs, transitions
from mips.paper.regression import initial_states, symbolic_regression
from mips.paper.repairs import Mending
from mips.tasks import get_task
from tests.mips.reading.test_linear import SYSTEMS

rng = np.random.default_rng(0)


def trained(name, seed=3):
    """A network as training might leave it: right, in skew coordinates, with an offset state."""
    a, b, c, read, _ = (np.array(v, float) for v in SYSTEMS[name])
    plain = ReluRNN((Affine(np.concatenate([a, b], axis=1), c),), (Affine(read, np.zeros(len(read))),))
    mix = np.random.default_rng(seed).normal(size=a.shape) * 0.3 + np.eye(len(a))
    return change_basis(plain, mix)


def exact(name, mending):
    task = get_task(name)
    x, y = task.sample(0, 1500)
    found = []
    for stage, program in programs(trained(name), x, y, mending, low=task.low, high=task.high):
        if right(program, x, y).all() and verify(program, task).exact:
            found.append(stage)
    return found


def test_sum_last2_by_the_published_lattice():
    assert exact("Sum_Last2", Mending())[0] == "linear"
    task = get_task("Sum_Last2")
    before, inputs, after, _ = transitions(trained("Sum_Last2"), *task.sample(0, 1000), all_steps=False)
    _, length, name = find_lattice(before, inputs, after)
    assert name in {"linear", "gcd"} and 5 < length < 8


def test_the_published_failure_on_the_spring_and_its_repair():
    assert exact("Newton_Spring", Mending()) == []
    assert "linear" in exact("Newton_Spring", Mending.everything())


def test_two_inputs_are_skipped_as_published_and_solved_when_mended():
    assert exact("Newton_Magnetic", Mending()) == []
    assert "linear" in exact("Newton_Magnetic", Mending.everything())


@pytest.mark.parametrize("name", ["Newton_Gravity", "Newton_Freebody"])
def test_mended_lattices_solve_the_others(name):
    assert "linear" in exact(name, Mending.everything())


def test_all_repairs_are_named():
    assert all(dataclasses.astuple(Mending.everything())) and not any(dataclasses.astuple(Mending()))


def test_lattice_points_are_recovered_and_described_in_few_bits():
    basis = np.array([[1.0, 0.2], [0.3, 0.8]])
    z = rng.integers(0, 6, (500, 2))
    points = z @ basis + [0.5, -0.4]
    lattice = gcd_lattice(points)
    assert lattice is not None
    assert abs(abs(np.linalg.det(lattice.basis)) - abs(np.linalg.det(basis))) < 1e-6
    coordinates = lattice.coordinates(points)
    np.testing.assert_allclose(coordinates, np.round(coordinates), atol=1e-6)
    worse = Lattice(basis * 1.37, np.zeros(2))
    assert lattice.description_length(points) < worse.description_length(points) - 2


def test_gcd_is_for_small_states_and_linear_for_up_to_ten():
    assert gcd_lattice(rng.normal(size=(50, 4))) is None
    many = rng.normal(size=(60, 12))
    assert linear_lattice(many, rng.normal(size=(60, 1)), many) is None


def test_reduction_shortens_and_keeps_the_lattice():
    skew = np.array([[1.0, 0.0], [7.0, 1.0]])
    for reduced in (clean(skew), reduce_lattice(skew)):
        assert np.linalg.norm(reduced, axis=1).max() < 1.5
        assert abs(abs(np.linalg.det(reduced)) - 1) < 1e-9


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ([0, 1, 1, 0], "a ^ b"),
        ([0, 0, 0, 1], "a & b"),
        ([0, 1, 1, 1], "a + b > 0"),
        ([1, 1, 1, 0], "a + b < 2"),
        ([0, 0, 1, 1], "a"),
        ([1, 1, 1, 1], "1"),
        ([1, 0, 0, 1], None),
    ],
)
def test_formulas_of_truth_tables(table, text):
    from mips.programs.evaluation import evaluate

    expr = formula(np.array(table), ("a", "b"))
    bits = {"a": np.array([0, 0, 1, 1]), "b": np.array([0, 1, 0, 1])}
    np.testing.assert_array_equal(np.broadcast_to(evaluate(expr, bits), 4), table)
    if text is not None:
        assert str(expr) == text


def test_bits_are_assigned_for_the_shortest_text():
    # Parity with clusters in the unlucky order.
    clusters = Clusters(np.array([[0, 1], [1, 0]]), np.array([[1, 0], [0, 1]]), 1, True)
    program = boolean_program(clusters, bits=1, inputs=("x",))
    task = get_task("Parity_All")
    assert verify(program, task).exact and "^" in program.source()
    assert boolean_program(clusters._replace(consistent=False), bits=1, inputs=("x",)) is None


def test_symbolic_regression_over_integer_states():
    x = rng.integers(0, 8, (400, 1))
    before = rng.integers(0, 8, (400, 1))
    after, outputs = x, (after_minus := np.abs(x - before))
    assert after_minus.shape == (400, 1)
    found = list(
        symbolic_regression(
            np.concatenate([before, before], axis=1),
            x,
            np.concatenate([after, outputs], axis=1),
            outputs,
            ("x",),
            [(0, 0)],
            all_rows=True,
        )
    )
    assert found and "abs" in found[0].source()


def test_initial_states_are_rounded_every_way_on_request():
    assert list(initial_states(np.array([409.5, -1.0]), every_rounding=False)) == [(410, -1)]
    assert {s[0] for s in initial_states(np.array([409.5]), every_rounding=True)} == {409, 410}


def test_the_published_search_bisects_to_the_smallest_success():
    tried = []

    def needs_three_units(config):
        tried.append(config)
        return config.hidden >= 5 and config.transition_depth == 1

    found = published_search(needs_three_units, inputs=1, outputs=1)
    assert (found.hidden, found.transition_depth, found.readout_depth) == (5, 1, 1)
    assert len(set(tried)) == len(tried) < 20
    assert published_search(lambda c: False, inputs=1, outputs=1, largest=10**6) is None
