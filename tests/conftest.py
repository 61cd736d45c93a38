"""Shared set-up: compiled programs are kept between tests, subprocesses and runs."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import pytest

DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[2] / "shared" / "golden" / "compressarc"


@pytest.fixture(scope="session")
def compilation_cache(request) -> Path:
    """Folder of the persistent compilation cache; set XDG_CACHE_HOME to its parent in subprocesses."""
    folder = Path(request.config.cache.mkdir("xdg")) / "compressarc" / "jax"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(autouse=True, scope="session")
def _use_compilation_cache(compilation_cache):
    jax.config.update("jax_compilation_cache_dir", str(compilation_cache))


@pytest.fixture
def subprocess_env(compilation_cache) -> dict[str, str]:
    """Environment in which the command line finds the tests' compilation cache."""
    return os.environ | {"XDG_CACHE_HOME": str(compilation_cache.parents[1]), "COLUMNS": "160"}


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield
