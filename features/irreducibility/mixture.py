"""epsilon-mixture index M: the largest share of points that some band can hold (section 3).

M = max over v, c of P(|v.f + c| < eps sqrt(E (v.f + c)^2)), eps = 0.1. Large: a part of the feature lives
on a lower-dimensional piece. "X" sweeps directions and offsets exactly; "B", "P" and "A" are the
published gradient ascents, of which only B is reproducible (P and A anneal the temperature to zero, where
the gradient is a sum of spikes).
"""

from __future__ import annotations

import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from features.arrays import AnyArray

EPSILON = 0.1
_Found = tuple[Int[Array, ""], Float[Array, ""], Float[Array, ""]]  # count, center, half width


class Band(NamedTuple):
    """The fullest band that was found."""

    share: Float[Array, ""]  # of the points inside: the index M
    direction: Float[Array, " d"]  # unit vector
    center: Float[Array, ""]  # along the direction, from the mean
    half_width: Float[Array, ""]


def _kept(points: Float[AnyArray, "n d"], valid: Bool[AnyArray, " n"] | None) -> Bool[Array, " n"]:
    """Which points count: all where nothing is said."""
    return jnp.ones(len(points), bool) if valid is None else jnp.asarray(valid)


def _centered(
    points: Float[AnyArray, "n d"], valid: Bool[Array, " n"]
) -> tuple[Float[Array, "n d"], Int[Array, ""]]:
    n = valid.sum()
    center = jnp.where(valid[:, None], points, 0).sum(0) / n
    return jnp.where(valid[:, None], points - center[None], 0), n


def _sorted_along(
    centered: Float[Array, "n d"], valid: Bool[Array, " n"], direction: Float[Array, " d"]
) -> Float[Array, " n"]:
    """Projections in order, those of invalid points at infinity."""
    return jnp.sort(jnp.where(valid, centered @ direction, jnp.inf))


def _fullest(
    ordered: Float[Array, " n"],
    n: Int[Array, ""],
    second: Float[Array, ""],
    offsets: int,
    epsilon: float,
) -> _Found:
    """Best band for one direction: count, center, half width."""
    low, high = ordered[0], ordered[n - 1]
    centers = low + (high - low) * jnp.arange(offsets) / (offsets - 1)
    half = epsilon * jnp.sqrt(second + centers**2)
    counts = jnp.searchsorted(ordered, centers + half, side="left") - jnp.searchsorted(
        ordered, centers - half, side="right"
    )
    counts = jnp.maximum(counts, 0)  # a band of no width, of equal points, would be counted below zero
    best = jnp.argmax(counts)
    return counts[best], centers[best], half[best]


@functools.partial(jax.jit, static_argnames=("directions", "offsets", "epsilon"))
def sweep(
    points: Float[AnyArray, "n 2"],
    valid: Bool[AnyArray, " n"] | None = None,
    *,
    directions: int = 360,
    offsets: int = 801,
    epsilon: float = EPSILON,
) -> Band:
    """The fullest band over `directions` in half a turn and `offsets` along each; exact counts."""
    kept = _kept(points, valid)
    centered, n = _centered(points, kept)
    phi = math.pi * jnp.arange(directions) / directions
    vectors = jnp.stack([jnp.cos(phi), jnp.sin(phi)], -1)

    def along(vector: Float[Array, " d"]) -> _Found:
        projected = centered @ vector
        second = (projected**2).sum() / n
        return _fullest(_sorted_along(centered, kept, vector), n, second, offsets, epsilon)

    counts, centers, halves = jax.lax.map(along, vectors)
    best = jnp.argmax(counts)
    return Band(counts[best] / n, vectors[best], centers[best], halves[best])


@functools.partial(jax.jit, static_argnames=("directions", "offsets", "epsilon"))
def fast_sweep(
    points: Float[AnyArray, "n 2"],
    valid: Bool[AnyArray, " n"] | None = None,
    *,
    directions: int = 90,
    offsets: int = 801,
    epsilon: float = EPSILON,
) -> Band:
    """`sweep` for thousands of clouds: counts from cumulative histograms, exact ones only for the best three.

    Coarse directions first, then finer ones around the six best. On the nine stored clouds and on random
    ones the result is within 0.002 of `sweep` (tests); 20,000 points take some 2 % of its time.
    """
    kept = _kept(points, valid)
    centered, n = _centered(points, kept)
    weight = kept.astype(jnp.float32)

    def vector(phi: Float[Array, ""]) -> Float[Array, "2"]:
        return jnp.stack([jnp.cos(phi), jnp.sin(phi)], -1)

    def approximate(phi: Float[Array, ""], cells: int) -> Float[Array, ""]:
        projected = centered @ vector(phi)
        low = jnp.min(projected, where=kept, initial=jnp.inf)
        high = jnp.max(projected, where=kept, initial=-jnp.inf)
        span = jnp.where(high > low, high - low, 1.0)
        cell = jnp.clip((projected - low) / span * cells, 0, cells - 1).astype(jnp.int32)
        below = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.zeros(cells).at[cell].add(weight))])
        below = jnp.append(below, below[-1])
        centers = low + span * jnp.arange(offsets) / (offsets - 1)
        half = epsilon * jnp.sqrt((projected**2).sum() / n + centers**2)

        def count(at: Float[Array, " offsets"]) -> Float[Array, " offsets"]:
            position = jnp.clip((at - low) / span * cells, 0, cells)
            whole = position.astype(jnp.int32)
            return below[whole] + (position - whole) * (below[whole + 1] - below[whole])

        return (count(centers + half) - count(centers - half)).max()

    def exact(phi: Float[Array, ""]) -> _Found:
        v = vector(phi)
        projected = centered @ v
        second = (projected**2).sum() / n
        return _fullest(_sorted_along(centered, kept, v), n, second, offsets, epsilon)

    step = math.pi / directions
    counts = jax.lax.map(lambda phi: approximate(phi, 1024), step * jnp.arange(directions))
    near = jax.lax.top_k(counts, 6)[1] * step
    phi = (near[:, None] + step * jnp.array([[-0.5, -0.25, 0.0, 0.25, 0.5]])).reshape(-1)
    counts = jax.lax.map(lambda phi: approximate(phi, 4096), phi)
    phi = phi[jax.lax.top_k(counts, 3)[1]]
    found, centers, halves = jax.lax.map(exact, phi)
    best = jnp.argmax(found)
    return Band(found[best] / n, vector(phi[best]), centers[best], halves[best])


