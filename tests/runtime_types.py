"""The type checker that the tests put around every function of the five packages.

`jaxtyping`'s import hook (tests/conftest.py) applies it: arguments, results and fields are checked against
their annotations, shapes of arrays included. Only the tests pay for it.

Arguments are checked when the function has returned: one that refuses a wrong argument by itself does so with
its own error, which is what tests of bad input are about; one that takes it without a word fails here.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Generic

from beartype import BeartypeConf, beartype
from beartype.vale import IsInstance

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as static checkers have it


def _is_generic_named_tuple(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, tuple) and issubclass(hint, Generic)


def _understood(hint: Any) -> Any:
    """A hint as beartype takes it: of generic named tuples, which it does not know, the class is checked."""
    origin, parameters = typing.get_origin(hint), typing.get_args(hint)
    if _is_generic_named_tuple(origin or hint):
        return Annotated[object, IsInstance[origin or hint]]
    if origin in (None, typing.Literal, typing.Unpack, Annotated) or any(
        isinstance(p, list) for p in parameters
    ):
        return hint
    inner = tuple(_understood(p) for p in parameters)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[inner]  # noqa: UP007, of a tuple
    return origin[inner] if inner else hint


def _knows_the_result(function: Callable) -> bool:
    """Whether this is the check after the call: jaxtyping makes one before it, too, without the result."""
    names = inspect.signature(function).parameters
    return any(re.fullmatch(r"ret\d+", name) for name in names)


def check(function: Callable) -> Callable:
    """Beartype, after the call alone."""
    if not _knows_the_result(function):
        return function
    function.__annotations__ = {name: _understood(hint) for name, hint in function.__annotations__.items()}
    return _beartype(function)
