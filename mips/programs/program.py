"""Programs: a loop over the inputs with integer state, as a tree of ours.

    state <- initial
    for inputs: outputs <- f(state, inputs); state <- g(state, inputs)

Both right-hand sides see the old state. The same tree is printed as a Python generator, as sympy
and LaTeX, stored as JSON, and run by the interpreter here.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import keyword
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Int, Shaped
from numpy.typing import ArrayLike

from mips.programs import evaluation as ev
from mips.programs import expression as ex
from mips.programs.expression import Constant, Expr

if TYPE_CHECKING:
    import sympy

    Table: TypeAlias = tuple[Constant, ...]
else:
    Table = tuple

_LARGEST = 20_000  # parts of a formula read from text


@dataclasses.dataclass(frozen=True)
class Program:
    """A causal program over integer sequences."""

    inputs: tuple[str, ...]
    """names of the values read in a step"""
    state: tuple[str, ...]
    """names of the state"""
    initial: tuple[Constant, ...]
    """initial values: integers, or () for an empty list"""
    updates: tuple[Expr, ...]
    """next state, from old state and inputs"""
    outputs: tuple[Expr, ...]
    """outputs of the step, from old state and inputs"""
    tables: tuple[tuple[str, Table], ...] = ()
    """named tables, nested tuples of integers"""
    kind: str = ""
    """how it was found: linear, finite-state, definite, counter, history, window, boolean, symbolic, table"""

    def __post_init__(self) -> None:
        if not len(self.state) == len(self.initial) == len(self.updates):
            raise ValueError("a program needs an initial value and an update for each state variable")
        if not self.inputs or not self.outputs:
            raise ValueError("a program needs at least one input and one output")
        kinds = dict.fromkeys(self.inputs, "int")
        for name, value in zip(self.state, self.initial, strict=True):
            kinds[name] = "list" if value == () else "int"
            if value != ():
                ev.check_constant(value)
        for name, table in self.tables:
            kinds[name] = f"table {_depth(table)}"
            ev.check_constant(table)
        names = [*self.inputs, *self.state, *(name for name, _ in self.tables)]
        for name in names:
            if not (isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)):
                raise ValueError(f"{name!r} cannot be a name in a program")
        if len(set(names)) < len(names):
            raise ValueError(f"a name is used twice: {', '.join(n for n in names if names.count(n) > 1)}")
        for expr in (*self.updates, *self.outputs):
            if (deep := ex.depth(expr)) > ex.MOST_DEPTH:
                raise ValueError(
                    f"an expression is nested {deep} levels deep; at most {ex.MOST_DEPTH} are taken"
                )
            unknown = ex.names(expr) - set(kinds)
            if unknown:
                raise ValueError(f"unknown names in {expr}: {', '.join(sorted(unknown))}")
        for name, update in zip(self.state, self.updates, strict=True):
            if ev.kind_of(update, kinds) != kinds[name]:
                raise ValueError(
                    f"{name} begins as {kinds[name]} and becomes {ev.kind_of(update, kinds)}: {update}"
                )
        for output in self.outputs:
            if ev.kind_of(output, kinds) != "int":
                raise ValueError(f"an output must be an integer: {output}")

    @property
    def bits(self) -> float:
        """Description length in bits: formulas, initial values, tables (rows x log2 of their range)."""
        variables = len(self.inputs) + len(self.state) + len(self.tables)
        total = sum(ex.bits(e, variables=variables) for e in (*self.updates, *self.outputs))
        total += sum(math.log2(1 + abs(v)) + 1 for v in self.initial if isinstance(v, int))
        for _, table in self.tables:
            values = np.asarray(table)
            total += values.size * math.log2(max(2, int(values.max() - values.min()) + 1))
        return total

    @property
    def uses_table(self) -> bool:
        """Whether a part is a look-up table rather than a formula."""
        return bool(self.tables)

    def run(self, sequences: ArrayLike, *, exact: bool = False) -> Shaped[np.ndarray, "count length outputs"]:
        """Outputs (count, length, outputs) for inputs (count, length, inputs).

        Computed in int64; `exact` uses Python's unbounded integers instead (slower).
        Raises ZeroDivisionError, IndexError or ValueError where the Python text would, ValueError, too, for a
        state beyond `evaluation.MOST_BITS`, and ValueError or TypeError for inputs of another shape or kind.
        """
        outputs, failed = self.attempt(sequences, exact=exact)
        if failed.any():
            raise ev.ERRORS[int(failed[failed != ev.OK][0])]
        return outputs

    def attempt(
        self, sequences: ArrayLike, *, exact: bool = False
    ) -> tuple[Shaped[np.ndarray, "count length outputs"], Int[np.ndarray, "count length"]]:
        """Outputs, and for every step (count, length) a code that is 0 where all went well until then.

        exact: in unbounded integers, of which a state has at most `evaluation.MOST_BITS` bits.
        """
        x = np.asarray(sequences)
        if x.ndim != 3 or x.shape[2] != len(self.inputs):
            raise ValueError(f"inputs of shape {x.shape}; (count, length, {len(self.inputs)}) was expected")
        if not (np.issubdtype(x.dtype, np.integer) or x.dtype in (bool, object)):
            raise TypeError(f"inputs of type {x.dtype}; integers were expected")
        x = x.astype(object if exact else np.int64)
        count, length = x.shape[:2]
        tables = {name: np.asarray(table) for name, table in self.tables}
        state = [
            np.empty((count, 0), x.dtype) if v == () else np.full(count, v, x.dtype) for v in self.initial
        ]
        outputs = np.zeros((count, length, len(self.outputs)), x.dtype)
        failed = np.zeros(count, np.int8)
        codes = np.zeros((count, length), np.int8)
        for t in range(length):
            values = dict(zip(self.state, state, strict=True))
            values |= {name: x[:, t, i] for i, name in enumerate(self.inputs)}
            for i, e in enumerate(self.outputs):
                outputs[:, t, i] = ev.attempt(e, values, tables, failed)
            codes[:, t] = failed
            new = [np.asarray(ev.attempt(e, values, tables, failed)) for e in self.updates]
            state = [v if v.ndim == 2 else np.broadcast_to(v, (count,)) for v in new]
            if exact:
                state = [ev.bounded(v, failed) for v in state]
        return outputs, codes

    def source(self, name: str = "program") -> str:
        """The program as a Python generator function."""
        return _write_function(self, name)

    def sympy(self) -> dict[str, sympy.Basic]:
        """Equations: new state by name (with a prime) and outputs y or y1, y2, ..."""
        left = [f"{s}'" for s in self.state] + _output_names(len(self.outputs))
        return {k: ex.to_sympy(e) for k, e in zip(left, (*self.updates, *self.outputs), strict=True)}

    def latex(self) -> str:
        """The equations as a LaTeX cases block."""
        import sympy

        lines = []
        for name, value in self.sympy().items():
            lines.append(f"{sympy.latex(sympy.Symbol(name))} &= {sympy.latex(value)}")
        starts = ", ".join(
            f"{s}_0 = {v if isinstance(v, int) else '()'}"
            for s, v in zip(self.state, self.initial, strict=True)
        )
        body = " \\\\\n".join(lines + ([f"& {starts}"] if starts else []))
        return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"

    def to_json(self) -> dict[str, Any]:
        """Plain data; `Program.from_json` reads it back."""
        return {
            "inputs": list(self.inputs),
            "state": list(self.state),
            "initial": json.loads(json.dumps(self.initial)),
            "updates": [ex.to_json(e) for e in self.updates],
            "outputs": [ex.to_json(e) for e in self.outputs],
            "tables": [[name, json.loads(json.dumps(table))] for name, table in self.tables],
            "kind": self.kind,
        }

    @classmethod
    def from_json(cls, data: Any) -> Program:
        """Inverse of `to_json`. Raises ValueError for anything else."""
        try:
            return cls(
                tuple(data["inputs"]),
                tuple(data["state"]),
                tuple(map(_read_constant, data["initial"])),
                tuple(map(ex.from_json, data["updates"])),
                tuple(map(ex.from_json, data["outputs"])),
                tuple((name, _read_table(table)) for name, table in data["tables"]),
                data["kind"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a stored program: {error!r}") from None


def _freeze(value: Any) -> Any:
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


def _read_constant(data: Any) -> Constant:
    """A constant from stored data. Raises ValueError for anything else."""
    value = _freeze(data)
    ev.check_constant(value)
    return value


def _read_table(data: Any) -> Table:
    """A table from stored data. Raises ValueError for anything else."""
    table = _freeze(data)
    _depth(table)
    return table


def _depth(table: object) -> int:
    """Number of indices of a rectangular nested tuple of integers. Raises ValueError for anything else."""
    try:
        array = np.array(table)
    except ValueError:
        array = np.empty(0, object)
    if not isinstance(table, tuple) or not array.size or not np.issubdtype(array.dtype, np.integer):
        raise ValueError("a table must be a rectangular tuple (of tuples) of integers")
    return array.ndim


def _output_names(count: int) -> list[str]:
    return ["y"] if count == 1 else [f"y{i + 1}" for i in range(count)]


def _shared_parts(exprs: list[Expr]) -> list[Expr]:
    """Subexpressions of three nodes or more that occur more than once, largest first."""
    seen: dict[Expr, int] = {}
    for expr in exprs:
        for node in ex.nodes(expr):
            seen[node] = seen.get(node, 0) + 1
    again = [
        e for e, times in seen.items() if times > 1 and ex.size(e) >= 3 and e.op not in {"list", "append"}
    ]
    return sorted(again, key=ex.size, reverse=True)


def _write_value(expr: Expr) -> str:
    text = ex.to_python(expr)
    return f"int({text})" if ex.is_truth(expr) else text


def _write_table(name: str, table: Table) -> list[str]:
    if table and isinstance(table[0], tuple):
        return [f"    {name} = (", *(f"        {row}," for row in table), "    )"]
    return [f"    {name} = {table}"]


def _write_function(program: Program, name: str) -> str:
    # Where the outputs can be said with the new state alone, the state moves first.
    after = [_in_new_state(program, o) for o in program.outputs]
    state_first = bool(program.updates) and all(a is not None for a in after)
    outputs = tuple(a for a in after if a is not None) if state_first else program.outputs
    # New state and old state have the same names, so only parts within the updates are shared then.
    apart = () if state_first else outputs
    temporaries, exprs = _name_shared_parts(program, [*program.updates, *apart])
    updates = exprs[: len(program.updates)]
    written, later = exprs[len(program.updates) :], []
    if state_first:
        taken = [name for name, _ in temporaries]
        later, written = _name_shared_parts(program, list(outputs), taken=taken)

    head = program.inputs[0] if len(program.inputs) == 1 else ", ".join(program.inputs)
    lines = [f"def {name}(xs):"]
    for table_name, table in program.tables:
        lines += _write_table(table_name, table)
    for state, value in zip(program.state, program.initial, strict=True):
        lines.append(f"    {state} = {'[]' if value == () else value}")
    lines.append(f"    for {head} in xs:")
    lines += [f"        {n} = {_write_value(e)}" for n, e in temporaries]
    assign = f"        {', '.join(program.state)} = {', '.join(map(_write_value, updates))}"
    output = f"        yield {', '.join(map(_write_value, written))}"
    if not updates:
        lines.append(output)
    else:
        named = [f"        {n} = {_write_value(e)}" for n, e in later]
        lines += [assign, *named, output] if state_first else [output, assign]
    return "\n".join(lines) + "\n"


def _name_shared_parts(
    program: Program, exprs: list[Expr], *, taken: Sequence[str] = ()
) -> tuple[list[tuple[str, Expr]], list[Expr]]:
    """Gives names to parts that occur more than once; the names in the order they are needed."""
    used = {*program.inputs, *program.state, *(n for n, _ in program.tables), *taken}
    spare = [n for n in ("v", "u", "p", "q", *(f"v{i}" for i in range(1, 9))) if n not in used]
    temporaries: list[tuple[str, Expr]] = []
    for _ in range(8):
        parts = _shared_parts([*exprs, *(e for _, e in temporaries)])
        if not parts or not spare:
            break
        temporary = spare.pop(0)
        exprs = [ex.replace(e, parts[0], ex.var(temporary)) for e in exprs]
        temporaries = [(n, ex.replace(e, parts[0], ex.var(temporary))) for n, e in temporaries]
        temporaries.append((temporary, parts[0]))
    # One named later may be a part of one named before.
    return temporaries[::-1], exprs


def _in_new_state(program: Program, output: Expr) -> Expr | None:
    """The output in terms of the new state alone; None if it needs more."""
    used = False
    for state, update in zip(program.state, program.updates, strict=True):
        if update.op not in {"const", "var"} or ex.size(output) == 1:
            replaced = ex.replace(output, update, ex.var(f"{state}'"))
            used |= replaced != output
            output = replaced
    if not used or ex.names(output) & {*program.state, *program.inputs}:
        return None
    return ex.substitute(output, {f"{s}'": ex.var(s) for s in program.state})


def parse_program(text: str) -> Program:
    """Reads the Python text of a program back, without executing it.

    Raises ValueError, naming the line, where the text is not of the form that `Program.source` writes:
    tables and initial values, then one `for ... in xs:` with assignments and one `yield`.
    """
    try:
        return _parse_module(ast.parse(text))
    except SyntaxError as error:
        raise ValueError(f"not Python: line {error.lineno}: {error.msg}") from None
    except (RecursionError, MemoryError):  # the parser's own limits come as either
        raise ValueError(f"the text is nested too deeply (at most {ex.MOST_DEPTH} levels)") from None


def _parse_module(module: ast.Module) -> Program:
    body = [n for n in module.body if not _is_text(n)]
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef):
        raise ValueError("one function was expected, and nothing beside it")
    function = body[0]
    given = ast.unparse(function.args)
    if not given.isidentifier() or function.decorator_list:
        raise ValueError(f"line {function.lineno}: a function of one argument was expected, not of ({given})")
    body = [n for n in function.body if not _is_text(n)]
    if not body or not isinstance(body[-1], ast.For):
        raise ValueError("the function must end with a loop over its argument")
    loop = body[-1]
    if ast.unparse(loop.iter) != given or loop.orelse:
        raise ValueError(f"line {loop.lineno}: the loop must go over {given}, and have no else")
    starts: dict[str, Constant] = {}
    tables: dict[str, Table] = {}
    for node in body[:-1]:
        name, value = _read_start(node)
        if name in starts or name in tables:
            raise ValueError(f"line {node.lineno}: {name} has a value already")
        if isinstance(value, tuple) and value:
            tables[name] = value
        else:
            starts[name] = value
    target = loop.target
    inputs = [target] if isinstance(target, ast.Name) else getattr(target, "elts", [])
    if not all(isinstance(n, ast.Name) for n in inputs) or (target not in inputs and len(inputs) < 2):
        raise ValueError(f"line {loop.lineno}: the loop must name its inputs")
    names = tuple(n.id for n in inputs)

    current: dict[str, Expr] = {n: ex.var(n) for n in (*names, *starts, *tables)}
    sizes = dict.fromkeys(current, 1)

    def read(node: ast.expr) -> Expr:
        text = ex.from_ast(node)
        total = sum(sizes.get(ex.name_of(n), 1) if n.op == "var" else 1 for n in ex.nodes(text))
        if total > _LARGEST:
            raise ValueError(
                f"line {node.lineno}: the formula has more than {_LARGEST} parts when written out"
            )
        return ex.substitute(text, current)

    def assign(name: str, value: Expr, line: int) -> None:
        if name in tables or name == given:
            raise ValueError(f"line {line}: {name} cannot be assigned in the loop")
        current[name], sizes[name] = value, ex.size(value)

    outputs: tuple[Expr, ...] | None = None
    for node in loop.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]):
                assign(name, read(node.value), node.lineno)
            case ast.Assign(targets=[ast.Tuple(elts=left)], value=ast.Tuple(elts=right)) if len(left) == len(
                right
            ):
                for item, value in zip(left, [read(r) for r in right], strict=True):
                    if not isinstance(item, ast.Name):
                        raise ValueError(f"line {node.lineno}: only names can be assigned")
                    assign(item.id, value, node.lineno)
            case ast.Expr(value=ast.Yield(value=value)) if value is not None and outputs is None:
                items = value.elts if isinstance(value, ast.Tuple) else [value]
                outputs = tuple(read(v) for v in items)
            case _:
                raise ValueError(
                    f"line {node.lineno}: {ast.unparse(node)!r} is not part of the language of programs"
                )
    if outputs is None:
        raise ValueError(f"line {loop.lineno}: the loop yields nothing")
    return Program(
        names,
        tuple(starts),
        tuple(starts.values()),
        tuple(current[s] for s in starts),
        outputs,
        tuple(tables.items()),
        "text",
    )


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a doc string."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _read_start(node: ast.stmt) -> tuple[str, Constant]:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        if isinstance(node.value, ast.List) and not node.value.elts:
            return node.targets[0].id, ()
        value = ex.from_ast(node.value)
        if value.op == "const":
            return node.targets[0].id, ex.value_of(value)
    raise ValueError(
        f"line {node.lineno}: {ast.unparse(node)!r}: an initial value must be an integer, a table or []"
    )
