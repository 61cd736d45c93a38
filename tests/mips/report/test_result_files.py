"""Results as files: read back as they were written; whatever else is in a file is an error that names it."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mips import cli
from mips.judging.comparison import Comparison, Exceptions
from mips.judging.front import FrontEntry
from mips.judging.judges import Chooser
from mips.judging.verification import Counterexample, Report
from mips.programs.program import parse_program
from mips.reading.linear import Response, realize
from mips.report import result_files as store
from mips.report import table
from mips.status import Provenance, Status
from mips.synthesis import Result
from tests.mips.machines import divider

ENTRY = "def f(xs):\n    for x in xs:\n        yield x\n"
SUM = parse_program("def f(xs):\n    s = 0\n    for x in xs:\n        s = s + x\n        yield s\n")
STEP = np.ones((8, 1, 1), int)
COMPARISON = Comparison(
    0.5, 20, 0.25, 8, None, 0, 0.125, 4, 40, Counterexample([[1]], [2], [1]), Exceptions("x = 1", 1.0, 0.9, 9)
)


def result(**changes):
    """A result with every part there."""
    parts = {
        "task": "Mine <b>[/x]",
        "status": Status.FORMULA,
        "program": SUM,
        "provenance": Provenance.NETWORK,
        "report": Report(0.5, 10, None, 0, 40, 0.25, Counterexample([[1], [2]], [3], None)),
        "network": "a network & more",
        "accuracy": 0.75,
        "comparison": COMPARISON,
        "chosen_by": Chooser.LABELS,
        "seconds": {"training": 1.25, "probing": 0.5},
        "notes": ("one <note>", "another"),
        "machine": divider(3),
        "realization": realize(Response(STEP, np.zeros((8, 1), int), 0.0)),
        "baseline": SUM,
        "front": (FrontEntry(SUM, 1.0, 0.9), FrontEntry(parse_program(ENTRY), 0.3, 0.25)),
    }
    return Result(**parts | changes)


EMPTY = {
    "front": (), "program": None, "report": None, "machine": None, "realization": None, "baseline": None, "comparison": None,
    "provenance": Provenance.NONE, "status": Status.NONE, "notes": (), "seconds": {},
}  # fmt: skip
FULL = store.to_json(result(), origin="mine.csv", made_with={"seed": 3})


def shown(data):
    """Everything that prints or draws a result, to nowhere."""
    console = Console(file=open("/dev/null", "w"), highlight=False)  # noqa: SIM115, PTH123
    with console.file:
        cli._print_line(console, data)
        cli._print_result(console, data)
        cli._print_table(console, {data["task"]: data})
    return table.rows({data["task"]: data})


@pytest.mark.parametrize("changes", [{}, EMPTY], ids=["everything", "nothing"])
def test_what_is_written_is_read_back(changes, tmp_path):
    data = store.to_json(result(**changes), origin="mine.csv", made_with={"seed": 3})
    path = store.write(tmp_path, data)
    assert store.read(path) == data
    assert store.read_all(tmp_path) == {"Mine <b>[/x]": data}
    text = path.with_suffix(".py")
    assert text.exists() == bool(data["source"])
    if data["source"]:
        assert store.read_program(path) == SUM
        np.testing.assert_array_equal(store.read_program(text).run([[[1], [5]]]), [[[1], [6]]])
    else:
        with pytest.raises(ValueError, match=f"{path.name}: the task was not solved"):
            store.read_program(path)
    shown(data)


def test_fractions_and_evidence_are_kept_in_words():
    assert FULL["realization"] == {"a": [["1"]], "b": [["1", "0"]], "c": [["1"]]}
    assert FULL["report"]["counterexample"] == {"x": [[1], [2]], "expected": [3], "got": None}
    assert FULL["bits"] == round(SUM.bits, 2) and FULL["kind"] == "text"
    assert FULL["baseline_source"].startswith("def mine")
    assert (FULL["format"], FULL["origin"], FULL["made_with"]) == (store.FORMAT, "mine.csv", {"seed": 3})


def test_a_program_that_is_no_more_takes_its_text_with_it(tmp_path):
    path = store.write(tmp_path, FULL)
    assert path.with_suffix(".py").exists()
    store.write(tmp_path, store.to_json(result(**EMPTY)))
    assert not path.with_suffix(".py").exists() and len(list(tmp_path.iterdir())) == 1


LATER = (
    "comparison",
    "chosen_by",
    "input_symbols",
    "output_symbols",
    "front",
)  # which files of earlier versions do not have


@pytest.mark.parametrize("key", LATER)
def test_files_of_earlier_versions_are_read(key, tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({k: v for k, v in FULL.items() if k != key}))
    assert not store.read(path)[key]
    shown(store.read(path))


@pytest.mark.parametrize("key", [k for k in FULL if k not in {"format", *LATER}])
def test_a_result_without_a_key_is_refused_by_its_name(key, tmp_path):
    path = tmp_path / "cut.json"
    path.write_text(json.dumps({k: v for k, v in FULL.items() if k != key}))
    with pytest.raises(ValueError, match=rf"cut\.json: not a whole result of `mips solve`: no {key}$"):
        store.read(path)


ODD = [None, True, 7, -1.5, "text", "", [], {}, [None], ["a"], [[1]], {"a": None}, 10**40]


@given(st.sampled_from(sorted(FULL)), st.sampled_from(ODD))
def test_a_result_with_another_value_is_refused_by_its_key_or_can_be_shown(tmp_path_factory, key, value):
    path = tmp_path_factory.getbasetemp() / "odd.json"
    path.write_text(json.dumps(FULL | {key: value}))
    try:
        data = store.read(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")
        assert key in str(error) or "damaged" in str(error) or key == "format"
    else:
        assert shown(data)


NESTED = ("report", "machine", "program", "baseline", "seconds", "notes")


@given(st.sampled_from(NESTED), st.integers(0, 9), st.sampled_from(ODD), st.booleans())
def test_a_result_with_a_damaged_part_is_refused_or_can_be_shown(tmp_path_factory, key, place, value, drop):
    data = copy.deepcopy(FULL)
    part = data[key]
    inner = place % len(part) if isinstance(part, list) else sorted(part)[place % len(part)]
    if drop:
        del part[inner]
    else:
        part[inner] = value
    path = tmp_path_factory.getbasetemp() / "part.json"
    path.write_text(json.dumps(data))
    try:
        read = store.read(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert shown(read)


@given(st.integers(0, 10**6), st.sampled_from([None, 0, 34, 44, 91, 123, 125, 255]))
def test_a_result_with_one_byte_changed_or_cut_off_is_read_or_refused(tmp_path_factory, place, byte):
    data = bytearray(json.dumps(FULL, indent=1).encode())
    place %= len(data)
    if byte is None:
        data = data[:place]
    else:
        data[place] = byte
    path = tmp_path_factory.getbasetemp() / "byte.json"
    path.write_bytes(data)
    for reader in (store.read, store.read_program):
        try:
            reader(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")


BAD = [
    (b"", "not a result of `mips solve` \\("),
    (b"[" * 100_000, "not a result"),
    (b"\xff\xfe", "not a result"),
    (b'{"format": ' + b"9" * 5000 + b"}", "not a result"),
    (b"[]", "not a result of `mips solve` of format 1"),
    (b"7", "not a result of `mips solve` of format 1"),
    (b'{"format": 2}', "not a result of `mips solve` of format 1"),
    (b'{"format": 1}', "not a whole result"),
]


@pytest.mark.parametrize(("data", "error"), BAD, ids=[e[:30] + str(len(d)) for d, e in BAD])
def test_files_that_are_no_results_are_refused_by_name(data, error, tmp_path):
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"bad\.json: {error}"):
        store.read(path)
    if b"format" in data or data[:1] != b"[":
        with pytest.raises(ValueError, match=r"bad\.json"):
            store.read_all(tmp_path)


def test_folders_and_files_that_are_not_there_are_named(tmp_path):
    for reader, error in (
        (store.read, "not a result"),
        (store.read_all, "no such folder"),
        (store.read_program, "no such file"),
    ):
        with pytest.raises(ValueError, match=f"absent: {error}"):
            reader(tmp_path / "absent")
    (tmp_path / "other.json").write_text('{"rows": []}')
    (tmp_path / "list.json").write_text("[1, 2]")
    assert store.read_all(tmp_path) == {}


@pytest.mark.parametrize(
    "text", ["", "x = 1\n", "def f(xs:\n", "def f(xs):\n    yield 1\n", "\0", "-" * 9000]
)
def test_text_that_is_no_program_is_refused_by_the_name_of_its_file(text, tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.py: "):
        store.read_program(path)
    path.write_bytes(b"def f(xs):\n    for x in xs:\n        yield x  # \xff\n")
    with pytest.raises(ValueError, match=r"bad\.py: "):
        store.read_program(path)


def test_a_number_that_is_none_is_null_in_the_file(tmp_path):
    path = store.write(tmp_path, FULL | {"accuracy": float("nan")})
    json.loads(path.read_text(), parse_constant=pytest.fail)
    assert np.isnan(store.read(path)["accuracy"])
