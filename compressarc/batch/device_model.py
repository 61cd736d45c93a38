"""How long a step takes on a device: a model, and what it assumes.

A step of L runs side by side takes the longest of

    kernels x seconds per launch          (does not grow with L)
    L x bytes moved / bandwidth
    L x operations / arithmetic rate

Kernels, bytes and operations are what the compiled program shows (`python -m
benchmarks.compressarc_step`, `benchmarks.compressarc_batch --count`), as functions of the
puzzle's work (`plan.work`). The CPU's line is fitted to measured steps. Data sheets give
bandwidth and rate; what share of them such small products reach, and the seconds per
launch, are assumptions, marked below.
"""

from __future__ import annotations

import dataclasses

from compressarc.config import unknown

KERNELS = 7700
"""Kernels of one step in the CPU's module, loop bodies counted as often as they run (7,600 to 7,900)."""

BYTES_PER_WORK = 213e3
"""Bytes a step moves for each unit of work (1.7 GB at 7,980)."""

FLOPS_PER_WORK = 210e3
"""Operations of a step for each unit of work (1.67 GFLOP at 7,980)."""

MEMORY_PER_WORK = 12.5e3
"""Bytes of temporaries for each unit of work (589 MB at 48,050)."""

STATE_PER_WORK = 0.9e3
"""Bytes of latents, moments and gradients for each unit of work, roughly."""

MEMORY_SHARE = 0.65
"""Share of a device's memory that a plan fills; jax takes three quarters of a GPU's by default."""

FIXED_BYTES = 12e6
"""Bytes of one run that don't depend on its shape: weights, moments, program arguments."""


@dataclasses.dataclass(frozen=True)
class DeviceModel:
    """Speeds of one device. A model, but for the CPU's line, which is fitted to measurements."""

    name: str
    memory: float  # bytes
    bandwidth: float  # bytes per second
    flops: float  # float32 operations per second that products of width 8 to 72 may reach (assumption)
    launch: float  # seconds per kernel inside one compiled program (assumption)
    compile_seconds: float  # per program, beyond which steps wait (assumption, but for the CPU)
    max_lanes: int  # runs side by side beyond which nothing is gained
    dollars_per_hour: float | None = None  # on-demand list price of one device (assumption)
    share_of_bandwidth: float = 0.6  # what these kernels reach of the data sheet (assumption)
    compile_ahead: int = 4  # programs compiled while others run; 0: that takes the steps' own time

    def step_seconds(self, work: float, lanes: int) -> float:
        """Seconds of one step of `lanes` runs side by side."""
        return max(
            KERNELS * self.launch,
            lanes * (BYTES_PER_WORK * work / (self.share_of_bandwidth * self.bandwidth)),
            lanes * FLOPS_PER_WORK * work / self.flops,
        )

    def run_bytes(self, work: float) -> float:
        """Device memory of one run, bytes."""
        return FIXED_BYTES + (MEMORY_PER_WORK + STATE_PER_WORK) * work

    def assumptions(self) -> list[str]:
        """What the model takes for granted, in words."""
        return [
            f"{self.name}: {self.bandwidth / 1e9:.0f} GB/s, of which {100 * self.share_of_bandwidth:.0f} % "
            f"are reached; {self.flops / 1e12:.1f} TFLOP/s in small float32 products; {KERNELS} kernels a "
            f"step of {1e6 * self.launch:.1f} microseconds at least; {self.compile_seconds:.0f} s to compile "
            f"a program, {self.compile_ahead} of them ahead while others run",
            f"a step of work w moves {BYTES_PER_WORK / 1e3:.0f} kB x w, computes "
            f"{FLOPS_PER_WORK / 1e3:.0f} kFLOP x w and holds {MEMORY_PER_WORK / 1e3:.1f} kB x w",
        ] + ([f"{self.dollars_per_hour:.2f} dollars an hour and device"] if self.dollars_per_hour else [])

    def lanes(self, work: float) -> int:
        """Runs side by side that fit into memory and still pay."""
        fitting = int(MEMORY_SHARE * self.memory / self.run_bytes(work))
        return max(1, min(self.max_lanes, fitting))


class _Cpu(DeviceModel):
    """One core of two that are both busy: no gain from running side by side, two lines (measured)."""

    def assumptions(self) -> list[str]:
        """What the model takes for granted, in words."""
        return [
            "one core of the machine this was measured on: 10 ms + 31 microseconds x work a step, or 78 "
            "microseconds x work - 40 ms where that is more; "
            f"{self.compile_seconds:.0f} s to compile a program"
        ]

    def step_seconds(self, work: float, lanes: int) -> float:
        return lanes * max(0.010 + 31e-6 * work, 78e-6 * work - 0.040)


DEVICES = {
    model.name: model
    for model in (
        _Cpu("cpu", 8e9, 8.7e9, 4e9, 2e-6, 47.0, 1, compile_ahead=0),
        DeviceModel("rtx4070", 12e9, 504e9, 5e12, 2.5e-6, 60.0, 32, 0.25),
        DeviceModel("a100", 80e9, 2.0e12, 6e12, 2.5e-6, 60.0, 64, 3.7),
        DeviceModel("h100", 80e9, 3.35e12, 12e12, 2.2e-6, 60.0, 64, 4.8),
        DeviceModel("h200", 141e9, 4.8e12, 12e12, 2.2e-6, 60.0, 64, 5.5),
        DeviceModel("v5e", 16e9, 0.82e12, 3e12, 1.5e-6, 90.0, 32, 1.2),
    )
}


def device_model(name: str) -> DeviceModel:
    """A model by name. Raises ValueError with what there is."""
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    return DEVICES[name]
