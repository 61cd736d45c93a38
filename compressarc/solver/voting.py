"""Ways to count votes, each a function of what was proposed when (paper, "solution selection").

The paper's vote is the default. All variants start from the same record of a run: two
proposals a step with their log-weights, and the description length at that step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from compressarc.config import unknown
from compressarc.network.loss import RECONSTRUCTION_WEIGHT
from compressarc.solver.candidates import BURN_IN_PENALTY, BURN_IN_STEPS
from compressarc.solver.history import History
from compressarc.solver.ranking import Ranking, rank_among, scores_over_time

LogWeights = Float[np.ndarray, "steps 2"]
Weights = Callable[[History], LogWeights]


def _paper(history: History) -> LogWeights:
    return history.weights


def _decayed(half_life: float) -> Weights:
    """Newer votes weigh more: the log-weight grows by ln 2 every `half_life` steps."""

    def weights(history: History) -> LogWeights:
        age = np.arange(history.steps)[:, None]
        return history.weights + np.log(2) / half_life * age

    return weights


def _description(scale: float) -> Weights:
    """As the paper's, times exp(-length / scale), the length (KL + 10 nll) averaged over 25 steps."""

    def weights(history: History) -> LogWeights:
        length = np.nan_to_num(history.kl.sum(1) + RECONSTRUCTION_WEIGHT * history.reconstruction)
        total = np.cumsum(np.concatenate([[0.0], length]))
        low = np.maximum(0, np.arange(1, len(length) + 1) - 25)
        mean = (total[1:] - total[low]) / (np.arange(1, len(length) + 1) - low)
        return history.weights - mean[:, None] / scale

    return weights


def _counted(history: History) -> LogWeights:
    """One proposal, one vote, whatever its certainty; none in the first 150 steps."""
    early = np.arange(history.steps)[:, None] < BURN_IN_STEPS
    counted = np.where(early, -BURN_IN_PENALTY, np.zeros_like(history.weights))
    return np.where(history.skipped[:, None], -np.inf, counted)


VOTES: dict[str, Weights] = {
    "paper": _paper,
    "decay-1000": _decayed(1000),
    "decay-300": _decayed(300),
    "decay-100": _decayed(100),
    "description-100": _description(100),
    "description-30": _description(30),
    "count": _counted,
}


def vote_weights(name: str) -> Weights:
    """A vote by name. Raises ValueError with what there is."""
    if name not in VOTES:
        raise unknown("vote", name, VOTES)
    return VOTES[name]


def count_votes(histories: Sequence[History], vote: str = "paper") -> Ranking:
    """Counts the votes of several runs (seeds) of one puzzle in one table.

    Scores of equal answers add as probabilities do, over steps and over seeds.
    """
    weigh, total = vote_weights(vote), Ranking()
    for history in histories:
        answers = [entry.answer for entry in history.ranking]
        for step, (numbers, weights) in enumerate(zip(history.proposals, weigh(history), strict=True)):
            for number, weight in zip(numbers, weights, strict=True):
                if weight > -np.inf:  # not of a skipped step
                    total.vote(answers[number], weight, step)
    return total


def ranks_over_time(
    histories: Sequence[History], answer: Sequence[ArrayLike], vote: str = "paper"
) -> Int[np.ndarray, " steps"]:
    """Rank of an answer after each step of all seeds, (most steps of any,); 0 where not yet proposed."""
    weigh, table = vote_weights(vote), count_votes(histories, vote)
    found, steps = table.find(answer), max((h.steps for h in histories), default=0)
    if found is None:
        return np.zeros(steps, np.int32)
    numbers = [_numbers_in(table, h) for h in histories]
    weights = [weigh(h) for h in histories]

    def votes() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for step in range(steps):
            going = [i for i, history in enumerate(histories) if step < history.steps]
            yield (
                np.concatenate([numbers[i][step] for i in going]),
                np.concatenate([weights[i][step] for i in going]),
            )

    return np.array([rank_among(s, found.order) for s in scores_over_time(len(table), votes())], np.int32)


def _numbers_in(table: Ranking, history: History) -> Int[np.ndarray, "steps 2"]:
    """A history's proposals by their places in a table of several histories' votes."""
    entries = [table.find(entry.answer) for entry in history.ranking]
    places = np.array([-1 if entry is None else entry.order for entry in entries] + [-1], np.int32)
    return places[history.proposals]  # of steps without a proposal: -1
