"""Writing a point of the circle into a model's residual stream, and every baseline (section 5 of the paper).

For each prompt and each other start alpha', alpha's state is replaced by one that says alpha'; the score is
logit(original answer) - logit(answer for alpha'), so that negative means success. `causal_null` repeats
it with relabeled circles, the control that the paper lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from features.arrays import AnyArray
from features.circles.fit import NullTest, circle, fit_circle, principal
from features.circles.prompting import Cached, patched_logits

Method = Literal[
    "none", "layer", "average", "pca", "circle", "circle paper", "circle code", "evr",
    "zero circle", "keep rest",
]  # fmt: skip
METHODS: tuple[Method, ...] = get_args(Method)
Variant = Literal["centered", "paper", "code", "evr"]
_VARIANTS: dict[Method, Variant] = {
    "circle": "centered",
    "circle paper": "paper",
    "circle code": "code",
    "evr": "evr",
}
_RELABELLED = ("circle", "circle paper", "circle code", "evr", "zero circle", "keep rest")


class Effect(NamedTuple):
    """A method's outcome over all patches."""

    logit_difference: float  # mean of logit(original answer) - logit(target answer)
    error: float  # half width of the 96 % interval of that mean, as in the paper
    success: float  # share of patches whose likeliest answer is the target
    patches: int


class Pairs(NamedTuple):
    """All (prompt, other start) combinations."""

    row: Int[np.ndarray, " patches"]  # the prompt that is patched
    start: Int[np.ndarray, " patches"]  # alpha'
    clean: Int[np.ndarray, " patches"]  # the prompt with alpha' and the same step
    target: Int[np.ndarray, " patches"]  # answer of that prompt


def all_pairs(cached: Cached) -> Pairs:
    """Every prompt with each of the other period - 1 starts."""
    e = cached.encoded
    where = {(a, b): i for i, (a, b) in enumerate(zip(e.alpha.tolist(), e.beta.tolist(), strict=True))}
    rows = [
        (i, start, where[start, b])
        for i, (a, b) in enumerate(zip(e.alpha.tolist(), e.beta.tolist(), strict=True))
        for start in range(e.period)
        if start != a and (start, b) in where
    ]
    row, start, clean = (np.array(part) for part in zip(*rows, strict=True))
    return Pairs(row, start, clean, e.gamma[clean])


def effect(cached: Cached, pairs: Pairs, logits: Float[np.ndarray, "patches period"]) -> Effect:
    """Scores answer logits of patched prompts."""
    each = np.arange(len(pairs.row))
    difference = logits[each, cached.encoded.gamma[pairs.row]] - logits[each, pairs.target]
    n = len(difference)
    error = _student_98(n - 1) * difference.std(ddof=1) / np.sqrt(n) if n > 1 else float("nan")
    success = float((logits.argmax(1) == pairs.target).mean())
    return Effect(float(difference.mean()), float(error), success, n)


def _student_98(degrees: int) -> float:
    """98 % quantile of Student's t, by Cornish and Fisher's expansion (to 2e-3 from 8 degrees on)."""
    z = 2.053749
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3


class Writer(NamedTuple):
    """How a target on the unit circle becomes a residual state: base + target @ plane."""

    base: Float[Array, " width"]
    plane: Float[Array, "2 width"]


def circle_writer(
    states: Float[AnyArray, "n width"],
    labels: Int[AnyArray, " n"],
    period: int,
    *,
    k: int = 5,
    frequency: int = 1,
    variant: Variant = "centered",
    basis: Float[AnyArray, "k width"] | None = None,
) -> Writer:
    """The affine map from the circle into the residual stream.

    centered: x* = mean + W^T P^+ t, with P fitted to W (x - mean): consistent, and the strongest. paper:
    fitted to W x, x* = mean + W^T P^+ (t - P W mean). code: P fitted to centered coordinates, but the mean's
    own part is removed from the uncentered mean, as the reference does. evr: least squares from (cos, sin) to
    x - mean, without principal coordinates.
    Args: basis: rows that replace the principal directions W, e.g. the plane of a group of SAE latents.
    """
    states = jnp.asarray(states, jnp.float32)
    mean = states.mean(0)
    target = circle(labels, period, frequency)
    if variant == "evr":
        return Writer(mean, jnp.linalg.lstsq(target, states - mean[None])[0])
    if basis is None:
        probe = fit_circle(states, labels, period, k=k, frequency=frequency, centered=variant != "paper")
        W, P = probe.W, probe.P
    else:
        W = jnp.asarray(basis, jnp.float32)
        coordinates = (states if variant == "paper" else states - mean[None]) @ W.T
        P = jnp.linalg.lstsq(coordinates, target)[0].T
    back = jnp.linalg.pinv(P).T @ jnp.linalg.pinv(W).T  # (2, width)
    if variant == "centered":
        return Writer(mean, back)
    if variant == "paper":
        return Writer(mean - (P @ W @ mean) @ back, back)
    Q = jnp.linalg.qr(P.T)[0]
    return Writer(mean - W.T @ (Q @ (Q.T @ (W @ mean))), back)


