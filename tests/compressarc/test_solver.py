"""The solver on a real puzzle; one compiled program serves all tests here."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import compressarc
from compressarc.multitensor import TYPES
from compressarc.report.solution_files import write_pictures, write_result
from compressarc.solver import program_cache as programs
from compressarc.solver.checkpoints import pack_answers, replay
from compressarc.solver.history import History
from compressarc.solver.moments import as_trees, as_vectors
from compressarc.solver.voting import VOTES, count_votes
from tests.compressarc import made_up, zoo

MANY_STEPS = True
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
    """What a first run of any small puzzle must show."""
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


def advance(puzzle, run, data, count):
    """Some steps with the program that the solver uses."""
    from compressarc.solver.step import chunk_program

    static, key = compressarc.signature(puzzle.canvas), jax.random.split(jax.random.key(0))[1]
    program = chunk_program(run, data, key, static, compressarc.SolveConfig().program)
    copy = jax.tree.map(jnp.array, run)  # the state is donated
    return program(copy, data, jnp.int32(count), key)


def test_a_step_that_is_not_finite_is_skipped(puzzle):
    """State, moments, average and votes as before the step; the next step has its own noise."""
    data = compressarc.grids(puzzle.canvas)
    broken = data._replace(target=data.target * jnp.nan)
    start = short(puzzle, 25)
    after, info = advance(puzzle, start.run, broken, 3)
    for one, other in zip(
        jax.tree.leaves(start.run._replace(step=0)), jax.tree.leaves(after._replace(step=0)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert int(after.step) == 28 and np.isneginf(np.asarray(info.candidates.weight)[:3]).all()
    votes = {e.order: (e.score, e.votes) for e in start.history.ranking}
    assert start.history.append(jax.device_get(info), 3, puzzle.canvas.colors)
    assert {e.order: (e.score, e.votes) for e in start.history.ranking} == votes
    np.testing.assert_array_equal(start.history.skipped, np.arange(28) >= 25)
    np.testing.assert_array_equal(start.history.kl[25:], start.history.kl[[24] * 3])
    resumed = short(puzzle, 50, resume_from=(after, start.history))
    assert resumed.status == compressarc.Status.FINISHED and resumed.history.skipped.sum() == 3
    assert resumed.history.ranking.ranked()[0].votes > 0 and np.isfinite(resumed.history.kl).all()


def test_ten_skipped_steps_in_a_row_end_the_run_with_the_answers_so_far(puzzle, tmp_path):
    def poison(run):
        head = run.params.heads._replace(color_bias=run.params.heads.color_bias * jnp.nan)
        return run._replace(params=run.params._replace(heads=head))

    good = short(puzzle, 25)
    before = [e.score for e in good.history.ranking]
    result = short(puzzle, 50, resume_from=(poison(good.run), good.history))
    assert result.status == compressarc.Status.NON_FINITE
    assert result.history.steps == 35 and result.history.skipped.sum() == 10
    assert [e.score for e in result.history.ranking] == before and result.attempts
    write_pictures(result, tmp_path)
    blank = short(puzzle, 25, resume_from=(poison(short(puzzle, 1).run), compressarc.History.empty()))
    assert blank.status == compressarc.Status.NON_FINITE and blank.history.steps == 10
    assert blank.attempts[0][0].tolist() == [[0, 0], [0, 0]] and not blank.score.solved(2)
    assert not blank.history.leaders().any() and not blank.history.rank_over_time(puzzle.solution).any()
    write_pictures(blank, tmp_path)
    write_result(blank, tmp_path)
    assert (
        json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)["skipped_steps"] == 10
    )


@pytest.mark.parametrize("chunk", [1, 3, 7, 40])
@pytest.mark.parametrize(
    ("bad", "steps"),
    [([], 40), ([0, 1], 40), ([39], 40), (range(5, 14), 40), (range(5, 15), 15), ([*range(9), *range(10, 19)], 40),
     (range(10), 10), ([*range(3, 12), *range(20, 33)], 30)],
)  # fmt: skip
def test_skipped_steps_are_counted_however_a_run_is_cut(bad, steps, chunk):
    skipped = np.isin(np.arange(40), list(bad))
    info, history = made_up.chunk(skipped), History.empty()
    for start in range(0, 40, chunk):
        part = jax.tree.map(lambda a, s=start: a[s : s + chunk], info)
        if not history.append(part, len(part.reconstruction), np.arange(10)):
            break
    assert history.steps == steps == len(history.kl) == len(history.proposals)
    np.testing.assert_array_equal(history.skipped, skipped[:steps])
    good = np.flatnonzero(~skipped[:steps])
    np.testing.assert_array_equal(history.reconstruction[good], good + 1)
    assert sum(e.votes for e in history.ranking) == 2 * len(good)
    for i in np.flatnonzero(history.skipped):
        before = good[good < i]
        if len(before):
            np.testing.assert_array_equal(history.kl[i], history.kl[before[-1]])
        else:
            assert np.isnan(history.kl[i]).all() and (history.proposals[i] == -1).all()
    for vote in VOTES:
        table = count_votes([history], vote)
        assert sum(e.votes for e in table) == 2 * len(good) and all(np.isfinite(e.score) for e in table)
    arrays = {k: getattr(history, k) for k in ("kl", "reconstruction", "proposals", "weights")}
    again = replay(arrays, pack_answers(history.ranking))
    assert [(e.score, e.votes) for e in again.ranking] == [(e.score, e.votes) for e in history.ranking]


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
    from compressarc.network.components import components
    from compressarc.report.analysis_figures import draw_analysis
    from compressarc.report.figures import draw_puzzle, save

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


def test_moments_in_files_are_as_plain_adam_has_them(solution):
    run = jax.tree.map(np.asarray, solution.run)
    trees, program = as_trees(run), compressarc.SolveConfig().program
    plain = optax.adam(program.learning_rate).init(run.params)
    assert jax.tree.structure(trees.optimizer) == jax.tree.structure(plain)
    shapes = [a.shape for a in jax.tree.leaves(plain)]
    assert [a.shape for a in jax.tree.leaves(trees.optimizer)] == shapes
    jax.tree.map(np.testing.assert_array_equal, as_vectors(trees), run)
    assert np.ptp(np.asarray(trees.optimizer[0].mu.heads.color_weight)) > 0


def test_a_state_to_go_on_from_stays_as_it_is():
    puzzle, config = compressarc.load_puzzle("6f8cd79b"), compressarc.SolveConfig(steps=50)
    begun = compressarc.solve(puzzle, compressarc.SolveConfig(steps=25), seed=0)
    for _ in range(2):
        longer = compressarc.solve(puzzle, config, seed=0, resume_from=(begun.run, begun.history))
        assert longer.history.steps == 50 and begun.history.steps == 25
        assert np.isfinite(np.asarray(begun.run.ema.logits)).all()
    whole = compressarc.solve(puzzle, config, seed=0)
    np.testing.assert_array_equal(longer.history.kl, whole.history.kl)
    with pytest.raises(ValueError, match="not of puzzle unknown"):
        compressarc.solve(zoo.UNKNOWN, config, seed=0, resume_from=(begun.run, begun.history))
    with pytest.raises(TypeError, match="resume_from: expected a state and its history"):
        compressarc.solve(puzzle, config, seed=0, resume_from=5)


def test_a_stop_before_the_compilation_compiles_no_step():
    told = []
    stopped = compressarc.solve(
        zoo.SAME,
        compressarc.SolveConfig(steps=3, chunk=3),
        seed=0,
        stop_when=lambda: True,
        on_compile=told.append,
    )
    assert stopped.status == "interrupted" and stopped.history.steps == 0 and not told


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": 2**32}, ValueError, "at most 4294967295"),
        ({"seed": True}, ValueError, "seed=True"),
        ({"seed": 0, "config": {"steps": 5}}, TypeError, "expected a SolveConfig, got dict"),
        ({"seed": 0, "time_limit": "x"}, ValueError, "time_limit='x'"),
    ],
)
def test_wrong_arguments_of_solve(arguments, error, message):
    with pytest.raises(error, match=message):
        compressarc.solve(zoo.SAME, **arguments)


@pytest.mark.parametrize(
    "settings",
    [{"learning_rate": True}, {"apply_pre_norm": "no"}, {"symmetric_softmax": 1}, {"chunk": 10**9}],
)
def test_wrong_settings(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name}="):
        compressarc.SolveConfig(**settings)


@pytest.mark.usefixtures("types_unchecked")  # NumPy's are taken, and become Python's
def test_settings_may_be_numpys():
    assert compressarc.SolveConfig(apply_pre_norm=np.True_).apply_pre_norm is True
