"""The solver on a real puzzle; one compiled program serves all tests here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compressarc
from compressarc import programs
from compressarc.multitensor import TYPES
from compressarc.report import write_pictures

CONFIG = compressarc.SolveConfig(steps=200)


@pytest.fixture(scope="module")
def puzzle():
    return compressarc.load_puzzle("6f8cd79b")


@pytest.fixture(scope="module")
def solution(puzzle):
    return compressarc.solve(puzzle, CONFIG, key=jax.random.key(0))


def short(puzzle, steps, seed=0, **kwargs):
    config = compressarc.SolveConfig(steps=steps)
    return compressarc.solve(puzzle, config, key=jax.random.key(seed), **kwargs)


def test_solves_the_puzzle(solution, puzzle):
    assert solution.status == compressarc.Status.FINISHED
    assert solution.score.solved(2)
    assert any(np.array_equal(a[0], puzzle.solution[0]) for a in solution.attempts)
    assert sorted(solution.scores, reverse=True) == solution.scores
    ranks = solution.history.rank_over_time(puzzle.solution)
    assert ranks[-1] == solution.score.rank and len(ranks) == 200


def test_the_course_of_the_kl(solution):
    """Bounds of the spec's acceptance table, for any small puzzle."""
    total = solution.history.kl.sum(1)
    assert total[0] == pytest.approx(180_006, abs=3)
    assert total[1] == pytest.approx(162_850, abs=150)
    assert total[5] == pytest.approx(111_400, abs=500)
    assert 7_400 < total[50] < 8_500
    assert 600 < total[100] < 1_300
    assert np.median(solution.history.reconstruction[30:101]) < 30
    assert solution.history.kl.shape == (200, len(TYPES))


def test_equal_keys_equal_results_and_the_solution_is_not_seen(puzzle, solution):
    blind = compressarc.Puzzle(puzzle.name, puzzle.train, puzzle.test)
    again = short(blind, 60)
    np.testing.assert_array_equal(again.history.kl, solution.history.kl[:60])
    np.testing.assert_array_equal(again.history.weights, solution.history.weights[:60])
    assert again.score is None
    other = short(puzzle, 25, seed=1)
    assert not np.array_equal(other.history.kl, solution.history.kl[:25])


def test_one_compilation_for_all_seeds_and_lengths(puzzle, solution):
    before = len(programs._compiled)
    short(puzzle, 7, seed=3)
    short(puzzle, 33, seed=4)
    assert len(programs._compiled) == before > 0


def test_chunks_do_not_change_the_result(puzzle, solution):
    """Stopping in the middle of a chunk and going on takes the same steps."""
    kept = {}

    def keep(progress):
        if progress.history.steps == 25:
            kept["state"] = jax.tree.map(np.asarray, progress.run)
        return progress.history.steps == 25

    first = short(puzzle, 50, on_chunk=keep)
    assert first.status == compressarc.Status.INTERRUPTED and first.history.steps == 25
    resumed = short(puzzle, 50, resume_from=(jax.tree.map(jnp.asarray, kept["state"]), first.history))
    np.testing.assert_array_equal(resumed.history.kl, solution.history.kl[:50])
    np.testing.assert_array_equal(resumed.history.proposals, solution.history.proposals[:50])


def test_a_time_limit_leaves_an_answer(puzzle):
    limited = short(puzzle, 2000, time_limit=1e-3)
    assert limited.status == compressarc.Status.TIME_LIMIT
    assert 0 < limited.history.steps < 2000 and limited.attempts
    with pytest.raises(ValueError, match="time_limit=0"):
        short(puzzle, 5, time_limit=0)


def test_a_non_finite_loss_ends_the_run_with_the_answers_so_far(puzzle, tmp_path):
    def poison(run):
        head = run.params.heads._replace(color_bias=run.params.heads.color_bias * jnp.nan)
        return run._replace(params=run.params._replace(heads=head))

    good = short(puzzle, 25)
    history = good.history
    result = short(puzzle, 50, resume_from=(poison(good.run), history))
    assert result.status == compressarc.Status.NON_FINITE
    assert result.history.steps == 25 and result.attempts and result.run is None
    write_pictures(result, tmp_path)
    blank = short(puzzle, 25, resume_from=(poison(short(puzzle, 1).run), compressarc.History.empty()))
    assert blank.status == compressarc.Status.NON_FINITE
    assert blank.attempts[0][0].tolist() == [[0, 0], [0, 0]] and not blank.score.solved(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps=0: expected a positive integer"),
        ({"steps": 1.5}, r"steps=1\.5"),
        ({"chunk": -1}, "chunk=-1"),
        ({"learning_rate": 0.0}, r"learning_rate=0\.0"),
        ({"b1": 1.0}, r"b1=1\.0"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        compressarc.SolveConfig(**change)


def test_components_and_pictures(solution, tmp_path):
    from compressarc.analyze import components, draw_analysis
    from compressarc.draw import draw_puzzle, save
    from compressarc.report import write_result

    static = compressarc.signature(solution.puzzle.canvas)
    found = components(solution.run.params, static, key=jax.random.key(1), samples=20)
    assert found == sorted(found, key=lambda c: (-c.kl, c.index))
    for component in found:
        assert component.kl > 1 and np.abs(component.values).max() == pytest.approx(1)
        assert component.values.shape == static.shape.axes(component.type)
    paths = draw_analysis(solution, tmp_path, key=jax.random.key(1)) + write_pictures(solution, tmp_path)
    paths += [write_result(solution, tmp_path, seed=0), tmp_path / "history.npz"]
    paths.append(save(draw_puzzle(solution.puzzle), tmp_path / "puzzle.png"))
    assert all(path.stat().st_size > 1000 for path in paths)
    assert not list(tmp_path.glob(".*partial"))
