"""The softmax layer against every subset softmaxed by itself in double precision, whatever the readings."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressarc.batch.bucket_shapes import padded_grids, room_for
from compressarc.multitensor import (
    DIRECTED_SETS,
    DIRECTED_WIDTH,
    PACKED,
    PLAIN_SETS,
    PLAIN_WIDTH,
    POINT,
    TYPES,
    Multitensor,
    unflattened,
)
from compressarc.network.inputs import signature
from compressarc.network.layers.decode import flattened
from compressarc.network.layers.softmax import out_rows, softmax, softmax_blocks
from compressarc.network.parameters import Sets, softmax_out_by_group, weights_by_slot
from tests.compressarc import zoo

OWN = zoo.make("own", [((4, 5), (4, 5))] * 2, [(4, 5)], colors=(0, 1, 2, 3))
LARGER = zoo.make("larger", [((6, 3), (6, 3))] * 4, [(2, 7)], colors=(0, 1, 2, 3, 4, 5))
SHAPE = signature(OWN.canvas).shape  # 3 examples, 3 colors, 4 x 5
ROOM = room_for([signature(OWN.canvas), signature(LARGER.canvas)])
TOLERANCE = 1e-5  # asked: 1e-4


def weight_sets(packed):
    """The types in a packed array that have weights of their own."""
    d = "1" if packed.directed else "0"
    kinds = {"plane": ["1..11"], "line": ["1..10"], "point": ["0..00", "1..00"]}[packed.space]
    codes = [kind.replace("..", color + d) for color in "01" for kind in kinds]
    return [code for code in codes if code in TYPES]


def blocks(packed, own, room):
    """Of each type in a packed array: index of its own entries, and the axes its softmaxes run over."""
    c, x, y, e = np.arange(1, own.colors + 1), np.arange(own.x), np.arange(own.y), np.arange(own.examples)
    direction = [np.arange(8)] if packed.directed else []
    last = len(packed.leading(room))
    for code in weight_sets(packed):
        colors = c if code[1] == "1" else np.array([0])
        axes = ([0] if code[1] == "1" else []) + ([last] if packed.directed else [])
        if packed.space == "plane":
            yield code, np.ix_(colors, x, y, e, *direction), [*axes, 1, 2]
        elif packed.space == "line":
            for line in (x, room.x + y):
                yield code, np.ix_(colors, line, e, *direction), [*axes, 1]
        else:
            slots = e + 1 if code[0] == "1" else np.array([0])
            yield code, np.ix_(colors, slots, *direction), axes


def plain_softmaxes(v, weight, g, axes):
    """Output, gradients and the sizes of the terms in them. v [..., 2], weight [n, C], g [..., C]; float64."""
    out, dv, d_weight = np.zeros(g.shape), np.zeros(v.shape), []
    sizes = [np.zeros(g.shape), np.zeros(v.shape), []]
    row = 0
    for size in range(1, len(axes) + 1):
        for subset in itertools.combinations(axes, size):
            for channel in range(2):
                reading = v[..., channel]
                p = np.exp(reading - reading.max(subset, keepdims=True))
                p /= p.sum(subset, keepdims=True)
                w = weight[row]
                row += 1
                out += p[..., None] * w
                sizes[0] += p[..., None] * np.abs(w)
                received = (g * w).sum(-1)
                dv[..., channel] += p * (received - (p * received).sum(subset, keepdims=True))
                large = (np.abs(g) * np.abs(w)).sum(-1)
                sizes[1][..., channel] += p * (large + (p * large).sum(subset, keepdims=True))
                d_weight.append((p[..., None] * g).reshape(-1, g.shape[-1]).sum(0))
                sizes[2].append((p[..., None] * np.abs(g)).reshape(-1, g.shape[-1]).sum(0))
    return out, dv, np.array(d_weight), (sizes[0], sizes[1], np.array(sizes[2]))


def plain_layer(x, into, out, g, own, room):
    """Result and gradients (x, into, out) of the layer with their sizes: two Multitensors, two Sets."""
    found = [jax.tree.map(lambda a: np.zeros(np.shape(a)), t) for t in (x, x, into, out) for _ in range(2)]
    for i, packed in enumerate(PACKED):
        types = DIRECTED_SETS if packed.directed else PLAIN_SETS
        a, cotangent = np.asarray(x[i], float), np.asarray(g[i], float)
        read, write = (np.asarray(t[packed.directed], float) for t in (into, out))
        for code, index, axes in blocks(packed, own, room):
            k, rows = types.index(code), out_rows(types)[types.index(code)]
            stream, received = a[index], cotangent[index]
            result, dv, d_write, sizes = plain_softmaxes(stream @ read[k], write[rows], received, axes)
            flat = stream.reshape(-1, stream.shape[-1])
            values = [
                (stream + result, np.abs(stream) + sizes[0]),
                (received + dv @ read[k].T, np.abs(received) + sizes[1] @ np.abs(read[k].T)),
                (flat.T @ dv.reshape(-1, 2), np.abs(flat).T @ sizes[1].reshape(-1, 2)),
                (d_write, sizes[2]),
            ]
            places = ((i, index), (i, index), (packed.directed, k), (packed.directed, rows))
            for n, (array, place) in enumerate(places):
                found[2 * n][array][place] += values[n][0]
                found[2 * n + 1][array][place] += values[n][1]
    return found


@functools.cache
def compiled(padded, lanes):
    """(x, into, out, g) -> result and gradients, at the puzzle's own shape or in a larger room."""
    room = ROOM.shape if padded else SHAPE
    padding = jax.tree.map(jnp.asarray, padded_grids(OWN.canvas, ROOM).padding) if padded else None

    def both(x, into, out, g):
        def layer(x, into, out):
            weights = softmax_blocks(softmax_out_by_group(out), room)
            read = weights_by_slot(into, room)
            return unflattened(softmax(flattened(x, room), read, weights, room, padding=padding), room)

        result, back = jax.vjp(layer, x, into, out)
        return (result, *back(g))

    return jax.jit(jax.vmap(both) if lanes else both)


