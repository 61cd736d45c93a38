"""Rules over windows and running features of observed sequences.

The sequences may come from a network (its answers, errors included) or straight from data: the
caller knows, and labels the result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int

from mips.programs import expression as ex
from mips.programs.enumeration import Column, Grammar, find
from mips.programs.expression import Constant, Expr
from mips.programs.program import Program
from mips.reading.linear import fit_recurrence, lag_columns, lag_names, lagged_program
from mips.reading.symbolic_lifting import input_names
from mips.tasks.task import Inputs, Outputs, lagged

_SMALL_ALPHABET = 20  # sizes up to this may be meant in a formula


def recurrences(x: Inputs, y: Outputs, *, most: int = 8, tolerance: float = 0.0) -> Iterator[Program]:
    """The shortest integer-linear recurrence, if there is one with up to `most` lags."""
    for total in range(most + 1):
        for back in range(total + 1):
            program = fit_recurrence(x, y, past_outputs=back, past_inputs=total - back, tolerance=tolerance)
            if program is not None:
                yield program
                return


def window_rules(
    x: Inputs, y: Outputs, grammar: Grammar, *, most: int = 3, tolerance: float = 0.0
) -> Iterator[Program]:
    """y_t as a formula of x_t .. x_{t-i} and y_{t-1} .. y_{t-j}, windows in increasing size.

    A window whose repeated values come with different outputs is passed over at once.
    """
    names, out = input_names(x.shape[2]), lag_names(y.shape[2])
    width = int(x.max() - x.min() + 1)
    if width <= _SMALL_ALPHABET:
        constants = tuple(dict.fromkeys((*grammar.constants, width, width - 1)))
        grammar = dataclasses.replace(grammar, constants=constants)
    for total in range(most + 1):
        for back in range(total + 1):
            if max(back, total - back) >= x.shape[1]:
                continue
            leaves, targets = _windows(x, y, names, out, total - back, back)
            if contradicts(leaves, targets, tolerance):
                continue
            limits = dataclasses.replace(grammar, largest=_largest(grammar, leaves, total))
            found = find(leaves, targets, limits, tolerance=tolerance)
            if any(e is None for e in found):
                continue
            outputs = tuple(e for e in found if e is not None)
            # What stood before the first output is not in the data; whoever verifies decides.
            for start in dict.fromkeys([0, int(y.min()), int(y.max())] if back else [0]):
                yield lagged_program(
                    names,
                    outputs,
                    kind="window",
                    past_outputs=back,
                    past_inputs=total - back,
                    output_start=start,
                )
            return


def _windows(
    x: Inputs,
    y: Outputs,
    names: tuple[str, ...],
    out: tuple[str, ...],
    past_inputs: int,
    past_outputs: int,
) -> tuple[dict[str, Column], list[Column]]:
    """Lagged inputs and outputs by name, and the outputs, on all steps that have the past outputs."""
    leaves = {}
    for k in range(past_inputs + 1):
        columns = lag_columns(x, k)[:, past_outputs:]
        leaves |= {f"{n}{k}" if k else n: columns[..., c].ravel() for c, n in enumerate(names)}
    for k in range(1, past_outputs + 1):
        columns = lag_columns(y, k)[:, past_outputs:]
        leaves |= {f"{n}{k}": columns[..., c].ravel() for c, n in enumerate(out)}
    return leaves, [y[:, past_outputs:, c].ravel() for c in range(y.shape[2])]


def _largest(grammar: Grammar, leaves: dict[str, Column], total: int) -> int:
    """Nodes of a formula for a window: many for few variables, or few rows, which bound the search."""
    rows = np.unique(np.stack([v[:5000] for v in leaves.values()]), axis=1).shape[1]
    if rows <= 32:
        return grammar.largest + 2
    return grammar.largest if total <= 1 else min(5, grammar.largest)


def contradicts(leaves: dict[str, Column], targets: list[Column], tolerance: float) -> bool:
    """Whether equal arguments come with different outputs in more than twice the tolerated share of rows."""
    arguments = np.unique(np.stack(list(leaves.values()), axis=1), axis=0, return_inverse=True)[1].ravel()
    values = np.unique(np.stack(targets, axis=1), axis=0, return_inverse=True)[1].ravel()
    pairs, counts = np.unique(np.stack([arguments, values], axis=1), axis=0, return_counts=True)
    largest = np.zeros(arguments.max() + 1, np.int64)
    np.maximum.at(largest, pairs[:, 0], counts)
    return bool(1 - largest.sum() / len(arguments) > 2 * tolerance)


@dataclasses.dataclass(frozen=True)
class Feature:
    """A quantity that a program can keep up with: state, and its value after the current input."""

    name: str
    value: Expr
    state: tuple[str, ...] = ()
    initial: tuple[Constant, ...] = ()
    updates: tuple[Expr, ...] = ()
    symmetric: bool = False
    """whether the order of the inputs does not matter"""


def features(low: int, high: int, inputs: int) -> tuple[Feature, ...]:
    """Counters, extremes, sums and list programs over the history of one input channel."""
    names = input_names(inputs)
    result = [Feature(n, ex.var(n)) for n in names]
    result += [Feature(f"{n}1", ex.var(f"{n}1"), (f"{n}1",), (0,), (ex.var(n),)) for n in names]
    if inputs > 1:
        return tuple(result)
    x, one = ex.var("x"), ex.const(1)

    def running(name: str, initial: int, update: Expr, symmetric: bool = True) -> None:
        result.append(Feature(name, update, (name,), (initial,), (update,), symmetric))

    running("total", 0, ex.apply("+", ex.var("total"), x))
    running("high", low, ex.apply("max", ex.var("high"), x))
    running("low", high - 1, ex.apply("min", ex.var("low"), x))
    running("steps", 0, ex.apply("+", ex.var("steps"), one))
    if high - low <= 6:
        counts = tuple(f"c{i}" for i in range(high - low))
        updates = tuple(
            ex.apply("+", ex.var(c), ex.apply("==", x, ex.const(low + i))) for i, c in enumerate(counts)
        )
        for c, update in zip(counts, updates, strict=True):
            result.append(Feature(c, update, (c,), (0,), (update,), True))
        tally = ex.apply("list", *updates)
        winner = ex.apply("index", tally, ex.apply("largest", tally))
        if low:
            winner = ex.apply("+", winner, ex.const(low))
        result.append(Feature("winner", winner, counts, (0,) * len(counts), updates, True))
    result += [
        _listed("distinct", ex.apply("distinct", _HISTORY), symmetric=True),
        _listed("mirrored", ex.apply("==", _HISTORY, ex.apply("reversed", _HISTORY))),
        _listed("repeats", ex.apply("count", _HISTORY, x)),
    ]
    return tuple(result)


_HISTORY = ex.apply("append", ex.var("history"), ex.var("x"))


def _listed(name: str, value: Expr, *, symmetric: bool = False) -> Feature:
    """A quantity of the list of all inputs so far."""
    return Feature(name, value, ("history",), ((),), (_HISTORY,), symmetric)


def further_features(low: int, high: int) -> tuple[Feature, ...]:
    """More of the history of one input channel: its order, its halves, who is how frequent.

    Made of a few general parts (sort, item, halves, equal places, counts by symbol); tried where what
    `features` has is not enough.
    """
    x, one = ex.var("x"), ex.const(1)
    more = ex.apply("+", ex.var("steps"), one)
    count, ordered = ex.apply("length", _HISTORY), ex.apply("sorted", _HISTORY)

    def below(bound: Expr) -> Expr:
        """How many inputs are below a bound."""
        return ex.apply("index", ex.apply("sorted", ex.apply("append", _HISTORY, bound)), bound)

    def middle(length: Expr) -> Expr:
        return ex.apply("lookup", ordered, ex.apply("//", length, ex.const(2)))

    result = [
        Feature("x", x),
        Feature("steps", more, ("steps",), (0,), (more,), True),
        _listed("median", middle(count), symmetric=True),
        _listed("lower_median", middle(ex.apply("-", count, one)), symmetric=True),
        _listed("mirror_places", ex.apply("same", _HISTORY, ex.apply("reversed", _HISTORY))),
        _listed("doubled", ex.apply("==", ex.apply("front", _HISTORY), ex.apply("back", _HISTORY))),
        _listed("repeats", ex.apply("count", _HISTORY, x)),
        _listed("below_x", below(x)),
        _listed("below_repeats", below(ex.apply("count", _HISTORY, x))),
        _listed("below_steps", below(count)),
    ]
    width = high - low
    if width <= 6:
        counts = tuple(f"c{i}" for i in range(width))
        updates = tuple(
            ex.apply("+", ex.var(c), ex.apply("==", x, ex.const(low + i))) for i, c in enumerate(counts)
        )
        tally = ex.apply("list", *updates)

        def ranked(name: str, place: Expr) -> None:
            shown = ex.apply("+", place, ex.const(low)) if low else place
            result.append(Feature(name, shown, counts, (0,) * width, updates, True))

        most, fewest = (ex.apply(op, tally) for op in ("largest", "smallest"))
        winner = ex.apply("index", tally, most)
        ranked("winner", winner)
        ranked("last_winner", _from_the_end(tally, most, width))
        ranked("loser", ex.apply("index", tally, fewest))
        ranked("last_loser", _from_the_end(tally, fewest, width))
        others = ex.apply(
            "list",
            *(
                ex.apply("if", ex.apply("==", winner, ex.const(i)), ex.const(-1), update)
                for i, update in enumerate(updates)
            ),
        )
        ranked("runner_up", ex.apply("index", others, ex.apply("largest", others)))
    return tuple(result)


def _from_the_end(tally: Expr, value: Expr, width: int) -> Expr:
    """The last place of a value in a list."""
    return ex.apply("-", ex.const(width - 1), ex.apply("index", ex.apply("reversed", tally), value))


def feature_program(
    used: tuple[Feature, ...], names: tuple[str, ...], outputs: tuple[Expr, ...], kind: str
) -> Program:
    """A program over features; state that no output needs is left out."""
    values = {f.name: f.value for f in used}
    outputs = tuple(ex.substitute(e, values) for e in outputs)
    state: dict[str, tuple[Constant, Expr]] = {}
    for feature in used:
        for name, initial, update in zip(feature.state, feature.initial, feature.updates, strict=True):
            state[name] = (initial, update)
    needed = set().union(*(ex.names(e) for e in outputs))
    while True:
        more = set().union(*(ex.names(state[n][1]) for n in needed if n in state), needed)
        if more == needed:
            break
        needed = more
    kept = {n: v for n, v in state.items() if n in needed}
    return Program(
        names,
        tuple(kept),
        tuple(v[0] for v in kept.values()),
        tuple(v[1] for v in kept.values()),
        outputs,
        kind=kind,
    )


def feature_rules(
    x: Inputs,
    y: Outputs,
    low: int,
    high: int,
    grammar: Grammar,
    *,
    symmetric: bool,
    tolerance: float = 0.0,
    further: bool = False,
) -> Iterator[Program]:
    """y_t as a formula of running features; of the symmetric ones alone where `symmetric`.

    further: of those of `further_features` instead.

    Symmetric outputs depend on how often each symbol came, so all visits to a count vector vote on one row.
    """
    names = input_names(x.shape[2])
    known = further_features(low, high) if further else features(low, high, x.shape[2])
    used = tuple(f for f in known if f.symmetric or not symmetric)
    if not used:
        return
    columns = feature_program(used, names, tuple(ex.var(f.name) for f in used), "features").run(x)
    table = columns.reshape(-1, len(used))
    targets = y.reshape(-1, y.shape[2])
    if symmetric:
        table, targets = vote(table, targets)
        tolerance = min(tolerance, 0.5 / len(table)) if tolerance else 0.0
    leaves = {f.name: table[:, i] for i, f in enumerate(used)}
    found = find(leaves, list(targets.T), grammar, tolerance=tolerance)
    if all(e is not None for e in found):
        kind = "counter" if symmetric else "history"
        yield feature_program(used, names, tuple(e for e in found if e is not None), kind)


def change_rules(x: Inputs, y: Outputs, grammar: Grammar, *, tolerance: float = 0.0) -> Iterator[Program]:
    """y_t = y_{t-1} + a formula of the input, the one before and the number of steps, for one output.

    What an output changes by is often much less than what it is.
    """
    if y.shape[2] != 1:
        return
    names = input_names(x.shape[2])
    change = np.diff(y[..., 0], axis=1, prepend=0).ravel()
    columns = {n: x[..., i].ravel() for i, n in enumerate(names)}
    steps = np.broadcast_to(np.arange(x.shape[1]), x.shape[:2]).ravel()
    before = {f"{n}1": lagged(x, 1)[..., i].ravel() for i, n in enumerate(names)}
    for leaves in (columns, columns | {"n": steps}, columns | before):
        if contradicts(leaves, [change], tolerance):
            continue
        limits = dataclasses.replace(grammar, largest=7, conditional=True)
        found = find(leaves, [change], limits, tolerance=tolerance)[0]
        if found is None:
            continue
        used, state, initial, updates = ex.names(found), ["y1"], [0], []
        total = ex.apply("+", ex.var("y1"), found)
        updates.append(total)
        if "n" in used:
            state, initial, updates = (
                [*state, "n"],
                [*initial, 0],
                [*updates, ex.apply("+", ex.var("n"), ex.const(1))],
            )
        for name in names:
            if f"{name}1" in used:
                state, initial, updates = [*state, f"{name}1"], [*initial, 0], [*updates, ex.var(name)]
        yield Program(names, tuple(state), tuple(initial), tuple(updates), (total,), kind="window")
        return


def vote(
    table: Int[np.ndarray, "rows columns"], targets: Int[np.ndarray, "rows outputs"]
) -> tuple[Int[np.ndarray, "distinct columns"], Int[np.ndarray, "distinct outputs"]]:
    """Distinct rows, each with its most frequent target."""
    rows, number = np.unique(table, axis=0, return_inverse=True)
    number = number.ravel()
    joint, counts = np.unique(np.concatenate([number[:, None], targets], axis=1), axis=0, return_counts=True)
    order = np.lexsort([counts, joint[:, 0]])
    last = np.flatnonzero(np.diff(joint[order, 0], append=-1))
    return rows, joint[order][last, 1:]


def order_matters(
    x: Inputs, run: Callable[[Inputs], Outputs], *, seed: int = 0, tolerance: float = 0.02
) -> bool:
    """Whether shuffling a sequence changes its last answer in more than the tolerated share of cases."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(x, axis=1) if x.shape[2] == 1 else x[:, rng.permutation(x.shape[1])]
    return bool((run(x)[:, -1] != run(shuffled)[:, -1]).any(axis=1).mean() > tolerance)
