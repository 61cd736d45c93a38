"""Autoencoder files against SAELens itself, both ways.

    python -m benchmarks.features_saelens

Needs sae-lens and torch (pip install sae-lens). We write a folder and SAELens reads it; SAELens writes one and
we read it; latents and reconstructions of random activations are compared.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.checks import Check, report
from features.sae.config import SAEConfig
from features.sae.model import SAE, encode, init, reconstruct
from features.sae.storage import load_sae, save_sae

WIDTH, LATENTS = 12, 40
X = np.random.default_rng(5).normal(size=(64, WIDTH)).astype(np.float32)
KINDS = {
    "relu": {}, "relu without input bias": {"apply_b_dec_to_input": False},
    "relu, layer norm": {"normalize_activations": "layer_norm"},
    "relu, constant norm": {"normalize_activations": "constant_norm_rescale"},
    "topk": {"activation": "topk", "k": 5}, "jumprelu": {"activation": "jumprelu"},
    "batchtopk": {"activation": "batchtopk", "k": 5},
}  # fmt: skip


def example(kind: str) -> SAE:
    """A random autoencoder of a kind."""
    key = jax.random.key(1)
    sae = init(SAEConfig(WIDTH, LATENTS, **KINDS[kind]), key=key, b_dec=0.1 * jnp.arange(WIDTH))
    noise = 0.1 * jax.random.normal(key, (LATENTS,))
    threshold = None if sae.threshold is None else jnp.abs(noise).mean() + 0 * sae.threshold
    return SAE(sae.W_enc, noise, sae.W_dec, sae.b_dec, threshold, sae.scale, sae.config)


def compare(title: str, sae: SAE, other: Any) -> list[Check]:
    """Latents and reconstructions of ours and theirs."""
    import torch  # pyright: ignore[reportMissingImports]

    with torch.no_grad():
        x = torch.as_tensor(X)
        latents = other.encode(x)
        decoded = other.decode(latents)
    return [
        Check(f"{title}: latents", float(np.abs(np.asarray(encode(sae, X)) - latents.numpy()).max()), 1e-5),
        Check(
            f"{title}: reconstructions",
            float(np.abs(np.asarray(reconstruct(sae, X)) - decoded.numpy()).max()),
            1e-5,
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.parse_args()
    from sae_lens import SAE as Theirs  # noqa: N811  # pyright: ignore[reportMissingImports]

    def rows() -> Iterator[tuple[str, list[Check]]]:
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as folder:
                sae = example(kind)
                path = save_sae(sae, Path(folder) / "sae")
                other = Theirs.load_from_disk(str(path), device="cpu")
                checks = compare("ours, read by SAELens", sae, other)
                back = Path(folder) / "theirs"
                other.save_model(str(back))
                checks += compare("SAELens's, read by us", load_sae(back), other)
            yield kind, checks

    return report("SAELens", rows(), None)


if __name__ == "__main__":
    raise SystemExit(main())
