"""Integer autoencoder: an affine lattice through the hidden states, H ~ Z A + b."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Real

Points = Float[np.ndarray, "points n"]
Basis = Float[np.ndarray, "n n"]  # a vector in each row
Vectors = Float[np.ndarray, "vectors n"]


class Lattice(NamedTuple):
    """Rows of `basis` span the lattice; `origin` is the point with integer coordinates zero."""

    basis: Basis
    origin: Float[np.ndarray, " n"]

    def coordinates(self, points: Points) -> Points:
        """Real coordinates of points; integers on the lattice."""
        return (points - self.origin) @ np.linalg.inv(self.basis)

    def description_length(self, points: Points, *, eps: float = 1e-2) -> float:
        """Mean log2(1 + |round Z|) + mean log2(1 + |H - (round(Z) A + b)| / eps), in bits per entry."""
        z = np.round(self.coordinates(points))
        rest = points - (z @ self.basis + self.origin)
        bits = np.log2(1 + np.abs(z)).mean() + np.log2(1 + np.abs(rest) / eps).mean()
        return float(bits) if np.isfinite(bits) else 1e8


def clean(basis: Basis, *, sweeps: int = 10) -> Basis:
    """Size reduction of the rows against each other, then signs so that each row's sum is not negative."""
    rows = np.array(basis, np.float64)
    for _ in range(sweeps):
        changed = False
        for j, i in itertools.permutations(range(len(rows)), 2):
            norm = rows[i] @ rows[i]
            factor = round(float(rows[j] @ rows[i] / norm)) if norm > 0 else 0
            if factor:
                rows[j] -= factor * rows[i]
                changed = True
        if not changed:
            break
    return rows * np.where(rows.sum(axis=1) < 0, -1.0, 1.0)[:, None]


def reduce_lattice(basis: Basis, *, scale: float = 1e6) -> Basis:
    """LLL reduction of real rows, by sympy on the rows rounded to 1/scale."""
    import sympy as sp
    from sympy.polys.matrices import DomainMatrix

    size = max(np.abs(basis).max(), 1e-12)
    integers = np.round(basis / size * scale).astype(np.int64)
    rows = DomainMatrix([[sp.ZZ(int(v)) for v in row] for row in integers], integers.shape, sp.ZZ)
    if rows.convert_to(sp.QQ).rank() < len(basis):
        return basis
    _, transform = rows.lll_transform()
    return np.array([[int(v) for v in row] for row in transform.to_list()]) @ basis


def _settle(points: Points, basis: Basis) -> Lattice:
    """The origin: every coordinate's minimum zero, the mean residual taken off."""
    origin = points[points.sum(axis=1).argmin()]
    z = np.round((points - origin) @ np.linalg.inv(basis))
    low = z.min(axis=0)
    origin = origin + low @ basis
    rest = points - ((z - low) @ basis + origin)
    return Lattice(basis, origin + rest.mean(axis=0))


def linear_lattice(
    before: Points, inputs: Real[np.ndarray, "points inputs"], after: Points, *, independent: bool = False
) -> Lattice | None:
    """The lattice that a linear transition builds from its inputs, v_k = W_h^k W_x.

    As published: of ten Krylov vectors of the first input the n longest, size-reduced; wrong where these
    are dependent, and none beyond n = 10. `independent`: a reduced basis of what the Krylov vectors of all
    inputs generate.
    """
    n = after.shape[1]
    design = np.concatenate([before, inputs, np.ones((len(before), 1))], axis=1)
    solution, *_ = np.linalg.lstsq(design, after, rcond=None)
    recurrent = solution[:n].T
    sources = solution[n:-1] if independent else solution[n : n + 1]
    krylov = []
    with np.errstate(over="ignore", invalid="ignore"):  # of a network that diverges there is none, see below
        for source in sources:
            vector = source
            for _ in range(10):
                krylov.append(vector)
                vector = recurrent @ vector
    vectors = np.array(krylov)
    if not np.isfinite(vectors).all():
        return None
    if independent:
        # What a network that forgets leaves of an input is noise, not a short lattice vector.
        floor = 0.05 * float(np.linalg.norm(sources, axis=1).max())
        vectors = vectors[np.linalg.norm(vectors, axis=1) > floor]
        chosen = _independent(vectors)
        if len(chosen) < n:
            return None
        basis = _generated(vectors, vectors[chosen])
    else:
        if n > len(vectors):
            return None
        basis = clean(vectors[np.argsort(-np.linalg.norm(vectors, axis=1), kind="stable")[:n]])
    # Relative to the vectors' lengths: states may be small in scale.
    if abs(np.linalg.det(basis)) <= 1e-6 * np.prod(np.linalg.norm(basis, axis=1)):
        return None
    return _settle(after, basis)


def _independent(vectors: Vectors, *, tolerance: float = 1e-2) -> list[int]:
    """Numbers of the shortest vectors that are independent of the shorter ones before."""
    chosen: list[int] = []
    directions = np.empty((0, vectors.shape[1]))
    for number in np.argsort(np.linalg.norm(vectors, axis=1), kind="stable"):
        vector = vectors[number]
        rest = vector - directions.T @ (directions @ vector)
        size = np.linalg.norm(rest)
        if size > tolerance * np.linalg.norm(vector):
            directions = np.vstack([directions, rest / size])
            chosen.append(int(number))
    return chosen


