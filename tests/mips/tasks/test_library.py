"""Generators against golden sequences, and the user's own tasks."""

import numpy as np
import pytest

import mips
from mips.tasks import HARDER, PUBLISHED
from mips.tasks.task import Task
from tests.conftest import DATA, SHARED

GOLDEN = SHARED.parent / "mips" / "tasks.npz"


def small_golden():
    """Six sequences at L and one of length 40 per task, packed one after another in the paper's order."""
    values = np.load(DATA / "mips_tasks.npz")["values"]
    place = 0
    for task in PUBLISHED.values():
        for count, length in ((6, task.length), (1, 40)):
            arrays = []
            for channels in (task.inputs, task.outputs):
                size = count * length * channels
                arrays.append(values[place : place + size].reshape(count, length, channels))
                place += size
            yield task, *arrays
    assert place == len(values)


def test_every_generator_gives_the_golden_outputs():
    seen = 0
    for task, x, y in small_golden():
        np.testing.assert_array_equal(task.solve(x), y, err_msg=task.name)
        seen += 1
    assert seen == 2 * 62


@pytest.mark.skipif(not GOLDEN.exists(), reason="the shared golden file is not here")
def test_the_benchmark_passes_on_the_shared_golden(monkeypatch, capsys):
    from benchmarks import mips_tasks

    monkeypatch.setattr("sys.argv", ["mips_tasks", "--golden", str(GOLDEN)])
    assert mips_tasks.main() == 0
    assert "62 of 62" in capsys.readouterr().out


def test_the_benchmark_notices_one_wrong_value(monkeypatch, tmp_path):
    from benchmarks import mips_tasks

    arrays = {}
    for (task, x, y), part in zip(small_golden(), ["", "_long"] * 62, strict=True):
        arrays |= {f"{task.name}__x{part}": x, f"{task.name}__y{part}": y.copy()}
    monkeypatch.setattr("sys.argv", ["mips_tasks", "--golden", str(tmp_path / "g.npz")])
    np.savez(tmp_path / "g.npz", **arrays)
    assert mips_tasks.main() == 0
    arrays["Div_3__y"][2, 5] ^= 1
    np.savez(tmp_path / "g.npz", **arrays)
    assert mips_tasks.main() == 1


@pytest.mark.parametrize("task", [*PUBLISHED.values(), *HARDER.values()], ids=lambda t: t.name)
def test_tasks_are_causal_and_seeded(task):
    x, y = task.sample(3, 20)
    assert x.min() >= task.low and x.max() < task.high
    np.testing.assert_array_equal(task.solve(x[:, :4]), y[:, :4])
    np.testing.assert_array_equal(task.draw(3, 20), x)


def test_unknown_names_get_near_matches():
    assert mips.get_task("div_5") is PUBLISHED["Div_5"]
    with pytest.raises(ValueError, match="unknown task 'Div5'; did you mean Div_5"):
        mips.get_task("Div5")


def test_a_callable_becomes_a_task():
    def running_maximum(xs):
        best = 0
        for x in xs:
            best = max(best, x)
            yield best

    task = mips.from_callable(running_maximum, low=0, high=7)
    x, y = task.sample(0, 50)
    np.testing.assert_array_equal(y, np.maximum.accumulate(x, axis=1))
    assert task.name == "running_maximum"


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda xs: xs[:-1], "9 outputs for the 10 inputs"),
        (lambda xs: [x / 2 for x in xs], "not an integer"),
        (lambda xs: xs[::-1], "not causal"),
        (lambda xs: [(x, x) for x in xs], "2 outputs at a step"),
    ],
)
def test_bad_callables_are_named(function, error):
    with pytest.raises((ValueError, TypeError), match=error):
        mips.from_callable(function, low=0, high=9)


def test_npz_files_round_trip_and_bad_ones_are_named(tmp_path):
    x = np.random.default_rng(0).integers(0, 5, (30, 8))
    path = tmp_path / "sums.npz"
    np.savez(path, x=x, y=np.cumsum(x, axis=1), x_long=np.ones((2, 20), int), y_long=np.ones((2, 20), int))
    task = mips.from_file(path)
    assert (task.low, task.high, task.length, task.inputs) == (0, 5, 8, 1)
    assert task.sample(0, 4, 20)[0].shape == (4, 20, 1)
    for arrays, error in (
        ({"x": x}, "no array 'y'"),
        ({"x": x, "y": x[:, :5]}, "one output per step"),
        ({"x": x, "y": x + 0.5}, "not integers"),
        ({"x": x[0], "y": x[0]}, "1 axes"),
        ({"x": np.full((30, 8), np.inf), "y": x}, "31 bits"),
        ({"x": x, "y": x.astype(np.int64) + 2**40}, "31 bits"),
        ({"x": x, "y": np.roll(x, -1, axis=1)}, "the same first"),
        ({"x": x, "y": x, "x_long": x}, "one is missing"),
        ({"x": x, "y": x, "x_long": x, "y_long": x}, "no more than x"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=error):
            mips.from_file(path)
    path.write_text("not an archive")
    with pytest.raises(ValueError, match="not a readable"):
        mips.from_file(path)


def test_csv_files_round_trip_and_bad_ones_are_named(tmp_path):
    path = tmp_path / "task.csv"
    path.write_text("sequence,x,y\na,1,1\na,2,3\nb,0,0\nb,5,5\n")
    task = mips.from_file(path)
    assert task.records[0].tolist() == [[[1], [2]], [[0], [5]]]
    for text, error in (
        ("sequence,x,y\na,1,one\na,1,2\n", "line 2"),
        ("sequence,x\na,1\n", "columns sequence, x"),
        ("sequence,x,y\na,1,1\nb,1,1\na,2,2\n", "'a' comes again"),
        ("sequence,x,y\na,1_0,1\n", "line 2"),
        ("", "no rows"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=error):
            mips.from_file(path)
    header = ",".join(["sequence", *(f"x{i}" for i in range(1, 12)), "y"])
    path.write_text("\ufeff" + header + "\na," + ",".join(map(str, range(12))) + "\n", encoding="utf-8")
    assert mips.from_file(path).records[0].tolist() == [[list(range(11))]]
    path.write_bytes(b"sequence,x,y\na,\xff,1\n")
    with pytest.raises(ValueError, match="not a readable CSV"):
        mips.from_file(path)
    with pytest.raises(ValueError, match="no such file"):
        mips.from_file(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match=r"\.csv, \.jsonl or \.npz"):
        (tmp_path / "a.txt").write_text("")
        mips.from_file(tmp_path / "a.txt")


def test_a_task_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="must be above"):
        Task("t", lambda x: x, 3, 3)
    with pytest.raises(ValueError, match="reference solution or recorded"):
        Task("t", None, 0, 3)
    with pytest.raises(ValueError, match=r"float64 of shape \(2, 10, 1\)"):
        Task("t", lambda x: x / 2, 0, 3).sample(0, 2)
