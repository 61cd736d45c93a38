"""Normalizers keep the function and make the transition readable."""

import numpy as np
import pytest

from mips.networks.relu import Affine, ReluRNN
from mips.normalize import (
    change_basis,
    debias,
    effective_transition,
    jordan,
    normalize,
    quantize,
    toeplitz,
    whiten,
)
from mips.normalize.basis import effective_input
from mips.normalize.jordan import real_jordan_basis
from mips.normalize.pipeline import run


def affine(n, seed, inputs=1):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(n, n)) / np.sqrt(n)
    return ReluRNN(
        (Affine(np.concatenate([w, rng.normal(size=(n, inputs))], axis=1), rng.normal(size=n)),),
        (Affine(rng.normal(size=(1, n)), rng.normal(size=1)),),
    )


def inputs(channels=1, seed=9):
    return np.random.default_rng(seed).normal(size=(40, 10, channels))


def is_block_jordan(w, tolerance=1e-3):
    """Real blocks: eigenvalues or [[a, b], [-b, a]] on the diagonal, ones (or unit blocks) above, zero elsewhere."""
    n, i, rest = len(w), 0, w.copy()
    while i < n:
        if i + 1 < n and abs(w[i, i + 1] + w[i + 1, i]) < tolerance and abs(w[i + 1, i]) > tolerance:
            if abs(w[i, i] - w[i + 1, i + 1]) > tolerance:
                return False
            rest[i : i + 2, i : i + 2] = 0
            i += 2
        else:
            rest[i, i] = 0
            if i + 1 < n and abs(w[i, i + 1] - 1) < tolerance:
                rest[i, i + 1] = 0
            i += 1
    return np.abs(rest).max(initial=0) < tolerance


@pytest.mark.parametrize("n", range(2, 7))
@pytest.mark.parametrize("seed", range(4))
def test_random_networks_keep_their_function_and_become_block_diagonal(n, seed):
    network, x = affine(n, seed), inputs()
    states, before = run(network, x)
    white = whiten(network, states.reshape(-1, n))
    form = jordan(white, eps=1e-6)
    fed = toeplitz(form)
    for name, changed in (("whiten", white), ("jordan", form), ("toeplitz", fed)):
        np.testing.assert_allclose(run(changed, x)[1], before, atol=1e-5, err_msg=name)
    assert is_block_jordan(effective_transition(form)), effective_transition(form)


def test_whitened_states_have_unit_second_moment():
    network, x = affine(3, 1), inputs()
    states = run(network, x)[0].reshape(-1, 3)
    white = run(whiten(network, states, eps=1e-9), x)[0].reshape(-1, 3)
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(3), atol=1e-8)


@pytest.mark.parametrize(
    "blocks",
    [[(0.5, 3)], [(0.0, 2), (0.0, 1)], [(0.9, 2), (-0.3, 2)], [(1.0, 2), (1.0, 2)]],
)
def test_defective_matrices_get_their_chains(blocks):
    sizes = [size for _, size in blocks]
    w = np.zeros((sum(sizes), sum(sizes)))
    place = 0
    for value, size in blocks:
        w[place : place + size, place : place + size] = value * np.eye(size) + np.eye(size, k=1)
        place += size
    mix = np.random.default_rng(0).normal(size=w.shape) + 2 * np.eye(len(w))
    mixed = mix @ w @ np.linalg.inv(mix)
    basis = real_jordan_basis(mixed, eps=1e-4)
    form = np.linalg.solve(basis, mixed @ basis)
    assert is_block_jordan(form)
    assert round(float(np.diag(form, 1).sum())) == len(w) - len(blocks)


def test_tolerance_that_is_not_transitive_gives_up():
    assert real_jordan_basis(np.diag([0.0, 0.6, 1.2]), eps=0.7) is None


def test_a_shift_register_is_fed_at_one_end():
    shift = np.eye(4, k=1)
    network = ReluRNN(
        (Affine(np.concatenate([shift, np.array([[0.3], [-0.7], [2.0], [1.5]])], axis=1), np.zeros(4)),),
        (Affine(np.ones((1, 4)), np.zeros(1)),),
    )
    fed = toeplitz(network)
    np.testing.assert_allclose(effective_input(fed)[:, 0], [0, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(effective_transition(fed), shift, atol=1e-12)
    np.testing.assert_allclose(run(fed, inputs())[1], run(network, inputs())[1], atol=1e-9)


def test_biases_that_nobody_reads_move_to_the_output():
    w = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.5]])  # the second unit is never read by the recurrence
    network = ReluRNN((Affine(w, np.array([0.1, 3.0])),), (Affine(np.array([[1.0, 2.0]]), np.array([0.5])),))
    moved = debias(network)
    np.testing.assert_allclose(moved.transition[0].bias, [0.1, 0])
    np.testing.assert_allclose(moved.readout[0].bias, [6.5])
    np.testing.assert_allclose(run(moved, inputs())[1], run(network, inputs())[1], atol=1e-9)


def test_quantize_rounds_what_is_near():
    network = affine(2, 0)
    near = ReluRNN((Affine(np.array([[0.995, 0.5, 2.004]]), np.array([-0.001])),), network.readout)
    np.testing.assert_array_equal(quantize(near).transition[0].weight, [[1.0, 0.5, 2.0]])
    np.testing.assert_array_equal(quantize(near).transition[0].bias, [0.0])


def test_the_pipeline_says_what_each_step_changed():
    steps = normalize(affine(3, 2), inputs(), jordan_eps=1e-6, tolerance=1e-3)
    assert [s.name for s in steps] == ["whiten", "jordan", "toeplitz", "debias", "quantize"]
    for step in steps:
        assert step.kept == (step.change <= 1e-3)
    assert all(s.change < 1e-5 for s in steps[:3])


def test_singular_changes_are_refused():
    with pytest.raises(ValueError, match="singular"):
        change_basis(affine(2, 0), np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"shape \(3, 3\)"):
        change_basis(affine(2, 0), np.eye(3))


def test_weights_are_drawn(tmp_path):
    from mips.report.figures import draw_weights

    network = affine(3, 2)
    draw_weights(network, normalize(network, inputs(), jordan_eps=1e-6), tmp_path / "w.png", title="t")
    assert (tmp_path / "w.png").stat().st_size > 10_000
