"""A puzzle, and the canvas on which it is compressed (paper, "preprocessing")."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from compressarc.grid import Grid, _checked
from compressarc.multitensor import Shape

USUAL_SIDE = 30
"""Longest side of ARC's grids."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Puzzle:
    """One ARC puzzle.

    `solution` is used for scoring and pictures only; the solver never sees it.
    """

    name: str
    train: tuple[tuple[Grid, Grid], ...]  # demonstration (input, output) pairs
    test: tuple[Grid, ...]  # test inputs
    solution: tuple[Grid, ...] | None = None  # one per test input, None if unknown
    source: str = ""  # where it was read from, dataset version included

    def __post_init__(self) -> None:
        where = f"puzzle {self.name}"
        try:
            train = tuple(
                (_checked(a, f"{where}: train[{i}][0]"), _checked(b, f"{where}: train[{i}][1]"))
                for i, (a, b) in enumerate(self.train)
            )
        except TypeError as error:
            raise TypeError(f"{where}: train: expected pairs of grids ({error})") from error
        object.__setattr__(self, "train", train)
        for name, grids in (("test", self.test), ("solution", self.solution)):
            if grids is not None:
                checked = tuple(_checked(g, f"{where}: {name}[{i}]") for i, g in enumerate(grids))
                object.__setattr__(self, name, checked)
        if not self.train:
            raise ValueError(f"puzzle {self.name}: no train pair; at least one is needed")
        if not self.test:
            raise ValueError(f"puzzle {self.name}: no test pair; at least one is needed")
        if self.solution is not None and len(self.solution) != len(self.test):
            raise ValueError(
                f"puzzle {self.name}: {len(self.solution)} solution{'s' * (len(self.solution) != 1)} for "
                f"{len(self.test)} test input{'s' * (len(self.test) != 1)}"
            )

    @functools.cached_property
    def canvas(self) -> Canvas:
        return Canvas.of(self)

    def __repr__(self) -> str:
        s = self.canvas.shape
        known = "" if self.solution is not None else ", solution unknown"
        return f"Puzzle({self.name!r}, {len(self.train)} train, {len(self.test)} test, {s.x} x {s.y}{known})"

    def _repr_html_(self) -> str:
        """All pairs, for notebooks."""
        from compressarc.grid_html import MOST_ROWS, rows_html

        rows = [[(f"train {n} input", a, None), ("output", b, None)] for n, (a, b) in enumerate(self.train)]
        left_out = sum(max(0, len(pairs) - MOST_ROWS) for pairs in (self.train, self.test))
        del rows[MOST_ROWS:]
        for n, grid in enumerate(self.test[:MOST_ROWS]):
            truth = [] if self.solution is None else [("output", self.solution[n], None)]
            rows.append([(f"test {n} input", grid, None), *truth])
        return rows_html(repr(self), rows, left_out)


@dataclasses.dataclass(frozen=True, eq=False)
class Canvas:
    """A puzzle's grids on a common canvas, as the model sees them.

    Axes: e = examples (train first), x = row, y = column; index 0 / 1 = input / output.
    """

    colors: np.ndarray  # color values, ascending, 0 first; a color's index is its place here
    sizes: np.ndarray  # int (E, 2, 2): [e, input or output, (height, width)], predicted for test outputs
    num_train: int
    in_out_same: bool  # every train output has its input's size
    all_in_same: bool  # all inputs, test included, have one size
    all_out_same: bool  # all train outputs have one size
    problem: np.ndarray  # int8 (E, X, Y, 2): color indices, zero outside the grids
    masks: np.ndarray  # bool (E, X, Y, 2): inside each grid

    @classmethod
    def of(cls, puzzle: Puzzle) -> Canvas:
        inputs = [i for i, _ in puzzle.train] + list(puzzle.test)
        outputs = [o for _, o in puzzle.train]
        in_sizes = [g.shape for g in inputs]
        out_sizes = [g.shape for g in outputs]
        num_train = len(outputs)
        in_out_same = in_sizes[:num_train] == out_sizes
        all_in_same = len(set(in_sizes)) == 1
        all_out_same = len(set(out_sizes)) == 1
        known = in_sizes + out_sizes
        largest = (max(h for h, _ in known), max(w for _, w in known))
        for size in in_sizes[num_train:]:
            out_sizes.append(size if in_out_same else out_sizes[0] if all_out_same else largest)
        sizes = np.array([in_sizes, out_sizes]).transpose(1, 0, 2)
        n_x, n_y = sizes.max((0, 1))
        present = {0}.union(*(np.unique(g).tolist() for g in inputs + outputs))
        # The network needs one color besides black, also for a puzzle that is all black.
        colors = np.array(sorted(present if len(present) > 1 else {0, 1}))
        problem = np.zeros((len(inputs), n_x, n_y, 2), np.int8)
        masks = np.zeros(problem.shape, bool)
        for e, pair in enumerate(sizes):
            for io, (h, w) in enumerate(pair):
                masks[e, :h, :w, io] = True
                if io == 0 or e < num_train:
                    problem[e, :h, :w, io] = np.searchsorted(colors, (inputs, outputs)[io][e])
        return cls(colors, sizes, num_train, in_out_same, all_in_same, all_out_same, problem, masks)

    @property
    def shape(self) -> Shape:
        """Axis lengths of the multitensors; black is not counted among the colors."""
        e, x, y, _ = self.problem.shape
        return Shape(examples=e, colors=len(self.colors) - 1, x=x, y=y)

    @property
    def size_known(self) -> bool:
        """Whether the size rules predict the test outputs' sizes."""
        return self.in_out_same or self.all_out_same

    def size_uncertain(self, output: bool) -> bool:
        """Whether the loss treats the sizes of inputs or outputs as unknown."""
        same = self.all_out_same if output else self.all_in_same
        return not (self.in_out_same or same)
