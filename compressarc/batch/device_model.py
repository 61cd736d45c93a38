"""How long a step takes on a device, and how much memory: a model, and what it assumes.

A step of L runs side by side takes the longest of

    kernels x seconds per kernel              (does not grow with L)
    bytes moved / bandwidth
    cycles / clock rate                       (TPUs)

Kernels, bytes, cycles, memory and seconds of compilation are what XLA's compilers say of padded rooms
compiled for the device, as lines in the rooms' work (`plan.work`): `python -m
benchmarks.compressarc_device_model` fits them and says how far they are from rooms that took no part.
No device has run them. The line of a v5e's bytes is up to 2.1 times off: of small rooms nothing is
moved that fits into the memory beside the units. The CPU's line is fitted to measured steps. Data
sheets give bandwidth and clock; what share of the bandwidth is reached, and the seconds per kernel, are
assumptions, marked below.
"""

from __future__ import annotations

import dataclasses
import math

from compressarc.config import unknown
from compressarc.multitensor import KEPT_ELEMENTS

STATE_PER_WORK = 13.4e3
"""Bytes of memory of a run on a CPU for each unit of work: temporaries (589 MB at 48,050) and state."""

MEMORY_SHARE = 0.65
"""Share of a device's memory that a plan fills; jax takes three quarters of a GPU's by default."""

FIXED_BYTES = 12e6
"""Bytes of one run on a CPU that don't depend on its shape: weights, moments, program arguments."""

TILE = 128
"""Numbers in a row of a TPU's tiles; the lanes lie along it."""

Line = tuple[float, float]
"""A constant, and what each unit of work adds."""


NUMBERS_PER_WORK = 48
"""Numbers of the largest array for each unit of work, which counts slots for absent rows and columns, too."""

FEW = 64
"""From so many lanes on they lie along a TPU's tiles; below, places do (`network.layers.by_platform`)."""


def _at(line: Line, work: float) -> float:
    return line[0] + line[1] * work


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a compiler says of one step of some number of lanes."""

    kernels: float = 0.0  # of a step, transfers between memories included; whatever the lanes
    bytes: Line = (0.0, 0.0)  # moved in the large memory, padding included
    cycles: Line = (0.0, 0.0)
    memory: Line = (0.0, 0.0)  # bytes of temporaries and arguments
    program: Line = (0.0, 0.0)  # bytes of one program's text, whatever the lanes
    compile_seconds: Line = (0.0, 0.0)  # of one program on two cores, whatever the lanes

    def of(self, work: float, times: float) -> dict[str, float]:
        """All of it, for so many times that number of lanes."""
        several = {"bytes": self.bytes, "cycles": self.cycles, "memory": self.memory}
        once = {"program": self.program, "compile_seconds": self.compile_seconds}
        return (
            {"kernels": self.kernels}
            | {name: times * _at(line, work) for name, line in several.items()}
            | {name: _at(line, work) for name, line in once.items()}
        )


@dataclasses.dataclass(frozen=True)
class DeviceModel:
    """One device. A model, but for the CPU's line, which is fitted to measurements."""

    name: str
    memory: float  # bytes
    bandwidth: float  # bytes per second
    launch: float  # seconds per kernel inside one compiled program (assumption)
    max_lanes: int  # runs side by side beyond which nothing is gained
    fitted: Fitted  # of one lane; on TPUs of 128, which lie along the tiles
    small: Fitted = Fitted()  # of one lane where all of them are small together, see `is_small`
    clock: float = 0.0  # cycles per second, of a TPU
    dollars_per_hour: float | None = None  # on-demand list price of one device (assumption)
    share_of_bandwidth: float = 0.6  # what these kernels reach of the data sheet (assumption)
    compile_ahead: int = 4  # programs compiled while others run; 0: that takes the steps' own time

    @property
    def is_tpu(self) -> bool:
        """Whether lanes come in tiles."""
        return self.clock > 0

    def is_small(self, work: float, lanes: int) -> bool:
        """Whether steps take another form: on TPUs cells lie along the tiles; on GPUs more is kept."""
        if self.is_tpu:
            return lanes < FEW
        return lanes * NUMBERS_PER_WORK * work <= KEPT_ELEMENTS["gpu"]

    def said(self, work: float, lanes: int) -> dict[str, float]:
        """The compiler's figures for a step of `lanes` runs; on TPUs tiles are whole, full or not."""
        if self.is_small(work, lanes):
            return self.small.of(work, lanes)
        return self.fitted.of(work, math.ceil(lanes / TILE) if self.is_tpu else lanes)

    def step_seconds(self, work: float, lanes: int) -> float:
        """Seconds of one step of `lanes` runs side by side."""
        said = self.said(work, lanes)
        return max(
            said["kernels"] * self.launch,
            said["bytes"] / (self.share_of_bandwidth * self.bandwidth),
            said["cycles"] / self.clock if self.is_tpu else 0.0,
        )

    def compile_seconds(self, work: float, lanes: int = 1) -> float:
        """Seconds to compile one program, beyond which steps wait."""
        return self.said(work, lanes)["compile_seconds"]

    def program_bytes(self, work: float, lanes: int = 1) -> float:
        """Device memory of the text of the programs that are there at a time."""
        return (1 + self.compile_ahead) * self.said(work, lanes)["program"]

    def run_bytes(self, work: float, lanes: int = 1) -> float:
        """Device memory of `lanes` runs, bytes, without programs."""
        return self.said(work, lanes)["memory"]

    def fits(self, work: float, lanes: int) -> bool:
        """Whether so many runs and the programs fit into what a plan fills of the memory."""
        needed = self.run_bytes(work, lanes) + self.program_bytes(work, lanes)
        return needed <= MEMORY_SHARE * self.memory

    def lanes(self, work: float) -> int:
        """Runs side by side that fit into memory and still pay; on TPUs whole tiles, if one fits."""
        if self.is_tpu:
            tiles = [n for n in range(TILE, self.max_lanes + 1, TILE) if self.fits(work, n)]
            if tiles:
                return tiles[-1]
        most = FEW - 1 if self.is_tpu else self.max_lanes
        return max((n for n in range(1, most + 1) if self.fits(work, n)), default=1)

    def side_by_side(self, work: float, most: int) -> int:
        """Lanes for at most so many runs; on TPUs whole tiles, if half of one is full."""
        if self.is_tpu and most >= FEW:
            most = TILE * math.ceil(most / TILE)
        return min(self.lanes(work), most)

    def assumptions(self) -> list[str]:
        """What the model takes for granted, in words."""
        fitted, each = self.fitted, f"{TILE} runs" if self.is_tpu else "a run"
        if self.is_tpu:
            moves = (
                f"takes {fitted.cycles[0] / 1e6:.1f} M + {fitted.cycles[1] / 1e3:.2f} k x w cycles at "
                f"{self.clock / 1e9:.2g} GHz"
            )
        else:
            moves = f"moves {fitted.bytes[0] / 1e6:.0f} MB + {fitted.bytes[1] / 1e3:.0f} kB x w"
        return [
            f"{self.name}: {self.bandwidth / 1e9:.0f} GB/s, of which {100 * self.share_of_bandwidth:.0f} % "
            f"are reached; {fitted.kernels:,.0f} kernels a step of {1e6 * self.launch:.1f} microseconds; "
            f"{fitted.compile_seconds[0]:.0f} s + {1e3 * fitted.compile_seconds[1]:.2f} ms x w to compile a "
            f"program on two cores, {self.compile_ahead} of them ahead while others run",
            f"a step of {each} of work w {moves}, and holds {fitted.memory[0] / 1e6:.0f} MB + "
            f"{fitted.memory[1] / 1e3:.1f} kB x w",
        ] + ([f"{self.dollars_per_hour:.2f} dollars an hour and device"] if self.dollars_per_hour else [])


