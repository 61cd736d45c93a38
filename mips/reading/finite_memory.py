"""Machines that forget: the output depends on the last few inputs alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from mips.programs import expression as ex
from mips.programs.enumeration import Column, Grammar, find
from mips.programs.expression import Expr
from mips.programs.program import Program
from mips.reading.machine_extraction import Machine
from mips.reading.symbolic_lifting import input_names

if TYPE_CHECKING:
    import sympy

_MOST_ROWS = 4096


def memory_depth(machine: Machine) -> int | None:
    """Smallest k such that every word of length k leads all states to one; None if there is none."""
    if not machine.complete:
        return None
    apart = ~np.eye(machine.states, dtype=bool)  # pairs that can stay apart for k steps
    for k in range(machine.states * (machine.states - 1) // 2 + 1):
        if not apart.any():
            return k
        after = [apart[np.ix_(row, row)] for row in machine.next.T]
        new = np.logical_or.reduce(after) & ~np.eye(machine.states, dtype=bool)
        if np.array_equal(new, apart):
            return None
        apart = new
    return None


def window_table(
    machine: Machine, depth: int
) -> tuple[Int[np.ndarray, "rows steps"], Int[np.ndarray, "rows outputs"], tuple[int, ...] | None]:
    """All windows of depth + 1 symbols with their outputs, and the padding that stands for the start.

    Returns the symbols of every window, oldest first, their outputs, and the inputs of the symbol
    whose repetition leads to the initial state (None if none does).
    """
    symbols = len(machine.alphabet)
    words = np.array(list(itertools.product(range(symbols), repeat=depth + 1)))
    state = np.zeros(len(words), np.int64)
    for t in range(depth):
        state = machine.next[state, words[:, t]]
    outputs = machine.output[state, words[:, depth]]
    padding = None
    for symbol in np.argsort(np.abs(machine.alphabet).sum(axis=1), kind="stable"):
        here = 0
        for _ in range(depth):
            here = int(machine.next[here, symbol])
        if here == 0:  # minimal machine: the same state means the same behavior
            padding = tuple(int(v) for v in machine.alphabet[symbol])
            break
    return words, outputs, padding


def window_program(
    names: tuple[str, ...], depth: int, padding: tuple[int, ...], outputs: tuple[Expr, ...], kind: str
) -> Program:
    """A program whose state is the last inputs: `x1` is the input one step ago. Unused ones are left out."""
    state, initial, updates = lag_registers(names, depth, padding, outputs)
    return Program(names, tuple(state), tuple(initial), tuple(updates), outputs, kind=kind)


def lag_registers(
    names: tuple[str, ...], depth: int, padding: tuple[int, ...], outputs: tuple[Expr, ...]
) -> tuple[list[str], list[int], list[Expr]]:
    """State that keeps the last inputs, as far back as the outputs use them: names, starts, updates."""
    used = set().union(*(ex.names(e) for e in outputs))
    state, initial, updates = [], [], []
    for name, pad in zip(names, padding, strict=True):
        deepest = max((k for k in range(1, depth + 1) if f"{name}{k}" in used), default=0)
        for k in range(1, deepest + 1):
            state.append(f"{name}{k}")
            initial.append(pad)
            updates.append(ex.var(f"{name}{k - 1}" if k > 1 else name))
    return state, initial, updates


def definite_programs(machine: Machine, grammar: Grammar) -> Iterator[Program]:
    """Programs for a minimal machine with finite memory: Boolean forms for bits, then arithmetic."""
    depth = memory_depth(machine)
    if depth is None or len(machine.alphabet) ** (depth + 1) > _MOST_ROWS:
        return
    words, outputs, padding = window_table(machine, depth)
    if padding is None:
        return
    names = input_names(machine.alphabet.shape[1])
    leaves = {}
    for lag in range(depth + 1):
        for channel, name in enumerate(names):
            leaves[f"{name}{lag}" if lag else name] = machine.alphabet[words[:, depth - lag], channel]
    truths = all(set(np.unique(v)) <= {0, 1} for v in (*leaves.values(), outputs))
    if truths:
        for how in (polynomial, sum_of_products):
            forms = tuple(how(leaves, outputs[:, i]) for i in range(outputs.shape[1]))
            yield window_program(names, depth, padding, forms, "boolean")
    found = find(leaves, list(outputs.T), grammar)
    if all(e is not None for e in found):
        yield window_program(names, depth, padding, tuple(e for e in found if e is not None), "definite")


def _minterms(leaves: dict[str, Column], values: Column) -> list[list[int]]:
    table = np.stack(list(leaves.values()), axis=1)
    return [list(map(int, row)) for row in table[values == 1]]


def _chain(op: str, parts: list[Expr], empty: int) -> Expr:
    if not parts:
        return ex.const(empty)
    result = parts[0]
    for part in parts[1:]:
        result = ex.apply(op, result, part)
    return result


def polynomial(leaves: dict[str, Column], values: Column) -> Expr:
    """Algebraic normal form: an exclusive-or of products, through sympy's ANFform."""
    import sympy as sp
    from sympy.logic.boolalg import ANFform

    symbols = sp.symbols(list(leaves))
    truth = np.zeros(2 ** len(leaves), int)
    order = np.stack(list(leaves.values()), axis=1) @ (1 << np.arange(len(leaves))[::-1])
    truth[order] = values
    form = ANFform(symbols, truth.tolist())
    return _from_logic(form, list(leaves))


def sum_of_products(leaves: dict[str, Column], values: Column) -> Expr:
    """A minimal or of products, through sympy's SOPform (Quine-McCluskey)."""
    import sympy as sp
    from sympy.logic.boolalg import SOPform

    return _from_logic(SOPform(sp.symbols(list(leaves)), _minterms(leaves, values)), list(leaves))


def _from_logic(form: sympy.Basic, order: list[str]) -> Expr:
    import sympy as sp

    if form in (sp.true, sp.false):
        return ex.const(int(form == sp.true))
    if isinstance(form, sp.Symbol):
        return ex.var(form.name)
    if isinstance(form, sp.Not):
        return ex.apply("-", ex.const(1), _from_logic(form.args[0], order))
    parts = sorted(
        (_from_logic(a, order) for a in form.args),
        key=lambda e: (ex.size(e), [order.index(ex.name_of(n)) for n in ex.nodes(e) if n.op == "var"]),
    )
    if isinstance(form, sp.Xor):
        return _chain("^", parts, 0)
    if isinstance(form, sp.And):
        return _chain("&", parts, 1)
    if isinstance(form, sp.Or):
        return _chain("|", parts, 0)
    raise ValueError(f"not a propositional formula: {form}")
