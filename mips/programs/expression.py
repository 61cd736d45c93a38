"""Integer expressions as trees: evaluated on arrays, written as Python, sympy and LaTeX, read back.

Truth values are the integers 0 and 1. Lists (a history, a table's row) are arrays with one more
axis at the end. Text is parsed into a tree; nothing is ever executed as Python.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from jaxtyping import Shaped

if TYPE_CHECKING:
    import sympy

    Constant: TypeAlias = "int | tuple[Constant, ...]"
else:
    Constant = int | tuple  # checks at run time know no recursive types

Given = Shaped[np.ndarray, "..."]  # values of a name: integers (rows,), lists (rows, items), or a table
Value = Given | np.generic  # computed integers or truth values; from constants alone numpy makes scalars
Items = Shaped[np.ndarray, "rows items"]  # a list in every row

MOST_DEPTH = 150
"""Levels of a program's expression: what Python's own parser takes, and recursion in pure Python stands."""


@dataclasses.dataclass(frozen=True)
class Expr:
    """A node: an operation on arguments, a constant (`value` an integer or nested tuple) or a name."""

    op: str
    args: tuple[Expr, ...] = ()
    value: Constant | str | None = None

    def __str__(self) -> str:
        return to_python(self)


def const(value: Constant) -> Expr:
    """A constant: an integer, or nested tuples of integers for a table."""
    return Expr("const", value=value)


def var(name: str) -> Expr:
    """A variable."""
    return Expr("var", value=name)


def name_of(variable: Expr) -> str:
    """The name of a variable."""
    assert isinstance(variable.value, str)
    return variable.value


def value_of(constant: Expr) -> Constant:
    """The value of a constant."""
    assert isinstance(constant.value, int | tuple)
    return constant.value


def apply(op: str, *args: Expr) -> Expr:
    """An operation on arguments.

    Raises ValueError for an operation that is not in the language.
    """
    if op not in OPERATIONS:
        raise ValueError(f"no operation {op!r}; there are {', '.join(OPERATIONS)}")
    return Expr(op, args)


@dataclasses.dataclass(frozen=True)
class _Operation:
    """How an operation is computed, and (for operators) written."""

    arity: int | None
    compute: Callable[..., Value] | None  # None: evaluated where rows can fail or be left out
    symbol: str | None = None
    precedence: int = 20  # calls and displays bind tightest


def _as_int(values: Value) -> Value:
    return values.astype(np.int64) if values.dtype == bool else values


def _compare(compare: Callable[[Any, Any], Any]) -> Callable[..., Value]:
    return lambda a, b: _as_int(np.asarray(compare(a, b)))


def _equal(a: Value, b: Value) -> Given:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.ndim == b.ndim == 2:  # two lists
        if a.shape[1] != b.shape[1]:
            return np.zeros(len(a), np.int64)
        return np.asarray(_as_int(np.asarray(a == b).all(axis=-1)))
    return np.asarray(_as_int(np.asarray(a == b)))


def _columns(*values: Shaped[np.ndarray, " rows"]) -> Items:
    return np.stack(np.broadcast_arrays(*values), axis=-1)


def _append(items: Items, last: Shaped[np.ndarray, " rows"]) -> Shaped[np.ndarray, "rows items+1"]:
    return np.concatenate([items, last[..., None].astype(items.dtype)], axis=-1)


def _distinct(items: Items) -> Shaped[np.ndarray, " rows"]:
    if not items.shape[-1]:
        return np.zeros(items.shape[:-1], np.int64)
    return (np.diff(np.sort(items, axis=-1), axis=-1) != 0).sum(axis=-1) + 1


def _same(a: Items, b: Shaped[np.ndarray, "rows _others"]) -> Shaped[np.ndarray, " rows"]:
    shorter = min(a.shape[-1], b.shape[-1])
    return (a[..., :shorter] == b[..., :shorter]).sum(axis=-1)


# The language. Symbols and precedences are Python's.
OPERATIONS: dict[str, _Operation] = {
    "if": _Operation(3, None, None, 1),
    "or": _Operation(2, None, "or", 2),
    "and": _Operation(2, None, "and", 3),
    "not": _Operation(1, lambda a: _as_int(np.asarray(a) == 0), "not ", 4),
    "==": _Operation(2, _equal, "==", 5),
    "!=": _Operation(2, lambda a, b: 1 - _equal(a, b), "!=", 5),
    "<": _Operation(2, _compare(operator.lt), "<", 5),
    "<=": _Operation(2, _compare(operator.le), "<=", 5),
    ">": _Operation(2, _compare(operator.gt), ">", 5),
    ">=": _Operation(2, _compare(operator.ge), ">=", 5),
    "in": _Operation(2, lambda a, b: _as_int((np.asarray(a)[..., None] == np.asarray(b)).any(-1)), "in", 5),
    "|": _Operation(2, operator.or_, "|", 6),
    "^": _Operation(2, operator.xor, "^", 7),
    "&": _Operation(2, operator.and_, "&", 8),
    "+": _Operation(2, operator.add, "+", 10),
    "-": _Operation(2, operator.sub, "-", 10),
    "*": _Operation(2, operator.mul, "*", 11),
    "//": _Operation(2, operator.floordiv, "//", 11),
    "%": _Operation(2, operator.mod, "%", 11),
    "neg": _Operation(1, np.negative, "-", 12),
    "abs": _Operation(1, np.abs),
    "min": _Operation(2, np.minimum),
    "max": _Operation(2, np.maximum),
    "list": _Operation(None, _columns),
    "lookup": _Operation(None, None),
    "append": _Operation(2, _append, None, 10),
    "reversed": _Operation(1, lambda a: a[..., ::-1]),
    "sorted": _Operation(1, lambda a: np.sort(a, axis=-1)),
    "front": _Operation(1, lambda a: a[..., : a.shape[-1] // 2]),
    "back": _Operation(1, lambda a: a[..., a.shape[-1] // 2 :]),
    "same": _Operation(2, _same),
    "index": _Operation(2, None),
    "count": _Operation(2, lambda a, b: (a == np.asarray(b)[..., None]).sum(axis=-1)),
    "largest": _Operation(1, lambda a: a.max(axis=-1)),
    "smallest": _Operation(1, lambda a: a.min(axis=-1)),
    "total": _Operation(1, lambda a: a.sum(axis=-1)),
    "length": _Operation(1, lambda a: np.full(a.shape[:-1], a.shape[-1])),
    "distinct": _Operation(1, lambda a: (np.diff(np.sort(a, axis=-1), axis=-1) != 0).sum(axis=-1) + 1),
}
COMPARISONS = {"==", "!=", "<", "<=", ">", ">=", "in", "not"}
_LISTS = {"list", "append", "reversed", "sorted", "front", "back"}
_CALLS = {
    "abs": "abs",
    "largest": "max",
    "smallest": "min",
    "total": "sum",
    "length": "len",
    "sorted": "sorted",
    "min": "min",
    "max": "max",
}


def nodes(expr: Expr) -> Iterator[Expr]:
    """Every node of the tree, parents first."""
    yield expr
    for argument in expr.args:
        yield from nodes(argument)


def size(expr: Expr) -> int:
    """Number of nodes."""
    return sum(1 for _ in nodes(expr))


def depth(expr: Expr) -> int:
    """Nodes on the longest way from the root to a leaf."""
    deepest, level = 0, [expr]
    while level:  # not by recursion, whose own limit would come first
        deepest += 1
        level = list({id(a): a for e in level for a in e.args}.values())
    return deepest


def replace(expr: Expr, part: Expr, by: Expr) -> Expr:
    """The expression with another one wherever a part occurs in it."""
    if expr == part:
        return by
    return Expr(expr.op, tuple(replace(a, part, by) for a in expr.args), expr.value) if expr.args else expr


def names(expr: Expr) -> set[str]:
    """Variables that occur."""
    return {name_of(node) for node in nodes(expr) if node.op == "var"}


def substitute(expr: Expr, values: Mapping[str, Expr]) -> Expr:
    """The expression with variables replaced."""
    if expr.op == "var":
        return values.get(name_of(expr), expr)
    if not expr.args:
        return expr
    return Expr(expr.op, tuple(substitute(a, values) for a in expr.args), expr.value)


def _integers(value: Constant) -> Iterator[int]:
    if isinstance(value, tuple):
        for item in value:
            yield from _integers(item)
    else:
        yield int(value)


def bits(expr: Expr, *, variables: int) -> float:
    """Description length in bits.

    log2 of the number of operations of that arity (leaves: variables and "a constant") for each node,
    and log2(1 + |c|) + 1 for each integer. `variables` is how many names are in scope.
    """
    arities = [operation.arity for operation in OPERATIONS.values()]
    total = 0.0
    for node in nodes(expr):
        if node.op == "const":
            total += math.log2(variables + 1) + sum(
                math.log2(1 + abs(c)) + 1 for c in _integers(value_of(node))
            )
        elif node.op == "var":
            total += math.log2(variables + 1)
        else:
            arity = OPERATIONS[node.op].arity
            total += math.log2(max(2, arities.count(arity)))
    return total


def is_truth(expr: Expr) -> bool:
    """Whether Python gives a bool where the language gives 0 or 1."""
    if expr.op in {"&", "|", "^"}:  # bool op bool is a bool, int otherwise
        return all(is_truth(a) for a in expr.args)
    if expr.op in {"and", "or"}:
        return any(is_truth(a) for a in expr.args)
    if expr.op == "if":
        return any(is_truth(a) for a in expr.args[1:])
    return expr.op in COMPARISONS


def _is_list(expr: Expr) -> bool:
    return expr.op in _LISTS or (expr.op == "const" and isinstance(expr.value, tuple))


def to_python(expr: Expr) -> str:
    """Python text with the same meaning; `int(...)` around truth values is the caller's."""
    return _write(expr, 0)


