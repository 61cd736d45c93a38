"""Constructors, forward pass and classifier against recorded networks.

    python -m benchmarks.hypernet_classify --golden networks.npz --labels networks.json

Works on any files of that form: per network `<key>/W`, `v`, `b`, `c`, optionally `y` at the inputs `x/nNN`; labels
per key with `act`, `n`, optionally `label`, `ambiguous`, `nmse_20k`, order parameters and construction `params`.
Perturbed copies (permuted, split, dead units, rescaled, 5 % noise with c centered again) are classified too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import Float
from scipy import stats

import hypernet
from benchmarks.checks import Check, report
from hypernet.networks.forward import evaluate64
from hypernet.networks.mlp import MLP

Arrays: TypeAlias = dict[str, Float[np.ndarray, "..."]]
"""W, v, b and c by name"""

Version: TypeAlias = tuple[
    Float[np.ndarray, "n hidden"],
    Float[np.ndarray, " hidden"],
    Float[np.ndarray, " hidden"],
    Float[np.ndarray | np.floating, ""],
]
"""W, b, v and c, as the classifier reads them"""

ORDER = ("L", "A", "B", "cover", "S", "K")


class Found(NamedTuple):
    """What was measured over all networks."""

    networks: int
    scored: int
    right: int
    perturbed: int
    perturbed_right: int
    forward: float  # largest |f - y| in float64
    forward32: float  # relative to the largest |y| of the network
    constructed: float  # largest |f_ours - y| of rebuilt networks
    rebuilt: int
    order: float
    nmse: float  # largest relative difference of the error


def rebuild(key: str, about: dict[str, Any], arrays: Arrays) -> MLP | None:
    """Our construction with the recorded parameters; None for names that are not known."""
    name, n, act, p = key.split("/", maxsplit=1)[0], about["n"], about["act"], about.get("params", {})
    sign = "positive" if "_pos" in name else "negative"
    if name == "double_sided":
        return hypernet.double_sided(n, k=p["k"], activation=act)
    if name in ("pudding_pos", "pudding_neg"):
        k = p.get("k", arrays["W"][:, :-1].max() if sign == "negative" else -arrays["W"][:, :-1].min())
        return hypernet.pudding(n, sign, k=float(k), activation=act, C=p["C"])
    if name.endswith("_nobias"):
        return hypernet.pudding(n, sign, k=p["k"], activation=act, sea="linear", C=p["c"])
    if name.endswith("_distributed"):
        return hypernet.distributed_pudding(n, sign, **p)
    if name.startswith("convexity"):
        return hypernet.convexity(
            n,
            about["H"],
            rows=arrays["W"].T,
            activation=act,
            alpha=float(arrays["v"][0]),
            c=float(arrays["c"]),
        )
    return None


def perturb(rng: np.random.Generator, arrays: Arrays, act: str) -> dict[str, Version]:
    """Copies that use the same algorithm."""
    W, v, b, c = (np.asarray(arrays[k], float) for k in "Wvbc")
    n, H = W.shape
    p, q, share = rng.permutation(n), rng.permutation(H), rng.uniform(0.2, 0.8, H)
    versions: dict[str, Version] = {
        "permuted": (W[p][:, q], b[q], v[q], c),
        "split": (np.hstack([W, W]), np.append(b, b), np.append(v * share, v * (1 - share)), c),
        "dead units": (
            np.hstack([W, rng.normal(size=(n, 8))]),
            np.append(b, np.zeros(8)),
            np.append(v, np.zeros(8)),
            c,
        ),
    }
    if act == "relu":
        scale = 10 ** rng.uniform(-1, 1, H)
        versions["rescaled"] = (W * scale, b * scale, v / scale, c)
    x = rng.normal(size=(4000, n))
    shaken, shaken_v = (a * (1 + 0.05 * rng.normal(size=a.shape)) for a in (W, v))
    error = evaluate64(MLP((shaken,), (b,), shaken_v, c, act), x) - np.abs(x).sum(1)
    versions["5 % noise"] = (shaken, b, shaken_v, c - error.mean())
    return versions


def examine(
    golden: Path, labels: Path, *, names: Sequence[str] | None = None, verbose: bool = False
) -> Found:
    """Measures all networks, or those named."""
    archive, abouts = np.load(golden), json.loads(labels.read_text())
    rng = np.random.default_rng(0)
    scored = right = perturbed = perturbed_right = rebuilt = 0
    forward = forward32 = constructed = order = error = 0.0
    names = list(abouts) if names is None else names
    for key in names:
        about = abouts[key]
        arrays = {part: archive[f"{key}/{part}"] for part in "Wvbc"}
        mlp = MLP((arrays["W"],), (arrays["b"],), arrays["v"], arrays["c"], about["act"])
        x_name = f"x/n{about['n']:02d}"
        if f"{key}/y" in archive and x_name in archive:
            x, y = archive[x_name], archive[f"{key}/y"]
            forward = max(forward, float(np.abs(evaluate64(mlp, x) - y).max()))
            # a bias of C beside sums of order one loses log2(C) bits: relative to the sea
            size = max(np.abs(y).max(), np.abs(arrays["b"]).max(), np.abs(arrays["v"]).max())
            single = np.asarray(hypernet.evaluate(to32(mlp), x.astype(np.float32)))
            forward32 = max(forward32, float(np.abs(single - y).max() / size))
            ours = rebuild(key, about, arrays)
            if ours is not None:
                rebuilt += 1
                constructed = max(constructed, float(np.abs(evaluate64(ours, x) - y).max()))
        found = hypernet.classify(mlp)
        for name in ORDER:
            if about.get(name) is not None:
                order = max(order, abs(float(getattr(found.order, name)) - about[name]))
        if about.get("nmse_20k", 0) > 1e-6:
            error = max(error, abs(found.nmse / about["nmse_20k"] - 1))
        if "label" in about and not about.get("ambiguous", False):
            scored += 1
            right += found.label == about["label"]
            if verbose and found.label != about["label"]:
                print(f"  {key}: {found.label}, recorded {about['label']}")
            for name, version in perturb(rng, arrays, about["act"]).items():
                again = hypernet.classify(version, activation=about["act"], points=4000).label
                perturbed += 1
                perturbed_right += again == about["label"]
                if verbose and again != about["label"]:
                    print(f"  {key}, {name}: {again}, recorded {about['label']}")
    return Found(
        len(names),
        scored,
        right,
        perturbed,
        perturbed_right,
        forward,
        forward32,
        constructed,
        rebuilt,
        order,
        error,
    )


def to32(mlp: MLP) -> MLP:
    """The network in single precision."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), mlp)


