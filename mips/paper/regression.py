"""Linear and brute-force symbolic regression over integer states."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from mips.programs import expression as ex
from mips.programs.enumeration import Column, Enumerator, Grammar
from mips.programs.expression import Expr
from mips.programs.program import Program
from mips.reading.linear import _combination

_STATE = "abcdefghij"
# The published grammar: constants 3 and 4; +1, -1, negation, x > 0, x == 0, |x|, +100, -100;
# + * - and remainder.
_PUBLISHED = Grammar(
    constants=(3, 4),
    unary=("inc", "dec", "neg", "positive", "not", "abs", "plus100", "minus100"),
    binary=("+", "*", "-", "%"),
    largest=6,
    most=150_000,
    tries=3_000_000,
)
_UNARY = {
    "inc": ("+", 1),
    "dec": ("-", 1),
    "positive": (">", 0),
    "plus100": ("+", 100),
    "minus100": ("-", 100),
}


def plain(expr: Expr) -> Expr:
    """The published grammar's shorthand in the language of programs."""
    args = tuple(plain(a) for a in expr.args)
    if expr.op in _UNARY:
        op, number = _UNARY[expr.op]
        return Expr(op, (args[0], ex.const(number)))
    return Expr(expr.op, args, expr.value)


def initial_states(z: Float[np.ndarray, " n"], *, every_rounding: bool) -> Iterator[tuple[int, ...]]:
    """The rounded lattice coordinates of the state zero, then other roundings of them."""
    first = tuple(int(v) for v in np.round(z))
    yield first
    if every_rounding:
        for choice in itertools.product((np.floor, np.ceil), repeat=len(z)):
            other = tuple(int(round_(v)) for round_, v in zip(choice, z, strict=True))
            if other != first:
                yield other


def _program(
    names: tuple[str, ...], updates: list[Expr], outputs: list[Expr], start: tuple[int, ...], kind: str
) -> Program:
    """A program whose output formulas read the new state."""
    state = tuple(_STATE[: len(updates)])
    new = dict(zip(state, updates, strict=True))
    return Program(
        names, state, start, tuple(updates), tuple(ex.substitute(e, new) for e in outputs), kind=kind
    )


def linear_regression(
    before: Int[np.ndarray, "points n"],
    inputs: Int[np.ndarray, "points inputs"],
    after: Int[np.ndarray, "points n"],
    outputs: Int[np.ndarray, "points outputs"],
    names: tuple[str, ...],
    starts: Iterable[tuple[int, ...]],
) -> Iterator[Program]:
    """Least squares with all coefficients rounded to integers, whatever the fit is like."""
    n = after.shape[1]
    if n > len(_STATE):
        return
    state = [ex.var(s) for s in _STATE[:n]]

    def fit(
        columns: Int[np.ndarray, "points variables"],
        target: Int[np.ndarray, "points targets"],
        variables: Sequence[Expr],
    ) -> list[Expr] | None:
        design = np.concatenate([columns, np.ones((len(columns), 1))], axis=1)
        solution, *_ = np.linalg.lstsq(design, target, rcond=None)
        forms = []
        for column in np.round(solution).T:
            if not np.isfinite(column).all() or np.abs(column).max() > 1e9:
                return None
            terms = [(int(c), v) for c, v in zip(column[:-1], variables, strict=True)]
            forms.append(_combination(terms, int(column[-1])))
        return forms

    updates = fit(np.concatenate([inputs, before], axis=1), after, [*(ex.var(x) for x in names), *state])
    output = fit(after, outputs, state)
    if updates is None or output is None:
        return
    for start in starts:
        yield _program(names, updates, output, start, "linear")


def symbolic_regression(
    before: Int[np.ndarray, "points n"],
    inputs: Int[np.ndarray, "points inputs"],
    after: Int[np.ndarray, "points n"],
    outputs: Int[np.ndarray, "points outputs"],
    names: tuple[str, ...],
    starts: Iterable[tuple[int, ...]],
    *,
    all_rows: bool,
) -> Iterator[Program]:
    """Brute force over short expressions, for every direction of the coordinates (n <= 2, n + inputs <= 6).

    As published the first 25 rows decide; `all_rows` takes every distinct row.
    """
    n = after.shape[1]
    if n > 2 or n + inputs.shape[1] > 6:
        return
    rows = np.unique(np.concatenate([before, inputs, after, outputs], axis=1), axis=0, return_index=True)[1]
    keep = np.sort(rows) if all_rows else np.arange(min(25, len(before)))
    if len(keep) > 300:
        keep = keep[:: len(keep) // 300]
    top = after.max(axis=0)
    found: dict[tuple[str, tuple[bool, ...]], list[Expr] | None] = {}
    for flips in itertools.product((False, True), repeat=n):
        flip = np.array(flips)
        old, new = (np.where(flip, top - z, z)[keep] for z in (before, after))
        leaves = {s: old[:, i] for i, s in enumerate(_STATE[:n])}
        moves = {**leaves, **{x: inputs[keep, i] for i, x in enumerate(names)}}
        updates = _search(moves, new.T, found, ("move", flips))
        if updates is None:
            continue
        reads = _search(
            {s: new[:, i] for i, s in enumerate(_STATE[:n])}, outputs[keep].T, found, ("read", flips)
        )
        if reads is None:
            continue
        for start in starts:
            begin = tuple(int(t - s) if f else int(s) for t, s, f in zip(top, start, flips, strict=True))
            yield _program(names, updates, reads, begin, "symbolic")


def _search(
    leaves: dict[str, Column],
    targets: Int[np.ndarray, "targets rows"],
    found: dict[tuple[str, tuple[bool, ...]], list[Expr] | None],
    key: tuple[str, tuple[bool, ...]],
) -> list[Expr] | None:
    if key not in found:
        result = Enumerator(leaves, _PUBLISHED).search(list(targets))
        found[key] = None if any(e is None for e in result) else [plain(e) for e in result if e is not None]
    return found[key]
