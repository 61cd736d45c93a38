"""Recorded numbers reproduced: the indices of nine clouds, and SmolLM2's residual states and logits.

    python -m benchmarks.features_parity --golden ../shared/golden/features

DIR may hold irreducibility.npz, or smollm2.npz with smollm2.json and smollm2_weights_spot.json, or both, of
the documented form (other clouds and prompts will do). Exit status 1 if anything is beyond its tolerance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from benchmarks.checks import Check, report
from features.irreducibility import mixture
from features.irreducibility.measure import measure, rank_of
from features.irreducibility.separability import mutual_information_curve
from features.lm.decoder import Decoder

MI_BITS, B_MIXTURE = 0.003, 0.005
LOGITS, RESIDUALS = 1e-3, 1e-4


def cloud_checks(data: Mapping[str, Shaped[np.ndarray, "..."]], name: str) -> list[Check]:
    """Curves of A, P, B; B's ascent from its recorded start; the exact sweep."""
    x = jnp.asarray(data[f"{name}/x"])
    checks = []
    for protocol in ("A", "P", "B"):
        curve = np.asarray(mutual_information_curve(x, protocol=protocol))
        error = float(np.abs(curve - data[f"{name}/{protocol}_mi_bits"]).max())
        checks.append(Check(f"{protocol}: information curve, bits", error, MI_BITS))
    ascent = mixture.ascend(x, jnp.asarray(data[f"{name}/v0"]), protocol="B")
    error = abs(float(ascent.hard) - float(data[f"{name}/B_M"]))
    checks.append(Check("B: M from the recorded start", error, B_MIXTURE))
    if rank_of(np.asarray(x)) == 1:
        found = measure(np.asarray(x))
        flagged = (found.separability, found.mixture, found.rank) == (0.0, 1.0, 1)
        checks.append(Check("rank 1: S = 0, M = 1 and flagged", float(not flagged), 0.0))
        return checks
    best = float(data[f"{name}/M_global"])
    for title, sweep in (("exact sweep", mixture.sweep), ("quick sweep", mixture.fast_sweep)):
        share = float(sweep(x).share)
        checks.append(Check(f"{title}: M below the recorded one by", best - share, 0.002))
        checks.append(Check(f"{title}: M above the recorded one by", share - best, 0.01))
    share = float(mixture.sweep(x).share)
    checks.append(Check("A: its M above the exact one by", float(data[f"{name}/A_M_hard"]) - share, 0.005))
    return checks


def model_checks(folder: Path) -> Iterator[tuple[str, list[Check]]]:
    """SmolLM2 against the recorded prompts and weights."""
    import hashlib

    from features.lm.decoder import forward, residuals
    from features.lm.loading import load, smollm2_path

    told = json.loads((folder / "smollm2.json").read_text())
    digest = hashlib.sha256(smollm2_path().read_bytes()).hexdigest()
    yield "the model file", [Check("sha256 differs", float(digest != told["gguf_sha256"]), 0.0)]
    model = load("smollm2")
    spots = json.loads((folder / "smollm2_weights_spot.json").read_text())
    yield (
        "weights",
        [check for name, spot in spots.items() for check in spot_checks(model.decoder, name, spot)],
    )
    with np.load(folder / "smollm2.npz") as data:
        for number, prompt in enumerate(told["prompts"]):
            ids = data[f"ids{number}"]
            same = model.tokenizer.encode(prompt["prompt"]) == ids.tolist()
            states = np.asarray(residuals(model.decoder, jnp.asarray(ids)[None]))[:, 0]
            logits = np.asarray(forward(model.decoder, jnp.asarray(ids)[None]))[0]
            recorded = data[f"resid{number}"]
            relative = np.linalg.norm(states - recorded, axis=-1) / np.linalg.norm(recorded, axis=-1)
            top = np.take_along_axis(logits, data[f"topk_idx{number}"].astype(np.int64), -1)
            best = np.argsort(-logits[-1])[:5].tolist()
            yield (
                f"{prompt['prompt']!r}",
                [
                    Check("token ids differ", float(not same), 0.0),
                    Check("residual states, relative", float(relative.max()), RESIDUALS),
                    Check(
                        "last logits", float(np.abs(logits[-1] - data[f"logits_last{number}"]).max()), LOGITS
                    ),
                    Check(
                        "50 best logits everywhere",
                        float(np.abs(top - data[f"topk_val{number}"]).max()),
                        LOGITS,
                    ),
                    Check("five best tokens differ", float(best != [t[0] for t in prompt["top5_last"]]), 0.0),
                ],
            )


def spot_checks(decoder: Decoder, name: str, spot: dict[str, Any]) -> list[Check]:
    """Shape, mean, deviation and first values of one matrix, under its Hugging Face name."""
    fields = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "output"}
    fields |= {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
    parts = name.split(".")
    if "layers" in parts:
        layer = int(parts[parts.index("layers") + 1])
        if parts[-2] in fields:
            weight = np.asarray(getattr(decoder.blocks, fields[parts[-2]]).weight[layer])
        else:
            norms = {"input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm"}
            weight = np.asarray(getattr(decoder.blocks, norms[parts[-2]]).scale[layer])
    else:
        weight = np.asarray(decoder.embedding if "embed_tokens" in name else decoder.final_norm.scale)
    first = np.abs(weight.reshape(-1)[:8] - np.array(spot["first8"])).max()
    return [
        Check(f"{name}: shape differs", float(list(weight.shape) != spot["shape"]), 0.0),
        Check(f"{name}: mean", abs(float(weight.astype(np.float64).mean()) - spot["mean"]), 1e-6),
        Check(f"{name}: deviation", abs(float(weight.astype(np.float64).std()) - spot["std"]), 1e-5),
        Check(f"{name}: first eight", float(first), 1e-6),
    ]


def everything(folder: Path) -> Iterator[tuple[str, list[Check]]]:
    """All checks that the folder has data for."""
    clouds = folder / "irreducibility.npz"
    if clouds.exists():
        with np.load(clouds) as data:
            for name in sorted({key.split("/")[0] for key in data.files}):
                yield f"cloud {name}", cloud_checks(data, name)
    if (folder / "smollm2.npz").exists():
        yield from model_checks(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--golden", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    present = [arguments.golden / n for n in ("irreducibility.npz", "smollm2.npz")]
    if not any(path.exists() for path in present):
        parser.error(f"{arguments.golden} holds neither irreducibility.npz nor smollm2.npz")
    return report(str(arguments.golden), everything(arguments.golden), arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
