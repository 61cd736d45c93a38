"""What the derivative reads may be kept in several ways, computed again or not: the result is the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compressarc import multitensor
from compressarc.batch.bucket_shapes import padded_grids, room_for
from compressarc.config import Form
from compressarc.network import model
from compressarc.network.block_loop import packed, stacked
from compressarc.network.inputs import grids, signature
from compressarc.network.loss import loss_terms
from compressarc.network.parameters import init_params, standard_normal
from tests.compressarc import zoo

PUZZLE = zoo.make("own", [((3, 4), (3, 4))] * 2, [(3, 4)], colors=(0, 1, 2))
LARGER = zoo.make("larger", [((5, 3), (5, 3))] * 2, [(2, 5)], colors=(0, 1, 2, 3))


def loss_and_gradient(form, room, data):
    params = init_params(room.shape, key=jax.random.key(0))
    noise = standard_normal(jax.random.key(1), room.shape, jnp.float32)
    params, noise, data = jax.tree.map(
        lambda a: a if a.dtype == jnp.int32 else jnp.asarray(a, jnp.float64), (params, noise, data)
    )

    def loss(params, data):
        output = model.forward(params, noise, data, room, form=form)
        return loss_terms(output, data, room, jnp.int32(7)).total

    return jax.jit(jax.value_and_grad(loss))(params, data)


@functools.cache
def reference(padded):
    return loss_and_gradient(Form("cpu"), *place(padded))


@pytest.fixture(scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def place(padded):
    if not padded:
        return signature(PUZZLE.canvas), grids(PUZZLE.canvas)
    room = room_for([signature(PUZZLE.canvas), signature(LARGER.canvas)])
    return room, padded_grids(PUZZLE.canvas, room)


@pytest.mark.parametrize("padded", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize(
    ("form", "again"),
    [
        pytest.param(Form("cpu"), True, marks=pytest.mark.slow),
        (Form("gpu"), False),
        pytest.param(Form("gpu", 1 << 22), True, marks=pytest.mark.slow),
        pytest.param(Form("tpu"), False, marks=pytest.mark.slow),
    ],
)
def test_all_forms_give_the_same(form, again, padded, monkeypatch):
    expected, used = reference(padded), set()
    for function in (packed, stacked):
        monkeypatch.setattr(model, function.__name__, _noting(function, used))
    monkeypatch.setattr(jax, "checkpoint", _noting(jax.checkpoint, used))
    if form == Form("cpu") and again:
        monkeypatch.setitem(multitensor.KEPT_ELEMENTS, "cpu", 1)
    found = loss_and_gradient(form, *place(padded))
    assert ("checkpoint" in used) == again
    assert ("packed" in used) == (form == Form("gpu"))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11 * max(1, np.abs(b).max())),
        found,
        expected,
    )


def _noting(function, used):
    @functools.wraps(function)
    def noted(*arguments, **settings):
        used.add(function.__name__)
        return function(*arguments, **settings)

    return noted


def test_packing_keeps_every_kind_of_number_and_lanes_apart():
    offset = jnp.linspace(-1, 1, 3)

    def block(x, w):
        chosen = jnp.where(x > 0, x, 2 * x) * w["a"]  # keeps truth values and floats
        moved = jax.lax.dynamic_update_slice_in_dim(chosen, chosen[:1] + w["b"] @ x, 1, 0)
        return moved + offset

    def total(loop, x, w):
        return (loop(block, x, w) ** 2).sum()

    key = jax.random.split(jax.random.key(3), 3)
    x = jax.random.normal(key[0], (5, 3))
    w = {"a": jax.random.normal(key[1], (5, 4, 3)), "b": jax.random.normal(key[2], (5, 4, 1, 3))}
    both = [jax.jit(jax.vmap(jax.grad(functools.partial(total, loop), (0, 1)))) for loop in (packed, stacked)]
    found, expected = (grad(x, w) for grad in both)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, expected)