def in_room(tensor, fill=0.0):
    """Arrays of the puzzle's own shape in the corner of the room's."""
    out = []
    for packed, a in zip(PACKED, tensor, strict=True):
        laid = np.full((*packed.axes(ROOM.shape), a.shape[-1]), fill, a.dtype)
        for (_, to, _), (_, source, _) in zip(
            blocks(packed, SHAPE, ROOM.shape), blocks(packed, SHAPE, SHAPE), strict=True
        ):
            laid[to] = a[source]
        out.append(laid)
    return Multitensor(*out)


def case(seed, spread, kind, size):
    """Stream, weights and cotangent; the first two channels of the stream are read, exactly."""
    rng = np.random.default_rng(seed)

    def stream(packed):
        shape = (*packed.axes(SHAPE), DIRECTED_WIDTH if packed.directed else PLAIN_WIDTH)
        x = rng.normal(size=shape)
        v = x[..., :2]
        if kind == "rows":  # lines along any one axis, as far below one another as `spread`
            axis = rng.integers(len(shape) - 1)
            v -= spread * rng.uniform(
                size=[1 if i in (axis, v.ndim - 1) else n for i, n in enumerate(v.shape)]
            )
        elif kind == "uniform":
            v *= spread * rng.uniform(size=v.shape)
        elif kind == "ties":
            v[...] = spread * rng.integers(-1, 2, size=v.shape)
        else:  # one reading far above or below all others
            v.reshape(-1)[rng.integers(v.size)] += spread * rng.choice([-1, 1])
        return x.astype(np.float32)

    def reading(types, width):
        w = np.zeros((len(types), width, 2), np.float32)
        w[:, 0, 0] = w[:, 1, 1] = 1
        return w

    def drawn(types, width):
        sizes = [rows.stop - rows.start for rows in out_rows(types)]
        return np.concatenate([rng.normal(size=(n, width)) / np.sqrt(n) for n in sizes]).astype(np.float32)

    x = Multitensor(*map(stream, PACKED))
    g = jax.tree.map(lambda a: (size * rng.normal(size=a.shape)).astype(np.float32), x)
    sets = ((PLAIN_SETS, PLAIN_WIDTH), (DIRECTED_SETS, DIRECTED_WIDTH))
    out = Sets(*(drawn(*each) for each in sets))
    return x, Sets(*(reading(*each) for each in sets)), out, g


