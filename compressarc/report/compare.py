"""A batch beside the published run, puzzle by puzzle, with exact intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from compressarc.batch.records import RunStatus
from compressarc.report.published import published_outcomes
from compressarc.score import Score


@dataclasses.dataclass(frozen=True)
class Proportion:
    """A share with its 95 % Clopper-Pearson interval."""

    count: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, count: int, total: int) -> Proportion:
        """Raises ValueError if there is nothing to count."""
        from scipy.stats import binomtest

        if total < 1:
            raise ValueError("no puzzle to compare: the batch has no result with a known solution yet")
        interval = binomtest(count, total).proportion_ci(0.95, method="exact")
        return cls(count, total, float(interval.low), float(interval.high))

    def __str__(self) -> str:
        share = 100 * self.count / self.total
        interval = f"{100 * self.low:.1f} to {100 * self.high:.1f} %"
        return f"{self.count} of {self.total} ({share:.1f} %, 95 %: {interval})"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Puzzles in both runs, solved with two guesses by joint answers."""

    own: Proportion
    published: Proportion
    agreement: Proportion  # puzzles that both solved, or neither
    newly_solved: tuple[str, ...]
    lost: tuple[str, ...]
    both: tuple[str, ...]
    p_value: float  # exact, two-sided, that newly solved and lost are equally likely (McNemar)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def compare_runs(own: Mapping[str, Score], published: Mapping[str, Score], guesses: int = 2) -> Comparison:
    """Joins two runs' outcomes by puzzle.

    Raises: ValueError if they have no puzzle in common.
    """
    from scipy.stats import binomtest

    common = sorted(own.keys() & published.keys())
    ours = {n for n in common if own[n].solved(guesses)}
    theirs = {n for n in common if published[n].solved(guesses)}
    newly, lost = tuple(sorted(ours - theirs)), tuple(sorted(theirs - ours))
    discordant = len(newly) + len(lost)
    return Comparison(
        Proportion.of(len(ours), len(common)),
        Proportion.of(len(theirs), len(common)),
        Proportion.of(len(common) - discordant, len(common)),
        newly,
        lost,
        tuple(sorted(ours & theirs)),
        float(binomtest(len(newly), discordant).pvalue) if discordant else 1.0,
    )


def scores_of(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Score]:
    """Scores from a batch's result files; left out: unfinished puzzles, those without a known solution."""
    return {
        name: Score(r["rank_of_solution"], r["official_score"])
        for name, r in results.items()
        if "official_score" in r and r["status"] != RunStatus.RUNNING
    }


def compare_with_published(results: Mapping[str, Mapping[str, Any]], split: str) -> Comparison:
    """A batch's results (`RunFolder.results`) beside the published run of the same split.

    Raises: ValueError for an unpublished split, or if there is nothing to compare.
    """
    return compare_runs(scores_of(results), published_outcomes(split))
