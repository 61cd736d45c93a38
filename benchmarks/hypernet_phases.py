"""The phase diagram, sizes and baselines from one training of many seeds.

    python -m benchmarks.hypernet_phases            # 33 seeds x 8,000 steps, as the paper pools
    python -m benchmarks.hypernet_phases --quick    # 8 seeds x 4,000 steps

Prints measured beside expected, writes JSON, CSV and PNG. The paper gives no error figures: expected values are those of
an independent run.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool, Float, Shaped

import hypernet
from benchmarks.hypernet_checks import Row, show
from benchmarks.output import results
from hypernet.analysis.measure import Measured
from hypernet.files import write_json

STRUCTURED = ("double_sided", "pudding_pos", "pudding_neg", "pudding_mixed")
SIZES = (5, 7, 8, 10, 14, 16, 20, 24, 32)


def branch_medians(
    measured: Measured, look: int
) -> tuple[Shaped[np.ndarray, " seeds"], Float[np.ndarray, " seeds"]]:
    """Commonest label and median NMSE of every seed at one beta."""
    if measured.label is None:
        raise ValueError("labels are known for one hidden layer")
    names = [max(set(row), key=list(row).count) for row in measured.label[:, look].tolist()]
    return np.array(names), np.median(measured.nmse[:, look], -1)


def rows_of(
    diagram: hypernet.PhaseDiagram, sizes: dict[int, Measured], seconds: float, full: bool
) -> list[Row]:
    """The expected phases, sizes and baselines."""
    betas = diagram.log10_betas.tolist()
    at = {lb: betas.index(lb) for lb in betas}
    branch, shares = diagram.branches(), diagram.shares()
    nmse, loss = np.median(diagram.nmse[-1], -1), np.median(diagram.loss[-1], -1)
    nats = np.median(diagram.nats[-1], -1) / diagram.n
    pudding = np.char.startswith(branch.astype(str), "pudding")
    double = branch == "double_sided"
    low, mid = at[-5.0], at[-3.0]
    convex = [shares[at[lb], hypernet.LABELS.index("convexity")] for lb in (-2.0, -1.0, 0.0)]
    states = {s.log10_beta: s for s in diagram.ground_states()}
    seen = {name for name in branch[:, :].reshape(-1).tolist()}
    order = [states[lb].label for lb in betas]
    ranks = [
        0 if s == "double_sided" else 1 if s.startswith("pudding") else 2 if s == "convexity" else 1
        for s in order
    ]

    def least(
        name: Bool[np.ndarray, "seeds betas"], j: int, values: Float[np.ndarray, "seeds betas"]
    ) -> float:
        chosen = values[name[:, j], j]
        return float(chosen.min()) if len(chosen) else np.nan

    def middle(
        name: Bool[np.ndarray, "seeds betas"], j: int, values: Float[np.ndarray, "seeds betas"]
    ) -> float:
        chosen = values[name[:, j], j]
        return float(np.median(chosen)) if len(chosen) else np.nan

    ground_low = least(double, low, loss) / least(pudding, low, loss)
    ground_mid = least(pudding, mid, loss) / least(double, mid, loss) if double[:, mid].any() else 0.0
    expected_best = 0.004 if full else 0.0055
    rows = [
        Row("seeds in double-sided at lb -5", float(double[:, low].sum()), ">=", 1),
        Row("seeds in a pudding at lb -5", float(pudding[:, low].sum()), ">=", 1),
        Row("worst seed's NMSE at lb -5", float(nmse[:, low].max()), "<=", 0.035),
        Row("median NMSE, double-sided, lb -5", middle(double, low, nmse), "<=", 0.012),
        Row("median NMSE, pudding, lb -5", middle(pudding, low, nmse), "<=", 0.035),
        Row("best double-sided NMSE, lb -5", least(double, low, nmse), "<=", expected_best),
        Row("share of convexity, least of lb -2, -1, 0", float(min(convex)), ">=", 0.95),
        Row("KL / n at lb -1, worst seed", float(nats[:, at[-1.0]].max()), "<=", 0.2),
        Row("KL / n falls with beta from -5 to -1, seeds where not", float(
            (np.diff(nats[:, [at[lb] for lb in (-5.0, -4.0, -3.0, -2.0, -1.0)]], axis=1) > 0).any(1).sum()), "<=", 0),
        Row("best loss at lb -5: double-sided / pudding", ground_low, "<", 1),
        Row("best loss at lb -3: pudding / double-sided", ground_mid, "<", 1),
        Row("ground states in order of beta (inversions)", float(sum(a > b for a, b in itertools.pairwise(ranks))), "<=", 0),
        Row("of the four labels, seen as a seed's branch", float(len(seen & {*STRUCTURED[:3], "convexity"})), ">=", 4 if full else 3),
        Row("seconds of training and looks", seconds, "<=", 300),
    ]  # fmt: skip
    names, _ = branch_medians(sizes[16], 0)
    by_n = {n: np.median(m.nmse[:, 0], -1) for n, m in sizes.items()}
    for n, (a, b) in {5: (4, 8), 7: (8, 8), 10: (8, 16), 14: (16, 16)}.items():
        neighbors = np.maximum(by_n.get(a, by_n[8]), by_n[b])
        rows.append(
            Row(
                f"n = {n}: median over seeds of NMSE / worse neighbor",
                float(np.median(by_n[n] / neighbors)),
                "<=",
                1.3,
            )
        )
    chosen = names == "double_sided"
    for n, bound in {20: 0.015, 24: 0.025, 32: 0.05}.items():
        rows.append(
            Row(f"n = {n}, double-sided, median NMSE", float(np.median(by_n[n][chosen])), "<=", bound)
        )
    return rows


def baselines(quick: bool) -> list[Row]:
    """Networks trained directly by Adam."""
    steps = 3000 if quick else 6000
    rows = []
    for activation, low, high in (("swish", 0.10, 0.16), ("relu", 0.08, 0.16)):
        mlps = hypernet.train_directly(jax.random.key(0), activation=activation, seeds=3, steps=steps)
        labels, order, nmse = hypernet.classify_many(mlps)
        rows += [
            Row(f"Adam, {activation}: least NMSE of 3 seeds", float(nmse.min()), ">=", low),
            Row(f"Adam, {activation}: largest NMSE", float(nmse.max()), "<=", high),
            Row(
                f"Adam, {activation}: largest L",
                float(order.L.max()),
                "<=",
                0.1 if activation == "swish" else 0.35,
            ),
            Row(f"Adam, {activation}: structured labels", float(np.isin(labels, STRUCTURED).sum()), "<=", 0),
        ]
    mlps = hypernet.train_directly(jax.random.key(0), l1=1e-3, seeds=3, steps=steps)
    labels, order, nmse = hypernet.classify_many(mlps)
    print(
        f"Adam with an L1 penalty of 1e-3: {labels.tolist()}, NMSE {nmse.round(4).tolist()}, L {order.L.round(2).tolist()}"
    )
    rows.append(Row("Adam with L1 penalty: least L", float(order.L.min()), ">=", 0.7))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="8 seeds x 4,000 steps")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument(
        "--plain", action="store_true", help="the plain generator: no power law, no size exponent"
    )
    parser.add_argument("--key", type=int, default=0)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results, or a folder quick in it")
    options = parser.parse_args()
    seeds = options.seeds or (8 if options.quick else 33)
    steps = options.steps or (4000 if options.quick else 8000)
    name = "hypernet_phases" + ("_plain" if options.plain else "")
    config = hypernet.TrainConfig()
    if options.plain:
        plain = dataclasses.replace(config.generator, power_law=False, size_exponent=0.0)
        config = dataclasses.replace(config, generator=plain)
    start = time.perf_counter()
    diagram, trained = hypernet.phase_diagram(
        seeds, steps=steps, key=jax.random.key(options.key), config=config
    )
    seconds = time.perf_counter() - start
    print(f"{seeds} seeds x {steps:,} steps with 10 looks: {seconds:.0f} s, compilation included\n")
    target = hypernet.get_target("l1")
    sizes = {
        n: hypernet.measure(
            trained.generators, target, jax.random.key(6), n, [-5.0], columns=16 if n <= 16 else 32
        )
        for n in (4, *SIZES)
    }
    print("share of labels by beta:")
    for lb, row in zip(diagram.log10_betas, diagram.shares(), strict=True):
        print(
            f"  {lb:5.1f}  "
            + "  ".join(f"{n} {s:.2f}" for n, s in zip(hypernet.LABELS, row, strict=True) if s)
        )
    print("ground states (label, least median loss of a seed; by branch):")
    for state in diagram.ground_states():
        losses = ", ".join(f"{n} {v:.4f}" for n, v in sorted(state.losses.items(), key=lambda item: item[1]))
        print(f"  {state.log10_beta:5.1f}  {state.label}: {losses}")
    rows = rows_of(diagram, sizes, seconds, not options.quick) + baselines(options.quick)
    show(rows)
    names, _ = branch_medians(sizes[16], 0)
    table = {
        n: {b: float(np.median(np.median(m.nmse[:, 0], -1)[names == b])) for b in set(names.tolist())}
        for n, m in sizes.items()
    }
    for n, line in table.items():
        print(f"  n = {n:2d}: " + ", ".join(f"{b} {v:.4f}" for b, v in sorted(line.items())))
    output = options.output or results(quick=options.quick)
    output.mkdir(parents=True, exist_ok=True)
    diagram.write_csv(output / f"{name}.csv") if not options.quick else None
    hypernet.draw_phase_diagram(diagram, output / f"{name}.png")
    write_json(
        output / f"{name}.json",
        {"seeds": seeds, "steps": steps, "seconds": seconds, "rows": [r._asdict() for r in rows],
         "log10_betas": diagram.log10_betas, "shares": diagram.shares(), "labels": hypernet.LABELS,
         "ground_states": diagram.ground_states(), "branches": diagram.branches(), "sizes": table},
    )  # fmt: skip
    print(json.dumps({"short": [r.name for r in rows if not r.ok]}))


if __name__ == "__main__":
    main()