_Parameters = tuple[Float[Array, " d"], Float[Array, ""]]  # direction and offset, during an ascent


class Ascent(NamedTuple):
    """Where a published gradient ascent ended."""

    hard: Float[Array, ""]  # share of points with |z| < eps
    soft: Float[Array, ""]  # mean sigmoid at the last temperature
    direction: Float[Array, " d"]
    offset: Float[Array, ""]


@functools.partial(jax.jit, static_argnames=("protocol", "steps", "rate", "epsilon"))
def ascend(
    points: Float[AnyArray, "n d"],
    start: Float[AnyArray, " d"],
    *,
    protocol: Literal["A", "P", "B"] = "B",
    steps: int = 10_000,
    rate: float = 0.1,
    epsilon: float = EPSILON,
) -> Ascent:
    """Full-batch gradient ascent on mean sigmoid((eps - |z|) / T), z = (x.v + c) / rms (x.v + c).

    B keeps T = 1; A and P lower it linearly to 0 (A stops one step before). The offset starts at 0.
    """

    def z_of(v: Float[Array, " d"], c: Float[Array, ""]) -> Float[Array, " n"]:
        y = jnp.asarray(points) @ v + c
        return y / jnp.sqrt(jnp.mean(y**2))

    def objective(parameters: _Parameters, temperature: Float[Array, ""] | float) -> Float[Array, ""]:
        return jax.nn.sigmoid((epsilon - jnp.abs(z_of(*parameters))) / temperature).mean()

    def body(i: Int[Array, ""], parameters: _Parameters) -> _Parameters:
        temperature = 1.0 if protocol == "B" else 1.0 - i / steps
        slope = jax.grad(objective)(parameters, temperature)
        return jax.tree.map(lambda p, g: p + rate * g, parameters, slope)

    start = jnp.asarray(start, points.dtype)
    v, c = jax.lax.fori_loop(0, steps, body, (start, jnp.zeros((), points.dtype)))
    last = 1.0 if protocol == "B" else 1.0 / steps
    return Ascent((jnp.abs(z_of(v, c)) < epsilon).mean(), objective((v, c), last), v, c)


@functools.partial(jax.jit, static_argnames=("directions", "rounds", "offsets", "epsilon"))
def sweep_any_dimension(
    points: Float[AnyArray, "n d"],
    valid: Bool[AnyArray, " n"] | None = None,
    *,
    key: PRNGKeyArray,
    directions: int = 512,
    rounds: int = 6,
    offsets: int = 401,
    epsilon: float = EPSILON,
) -> Band:
    """The fullest band in d > 2 dimensions: random directions, then ever smaller moves around the best eight.

    A lower bound that grows with `directions`; for d = 2 use `sweep`.
    """
    kept = _kept(points, valid)
    centered, n = _centered(points, kept)
    d = points.shape[1]

    def along(vector: Float[Array, " d"]) -> _Found:
        second = ((centered @ vector) ** 2).sum() / n
        return _fullest(_sorted_along(centered, kept, vector), n, second, offsets, epsilon)

    def unit(v: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
        return v / jnp.linalg.norm(v, axis=-1, keepdims=True)

    first, *others = jax.random.split(key, rounds + 1)
    # Principal directions as well: lower-dimensional pieces are often narrow ones.
    axes = jnp.linalg.eigh(centered.T @ centered)[1].T
    vectors = jnp.concatenate([axes, unit(jax.random.normal(first, (directions, d)))])
    counts, centers, halves = jax.lax.map(along, vectors)
    for number, round_key in enumerate(others):
        top = jax.lax.top_k(counts, 8)[1]
        size = 0.5 / 2**number
        moves = size * jax.random.normal(round_key, (8, directions // 16, d)) / math.sqrt(d)
        tried = unit(vectors[top][:, None] + moves).reshape(-1, d)
        vectors = jnp.concatenate([vectors[top], tried])
        counts, centers, halves = jax.lax.map(along, vectors)
    best = jnp.argmax(counts)
    return Band(counts[best] / n, vectors[best], centers[best], halves[best])