def _write(expr: Expr, outer: int) -> str:
    op, args = expr.op, expr.args
    if op == "const":
        text = str(expr.value)
        return f"({text})" if outer > 12 and text.startswith("-") else text
    if op == "var":
        return name_of(expr)
    own = OPERATIONS[op].precedence
    if op == "if":
        yes, no = _write(args[1], own + 1), _write(args[2], own)
        text = f"{yes} if {_write(args[0], own + 1)} else {no}"
    elif op == "list":
        text = f"[{', '.join(_write(a, 0) for a in args)}]"
    elif op == "lookup":
        text = _write(args[0], 20) + "".join(f"[{_write(a, 0)}]" for a in args[1:])
    elif op == "append":
        text = f"{_write(args[0], own)} + [{_write(args[1], 0)}]"
    elif op == "reversed":
        text = f"{_write(args[0], 20)}[::-1]"
    elif op in {"front", "back"}:
        half = f"len({_write(args[0], 0)}) // 2"
        text = f"{_write(args[0], 20)}[{f':{half}' if op == 'front' else f'{half}:'}]"
    elif op == "same":
        # The lists are made outside of the generator, whose names hide no others.
        text = f"sum(a == b for a, b in zip({_write(args[0], 0)}, {_write(args[1], 0)}))"
    elif op in {"index", "count"}:
        text = f"{_write(args[0], 20)}.{op}({_write(args[1], 0)})"
    elif op == "distinct":
        text = f"len(set({_write(args[0], 0)}))"
    elif op in _CALLS:
        text = f"{_CALLS[op]}({', '.join(_write(a, 0) for a in args)})"
    elif len(args) == 1:
        text = f"{OPERATIONS[op].symbol}{_write(args[0], own)}"
    else:
        # Comparisons chain in Python (a < b == c), so both sides of one are bracketed.
        left = own + 1 if own == 5 else own
        text = f"{_write(args[0], left)} {OPERATIONS[op].symbol} {_write(args[1], own + 1)}"
    return f"({text})" if own < outer else text


