"""One generator with eight modes against generators that hold one branch each.

    python -m benchmarks.hypernet_modes            # 2 generators of 8 modes; 8 single ones of 8,000 steps
    python -m benchmarks.hypernet_modes --quick    # a quarter of the steps

For every branch the best beta is where, among the single trainings, its least loss leads the other branches' most.
There the loss of the best mode that is in the branch is compared with the single trainings that are: with their
median, and with their best.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Shaped

import hypernet
from benchmarks.hypernet_checks import Row, show
from benchmarks.output import results
from hypernet.files import write_json

BETAS = (-6.0, -5.0, -4.0, -3.5, -3.0, -2.5, -2.0, -1.0)
FAMILIES = ("double_sided", "pudding", "convexity")


class Holder(NamedTuple):
    """A generator, or a mode of one: family and median loss at every beta."""

    name: str
    family: Shaped[np.ndarray, " betas"]
    loss: Float[np.ndarray, " betas"]
    label: Shaped[np.ndarray, " betas"]


def holders(generators: hypernet.Generator, config: hypernet.TrainConfig, n: int = 16) -> list[Holder]:
    """All seeds and modes of a training, from 16 networks each."""
    modes = config.generator.modes
    found = hypernet.measure(
        generators, config.target, jax.random.key(5), n, BETAS, networks=16 * modes, points=2048
    )
    if found.label is None:
        raise ValueError("labels are known for one hidden layer")
    result = []
    for s in range(config.seeds):
        for m in range(modes):
            own = found.mode[s, 0] == m
            labels = [max(set(row), key=list(row).count) for row in found.label[s][:, own].tolist()]
            family = np.array(["pudding" if name.startswith("pudding") else name for name in labels])
            result.append(
                Holder(f"seed {s} mode {m}", family, np.median(found.loss[s][:, own], -1), np.array(labels))
            )
    return result


def best_of(held: list[Holder], family: str, j: int) -> list[tuple[float, str, str]]:
    """Losses of the holders in a family at one beta, least first, with their names and labels."""
    return sorted((float(h.loss[j]), h.name, str(h.label[j])) for h in held if h.family[j] == family)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the steps")
    parser.add_argument("--steps", type=int, default=32_000, help="of the generators with modes")
    parser.add_argument("--key", type=int, default=0)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results, or a folder quick in it")
    options = parser.parse_args()
    part = 4 if options.quick else 1
    single = hypernet.TrainConfig(seeds=8, steps=8000 // part)
    several = dataclasses.replace(
        single, seeds=2, steps=options.steps // part, networks=16,
        generator=dataclasses.replace(single.generator, modes=8),
    )  # fmt: skip
    held = {}
    for name, config in (("single", single), ("modes", several)):
        start = time.perf_counter()
        trained = hypernet.train(config, jax.random.key(options.key))
        print(
            f"{name}: {config.seeds} x {config.steps:,} steps, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
        held[name] = holders(trained.generators, config)
    rows, record = [], {}
    for family in FAMILIES:
        lead = []
        for j in range(len(BETAS)):
            own = best_of(held["single"], family, j)
            rivals = [
                loss
                for other in FAMILIES
                if other != family
                for loss, *_ in best_of(held["single"], other, j)
            ]
            lead.append(min(rivals) / own[0][0] if own and rivals else (1.0 if own else 0.0))
        j = int(np.argmax(lead))
        alone = [loss for loss, *_ in best_of(held["single"], family, j)]
        for seed in range(several.seeds):
            mine = best_of([h for h in held["modes"] if h.name.startswith(f"seed {seed} ")], family, j)
            loss, name, label = mine[0] if mine else (np.nan, "none", "none")
            print(
                f"{family} at lb {BETAS[j]:g}: {name} ({label}) {loss:.4f}; single: median {np.median(alone):.4f}, best "
                f"{min(alone):.4f} of {len(alone)}"
            )
            rows.append(
                Row(
                    f"{family}, lb {BETAS[j]:g}, generator {seed}: loss / median of single",
                    loss / float(np.median(alone)),
                    "<=",
                    1.1,
                )
            )
            record[f"{family} {seed}"] = {
                "log10_beta": BETAS[j], "mode": name, "label": label, "loss": loss, "single": alone,
                "ratio_to_best": loss / min(alone),
            }  # fmt: skip
    for seed in range(several.seeds):
        mine = [h for h in held["modes"] if h.name.startswith(f"seed {seed} ")]
        low = sorted({str(h.label[1]) for h in mine})
        print(
            f"generator {seed}: labels at lb -5: {low}; at lb -1: {sorted({str(h.label[-1]) for h in mine})}"
        )
    show(rows)
    write_json(
        options.output or results(quick=options.quick) / "hypernet_modes.json",
        {"rows": [r._asdict() for r in rows], "branches": record},
    )


if __name__ == "__main__":
    main()
