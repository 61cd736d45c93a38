"""The acceptance measurements that need training: `python -m benchmarks.mips_spec [--quick]`.

Spec (d) 2 (training the paper's architectures), 3 (linear extraction), 5 (finite-state extraction from a
gated network), 6 (denoising) and the throughput of the small linear network. Writes results/mips_spec.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

import jax
import numpy as np

from mips import SynthesisConfig
from mips import routes as extraction
from mips.judging.candidates import Examination
from mips.networks.relu import ReluConfig
from mips.networks.tokens import TokenConfig
from mips.networks.training import TrainConfig, init_run, network_of, place, run_chunk, train
from mips.reading import linear, oracle
from mips.reading import machine_extraction as automaton
from mips.tasks import get_task

RESULTS = Path(__file__).parent / "results"
KEY = jax.random.key(0)


def training(rows: list[dict[str, Any]]) -> None:
    """(d) 2: 16 seeds, batch 512, the paper's loss on raw integers: a perfect seed within 2,000 steps, 15 CPU s."""
    cases = {
        "Parity_All": ReluConfig(hidden=1, transition_depth=2, transition_width=4),
        "Newton_Gravity": ReluConfig(hidden=2),
        "Binary_Addition": ReluConfig(inputs=2, hidden=2, transition_depth=2, transition_width=8),
        "Balanced_Parenthesis": ReluConfig(
            hidden=2, transition_depth=2, transition_width=16, readout_depth=2, readout_width=16
        ),
    }
    for name, family in cases.items():
        config = TrainConfig(steps=2000, batch=512, seeds=16)
        data = place(*get_task(name).sample(0, 100_000), 8192)
        run_chunk(init_run(family, config, length=10, key=KEY), data, family=family, config=config)
        begin = time.process_time()
        for _, seen in train(family, data, config, key=KEY):
            if seen.sequences.max() == 1.0:
                break
        spent = time.process_time() - begin
        good = seen.sequences.max() == 1.0 and spent <= 15
        print(
            f"(d) 2 {name:22s} {family.describe():42s} step {seen.step:5d}, best {seen.sequences.max():.4f}, "
            f"{int((seen.sequences == 1).sum())}/16 perfect, {spent:.1f} CPU s (15) {'ok' if good else 'BEYOND'}"
        )
        rows.append(
            {"what": f"train {name}", "step": seen.step, "cpu seconds": round(spent, 2), "ok": bool(good)}
        )


def throughput(rows: list[dict[str, Any]]) -> None:
    """At least 500 steps/s for 16 seeds of the n = 2 linear network, batch 512."""
    family, config = ReluConfig(hidden=2), TrainConfig(steps=1000, batch=512, seeds=16)
    data = place(*get_task("Newton_Gravity").sample(0, 20_000), 1000)
    run, out = run_chunk(init_run(family, config, length=10, key=KEY), data, family=family, config=config)
    jax.block_until_ready(out)
    speeds = []
    for _ in range(8):
        begin = time.perf_counter()
        run, out = run_chunk(run, data, family=family, config=config)
        jax.block_until_ready(out)
        speeds.append(config.chunk / (time.perf_counter() - begin))
    speed = float(np.median(speeds))
    print(
        f"throughput, 16 seeds, n=2 linear, batch 512: {speed:.0f} steps/s (500) {'ok' if speed >= 500 else 'BEYOND'}"
    )
    rows.append({"what": "throughput", "steps per second": round(speed), "ok": speed >= 500})


