"""Files: replaced whole or left as they were; plain data is JSON."""

import json
import math
from collections import namedtuple
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mips.files import plain, replacing, write_json, write_text

Pair = namedtuple("Pair", ("one", "two"))
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.floats())
DATA = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.tuples(inner, inner).map(lambda pair: Pair(*pair)),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers(0, 9)), inner, max_size=3),
    ),
    max_leaves=10,
)


def same(data, read):
    """Whether what was read from JSON is what was to be written."""
    if isinstance(data, Pair):
        data = data._asdict()
    if isinstance(data, dict):
        return read == {} if not data else all(same(data[k], read[str(k)]) for k in data)
    if isinstance(data, list | tuple):
        return len(data) == len(read) and all(map(same, data, read))
    if isinstance(data, float) and not math.isfinite(data):
        return read is None
    return read == data and type(read) is type(data)


@given(DATA)
def test_plain_data_survives_json(tmp_path_factory, data):
    path = write_json(tmp_path_factory.getbasetemp() / "plain.json", data)
    assert plain(plain(data)) == plain(data)
    text = path.read_text(encoding="utf-8")
    assert "NaN" not in text.replace('"NaN"', "") and json.loads(text) == json.loads(json.dumps(plain(data)))
    if not has_clashes(data):
        assert same(data, json.loads(text))


def has_clashes(data):
    """Whether two keys of a dictionary have the same text."""
    if isinstance(data, dict):
        return len({str(k) for k in data}) < len(data) or any(map(has_clashes, data.values()))
    return isinstance(data, list | tuple) and any(map(has_clashes, data))


def test_arrays_numbers_and_paths_become_plain():
    given_data = {
        "a": np.arange(4).reshape(2, 2),
        "b": jnp.float32(0.5),
        "c": np.float64("nan"),
        "d": [np.array([1.0, np.inf])],
        "e": Path("x") / "y",
        3: np.bool_(True),
    }
    assert plain(given_data) == {
        "a": [[0, 1], [2, 3]],
        "b": 0.5,
        "c": None,
        "d": [[1.0, None]],
        "e": str(Path("x") / "y"),
        "3": True,
    }


def test_what_was_there_stays_until_the_new_file_is_whole(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), replacing(path) as partial:
        partial.write_text("half")
        assert path.read_text() == "old"
        raise KeyError
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
    with replacing(path) as partial:
        partial.write_text("new")
        assert partial.parent == path.parent
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_a_block_that_writes_nothing_leaves_the_old_file(tmp_path):
    path = write_text(tmp_path / "a.json", "{}")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "{}"


def test_data_that_json_does_not_know_leaves_the_old_file(tmp_path):
    path = write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        write_json(path, object())
    assert json.loads(path.read_text()) == [1] and list(tmp_path.iterdir()) == [path]


def test_links_are_followed_and_stay_links(tmp_path):
    real = write_text(tmp_path / "real.txt", "old")
    link = tmp_path / "link.txt"
    link.symlink_to(real)
    write_text(link, "new: ü")
    assert link.is_symlink() and real.read_text(encoding="utf-8") == "new: ü"


def test_half_a_file_is_no_file_of_its_kind(tmp_path):
    """What a killed process leaves is not taken for a result by who lists them."""
    with replacing(tmp_path / "result.json") as partial:
        partial.write_text("{")
        assert partial.parent == tmp_path and not list(tmp_path.glob("*.json"))
