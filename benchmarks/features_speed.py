"""Speeds as ratios inside one run.

    python -m benchmarks.features_speed            # needs torch and transformers for the first and third part
    python -m benchmarks.features_speed --quick

1. SmolLM2's forward, 8 x 128 tokens, float32, all logits, against transformers on the same weights.
2. An intervention sweep (12 x 11 patches in every layer) against full forwards of the same patched prompts.
3. Training steps of an autoencoder, 576 -> 8192, batch 4096, against the same model and optimizer in torch.
4. Indices of 1000 clouds of 20,000 points (a sample of them, scaled up, with --quick).

Each ratio is the median of alternating pairs; both sides use the same cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import features
from features.arrays import AnyArray
from features.lm.decoder import forward
from features.lm.edits import Patch
from features.sae.config import Activation
from features.sae.step import Run, init_run, run_chunk

OUTPUT = Path(__file__).parent / "results" / "features_speed.json"


def seconds(function: Callable[[], Any]) -> float:
    """One call."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def paired(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> tuple[float, float, float]:
    """Median seconds of both, and median of theirs / ours, after one warm-up of each."""
    for warm_up in (ours, theirs):
        warm_up()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    mine, other = (float(np.median(column)) for column in zip(*pairs, strict=True))
    return mine, other, float(np.median([b / a for a, b in pairs]))


