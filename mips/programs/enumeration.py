"""Bottom-up enumeration of integer expressions over table rows.

Expressions grow by size; of all that agree on every row only the first is kept (observational
equivalence). Each is one int32 vector and one 64-bit key, an exact linear hash of the vector, so
that a whole block of combinations is computed, hashed and compared in a few array operations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from mips.programs import expression as ex
from mips.programs.evaluation import evaluate
from mips.programs.expression import Expr

_LIMIT = 1 << 15  # values beyond are dropped: products then fit int32, and hashes are exact in float64
_BLOCK = 1 << 21  # elements computed at once
_CONDITIONAL = 20_000  # expressions that may stand in a conditional
_DECIDED = 1_500  # that may stand in a list of decisions
_INTERPOLATING = 5  # nodes of a formula that may be one of no meaning
_COMMUTATIVE = {"+", "*", "==", "min", "max"}
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))

Column = Int[np.ndarray, " rows"]  # an expression's value in every row
Vectors = Int[np.ndarray, "count rows"]
Numbers = Int[np.ndarray, " count"]  # of expressions in the bank
Keys = UInt64[np.ndarray, " count"]
Look = Callable[[Keys, Callable[[int], Expr]], None]
Offer = Callable[[Vectors, int, Numbers, Numbers], None]


@dataclasses.dataclass(frozen=True)
class Grammar:
    """What expressions are made of."""

    constants: tuple[int, ...] = (0, 1, 2, 3)
    unary: tuple[str, ...] = ("abs", "not")
    binary: tuple[str, ...] = ("+", "-", "*", "min", "max", "==", "<", "//", "%")
    largest: int = 7
    """nodes of the largest expression"""
    most: int = 60_000
    """different vectors kept"""
    tries: int = 4_000_000
    """combinations computed before giving up"""
    conditional: bool = False
    """whether to try one `a if c else b` over what was enumerated, too"""
    decisions: int = 0
    """cases of a decision list, `a if c else b if d else ...`, over what was enumerated; 0: none is tried"""


class _Bank:
    """Distinct vectors with how they were made."""

    def __init__(self, rows: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.projection = rng.integers(-(1 << 20), 1 << 20, size=(rows, 2)).astype(np.float64)
        self.values: list[Vectors] = []  # by size, int32
        self.keys: Keys = np.empty(0, np.uint64)
        self.made: list[Int[np.ndarray, "count 3"]] = []  # by size: operation, left and right number
        self.offsets = [0]

    def hash(self, vectors: Vectors) -> Keys:
        a = (vectors.astype(np.float64) @ self.projection).astype(np.int64).view(np.uint64)
        return a[:, 0] * _MIX[0] + a[:, 1] * _MIX[1]

    def unseen(self, keys: Keys) -> Int[np.ndarray, " fresh"]:
        """Positions of first occurrences of keys that are not in the bank."""
        unique, first = np.unique(keys, return_index=True)
        if len(self.keys):
            places = np.minimum(np.searchsorted(self.keys, unique), len(self.keys) - 1)
            first = first[self.keys[places] != unique]
        return np.sort(first)

    def remember(self, keys: Keys) -> None:
        self.keys = np.sort(np.concatenate([self.keys, keys]), kind="stable")

    def add(
        self, values: list[Int[np.ndarray, "_count rows"]], made: list[Int[np.ndarray, "_count 3"]]
    ) -> None:
        rows = len(self.projection)
        self.values.append(np.concatenate(values) if values else np.empty((0, rows), np.int32))
        self.made.append(np.concatenate(made) if made else np.empty((0, 3), np.int64))
        self.offsets.append(self.offsets[-1] + len(self.values[-1]))


class Enumerator:
    """Enumerates over given rows and recognizes any number of target vectors on the way."""

    def __init__(self, leaves: Mapping[str, Column], grammar: Grammar) -> None:
        self.grammar = grammar
        self.rows = len(next(iter(leaves.values())))
        self.bank = _Bank(self.rows)
        self.operations = (*grammar.unary, *grammar.binary)
        self.leaves = [ex.var(n) for n in leaves] + [ex.const(c) for c in grammar.constants]
        vectors = [np.asarray(v, np.int64) for v in leaves.values()]
        vectors += [np.full(self.rows, c) for c in grammar.constants]
        table = np.stack(vectors).astype(np.int32)
        keys = self.bank.hash(table)
        first = self.bank.unseen(keys)
        self.bank.remember(keys[first])
        numbers = np.stack([np.full(len(first), -1), first, first], axis=1)
        self.bank.add([table[first]], [numbers])
        self.tries = 0
        self.full = False

    def expression(self, number: int) -> Expr:
        """The expression with that number in the bank."""
        level = int(np.searchsorted(self.bank.offsets, number, side="right")) - 1
        return self._make(*self.bank.made[level][number - self.bank.offsets[level]].tolist())

    def _make(self, operation: int, left: int, right: int) -> Expr:
        if operation < 0:
            return self.leaves[left]
        name = self.operations[operation]
        args = (
            (self.expression(left),)
            if name in self.grammar.unary
            else (self.expression(left), self.expression(right))
        )
        return Expr(name, args)

    def search(self, targets: Sequence[Column], *, tolerance: float = 0.0) -> list[Expr | None]:
        """A smallest expression for each target, None where none was found within the limits.

        With a `tolerance`, where nothing fits exactly, the kept expression that misses fewest rows, if
        these are not more than twice the tolerated share.
        """
        goals = np.stack([np.asarray(t, np.int64) for t in targets])
        fits: Bool[np.ndarray, " targets"] = np.asarray((np.abs(goals) < _LIMIT).all(axis=1))
        wanted = self.bank.hash(np.where(fits[:, None], goals, 0).astype(np.int32))
        found: list[Expr | None] = [None] * len(targets)

        def look(keys: Keys, make: Callable[[int], Expr]) -> None:
            hits = np.flatnonzero(np.isin(keys, wanted)).tolist()
            for hit in hits:
                for i in np.flatnonzero(wanted == keys[hit]):
                    if found[i] is None and fits[i]:
                        found[i] = make(hit)

        level = self.bank.values[0]
        look(self.bank.hash(level), self.expression)
        for size in range(2, self.grammar.largest + 1):
            if all(f is not None or not ok for f, ok in zip(found, fits, strict=True)):
                break
            if self.tries > self.grammar.tries:
                break
            self._grow(size, look, last=size == self.grammar.largest)
        if self.grammar.conditional:
            for i, goal in enumerate(goals):
                if found[i] is None and fits[i]:
                    found[i] = self._conditional(goal)
        for i, formula in enumerate(found):
            if formula is not None:
                found[i] = self._by_cases(formula, goals[i])
        if self.grammar.decisions:
            for i, goal in enumerate(goals):
                if found[i] is None and fits[i]:
                    found[i] = self._decisions(goal)
        if tolerance:
            for i, goal in enumerate(goals):
                if found[i] is None:
                    found[i] = self._nearest(goal, 2 * tolerance)
        return found

    def _nearest(self, goal: Column, allowed: float) -> Expr | None:
        misses = np.concatenate([(level != goal).mean(axis=1) for level in self.bank.values])
        best = int(misses.argmin())  # the first of equals is the smallest expression
        return self.expression(best) if misses[best] <= allowed else None

    def _grow(self, size: int, look: Look, *, last: bool) -> None:
        bank, grammar = self.bank, self.grammar
        values: list[Vectors] = []
        made: list[Int[np.ndarray, "count 3"]] = []
        count = bank.offsets[-1]

        def offer(vectors: Vectors, operation: int, left: Numbers, right: Numbers) -> None:
            nonlocal count
            self.tries += len(vectors)
            keys = bank.hash(vectors)
            look(keys, lambda hit: self._make(operation, int(left[hit]), int(right[hit])))
            if last or self.full:
                return
            first = bank.unseen(keys)
            bank.remember(keys[first])
            values.append(vectors[first])
            made.append(np.stack([np.full(len(first), operation), left[first], right[first]], axis=1))
            count += len(first)
            self.full = count > grammar.most

        for o, name in enumerate(grammar.unary):
            level = bank.values[size - 2]
            numbers = np.arange(len(level)) + bank.offsets[size - 2]
            if len(level):
                offer(_unary(name, level), o, numbers, numbers)
        for o, name in enumerate(grammar.binary, start=len(grammar.unary)):
            for i in range(1, size - 1):
                j = size - 1 - i
                if name in _COMMUTATIVE and i < j:
                    continue
                self._combine(name, o, i, j, offer)
        bank.add(values, made)

    def _combine(self, name: str, operation: int, i: int, j: int, offer: Offer) -> None:
        bank = self.bank
        a, b = bank.values[i - 1], bank.values[j - 1]
        right = np.arange(len(b)) + bank.offsets[j - 1]
        if name in {"//", "%"}:
            positive = (b > 0).all(axis=1)
            b, right = b[positive], right[positive]
        if not len(a) or not len(b):
            return
        step = max(1, _BLOCK // (len(b) * self.rows))
        for begin in range(0, len(a), step):
            if self.tries > self.grammar.tries:
                return
            part = a[begin : begin + step]
            vectors = _binary(name, part[:, None], b[None]).reshape(-1, self.rows)
            left = np.repeat(np.arange(begin, begin + len(part)) + bank.offsets[i - 1], len(b))
            rights = np.tile(right, len(part))
            if name in {"+", "-", "*"}:
                small = np.abs(vectors).max(axis=1) < _LIMIT
                if not small.all():
                    vectors, left, rights = vectors[small], left[small], rights[small]
            if len(vectors):
                offer(vectors, operation, left, rights)

    def _conditional(self, goal: Column) -> Expr | None:
        """The smallest `a if c else b` over the first expressions of the bank."""
        known = min(self.bank.offsets[-1], _CONDITIONAL)
        table = np.concatenate(self.bank.values)[:known]
        match = (table == goal).astype(np.float32)
        truth = (table >= 0).all(axis=1) & (table <= 1).all(axis=1)
        conditions = np.flatnonzero(truth & (table.min(axis=1) != table.max(axis=1)))[:3000]
        where = table[conditions].astype(np.float32)
        sizes = np.searchsorted(self.bank.offsets, np.arange(known), side="right")

        def cheapest(mask: Float[np.ndarray, "conditions rows"]) -> Int[np.ndarray, " conditions"]:
            """Number of the first expression right on the rows of each mask; -1 for none."""
            # The bank is ordered by size, so the first is the smallest.
            good = match @ mask.T == mask.sum(axis=1)
            return np.where(good.any(axis=0), good.argmax(axis=0), -1)

        yes, no = cheapest(where), cheapest(1 - where)
        usable = np.flatnonzero((yes >= 0) & (no >= 0))
        if not len(usable):
            return None
        total = sizes[conditions[usable]] + sizes[yes[usable]] + sizes[no[usable]]
        best = usable[total.argmin()]
        parts = (conditions[best], yes[best], no[best])
        return Expr("if", tuple(self.expression(int(p)) for p in parts))

    def _by_cases(self, formula: Expr, goal: Column) -> Expr:
        """A conditional that says the same as arithmetic which merely passes through the values of a table.

        Whoever divides a negative number, or takes its remainder, makes use of how Python rounds:
        `abs((x - s) // 3)` is two lines of a table. A division gives way to a conditional of up to two more
        nodes, since it is harder to read than that; a remainder, which may be a count on a circle, to one of
        equal length.
        """
        rounding = self._divisions_of_negatives(formula)
        if not rounding or ex.size(formula) < _INTERPOLATING:
            return formula
        conditional = self._conditional(goal)
        if conditional is None or self._divisions_of_negatives(conditional):
            return formula
        room = ex.size(formula) + (2 if "//" in rounding else 0)
        return conditional if ex.size(conditional) <= room else formula

    def _divisions_of_negatives(self, expr: Expr) -> set[str]:
        """Which of // and % it has of something that is negative in a row."""
        rows = self._rows_of_leaves()
        return {
            node.op
            for node in ex.nodes(expr)
            if node.op in {"//", "%"} and int(np.min(evaluate(node.args[0], rows))) < 0
        }

    def _rows_of_leaves(self) -> dict[str, Column]:
        """The columns that were enumerated over, by name."""
        first = self.bank.values[0]
        columns = {}
        for number in range(len(first)):
            leaf = self.expression(number)
            if leaf.op == "var":
                columns[ex.name_of(leaf)] = first[number].astype(np.int64)
        return columns

    def _decisions(self, goal: Column) -> Expr | None:
        """A short list of decisions over small expressions, found greedily (Rivest, 1987).

        Each case takes the condition that settles most of the open rows for its size; of several first cases
        the one is kept that the shortest list begins with.
        """
        known = min(self.bank.offsets[min(3, len(self.bank.offsets) - 1)], _DECIDED)
        table = np.concatenate(self.bank.values)[:known]
        sizes = np.searchsorted(self.bank.offsets, np.arange(known), side="right")
        match = (table == goal).astype(np.float32)
        truth = (table >= 0).all(axis=1) & (table <= 1).all(axis=1) & (table.min(axis=1) != table.max(axis=1))
        conditions = np.flatnonzero(truth)[:400]
        if not len(conditions):
            return None
        holds = table[conditions].astype(np.float32)
        # Either side of a condition may be the case.
        holds = np.concatenate([holds, 1 - holds])
        cost = np.concatenate([sizes[conditions], sizes[conditions] + 1])

        def ranked(
            open_rows: Float[np.ndarray, " rows"],
        ) -> tuple[Int[np.ndarray, " usable"], Int[np.ndarray, " conditions"]]:
            """Conditions by the rows that they settle for their size, with the value there."""
            under = holds * open_rows
            counts = under.sum(axis=1)
            good = match @ under.T == counts
            first = np.where(good.any(axis=0), good.argmax(axis=0), -1)
            usable = (first >= 0) & (counts > 0)
            gain = np.where(usable, counts / (cost + sizes[first] + 1), -1)
            order = np.argsort(-gain, kind="stable")
            return order[: int(usable.sum())], first

        def completed(cases: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], int] | None:
            """Cases and the value of all that they leave open."""
            open_rows = np.ones(self.rows, np.float32)
            for case, _ in cases:
                open_rows = open_rows * (1 - holds[case])
            while True:
                covered = match @ open_rows == open_rows.sum()
                if covered.any():
                    return cases, int(covered.argmax())
                if len(cases) >= self.grammar.decisions:
                    return None
                order, first = ranked(open_rows)
                if not len(order):
                    return None
                cases = [*cases, (int(order[0]), int(first[order[0]]))]
                open_rows = open_rows * (1 - holds[order[0]])

        order, first = ranked(np.ones(self.rows, np.float32))
        lists = [completed([(int(c), int(first[c]))]) for c in order[:8]]
        found = [item for item in lists if item is not None]
        if not found:
            return None
        cases, last = min(found, key=lambda f: sum(cost[c] + sizes[v] + 1 for c, v in f[0]) + sizes[f[1]])
        result = self.expression(last)
        for case, value in reversed(cases):
            condition = self.expression(int(conditions[case % len(conditions)]))
            sides = (self.expression(value), result)
            result = Expr("if", (condition, *(sides if case < len(conditions) else sides[::-1])))
        return result


