"""The network as a plain reading of its definition: 18 tensors, one at a time, no packing.

Slow to compile and to run, and meant to be read. Shares no layer code with the package;
weights come by structured name (`compressarc.network.parameter_names`), so goldens load directly.
"""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

TYPES = tuple(
    [
        "01000",
        "11000",
        "00100",
        "10100",
        "01100",
        "11100",
        "10010",
        "11010",
        "10110",
        "11110",
        "10001",
        "11001",
        "10101",
        "11101",
        "10011",
        "11011",
        "10111",
        "11111",
    ]
)
AXES = "ecdxy"
STRENGTH = (1, 0.2, 0.4, 0.2, 1, 0.2, 0.4, 0.2)


def plainly(function):
    """Ranks are promoted as NumPy does it: the formulas stand as the paper writes them."""

    @functools.wraps(function)
    def promoting(*arguments):
        with jax.numpy_rank_promotion("allow"):
            return function(*arguments)

    return promoting


def tied(code):
    return code[:3] + "10" if code[3:] == "01" else code


def dims(code):
    return [a for a, bit in zip(AXES, code, strict=True) if bit == "1"]


def norm(t):
    axes = tuple(range(t.ndim - 1))
    t = t - t.mean(axes, keepdims=True)
    return t / jnp.sqrt(1e-8 + jnp.square(t).mean(axes, keepdims=True))


def align(t, source, target):
    """Inserts length-1 axes so that a tensor of type `source` broadcasts in type `target`."""
    index = tuple(slice(None) if s == "1" else None for s, g in zip(source, target, strict=True) if g == "1")
    return t[(*index, slice(None))]


def decode(w, noise):
    x, kl = {}, []
    for code in TYPES:
        mu, a, tau = w[f"post_mean/{code}"], w[f"post_lca/{code}"], w[f"target_capacity/{code}"]
        axes, size = tuple(range(mu.ndim - 1)), mu.size
        t = 10 * tau
        scale = 1 - jnp.exp(-2 * (1e4 * jnp.exp(t) + 0.5) / size)
        c = (1e4 * jnp.exp(t + a - a.mean(axes)) + 0.5) / size
        sn = jnp.exp(-c)
        ss = jnp.where(2 * c > 20, 1, jnp.sqrt(1 - jnp.exp(-2 * jnp.minimum(c, 10))))
        m = mu - mu.mean(axes)
        m = m / jnp.sqrt(jnp.square(m).mean(axes) + 1e-8)
        z = scale * (ss * m + sn * noise[code])
        kl.append((0.5 * (sn**2 + (1 - sn**2) * m**2 - 1) + c).sum())
        x[code] = z @ w[f"decode_w/{tied(code)}"] + w[f"decode_b/{tied(code)}"]
    return x, jnp.stack(kl)


def residual(w, layer, name, code, x, f, post=False):
    v = f(x @ w[f"layer{layer}/{name}_in/{tied(code)}"])
    if post:
        v = norm(v)
    return x + v @ w[f"layer{layer}/{name}_out/{tied(code)}"]


def share(w, layer, name, x, mix):
    v = {c: x[c] @ w[f"layer{layer}/{name}_in/{tied(c)}"] for c in TYPES}
    return {c: x[c] + norm(mix(c, v)) @ w[f"layer{layer}/{name}_out/{tied(c)}"] for c in TYPES}


def below(a, b):
    return all(i <= j for i, j in zip(a, b, strict=True))


def sum_up(code, v):
    return sum(align(v[s], s, code) for s in TYPES if below(s, code))


def reduce_to(t, source, target, union, masked):
    for axis in "yxdce":
        k = AXES.index(axis)
        if source[k] == "0" or target[k] == "1":
            continue
        place = dims(source).index(axis)
        if axis in "xy" and masked:
            if axis == "y":
                mask = union if source[3] == "1" else union[:, 0, :]
            else:
                mask = union if target[4] == "1" else union[:, :, 0]
            present = [a for a in "exy" if a in dims(source)]
            shape = [mask.shape[present.index(a)] if a in present else 1 for a in dims(source)]
            mask = mask.reshape(*shape, 1)
            t = (t * mask).sum(place) / (mask.sum(place) + 1e-4)
        else:
            t = t.mean(place)
        source = source[:k] + "0" + source[k + 1 :]
    return t


