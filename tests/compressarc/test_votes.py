"""Ways to count votes, on made-up records whose outcome is known."""

import numpy as np
import pytest

from benchmarks.compressarc_votes import cut, paired, settled_at
from compressarc.report.compare import compare_runs
from compressarc.score import Score
from compressarc.solver.history import History
from compressarc.solver.ranking import Ranking
from compressarc.solver.voting import VOTES, count_votes, ranks_over_time


def answer(number):
    return (np.full((2, 2), number, np.int8),)


def record(sequence, weights=None, kl=100.0):
    """A run that proposes the numbered answers, one a step from sample and average alike."""
    ranking = Ranking()
    proposals = np.array(
        [[ranking.vote(answer(n), 0.0, i).order] * 2 for i, n in enumerate(sequence)], np.int32
    )
    steps = len(sequence)
    values = (
        np.zeros((steps, 2), np.float32) if weights is None else np.stack([weights] * 2, 1).astype(np.float32)
    )
    length = np.broadcast_to(np.asarray(kl, np.float32), (steps,))
    return History(
        np.repeat(length[:, None] / 18, 18, 1), np.zeros(steps, np.float32), proposals, values, ranking
    )


def test_decay_prefers_the_newer():
    history = record([1] * 300 + [2] * 200)
    first = {vote: count_votes([history], vote).ranked()[0].answer[0][0, 0] for vote in VOTES}
    assert first["paper"] == 1 and first["decay-100"] == 2 and first["decay-1000"] == 1


def test_description_length_prefers_the_shorter():
    history = record([1] * 200 + [2] * 100, kl=[400.0] * 200 + [200.0] * 100)
    assert count_votes([history], "paper").ranked()[0].answer[0][0, 0] == 1
    assert count_votes([history], "description-30").ranked()[0].answer[0][0, 0] == 2


def test_counting_ignores_certainty_after_the_burn_in():
    history = record([1] * 160 + [2] * 20, weights=[0.0] * 160 + [-9.0] * 20)
    assert count_votes([history], "paper").rank(answer(1)) == 1
    assert count_votes([history], "count").rank(answer(2)) == 1


def test_ranks_over_time_end_where_the_count_ends():
    rng = np.random.default_rng(0)
    runs = [record(rng.integers(5, size=60), rng.standard_normal(60)) for _ in range(2)]
    for vote in ("paper", "decay-100"):
        for number in range(5):
            ranks = ranks_over_time(runs, answer(number), vote)
            assert ranks[-1] == count_votes(runs, vote).rank(answer(number))
            middle = count_votes([cut(h, 30) for h in runs], vote).rank(answer(number)) or 0
            assert ranks[29] == middle
    assert not ranks_over_time(runs, answer(9)).any()


def test_paired_comparisons():
    row = paired([1, 1, 3, None, 2], [3, 1, 1, 1, 2])
    assert (row["solved"], row["newly"], row["lost"]) == (3, 1, 2)
    assert (row["rank_better"], row["rank_worse"]) == (1, 1) and row["p"] == pytest.approx(1.0)
    own = {n: Score(1 if n < "c" else None, 0.0) for n in "abcd"}
    theirs = {n: Score(2 if n > "a" else None, 0.0) for n in "abcde"}
    found = compare_runs(own, theirs)
    assert (found.newly_solved, found.lost, found.both) == (("a",), ("c", "d"), ("b",))
    assert found.p_value == pytest.approx(1.0) and found.own.total == 4
    with pytest.raises(ValueError, match="no puzzle to compare"):
        compare_runs({}, theirs)


def test_a_quiet_run_settles_after_the_burn_in_only():
    assert settled_at(record([1, 2] * 200), 100, 25) == 250
    assert settled_at(record([1] * 240 + [2] * 160), 100, 25) < 400
    assert settled_at(record([1, 2] * 200), 1000, 25) == 400
