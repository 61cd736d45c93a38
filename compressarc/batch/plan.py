"""Plans of a batch: which puzzles share a compiled program, at what cost.

Every puzzle has its own shape, and every shape would be a program of its own to compile.
A plan groups puzzles into rooms (`compressarc.batch.bucket_shapes`), weighing compilation against the work
that padding wastes. Work counts the pixels of the largest tensors, slots for absent axes
included: examples x (colors + 1) x (rows + 1) x (columns + 1).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from compressarc.batch.bucket_shapes import common_room, room_for
from compressarc.batch.device_model import DeviceModel
from compressarc.multitensor import Shape
from compressarc.network.inputs import Signature

Members = Int[np.ndarray, "_"]
"""Indices of the shapes of one group."""
Shapes = Float[np.ndarray, "*groups 4"]
"""Numbers of examples, colors, rows and columns."""
Works = Float[np.ndarray, "*groups"]


def work(shape: Shape) -> int:
    """Elements of the largest tensors of one puzzle, without directions and channels."""
    return shape.examples * (shape.colors + 1) * (shape.x + 1) * (shape.y + 1)


def _work_of(rows: Shapes) -> Works:
    return np.asarray(rows[..., 0] * (rows[..., 1] + 1) * (rows[..., 2] + 1) * (rows[..., 3] + 1))


def _rows(statics: Sequence[Signature]) -> Float[np.ndarray, "shapes 4"]:
    return np.array([[s.shape.examples, s.shape.colors, s.shape.x, s.shape.y] for s in statics], float)


class _Groups:
    """A partition of shapes, with the cost of each group; merging, moving, splitting."""

    def __init__(
        self, rows: Float[np.ndarray, "shapes 4"], counts: Shaped[np.ndarray, " shapes"], slots: int
    ) -> None:
        self.rows, self.counts, self.slots = rows, counts, slots

    def cost(self, largest: Shapes, number: Shaped[np.ndarray, "*groups"]) -> Works:
        """Work of `number` runs in rooms of this shape: whole waves of `slots` lanes."""
        return np.asarray(np.ceil(number / self.slots) * self.slots * _work_of(largest))

    def total(self, groups: list[Members]) -> float:
        tops = np.array([self.rows[g].max(0) for g in groups])
        return float(self.cost(tops, np.array([self.counts[g].sum() for g in groups])).sum())

    def merged(self, groups: list[Members], number: int) -> list[Members]:
        """Merges the cheapest pair until `number` groups are left."""
        groups = list(groups)
        tops = np.array([self.rows[g].max(0) for g in groups])
        sizes = np.array([self.counts[g].sum() for g in groups], float)
        costs = self.cost(tops, sizes)

        def extra(i: int) -> Float[np.ndarray, " groups"]:
            joint = np.maximum(tops[i], tops)
            row = self.cost(joint, sizes[i] + sizes) - costs[i] - costs
            row[i] = np.inf
            return row

        table = np.array([extra(i) for i in range(len(groups))])
        while len(groups) > number:
            i, j = sorted(divmod(int(table.argmin()), len(groups)))
            groups[i] = np.concatenate([groups[i], groups[j]])
            tops[i], sizes[i] = np.maximum(tops[i], tops[j]), sizes[i] + sizes[j]
            costs[i] = self.cost(tops[i], np.asarray(sizes[i]))
            del groups[j]
            tops, sizes, costs = (np.delete(a, j, 0) for a in (tops, sizes, costs))
            table = np.delete(np.delete(table, j, 0), j, 1)
            table[i] = table[:, i] = extra(i)
        return groups

    def settled(self, groups: list[Members]) -> list[Members]:
        """Moves single shapes to where they cost least, until no move helps."""
        members = [list(g) for g in groups]
        improved = True
        while improved:
            improved = False
            for i in range(len(self.rows)):
                home = next(k for k, g in enumerate(members) if i in g)
                if len(members[home]) == 1:
                    continue
                tops = np.array([self.rows[g].max(0) for g in members])
                sizes = np.array([self.counts[g].sum() for g in members], float)
                rest = [j for j in members[home] if j != i]
                costs = self.cost(tops, sizes)
                less = costs[home] - self.cost(self.rows[rest].max(0), np.asarray(self.counts[rest].sum()))
                more = self.cost(np.maximum(tops, self.rows[i]), sizes + self.counts[i]) - costs
                more[home] = np.inf
                best = int(more.argmin())
                if more[best] < less - 1e-9:
                    members[home].remove(i)
                    members[best].append(i)
                    improved = True
        return [np.array(g) for g in members]

    def refined(self, groups: list[Members], rounds: int, rng: np.random.Generator) -> list[Members]:
        """Dissolves a few neighboring groups at a time and merges their shapes anew; keeps what is better."""
        best = self.settled(groups)
        value, number = self.total(best), len(groups)
        for _ in range(rounds if number > 2 else 0):
            tops = np.log(np.array([self.rows[g].max(0) for g in best]))
            near = np.abs(tops - tops[rng.integers(number)]).sum(1) + 0.3 * rng.random(number)
            count = int(rng.integers(2, min(8, number) + 1))
            chosen = set(np.argsort(near)[:count].tolist())
            loose = np.concatenate([best[k] for k in chosen])
            kept = [g for k, g in enumerate(best) if k not in chosen]
            # A random half starts in pairs, so that merging does not take the same way again.
            order = rng.permutation(loose)
            start = [order[k : k + 1] for k in range(len(order))]
            noise = self.rows * np.exp(0.1 * rng.standard_normal(self.rows.shape))
            detour = _Groups(noise, self.counts, self.slots)
            trial = self.settled_within(kept, detour.merged(start, count))
            if (cost := self.total(trial)) < value - 1e-9:
                best, value = trial, cost
        return self.settled(best)

    def settled_within(self, kept: list[Members], fresh: list[Members]) -> list[Members]:
        """As `settled`, for the fresh groups alone."""
        index = np.concatenate(fresh)
        place = {int(i): k for k, i in enumerate(index)}
        part = _Groups(self.rows[index], self.counts[index], self.slots)
        local = [np.array([place[int(i)] for i in g]) for g in fresh]
        return kept + [index[g] for g in part.settled(local)]


def group_shapes(
    statics: Mapping[str, Signature], programs: int, *, slots: int = 1, rounds: int = 300, seed: int = 0
) -> list[list[str]]:
    """Groups puzzles so that `programs` rooms waste little work.

    Args:
      statics: puzzles by name.
      programs: how many groups to make (fewer, if there are fewer shapes).
      slots: lanes that run side by side; a group's last wave counts as full.
      rounds: attempts to improve on merging the cheapest pairs (0: merging alone).
      seed: of these attempts.
    """
    by_shape: dict[Shape, list[str]] = {}
    for name, static in statics.items():
        by_shape.setdefault(static.shape, []).append(name)
    names = list(by_shape.values())
    rows = _rows([statics[group[0]] for group in names])
    groups = _Groups(rows, np.array([len(group) for group in names]), slots)
    start = [np.array([i]) for i in range(len(names))]
    merged = groups.merged(start, max(1, min(programs, len(names))))
    if rounds:
        merged = groups.refined(merged, rounds, np.random.default_rng(seed))
    found = [sorted(n for i in group for n in names[i]) for group in merged]
    return sorted(found, key=lambda g: (-work(room_for(statics[n] for n in g).shape), g))


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Puzzles that share a program."""

    room: Signature
    puzzles: tuple[str, ...]
    lanes: int  # runs side by side on each device

    @property
    def id(self) -> str:
        """Short name for logs."""
        s = self.room.shape
        return f"{s.examples}x{s.colors}x{s.x}x{s.y}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a batch will do. Does not depend on how many devices there will be."""

    buckets: tuple[Bucket, ...]
    device: str  # name of the device model that the plan was made for
    own_work: float  # work of the puzzles themselves, once each
    padded_work: float  # work of their rooms

    @property
    def waste(self) -> float:
        """Padded work beyond the puzzles' own, as a share of it."""
        return self.padded_work / self.own_work - 1

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Raises ValueError if it is not a plan."""
        try:
            buckets = []
            for entry in data["buckets"]:
                room = dict(entry["room"])
                room["shape"] = Shape(**room["shape"])
                room["placements"] = tuple(room["placements"])
                buckets.append(Bucket(Signature(**room), tuple(entry["puzzles"]), int(entry["lanes"])))
            return cls(tuple(buckets), data["device"], float(data["own_work"]), float(data["padded_work"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a plan of a batch: {error}") from error


def make_plan(
    statics: Mapping[str, Signature],
    device: DeviceModel,
    *,
    devices: int = 1,
    seeds: int = 1,
    steps: int = 2000,
    programs: int | None = None,
    lanes: int | None = None,
) -> Plan:
    """Groups puzzles into buckets for the devices at hand.

    Args:
      statics: puzzles by name.
      device: speeds and memory that the estimate rests on.
      devices, seeds, steps: of the batch; more work per puzzle makes padding dearer and
        compilation cheaper.
      programs: number of buckets, instead of the one with the least estimated time.
      lanes: runs side by side on a device, instead of what suits it.

    Raises: ValueError if there are no puzzles, or a number is not positive.
    """
    if not statics:
        raise ValueError("no puzzles to plan for")
    for name, value in (("programs", programs), ("lanes", lanes), ("devices", devices), ("seeds", seeds)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: expected a positive number")

    def plan_with(number: int, rounds: int) -> Plan:
        groups = group_shapes(statics, number, slots=1, rounds=rounds)
        buckets = []
        for group in groups:
            room = common_room(statics[name] for name in group)
            most = math.ceil(len(group) * seeds / devices)
            side_by_side = lanes or device.side_by_side(work(room.shape), most)
            buckets.append(Bucket(room, tuple(group), side_by_side))
        own = sum(work(statics[name].shape) for name in statics)
        padded = sum(len(b.puzzles) * work(b.room.shape) for b in buckets)
        return Plan(tuple(buckets), device.name, own, padded)

    if programs is not None:
        return plan_with(programs, min(300, 10 * programs))
    distinct = len({s.shape for s in statics.values()})
    ladder = sorted({min(distinct, round(1.35**k)) for k in range(21)})
    best = min(
        ladder,
        key=lambda n: estimate(plan_with(n, 0), device, devices=devices, seeds=seeds, steps=steps).seconds,
    )
    return plan_with(best, min(300, 10 * best))


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A model of what a plan costs; no measurement."""

    seconds: float  # wall time, compilation included
    compile_seconds: float  # of waiting for the compiler
    device_seconds: float  # summed over devices
    dollars: float | None  # None where the device has no price
    peak_bytes: float  # on one device
    bucket_seconds: tuple[float, ...]


