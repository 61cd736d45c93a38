"""Sequences that a task's own distribution hardly ever draws: constant, sorted, sticky, mirrored, ..."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from mips.tasks.task import Inputs, Task

Kind = Int[np.ndarray, "_of_a_kind length inputs"]


def skewed(task: Task, seed: int | tuple[int, ...], count: int, length: int) -> Inputs:
    """At least `count` sequences over the task's alphabet (what is recorded of it), as many of each kind.

    Kinds: one symbol alone; two symbols alone; sticky (a step repeats the one before with probability 0.8);
    sorted upwards and downwards; mirrored; periodic (period 2 to 4); one other symbol in a run of equal ones.
    """
    rng = np.random.default_rng(seed)
    each = -(-count // 8)

    recorded = task.recorded_steps

    def draw(steps: int) -> Int[np.ndarray, "_each _of inputs"]:
        if recorded is not None:
            return recorded[rng.integers(len(recorded), size=(each, steps))]
        return rng.integers(task.low, task.high, size=(each, steps, task.inputs))

    def rows(index: Int[np.ndarray, "_rows _steps"], of: Int[np.ndarray, "_each _of inputs"]) -> Kind:
        index = np.broadcast_to(index, (each, length))
        return np.take_along_axis(of, index[..., None], axis=1)

    steps = np.arange(length)
    two = rng.integers(0, 2, size=(each, length))
    changes = rng.random((each, length)) >= 0.8
    changes[:, 0] = True
    since = np.maximum.accumulate(np.where(changes, steps, 0), axis=1)
    ascending = np.sort(draw(length), axis=1)
    whole = rng.integers(1, length + 1, size=(each, 1))  # mirrored up to here
    mirror = np.where(steps < whole, np.minimum(steps, np.maximum(whole - 1 - steps, 0)), steps)
    one = steps == rng.integers(0, length, size=(each, 1))
    kinds = [
        rows(np.zeros((1, length), np.int64), draw(1)),
        rows(two, draw(2)),
        rows(since, draw(length)),
        ascending,
        np.sort(draw(length), axis=1)[:, ::-1],
        rows(mirror, draw(length)),
        rows(steps % rng.integers(2, 5, size=(each, 1)), draw(4)),
        rows(one.astype(np.int64), draw(2)),
    ]
    return np.concatenate(kinds).astype(np.int64)
