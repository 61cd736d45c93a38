"""Impulse responses, exact realization, recurrences (without training)."""

import numpy as np
import pytest

from mips.judging.verification import verify
from mips.networks.relu import Affine, ReluRNN
from mips.normalize import change_basis
from mips.reading import linear
from mips.reading.oracle import Oracle
from mips.tasks import get_task
from tests.mips.machines import machine_of, oracle_of

# s' = A s + B x + c, y = C s': networks as training would find them, in other coordinates.
SYSTEMS = {
    "Sum_Last2": ([[0, 0], [1, 0]], [[1], [0]], [0, 0], [[1, 1]], 2),
    "Newton_Freebody": ([[1, 1], [0, 1]], [[1], [1]], [0, 0], [[1, 0]], 2),
    "Newton_Gravity": ([[1, 1], [0, 1]], [[1], [1]], [-1, -1], [[1, 0]], 2),
    "Newton_Spring": ([[0, 1], [-1, 1]], [[1], [1]], [0, 0], [[1, 0]], 2),
    "Newton_Magnetic": (
        [[1, 0, 1, -1], [0, 1, 1, 1], [0, 0, 1, -1], [0, 0, 1, 1]],
        [[1, 0], [0, 1], [1, 0], [0, 1]],
        [0] * 4,
        [[1, 0, 0, 0], [0, 1, 0, 0]],
        4,
    ),
}


def network(name, seed=0):
    a, b, c, read, _ = (np.array(v, float) for v in SYSTEMS[name])
    plain = ReluRNN((Affine(np.concatenate([a, b], axis=1), c),), (Affine(read, np.zeros(len(read))),))
    rng = np.random.default_rng(seed)
    mixed = change_basis(plain, rng.normal(size=a.shape) + 2 * np.eye(len(a)))
    first = mixed.transition[0]
    return ReluRNN(
        (Affine(first.weight * (1 + 1e-5 * rng.normal(size=first.weight.shape)), first.bias),), mixed.readout
    )


@pytest.mark.parametrize("name", SYSTEMS)
def test_rounded_responses_are_exact_and_of_least_order(name):
    task = get_task(name)
    response = linear.response_of_weights(network(name), task.length)
    assert response.deviation < 0.1
    x, y = task.sample(0, 2000)
    np.testing.assert_array_equal(response.run(x), y)
    system = linear.realize(response)
    assert system.order == SYSTEMS[name][-1] and system.integral
    programs = list(linear.linear_programs(response, system))
    assert len(programs) == 2
    for program in programs:
        assert verify(program, task).exact, program.source()


def test_recurrences_read_as_expected():
    sources = {}
    for name in ("Newton_Freebody", "Newton_Gravity", "Newton_Spring"):
        response = linear.response_of_weights(network(name), 10)
        sources[name] = linear.recurrence_program(response).source()
    assert "x + 2 * y1 - y2" in sources["Newton_Freebody"]
    assert "x + 2 * y1 - y2 - 1" in sources["Newton_Gravity"]
    assert "x + y1 - y2" in sources["Newton_Spring"]


def test_responses_do_not_depend_on_coordinates():
    one, two = (linear.response_of_weights(network("Newton_Spring", seed), 10) for seed in (1, 2))
    np.testing.assert_array_equal(one.impulse, two.impulse)
    np.testing.assert_array_equal(one.offset, two.offset)


def test_any_linear_network_is_found_by_probing():
    def step(state, x):
        state = np.stack([state[:, 1] + x[:, 0] - 1, state[:, 0]], axis=1)
        return state, state[:, :1] + state[:, 1:]

    class Plain(Oracle):
        def step(self, states, x):
            return self.advance(states, np.asarray(x))

    oracle = Plain(step, np.zeros(2, np.int64), 1, 1)
    response = linear.response_of_oracle(oracle, 8, low=-5, high=6)
    x = np.random.default_rng(0).integers(-5, 6, (50, 8, 1))
    np.testing.assert_array_equal(response.run(x), oracle.run(x))


def test_a_network_that_is_not_linear_is_not_taken_for_one():
    oracle = oracle_of(machine_of(lambda s, x: (min(s, x),) * 2, 9, high=10))
    assert linear.response_of_oracle(oracle, 10, low=0, high=10) is None


def test_rational_systems_are_seen_as_such():
    # y_t = y_{t-1} / 2 + x_t cannot have an integer response; 2 y_t = ... can, in halves of x.
    impulse = np.array([8, 4, 2, 1])[:, None, None]
    response = linear.Response(
        np.concatenate([impulse, np.zeros((6, 1, 1), int)]), np.zeros((10, 1), int), 0.0
    )
    system = linear.realize(response)
    assert system is not None and system.order == 4


def test_too_short_a_response_is_not_realized():
    impulse = (np.arange(10) == 8).astype(int)[:, None, None]
    assert linear.realize(linear.Response(impulse, np.zeros((10, 1), int), 0.0)) is None


def test_inner_layers_are_refused():
    layer = Affine(np.eye(2, 3), np.zeros(2))
    inner = ReluRNN((layer, Affine(np.eye(2), np.zeros(2))), (Affine(np.ones((1, 2)), np.zeros(1)),))
    with pytest.raises(ValueError, match="inner layers"):
        linear.response_of_weights(inner, 5)
