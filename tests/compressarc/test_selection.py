"""Answer selection, replayed against the reference's record."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compressarc import load_puzzle
from compressarc.network.inputs import grids, signature
from compressarc.solver.candidates import TestOutputs as Outputs  # pytest would collect a class named Test...
from compressarc.solver.candidates import candidates, init_ema, update_ema
from compressarc.solver.ranking import Ranking, answer_key, crop_answer
from tests.conftest import DATA, SHARED

RECORDED = ("f9012d9b", "c8f0f002", "794b24be", "a61ba2ce")


def recording():
    path = SHARED / "selection.npz" if SHARED.exists() else DATA / "selection.npz"
    return np.load(path)


@pytest.mark.parametrize("name", RECORDED if SHARED.exists() else RECORDED[:2])
def test_replay(name):
    with recording() as file:
        record = {k.split("/")[1]: file[k] for k in file.files if k.startswith(name + "/")}
    canvas = load_puzzle(name).canvas
    static, data = signature(canvas), grids(canvas)
    ema, ranking = init_ema(static), Ranking()
    propose = jax.jit(candidates)
    known = [tuple(g[(g >= 0).any(1)][:, (g >= 0).any(0)] for g in answer) for answer in record["answers"]]
    numbers = {answer_key(answer): i for i, answer in enumerate(known)}
    for i, t in enumerate(record["train_step"]):
        current = Outputs(
            jnp.asarray(record["logits"][i].transpose(1, 2, 3, 0)),
            jnp.asarray(record["x_mask"][i]),
            jnp.asarray(record["y_mask"][i]),
        )
        ema = update_ema(ema, current)
        found = jax.device_get(propose(current, ema, data, jnp.int32(t)))
        np.testing.assert_allclose(found.weight, record["weight"][i], rtol=1e-5, atol=1e-5)
        for c in range(2):
            answer = crop_answer(found.colors[c], found.crop[c], canvas.colors)
            assert numbers[answer_key(answer)] == record["candidate_answer"][i, c]
            ranking.vote(answer, found.weight[c], int(t))
        if len(ranking) > 1 and record["top2_answer"][i, 0] != record["top2_answer"][i, 1]:
            top = [numbers[answer_key(a)] for a in ranking.attempts()]
            assert top == list(record["top2_answer"][i])
    for entry in ranking:
        expected = record["final_score"][numbers[answer_key(entry.answer)]]
        assert entry.score == pytest.approx(expected, abs=1e-5, rel=1e-5)
    np.testing.assert_allclose(ema.logits.transpose(3, 0, 1, 2), record["ema_logits"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ema.x_mask, record["ema_x_mask"], rtol=1e-5, atol=1e-5)


def test_votes_add_as_probabilities_and_ties_rank_by_first_appearance():
    ranking = Ranking()
    a, b = (np.zeros((1, 2), int),), (np.zeros((2, 1), int),)
    ranking.vote(a, -2.0, 0)
    ranking.vote(b, -2.0, 0)
    assert ranking.rank(a) == 1 and ranking.rank(b) == 2  # same bytes, other shape: two answers
    ranking.vote(b, -2.0, 1)
    assert ranking.ranked()[0].score == pytest.approx(np.log(2 * np.exp(-2.0)))
    assert ranking.rank(b) == 1 and ranking.find(b).votes == 2
    assert ranking.rank((np.ones((1, 2), int),)) is None


def test_before_a_second_answer_both_attempts_are_the_first():
    ranking = Ranking()
    with pytest.raises(ValueError, match="no candidate"):
        ranking.attempts()
    ranking.vote((np.zeros((1, 1), int),), -1.0, 0)
    first, second = ranking.attempts()
    assert first is second
