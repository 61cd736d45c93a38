"""Target functions: what generated networks are to compute, with the law of their inputs.

A target is a plug-in: a sampler, a function of any number of inputs, and the function's variance. Write your
own with `Target("name", value)`; the variance is then estimated once per size.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from hypernet.validation import positive, whole


def normal(key: PRNGKeyArray, count: int, n: int) -> Float[Array, "count n"]:
    """Independent standard normal inputs."""
    return jax.random.normal(key, (count, n))


@dataclasses.dataclass(frozen=True)
class Target:
    """A function to be computed.

    `value` maps points (..., n) to numbers (...) or, with `outputs`, to vectors (..., m). `sample(key, count,
    n)` draws inputs. `variance(n)` is Var f, summed over outputs; None: estimated from 2^18 points.
    """

    name: str
    value: Callable[[Float[Array, "*points n"]], Float[Array, "*points"] | Float[Array, "*points outputs"]]
    sample: Callable[[PRNGKeyArray, int, int], Float[Array, "count n"]] = normal
    variance: Callable[[int], float] | None = None
    outputs: int | Literal["inputs"] | None = None
    smallest: int = 1
    input_std: float = 1.0

    def __post_init__(self) -> None:
        whole("smallest", self.smallest)
        positive("input_std", self.input_std)

    def check_size(self, n: object) -> None:
        """Raises ValueError where the target makes no sense for n inputs, or gives arrays of wrong shapes."""
        size = whole("n", n)
        if size < self.smallest:
            raise ValueError(f"n={n}: target {self.name!r} needs at least {self.smallest} inputs")
        _check_shapes(self, size)

    def variance_of(self, n: int) -> float:
        """Var f for n inputs, summed over outputs: the unit of NMSE."""
        self.check_size(n)
        return _variance(self, n)


@functools.lru_cache(maxsize=1024)
def _check_shapes(target: Target, n: int) -> None:
    x = jax.eval_shape(lambda key: target.sample(key, 3, n), jax.random.key(0))
    if x.shape != (3, n):
        raise ValueError(
            f"target {target.name!r}: sample(key, 3, {n}) has shape {x.shape}, expected {(3, n)}"
        )
    y = jax.eval_shape(target.value, x)
    outputs = n if target.outputs == "inputs" else target.outputs
    wanted = (3,) if outputs is None else (3, outputs)
    if y.shape != wanted:
        raise ValueError(
            f"target {target.name!r}: values of 3 points of {n} inputs have shape {y.shape}, expected "
            f"{wanted} for outputs={target.outputs!r}"
        )


@functools.lru_cache(maxsize=1024)
def _variance(target: Target, n: int) -> float:
    if target.variance is not None:
        found = float(target.variance(n))
    else:
        y = np.asarray(target.value(target.sample(jax.random.key(0), 2**18, n)), np.float64)
        found = float(np.sum(y.reshape(len(y), -1).var(axis=0)))
    if not np.isfinite(found) or found <= 0:
        raise ValueError(f"target {target.name!r} has variance {found} for n={n}: it must be positive")
    return found


def _order_statistics(
    n: int, value: Callable[[Float[np.ndarray, " nodes"]], Float[np.ndarray, " nodes"]]
) -> float:
    """Sum of the variances of value(x_(1)), ..., value(x_(n)), by quadrature over normal inputs."""
    from scipy import special, stats

    t = np.linspace(-9, 9, 20001)
    log_below, log_above = stats.norm.logcdf(t), stats.norm.logsf(t)
    total = 0.0
    for j in range(1, n + 1):
        log_weight = special.gammaln(n + 1) - special.gammaln(j) - special.gammaln(n - j + 1)
        log_density = log_weight + (j - 1) * log_below + (n - j) * log_above + stats.norm.logpdf(t)
        density = np.exp(log_density)
        mean = np.trapezoid(density * value(t), t)
        total += np.trapezoid(density * (value(t) - mean) ** 2, t)
    return float(total)


def _max_variance(n: int) -> float:
    from scipy import stats

    t = np.linspace(-9, 9, 20001)
    density = n * stats.norm.pdf(t) * stats.norm.cdf(t) ** (n - 1)
    mean = np.trapezoid(density * t, t)
    return float(np.trapezoid(density * (t - mean) ** 2, t))


def _linf_variance(n: int) -> float:
    from scipy import stats

    t = np.linspace(0, 9, 20001)
    density = 2 * n * stats.norm.pdf(t) * (2 * stats.norm.cdf(t) - 1) ** (n - 1)
    mean = np.trapezoid(density * t, t)
    return float(np.trapezoid(density * (t - mean) ** 2, t))


def _l2_variance(n: int) -> float:
    mean = math.sqrt(2) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))
    return n - mean**2


def _huber_variance(n: int) -> float:
    from scipy import stats

    t = np.linspace(-10, 10, 40001)
    density, value = stats.norm.pdf(t), np.where(np.abs(t) <= 1, t**2 / 2, np.abs(t) - 0.5)
    mean = np.trapezoid(density * value, t)
    return n * float(np.trapezoid(density * (value - mean) ** 2, t))


def _huber(x: Float[Array, "*points n"]) -> Float[Array, "*points"]:
    size = jnp.abs(x)
    return jnp.sum(jnp.where(size <= 1, x**2 / 2, size - 0.5), axis=-1)


def _signs(key: PRNGKeyArray, count: int, n: int) -> Float[Array, "count n"]:
    return jax.random.rademacher(key, (count, n), dtype=jnp.float32)


# Var |x| of a standard normal
ABS_VARIANCE = 1 - 2 / math.pi

L1 = Target("l1", lambda x: jnp.sum(jnp.abs(x), -1), variance=lambda n: n * ABS_VARIANCE)
_LIBRARY = (
    L1,
    Target("l2", lambda x: jnp.sqrt(jnp.sum(x**2, -1)), variance=_l2_variance),
    Target("linf", lambda x: jnp.max(jnp.abs(x), -1), variance=_linf_variance),
    Target("max", lambda x: jnp.max(x, -1), variance=_max_variance),
    Target("sum-relu", lambda x: jnp.sum(jax.nn.relu(x), -1), variance=lambda n: n * (0.5 - 0.5 / math.pi)),
    Target("huber", _huber, variance=_huber_variance),
    Target("sum-squares", lambda x: jnp.sum(x**2, -1), variance=lambda n: 2.0 * n),
    Target("parity", lambda x: jnp.prod(x, -1), sample=_signs, variance=lambda n: 1.0),
    Target(
        "sort",
        lambda x: jnp.sort(x, -1),
        variance=lambda n: _order_statistics(n, lambda t: t),
        outputs="inputs",
    ),
)


@functools.lru_cache(maxsize=64)
def modular_addition(modulus: int) -> Target:
    """(d_1 + ... + d_n) mod p of digits 0 .. p - 1, given and answered as (digit - (p - 1) / 2) / std.

    Raises: ValueError if modulus < 2.
    """
    whole("modulus", modulus, 2)
    middle, std = (modulus - 1) / 2, math.sqrt((modulus**2 - 1) / 12)

    def sample(key: PRNGKeyArray, count: int, n: int) -> Float[Array, "count n"]:
        return (jax.random.randint(key, (count, n), 0, modulus) - middle) / std

    def value(x: Float[Array, "*points n"]) -> Float[Array, "*points"]:
        digits = jnp.round(x * std + middle)
        return (jnp.mod(jnp.sum(digits, -1), modulus) - middle) / std

    return Target(f"modular-addition-{modulus}", value, sample=sample, variance=lambda n: 1.0)


# made once: a target is compared by identity of its functions when programs are looked up
TARGETS: dict[str, Target] = {
    target.name: target for target in (*_LIBRARY, modular_addition(3), modular_addition(5))
}


def get_target(name: str) -> Target:
    """A target of the library by name.

    Raises: ValueError for an unknown name, with near ones.
    """
    if name not in TARGETS:
        near = difflib.get_close_matches(name, TARGETS, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown target {name!r}{hint} Known: {', '.join(TARGETS)}")
    return TARGETS[name]
