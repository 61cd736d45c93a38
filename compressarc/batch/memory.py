"""How much memory there is, and a warning where a run needs more."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import jax

from compressarc.batch.device_model import DeviceModel, device_model
from compressarc.batch.plan import Plan, work
from compressarc.multitensor import Shape


def machine_bytes() -> float | None:
    """Main memory of this machine, or of the control group this process is in; None if unknown."""
    found = []
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(getattr(os, "sysconf_names", ())):
        found.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found.append(float(Path(path).read_text()))  # ValueError: "max"
        except (OSError, ValueError):
            continue
    return min(found, default=None)


def device_bytes() -> float | None:
    """Memory of this process's first device; None if unknown. A CPU's devices share the machine's."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return machine_bytes()
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return None if limit is None else float(limit)


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB"


def run_warning(shape: Shape) -> str | None:
    """A sentence if one run of a puzzle of this shape may not fit into this device's memory."""
    here, needed = device_bytes(), device_model("cpu").run_bytes(work(shape))
    if here is None or needed <= here:
        return None
    return (
        f"warning: this run takes about {_gigabytes(needed)} of memory, and {_gigabytes(here)} are here; "
        "the system may end it"
    )


def plan_warnings(plan: Plan, device: DeviceModel, shapes: Mapping[str, Shape]) -> list[str]:
    """A sentence for every bucket whose lanes may not fit into one device's memory.

    shapes: of the puzzles, by name, to say which is too large.
    """
    found = []
    for bucket in plan.buckets:
        needed = device.run_bytes(work(bucket.room.shape), bucket.lanes)
        if needed <= device.memory:
            continue
        largest = max((name for name in bucket.puzzles if name in shapes), key=lambda n: work(shapes[n]))
        s = shapes[largest]
        lanes = "" if bucket.lanes == 1 else f", {bucket.lanes} of its kind side by side,"
        advice = "leave it out with --puzzles" if bucket.lanes == 1 else "take fewer --lanes"
        found.append(
            f"warning: {largest} ({s.examples} x {s.colors} x {s.x} x {s.y}){lanes} takes about "
            f"{_gigabytes(needed)} of memory on a device that has {_gigabytes(device.memory)}; {advice}"
        )
    return found
