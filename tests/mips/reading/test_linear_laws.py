"""Linear systems by laws: responses against plain simulation, exact realizations, recurrences read back."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.networks.relu import Affine, ReluRNN
from mips.programs import expression as ex
from mips.programs.evaluation import evaluate
from mips.reading import linear
from mips.reading.linear import Response
from tests.mips.machines import StepOracle
from tests.mips.strategies import SEEDS


def system(seed, order, inputs=1, outputs=1, size=2):
    """Integer A, B, c, C, d of s' = A s + B x + c, y = C s' + d."""
    rng = np.random.default_rng(seed)
    shapes = ((order, order), (order, inputs), (order,), (outputs, order), (outputs,))
    return [rng.integers(-size, size + 1, shape) for shape in shapes]


def simulate(parts, x):
    a, b, c, read, d = parts
    rows = []
    for sequence in x:
        state, row = np.zeros(len(a), int), []
        for step in sequence:
            state = a @ state + b @ step + c
            row.append(read @ state + d)
        rows.append(row)
    return np.array(rows)


def as_network(parts, mix=None):
    a, b, c, read, d = (np.array(p, float) for p in parts)
    mix = np.eye(len(a)) if mix is None else mix
    back = np.linalg.inv(mix)
    first = Affine(np.concatenate([mix @ a @ back, mix @ b], axis=1), mix @ c)
    return ReluRNN((first,), (Affine(read @ back, d),))


SIZES = st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 2))


@given(SEEDS, SIZES)
def test_the_response_of_weights_gives_the_systems_outputs(seed, sizes):
    parts = system(seed, *sizes)
    mix = np.random.default_rng(seed).normal(size=(sizes[0],) * 2) * 0.3 + np.eye(sizes[0])
    x = np.random.default_rng(1).integers(-9, 10, (10, 7, sizes[1]))
    plain = linear.response_of_weights(as_network(parts), 7)
    assert plain.deviation == 0.0
    np.testing.assert_array_equal(plain.run(x), simulate(parts, x))
    np.testing.assert_array_equal(plain.run(x[:, :3]), simulate(parts, x[:, :3]))
    if np.linalg.cond(mix) < 100:
        mixed = linear.response_of_weights(as_network(parts, mix), 7)
        np.testing.assert_array_equal(mixed.impulse, plain.impulse)
        assert mixed.deviation < 1e-6


@given(SEEDS, SIZES)
def test_probing_finds_the_response_of_the_weights(seed, sizes):
    parts = system(seed, *sizes)
    a, b, c, read, d = parts

    def step(states, x):
        states = states @ a.T + x @ b.T + c
        return states, states @ read.T + d

    oracle = StepOracle(step, np.zeros(sizes[0], np.int64), sizes[1], sizes[2])
    found = linear.response_of_oracle(oracle, 6, low=-4, high=5)
    want = linear.response_of_weights(as_network(parts), 6)
    np.testing.assert_array_equal(found.impulse, want.impulse)
    np.testing.assert_array_equal(found.offset, want.offset)


@pytest.mark.parametrize(
    "bend", [lambda y: np.abs(y), lambda y: y % 7, lambda y: y + (y > 3), lambda y: y * y]
)
def test_probing_refuses_what_is_not_linear(bend):
    def step(states, x):
        states = states + x
        return states, bend(states)

    oracle = StepOracle(step, np.zeros(1, np.int64), 1, 1)
    assert linear.response_of_oracle(oracle, 8, low=-5, high=6) is None


def test_one_symbol_alone_cannot_be_probed():
    oracle = StepOracle(lambda s, x: (s, x), np.zeros(1, np.int64), 1, 1)
    assert linear.response_of_oracle(oracle, 5, low=3, high=4) is None
    assert linear.response_of_oracle(oracle, 5, low=3, high=5) is not None


@pytest.mark.parametrize("weight", [1e30, np.inf, np.nan, -1e200], ids=str)
def test_a_network_that_diverges_has_no_response_and_gives_no_warning(weight):
    network = ReluRNN(
        (Affine(np.array([[weight, 1.0]]), np.ones(1)),), (Affine(np.ones((1, 1)), np.zeros(1)),)
    )
    response = linear.response_of_weights(network, 12)
    assert response.deviation == np.inf
    assert not response.impulse.any() and not response.offset.any()


@given(st.floats(-0.49, 0.49), st.floats(-0.49, 0.49))
def test_the_deviation_is_the_largest_distance_from_an_integer(one, two):
    network = ReluRNN(
        (Affine(np.array([[0.0, 2 + one]]), np.zeros(1)),), (Affine(np.ones((1, 1)), np.array([two])),)
    )
    response = linear.response_of_weights(network, 3)
    assert response.deviation == pytest.approx(max(abs(one), abs(two)))
    assert response.impulse.ravel().tolist() == [2, 0, 0]


def markov(parts, length):
    """S_k = [m_k | d_k] in integers: impulse responses and the constant as an input of its own (spec 11.2)."""
    response = linear.response_of_weights(as_network(parts), length)
    return response, np.diff(response.offset, axis=0, prepend=0 * response.offset[:1])


@settings(max_examples=20)
@given(SEEDS, SIZES)
def test_realizations_repeat_the_response_and_none_is_smaller(seed, sizes):
    parts = system(seed, *sizes, size=1)
    length = 2 * sizes[0] + 6
    response, constant = markov(parts, length)
    found = linear.realize(response)
    assert found is not None
    # At most one state more: the constant that the readout adds.
    assert found.order <= sizes[0] + 2
    state = np.array([Fraction(0)] * found.order, object)
    x = np.random.default_rng(0).integers(-3, 4, (length, sizes[1]))
    want = response.run(x[None])[0]
    for t in range(length):
        state = found.a @ state + found.b @ np.array([*x[t], 1], object)
        assert (found.c @ state).tolist() == want[t].tolist()
    blocks = np.concatenate([response.impulse, constant[..., None]], axis=2)
    half = length // 2
    hankel = np.block([[blocks[i + j] for j in range(half)] for i in range(half)])
    if np.abs(hankel).max() < 1e6:
        assert found.order >= np.linalg.matrix_rank(hankel.astype(float))


@settings(max_examples=10)
@given(SEEDS, SIZES)
def test_programs_of_a_response_do_what_it_does(seed, sizes):
    parts = system(seed, *sizes, size=1)
    response, _ = markov(parts, 2 * sizes[0] + 6)
    x = np.random.default_rng(1).integers(-9, 10, (15, len(response.offset), sizes[1]))
    found = list(linear.linear_programs(response, linear.realize(response)))
    for program in found:
        np.testing.assert_array_equal(program.run(x), response.run(x))
    # A program goes on as the system does beyond the length that was read.
    longer = np.random.default_rng(2).integers(-2, 3, (5, 20, sizes[1]))
    for program in found:
        np.testing.assert_array_equal(program.run(longer), simulate(parts, longer))


@given(SEEDS, st.integers(0, 2), st.integers(0, 2))
def test_recurrences_are_found_again_with_their_coefficients(seed, back, past):
    rng = np.random.default_rng(seed)
    of_y, of_x, c = rng.integers(-1, 2, back), rng.integers(-3, 4, past + 1), int(rng.integers(-2, 3))
    x = rng.integers(-9, 10, (30, 9, 1))
    y = np.zeros_like(x)
    for t in range(9):
        y[:, t] = c + sum(int(f) * x[:, t - i] for i, f in enumerate(of_x) if t >= i)
        y[:, t] += sum(int(f) * y[:, t - 1 - j] for j, f in enumerate(of_y) if t >= 1 + j)
    program = linear.fit_recurrence(x, y, past_outputs=back, past_inputs=past)
    np.testing.assert_array_equal(program.run(x), y)
    assert program.kind == "linear"
    wrong = y.copy()
    wrong[:, 4] += 1
    assert linear.fit_recurrence(x, wrong, past_outputs=back, past_inputs=past) is None
    assert linear.fit_recurrence(x, y, past_outputs=9, past_inputs=0) is None


def test_errors_in_a_share_of_rows_are_tolerated_up_to_that_share():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (400, 10, 1))
    y = np.cumsum(x, axis=1)
    noisy = np.where(rng.random(y.shape) < 0.004, y + 1, y)
    # An error is seen in two rows: as the output, and as the past output of the next.
    assert linear.fit_recurrence(x, noisy, past_outputs=1, past_inputs=0, tolerance=0.0) is None
    program = linear.fit_recurrence(x, noisy, past_outputs=1, past_inputs=0, tolerance=0.02)
    np.testing.assert_array_equal(program.run(x), y)


def test_numbers_too_large_for_least_squares_are_left_alone():
    x = np.full((4, 5, 1), 2 * 10**9)
    assert linear.fit_recurrence(x, x, past_outputs=0, past_inputs=0) is None


@given(st.lists(st.integers(-5, 5), max_size=4), st.integers(-5, 5))
def test_combinations_are_sums_and_are_written_without_needless_signs(factors, constant):
    names = "abcd"[: len(factors)]
    expr = linear._combination([(f, ex.var(n)) for f, n in zip(factors, names, strict=True)], constant)
    values = {n: np.array([3**i + 1]) for i, n in enumerate(names)}
    want = constant + sum(f * (3**i + 1) for i, f in enumerate(factors))
    assert int(np.ravel(evaluate(expr, values))[0]) == want
    text = str(expr)
    assert "- -" not in text and "+ -" not in text and "0 *" not in text
    assert not any(part.split()[-1] == "1" for part in text.split(" *")[:-1])


@given(SEEDS, st.integers(1, 5), st.integers(1, 5))
def test_independent_rows_are_as_many_as_the_rank_and_the_first_ones(seed, rows, columns):
    matrix = np.random.default_rng(seed).integers(-1, 2, (rows, columns))
    chosen = linear._independent_rows(matrix)
    for end in range(rows + 1):
        rank = np.linalg.matrix_rank(matrix[:end]) if end else 0
        assert sum(r < end for r in chosen) == rank


@given(SEEDS, st.integers(1, 3))
def test_rows_are_expressed_by_a_basis_exactly_or_not_at_all(seed, order):
    rng = np.random.default_rng(seed)
    basis = np.concatenate([rng.integers(-4, 5, (order, 2)), np.eye(order, dtype=int) * 3], axis=1)
    factors = rng.integers(-5, 6, (4, order))
    found = linear._express(factors @ basis, basis)
    assert found.tolist() == factors.tolist()
    halves = linear._express(basis[:1] * 3, basis * 2)
    assert halves[0].tolist() == [Fraction(3, 2), *[0] * (order - 1)]
    outside = np.concatenate([np.ones((1, 2), int) * 50, np.zeros((1, order), int)], axis=1)
    assert linear._express(outside, basis) is None


def test_systems_of_fractions_have_no_state_space_program():
    half = np.array([[Fraction(1, 2)]], object)
    one = np.array([[Fraction(1)]], object)
    system = linear.Realization(half, np.array([[Fraction(1), Fraction(0)]], object), one)
    assert not system.integral and linear.state_space_program(system) is None
    whole = linear.Realization(one, np.array([[Fraction(1), Fraction(0)]], object), one)
    program = linear.state_space_program(whole)
    assert program.run(np.array([[[2], [3]]])).ravel().tolist() == [2, 5]


def test_a_system_that_answers_zero_has_no_state():
    silent = linear.realize(Response(np.zeros((8, 1, 1), int), np.zeros((8, 1), int), 0.0))
    assert silent.order == 0 and silent.integral
    assert linear.state_space_program(silent).run(np.ones((1, 3, 1), int)).ravel().tolist() == [0, 0, 0]
    assert linear.realize(Response(np.zeros((1, 1, 1), int), np.zeros((1, 1), int), 0.0)) is None


@given(SEEDS, st.integers(0, 4))
def test_lagged_columns_and_names(seed, lag):
    values = np.random.default_rng(seed).integers(-9, 10, (3, 5, 2))
    got = linear.lag_columns(values, lag)
    for t in range(5):
        np.testing.assert_array_equal(got[:, t], values[:, t - lag] if t >= lag else 0)
    for outputs in range(1, 8):
        names = linear.lag_names(outputs)
        assert len(set(names)) == outputs and all(n.isidentifier() for n in names)
