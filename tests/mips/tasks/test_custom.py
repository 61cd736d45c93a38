"""The user's own tasks: what is written is read back, and every damaged file is an error that names it."""

import csv
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.tasks import from_callable, from_csv, from_file, from_npz
from tests.mips.strategies import SEEDS


def causal(rng, count, length, inputs, outputs, low=-5, high=9):
    """Sequences whose outputs are a function of the prefixes."""
    x = rng.integers(low, high, (count, length, inputs))
    y = np.cumsum(x.sum(axis=2, keepdims=True), axis=1) * np.arange(1, outputs + 1)
    return x, y


SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3))


@given(SEEDS, SHAPES, st.sampled_from([np.int64, np.int16, np.float32, np.float64]), st.booleans())
def test_npz_files_give_back_what_was_written(tmp_path_factory, seed, shape, dtype, squeeze):
    x, y = causal(np.random.default_rng(seed), *shape)
    path = tmp_path_factory.getbasetemp() / "written.npz"
    flat = (a[..., 0] if squeeze and a.shape[2] == 1 else a for a in (x, y))
    np.savez(path, **dict(zip("xy", (a.astype(dtype) for a in flat), strict=True)))
    task = from_npz(path)
    for got, want in zip(task.records, (x, y), strict=True):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == np.int64
    assert (task.low, task.high) == (x.min(), x.max() + 1)
    assert (task.length, task.inputs, task.outputs, task.name) == (*shape[1:], "written")


@settings(max_examples=20)
@given(SEEDS, SHAPES)
def test_csv_and_npz_files_of_the_same_sequences_are_the_same_task(tmp_path_factory, seed, shape):
    folder = tmp_path_factory.getbasetemp()
    x, y = causal(np.random.default_rng(seed), *shape)
    columns = [f"x{i + 1}" for i in range(x.shape[2])] + [f"y{i + 1}" for i in range(y.shape[2])]
    with (folder / "same.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sequence", *columns])
        for i, (one, two) in enumerate(zip(x, y, strict=True)):
            writer.writerows([f"s{i}", *a, *b] for a, b in zip(one, two, strict=True))
    np.savez(folder / "same.npz", x=x, y=y)
    ours, other = from_file(folder / "same.csv"), from_file(folder / "same.npz")
    for a, b in zip(ours.records, other.records, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (ours.low, ours.high, ours.length) == (other.low, other.high, other.length)


@pytest.fixture(scope="module")
def archives():
    """The bytes of a good archive, as it is and compressed."""
    x, y = causal(np.random.default_rng(0), 4, 3, 1, 1)
    found = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, x=x, y=y)
        found.append(buffer.getvalue())
    return found


@given(st.booleans(), st.integers(0, 10**6), st.integers(1, 255), st.booleans())
def test_a_damaged_archive_is_read_or_refused_by_name(
    archives, tmp_path_factory, compressed, place, change, cut
):
    data = bytearray(archives[compressed])
    place %= len(data)
    data = data[:place] if cut else data[:place] + bytes([data[place] ^ change]) + data[place + 1 :]
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(data)
    try:
        task = from_npz(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert task.records[0].shape == (4, 3, 1)


@pytest.mark.parametrize("compressed", [False, True])
def test_every_single_cut_of_an_archive_is_refused(archives, compressed, tmp_path):
    data = archives[compressed]
    path = tmp_path / "cut.npz"
    for end in range(0, len(data), 13):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match=r"cut\.npz: not a readable \.npz file"):
            from_npz(path)


X = np.zeros((3, 4), int)
BAD_ARRAYS = [
    ({}, "no array 'x'; there are none"),
    ({"y": X}, "no array 'x'; there are y"),
    ({"x": np.zeros((0, 4), int), "y": np.zeros((0, 4), int)}, "x is empty"),
    ({"x": np.zeros((3, 0), int), "y": np.zeros((3, 0), int)}, "x is empty"),
    ({"x": X, "y": np.zeros((3, 4, 0), int)}, "y is empty"),
    ({"x": np.zeros((3, 4, 0), int), "y": X}, "x is empty"),
    ({"x": np.array(5), "y": X}, "x has 0 axes"),
    ({"x": np.zeros((1, 3, 4, 1)), "y": X}, "x has 4 axes"),
    ({"x": np.full((3, 4), "a"), "y": X}, "x holds <U1 values that are not integers"),
    ({"x": X.astype(complex), "y": X}, "x holds complex128"),
    ({"x": np.full((3, 4), np.nan), "y": X}, "x holds float64"),
    ({"x": X, "y": np.full((3, 4), 2**31)}, "y holds values of more than 31 bits"),
    ({"x": X, "y": np.full((3, 4), 2**63, np.uint64)}, "y holds values of more than 31 bits"),
    ({"x": X, "y": X, "y_long": X}, "x_long and y_long come together"),
    ({"x": X, "y": X, "x_long": X, "y_long": X[:, :2]}, "x_long holds 3 sequences of 4 steps"),
    (
        {"x": X, "y": X, "x_long": np.zeros((2, 9, 2), int), "y_long": np.zeros((2, 9), int)},
        "the longer sequences have other numbers of",
    ),
]


@pytest.mark.parametrize(("arrays", "error"), BAD_ARRAYS, ids=[e for _, e in BAD_ARRAYS])
def test_arrays_that_are_no_sequences_are_refused_by_their_key(arrays, error, tmp_path):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=rf"bad\.npz: {error}"):
        from_npz(path)


def test_members_of_an_archive_that_are_no_arrays_are_refused(tmp_path):
    path = tmp_path / "mixed.npz"
    np.savez(path, y=X)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x", "text")
    with pytest.raises(ValueError, match=r"mixed\.npz: x is not an array"):
        from_npz(path)
    np.savez(path, x=np.array([[{}]], object), y=X)
    with pytest.raises(ValueError, match="not a readable"):
        from_npz(path)