def torch_llama(model: features.LanguageModel) -> Any:
    """Transformers' Llama with our weights."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import LlamaConfig, LlamaForCausalLM  # pyright: ignore[reportMissingImports]

    c, d = model.decoder.config, model.decoder
    settings = LlamaConfig(
        vocab_size=c.vocab_size, hidden_size=c.width, intermediate_size=c.mlp_width, num_hidden_layers=c.num_layers,
        num_attention_heads=c.num_heads, num_key_value_heads=c.num_kv_heads, rms_norm_eps=c.norm_eps,
        max_position_embeddings=c.context, tie_word_embeddings=True, rope_theta=c.rope_base,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_base},
    )  # fmt: skip
    theirs = LlamaForCausalLM(settings).eval()
    state = {
        "model.embed_tokens.weight": d.embedding,
        "lm_head.weight": d.embedding,
        "model.norm.weight": d.final_norm.scale,
    }
    names = {
        "self_attn.q_proj": d.blocks.query.weight, "self_attn.k_proj": d.blocks.key.weight,
        "self_attn.v_proj": d.blocks.value.weight, "self_attn.o_proj": d.blocks.output.weight,
        "mlp.up_proj": d.blocks.up.weight, "mlp.down_proj": d.blocks.down.weight,
        "input_layernorm": d.blocks.attention_norm.scale, "post_attention_layernorm": d.blocks.mlp_norm.scale,
    }  # fmt: skip
    if d.blocks.gate is not None:
        names["mlp.gate_proj"] = d.blocks.gate.weight
    for layer in range(c.num_layers):
        for name, value in names.items():
            state[f"model.layers.{layer}.{name}.weight"] = value[layer]
    theirs.load_state_dict({k: torch.as_tensor(np.array(v)) for k, v in state.items()})
    return theirs


def forward_row(model: features.LanguageModel, repeats: int) -> dict[str, Any]:
    import torch  # pyright: ignore[reportMissingImports]

    tokens = np.random.default_rng(0).integers(0, model.decoder.config.vocab_size, (8, 128))
    theirs = torch_llama(model)
    ids, ours_ids = torch.as_tensor(tokens), jnp.asarray(tokens)
    with torch.no_grad():
        gap = np.abs(
            np.asarray(forward(model.decoder, ours_ids)) - theirs(ids, use_cache=False).logits.numpy()
        ).max()
        mine, other, ratio = paired(
            lambda: forward(model.decoder, ours_ids),
            lambda: theirs(ids, use_cache=False).logits.sum().item(),
            repeats,
        )
    return {"ours s": mine, "transformers s": other, "ratio": ratio, "largest logit gap": float(gap)}


def sweep_row(model: features.LanguageModel, layers: int) -> dict[str, Any]:
    """Every layer's 132 whole-layer patches of next-month, prefixes reused, against full forwards."""
    cached = features.run_task(model, features.get_task("next-month"))
    e = cached.encoded
    from features.circles.intervention import all_pairs, effect, patch_values
    from features.circles.prompting import patched_logits

    pairs = all_pairs(cached)
    depth = cached.num_layers
    chosen = np.linspace(0, depth - 1, layers).round().astype(int)
    tokens = jnp.asarray(e.tokens[pairs.row])
    answers = jnp.asarray(e.answers)
    whole = jax.jit(lambda d, t, edit: forward(d, t, None, edit)[:, -1][:, answers])

    def full(layer: int) -> Float[Array, "patches period"]:
        value = patch_values(cached, pairs, layer, "layer")
        return whole(model.decoder, tokens, Patch(jnp.asarray(layer), jnp.asarray(e.column), value))

    def reused(layer: int) -> Float[np.ndarray, "patches period"]:
        return patched_logits(cached, layer, pairs.row, patch_values(cached, pairs, layer, "layer"))

    gap = max(float(np.abs(np.asarray(full(int(i))) - reused(int(i))).max()) for i in (0, depth // 2))
    mine, other, _ = paired(
        lambda: [reused(int(i)) for i in chosen],
        lambda: [jax.block_until_ready(full(int(i))) for i in chosen],
        1,
    )
    found = effect(cached, pairs, reused(0))
    return {"layers": len(chosen), "patches": len(pairs.row), "reused s": mine, "full forwards s": other,
            "ratio": other / mine, "largest logit gap": gap, "effect at layer 0": found.logit_difference}  # fmt: skip


def torch_trainer(sae: features.SAE, kind: Activation, k: int, sparsity: float) -> Callable[[Any], float]:
    """The same autoencoder, loss and optimizer in eager torch, as SAELens trains them."""
    import torch  # pyright: ignore[reportMissingImports]

    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    p = {n: torch.nn.Parameter(torch.as_tensor(np.array(getattr(sae, n)))) for n in names}
    adam = torch.optim.Adam(p.values(), lr=1e-3)

    def step(x: Any) -> float:
        pre = (x - p["b_dec"]) @ p["W_enc"] + p["b_enc"]
        if kind == "topk":
            best = torch.topk(pre, k, dim=-1)
            latents = torch.zeros_like(pre).scatter(-1, best.indices, torch.relu(best.values))
            penalty = 0.0
        else:
            latents = torch.relu(pre)
            penalty = sparsity * latents.sum(-1).mean()
        out = latents @ p["W_dec"] + p["b_dec"]
        loss = ((x - out) ** 2).sum(-1).mean() + penalty
        adam.zero_grad()
        loss.backward()
        with torch.no_grad():
            along = (p["W_dec"].grad * p["W_dec"]).sum(-1, keepdim=True)
            p["W_dec"].grad -= along * p["W_dec"]
        adam.step()
        with torch.no_grad():
            p["W_dec"] /= p["W_dec"].norm(dim=-1, keepdim=True)
        return loss.item()

    return step


def training_row(kind: Activation, steps: int, batch: int, latents: int) -> dict[str, Any]:
    import torch  # pyright: ignore[reportMissingImports]

    k = 32 if kind == "topk" else None
    x = np.random.default_rng(0).normal(size=(steps, batch, 576)).astype(np.float32)
    config = features.TrainConfig(
        steps=10_000, batch=batch, warmup=1, learning_rate=1e-3, sparsity=0.1, dead_after=10**6
    )
    run = init_run(features.SAEConfig(576, latents, kind, k), config, x[0], key=jax.random.key(0))
    theirs = torch_trainer(run.sae, kind, k or 1, config.sparsity)
    held: list[Run] = [run]

    def ours() -> Float[AnyArray, " steps"]:
        held[0], info = run_chunk(config, held[0], jnp.asarray(x))
        return info.loss

    def other() -> list[float]:
        return [theirs(torch.as_tensor(part)) for part in x]

    mine, their, ratio = paired(ours, other, 3)
    return {"steps": steps, "ours steps/s": steps / mine, "torch steps/s": steps / their, "ratio": ratio}


def index_row(clouds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    made = [rng.normal(size=(20_000, 2)).astype(np.float32) for _ in range(clouds)]
    features.measure_many(made[:2])
    start = time.perf_counter()
    features.measure_many(made)
    taken = time.perf_counter() - start
    return {"clouds": clouds, "seconds": taken, "seconds for 1000": 1000 * taken / clouds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    quick = arguments.quick
    result: dict[str, Any] = {"cores": os.cpu_count(), "device": jax.devices()[0].device_kind}
    failures = []
    has_torch = all(importlib.util.find_spec(n) for n in ("torch", "transformers"))
    if not has_torch:
        print("torch and transformers are not installed: the comparisons with them are left out")
    model = features.load("smollm2")

    def show(name: str, row: dict[str, Any], least: float | None = None, key: str = "ratio") -> None:
        result[name] = row
        said = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        ok = least is None or row[key] >= least
        print(
            f"{name}: {said}" + ("" if least is None else f"  (asked {least}) {'ok' if ok else 'SHORT'}"),
            flush=True,
        )
        if not ok:
            failures.append(name)

    if has_torch:
        show("forward", forward_row(model, 3 if quick else 9), 1.0)
    show("sweep", sweep_row(model, 4 if quick else model.decoder.config.num_layers), 3.0)
    if has_torch:
        size = (2, 1024, 2048) if quick else (6, 4096, 8192)
        for kind in ("topk", "relu"):
            show(f"training {kind}", training_row(kind, *size), 1.0)
    row = index_row(40 if quick else 1000)
    show("indices", {**row, "asked per second": 1000 / 60, "per second": row["clouds"] / row["seconds"]},
         1000 / 60, "per second")  # fmt: skip
    result["failures"] = failures
    output = arguments.json or (None if quick else OUTPUT)
    if output:
        output.write_text(json.dumps(result, indent=1))
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
