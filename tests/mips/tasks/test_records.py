"""Recorded sequences: what is written is read back, and every damaged file is an error that names it."""

import csv
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mips.tasks import from_columns, from_csv, from_file, from_jsonl, from_npz
from mips.tasks.records import read_legend, renumbered, write_legend
from mips.tasks.task import MISSING
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
    (
        "sequence,x,y\n\n\na,1,1\n\na,one,1\n",
        "line 6: 'one' is not an integer, as others are; `symbols` takes",
    ),
    ("sequence,x,y\na,1.5,1\n", "line 2: '1.5' is not an integer"),
    ("sequence,x,x,y\na,1,1,1\n", "column 'x' comes 2 times"),
    ("sequence,x,y\na,1,1,1\n", "line 2: 3 values were expected, there are more"),
    (
        "sequence,x,y\na,1,\na,1,1\nb,1,1\nb,1,1\n",
        "line 2: no output. Outputs are expected at every step, or",
    ),
    ("sequence,x,y\na,1,\na,1,1\nb,1,\nb,1,\n", "line 5: no output"),
    ("sequence,x,y\na,NaN,1\n", "line 2: an input is missing"),
    ("sequence,x,y1,y2\na,1,1,\n", "line 2: an output is missing"),
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


def test_files_are_taken_by_their_ending(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        from_file(tmp_path)
    with pytest.raises(ValueError, match="not a readable CSV"):
        from_csv(tmp_path)
    with pytest.raises(ValueError, match=r"not a readable \.npz"):
        from_npz(tmp_path / "absent.npz")


ROWS = "sequence,x,y\na,1,{}\na,2,{}\na,3,6\nb,4,4\nc,5,{}\nc,5,10\n"


def test_sequences_may_differ_in_length(tmp_path):
    (tmp_path / "u.csv").write_text(ROWS.format(1, 3, 5))
    lines = ['{"x": [1, 2, 3], "y": [1, 3, 6]}', '{"x": [4], "y": [4]}', "", '{"x": [5, 5], "y": [5, 10]}']
    (tmp_path / "u.jsonl").write_text("\n".join(lines))
    x = np.array([[1, 2, 3], [4, 0, 0], [5, 5, 0]])
    np.savez(tmp_path / "u.npz", x=x, y=np.array([[1, 3, 6], [4, 9, 9], [5, 10, 9]]), lengths=[3, 1, 2])
    tasks = [from_file(tmp_path / f"u.{kind}") for kind in ("csv", "jsonl", "npz")]
    frame = {"sequence": [0, 0, 0, 1, 2, 2], "x": [1, 2, 3, 4, 5, 5], "y": np.array([1, 3, 6, 4, 5, 10.0])}
    tasks.append(from_columns(frame))
    for task in tasks:
        assert task.records[0][..., 0].tolist() == [[1, 2, 3], [4, 4, 4], [5, 5, 5]]
        assert task.records[1][..., 0].tolist() == [[1, 3, 6], [4, MISSING, MISSING], [5, 10, MISSING]]
        assert task.partial and (task.low, task.high, task.length) == (1, 6, 3)


def test_outputs_may_be_recorded_at_the_end_alone(tmp_path):
    (tmp_path / "e.csv").write_text(ROWS.format("", "", ""))
    lines = ['{"x": [1, 2, 3], "y": 6}', '{"x": [4], "y": 4}', '{"x": [5, 5], "y": 10}']
    (tmp_path / "e.jsonl").write_text("\n".join(lines))
    x = np.array([[1, 2, 3], [4, 0, 0], [5, 5, 0]])
    np.savez(tmp_path / "e.npz", x=x, y=np.array([6, 4, 10]), lengths=[3, 1, 2])
    for kind in ("csv", "jsonl", "npz"):
        y = from_file(tmp_path / f"e.{kind}").records[1]
        assert y[..., 0].tolist() == [[MISSING, MISSING, 6], [4, MISSING, MISSING], [MISSING, 10, MISSING]]


def test_symbols_are_numbered_and_can_be_said_again(tmp_path):
    rows = ["sequence,x,y", "1,coin,silent", "1,push,coffee", "2,push,coin"]
    (tmp_path / "s.csv").write_text("\n".join(rows))
    task = from_csv(tmp_path / "s.csv")
    # Inputs and outputs that share a symbol share its number.
    assert task.input_symbols == task.output_symbols == ("coffee", "coin", "push", "silent")
    assert task.records[0][..., 0].tolist() == [[1, 2], [2, 2]] and (task.low, task.high) == (0, 4)
    (tmp_path / "n.csv").write_text("sequence,x,y\n1,7,-\n1,08,+\n")
    apart = from_csv(tmp_path / "n.csv", symbols=True)
    assert apart.input_symbols == ("08", "7") and apart.output_symbols == ("+", "-")
    assert from_csv(tmp_path / "n.csv").input_symbols == ()
    legend = write_legend(apart.input_symbols, ("a\n#", "é"))
    assert read_legend(legend + "def f(xs):\n") == (("08", "7"), ("a\n#", "é"))
    assert write_legend((), ()) == "" and read_legend("x = 1") == ((), ())
    with pytest.raises(ValueError, match="not a list of symbols"):
        read_legend("# inputs: 5")


def test_another_files_symbols_get_the_programs_numbers(tmp_path):
    (tmp_path / "o.csv").write_text("sequence,x,y\n1,b,q\n1,c,r\n")
    task = from_csv(tmp_path / "o.csv")
    there = renumbered(task, ("a", "b", "c"), ("r",))
    assert there.records[0][..., 0].tolist() == [[1, 2]] and there.records[1][..., 0].tolist() == [[1, 0]]
    assert (there.low, there.high) == (0, 3)
    with pytest.raises(ValueError, match="does not know the input 'c'"):
        renumbered(task, ("a", "b"), ("q", "r"))
    with pytest.raises(ValueError, match="inputs are symbols, and the program's numbers"):
        renumbered(task, (), ("q", "r"))


WORDS = st.text(st.characters(codec="utf-8"), max_size=3)
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4)