def tables(recorded: Path) -> list[Check]:
    """Largest relative difference from recorded error tables of the constructions.

    Convexity is random: its means over draws are compared in units of their own standard errors.
    """
    table = json.loads(recorded.read_text())
    makers = {
        "double_sided_swish_vs_k": lambda n: lambda k: hypernet.double_sided(n, k=k),
        "pudding_neg_swish_nobias_vs_c (k=10)": lambda n: (
            lambda c: hypernet.pudding(n, "negative", k=10, sea="linear", C=c)
        ),
    }
    checks = []
    for name, maker in makers.items():
        worst = {"raw": 0.0, "corrected": 0.0}
        for n, rows in table[name].items():
            found = hypernet.error_table(
                maker(int(n)), map(float, rows), key=jax.random.key(0), points=200_000
            )
            for value, row in zip(rows, found, strict=True):
                worst["raw"] = max(worst["raw"], abs(row.nmse / rows[value]["nmse"] - 1))
                corrected = abs(row.nmse_corrected / rows[value]["nmse_bias_corrected"] - 1)
                worst["corrected"] = max(worst["corrected"], corrected)
        checks += [
            Check(f"{name}, {kind}: relative difference", value, 0.05) for kind, value in worst.items()
        ]
    # a sea of ReLU errs on rare points only: 20,000 of them settle little, the integral does
    worst, tail = 0.0, stats.norm
    for t in (0.5, 1.0, 2.0):
        exact = float((1 + t**2) * tail.sf(t) - t * tail.pdf(t)) / (1 - 2 / np.pi)
        (row,) = hypernet.error_table(
            lambda C: hypernet.pudding(4, "negative", activation="relu", C=C),
            [2 * t], key=jax.random.key(0), points=2_000_000,
        )  # fmt: skip
        worst = max(worst, abs(row.nmse / exact - 1))
    checks.append(Check("pudding of ReLU against the integral over its tail, relative", worst, 0.05))
    gaps = []
    for name, (mean, std) in table["convexity_nmse_mean_std_over_3_draws"].items():
        size, law, rows, activation, hidden = name.split()
        n, hidden, antipodal = int(size[1:]), int(hidden[1:]), rows == "antipodal"
        if n < 4:
            continue
        ours = []
        for draw in range(5):
            mlp = hypernet.convexity(
                n, hidden, key=jax.random.key(draw), law=law, antipodal=antipodal, activation=activation
            )
            ours += [
                row.nmse
                for row in hypernet.error_table(lambda _, m=mlp: m, [0], key=jax.random.key(99), points=8000)
            ]
        error = np.hypot(max(std, 0.05 * mean) / np.sqrt(3), np.std(ours, ddof=1) / np.sqrt(5))
        gaps.append((np.mean(ours) - mean) / error)
    floor = {n: hypernet.convexity_floor(n) for n in (2, 4, 8, 16, 32, 64)}
    spec = {2: 0.0426, 4: 0.0766, 8: 0.0985, 16: 0.1108, 32: 0.1173, 64: 0.1206}
    return [
        *checks,
        Check(
            f"convexity, {len(gaps)} rows: share beyond 3 standard errors",
            float(np.mean(np.abs(gaps) > 3)),
            0.05,
        ),
        Check("convexity: mean of the gaps, in standard errors", abs(float(np.mean(gaps))), 0.5),
        Check("floor of convexity, relative", max(abs(floor[n] / spec[n] - 1) for n in spec), 0.02),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--golden", type=Path, required=True, help="networks.npz")
    parser.add_argument("--labels", type=Path, required=True, help="networks.json")
    parser.add_argument("--tables", type=Path, help="error_tables.json: the constructions' errors too")
    parser.add_argument("--quick", action="store_true", help="every tenth network")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/hypernet_classify.json"))
    options = parser.parse_args()
    names = sorted(json.loads(options.labels.read_text()))[:: 10 if options.quick else 1]
    found = examine(options.golden, options.labels, names=names, verbose=True)
    print(
        f"{found.right} of {found.scored} labels, {found.perturbed_right} of {found.perturbed} perturbed; {found.rebuilt} rebuilt"
    )
    checks = [
        Check("labels wrong, unambiguous networks", float(found.scored - found.right), 0),
        Check(
            "share of perturbed networks mislabeled",
            1 - found.perturbed_right / max(found.perturbed, 1),
            0.02,
        ),
        Check("forward pass, float64, largest difference", found.forward, 1e-9),
        Check("forward pass, float32, relative", found.forward32, 1e-4),
        Check("constructors, float64, largest difference", found.constructed, 1e-9),
        Check("order parameters, largest difference", found.order, 1e-6),
        Check("NMSE on other points, relative", found.nmse, 0.15),
    ]
    results = [(f"{found.networks} networks", checks)]
    if options.tables:
        results.append(("error tables", tables(options.tables)))
    sys.exit(report(str(options.golden), results, options.output))


if __name__ == "__main__":
    main()
