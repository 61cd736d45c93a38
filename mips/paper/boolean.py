"""Boolean autoencoder: hidden states as clusters labeled by bits, in the shortest formulas."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int8

from mips.programs import expression as ex
from mips.programs.expression import Expr
from mips.programs.program import Program

_MOST_BITS = 3


class Clusters(NamedTuple):
    """Hidden states sorted into clusters, and what each cluster does."""

    next: Int[np.ndarray, "clusters symbols"]  # next cluster, -1 where never seen
    output: Int[np.ndarray, "clusters symbols"]  # output bit, -1 where never seen
    start: int  # cluster nearest to the origin
    consistent: bool  # whether equal rows always had equal results


def require_clustering() -> None:
    """Raises ModuleNotFoundError, naming the extra, where scikit-learn is missing."""
    import importlib.util

    if importlib.util.find_spec("sklearn") is None:
        raise ModuleNotFoundError(
            "the paper's Boolean route clusters with scikit-learn: pip install 'quintet-jax[mips]'"
        )


def cluster(hidden: Float[np.ndarray, "points n"], count: int) -> Int[np.ndarray, " points"]:
    """Spectral clustering of hidden states into `count` clusters, by scikit-learn."""
    require_clustering()
    import warnings

    from sklearn.cluster import SpectralClustering

    spread = hidden.std(axis=0).max() or 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # clusters far apart give a graph in pieces, as they should
        return SpectralClustering(count, gamma=10.0, random_state=0).fit_predict(hidden / spread)


def tabulate(
    before: Float[np.ndarray, "points n"],
    inputs: Int[np.ndarray, "points inputs"],
    after: Float[np.ndarray, "points n"],
    outputs: Int[np.ndarray, " points"],
    *,
    bits: int,
    all_rows: bool,
) -> Clusters | None:
    """Tables over clusters, from transitions of 0/1 inputs. None where clusters come out empty.

    `all_rows`: check every row for contradictions, as the reference does for the first 2^bits only.
    """
    count = 2**bits
    distinct = np.unique(np.round(np.concatenate([before, after]), 4), axis=0)
    if len(distinct) < count:
        return None
    labels = cluster(np.concatenate([before, after]), count)
    old, new = labels[: len(before)], labels[len(before) :]
    symbol = inputs @ (1 << np.arange(inputs.shape[1])[::-1])
    symbols = 2 ** inputs.shape[1]
    following = np.full((count, symbols), -1)
    output = np.full((count, symbols), -1)
    consistent = True
    for c, s in itertools.product(range(count), range(symbols)):
        rows = (old == c) & (symbol == s)
        if rows.any():
            following[c, s] = np.bincount(new[rows]).argmax()
            output[c, s] = round(float(outputs[rows].mean()))
            contradiction = (new[rows] != following[c, s]).any() or outputs[rows].std() > 0.01
            consistent &= not (contradiction and (all_rows or c * symbols + s < count))
    centers = np.array([np.concatenate([before, after])[labels == c].mean(axis=0) for c in range(count)])
    return Clusters(following, output, int(np.linalg.norm(centers, axis=1).argmin()), consistent)


def formula(table: Int[np.ndarray, " rows"], names: tuple[str, ...]) -> Expr:
    """The shorter of the full disjunctive normal form and, for symmetric functions, a test on the bit sum.

    `table` has 2^k rows, in the order of binary numbers, first name highest.
    """
    k = len(names)
    cube = table.reshape((2,) * k)
    used = [i for i in range(k) if not np.array_equal(cube.take(0, axis=i), cube.take(1, axis=i))]
    for i in reversed(range(k)):
        if i not in used:
            cube = cube.take(0, axis=i)
    if not used:
        return ex.const(int(cube))
    variables = [ex.var(names[i]) for i in used]
    candidates = [_normal_form(cube, variables)]
    symmetric = _by_sum(cube, variables)
    if symmetric is not None:
        candidates.append(symmetric)
    return min(candidates, key=lambda e: len(str(e)))


def _chain(op: str, parts: list[Expr]) -> Expr:
    result = parts[0]
    for part in parts[1:]:
        result = ex.apply(op, result, part)
    return result


def _normal_form(cube: Int[np.ndarray, "..."], variables: list[Expr]) -> Expr:
    terms = []
    for point in np.argwhere(cube == 1):
        literals = [
            v if bit else ex.apply("-", ex.const(1), v) for v, bit in zip(variables, point, strict=True)
        ]
        terms.append(_chain("&", literals))
    return _chain("|", terms) if terms else ex.const(0)


def _by_sum(cube: Int[np.ndarray, "..."], variables: list[Expr]) -> Expr | None:
    sums = np.indices(cube.shape).sum(axis=0)
    levels = []
    for k in range(cube.ndim + 1):
        values = np.unique(cube[sums == k])
        if len(values) > 1:
            return None
        levels.append(int(values[0]))
    if levels == [k % 2 for k in range(len(levels))]:
        return _chain("^", variables)
    total = _chain("+", variables)
    steps = np.flatnonzero(np.diff(levels))
    if len(steps) == 1:
        k = int(steps[0])
        if levels[0] == 0:
            return ex.apply(">", total, ex.const(k))
        return ex.apply("<", total, ex.const(k + 1))
    tests = [ex.apply("==", total, ex.const(k)) for k, level in enumerate(levels) if level]
    return _chain("|", tests)


def boolean_program(clusters: Clusters, *, bits: int, inputs: tuple[str, ...]) -> Program | None:
    """The assignment of bit strings to clusters with the shortest formulas, as a program."""
    if not clusters.consistent:
        return None
    count, symbols = clusters.next.shape
    state = tuple("abc"[:bits])
    names = (*state, *inputs)
    known: dict[bytes, tuple[Expr, int]] = {}

    def shortest(table: Int8[np.ndarray, " rows"]) -> tuple[Expr, int]:
        key = table.tobytes()
        if key not in known:
            expr = formula(table, names)
            known[key] = expr, len(str(expr))
        return known[key]

    best, least = None, np.inf
    # Unseen rows count as zero, as in the reference.
    output = np.maximum(clusters.output, 0)
    for order in itertools.permutations(range(count)):
        code = np.argsort(order)  # bit string of each cluster; order[string] = cluster
        following = clusters.next[list(order)]
        codes = np.where(following >= 0, code[np.maximum(following, 0)], 0)
        tables = [((codes >> (bits - 1 - b)) & 1).astype(np.int8).ravel() for b in range(bits)]
        tables.append(output[list(order)].astype(np.int8).ravel())
        found = [shortest(t) for t in tables]
        length = sum(n for _, n in found)
        if length < least:
            start = int(code[clusters.start])
            initial = tuple((start >> (bits - 1 - b)) & 1 for b in range(bits))
            exprs = [e for e, _ in found]
            least = length
            best = Program(inputs, state, initial, tuple(exprs[:-1]), (exprs[-1],), kind="boolean")
    assert symbols == 2 ** len(inputs)
    return best


def boolean_programs(
    before: Float[np.ndarray, "points n"],
    inputs: Int[np.ndarray, "points inputs"],
    after: Float[np.ndarray, "points n"],
    outputs: Int[np.ndarray, " points"],
    *,
    names: tuple[str, ...],
    all_rows: bool,
) -> Iterator[Program]:
    """Programs with n bits, then with n + 1, up to three."""
    n = after.shape[1]
    for bits in (n, n + 1):
        if bits > _MOST_BITS:
            return
        clusters = tabulate(before, inputs, after, outputs, bits=bits, all_rows=all_rows)
        if clusters is not None:
            program = boolean_program(clusters, bits=bits, inputs=names)
            if program is not None:
                yield program
