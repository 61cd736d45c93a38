"""Is a feature irreducible? Both indices of a point cloud, with intervals (paper, section 3).

A feature that is neither separable (S small) nor a mixture (M large) cannot be reduced to
lower-dimensional ones. `measure` is the call for one cloud, `measure_many` for thousands.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from features.arrays import AnyArray
from features.irreducibility import mixture
from features.irreducibility.limits import FEWEST_POINTS
from features.irreducibility.separability import PROTOCOLS, Protocol, separability

_FLAT = 1e-3  # ratio of singular values below which a cloud is a line


class Irreducibility(NamedTuple):
    """Both indices of one cloud. Values of different protocols, bins or sizes are not comparable."""

    separability: float  # S in bits; large: not separable
    mixture: float  # M; small: no mixture
    rank: int  # 1 for a cloud on a line, whose S is 0 and M 1 by definition
    points: int
    protocol: str
    separability_interval: tuple[float, float] | None = None  # 95 % by bootstrap
    mixture_interval: tuple[float, float] | None = None

    @property
    def score(self) -> float:
        """(1 - M) S: large for irreducible features; what the paper ranks by."""
        return (1 - self.mixture) * self.separability


def check_points(
    points: Shaped[AnyArray, "..."], *, fewest: int = FEWEST_POINTS, rescale: bool = True
) -> Float[np.ndarray, "n d"]:
    """A cloud as float32 (n, d); with `rescale`, centered and scaled to at most 1.

    Raises: ValueError for wrong shapes, few, constant or non-finite points; without `rescale`, also for those
      beyond single precision.
    """
    cloud = np.asarray(points)
    if cloud.ndim != 2 or cloud.shape[1] < 2:
        raise ValueError(f"points have shape {cloud.shape}, expected (n, d) with d >= 2")
    if not np.issubdtype(cloud.dtype, np.number) or np.iscomplexobj(cloud):
        raise ValueError(f"points are of type {cloud.dtype}, expected real numbers")
    if len(cloud) < fewest:
        raise ValueError(f"{len(cloud)} points are too few for an index; at least {fewest} are needed")
    cloud = cloud.astype(np.float64)
    if not np.isfinite(cloud).all():
        raise ValueError(f"points are not finite: first in row {int(np.argmin(np.isfinite(cloud).all(1)))}")
    if (cloud == cloud[0]).all():
        raise ValueError("all points are equal: the feature is constant")
    if rescale:
        # Both indices ignore shift and scale; single precision does not. Scaled first: sums may overflow.
        cloud = cloud / np.abs(cloud).max()
        cloud = cloud - cloud.mean(0)
        cloud = cloud / np.abs(cloud).max()
    elif np.abs(cloud).max() > np.finfo(np.float32).max:
        raise ValueError(
            f"points up to {np.abs(cloud).max():.3g} are too large for single precision; scale them"
        )
    return cloud.astype(np.float32)


def rank_of(points: Float[np.ndarray, "n d"]) -> int:
    """Dimensions in which a cloud extends by more than 0.1 % of its longest one."""
    centered = points - points.mean(0)
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(np.float64(centered.T) @ centered), 0))
    return int((spread > _FLAT * spread[-1]).sum())


@functools.partial(jax.jit, static_argnames=("protocol", "fast", "bias_correction"))
def _indices(
    points: Float[Array, "n 2"],
    valid: Bool[Array, " n"],
    start: Float[Array, "2"],
    protocol: Protocol,
    fast: bool,
    bias_correction: bool,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    s = separability(points, valid, protocol=protocol, bias_correction=bias_correction)
    if protocol == "X":
        band = mixture.fast_sweep if fast else mixture.sweep
        return s, band(points, valid).share
    scaled = points
    if protocol == "P":
        centered = points - points.mean(0, keepdims=True)
        scaled = centered / jnp.sqrt(jnp.mean(centered**2))
    return s, mixture.ascend(scaled, start, protocol=protocol).hard


def indices(
    points: Float[AnyArray, "n 2"],
    valid: Bool[AnyArray, " n"] | None = None,
    *,
    protocol: Protocol = "X",
    key: PRNGKeyArray | None = None,
    fast: bool = False,
    bias_correction: bool = False,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """S (bits) and M of a cloud in the plane, as arrays; pure, so that it can be vmapped.

    Args: valid: (n,) booleans for padded clouds (protocol X). key: start of the ascents of A, B and P.
      fast: the quicker sweep of M.
    """
    if valid is None:
        valid = jnp.ones(points.shape[:-1], bool)
    start = jax.random.normal(jax.random.key(0) if key is None else key, (2,))
    return _indices(points, valid, start, protocol, fast, bias_correction)


def _check_protocol(protocol: str) -> Protocol:
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    return protocol


def measure(
    points: Shaped[AnyArray, "..."],
    *,
    protocol: Protocol = "X",
    bootstrap: int = 0,
    bias_correction: bool = False,
    key: PRNGKeyArray | None = None,
) -> Irreducibility:
    """Both indices of one cloud (n, d), d >= 2.

    Args: protocol: "X", exact sweeps (default); "B", the paper's cluster figures; "P", its appendix; "A", its
      demo. In more than two dimensions only X: M is searched for from random directions, S is the least
      nearest-neighbor information (Kraskov) over rotations and splits; both are bounds.
      bootstrap: resamples for 95 % intervals (0: none). They are shifted to the estimate, since resampling
      itself raises S, and tell how far the estimate would move, not its bias: histogram information of
      independent coordinates is above 0. bias_correction: Miller and Madow's, for S in the plane.
    Raises: ValueError for fewer than 100, constant, or non-finite points.
    """
    protocol = _check_protocol(protocol)
    if bootstrap and not bootstrap >= 10:
        raise ValueError(f"bootstrap={bootstrap}: expected 0, or at least 10 resamples")
    # The ascents of A and B start at offset 0 with a fixed rate: shift and scale are part of the recipe.
    cloud = check_points(points, rescale=protocol in {"X", "P"})
    key = jax.random.key(0) if key is None else key
    n, rank = len(cloud), rank_of(cloud)
    if 1 < rank < cloud.shape[1]:  # flat in some directions: measured in the space that it fills
        centered = cloud - cloud.mean(0)
        cloud = centered @ np.linalg.svd(centered, full_matrices=False)[2][:rank].T
    d = cloud.shape[1]
    if rank == 1:
        return Irreducibility(0.0, 1.0, 1, n, protocol)
    if d > 2 and protocol != "X":
        raise ValueError(f"protocol {protocol!r} is defined in the plane only; points have {d} dimensions")

    def estimate(sample: Float[np.ndarray, "n d"]) -> tuple[float, float]:
        if d == 2:
            flat = indices(jnp.asarray(sample), protocol=protocol, key=key, bias_correction=bias_correction)
            return float(flat[0]), float(flat[1])
        from features.irreducibility.nearest_neighbor_information import least_information

        band = mixture.sweep_any_dimension(jnp.asarray(sample), key=key)
        return least_information(sample), float(band.share)

    s, m = estimate(cloud)
    if not bootstrap:
        return Irreducibility(s, m, rank, n, protocol)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    if d == 2 and protocol == "X":
        clouds = [cloud[rng.integers(0, n, n)] for _ in range(bootstrap)]
        drawn = np.asarray(pooled_indices(clouds, bias_correction))
    else:
        drawn = np.array([estimate(cloud[rng.integers(0, n, n)]) for _ in range(bootstrap)])
    shifted = drawn - drawn.mean(0) + np.array([s, m])
    low, high = np.quantile(shifted, [0.025, 0.975], axis=0)
    return Irreducibility(
        s, m, rank, n, protocol,
        (max(float(low[0]), 0.0), float(high[0])),
        (max(float(low[1]), 0.0), min(float(high[1]), 1.0)),
    )  # fmt: skip


def pooled_indices(
    clouds: Sequence[Float[np.ndarray, "_points 2"]], bias_correction: bool = False
) -> list[tuple[float, float]]:
    """Indices of clouds of any sizes: padded to few lengths, two at a time on two cores."""

    def one(cloud: Float[np.ndarray, "n 2"]) -> tuple[float, float]:
        length = padded_length(len(cloud))
        padded = np.zeros((length, 2), np.float32)
        padded[: len(cloud)] = cloud
        valid = np.arange(length) < len(cloud)
        found = indices(jnp.asarray(padded), valid, fast=True, bias_correction=bias_correction)
        return float(found[0]), float(found[1])

    # These loops use one core each, and release the interpreter while they run.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(one, clouds))


def padded_length(n: int) -> int:
    """Next of 128, 192, 256, 384, ...: few programs to compile, at most a third of padding."""
    length = 128
    while length < n:
        length = length * 3 // 2 if length & (length - 1) == 0 else length * 4 // 3
    return length


def measure_many(
    clouds: Sequence[Shaped[AnyArray, "..."]], *, bias_correction: bool = False
) -> list[Irreducibility]:
    """Both indices of many clouds in the plane, of any sizes (protocol X, quick sweep).

    1000 clouds of 20,000 points take well under a minute on two cores. On an accelerator, pad them
    yourself and `jax.vmap` `indices`.
    Raises: ValueError naming the cloud that has fewer than 100, constant or non-finite points.
    """
    checked = []
    for number, cloud in enumerate(clouds):
        try:
            checked.append(check_points(cloud))
        except ValueError as error:
            raise ValueError(f"cloud {number}: {error}") from error
        if checked[-1].shape[1] != 2:
            raise ValueError(f"cloud {number} has {checked[-1].shape[1]} dimensions, expected 2")
    ranks = [rank_of(cloud) for cloud in checked]
    found = iter(pooled_indices([c for c, r in zip(checked, ranks, strict=True) if r > 1], bias_correction))
    return [
        Irreducibility(*(next(found) if rank > 1 else (0.0, 1.0)), rank, len(cloud), "X")
        for cloud, rank in zip(checked, ranks, strict=True)
    ]
