import numpy as np
import pytest

from compressarc.multitensor import GROUPS, TYPES, Shape, norm_types, pack, tied_to, unpack, width
from compressarc.network.layers.direction import tying_table
from compressarc.network.layers.softmax import subsets
from tests.conftest import DATA


def test_the_18_valid_types_in_the_references_order():
    assert " ".join(TYPES) == (
        "01000 11000 00100 10100 01100 11100 10010 11010 10110 11110 "
        "10001 11001 10101 11101 10011 11011 10111 11111"
    )


@pytest.mark.parametrize("shape", [Shape(3, 2, 4, 5), Shape(2, 1, 1, 1), Shape(5, 9, 3, 7)])
def test_packing_is_exact_and_keeps_every_entry(shape):
    rng = np.random.default_rng(0)
    tensors = {code: rng.normal(size=(*shape.axes(code), 4)) for code in TYPES}
    packed = pack(tensors, shape)
    assert sum(a.size for a in packed) == sum(a.size for a in tensors.values())
    back = unpack(packed, shape)
    for code in TYPES:
        np.testing.assert_array_equal(back[code], tensors[code])


def test_every_type_is_normalized_in_exactly_one_group():
    listed = [code for group in GROUPS for code in norm_types(group)]
    assert sorted(listed) == sorted(TYPES)
    weights = {code for group in GROUPS for code in group.types}
    assert weights == {tied_to(code) for code in TYPES}


def test_widths_and_softmax_outputs():
    assert [width(c) for c in ("11111", "11011")] == [8, 16]
    counts = {code: 2 * len(subsets(code)) for code in TYPES}
    assert counts["11111"] == 30 and counts["11011"] == counts["10111"] == 14 and counts["10010"] == 2
    assert subsets("11011")[:4] == [{"c"}, {"x"}, {"y"}, {"c", "x"}]


def test_direction_tying_matches_the_recorded_tables():
    with np.load(DATA / "f9012d9b.npz") as golden:
        recorded = {
            kind: golden[f"meta/dir_index_{name}"] for kind, name in (("row", "x_only"), ("column", "y_only"))
        }
    for kind, table in recorded.items():
        np.testing.assert_array_equal(tying_table(kind), table)
    assert tying_table("symmetric").max() + 1 == 10
    assert tying_table("row").max() + 1 == tying_table("column").max() + 1 == 18
