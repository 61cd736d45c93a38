"""Arrays and folders that commands ask for; what is printed of a run."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from rich.console import Console

from features.cli import terminal


@given(
    npst.arrays(
        st.sampled_from([np.float32, np.float16, np.int64, bool]), npst.array_shapes(max_dims=3, max_side=4)
    )
)
def test_arrays_come_back_without_being_read_at_once(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("a") / "x.npy"
    np.save(path, array)
    found = terminal.load_array(path)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, array)


@settings(max_examples=150)
@given(st.sampled_from(["cut", "head", "any bytes"]), st.integers(0, 2**32 - 1), st.binary(max_size=80))
def test_damaged_arrays_are_read_or_named(tmp_path_factory, how, seed, junk):
    folder, rng = tmp_path_factory.mktemp("a"), np.random.default_rng(seed)
    np.save(folder / "x.npy", rng.normal(size=(6, 3)))
    data = bytearray((folder / "x.npy").read_bytes())
    if how == "cut":
        data = data[: rng.integers(0, len(data))]
    elif how == "head":
        for at in rng.integers(0, 70, 1 + seed % 3):
            data[at] = rng.integers(0, 256)
    else:
        data = data[: rng.integers(0, 12)] + junk
    (folder / "x.npy").write_bytes(data)
    try:
        assert isinstance(terminal.load_array(folder / "x.npy"), np.ndarray)
    except ValueError as error:
        assert f"{folder / 'x.npy'} is no .npy file of numbers" in str(error)


def test_what_is_no_array_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    for file, message in (
        (tmp_path / "x.npz", "is no .npy file of numbers"),
        (tmp_path / "missing.npy", "no such file"),
        (tmp_path, "no such file"),
    ):
        with pytest.raises(ValueError, match=message):
            terminal.load_array(file)


def test_folders_are_made_and_files_refused(tmp_path):
    assert terminal.folder(tmp_path / "a" / "b").is_dir()
    assert terminal.folder(tmp_path / "a") == tmp_path / "a"
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file: --out must be a folder"):
        terminal.folder(tmp_path / "file")


def test_a_bar_moves_and_says_what_it_is_told(monkeypatch):
    import io

    from rich.progress import Progress

    seen = []
    monkeypatch.setattr(terminal, "CONSOLE", Console(file=io.StringIO(), width=100))
    monkeypatch.setattr(Progress, "update", lambda self, line, **what: seen.append(what))
    with terminal.bar("layers", 4) as advance:
        advance()
        advance(3, "nearly there")
    assert seen == [{"advance": 1, "description": None}, {"advance": 3, "description": "nearly there"}]
