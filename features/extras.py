"""Optional libraries, asked for by name where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str = "features") -> ModuleType:
    """Imports an optional library.

    Raises: ImportError that says which extra brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise ImportError(f"this needs the library {library}: pip install 'quintet-jax[{extra}]'") from error