_BINARY = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
}  # fmt: skip
_COMPARE = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.In: "in",
}  # fmt: skip


def parse(text: str) -> Expr:
    """The expression a text stands for.

    Raises ValueError where the text is not an expression of the language.
    """
    try:
        return from_ast(ast.parse(text, mode="eval").body)
    except SyntaxError as error:
        raise ValueError(f"not an expression: {text!r} ({error.msg})") from None
    except (RecursionError, MemoryError):  # the parser's own limits come as either
        raise ValueError(f"the text is nested too deeply (at most {MOST_DEPTH} levels)") from None


def _refuse(node: ast.AST) -> ValueError:
    text = ast.unparse(node)
    return ValueError(f"line {getattr(node, 'lineno', 1)}: {text!r} is not part of the language of programs")


def _constant(node: ast.expr) -> Constant | None:
    """Integer or nested tuple of integers, or None."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if (
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and isinstance(node.operand, ast.Constant)
    ):
        inner = _constant(node.operand)
        return -inner if isinstance(inner, int) else None
    if isinstance(node, ast.Tuple):
        items = [_constant(e) for e in node.elts]
        known = tuple(i for i in items if i is not None)
        return known if len(known) == len(items) else None
    return None


def _parse_call(node: ast.Call) -> Expr:
    args = node.args
    if node.keywords or not args:
        raise _refuse(node)
    if isinstance(node.func, ast.Attribute) and node.func.attr in {"index", "count"} and len(args) == 1:
        return Expr(node.func.attr, (from_ast(node.func.value), from_ast(args[0])))
    if not isinstance(node.func, ast.Name):
        raise _refuse(node)
    name, inner = node.func.id, args[0]
    if name == "int" and len(args) == 1:
        return from_ast(inner)
    if (
        name == "len"
        and isinstance(inner, ast.Call)
        and isinstance(inner.func, ast.Name)
        and inner.func.id == "set"
        and len(args) == len(inner.args) == 1
        and not inner.keywords
    ):
        return Expr("distinct", (from_ast(inner.args[0]),))
    if name in {"min", "max"} and len(args) >= 2:
        result = from_ast(args[0])
        for other in args[1:]:
            result = Expr(name, (result, from_ast(other)))
        return result
    if name == "sum" and len(args) == 1 and isinstance(inner, ast.GeneratorExp):
        return _parse_same(node, inner)
    single = {
        "abs": "abs",
        "min": "smallest",
        "max": "largest",
        "sum": "total",
        "len": "length",
        "sorted": "sorted",
    }
    if name in single and len(args) == 1:
        return Expr(single[name], (from_ast(inner),))
    raise _refuse(node)


def _parse_same(node: ast.Call, inner: ast.GeneratorExp) -> Expr:
    """`sum(a == b for a, b in zip(p, q))`, and nothing else."""
    loop = inner.generators[0]
    zipped = loop.iter
    if not (
        len(inner.generators) == 1
        and ast.unparse(inner.elt) == "a == b"
        and ast.unparse(loop.target) == "(a, b)"
        and not loop.ifs
        and not loop.is_async
        and isinstance(zipped, ast.Call)
        and ast.unparse(zipped.func) == "zip"
        and len(zipped.args) == 2
        and not zipped.keywords
    ):
        raise _refuse(node)
    return Expr("same", tuple(map(from_ast, zipped.args)))


def _half(node: ast.Subscript, bound: ast.expr | None) -> bool:
    """Whether a bound of a slice is half the length of what is sliced."""
    return bound is not None and ast.unparse(bound) == f"len({ast.unparse(node.value)}) // 2"


def from_ast(node: ast.expr) -> Expr:
    """The expression of a parsed Python expression. Raises ValueError outside the language."""
    constant = _constant(node)
    if constant is not None:
        return const(constant)
    match node:
        case ast.Name():
            return var(node.id)
        case ast.List():
            return Expr("list", tuple(map(from_ast, node.elts)))
        case ast.UnaryOp(op=ast.Not()):
            return Expr("not", (from_ast(node.operand),))
        case ast.UnaryOp(op=ast.USub()):
            return Expr("neg", (from_ast(node.operand),))
        case ast.BinOp(op=ast.Add(), right=ast.List(elts=[last])):
            return Expr("append", (from_ast(node.left), from_ast(last)))
        case ast.BinOp() if type(node.op) in _BINARY:
            return Expr(_BINARY[type(node.op)], (from_ast(node.left), from_ast(node.right)))
        case ast.BoolOp():
            op = "and" if isinstance(node.op, ast.And) else "or"
            result = from_ast(node.values[0])
            for value in node.values[1:]:
                result = Expr(op, (result, from_ast(value)))
            return result
        case ast.Compare(ops=[one], comparators=[right]) if type(one) in _COMPARE:
            return Expr(_COMPARE[type(one)], (from_ast(node.left), from_ast(right)))
        case ast.IfExp():
            return Expr("if", (from_ast(node.test), from_ast(node.body), from_ast(node.orelse)))
        case ast.Subscript(slice=ast.Slice(lower=None, upper=None, step=step)) if step is not None:
            if _constant(step) == -1:
                return Expr("reversed", (from_ast(node.value),))
        case ast.Subscript(slice=ast.Slice(lower=None, upper=upper, step=None)) if _half(node, upper):
            return Expr("front", (from_ast(node.value),))
        case ast.Subscript(slice=ast.Slice(lower=lower, upper=None, step=None)) if _half(node, lower):
            return Expr("back", (from_ast(node.value),))
        case ast.Subscript() if not isinstance(node.slice, ast.Slice | ast.Tuple):
            table, index = from_ast(node.value), from_ast(node.slice)
            if table.op == "lookup":
                return Expr("lookup", (*table.args, index))
            return Expr("lookup", (table, index))
        case ast.Call():
            return _parse_call(node)
    raise _refuse(node)


def to_sympy(expr: Expr) -> sympy.Basic:
    """The expression in sympy; comparisons as Piecewise 0/1, lists as undefined functions.

    Raises ValueError for &, | and ^ with a constant other than 0 and 1: they are taken for truth values.
    """
    import sympy as sp

    args = [to_sympy(a) for a in expr.args]
    if expr.op == "const":
        if isinstance(expr.value, tuple):
            return sp.Tuple(*(to_sympy(const(v)) for v in expr.value))
        return sp.Integer(expr.value)
    if expr.op == "var":
        return sp.Symbol(name_of(expr), integer=True)

    def truth(condition: sympy.Basic) -> sympy.Basic:
        if condition in (sp.true, sp.false):
            return sp.Integer(int(condition == sp.true))
        return sp.Piecewise((1, condition), (0, True))

    if expr.op in {"&", "|", "^"} and any(c.op == "const" and c.value not in (0, 1) for c in expr.args):
        raise ValueError(f"{to_python(expr)!r}: bits of numbers have no sympy form")
    if any(_is_list(a) for a in expr.args) and (expr.op != "in" or expr.args[1].op != "const"):
        return sp.Function({"==": "equal", "!=": "unequal"}.get(expr.op, expr.op))(*args)
    # sympy types its numbers as Basic, which has no arithmetic, and its equations as numbers.
    a: Any
    b: Any
    equal = cast("Callable[[Any, Any], Any]", sp.Eq)
    a, b = (*args, None, None)[:2]
    rules: dict[str, Callable[[], Any]] = {
        "+": lambda: a + b,
        "-": lambda: a - b,
        "*": lambda: a * b,
        "//": lambda: sp.floor(a / b),
        "%": lambda: sp.Mod(a, b),
        "neg": lambda: -a,
        "abs": lambda: sp.Abs(a),
        "min": lambda: sp.Min(a, b),
        "max": lambda: sp.Max(a, b),
        "==": lambda: truth(sp.Eq(a, b)),
        "!=": lambda: truth(sp.Ne(a, b)),
        "<": lambda: truth(sp.Lt(a, b)),
        "<=": lambda: truth(sp.Le(a, b)),
        ">": lambda: truth(sp.Gt(a, b)),
        ">=": lambda: truth(sp.Ge(a, b)),
        "not": lambda: truth(sp.Eq(a, 0)),
        "and": lambda: sp.Piecewise((b, sp.Ne(a, 0)), (0, True)),
        "or": lambda: sp.Piecewise((a, sp.Ne(a, 0)), (b, True)),
        "if": lambda: sp.Piecewise((b, sp.Ne(a, 0)), (args[2], True)),
        "in": lambda: truth(sp.Or(*(equal(a, item) for item in b))),
        # On truth values; of other numbers sympy has no bits.
        "&": lambda: a * b,
        "^": lambda: sp.Mod(a + b, 2),
        "|": lambda: sp.Max(a, b),
    }
    if expr.op in rules:
        return rules[expr.op]()
    return sp.Function(expr.op)(*args)


def to_json(expr: Expr) -> Any:
    """Nested lists: ["+", ["var", "x"], ["const", 1]]."""
    if expr.op in {"const", "var"}:
        return [expr.op, expr.value]
    return [expr.op, *map(to_json, expr.args)]


def from_json(data: Any) -> Expr:
    """Inverse of `to_json`. Raises ValueError for anything else."""
    try:
        return _from_json(data)
    except RecursionError:
        raise ValueError(f"not an expression: nested too deeply (at most {MOST_DEPTH} levels)") from None


def _is_constant(value: object) -> bool:
    return type(value) is int or (isinstance(value, tuple) and all(map(_is_constant, value)))


def _from_json(data: Any) -> Expr:
    def freeze(value: Any) -> Any:
        return tuple(map(freeze, value)) if isinstance(value, list) else value

    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise ValueError(f"not an expression: {data!r}")
    op, *rest = data
    if op == "var" and len(rest) == 1 and isinstance(rest[0], str):
        return var(rest[0])
    if op == "const" and len(rest) == 1:
        value = freeze(rest[0])
        if _is_constant(value):
            return const(value)
        raise ValueError(f"not an expression: a constant is an integer or a table, not {rest[0]!r}")
    arity = OPERATIONS[op].arity if op in OPERATIONS else -1
    if arity is not None and arity != len(rest):
        raise ValueError(f"not an expression: {op!r} with {len(rest)} arguments")
    return Expr(op, tuple(map(_from_json, rest)))
