"""The vote: every candidate answer ever seen, with its accumulated score (host side).

An answer is the joint answer for all test outputs, in color values. Scores add as
probabilities do: score <- logaddexp(score, weight). The key is the grids' own bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from compressarc.grid import Grid

Answer = tuple[Grid, ...]
"""One grid of color values per test output."""


def answer_key(answer: Sequence[ArrayLike]) -> bytes:
    """Bytes that two answers share exactly if all their grids are equal."""
    parts = []
    for grid in (np.asarray(g, np.int8) for g in answer):
        parts.append(bytes(grid.shape) + grid.tobytes())
    return b"".join(parts)


def added(score: float, weight: float | np.floating) -> float:
    """An answer's score after one more vote: scores are logs of summed weights, in double precision."""
    return float(np.logaddexp(score, float(weight)))  # a float32 would make the sum one


Votes = Iterable[tuple[Int[np.ndarray, " votes"], Float[np.ndarray, " votes"]]]
"""Numbers of the answers proposed and their log-weights, step by step; -inf for no vote."""


def scores_over_time(answers: int, votes: Votes) -> Iterator[Float[np.ndarray, " answers"]]:
    """Every answer's score after each step, -inf where not yet proposed: one array, which changes."""
    scores = np.full(answers, -np.inf)
    for numbers, weights in votes:
        for number, weight in zip(numbers, weights, strict=True):
            if weight > -np.inf:  # not of a skipped step
                scores[number] = added(float(scores[number]), weight)
        yield scores


def rank_among(scores: Float[np.ndarray, " answers"], number: int) -> int:
    """1-based rank of an answer, equal scores ranking by first appearance; 0 if not yet proposed."""
    own = scores[number]
    if not np.isfinite(own):
        return 0
    return 1 + int((scores > own).sum() + (scores[:number] == own).sum())


@dataclasses.dataclass
class Entry:
    """One answer's standing in the vote."""

    answer: Answer
    score: float  # log of the summed weights
    first_step: int  # 0-based step at which it was first proposed
    votes: int  # how often it was proposed
    order: int  # place among the answers by first appearance; breaks ties of score


class Ranking:
    """The score table of one puzzle. Deterministic: equal scores rank by first appearance."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Entries by first appearance."""
        return iter(self._entries.values())

    def vote(self, answer: Sequence[ArrayLike], weight: float | np.floating, step: int) -> Entry:
        """Adds one candidate; returns its entry."""
        key = answer_key(answer)
        entry = self._entries.get(key)
        if entry is None:
            grids = tuple(np.array(g, np.int8) for g in answer)
            entry = Entry(grids, float(weight), step, 1, len(self._entries))
            self._entries[key] = entry
        else:
            entry.score = added(entry.score, weight)
            entry.votes += 1
        return entry

    def find(self, answer: Sequence[ArrayLike]) -> Entry | None:
        """The entry of an answer, or None if it was never proposed."""
        return self._entries.get(answer_key(answer))

    def ranked(self) -> list[Entry]:
        """All entries, best first."""
        return sorted(self._entries.values(), key=lambda e: (-e.score, e.order))

    def rank(self, answer: Sequence[ArrayLike]) -> int | None:
        """1-based rank of an answer, or None if it was never proposed."""
        found = self.find(answer)
        if found is None:
            return None
        better = sum((-e.score, e.order) < (-found.score, found.order) for e in self._entries.values())
        return better + 1

    def attempts(self) -> tuple[Answer, Answer]:
        """The two answers to submit; the first one twice while there is no second."""
        best = self.ranked()[:2]
        if not best:
            raise ValueError("no candidate has been proposed yet")
        return best[0].answer, best[-1].answer


def crop_answer(
    colors: Int[np.ndarray, "T X Y"], crop: Int[np.ndarray, "T 2 2"], values: Int[np.ndarray, " C1"]
) -> Answer:
    """Cuts a candidate's canvases [T, X, Y] to its crops [T, 2, 2], in color values."""
    answer = []
    for canvas, ((x, h), (y, w)) in zip(colors, crop, strict=True):
        answer.append(values[canvas[x : x + h, y : y + w]].astype(np.int8))
    return tuple(answer)