def estimate(plan: Plan, device: DeviceModel, *, devices: int, seeds: int, steps: int) -> Estimate:
    """Time, memory and money of a plan by the device model.

    Programs run one after another, and the coming ones are compiled meanwhile
    (`compressarc.batch.compile_ahead`): what counts is the time for which nothing runs.
    """
    times, compiles, peak = [], [], 0.0
    for bucket in plan.buckets:
        size = work(bucket.room.shape)
        runs = len(bucket.puzzles) * seeds
        waves = math.ceil(runs / (bucket.lanes * devices))
        times.append(waves * steps * device.step_seconds(size, bucket.lanes))
        programs = device.program_bytes(size, bucket.lanes)
        peak = max(peak, device.run_bytes(size, bucket.lanes) + programs)
        compiles.append(device.compile_seconds(size, bucket.lanes))
    begun: list[float] = []
    now = compiling = 0.0
    for number, seconds in enumerate(times):
        coming = range(len(begun), min(number + device.compile_ahead + 1, len(times)))
        begun += [now] * len(coming)
        wait = max(0.0, begun[number] + compiles[number] - now)
        compiling += wait
        now += wait + seconds
    dollars = None if device.dollars_per_hour is None else now / 3600 * device.dollars_per_hour * devices
    return Estimate(now, compiling, sum(times) * devices, dollars, peak, tuple(times))