def softmax_all(code):
    places = [i for i, a in enumerate(dims(code)) if a != "e"]

    def f(v):
        out = []
        for size in range(1, len(places) + 1):
            for axes in itertools.combinations(places, size):
                out.append(jax.nn.softmax(v, axis=axes))
        return jnp.concatenate(out, -1)

    return f


def shifted(f, dx, dy, fill):
    """Moves axes 0 and 1 of f by (dx, dy); `fill` enters."""
    x, y = f.shape[:2]
    out = jnp.full_like(f, fill)
    if abs(dx) >= x or abs(dy) >= y:
        return out
    to = (slice(max(dx, 0), x + min(dx, 0)), slice(max(dy, 0), y + min(dy, 0)))
    source = (slice(max(-dx, 0), x + min(-dx, 0)), slice(max(-dy, 0), y + min(-dy, 0)))
    return out.at[to].set(f[source])


def cummax_cardinal(v, u, axis):
    p = 1000 * (1 - u)
    high = (v - p).max(axis, keepdims=True) + p + 1e-3
    low = (v + p).min(axis, keepdims=True) - p - 1e-3
    c = jax.lax.associative_scan(jnp.maximum, v - p, axis=axis) + p
    return 2 * (c - low) / (high - low) - 1


def cummax_diagonal(v, u):
    p = 1000 * (1 - u)
    n = math.ceil(math.log2(min(v.shape[:2])))

    def sweep(f, way, fill, pick):
        for i in range(n):
            f = pick(f, shifted(f, way * 2**i, way * 2**i, fill))
        return f

    f = sweep(v - p, 1, -1000.0, jnp.maximum)
    c = f + p
    high = sweep(f, -1, -1000.0, jnp.maximum) + p
    g = sweep(sweep(v + p, 1, 1000.0, jnp.minimum), -1, 1000.0, jnp.minimum)
    low = g - p
    return u * (2 * (c - low) / (high - low + 1e-5) - 1)


def shift_cardinal(v, _, axis):
    return shifted(v, 1 - axis, axis, 0.0)


def shift_diagonal(v, _):
    return shifted(v, 1, 1, 0.0)


def directional(code, union, cardinal, diagonal):
    """v of type 11111 or 10111, width 4; works on (x, y, everything else) per direction."""

    def f(v):
        letters = dims(code)
        d, x, y = (letters.index(a) for a in "dxy")
        v = jnp.moveaxis(v, (d, x, y), (0, 1, 2))  # d, x, y, e, (c), channel
        shape = (*union.transpose(1, 2, 0).shape, *(1,) * (v.ndim - 4))
        u = union.transpose(1, 2, 0).reshape(shape)
        v = v * u
        halves = []
        for h in range(2):
            per_direction = []
            for direction in range(8):
                s, j = divmod(direction, 4)
                part = v[direction][..., h::2]
                if j in (0, 2):
                    axis = j // 2
                    flip = (axis,) if s + h == 1 else ()
                    out = cardinal(jnp.flip(part, flip), jnp.flip(u, flip), axis)
                else:
                    flip = tuple(a for a, yes in ((0, (s + h + (j == 3)) % 2), (1, s + h == 1)) if yes)
                    out = diagonal(jnp.flip(part, flip), jnp.flip(u, flip))
                per_direction.append(jnp.flip(out, flip))
            halves.append(jnp.stack(per_direction))
        return jnp.moveaxis(jnp.concatenate(halves, -1), (0, 1, 2), (d, x, y))

    return f


def direction_share(w, layer, code, x):
    place = dims(code).index("d")
    z = jnp.moveaxis(norm(x), place, 0)
    maps = w[f"layer{layer}/direction_share/{code}"]
    out = [sum(STRENGTH[(d2 - d1) % 8] * z[d2] @ maps[d1, d2] for d2 in range(8)) for d1 in range(8)]
    return x + jnp.moveaxis(jnp.stack(out), 0, place)


