"""What hypothesis draws: expressions, programs, machines."""

import functools

import numpy as np
from hypothesis import strategies as st

from mips.programs import expression as ex
from mips.programs.program import Program
from mips.reading.machine_extraction import Machine, alphabet, with_reachable

SEEDS = st.integers(0, 2**32 - 1)
BINARY = ("+", "-", "*", "min", "max", "==", "!=", "<", "<=", ">", ">=", "and", "or")
UNARY = ("neg", "not", "abs")


def _grow(inner):
    positive = st.integers(1, 7).map(ex.const)
    return st.one_of(
        st.builds(ex.apply, st.sampled_from(UNARY), inner),
        st.builds(ex.apply, st.sampled_from(BINARY), inner, inner),
        st.builds(ex.apply, st.sampled_from(("//", "%")), inner, positive),
        st.builds(ex.apply, st.just("if"), inner, inner, inner),
    )


@functools.cache  # building a strategy takes longer than drawing from it
def integer_expressions(names=("x", "s"), leaves=8):
    """Expressions of integers that no row can fail in."""
    leaf = st.one_of(st.sampled_from(names).map(ex.var), st.integers(-12, 12).map(ex.const))
    return st.recursive(leaf, _grow, max_leaves=leaves)


LISTED = ("largest", "smallest", "total", "length", "distinct")
SHORT_LISTS = st.lists(integer_expressions(leaves=2), min_size=1, max_size=3)
MEMBERS = st.lists(st.integers(-9, 9), max_size=3).map(tuple).map(ex.const)
ABOUT_LISTS = st.sampled_from((*LISTED, "count", "in", "==", "!=", "same", "item", "front"))
JOINED = st.sampled_from(("+", "*", "min", "<", "=="))


@st.composite
def list_expressions(draw):
    """A list over the integers x, s and the list h, of at least one item."""
    items = draw(SHORT_LISTS)
    made = ex.apply("list", *items) if draw(st.booleans()) else ex.var("h")
    for _ in range(draw(st.integers(0, 2))):
        how = draw(st.sampled_from(("append", "reversed", "sorted", "back")))
        if how == "append":
            made = ex.apply("append", made, draw(integer_expressions(leaves=2)))
        else:
            made = ex.apply(how, made)
    return made


LISTS = list_expressions()


@st.composite
def expressions(draw):
    """Expressions of integers, some of them about lists."""
    if draw(st.booleans()):
        return draw(integer_expressions())
    made, item = draw(LISTS), draw(integer_expressions(leaves=3))
    kind = draw(ABOUT_LISTS)
    if kind in LISTED:
        said = ex.apply(kind, made)
    elif kind == "count":
        said = ex.apply("count", made, item)
    elif kind == "same":
        said = ex.apply("same", made, draw(LISTS))
    elif kind == "item":
        said = ex.apply("lookup", made, draw(st.integers(-1, 0).map(ex.const)))
    elif kind == "front":
        said = ex.apply("total", ex.apply("front", made))
    elif kind == "in":
        said = ex.apply("in", item, made if draw(st.booleans()) else draw(MEMBERS))
    else:
        said = ex.apply(kind, made, draw(LISTS))
    return ex.apply(draw(JOINED), said, item)


def _machine(seed, states, inputs, low, width, values, outputs):
    rng = np.random.default_rng(seed)
    letters = alphabet(low, low + (width if inputs == 1 else min(width, 2)), inputs)
    following = rng.integers(0, states, (states, len(letters)))
    says = rng.integers(*values, (states, len(letters), outputs))
    return with_reachable(Machine(letters, following, says))


def machines(most_states=6, outputs=1):
    """Makers of complete machines whose states can all be reached, over one or two channels.

    A maker is called in the test: the checks of types take random samples, which hypothesis forbids while
    it draws.
    """
    values = st.sampled_from(((0, 2), (-4, 5), (7, 8)))
    return st.builds(
        functools.partial,
        st.just(_machine),
        SEEDS,
        st.integers(1, most_states),
        st.integers(1, 2),
        st.integers(-3, 2),
        st.integers(1, 3),
        values,
        st.just(outputs),
    )


def sequences_for(machine, count=30, length=9, seed=0):
    """Random inputs over a machine's alphabet."""
    rng = np.random.default_rng(seed)
    return machine.alphabet[rng.integers(0, len(machine.alphabet), (count, length))]


STATEFUL = integer_expressions(("x", "s", "r"), leaves=4)
OVER_STATE = integer_expressions(("s", "r"), leaves=3)


def _program(initial, updates, outputs, in_new_state):
    new = dict(zip(("s", "r"), updates, strict=True))
    said = tuple(ex.substitute(o, new) if there else o for o, there in outputs)
    if in_new_state:
        said = tuple(ex.substitute(o, new) for o, _ in outputs)
    return Program(("x",), ("s", "r"), initial, updates, said, kind="text")


def programs():
    """Makers of programs with two numbers as state; outputs that read the new state are frequent."""
    start = st.integers(-5, 5)
    output = st.tuples(st.one_of(OVER_STATE, STATEFUL), st.booleans())
    return st.builds(
        functools.partial,
        st.just(_program),
        st.tuples(start, start),
        st.tuples(STATEFUL, STATEFUL),
        st.lists(output, min_size=1, max_size=2),
        st.booleans(),
    )