def _generated(vectors: Vectors, basis: Basis) -> Basis:
    """A reduced basis of the lattice that all vectors generate, starting from n independent ones."""
    from fractions import Fraction

    for vector in vectors:
        coordinates = np.linalg.solve(basis.T, vector)
        if np.abs(coordinates - np.round(coordinates)).max() < 1e-2 or np.abs(coordinates).max() > 1e4:
            continue
        parts = [Fraction(float(c)).limit_denominator(12) for c in coordinates]
        if max(abs(float(p) - c) for p, c in zip(parts, coordinates, strict=True)) > 1e-2:
            continue
        common = int(np.lcm.reduce([p.denominator for p in parts]))
        # Hermite form of the old basis and the new vector, in units of basis / common.
        from sympy import ZZ
        from sympy.polys.matrices import DomainMatrix
        from sympy.polys.matrices.normalforms import hermite_normal_form

        rows = [[common * int(i == j) for j in range(len(basis))] for i in range(len(basis))]
        rows.append([int(p * common) for p in parts])
        matrix = DomainMatrix(rows, (len(rows), len(basis)), ZZ).transpose()
        hermite: Any = hermite_normal_form(matrix)
        hermite = hermite.transpose().to_list()
        basis = np.array([[int(v) for v in row] for row in hermite]) @ basis / common
    return clean(reduce_lattice(basis))


def gcd_lattice(points: Points, *, seed: int = 0) -> Lattice | None:
    """The lattice by Euclid's algorithm on determinants, the best of a grid of thresholds (n < 4)."""
    n = points.shape[1]
    if n >= 4:
        return None
    best, least = None, np.inf
    grid = 10.0 ** np.linspace(-3, 0, 10)
    for fraction in grid:
        middle = _central(points, fraction)
        if len(middle) < max(n + 2, 5):
            continue
        drawn = middle[np.random.default_rng(seed).permutation(len(middle))[:32]]
        drawn = drawn - drawn[drawn.sum(axis=1).argmin()]
        volumes = _volumes(drawn)
        for threshold in grid:
            basis = _euclid(list(drawn), volumes, threshold)
            if basis is None:
                continue
            lattice = _settle(points, clean(basis))
            length = lattice.description_length(points)
            if length < least:
                best, least = lattice, length
    return best


def _central(points: Points, fraction: float) -> Float[np.ndarray, "central n"]:
    low, high = np.quantile(points, [0.5 - fraction / 2, 0.5 + fraction / 2], axis=0)
    return points[((points >= low) & (points <= high)).all(axis=1)]


def _volumes(points: Points) -> Float[np.ndarray, " subsets"]:
    """|det| of differences over (n+1)-subsets, at most 5,000 of them."""
    n = points.shape[1]
    subsets = itertools.islice(itertools.combinations(range(len(points)), n + 1), 5000)
    chosen = points[np.array(list(subsets))]
    return np.abs(np.linalg.det(chosen[:, 1:] - chosen[:, :1]))


def _euclid(
    points: list[Float[np.ndarray, " n"]], volumes: Float[np.ndarray, " subsets"], threshold: float
) -> Basis | None:
    n = len(points[0])
    while len(points) >= max(n + 1, 5):
        u, v, rest = points[0], points[1], points[2 : n + 1]
        a = float(np.linalg.det(np.array([u, *rest])))
        c = float(np.linalg.det(np.array([v, *rest])))
        if abs(a) < 1e-12:
            points = points[1:]
            continue
        if abs(c) < 1e-12:
            points = [points[0], *points[2:]]
            continue
        for _ in range(200):
            if abs(a) < threshold:
                break
            u, v, a, c = v, u - round(a / c) * v, c, a - round(a / c) * c
            if abs(c) < 1e-15:
                u, v, a, c = v, u, c, a
                break
        size = abs(c)
        if size > 1e-12:
            ratio = volumes / size
            if np.abs(ratio - np.round(ratio)).max() < threshold:
                basis = np.array([v, *rest])
                return basis if abs(np.linalg.det(basis)) > 1e-9 else None
        points = [v, *points[2:]]
    return None


def find_lattice(
    before: Points, inputs: Real[np.ndarray, "points inputs"], after: Points, *, independent: bool = False
) -> tuple[Lattice | None, float, str]:
    """The linear or the GCD lattice, whichever describes the states in fewer bits; its length and name."""
    # As published the residual counts in hundredths, whatever the scale of the states.
    eps = 1e-3 * float(after.std()) if independent else 1e-2
    best: tuple[Lattice | None, float, str] = (None, np.inf, "none")
    for name, lattice in (
        ("linear", linear_lattice(before, inputs, after, independent=independent)),
        ("gcd", gcd_lattice(after)),
    ):
        if lattice is not None:
            length = lattice.description_length(after, eps=eps)
            if length < best[1]:
                best = (lattice, length, name)
    return best
