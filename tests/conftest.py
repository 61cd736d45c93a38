"""Shared set-up: compiled programs are kept between tests, subprocesses and runs."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

# A job in the background of a script ignores Ctrl-C, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Thousands of traced programs stay alive in a test process: the collector would walk them again and again.
gc.set_threshold(50_000, 20, 100)

# XLA's CPU thread pool now and then loses a wake-up in loops of very many tiny kernels and waits
# forever (docs/lodo.md, "On a CPU"); the tests' arrays are too small to gain from it. Before jax
# starts, and inherited by subprocesses.
# Less optimization, and fusions the plain way: most of the tests' time is compilation (a third less of it),
# and little of it running what was compiled (a tenth slower).
_FLAGS = (
    " --xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=1"
    " --xla_cpu_use_fusion_emitters=false"
)
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + _FLAGS

import hypothesis
import jax
import jaxtyping
import pytest

from tests import runtime_types

# Before any of the packages is imported: annotations, shapes included, are checked at run time.
jaxtyping.install_import_hook(
    ["compressarc", "lodo", "mips", "features", "hypernet"], f"{runtime_types.__name__}.check"
)
# Two arrays of different ranks meet only where the code says how.
jax.config.update("jax_numpy_rank_promotion", "raise")

# The same cases every time; no explanations of failures, which would take minutes where an example takes long.
hypothesis.settings.register_profile(
    "quintet",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate, hypothesis.Phase.shrink),
)
# Other cases every night: `pytest --hypothesis-profile=fresh`.
hypothesis.settings.register_profile(
    "fresh", hypothesis.settings.get_profile("quintet"), derandomize=False, print_blob=True
)
hypothesis.settings.load_profile("quintet")

DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[2] / "shared" / "golden" / "compressarc"


# Files of more than twenty seconds, longest first.
LONG = (
    "compressarc/test_solver.py",  # first: others share its program
    "compressarc/test_batch.py",
    "test_readme.py",
    "hypernet/test_training.py",
    "mips/test_synthesize.py",
    "mips/test_cli.py",
    "features/test_cli.py",
    "lodo/test_contract.py",
    "lodo/test_transform.py",
    "compressarc/test_cli.py",
    "mips/networks/test_training.py",
    "features/test_calendar.py",
    "features/test_sae.py",
    "compressarc/test_page.py",
    "compressarc/test_golden.py",
    "hypernet/test_generator.py",
    "hypernet/test_cli.py",
    "features/discovery/test_discover.py",
    "features/lm/test_decoder.py",
    "compressarc/test_plan.py",
    "lodo/test_tasks.py",
)

MARKED_BY_FIXTURE = {"two_processes": "multiprocess", "eight_devices": "multiprocess", "smollm2": "lm"}


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    """Long files first: a file goes to one process, and a long one at the end would keep only one busy.

    Marks follow from fixtures, where those say what a test needs.
    """

    def place(item) -> int:
        found = [i for i, name in enumerate(LONG) if item.path.as_posix().endswith("tests/" + name)]
        return found[0] if found else len(LONG)

    items.sort(key=place)
    for item in items:
        for fixture, mark in MARKED_BY_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)


@pytest.fixture(scope="session")
def compilation_cache(request) -> Path:
    """Folder of the persistent compilation cache; set XDG_CACHE_HOME to its parent in subprocesses."""
    folder = Path(request.config.cache.mkdir("xdg")) / "compressarc" / "jax"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(autouse=True, scope="session")
def _use_compilation_cache(compilation_cache):
    jax.config.update("jax_compilation_cache_dir", str(compilation_cache))


MANY_MAPS = 25_000
"""Memory maps after which a test process lets its compiled programs go; Linux allows 65,530."""


@pytest.fixture(autouse=True, scope="module")
def _few_compiled_programs():
    """Between files, drops compiled programs once there are very many.

    Each holds some memory maps, and where none is left the compiler aborts the process.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > MANY_MAPS:
        jax.clear_caches()
        gc.collect()


COMPILED_QUICKLY = ("compressarc", "lodo", "hypernet")
"""Folders whose tests compile more than they run: a third of the time, for steps five times as slow.

Files that take many steps set `MANY_STEPS`, and the slow tier compiles as users do.
"""


@pytest.fixture(scope="module")
def compiled_quickly(request) -> bool:
    """Whether this file's programs are compiled with few optimizations."""
    slow = "slow" in request.config.option.markexpr and "not slow" not in request.config.option.markexpr
    folder = request.path.relative_to(Path(__file__).parent).parts[0]
    return folder in COMPILED_QUICKLY and not slow and not getattr(request.module, "MANY_STEPS", False)


@pytest.fixture(autouse=True, scope="module")
def _few_optimizations(compiled_quickly):
    jax.config.update("jax_disable_most_optimizations", compiled_quickly)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


QUICK_TO_COMPILE = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


@pytest.fixture(scope="module")
def subprocess_env(compilation_cache, compiled_quickly) -> dict[str, str]:
    """Environment in which the command line finds the tests' compilation cache, and compiles as the file does."""
    environment = os.environ | {"XDG_CACHE_HOME": str(compilation_cache.parents[1]), "COLUMNS": "160"}
    return environment | (QUICK_TO_COMPILE if compiled_quickly else {})


@pytest.fixture
def types_unchecked():
    """No run-time types in one test: of what a constructor takes and converts, beyond its annotation."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def eight_devices(subprocess_env):
    """Runs Python code on eight virtual CPU devices and returns what it prints."""
    import subprocess
    import sys

    def run(code: str) -> str:
        environment = subprocess_env | {
            "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8",
            "JAX_PLATFORMS": "cpu",
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            timeout=300,
            cwd=Path(__file__).parents[1],
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip()

    return run


@pytest.fixture
def two_processes(subprocess_env):
    """Runs Python code in two processes of two virtual devices each; the code gets a port and its rank as
    arguments and must print "ok" at its end."""
    import socket
    import subprocess
    import sys

    def run(code: str) -> None:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        environment = subprocess_env | {
            "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2",
            "JAX_PLATFORMS": "cpu",
        }
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(port), str(rank)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        try:
            for process in processes:
                out, error = process.communicate(timeout=200)
                assert process.returncode == 0, error[-3000:]
                assert out.strip().endswith("ok")
        finally:
            for process in processes:
                process.kill()

    return run
