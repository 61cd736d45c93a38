"""Fixtures of the hypernet tests."""

import jaxtyping
import pytest


@pytest.fixture
def types_unchecked():
    """No run-time types in one test: what the package itself says to values of wrong types is asked for."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
