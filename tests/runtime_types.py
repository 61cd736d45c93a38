"""The type checker that the tests put around every function of the five packages.

`jaxtyping`'s import hook (tests/conftest.py) applies it: arguments, results and fields are checked against
their annotations, shapes of arrays included. Only the tests pay for it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as static checkers have it


@functools.cache
def _names_for_checkers_only(module: str) -> frozenset[str]:
    """Names that a module imports under `if TYPE_CHECKING`: heavy libraries, absent at run time."""
    found = set()
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                if isinstance(statement, ast.Import | ast.ImportFrom):
                    found |= {alias.asname or alias.name for alias in statement.names}
    return frozenset(found)


def _names(annotation: object) -> set[str]:
    """Names used in an annotation, kept as a string by `from __future__ import annotations`."""
    try:
        tree = ast.parse(annotation) if isinstance(annotation, str) else ast.Module([], [])
    except SyntaxError:
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _resolvable(function: Callable) -> bool:
    absent = _names_for_checkers_only(function.__module__)
    return not absent or not any(absent & _names(a) for a in inspect.get_annotations(function).values())


def check(function: Callable) -> Callable:
    """`beartype`, except for functions whose annotations name what is imported for checkers only."""
    return _check(function) if _resolvable(function) else function
