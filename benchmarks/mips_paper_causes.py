"""What the published pipeline depends on: `python -m benchmarks.mips_paper_causes [--only TASK ...] [--quick]`.

Tasks that the paper solves and `mips_paper_mode` does not. Each is trained with several seeds in architectures of
the hidden size that the released networks have, and of the size that our search finds, as published (raw integers,
the logarithmic loss, a constant rate of 0.001) and as our route does (scaled, a falling rate). Of the seeds that
get every test sequence right, printed for the normalized network, and for the network as trained: how many give a
program that the published check accepts (10 sequences), how many an exact one, and which repair alone makes the
others exact. Writes results/mips_paper_causes.json.

The batch is 512 sequences, not 4,096; width and depth of the released networks are not known, their n is.

--quick: one task, few steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import jax
import numpy as np

from benchmarks import output
from mips.config import SynthesisConfig
from mips.judging.candidates import Examination
from mips.judging.judges import ByLabels
from mips.judging.verification import right
from mips.networks.relu import ReluConfig, ReluRNN
from mips.networks.training import TrainConfig, network_of, place, train
from mips.paper.pipeline import FoundNetwork, hammer, programs
from mips.paper.repairs import Mending
from mips.tasks import get_task
from mips.tasks.task import Inputs, Outputs, Task

# (n, depth and width of f): of the released networks' hidden size first, then what our search finds.
SHAPES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "Newton_Freebody": ((2, 1, 1), (3, 1, 1)),
    "Newton_Gravity": ((2, 1, 1),),
    "Sum_Last5": ((5, 1, 1),),
    "Sum_Last6": ((6, 1, 1),),
    "Sum_Last7": ((7, 1, 1),),
    "Abs_Diff": ((2, 2, 64), (3, 2, 8)),
    "Previous_Equals_Current": ((2, 2, 64), (2, 2, 8)),
    "Add_Mod_3": ((1, 2, 64), (2, 2, 8)),
}
WAYS = ("published", "scaled")
REPAIRS = tuple(field.name for field in dataclasses.fields(Mending))
CHECKED = 10
"""Sequences on which the published pipeline checks its programs."""


def trained(
    task: Task, shape: tuple[int, int, int], way: str, x: Inputs, y: Outputs, *, seeds: int, steps: int
) -> list[FoundNetwork]:
    """The networks that get every test sequence right."""
    hidden, depth, width = shape
    family = ReluConfig(task.inputs, task.outputs, hidden, depth, width)
    fitted = TrainConfig(steps=steps, batch=512, seeds=seeds, keep="last")
    if way == "scaled":
        largest = float(max(1, abs(task.low), abs(task.high - 1)))
        family = dataclasses.replace(
            family,
            loss="squared",
            orthogonal=depth == 1,
            input_scale=largest,
            output_scale=float(max(1.0, y.std())),
        )
        fitted = dataclasses.replace(
            fitted, learning_rate=1e-2, schedule="cosine", clip=1.0, steps=steps // 2
        )
    run = None
    for run, seen in train(family, place(x, y, 1_000), fitted, key=jax.random.key(0)):
        if (np.asarray(run.perfect_step) >= 0).all() and seen.step >= steps // 4:
            break
    assert run is not None
    perfect = np.flatnonzero(np.asarray(run.perfect_step) >= 0).tolist()
    return [FoundNetwork(family, family.unscale(network_of(run, seed)), 1.0) for seed in perfect]


def read(network: ReluRNN, exam: Examination, x: Inputs, y: Outputs, mending: Mending) -> tuple[bool, bool]:
    """Whether the published check accepts a program, and whether that one is exact."""
    task = exam.task
    for _, program in programs(network, x, y, mending, low=task.low, high=task.high):
        if right(program, x[:CHECKED], y[:CHECKED]).all():
            return True, np.isfinite(exam.judge.misfit(program)).item()
    return False, False


def row_of(name: str, shape: tuple[int, int, int], way: str, *, seeds: int, steps: int) -> dict[str, Any]:
    """One setting of one task, over seeds."""
    task, config = get_task(name), SynthesisConfig()
    exam = Examination.of(task)
    exam.judge = ByLabels(exam.trials, beyond=True)
    x, y = exam.trials.training_data(config, seed=0)
    begun = time.perf_counter()
    found = trained(task, shape, way, x, y, seeds=seeds, steps=steps)
    row: dict[str, Any] = {"task": name, "n": shape[0], "f": f"{shape[1]}x{shape[2]}", "trained": way}
    row |= {"seeds": seeds, "perfect": len(found)}
    counts = {how: {"accepted": 0, "exact": 0, **dict.fromkeys(REPAIRS, 0), "all repairs": 0} for how in HOWS}
    for network in found:
        normalized = hammer(exam, network, config, key=jax.random.key(1), seed=0)
        for how, weights in zip(HOWS, (normalized, network.network), strict=True):
            accepted, exact = read(weights, exam, x, y, Mending())
            counts[how]["accepted"] += accepted
            counts[how]["exact"] += exact
            for repair in () if exact else REPAIRS:
                counts[how][repair] += read(weights, exam, x, y, Mending(**{repair: True}))[1]
            if not exact:
                counts[how]["all repairs"] += read(weights, exam, x, y, Mending.everything())[1]
    return row | counts | {"seconds": round(time.perf_counter() - begun, 1)}


HOWS = ("normalized", "as trained")


def said(row: dict[str, Any]) -> str:
    """A row in words."""
    head = f"{row['task']:24s} n={row['n']} f {row['f']:5s} {row['trained']:9s} {row['perfect']} of {row['seeds']} learn"
    parts = []
    for how in HOWS:
        counts = row[how]
        repairs = ", ".join(f"{k} {counts[k]}" for k in (*REPAIRS, "all repairs") if counts[k])
        parts.append(
            f"{how}: accepted {counts['accepted']}, exact {counts['exact']}"
            + (f" (further: {repairs})" if repairs else "")
        )
    return f"{head}; {'; '.join(parts)}; {row['seconds']:.0f} s"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--only", nargs="+", choices=tuple(SHAPES))
    parser.add_argument("--quick", action="store_true", help="one task, few steps")
    asked = parser.parse_args()
    seeds, steps = (2, 1_000) if asked.quick else (asked.seeds, asked.steps)
    rows = []
    for name in asked.only or (("Newton_Gravity",) if asked.quick else SHAPES):
        for shape in SHAPES[name]:
            for way in WAYS:
                rows.append(row_of(name, shape, way, seeds=seeds, steps=steps))
                print(said(rows[-1]), flush=True)
    for how in HOWS:
        reached = sorted({row["task"] for row in rows if row[how]["exact"]})
        print(
            f"{how}: exact as published in some setting: {len(reached)} of {len({r['task'] for r in rows})}:",
            *reached,
        )
    if asked.only is None:
        output.write(output.results(quick=asked.quick) / "mips_paper_causes.json", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
