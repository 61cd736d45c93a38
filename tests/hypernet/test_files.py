"""Result files: whole or not at all, and plain JSON."""

import json
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypernet.files import plain, replacing, write_json, write_text


class Pair(NamedTuple):
    first: object
    second: object


number = st.floats() | st.integers(-(2**53), 2**53) | st.booleans() | st.none() | st.text()
data = st.recursive(
    number, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)
)


def expected(value):
    if isinstance(value, dict):
        return {key: expected(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [expected(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@given(value=data)
def test_json_comes_back_with_null_for_what_is_not_finite(value, tmp_path_factory):
    path = write_json(tmp_path_factory.mktemp("json") / "a" / "b.json", value)
    assert json.loads(path.read_text(encoding="utf-8")) == expected(value)
    # what is plain stays as it is
    assert plain(plain(value)) == plain(value)


@given(values=st.lists(st.floats(width=32), max_size=5))
def test_arrays_and_named_tuples_are_lists_and_objects(values):
    for array in (np.array(values, np.float64), jnp.asarray(np.array(values, np.float32)), tuple(values)):
        assert plain(Pair(array, {3: array})) == {
            "first": expected(values),
            "second": {"3": expected(values)},
        }
    assert plain(np.float64("nan")) is None
    assert plain(np.int8(3)) == 3


def test_what_was_there_stays_when_writing_fails(tmp_path):
    path = write_text(tmp_path / "a.txt", "before")
    with pytest.raises(KeyboardInterrupt), replacing(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_link_stays_a_link_to_the_new_contents(tmp_path):
    target = write_text(tmp_path / "real.txt", "old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    write_text(link, "new é")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "new é"