class _Cpu(DeviceModel):
    """One core of two that are both busy: no gain from running side by side, two lines (measured)."""

    def assumptions(self) -> list[str]:
        """What the model takes for granted, in words."""
        return [
            "one core of the machine this was measured on: 10 ms + 31 microseconds x work a step, or 78 "
            "microseconds x work - 40 ms where that is more; "
            f"{self.fitted.compile_seconds[0]:.0f} s to compile a program"
        ]

    def step_seconds(self, work: float, lanes: int) -> float:
        return lanes * max(0.010 + 31e-6 * work, 78e-6 * work - 0.040)


_CPU = Fitted(memory=(FIXED_BYTES, STATE_PER_WORK), compile_seconds=(24.0, 0.00018))
_GPU = Fitted(
    kernels=5042, bytes=(305800000, 359000), memory=(7419000, 10990), compile_seconds=(33.03, 0.0002048)
)
_KEPT = Fitted(
    kernels=2607, bytes=(51650000, 491200), memory=(4825000, 34430), compile_seconds=(20.07, 0.00324)
)
_TPU = Fitted(
    kernels=15120, bytes=(5.107e9, 61.68e6), cycles=(45.47e6, 257.1e3), memory=(2.513e9, 1.852e6),
    program=(232.8e6, 108.5e3), compile_seconds=(169.7, 0.06214),
)  # fmt: skip
_FEW = Fitted(
    kernels=10510, bytes=(0.0, 69.19e3), cycles=(8.699e6, 5.326e3), memory=(8.963e6, 32.17e3),
    program=(43.87e6, 13.17e3), compile_seconds=(25.25, 8.032e-3),
)  # fmt: skip

DEVICES = {
    model.name: model
    for model in (
        _Cpu("cpu", 8e9, 8.7e9, 2e-6, 1, _CPU, _CPU, compile_ahead=0),
        DeviceModel("rtx4070", 12e9, 504e9, 2.5e-6, 32, _GPU, _KEPT, dollars_per_hour=0.25),
        DeviceModel("a100", 80e9, 2.0e12, 2.5e-6, 64, _GPU, _KEPT, dollars_per_hour=3.7),
        DeviceModel("h100", 80e9, 3.35e12, 2.2e-6, 64, _GPU, _KEPT, dollars_per_hour=4.8),
        DeviceModel("h200", 141e9, 4.8e12, 2.2e-6, 64, _GPU, _KEPT, dollars_per_hour=5.5),
        DeviceModel("v5e", 16e9, 0.82e12, 0.3e-6, 512, _TPU, _FEW, clock=1.5e9, dollars_per_hour=1.2),
    )
}


def device_model(name: str) -> DeviceModel:
    """A model by name. Raises ValueError with what there is."""
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    return DEVICES[name]