@given(st.lists(PAIRS, min_size=1, max_size=6))
def test_any_symbols_are_read_back_or_refused_by_their_line(tmp_path_factory, sequences):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    lines = [{"x": [a for a, _ in s], "y": [b for _, b in s]} for s in sequences]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    try:
        task = from_jsonl(path, noise=0.4, symbols=True)
    except ValueError as error:
        assert str(error).startswith(f"{path}, line ")
        return
    x, y = task.records
    for row, line in enumerate(lines):
        assert [task.input_symbols[v] for v in x[row, : len(line["x"]), 0]] == line["x"]
        said = [None if v == MISSING else task.output_symbols[v] for v in y[row, : len(line["y"]), 0]]
        assert said == line["y"]
        assert (y[row, len(line["y"]) :] == MISSING).all()


BAD_LINES = [
    ("[1]", "line 1: an object with a list"),
    ('{"x": 1, "y": 1}', "line 1: an object with a list"),
    ('{"x": [], "y": []}', "line 1: a sequence of no steps"),
    ('{"x": [1], "y": [1, 2]}', "line 1: 1 inputs and 2 outputs"),
    ('{"x": [1, [1, 2]], "y": [1, 2]}', "line 1, step 2: 2 inputs and 1 outputs; 1 and 1 were expected"),
    ('{"x": [null], "y": [1]}', "line 1, step 1: an input is missing"),
    ('{"x": [1, 2], "y": [1, null]}', "line 1, step 2: no output"),
    ('{"x": [1], "y": [1]}\n{"x": [', "line 2: not JSON"),
    ('{"x": [{}], "y": [1]}', "line 1, step 1: .* is not an integer"),
    ("[" * 100_000, "line 1: not JSON"),
    ("", "no rows"),
]


@pytest.mark.parametrize(("text", "error"), BAD_LINES, ids=[e for _, e in BAD_LINES])
def test_lines_that_are_no_sequences_are_refused_by_number(text, error, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.jsonl.*{error}"):
        from_jsonl(path)


BAD_LENGTHS = [
    ([1, 2], "an integer for each of the 3"),
    ([0, 1, 2], "lengths from 0 to 2"),
    ([1, 2, 9], "lengths from 1 to 9"),
    ([1.5, 2, 3], "an integer for each"),
]


@pytest.mark.parametrize(("lengths", "error"), BAD_LENGTHS, ids=[str(n) for n, _ in BAD_LENGTHS])
def test_lengths_that_do_not_fit_are_refused(lengths, error, tmp_path):
    np.savez(tmp_path / "l.npz", x=X, y=X, lengths=lengths)
    with pytest.raises(ValueError, match=rf"l\.npz: .*{error}"):
        from_npz(tmp_path / "l.npz")


def test_columns_that_are_no_sequences_are_refused_by_row():
    good = {"sequence": [0, 0, 1], "x": [1, 2, 3], "y": [1, 2, 3]}
    assert from_columns(good, name="mine").name == "mine"
    for change, error in (
        ({"x": [1, 2]}, "columns of different lengths"),
        ({"x": [1, 2.5, 3]}, r"mine, row 1: 2\.5 is not an integer"),
        ({"x": [1, 2, float("nan")]}, "mine, row 2: an input is missing"),
        ({"sequence": [0, 1, 0]}, "mine, row 2: sequence 0 comes again"),
        ({"sequence": [0, None, 0]}, "mine, row 1: no sequence is named"),
        ({"sequence": [], "x": [], "y": []}, "mine: no rows"),
    ):
        with pytest.raises(ValueError, match=error):
            from_columns(good | change, name="mine")


def test_records_that_contradict_each_other_need_a_share_of_noise(tmp_path):
    (tmp_path / "c.csv").write_text("sequence,x,y\na,1,1\nb,1,2\n")
    with pytest.raises(ValueError, match="expected share"):
        from_csv(tmp_path / "c.csv")
    assert from_csv(tmp_path / "c.csv", noise=0.1).noise == 0.1
    for noise in (-0.1, 0.5, float("nan")):
        with pytest.raises(ValueError, match=r"noise=.* must be at least 0 and below"):
            from_csv(tmp_path / "c.csv", noise=noise)
