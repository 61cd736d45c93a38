"""Targets beyond the 1-norm: tournaments for the largest size, families of algorithms as formulas.

python -m benchmarks.hypernet_targets            # about ten minutes
python -m benchmarks.hypernet_targets --quick    # fewer seeds, no table of all targets
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

import hypernet
from benchmarks.hypernet_checks import Row, show
from benchmarks.output import results
from hypernet.files import write_json

# an independent run: the plain tables generator, one seed, n = 16, lb -5 and -2
INDEPENDENT = {"l2": (0.044, 0.40), "linf": (0.34, 0.63), "max": (0.21, 0.67)}


def tournaments(quick: bool, pictures: Path | None) -> tuple[list[Row], Mapping[str, object]]:
    """The largest size of four inputs by two hidden layers of twelve units."""
    target = hypernet.get_target("linf")
    config = hypernet.TrainConfig(
        generator=hypernet.GeneratorConfig(
            activation="relu", assignment=hypernet.Assignment(slots=(3, 3), relation="tree", levels=2)
        ),
        target=target, sizes=(4,), points=256, seeds=4 if quick else 16, steps=4000, chunk=500,
    )  # fmt: skip
    start = time.perf_counter()
    trained = hypernet.train(config, jax.random.key(0))
    seconds = time.perf_counter() - start
    betas = [-6.0, -5.0, -4.0, -3.0, -2.0, -1.0]
    found = hypernet.measure(trained.generators, target, jax.random.key(5), 4, betas, networks=16)
    nmse = np.median(found.nmse, -1)
    labels = []
    for s in range(config.seeds):
        votes = [hypernet.classify_rounds(found.mlps[s, 1, k], points=4000).label for k in range(5)]
        labels.append(max(set(votes), key=votes.count))
        print(f"  seed {s:2d} {labels[-1]:10s} NMSE by beta {betas}: {nmse[s].round(4).tolist()}")
    winners = [s for s, label in enumerate(labels) if label == "tournament"]
    print(f"linf, n = 4: {len(winners)} of {config.seeds} seeds are tournaments ({seconds:.0f} s)")
    rows = [Row("linf, n = 4: seeds that are tournaments", len(winners), ">=", 1)]
    record = {"seconds": seconds, "labels": labels, "log10_betas": betas, "nmse": nmse}
    if winners:
        best = min(winners, key=lambda s: nmse[s, 1])
        rows.append(Row("linf, n = 4: NMSE of the best tournament, lb -5", float(nmse[best, 1]), "<=", 0.05))
        rows.append(
            Row(
                "linf, n = 4: median NMSE of tournaments, lb -5",
                float(np.median(nmse[winners, 1])),
                "<=",
                0.05,
            )
        )
        mlp = found.mlps[best, 1, 0]
        simple = hypernet.simplify(mlp, tolerance=0.02, prune=0.1)
        evidence = hypernet.classify_rounds(mlp)
        print(f"  {evidence}")
        print(f"  simplified: {[w.shape for w in simple.mlp.weights]}, largest change {simple.change:.3f}")
        text = str(simple.expression(digits=2))
        print(f"  f(x) = {text[:900]}")
        record |= {"best": best, "expression": text, "pairing": evidence.pairing, "winners": evidence.winners}
        if pictures:
            hypernet.draw_network(
                mlp, pictures / "hypernet_tournament.png", title=f"tournament, NMSE {evidence.nmse:.3f}"
            )
    return rows, record


def family(name: str, quick: bool) -> tuple[list[Row], Mapping[str, object]]:
    """All algorithms found for a target, as formulas."""
    target = hypernet.get_target(name)
    config = hypernet.TrainConfig(target=target, seeds=4 if quick else 8, steps=4000)
    start = time.perf_counter()
    trained = hypernet.train(config, jax.random.key(0))
    seconds = time.perf_counter() - start
    front = hypernet.pareto_front(trained.generators, jax.random.key(1), 8, target=target, networks=12)
    print(f"{name}, n = 8 ({seconds:.0f} s):")
    record = {}
    for label in dict.fromkeys(p.label for p in front.points if p.label not in ("mixed", "none")):
        # the most precise network of the label
        point = min((p for p in front.points if p.label == label), key=lambda p: p.nmse)
        short = hypernet.formula(point.mlp, target=target)
        print(
            f"  {label:14s} lb {point.log10_beta:4.1f}, {point.bits:7.0f} bits, NMSE {point.nmse:.4f}: f(x) ≈ {short.text} "
            f"(misses {short.unexplained:.1%})"
        )
        record[label] = {
            "log10_beta": point.log10_beta, "bits": point.bits, "nmse": point.nmse, "formula": short.text,
            "unexplained": short.unexplained, "formula_nmse": short.nmse,
        }  # fmt: skip
    good = [k for k, v in record.items() if v["unexplained"] < 0.1 and v["nmse"] < 0.5]
    return [Row(f"{name}: distinct algorithms with a formula that misses < 10 %", len(good), ">=", 2)], record


def table() -> Mapping[str, object]:
    """Every target of the library with one hidden layer: two seeds, n = 16 (8 for parity and sums mod p)."""
    record = {}
    for name, target in hypernet.TARGETS.items():
        n = 16 if name not in ("parity", "modular-addition-3", "modular-addition-5") else 4
        config = hypernet.TrainConfig(
            generator=hypernet.GeneratorConfig(outputs=target.outputs), target=target, seeds=2,
            sizes=(2, 3, 4, 6, 8, 12, 16) if n == 16 else (2, 3, 4),
        )  # fmt: skip
        trained = hypernet.train(config, jax.random.key(0))
        found = hypernet.measure(trained.generators, target, jax.random.key(1), n, [-5.0, -2.0], networks=16)
        nmse = np.median(found.nmse, -1)
        labels = (
            None
            if found.label is None
            else [max(set(r), key=list(r).count) for r in found.label[:, 0].tolist()]
        )
        expected = f"   independent run (one seed): {INDEPENDENT[name]}" if name in INDEPENDENT else ""
        print(f"  {name:20s} n = {n:2d}, lb -5 / -2: {nmse.round(4).tolist()} {labels}{expected}", flush=True)
        record[name] = {"n": n, "nmse": nmse, "labels": labels}
        jax.clear_caches()
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer seeds, no table of all targets")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of the best tournament")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results, or a folder quick in it")
    options = parser.parse_args()
    rows, record = [], {}
    for name, run in (
        ("linf", lambda: tournaments(options.quick, options.pictures)),
        ("huber", lambda: family("huber", options.quick)),
        ("sum-squares", lambda: family("sum-squares", options.quick)),
    ):
        found, record[name] = run()
        rows += found
    if not options.quick:
        record["table"] = table()
    show(rows)
    write_json(
        options.output or results(quick=options.quick) / "hypernet_targets.json",
        {"rows": [r._asdict() for r in rows], **record},
    )


if __name__ == "__main__":
    main()