def _unary(name: str, a: Vectors) -> Vectors:
    match name:
        case "abs":
            return np.abs(a)
        case "not":
            return (a == 0).astype(np.int32)
        case "neg":
            return -a
        # Shorthand of the published grammar, one symbol each.
        case "inc":
            return a + 1
        case "dec":
            return a - 1
        case "positive":
            return (a > 0).astype(np.int32)
        case "plus100":
            return a + 100
        case "minus100":
            return a - 100
    raise ValueError(f"the enumerator has no unary operation {name!r}")


def _binary(
    name: str, a: Int[np.ndarray, "left 1 rows"], b: Int[np.ndarray, "1 right rows"]
) -> Int[np.ndarray, "left right rows"]:
    match name:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "min":
            return np.minimum(a, b)
        case "max":
            return np.maximum(a, b)
        case "==":
            return (a == b).astype(np.int32)
        case "<":
            return (a < b).astype(np.int32)
        case "//":
            return a // b
        case "%":
            return a % b
        case "^":
            return a ^ b
    raise ValueError(f"the enumerator has no binary operation {name!r}")


def find(
    leaves: Mapping[str, Column],
    targets: Sequence[Column],
    grammar: Grammar | None = None,
    *,
    rows: int = 96,
    rounds: int = 5,
    tolerance: float = 0.0,
) -> list[Expr | None]:
    """A small expression over the leaves for each target, equal to it on every row; None if none is found.

    Only some rows are enumerated over at first; rows that a result gets wrong are added and the search
    repeated, so that the answer holds on all.

    Args: leaves: a vector per variable. targets: vectors of the same length. rows: how many to begin with.
        tolerance: share of all rows that a result may miss, for rows from a network that errs now and then.
    """
    grammar = grammar or Grammar()
    leaves = {name: np.asarray(v, np.int64) for name, v in leaves.items()}
    goals = np.stack([np.asarray(t, np.int64) for t in targets])
    if not tolerance:  # otherwise how often a row comes says which of two is the error
        table = np.concatenate([np.stack(list(leaves.values())), goals]).T
        _, distinct = np.unique(table, axis=0, return_index=True)
        distinct.sort()
        leaves = {name: v[distinct] for name, v in leaves.items()}
        goals = goals[:, distinct]
        if not _is_function(np.stack(list(leaves.values())).T):
            return [None] * len(targets)
    total = goals.shape[1]
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(total)[:rows])
    results: list[Expr | None] = [None] * len(targets)
    done = [False] * len(targets)
    for attempt in range(rounds):
        open_goals = [i for i, d in enumerate(done) if not d]
        enumerator = Enumerator({n: v[chosen] for n, v in leaves.items()}, grammar)
        found = enumerator.search([goals[i, chosen] for i in open_goals], tolerance=tolerance)
        wrong: list[Int[np.ndarray, " misses"]] = []
        for i, expr in zip(open_goals, found, strict=True):
            if expr is None:
                # Rows that err hide the rule: look at others. Without errors the search is final.
                done[i] = not tolerance
                continue
            try:
                misses = np.flatnonzero(np.broadcast_to(evaluate(expr, leaves), total) != goals[i])
            except ZeroDivisionError:
                misses = np.arange(total)
            if len(misses) > tolerance * total:
                wrong.append(misses[:: max(1, len(misses) // 16)])
            else:
                results[i], done[i] = expr, True
        if all(done):
            break
        if tolerance:
            chosen = np.sort(np.random.default_rng(attempt + 1).permutation(total)[:rows])
        else:
            chosen = np.union1d(chosen, np.concatenate(wrong))[: 4 * rows]
    return results


def _is_function(arguments: Int[np.ndarray, "rows arguments"]) -> bool:
    """Whether distinct (arguments, targets) rows have distinct arguments."""
    return len(np.unique(arguments, axis=0)) == len(arguments)
