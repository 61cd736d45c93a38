"""Result files, arrays on the last axis, libraries that are missing."""

import json
import math
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from features.arrays import over_last
from features.extras import require
from features.files import plain, replacing, write_json, write_text


class Pair(NamedTuple):
    first: object
    second: object


ARRAYS = npst.arrays(
    st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.uint8, bool]), npst.array_shapes(min_dims=0, min_side=0, max_side=3)
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | ARRAYS
    | st.builds(Path, st.just("a/b")) | ARRAYS.map(lambda a: a.dtype.type(1)),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.builds(Pair, inner, inner)
    | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def numbers(value):
    """All floats of what JSON gives back."""
    if isinstance(value, dict):
        return [n for part in value.values() for n in numbers(part)]
    if isinstance(value, list):
        return [n for part in value for n in numbers(part)]
    return [value] if isinstance(value, float) else []


@given(VALUES)
def test_results_of_any_kind_are_json(value):
    found = plain(value)
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found and plain(found) == found
    assert all(math.isfinite(number) for number in numbers(found))


@given(ARRAYS)
def test_arrays_keep_their_shape_and_numbers(array):
    found = plain({"x": array})
    expected = [None if isinstance(v, float) and not math.isfinite(v) else v for v in array.ravel().tolist()]
    flat = np.empty(array.shape, object)
    flat[...] = np.array(found["x"], object).reshape(array.shape)
    assert flat.ravel().tolist() == expected
    assert np.shape(plain(jnp.zeros((2, 3)))) == (2, 3)


def test_named_fields_are_keys_and_so_are_numbers():
    assert plain(Pair(1, (Pair(np.float32(0.5), Path("x")),))) == {
        "first": 1,
        "second": [{"first": 0.5, "second": "x"}],
    }
    assert plain({1: {"a": np.int64(3)}}) == {"1": {"a": 3}}


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_texts_come_back(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("f") / "deep" / "x.txt"
    assert write_text(path, text) == path
    assert path.read_bytes().decode("utf-8") == text
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, error):
    path = write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(type(error)), replacing(path) as partial:
        partial.write_text("half")
        assert json.loads(path.read_text()) == {"a": 1}  # nothing is seen of it yet
        raise error
    assert json.loads(path.read_text()) == {"a": 1} and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(TypeError):
        write_json(path, {"a": {1, 2}})
    assert json.loads(path.read_text()) == {"a": 1} and len(list(tmp_path.iterdir())) == 1


def test_a_link_keeps_pointing(tmp_path):
    (tmp_path / "there").mkdir()
    target = write_text(tmp_path / "there" / "x.txt", "old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink() and target.read_text() == "new"


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1, 4)])
def test_a_vector_meets_the_last_axis(shape):
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    vector = jnp.arange(shape[-1], dtype=x.dtype)
    found = over_last(vector, x)
    assert found.ndim == x.ndim
    np.testing.assert_array_equal(x + found, np.asarray(x) + np.asarray(vector))
    assert over_last(jnp.asarray(2.0), x).shape == (1,) * x.ndim


def test_a_missing_library_names_what_brings_it():
    assert require("json.decoder") is json.decoder
    with pytest.raises(
        ImportError, match=r"needs the library no_such_one: pip install 'quintet-jax\[features\]'"
    ):
        require("no_such_one.part")
    with pytest.raises(ImportError, match=r"'quintet-jax\[cluster\]'"):
        require("no_such_one", "cluster")