@plainly
def forward(w, noise, union, extent, masked):
    """Logits (E, C+1, X, Y, 2), masks (E, X, 2) and (E, Y, 2), KL (18,).

    union (E, X, Y); extent (E, 2): largest height and width of input and output; masked:
    whether the output size is known.
    """
    x, kl = decode(w, noise)
    for k in range(4):
        x = share(w, k, "share_up", x, sum_up)
        x = {c: residual(w, k, "softmax", c, x[c], softmax_all(c)) for c in TYPES}
        for name, cardinal, diagonal in (
            ("cummax", cummax_cardinal, cummax_diagonal),
            ("shift", shift_cardinal, shift_diagonal),
        ):
            for c in ("11111", "10111"):
                f = directional(c, union, cardinal, diagonal)
                x[c] = residual(w, k, name, c, x[c], f, post=True)
        x = {c: direction_share(w, k, c, x[c]) if c[2] == "1" else x[c] for c in TYPES}
        x = {c: residual(w, k, "nonlinear", c, x[c], jax.nn.silu) for c in TYPES}

        def mean_down(code, v):
            return sum(reduce_to(v[s], s, code, union, masked) for s in TYPES if below(code, s))

        x = share(w, k, "share_down", x, mean_down)
        x = {c: norm(t) for c, t in x.items()}
    logits = x["11011"] @ w["head_w"] + 100 * w["head_b"]
    logits = jnp.concatenate([jnp.zeros_like(logits[:, :1]), logits], 1)
    x_mask = x["10010"] @ w["mask_w"] + w["mask_b"]
    y_mask = x["10001"] @ w["mask_w"] + w["mask_b"]
    outside = lambda n, size: -1000.0 * (np.arange(n) >= size[:, None])[..., None]  # noqa: E731
    return (
        logits,
        x_mask + outside(x_mask.shape[1], extent[:, 0]),
        y_mask + outside(y_mask.shape[1], extent[:, 1]),
        kl,
    )


@plainly
def grid_nll(logits, x_mask, y_mask, target, step, uncertain):
    """Negative log-likelihood of one grid: logits (C+1, X, Y), target (h, w) color indices."""
    r = jnp.maximum(0.0, 1 - step / 100)
    c1, c2 = (0.01**r, 0.1**r) if uncertain else (1.0, 1.0)
    h, width = target.shape
    log_p = jax.nn.log_softmax(logits, axis=0)

    def along(mask, length):
        mask = c1 * mask
        score = lambda o, n: 2 * mask[o : o + n].sum() - mask.sum()  # noqa: E731
        scores = jnp.stack([score(o, length) for o in range(len(mask) - length + 1)])
        if uncertain:
            every = [score(o, n) for n in range(1, len(mask) + 1) for o in range(len(mask) - n + 1)]
            return scores - jax.nn.logsumexp(jnp.stack(every))
        return scores - jax.nn.logsumexp(scores)

    rows, columns = along(x_mask, h), along(y_mask, width)
    pixels = jnp.stack(
        [
            jnp.stack(
                [
                    jnp.take_along_axis(log_p[:, o : o + h, p : p + width], target[None], 0).sum()
                    for p in range(len(columns))
                ]
            )
            for o in range(len(rows))
        ]
    )
    q = rows[:, None] + columns[None] + pixels
    return -jax.nn.logsumexp(c2 * q) / c2


@plainly
def loss(w, noise, canvas, step):
    """Total KL, reconstruction, and KL + 10 reconstruction of a `compressarc.Canvas`."""
    union = canvas.masks.any(-1).astype(float)
    logits, x_mask, y_mask, kl = forward(w, noise, union, canvas.sizes.max(1), canvas.size_known)
    reconstruction = 0.0
    for e in range(len(canvas.sizes)):
        for io in range(2 if e < canvas.num_train else 1):
            h, width = canvas.sizes[e, io]
            target = jnp.asarray(canvas.problem[e, :h, :width, io].astype(np.int32))
            reconstruction += grid_nll(
                logits[e, ..., io],
                x_mask[e, :, io],
                y_mask[e, :, io],
                target,
                step,
                canvas.size_uncertain(bool(io)),
            )
    return kl.sum(), reconstruction, kl.sum() + 10 * reconstruction
