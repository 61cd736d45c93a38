"""Linear maps by type, in all their forms, against each position's own product in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compressarc.multitensor import GROUPS, MARGIN_DIRECTED, Shape, row_sets, slot_sets
from compressarc.network.layers import project as forms
from compressarc.network.layers.project import project
from compressarc.network.layers.slot_weights import by_slot

SHAPES = (Shape(1, 1, 1, 1), Shape(3, 2, 4, 5), Shape(2, 9, 3, 1), Shape(5, 6, 13, 14))
"""The last has arrays that are too large for a product of each color slot."""


def case(group, shape, k, n, seed):
    """X, weights of all sets of that width, a cotangent; and each row's own weight."""
    rng = np.random.default_rng(seed)
    rest = (8,) if group.directed else ()
    x = rng.normal(size=(*group.flat(shape), *rest, k))
    weights = rng.normal(size=(8 if group.directed else 6, k, n))
    g = rng.normal(size=(*x.shape[:-1], n))
    table = row_sets(group, shape).reshape(shape.colors + 1, -1, len(group.types))
    return x, weights, g, np.einsum("cpt,tkn->cpkn", table, weights[group.sets])


def expected(x, each, g):
    """Result and gradient of x; the planes' one weight is that of all their places."""
    each = np.broadcast_to(each, (*x.shape[:2], *each.shape[2:]))
    result = np.einsum("cprk,cpkn->cprn", rows(x), each)
    return result.reshape(g.shape), np.einsum("cprn,cpkn->cprk", rows(g), each).reshape(x.shape)


def rows(a):
    """[slots, places, directions or one, channels]."""
    return a.reshape(*a.shape[:2], -1, a.shape[-1])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
@pytest.mark.parametrize("lanes", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one", "lanes"])
def test_every_position_is_mapped_by_its_types_weights(group, shape, lanes):
    x, weights, g, each = case(group, shape, 5, 3, seed=shape.x)
    want, back = expected(x, each, g)
    table = row_sets(group, shape).reshape(*each.shape[:2], -1)
    received = np.einsum("cprk,cprn->cpkn", rows(x), rows(g))
    table = np.broadcast_to(table, (*received.shape[:2], table.shape[-1]))
    d_weights = np.zeros_like(weights)
    d_weights[group.sets] = np.einsum("cpt,cpkn->tkn", table, received)

    def mapped(x, weights):
        (laid,) = by_slot(weights, [group], shape)
        return project(x, laid, group.kinds(x.shape[1], shape))

    def both(x, weights, g):
        result, pullback = jax.vjp(mapped, x, weights)
        return result, *pullback(g)

    with jax.enable_x64(True):
        arguments = [jnp.asarray(a) for a in (x, weights, g)]
        if lanes:
            doubled = [jnp.stack([a, 2 * a]) for a in arguments]
            found = [a[0] for a in jax.jit(jax.vmap(both))(*doubled)]
        else:
            found = jax.jit(both)(*arguments)
    for got, wanted in zip(found, (want, back, d_weights), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-12 * max(1, np.abs(wanted).max()))


@pytest.mark.slow
@settings(max_examples=20)  # each compiles some dozen small programs
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@example([15, 1, 3], 2, True, 0)  # the first two share a product
@example([60, 1, 3], 2, True, 0)
def test_all_forms_map_each_kind_of_place_by_its_own_weight(kinds, slots, large, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "_LARGE", 0 if large else forms._LARGE)
        check_forms(kinds, slots, seed)


def check_forms(kinds, slots, seed):
    rng, kinds = np.random.default_rng(seed), tuple(kinds)
    x = rng.normal(size=(slots, sum(kinds), 2, 4)).astype(np.float32)
    weight = rng.normal(size=(slots, len(kinds), 4, 2)).astype(np.float32)
    g = rng.normal(size=(slots, sum(kinds), 2, 2)).astype(np.float32)
    each = np.repeat(weight, kinds, axis=1).astype(float)
    of_kind = np.repeat(np.eye(len(kinds)), kinds, axis=0)
    wanted = np.einsum("cpdk,cpkn->cpdn", x, each)
    moments = np.einsum("cpdk,cpdn,pj->cjkn", x, g, of_kind)
    x, weight, g = jnp.asarray(x), jnp.asarray(weight), jnp.asarray(g)
    given = {"precision": "highest", "kinds": kinds}
    for form in (forms._product_on_cpu, forms._product):
        np.testing.assert_allclose(form(x, weight, **given), wanted, atol=1e-4)
        np.testing.assert_allclose(form(x[:1], weight[0], **given), wanted[:1], atol=1e-4)
    for form in (forms._moments_on_cpu, forms._moments):
        np.testing.assert_allclose(form(x, g, **given), moments, atol=1e-3)


def test_where_no_type_is_nothing_is_mapped():
    """Slot 0 of the plain points: it has no weights."""
    margin = next(group for group in GROUPS if group.name == "margin")
    sets = slot_sets(margin, SHAPES[1])
    assert (sets[0] == [0, -1, -1]).all() and (sets[1:] >= 0).all()
    assert (slot_sets(MARGIN_DIRECTED, SHAPES[1]) >= 0).all()
