"""What happened in a run, step by step, and the vote that came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from compressarc.solver.ranking import Answer, Ranking, crop_answer, rank_among, scores_over_time
from compressarc.solver.step import StepInfo

MOST_SKIPPED = 10
"""Steps in a row that are not finite, after which a run is given up."""


def _ten_in_a_row(skipped: Bool[np.ndarray, " steps"]) -> int | None:
    """Steps until, and with, the first `MOST_SKIPPED` of them that were skipped in a row."""
    if len(skipped) < MOST_SKIPPED:
        return None
    ends = np.flatnonzero(np.convolve(skipped, np.ones(MOST_SKIPPED), "valid") == MOST_SKIPPED)
    return int(ends[0]) + MOST_SKIPPED if len(ends) else None


@dataclasses.dataclass
class History:
    """What happened step by step, and the vote that came of it.

    A step that was skipped because it was not finite repeats the values of the step before (NaN
    and -1 if there is none) with log-weights -inf, so that its votes count nothing.
    """

    kl: Float[np.ndarray, "steps 18"]  # nats per tensor type
    reconstruction: Float[np.ndarray, " steps"]  # nats
    proposals: Int[np.ndarray, "steps 2"]  # number of the answer proposed by sample and EMA
    weights: Float[np.ndarray, "steps 2"]  # log-weights of these votes
    ranking: Ranking
    seconds: float = 0.0  # in steps and the vote, of all processes that have worked on the run

    @classmethod
    def empty(cls) -> History:
        return cls(
            np.zeros((0, 18), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, 2), np.int32),
            np.zeros((0, 2), np.float32),
            Ranking(),
        )

    @property
    def steps(self) -> int:
        """Steps taken, skipped ones among them."""
        return len(self.reconstruction)

    @property
    def skipped(self) -> Bool[np.ndarray, " steps"]:
        """Bool (steps,): which steps were not finite and left no trace."""
        return (self.weights == -np.inf).all(1)

    @property
    def given_up(self) -> bool:
        """Whether `MOST_SKIPPED` steps in a row were skipped."""
        return _ten_in_a_row(self.skipped) is not None

    def append(self, info: StepInfo, count: int, colors: Int[np.ndarray, " C1"]) -> bool:
        """Adds the first `count` steps of a chunk, at most until `MOST_SKIPPED` in a row were skipped.

        colors: color value of each color index. Returns whether the run is to go on.
        """
        weights = np.asarray(info.candidates.weight)[:count]
        skipped = (weights == -np.inf).all(1)
        given_up = _ten_in_a_row(np.concatenate([self.skipped, skipped]))
        taken = count if given_up is None else given_up - self.steps
        grids_, crops = np.asarray(info.candidates.colors), np.asarray(info.candidates.crop)
        proposals = np.full((taken, 2), -1, np.int32)
        for i in np.flatnonzero(~skipped[:taken]):
            for c in range(2):
                answer = crop_answer(grids_[i, c], crops[i, c], colors)
                entry = self.ranking.vote(answer, weights[i, c], self.steps + int(i))
                proposals[i, c] = entry.order
        # For each step the last good one, counted from 1 within this chunk; 0 is what came before.
        source = np.maximum.accumulate(np.where(skipped[:taken], 0, np.arange(1, taken + 1)))

        def longer(
            so_far: Shaped[np.ndarray, " steps *rest"],
            chunk: Shaped[np.ndarray, " chunk *rest"],
            nothing: float,
        ) -> Shaped[np.ndarray, " longer *rest"]:
            before = so_far[-1:] if len(so_far) else np.full((1, *so_far.shape[1:]), nothing, so_far.dtype)
            return np.concatenate([so_far, np.concatenate([before, chunk[:taken]])[source]])

        self.kl = longer(self.kl, np.asarray(info.kl), np.nan)
        self.proposals = longer(self.proposals, proposals, -1)
        self.weights = np.concatenate([self.weights, weights[:taken]])
        self.reconstruction = longer(self.reconstruction, np.asarray(info.reconstruction), np.nan)
        return given_up is None

    def scores_over_time(self) -> Iterator[Float[np.ndarray, " answers"]]:
        """Score of every answer after each step, by first appearance: one array, which changes."""
        return scores_over_time(len(self.ranking), zip(self.proposals, self.weights, strict=True))

    def rank_over_time(self, answer: Answer) -> Int[np.ndarray, " steps"]:
        """Rank of one answer in the vote after each step, (steps,); 0 where not yet proposed."""
        found = self.ranking.find(answer)
        if found is None:
            return np.zeros(self.steps, np.int32)
        return np.array([rank_among(scores, found.order) for scores in self.scores_over_time()], np.int32)

    def leaders(self) -> Int[np.ndarray, " steps"]:
        """Number of the leading answer after each step, (steps,)."""
        if not len(self.ranking):
            return np.zeros(self.steps, np.int32)
        return np.array([scores.argmax() for scores in self.scores_over_time()], np.int32)