def test_truth_values_count_as_zero_and_one(tmp_path):
    np.savez(tmp_path / "b.npz", x=X == 1, y=X == 0)
    assert from_npz(tmp_path / "b.npz").records[1].tolist() == np.ones((3, 4, 1)).tolist()


def test_longer_sequences_widen_the_alphabet(tmp_path):
    np.savez(tmp_path / "l.npz", x=X, y=X, x_long=np.full((1, 6), -7), y_long=np.full((1, 6), 3))
    task = from_npz(tmp_path / "l.npz")
    assert (task.low, task.high, task.length) == (-7, 1, 4)
    assert task.sample(0, 5, 6)[1].tolist() == np.full((5, 6, 1), 3).tolist()
    with pytest.raises(ValueError, match="no recorded sequences of length 7"):
        task.sample(0, 5, 7)


BAD_TABLES = [
    ("sequence,x,y\n\n\na,1,1\n\na,one,1\n", "line 6: .*'one'.* are not all integers"),
    ("sequence,x,y\na,1\n", "line 2"),
    ("x,y,sequence\n1,1\n", "line 2: no sequence is named"),
    ("sequence,x,y\na,99999999999,1\n", "line 2"),
    ("sequence,x,y\na,1.0,1\n", "line 2"),
    ("sequence,x,y\na,,1\n", "line 2"),
    ("sequence,x²,y\na,1,1\n", "columns sequence, x"),
    ("seq,x,y\na,1,1\n", "columns sequence, x"),
    ("sequence,y\na,1\n", "columns sequence, x"),
    ("sequence,x,y\n", "no rows"),
    ("\n\n", "no rows"),
    ("sequence,x,y\na,1,1\na,2,2\nb,1,1\n", "'b' has 1 steps, the first has 2"),
    ("sequence,x,y\na,1,1\nb,1,2\n", "sequences 0 and 1 have the same first 1 inputs"),
    ("sequence,x,y\na," + "1" * 140_000 + ",1\n", "not a readable CSV file"),
]


@pytest.mark.parametrize(("text", "error"), BAD_TABLES, ids=[e for _, e in BAD_TABLES])
def test_tables_that_are_no_sequences_are_refused_by_file_and_line(text, error, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"bad\.csv.*{error}"):
        from_csv(path)


@given(st.text(alphabet='sequence,x12y-"\n\r\0 ²é\ufeff', max_size=60))
def test_any_text_is_a_table_or_an_error_that_names_the_file(tmp_path_factory, rest):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text("sequence,x,y\na,1,1\n" + rest, encoding="utf-8", newline="")
    try:
        task = from_csv(path)
    except ValueError as error:
        assert str(error).startswith(str(path))
    else:
        assert task.inputs == task.outputs == 1


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_table_with_one_byte_changed_is_read_or_refused_by_name(tmp_path_factory, place, byte):
    data = bytearray(b"sequence,x1,x2,y\n" + b"".join(b"s%d,%d,1,%d\n" % (i // 3, i, i) for i in range(12)))
    data[place % len(data)] = byte
    path = tmp_path_factory.getbasetemp() / "byte.csv"
    path.write_bytes(data)
    try:
        task = from_csv(path)
    except ValueError as error:
        assert str(error).startswith(str(path))
    else:
        assert task.records[0].ndim == 3


@given(SEEDS, st.integers(1, 3), st.integers(1, 4))
def test_a_function_of_tuples_gives_its_own_outputs(seed, inputs, length):
    def scaled(xs):
        for x in xs:
            parts = x if isinstance(x, tuple) else (x,)
            yield sum(parts), parts[-1] > 2

    task = from_callable(scaled, low=-2, high=5, inputs=inputs, outputs=2, length=length)
    x, y = task.sample(seed, 6)
    np.testing.assert_array_equal(y[..., 0], x.sum(axis=2))
    np.testing.assert_array_equal(y[..., 1], x[..., -1] > 2)
    assert (task.name, task.length, y.dtype) == ("scaled", length, np.int64)


REFUSED = [
    (lambda xs: 5, {}, TypeError, "gives 5, not a sequence"),
    (lambda xs: [None for _ in xs], {}, TypeError, "gives None, which is not an integer"),
    (lambda xs: ["1" for _ in xs], {}, TypeError, "not an integer"),
    (lambda xs: [*xs, 1], {}, ValueError, "11 outputs for the 10 inputs"),
    (lambda xs: [1 << 62 for _ in xs], {}, ValueError, "beyond 62 bits"),
    (lambda xs: [x for x in xs], {"outputs": 2}, ValueError, "1 outputs at a step, 2 expected"),
    (lambda xs: [len(xs) for _ in xs], {}, ValueError, "not causal: outputs of a prefix of 1"),
    (lambda xs: xs, {"low": 3, "high": 3}, ValueError, "must be above"),
    (lambda xs: xs, {"length": 0}, ValueError, "length=0 must be at least 1"),
    (lambda xs: xs, {"high": 3.5}, TypeError, "low and high are integers, not 3.5"),
]


@pytest.mark.parametrize(("function", "change", "error", "text"), REFUSED, ids=[r[3] for r in REFUSED])
def test_functions_that_are_no_tasks_are_refused(function, change, error, text, types_unchecked):
    with pytest.raises(error, match=text):
        from_callable(function, **{"low": 0, "high": 9, **change})


def test_files_are_taken_by_their_ending(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        from_file(tmp_path)
    with pytest.raises(ValueError, match="not a readable CSV"):
        from_csv(tmp_path)
    with pytest.raises(ValueError, match=r"not a readable \.npz"):
        from_npz(tmp_path / "absent.npz")