def check(results, expected):
    names = ("result", "gradient of x", "gradient of into", "gradient of out")
    for name, *parts in zip(names, results, expected[::2], expected[1::2], strict=True):
        for i, arrays in enumerate(zip(*parts, strict=True)):
            # Row 0 of the plain points belongs to no type.
            start = 1 if name in names[:2] and PACKED[i] is POINT else 0
            got, want, size = (np.asarray(a, float)[start:] for a in arrays)
            assert np.isfinite(got).all(), (name, i)
            wrong = np.abs(got - want) > TOLERANCE * size + 1e-30
            assert not wrong.any(), (name, i, np.abs(got - want)[wrong].max(), size[wrong].max())


READINGS = dict(
    seed=st.integers(0, 2**32 - 1),
    spread=st.floats(0, 4).map(lambda e: 10.0**e),
    kind=st.sampled_from(["rows", "uniform", "ties", "one"]),
    size=st.floats(-6, 6).map(lambda e: 10.0**e),
)


@pytest.mark.parametrize("padded", [False, True], ids=["own shape", "padded"])
@settings(max_examples=60)
@given(**READINGS)
def test_the_layer_is_its_double_precision_reading(padded, seed, spread, kind, size):
    x, into, out, g = case(seed, spread, kind, size)
    room = ROOM.shape if padded else SHAPE
    if padded:
        x, g = in_room(x), in_room(g)
    check(compiled(padded, False)(x, into, out, g), plain_layer(x, into, out, g, SHAPE, room))


@settings(max_examples=15)
@given(
    READINGS["seed"],
    st.lists(st.tuples(*(READINGS[k] for k in ("spread", "kind", "size"))), min_size=2, max_size=2),
)
def test_lanes_do_not_disturb_one_another(seed, lanes):
    """The widest spread in one lane, say, and another's cotangent of 10^-6."""
    cases = [case(seed + i, *lane) for i, lane in enumerate(lanes)]
    padded = [(in_room(x), into, out, in_room(g)) for x, into, out, g in cases]
    results = compiled(True, True)(*jax.tree.map(lambda *a: np.stack(a), *padded))
    for i, one in enumerate(padded):
        check(jax.tree.map(lambda a, i=i: a[i], results), plain_layer(*one, SHAPE, ROOM.shape))


def test_a_saturated_softmax_has_no_gradient():
    """Where one reading is far above all others of every subset, not even rounding is left."""
    x, into, out, g = case(3, 1e4, "uniform", 1e6)
    for a in x:
        order = np.random.default_rng(5).permutation(a[..., 0].size).reshape(a.shape[:-1])
        a[..., 0], a[..., 1] = 200.0 * order, -200.0 * order
    _, dx, d_into, _ = compiled(False, False)(x, into, out, g)
    for got, plain in zip(dx, g, strict=True):
        np.testing.assert_array_equal(got[1:], plain[1:])
    for a in d_into:
        assert not np.asarray(a).any()


@pytest.mark.parametrize("spread", [1, 50, 100, 150, 158, 200, 1000, 10_000])
@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
def test_rows_far_below_one_another(spread, size):
    """The probe that found gradients which are no numbers from a spread of 100 on."""
    x, into, out, g = case(0, spread, "rows", size)
    check(compiled(False, False)(x, into, out, g), plain_layer(x, into, out, g, SHAPE, SHAPE))
