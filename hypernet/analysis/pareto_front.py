"""The Pareto front: error against bits, and the networks where it bends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import PRNGKeyArray, Real

from hypernet.analysis.measure import Measured, measure
from hypernet.arrays import AnyArray
from hypernet.generator.gaussians import bits
from hypernet.generator.generate import Generator
from hypernet.networks.mlp import MLP
from hypernet.targets import L1, Target


class Point(NamedTuple):
    """Networks of one seed, mode, beta and label; their median figures and the network nearest to them."""

    label: str
    log10_beta: float
    seed: int
    mode: int
    nmse: float
    bits: float
    loss: float
    mlp: MLP


class Front(NamedTuple):
    """All points measured."""

    n: int
    points: tuple[Point, ...]

    def front(self) -> list[Point]:
        """Points that no other one beats in both error and bits, by bits."""
        best, found = np.inf, []
        for point in sorted(self.points, key=lambda p: (p.bits, p.nmse)):
            if point.nmse < best:
                best = point.nmse
                found.append(point)
        return found

    def knees(self) -> list[Point]:
        """For every label on the front, the point of the sharpest bend among its points there.

        Bends are those of log NMSE against log(1 + bits): the point farthest below the chord between the
        label's ends, or the one of the longest reach where there are fewer than three.
        """
        front = self.front()
        x = np.log1p([p.bits for p in front])
        y = np.log([p.nmse for p in front])
        chosen: dict[str, int] = {}
        for label in dict.fromkeys(p.label for p in front if p.label not in ("mixed", "none")):
            own = [k for k, p in enumerate(front) if p.label == label]
            ends = own[0], own[-1]
            if len(own) < 3:
                chosen[label] = own[-1] if front[ends[1]].nmse < 0.5 * front[ends[0]].nmse else own[0]
                continue
            slope = (y[ends[1]] - y[ends[0]]) / max(x[ends[1]] - x[ends[0]], 1e-9)
            below = [y[ends[0]] + slope * (x[k] - x[ends[0]]) - y[k] for k in own]
            chosen[label] = own[int(np.argmax(below))]
        return [front[k] for k in sorted(chosen.values())]


def points_of(measured: Measured) -> list[Point]:
    """One point per seed, mode, beta and label (labels of at least a quarter of the networks)."""
    found = []
    labels = measured.label if measured.label is not None else np.full(measured.nmse.shape, "network")
    for s, j in np.ndindex(measured.nmse.shape[:2]):
        for mode in np.unique(measured.mode[s, j]):
            of_mode = measured.mode[s, j] == mode
            for label in np.unique(labels[s, j][of_mode]):
                chosen = np.flatnonzero(of_mode & (labels[s, j] == label))
                if len(chosen) < 0.25 * of_mode.sum():
                    continue
                nmse = measured.nmse[s, j, chosen]
                typical = chosen[np.argsort(nmse)[(len(nmse) - 1) // 2]]
                found.append(
                    Point(
                        str(label), float(measured.log10_beta[j]), int(s), int(mode), float(np.median(nmse)),
                        float(bits(np.median(measured.nats[s, j, chosen]))),
                        float(np.median(measured.loss[s, j, chosen])),
                        measured.mlps[s, j, int(typical)],
                    )
                )  # fmt: skip
    return found


def pareto_front(
    generators: Generator,
    key: PRNGKeyArray,
    n: int,
    log10_betas: Sequence[float] | Real[AnyArray, " betas"] | None = None,
    *,
    target: Target = L1,
    networks: int = 16,
) -> Front:
    """Measures networks over betas (default: 13 over the trained range) and all seeds and modes.

    Raises: ValueError for an n that can't be served.
    """
    low, high = generators.config.log10_beta
    betas = np.linspace(low, high, 13) if log10_betas is None else np.asarray(log10_betas)
    measured = measure(
        generators, target, key, n, betas, networks=networks * generators.config.modes, points=2048
    )
    return Front(n, tuple(points_of(measured)))
