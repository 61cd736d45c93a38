"""How the tests of compressarc compile."""

import jax
import pytest


def _as_users_do(request) -> bool:
    """The slow tier compiles like everybody; the fast one spends little on it (a third), and steps slowly."""
    return "slow" in request.config.option.markexpr and "not slow" not in request.config.option.markexpr


@pytest.fixture(autouse=True, scope="module")
def _quick_to_compile(request):
    jax.config.update("jax_disable_most_optimizations", not _as_users_do(request))
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def subprocess_env(request, subprocess_env) -> dict[str, str]:
    """As everywhere, and compiled as here: programs are shared with this process."""
    if _as_users_do(request):
        return subprocess_env
    return subprocess_env | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
