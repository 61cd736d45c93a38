"""Words in finite groups: every symbol is an element, the output numbers their product so far.

Harder tasks than the published ones. Elements are permutations, numbered in lexicographic order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from mips.tasks.task import Channel, Step, Task, scan

Permutation = tuple[int, ...]


def _closure(generators: Iterable[Permutation]) -> list[Permutation]:
    elements = set(generators)
    while True:
        products = {tuple(a[i] for i in b) for a in elements for b in elements}
        if products <= elements:
            return sorted(elements)
        elements |= products


def _word_problem(name: str, elements: list[Permutation], description: str) -> Task:
    number = {element: i for i, element in enumerate(elements)}
    table = np.array([[number[tuple(b[i] for i in a)] for b in elements] for a in elements])
    identity = number[tuple(range(len(elements[0])))]

    def reference(x: Channel) -> Channel:
        def step(state: Step, symbol: Int[np.ndarray, "count 1"]) -> tuple[Step, Step]:
            state = table[state, symbol[:, 0]]
            return state, state

        return scan(step, np.full(len(x), identity), x)

    return Task(name, reference, 0, len(elements), description=description)


TASKS: tuple[Task, ...] = ()

HARDER = (
    _word_problem("Group_S3", list(itertools.permutations(range(3))), "product in the symmetric group S_3"),
    _word_problem(
        "Group_D4", _closure([(1, 2, 3, 0), (0, 3, 2, 1)]), "product in the symmetries of the square"
    ),
)
