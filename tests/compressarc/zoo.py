"""Small puzzles for tests, one per size rule."""

from __future__ import annotations

import numpy as np

from compressarc.puzzle import Puzzle


def random_grid(rng, shape, colors=(0, 1, 2)):
    return rng.choice(np.array(colors, np.int8), size=shape)


def make(name, train_sizes, test_sizes, colors=(0, 1, 2), seed=0, truth_sizes=None):
    """A puzzle with random grids. Sizes: (input, output) per train pair; inputs of the tests."""
    rng = np.random.default_rng(seed)
    train = tuple(tuple(random_grid(rng, s, colors) for s in pair) for pair in train_sizes)
    test = tuple(random_grid(rng, s, colors) for s in test_sizes)
    solution = None
    if truth_sizes is not None:
        solution = tuple(random_grid(rng, s, colors) for s in truth_sizes)
    return Puzzle(name, train, test, solution)


SAME = make("same", [((3, 4), (3, 4))] * 2, [(3, 4)], truth_sizes=[(3, 4)])
VARYING = make("varying", [((3, 3), (3, 3)), ((2, 4), (2, 4))], [(3, 2), (1, 4)], colors=(0, 1, 3, 5))
FIXED_OUTPUT = make("fixed", [((4, 3), (2, 2)), ((3, 4), (2, 2))], [(4, 4)], colors=(1, 2, 7))
UNKNOWN = make("unknown", [((4, 3), (2, 3)), ((3, 4), (3, 1))], [(4, 4)], colors=(0, 4))
SQUARE = make("square", [((4, 4), (4, 4))] * 2, [(4, 4)], colors=(0, 1, 2, 3))
ALL = (SAME, VARYING, FIXED_OUTPUT, UNKNOWN)
