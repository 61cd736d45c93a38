"""The run published with the paper, for comparison: which puzzles it solved, and when."""

from __future__ import annotations

import functools
import importlib.resources
import json
from typing import Any

import numpy as np
from jaxtyping import Int

from compressarc.score import Score

STEPS = 2000


@functools.cache
def _data() -> dict[str, Any]:
    return json.loads(importlib.resources.files("compressarc.report").joinpath("published.json").read_text())


def published_outcomes(split: str) -> dict[str, Score]:
    """Per puzzle: guesses needed after 2000 steps (None: more than two) and official score.

    Raises: ValueError for a split that was not published.
    """
    if split not in _data()["solves"]:
        raise ValueError(f"no published run of split {split!r}; there are {sorted(_data()['solves'])}")
    return {name: Score(rank, score) for name, (rank, score) in _data()["solves"][split].items()}


def published_curve(split: str) -> Int[np.ndarray, " steps"]:
    """Puzzles of 400 solved with two guesses after each of 2000 steps (online top two)."""
    out = np.zeros(STEPS, np.int64)
    for step, count in _data()["curve"][split]:
        out[step - 1 :] = count
    return out


def published_table(split: str) -> dict[str, dict[str, float]]:
    """The paper's table: per number of steps, hours and pass@n in percent of 400."""
    return _data()["table"][split]


def published_seconds(split: str) -> float:
    """Seconds of the whole split on one RTX 4070, one puzzle after another."""
    return float(_data()["seconds"][split])