def linear_extraction(rows: list[dict[str, Any]]) -> None:
    """(d) 3: rounded impulse responses exact to length 40; orders 2, 2, 2, 4."""
    begin = time.perf_counter()
    orders = {"Sum_Last2": 2, "Newton_Gravity": 2, "Newton_Spring": 2, "Newton_Magnetic": 4}
    for name, order in orders.items():
        task = get_task(name)
        x, y = task.sample(0, 20_000)
        scale = float(max(abs(task.low), abs(task.high - 1)))
        family = ReluConfig(
            task.inputs,
            task.outputs,
            order,
            loss="squared",
            orthogonal=True,
            input_scale=scale,
            output_scale=y.std(),
        )
        config = TrainConfig(steps=4000, batch=512, learning_rate=1e-2, schedule="cosine", clip=1.0, seeds=16)
        fresh, long = task.sample(1, 20_000), task.sample(2, 1000, 40)
        exact, response, step = False, None, 0
        for run, seen in train(family, place(x, y, 1000), config, key=KEY):
            best, step = int(np.nanargmin(seen.loss)), seen.step
            response = linear.response_of_weights(family.unscale(network_of(run, best)), task.length)
            if exact := bool((response.run(fresh[0]) == fresh[1]).all()) and seen.sequences[best] > 0.9:
                break
        assert response is not None
        system = linear.realize(response)
        programs = list(linear.linear_programs(response, system))
        exact &= bool(programs) and all((p.run(long[0]) == long[1]).all() for p in programs)
        good = exact and system is not None and system.order == order
        print(
            f"(d) 3 {name:16s} n={order}: step {step:4d}, largest deviation {response.deviation:.4f}, order "
            f"{system.order if system else '-'} ({order}), exact to 40: {exact} {'ok' if good else 'BEYOND'}"
        )
        rows.append({"what": f"linear {name}", "deviation": response.deviation, "ok": bool(good)})
    spent = time.perf_counter() - begin
    print(f"(d) 3 together {spent:.1f} s (60)")
    rows.append({"what": "linear, seconds", "seconds": round(spent, 1), "ok": spent < 60})


def machines(rows: list[dict[str, Any]], names: dict[str, int]) -> None:
    """(d) 5 and 6: minimal machines from a gated network of 32 units; Dithering from an imperfect one."""
    for name, states in names.items():
        begin = time.perf_counter()
        task, imperfect = get_task(name), name == "Dithering"
        exam = Examination.of(task, seed=3)
        x, y = exam.trials.training_data(SynthesisConfig(), seed=3)
        values, number = extraction.classes_of(y)
        letters = automaton.alphabet(task.low, task.high, task.inputs)
        family = TokenConfig(task.symbols, len(values), 32 if not imperfect else 48)
        config = TrainConfig(
            steps=3000 if imperfect else 2000,
            batch=256 if imperfect else 128,
            learning_rate=1e-2,
            schedule="cosine",
            clip=1.0,
            curriculum=0.01 if imperfect else 0.1,
            seeds=2,
        )
        data = place(automaton.encode(letters, x), number, 1000)
        machine, share, step = None, 0.0, 0
        for run, seen in train(family, data, config, key=KEY):
            step = seen.step
            for seed in np.flatnonzero(
                (seen.sequences >= 0.4) & (seen.sequences <= (0.8 if imperfect else 1.0))
            ):
                network, share = network_of(run, int(seed)), float(seen.sequences[seed])
                asked = oracle.from_tokens(
                    family, network, low=task.low, high=task.high, inputs=task.inputs, values=values
                )
                machine, _ = extraction.read_machine(exam, asked, SynthesisConfig())
                if machine is not None:
                    break
            if machine is not None:
                break
        short, long = task.sample(5, 20_000), task.sample(6, 2000, 60)
        exact = machine is not None and all((machine.run(a) == b).all() for a, b in (short, long))
        spent = time.perf_counter() - begin
        good = machine is not None and machine.states == states and exact and spent <= 60
        print(
            f"(d) {6 if imperfect else 5} {name:16s} network {100 * share:5.1f} % right at step {step:4d}: "
            f"{machine.states if machine else '-'} states ({states}), exact at 10 and 60: {exact}, "
            f"{spent:.1f} s {'ok' if good else 'BEYOND'}"
        )
        rows.append(
            {"what": f"machine {name}", "network": share, "seconds": round(spent, 1), "ok": bool(good)}
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="throughput and one machine only")
    quick = parser.parse_args().quick
    rows: list[dict[str, Any]] = []
    throughput(rows)
    if quick:
        machines(rows, {"Div_7": 7})
    else:
        training(rows)
        linear_extraction(rows)
        machines(rows, {"Div_7": 7, "Add_Mod_5": 5, "Min_Seen": 10, "Base_7_Addition": 2, "Dithering": 15})
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "mips_spec.json").write_text(json.dumps(rows, indent=1))
    return 0 if all(r["ok"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
