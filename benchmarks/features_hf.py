"""Our decoders against Hugging Face transformers, on small random models of every family.

    python -m benchmarks.features_hf --record tests/data/features_hf.npz

Needs torch and transformers (pip install torch transformers). Weights come from numpy's generator and are
written as a folder of safetensors, which both sides read, so this also tests the loader. The record
lets the test suite repeat the comparison without torch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from benchmarks.checks import Check, report

LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 24, "intermediate_size": 40,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 4,
    "vocab_size": 32, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu",
}  # fmt: skip
FAMILIES = {
    "llama": {**LLAMA, "rope_theta": 500.0, "tie_word_embeddings": True},
    "llama3": {
        **LLAMA, "rope_theta": 500.0, "tie_word_embeddings": False,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
    },
    "mistral": {**LLAMA, "model_type": "mistral", "architectures": ["MistralForCausalLM"], "rope_theta": 100.0,
                "sliding_window": 4, "tie_word_embeddings": False},
    "gpt2": {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 24, "n_head": 4, "n_layer": 2,
        "n_positions": 64, "vocab_size": 32, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
        "tie_word_embeddings": True,
    },
}  # fmt: skip
TOKENS = np.random.default_rng(7).integers(0, 32, (1, 12))


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a family's checkpoint."""
    if config["model_type"] == "gpt2":
        d = config["n_embd"]
        found = {"wte.weight": (32, d), "wpe.weight": (64, d), "ln_f.weight": (d,), "ln_f.bias": (d,)}
        for layer in range(config["n_layer"]):
            block = {
                "attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "mlp.c_fc": (d, 4 * d), "mlp.c_proj": (4 * d, d),
            }  # fmt: skip
            for name, shape in block.items():
                found[f"h.{layer}.{name}.weight"] = shape
                found[f"h.{layer}.{name}.bias"] = shape[-1:]
            for norm in ("ln_1", "ln_2"):
                found[f"h.{layer}.{norm}.weight"] = found[f"h.{layer}.{norm}.bias"] = (d,)
        return {f"transformer.{name}": shape for name, shape in found.items()}
    d, f = config["hidden_size"], config["intermediate_size"]
    q, k = (
        config["num_attention_heads"] * config["head_dim"],
        config["num_key_value_heads"] * config["head_dim"],
    )
    found = {"model.embed_tokens.weight": (32, d), "model.norm.weight": (d,)}
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (32, d)
    for layer in range(config["num_hidden_layers"]):
        block = {
            "self_attn.q_proj": (q, d), "self_attn.k_proj": (k, d), "self_attn.v_proj": (k, d),
            "self_attn.o_proj": (d, q), "mlp.gate_proj": (f, d), "mlp.up_proj": (f, d), "mlp.down_proj": (d, f),
            "input_layernorm": (d,), "post_attention_layernorm": (d,),
        }  # fmt: skip
        found |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    return found


def write_model(folder: Path, config: dict, *, seed: int = 3) -> Path:
    """A folder that both transformers and `features.load` read (without a tokenizer)."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(seed)
    tensors = {
        name: (0.3 * rng.normal(size=shape) + (name.endswith("norm.weight") or ".ln_" in name)).astype(
            np.float32
        )
        for name, shape in shapes(config).items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


_LogitsAndStates = tuple[Float[np.ndarray, "tokens vocab"], Float[np.ndarray, "states tokens width"]]


def ours(folder: Path) -> _LogitsAndStates:
    """Logits and residual states."""
    from features.lm.assemble import assemble
    from features.lm.decoder import forward, residuals
    from features.lm.hf_folder import HFSource

    source = HFSource(folder)
    decoder = assemble(source, source.config())
    tokens = jnp.asarray(TOKENS)
    return np.asarray(forward(decoder, tokens))[0], np.asarray(residuals(decoder, tokens))[:, 0]


def theirs(folder: Path) -> _LogitsAndStates:
    """The same from transformers; its last state is after the final norm and is left out."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import AutoModelForCausalLM  # pyright: ignore[reportMissingImports]

    model = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    with torch.no_grad():
        out = model(torch.as_tensor(TOKENS), output_hidden_states=True)
    states = np.stack([state[0].numpy() for state in out.hidden_states[:-1]])
    return out.logits[0].numpy(), states


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    recorded = {}

    def rows() -> Iterator[tuple[str, list[Check]]]:
        for name, config in FAMILIES.items():
            with tempfile.TemporaryDirectory() as folder:
                path = write_model(Path(folder), config)
                mine, states = ours(path)
                logits, other = theirs(path)
            recorded[name] = logits
            yield (
                name,
                [
                    Check("logits", float(np.abs(mine - logits).max()), 2e-5),
                    Check("residual states", float(np.abs(states[:-1] - other).max()), 2e-5),
                ],
            )

    status = report("transformers", rows(), None)
    if arguments.record:
        np.savez_compressed(arguments.record, **recorded)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
