"""From a machine to formulas: name the states by integers, then find arithmetic for the moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from mips.programs import expression as ex
from mips.programs.enumeration import Grammar, find
from mips.programs.program import Program
from mips.reading.machine_extraction import Machine, suffixes

Labels = Int[np.ndarray, " states"]

INPUT_NAMES = ("x", "w", "z", "r")
UNKNOWN = np.iinfo(np.int64).min  # the label of a state without one


def input_names(count: int) -> tuple[str, ...]:
    """x, w for two inputs, as the paper has them; in0_, in1_, ... for more than four."""
    return INPUT_NAMES[:count] if count <= len(INPUT_NAMES) else tuple(f"in{i}_" for i in range(count))


def labelings(machine: Machine) -> Iterator[tuple[str, Labels]]:
    """Integer names for the states, one vector after another, each injective.

    A labeling may leave states at the edge of a partial machine out (`UNKNOWN`).

    In this order: last output, last input, rank of the behavior, the same from the initial
    state, reversed, live or dead, breadth-first number.
    """
    seen: set[bytes] = set()
    for name, candidate in _candidates(machine):
        labels = np.asarray(candidate, np.int64)
        known = labels[labels != UNKNOWN]
        if len(np.unique(known)) == len(known) and labels[0] != UNKNOWN and labels.tobytes() not in seen:
            seen.add(labels.tobytes())
            yield name, labels


def _candidates(machine: Machine) -> Iterator[tuple[str, Labels]]:
    letters = machine.alphabet
    if machine.output.shape[2] == 1:
        yield from incoming(machine, machine.output[..., 0], "last output")
    for channel in range(letters.shape[1]):
        values = np.broadcast_to(letters[:, channel], machine.next.shape)
        yield from incoming(machine, values, "last input")
    behavior = _behavior(machine)
    order = np.lexsort(behavior.T[::-1])
    rank = np.empty(machine.states, np.int64)
    rank[order] = np.arange(machine.states)
    yield "rank", rank
    yield "rank from the start", rank - rank[0]
    yield "reversed rank", machine.states - 1 - rank
    yield "reversed rank from the start", rank[0] - rank
    total = behavior.sum(axis=1)
    summed = np.unique(total, return_inverse=True)[1].ravel()
    yield "rank of the summed behavior", summed
    yield "rank of the summed behavior from the start", summed - summed[0]
    yield from _alive(machine)
    yield "breadth-first", np.arange(machine.states)


def incoming(
    machine: Machine, values: Int[np.ndarray, "states symbols"], name: str
) -> Iterator[tuple[str, Labels]]:
    """Labels from a value on the transitions into a state, where each state has one such value."""
    labels = np.full(machine.states, UNKNOWN)
    for state in range(machine.states):
        into = np.unique(values[machine.next == state])
        if len(into) == 1:
            labels[state] = into[0]
        elif len(into) > 1:
            return
    missing = np.flatnonzero(labels == UNKNOWN)
    if list(missing) == [0]:
        known = labels[1:] if machine.states > 1 else np.zeros(1, np.int64)
        for start in dict.fromkeys([0, int(known.min()) - 1, int(known.max()) + 1, -1]):
            labels[0] = start
            yield name, labels.copy()
    elif not len(missing):
        yield name, labels


def _behavior(machine: Machine, length: int = 4) -> Int[np.ndarray, "states everything"]:
    """Outputs on short words from every state; 0 where transitions are unknown."""
    symbols = len(machine.alphabet)
    while symbols**length > 3000 and length > 1:
        length -= 1
    words = suffixes(symbols, length, limit=3000)[-1]
    state = np.repeat(np.arange(machine.states)[:, None], len(words), axis=1)
    columns = []
    for t in range(words.shape[1]):
        safe = np.maximum(state, 0)
        y = machine.output[safe, words[None, :, t]]
        columns.append(np.where(state[..., None] >= 0, y, 0))
        state = np.where(state >= 0, machine.next[safe, words[None, :, t]], -1)
    return np.stack(columns, axis=2).reshape(machine.states, -1)


def _alive(machine: Machine) -> Iterator[tuple[str, Labels]]:
    """-1 for dead states, which always give the same output; for others a count.

    How often one symbol must be repeated until another output shows (0 where that symbol shows it never).
    """
    if machine.output.shape[2] != 1:
        return
    output = machine.output[..., 0]
    values, counts = np.unique(output, return_counts=True)
    default = values[counts.argmax()]
    # What follows an unknown transition may be alive.
    alive = (output != default).any(axis=1) | (machine.next < 0).any(axis=1)
    for _ in range(machine.states):
        safe = np.maximum(machine.next, 0)
        alive |= (alive[safe] & (machine.next >= 0)).any(axis=1)
    for symbol in range(len(machine.alphabet)):
        labels = np.full(machine.states, -1)
        for state in np.flatnonzero(alive):
            here, count = int(state), 0
            while (
                output[here, symbol] == default
                and machine.next[here, symbol] >= 0
                and count <= machine.states
            ):
                here, count = int(machine.next[here, symbol]), count + 1
            if output[here, symbol] != default:
                labels[state] = count + 1
            else:
                labels[state] = UNKNOWN if machine.next[here, symbol] < 0 else 0
        yield "live or dead", labels
        yield "live or dead, from zero", np.where(labels > 0, labels - 1, labels)


def lift(machine: Machine, grammar: Grammar, *, most: int = 2, tolerance: float = 0.0) -> Iterator[Program]:
    """Programs with one integer state that make the machine's known moves.

    Every labeling is tried with quick limits before any with the full ones; at most `most` programs.
    With a `tolerance`, that share of moves may differ: a formula can be right where a network errs.
    """
    names = input_names(machine.alphabet.shape[1])
    if machine.states == 1:
        yield from _stateless(machine, names, grammar)
        return
    quick = dataclasses.replace(grammar, largest=min(5, grammar.largest), conditional=False, tries=400_000)
    given = 0
    for limits in (quick,) if tolerance else (quick, grammar):
        for _, labels in labelings(machine):
            there = labels[np.maximum(machine.next, 0)]
            rows, symbols = np.nonzero(
                (machine.next >= 0) & (labels[:, None] != UNKNOWN) & (there != UNKNOWN)
            )
            leaves = {name: machine.alphabet[symbols, i] for i, name in enumerate(names)}
            outputs = [machine.output[rows, symbols, i] for i in range(machine.output.shape[2])]
            following = there[rows, symbols]
            extra = _constants(machine, labels)
            limits_here = dataclasses.replace(
                limits, constants=tuple(dict.fromkeys((*limits.constants, *extra)))
            )
            found = find(
                {"s": labels[rows], **leaves}, [following, *outputs], limits_here, tolerance=tolerance
            )
            if any(e is None for e in found):
                continue
            update, *out = found
            assert update is not None
            yield Program(
                names,
                ("s",),
                (int(labels[0]),),
                (update,),
                tuple(e for e in out if e is not None),
                kind="finite-state",
            )
            given += 1
            if given >= most:
                return
        if given:
            return


def _constants(machine: Machine, labels: Labels) -> tuple[int, ...]:
    """Numbers a formula may mention: sizes of the alphabet and of the state space."""
    width = int(machine.alphabet[-1, 0] - machine.alphabet[0, 0] + 1)
    known = labels[labels != UNKNOWN]
    span = int(known.max() - known.min() + 1)
    return (width, width - 1, span, span - 1, span + 1)


def _stateless(machine: Machine, names: tuple[str, ...], grammar: Grammar) -> Iterator[Program]:
    leaves = {name: machine.alphabet[:, i] for i, name in enumerate(names)}
    outputs = list(machine.output[0].T)
    width = max(int(v.max() - v.min() + 1) for v in leaves.values())
    constants = tuple(dict.fromkeys((*grammar.constants, width, width - 1)))
    grammar = dataclasses.replace(grammar, constants=constants)
    found = find(leaves, outputs, grammar)
    if all(e is not None for e in found):
        yield Program(names, (), (), (), tuple(e for e in found if e is not None), kind="finite-state")
    if len(names) == 1 and len(outputs) == 1 and set(np.unique(outputs[0])) <= {0, 1}:
        members = tuple(int(v) for v in np.sort(leaves[names[0]][outputs[0] == 1]))
        if members:
            output = ex.apply("in", ex.var(names[0]), ex.const(members))
            yield Program(names, (), (), (), (output,), kind="finite-state")


def table_program(machine: Machine) -> Program:
    """The machine as it is: two tables, next state and output (the last resort)."""
    names = input_names(machine.alphabet.shape[1])
    low, width = machine.alphabet[0, 0], int(machine.alphabet[-1, 0] - machine.alphabet[0, 0] + 1)
    symbol: ex.Expr | None = None
    for name in names:
        digit = ex.var(name) if low == 0 else ex.apply("-", ex.var(name), ex.const(int(low)))
        symbol = digit if symbol is None else ex.apply("+", ex.apply("*", symbol, ex.const(width)), digit)
    assert symbol is not None

    def look(table: str) -> ex.Expr:
        return ex.apply("lookup", ex.var(table), ex.var("s"), symbol)

    tables = [("NEXT", tuple(tuple(map(int, row)) for row in machine.next))]
    outputs = []
    for i in range(machine.output.shape[2]):
        table = "OUTPUT" if machine.output.shape[2] == 1 else f"OUTPUT{i + 1}"
        tables.append((table, tuple(tuple(map(int, row)) for row in machine.output[..., i])))
        outputs.append(look(table))
    return Program(names, ("s",), (0,), (look("NEXT"),), tuple(outputs), tuple(tables), kind="table")
