"""Validators: what they let through comes back as it is, all else is a ValueError that names the setting."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypernet.validation import as_tuple, positive, whole

ANYTHING = (
    st.integers() | st.floats() | st.decimals() | st.integers(10**308, 10**400) | st.sampled_from([
        None, True, "3", b"3", 1j, [1], np.int8(3), np.uint64(2**63), np.float32(2.5), np.array(4), np.ones(2),
        np.array(2.0), {}, object, Fraction(1, 3),
    ])
)  # fmt: skip


def refused(check, name, value):
    """The error's text, or None where the value is taken."""
    try:
        check(name, value)
    except ValueError as error:
        return str(error)
    return None


@given(value=ANYTHING, least=st.integers(-2, 3))
def test_whole_numbers_come_back_as_int_and_all_else_is_named(value, least):
    said = refused(lambda name, v: whole(name, v, least), "steps", value)
    is_whole = (isinstance(value, (int, np.integer))) or (
        isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind == "i"
    )
    if is_whole and int(value) >= least:
        assert said is None
        assert type(whole("steps", value, least)) is int
        assert whole("steps", value, least) == int(value)
    else:
        assert said.startswith("steps=")
        assert ("must be at least" in said) == is_whole


@given(value=ANYTHING)
def test_positive_numbers_come_back_as_float_and_all_else_is_named(value):
    said = refused(positive, "rate", value)
    if said is None:
        assert type(positive("rate", value)) is float
        assert 0 < positive("rate", value) < math.inf
        assert positive("rate", value) == float(value)
    else:
        assert said.startswith("rate=") and "must be positive and finite" in said


@pytest.mark.parametrize(
    "value", [1, 1e-300, 1e300, True, Fraction(1, 3), Decimal("0.5"), np.float32(2), np.array(3.0)]
)
def test_kinds_of_positive_numbers(value):
    assert positive("rate", value) == float(value)


@pytest.mark.parametrize(
    "value", [0, -1, math.nan, math.inf, "1", None, 1j, 10**400, np.ones(2), Decimal("NaN"), Decimal("sNaN")]
)
def test_kinds_of_what_is_no_positive_number(value):
    with pytest.raises(ValueError, match=r"rate=.*: must be positive and finite"):
        positive("rate", value)


@given(values=st.lists(st.integers()))
def test_sequences_come_back_as_tuples_and_text_is_none(values):
    for kind in (list, tuple, iter, np.array, lambda v: (k for k in v)):
        assert as_tuple("sizes", kind(values)) == tuple(values)
    for wrong in (3, None, "12", b"12", 1.5):
        with pytest.raises(ValueError, match=r"sizes=.*: expected a tuple"):
            as_tuple("sizes", wrong)
