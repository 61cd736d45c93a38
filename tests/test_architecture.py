"""Who may import whom: folders in layers, no import circles, and the five packages apart.

In every package a folder may import from the folders that stand after it in the table, never from
those before it; modules at the top of a package are either its ground, which everything may import
(and which imports no folder), or named in the table as a layer of their own.
"""

import ast
import importlib
import re
import subprocess
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).parents[1]

LAYERS = {
    "compressarc": ("__main__", "cli", "report", "batch", "solver", "network"),
    "lodo": ("tasks",),
    "mips": (
        "__main__", "cli", "report", "synthesis", "training_schedules", "routes", "paper", "judging", "reading", "normalize",
        "networks", "programs", "tasks",
    ),
    "features": (
        "__main__", "cli", "report", "synthetic", "discovery", "circles", "irreducibility", "sae", "lm",
    ),
    "hypernet": (
        "__main__", "cli", "report", "analysis", "classification", "training", "generator", "algorithms",
        "networks",
    ),
}  # fmt: skip


def modules(package):
    """Dotted names of a package's modules, with their files."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(p for p in parts if p != "__init__")] = path
    return found


def imports(path, known):
    """Modules among the known ones that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def edges(package):
    """(importing, imported) modules of one package; its lazy list of public names apart."""
    known = modules(package)
    return [
        (name, target)
        for name, path in known.items()
        if name != package
        for target in imports(path, known)
        if target in known and target not in (name, package)
    ]


@pytest.mark.parametrize("package", LAYERS)
def test_folders_import_downwards(package):
    order = LAYERS[package]

    def layer(name):
        first = name.split(".")[1]
        return order.index(first) if first in order else len(order)

    upwards = [f"{a} imports {b}" for a, b in edges(package) if layer(a) > layer(b)]
    assert not upwards, "\n".join(upwards)


@pytest.mark.parametrize("package", LAYERS)
def test_there_are_no_import_circles(package):
    graph = networkx.DiGraph(edges(package))
    circles = [sorted(c) for c in networkx.strongly_connected_components(graph) if len(c) > 1]
    assert not circles, circles


@pytest.mark.parametrize("package", LAYERS)
def test_a_package_imports_none_of_its_siblings(package):
    others = set(LAYERS) - {package}
    every = {name: list(imports(path, {})) for name, path in modules(package).items()}
    assert not {n: t for n, t in every.items() if {x.split(".")[0] for x in t} & others}


@pytest.mark.parametrize("package", LAYERS)
def test_every_folder_says_what_it_holds(package):
    for folder in {path.parent for path in modules(package).values()}:
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert text, folder


SHARED = ("mips/files.py", "features/files.py", "hypernet/files.py")


def test_what_packages_must_repeat_is_the_same():
    """They may not import one another; what they share word for word stays so."""
    first, *others = (ROOT / name for name in SHARED)
    assert all(other.read_text() == first.read_text() for other in others)


def functions(package):
    """(module, function, lines, whether every argument and the result are annotated)."""
    for name, path in modules(package).items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                named = [a for a in arguments if a.arg not in ("self", "cls")]
                whole = all(a.annotation is not None for a in named) and node.returns is not None
                yield name, node.name, node.end_lineno - node.lineno + 1, whole


@pytest.mark.parametrize("package", LAYERS)
def test_functions_are_short(package):
    found = sorted(functions(package), key=lambda f: f[2])
    assert found[-1][2] <= 80, found[-1]
    assert found[int(0.9 * len(found))][2] < 35


@pytest.mark.parametrize("package", LAYERS)
def test_functions_are_annotated(package):
    assert [f[:2] for f in functions(package) if not f[3]] == []


def test_suppressions_are_few_and_have_reasons():
    found = [
        (name, line)
        for package in LAYERS
        for name, path in modules(package).items()
        for line in path.read_text().splitlines()
        if "pyright: ignore" in line or "type: ignore" in line
    ]
    assert len(found) < 40
    bare = [f for f in found if f[1].rstrip().endswith("]") and "reportMissingImports" not in f[1]]
    assert bare == []


def test_nothing_asks_for_the_backend():
    """The device that a program is compiled for need not be the one that compiles it."""
    found = {
        name: count
        for package in LAYERS
        for name, path in modules(package).items()
        if (count := path.read_text().count("default_backend("))
    }
    assert found == {}


def resolves(name):
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_names_in_prose_exist():
    """`package.module.name` in README, docs and docstrings: what has moved is named where it is now."""
    pattern = re.compile(rf"`((?:{'|'.join(LAYERS)})(?:\.\w+)+)")
    sources = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").glob("*.md")]
    sources += [path for package in LAYERS for path in modules(package).values()]
    named = {(path, name) for path in sources for name in pattern.findall(path.read_text())}
    named = {(path, name) for path, name in named if Path(name).suffix not in (".py", ".md", ".json", ".png")}
    assert len(named) > 25
    assert [f"{path}: {name}" for path, name in named if not resolves(name)] == []


TOP = {"CHANGELOG.md", "LICENSE", "README.md", "benchmarks", "docs", "pyproject.toml", "tests", *LAYERS}


def test_nothing_but_the_packages_and_what_they_need_stands_at_the_top():
    """Of what is tracked; where there is no repository, of what is there, what builds and runs leave apart."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        names = {line.split("/")[0] for line in listed.splitlines()}
    else:
        left = {"__pycache__", "analysis", "build", "dist", "out"}
        names = {path.name for path in ROOT.iterdir() if path.suffix != ".egg-info"} - left
    assert {name for name in names if not name.startswith(".")} == TOP