def patch_values(
    cached: Cached,
    pairs: Pairs,
    layer: int,
    method: Method,
    *,
    k: int = 5,
    relabel: Int[np.ndarray, " period"] | None = None,
    writer: Writer | None = None,
) -> Float[Array, "patches width"]:
    """What a method writes at alpha for every pair.

    none: nothing new. layer: the clean prompt's whole state. average: the mean over prompts. pca: the clean
    prompt's k principal coordinates, the rest kept. circle ...: see `circle_writer`. zero circle: the state
    without its circular part. keep rest: only the circular plane is rewritten.
    Args: relabel: a permutation of the starts, for nulls. writer: in place of one fitted here.
    Raises: ValueError for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: expected one of {', '.join(METHODS)}")
    if k < 1:
        raise ValueError(f"k={k}: expected at least one coordinate")
    e = cached.encoded
    states = cached.alpha_states(layer).astype(jnp.float32)
    own, clean, mean = states[pairs.row], states[pairs.clean], states.mean(0)
    if method == "none":
        return own
    if method == "layer":
        return clean
    if method == "average":
        return jnp.broadcast_to(mean, own.shape)
    if method == "pca":
        W, _ = principal(states, min(k, *states.shape))
        return own + (clean - own) @ W.T @ W
    order = np.arange(e.period) if relabel is None else np.asarray(relabel)
    if method in {"zero circle", "keep rest"}:
        probe = fit_circle(states, order[e.alpha], e.period, k=min(k, *states.shape))
        Q = jnp.linalg.qr((probe.P @ probe.W).T)[0].T
        emptied = own - (own - mean[None]) @ Q.T @ Q
        if method == "zero circle":
            return emptied
        writer = writer or circle_writer(states, order[e.alpha], e.period, k=min(k, *states.shape))
        return emptied + circle(order[pairs.start], e.period) @ writer.plane
    if writer is None:
        variant = _VARIANTS[method]
        writer = circle_writer(states, order[e.alpha], e.period, k=min(k, *states.shape), variant=variant)
    return writer.base[None] + circle(order[pairs.start], e.period) @ writer.plane


def intervene(
    cached: Cached,
    layer: int,
    method: Method = "circle",
    *,
    k: int = 5,
    relabel: Int[np.ndarray, " period"] | None = None,
    writer: Writer | None = None,
    batch: int = 256,
) -> Effect:
    """One method at one layer, over all pairs (294 for the paper's weekdays, 1584 for its months)."""
    pairs = all_pairs(cached)
    values = patch_values(cached, pairs, layer, method, k=k, relabel=relabel, writer=writer)
    if layer == 0 and _only_alpha_differs(cached):
        return effect(cached, pairs, _at_embedding(cached, pairs, values, method, batch))
    return effect(cached, pairs, patched_logits(cached, layer, pairs.row, values, batch=batch))


def _only_alpha_differs(cached: Cached) -> bool:
    """Whether prompts of one step are the same but for alpha's token: its name occurs nowhere else."""
    e = cached.encoded
    others = np.delete(np.where(e.mask, e.tokens, -1), e.column, axis=1)
    return all(len(np.unique(others[e.beta == b], axis=0)) == 1 for b in np.unique(e.beta))


def _at_embedding(
    cached: Cached, pairs: Pairs, values: Float[Array, "patches width"], method: str, batch: int
) -> Float[np.ndarray, "patches period"]:
    """Layer 0: nothing but alpha's own state depends on alpha, so equal values need one run per step."""
    if method in {"none", "pca", "zero circle", "keep rest"}:
        return patched_logits(cached, 0, pairs.row, values, batch=batch)
    same = method == "average"
    keys = [
        (int(cached.encoded.beta[i]), 0 if same else int(s))
        for i, s in zip(pairs.row, pairs.start, strict=True)
    ]
    first: dict[tuple[int, int], int] = {}
    for number, key in enumerate(keys):
        first.setdefault(key, number)
    chosen = np.array(list(first.values()))
    found = patched_logits(cached, 0, pairs.row[chosen], jnp.asarray(values)[chosen], batch=batch)
    place = {key: number for number, key in enumerate(first)}
    return found[[place[key] for key in keys]]


def layer_sweep(
    cached: Cached,
    layers: Iterable[int],
    methods: Sequence[Method] = ("none", "layer", "average", "pca", "circle", "evr"),
    *,
    k: int = 5,
    on_layer: Callable[[int, dict[str, Effect]], None] | None = None,
) -> dict[int, dict[str, Effect]]:
    """Every method at every layer; the first layer that the effect leaves is where attention copies alpha."""
    table = {}
    for layer in layers:
        table[layer] = {method: intervene(cached, layer, method, k=k) for method in methods}
        if on_layer is not None:
            on_layer(layer, table[layer])
    return table


def drop_off(table: dict[int, dict[str, Effect]]) -> int | None:
    """First layer from which the whole-layer patch no longer turns the mean logit difference negative."""
    negative = [layer for layer in sorted(table) if table[layer]["layer"].logit_difference < 0]
    later = [layer for layer in sorted(table) if not negative or layer > negative[-1]]
    return later[0] if later else None


def causal_null(
    cached: Cached,
    layer: int,
    method: Method = "circle",
    *,
    k: int = 5,
    relabellings: int = 200,
    seed: int = 0,
    batch: int = 256,
    on_relabelling: Callable[[int], None] | None = None,
) -> NullTest:
    """The intervention's logit difference beside those of circles whose labels are permuted.

    Rotations and reflections of the true order are no relabellings: they are drawn again. `NullTest.value`
    and `.null` are logit differences (more negative is better) and p counts nulls at most the true one.
    """
    period = cached.encoded.period
    if method not in _RELABELLED:
        raise ValueError(
            f"method={method!r} does not use labels, so relabelling is no control; "
            f"expected one of {', '.join(_RELABELLED)}"
        )
    if relabellings < 1:
        raise ValueError(f"relabellings={relabellings}: expected at least 1")
    if period < 5:
        raise ValueError(
            f"period {period}: with fewer than five members most relabellings are the circle itself"
        )
    rng = np.random.default_rng(seed)
    true = intervene(cached, layer, method, k=k, batch=batch).logit_difference
    null = []
    while len(null) < relabellings:
        order = rng.permutation(period)
        steps = (np.roll(order, -1) - order) % period
        if (steps == steps[0]).all() and steps[0] in {1, period - 1}:
            continue
        null.append(intervene(cached, layer, method, k=k, relabel=order, batch=batch).logit_difference)
        if on_relabelling is not None:
            on_relabelling(len(null))
    values = np.array(null)
    return NullTest(true, values, float((1 + (values <= true).sum()) / (1 + relabellings)))


class PolarSweep(NamedTuple):
    """Answers when points off the circle are written (paper, off-distribution figure)."""

    radius: Float[np.ndarray, " radii"]
    angle: Float[np.ndarray, " angles"]  # radians
    answer: Int[np.ndarray, "prompts radii angles"]  # likeliest
    expected: Int[np.ndarray, "prompts 1 angles"]  # from the angle's sector
    margin: Float[np.ndarray, "prompts radii angles"]  # best minus second logit
    best: Float[np.ndarray, "prompts radii angles"]  # largest logit

    @property
    def agreement(self) -> Float[np.ndarray, " radii"]:
        """Share of points whose answer is that of their angle, per radius."""
        return (self.answer == self.expected).mean((0, 2))


def polar_sweep(
    cached: Cached,
    layer: int,
    *,
    writer: Writer | None = None,
    prompts: Sequence[int] | None = None,
    radii: Sequence[float] | None = None,
    angles: int = 100,
    k: int = 5,
    batch: int = 256,
) -> PolarSweep:
    """Writes r (cos, sin) for a grid of radii (default 0, 0.1 ... 1.9) and angles into prompts.

    Args: prompts: rows; default those of start 0. writer: default the centered circle of this layer.
    """
    e = cached.encoded
    rows = np.flatnonzero(e.alpha == 0) if prompts is None else np.asarray(prompts)
    states = cached.alpha_states(layer)
    writer = writer or circle_writer(states, e.alpha, e.period, k=min(k, *states.shape))
    r = np.arange(20) / 10 if radii is None else np.asarray(radii, float)
    theta = 2 * np.pi * np.arange(angles) / angles
    points = r[:, None, None] * np.stack([np.cos(theta), np.sin(theta)], -1)
    values = writer.base[None] + jnp.asarray(points.reshape(-1, 2), jnp.float32) @ writer.plane
    repeated = np.repeat(rows, len(values))
    logits = patched_logits(cached, layer, repeated, jnp.tile(values, (len(rows), 1)), batch=batch)
    logits = logits.reshape(len(rows), len(r), angles, e.period)
    sector = np.round(theta * e.period / (2 * np.pi)).astype(int) % e.period
    step = (e.gamma[rows] - e.alpha[rows]) % e.period
    expected = (sector[None, :] + step[:, None]) % e.period
    top = np.sort(logits, -1)
    return PolarSweep(
        r, theta, logits.argmax(-1), expected[:, None], top[..., -1] - top[..., -2], top[..., -1]
    )
