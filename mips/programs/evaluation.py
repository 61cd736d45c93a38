"""What expressions are worth, row by row, as Python would have it; and what they are, integer or list."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int, Int8

from mips.programs.expression import OPERATIONS, Expr, Given, Value, name_of, to_python

MOST_BITS = 1 << 14
"""Of a state in unbounded integers: one that squares itself at each step would never be done."""

OK, DIVISION, OUTSIDE, MISSING, LARGE = range(5)  # what went wrong in a row
ERRORS = {
    DIVISION: ZeroDivisionError("integer division or remainder by zero"),
    OUTSIDE: IndexError("table index out of range"),
    MISSING: ValueError("the value is not in the list, or the list is empty"),
    LARGE: ValueError(f"the state has more than {MOST_BITS} bits"),
}


def evaluate(expr: Expr, values: Mapping[str, Given], tables: Mapping[str, Given] | None = None) -> Value:
    """The value of an expression over arrays of a common batch shape.

    Args: values: by name, integers (rows,) or lists (rows, items). tables: by name.
    Raises ZeroDivisionError, IndexError or ValueError where a row does in Python, KeyError for a name
    without a value.
    """
    rows = max((len(v) for v in values.values() if np.ndim(v)), default=1)
    failed = np.zeros(rows, np.int8)
    result = attempt(expr, values, tables or {}, failed)
    if failed.any():
        raise ERRORS[int(failed[failed != OK][0])]
    return result


def attempt(
    expr: Expr, values: Mapping[str, Given], tables: Mapping[str, Given], failed: Int8[np.ndarray, " all"]
) -> Value:
    """Like `evaluate`, but marks the rows that fail in `failed` instead of raising."""
    return _Rows(values, tables, failed, np.arange(len(failed))).value(expr)


class _Rows:
    """Evaluation over some rows; as in Python, what is not needed for a row is not evaluated for it."""

    def __init__(
        self,
        values: Mapping[str, Given],
        tables: Mapping[str, Given],
        failed: Int8[np.ndarray, " all"],
        numbers: Int[np.ndarray, " rows"],
    ) -> None:
        self.values, self.tables, self.failed, self.numbers = values, tables, failed, numbers

    def part(self, mask: Bool[np.ndarray, " rows"]) -> _Rows:
        values = {n: v[mask] if np.ndim(v) else v for n, v in self.values.items()}
        return _Rows(values, self.tables, self.failed, self.numbers[mask])

    def fail(self, where: Bool[np.ndarray, "..."] | np.bool, code: int) -> None:
        rows = self.numbers[np.broadcast_to(where, len(self.numbers))]
        self.failed[rows] = np.where(self.failed[rows] == OK, code, self.failed[rows])

    def value(self, expr: Expr) -> Value:
        op = expr.op
        if op == "const":
            return np.asarray(expr.value)
        if op == "var":
            name = name_of(expr)
            return self.values[name] if name in self.values else self.tables[name]
        if op in {"if", "and", "or"}:
            return self.choose(expr)
        args = [self.value(a) for a in expr.args]
        if op in {"//", "%"}:
            zero = np.asarray(args[1] == 0)
            if zero.any():
                self.fail(zero, DIVISION)
                args[1] = np.where(zero, 1, args[1])
        elif op == "lookup" and self.is_table(expr.args[0]):
            return self.look_up(np.asarray(args[0]), *args[1:])
        elif op == "lookup":
            return self.item(np.asarray(args[0]), args[1])
        elif op == "index":
            hits = args[0] == np.broadcast_to(args[1], len(self.numbers))[:, None]
            self.fail(~hits.any(axis=1), MISSING)
            return hits.argmax(axis=1) if hits.shape[1] else np.zeros(len(hits), np.int64)
        elif op in {"largest", "smallest"} and not np.asarray(args[0]).shape[-1]:
            self.fail(np.True_, MISSING)
            return np.zeros(len(self.numbers), np.int64)
        if op in {"list", "append"}:
            whole = [np.broadcast_to(a, len(self.numbers)) if np.ndim(a) == 0 else a for a in args]
            args = whole
        compute = OPERATIONS[op].compute
        assert compute is not None
        return compute(*args)

    def choose(self, expr: Expr) -> Value:
        first = np.broadcast_to(self.value(expr.args[0]), len(self.numbers))
        true = np.asarray(first != 0, bool)
        if expr.op == "if":
            sides = [(true, expr.args[1]), (~true, expr.args[2])]
            result = None
        else:
            sides = [(true if expr.op == "and" else ~true, expr.args[1])]
            result = np.array(first)
        for mask, side in sides:
            if not mask.any():
                continue
            whole = bool(mask.all())
            part = (self if whole else self.part(mask)).value(side)
            if whole:
                return np.broadcast_to(part, len(self.numbers))
            if result is None:
                result = np.zeros(
                    len(self.numbers), np.result_type(part, np.int64) if first.dtype != object else object
                )
            result[mask] = part
        assert result is not None
        return result

    def is_table(self, expr: Expr) -> bool:
        return expr.op == "const" or (expr.op == "var" and name_of(expr) not in self.values)

    def item(self, items: Given, given: Value) -> Value:
        """An item of a list in every row, counted from its start or (negative) from its end."""
        rows, length = len(self.numbers), items.shape[-1]
        index = np.broadcast_to(np.asarray(given), rows).astype(np.int64)
        outside = (index < -length) | (index >= length)
        if outside.any():
            self.fail(outside, OUTSIDE)
        if not length:
            return np.zeros(rows, np.int64)
        whole = np.broadcast_to(items, (rows, length))
        return whole[np.arange(rows), np.where(outside, 0, index)]

    def look_up(self, table: Given, *indices: Value) -> Value:
        chosen = []
        for axis, given in enumerate(indices):
            index = np.asarray(given).astype(np.int64)
            outside = (index < -table.shape[axis]) | (index >= table.shape[axis])
            if outside.any():
                self.fail(outside, OUTSIDE)
            chosen.append(np.where(outside, 0, index))
        return table[tuple(chosen)]


_bits = np.frompyfunc(lambda v: int(v).bit_length(), 1, 1)


def bounded(state: Given, failed: Int8[np.ndarray, " rows"]) -> Given:
    """A state of unbounded integers, zero where they are beyond `MOST_BITS`, which is marked in `failed`."""
    if not state.size:
        return state
    large = np.asarray(_bits(state), int) > MOST_BITS
    rows = large if large.ndim == 1 else large.any(axis=1)
    failed[rows & (failed == OK)] = LARGE
    return np.where(large, 0, state)


_LISTED = {"largest", "smallest", "total", "length", "distinct"}


def kind_of(expr: Expr, kinds: Mapping[str, str]) -> str:
    """What an expression is: "int" or "list" (or "constant", a tuple that stands after `in`).

    `kinds` says "int", "list" or "table N" (N indices) for each name. Raises ValueError where an operation
    gets what it does not take.
    """
    op = expr.op
    if op == "const":
        check_constant(expr.value)
        return "constant" if isinstance(expr.value, tuple) else "int"
    if op == "var":
        return kinds[name_of(expr)]
    args = [kind_of(a, kinds) for a in expr.args]
    good, result = all(a == "int" for a in args), "int"
    if op in {"==", "!="} and args == ["list", "list"]:
        good = True
    elif op == "in":
        good = args[0] == "int" and args[1] in {"list", "constant"}
        if args[1] == "constant":
            members = expr.args[1].value
            good &= isinstance(members, tuple) and all(isinstance(v, int) for v in members)
    elif op in {"append", "index", "count"}:
        good = args == ["list", "int"]
    elif op in {"reversed", "sorted", "front", "back"} or op in _LISTED:
        good = args == ["list"]
    elif op == "same":
        good = args == ["list", "list"]
    elif op == "lookup":
        listed = args[:1] == ["list"] and len(args) == 2
        good = listed or (bool(args) and args[0] == f"table {len(args) - 1}")
        good &= all(a == "int" for a in args[1:])
    elif op == "list":
        good &= bool(args)
    if op in {"list", "append", "reversed", "sorted", "front", "back"}:
        result = "list"
    if not good:
        raise ValueError(f"{to_python(expr)!r}: not for {', '.join(args) or 'nothing'}")
    return result


def check_constant(value: object) -> None:
    """Raises ValueError for anything but integers of less than 63 bits, or nested tuples of them."""
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, tuple):
            check_constant(item)
        elif type(item) is not int or abs(item) >= 1 << 62:
            raise ValueError(f"{item!r}: constants are integers of less than 63 bits")
