"""optax's own checks for contributed optimizers, run on LODO alone; none is skipped."""

import re
import subprocess
import sys

import pytest

RUNNER = r"""
import re, sys
from pathlib import Path
import optax.contrib
import lodo

source = (Path(optax.contrib.__file__).parent / "_common_test.py").read_text()
entry = ("[{'opt_name': 'lodo', 'opt_kwargs': {'learning_rate': 1e-2, 'architecture': lodo.BlockNetwork(4)},"
         " 'wrapper_name': None, 'wrapper_kwargs': None}]")
source, replaced = re.subn(
    r"^_ALL_OPTIMIZERS_UNDER_TEST = tuple\(.*?\n\)\n_MAIN_OPTIMIZERS_UNDER_TEST = tuple\(.*?\)\n",
    f"_ALL_OPTIMIZERS_UNDER_TEST = _MAIN_OPTIMIZERS_UNDER_TEST = tuple({entry})\n",
    source, flags=re.M | re.S)
assert replaced == 1, "optax's test file has another form"
source, replaced = re.subn(r"\['warmup_steps', ", "['seed', 'warmup_steps', ", source)
assert replaced == 1, "optax's test file has another form"
optax.contrib.lodo = lodo.lodo
exec(compile(source, "_common_test.py", "exec"), globals())
"""


@pytest.mark.slow
def test_optax_common_tests(subprocess_env):
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], capture_output=True, text=True, env=subprocess_env, timeout=500
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-4000:]
    (count,) = re.findall(r"^Ran (\d+) tests", text, re.M)
    assert int(count) >= 15 and "skipped" not in text, text[-2000:]
