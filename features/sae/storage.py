"""Autoencoders on disk: SAELens folders (read and written), GemmaScope npz, EleutherAI TopK folders (read).

Keys and defaults that older SAELens versions wrote are understood. Nothing is unpickled.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from features.arrays import AnyArray
from features.extras import require
from features.lm.hf_folder import open_safetensors, read_floats, read_json
from features.sae.config import NORMALIZATIONS, Activation, Normalize, SAEConfig
from features.sae.model import SAE
from features.strict_keys import KnownKeys

_RENAMED = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
_ARCHITECTURES: dict[str, Activation] = {
    "standard": "relu",
    "topk": "topk",
    "batchtopk": "batchtopk",
    "jumprelu": "jumprelu",
}
_SAELENS = KnownKeys(
    read=(
        "architecture|activation_fn|activation_fn_kwargs|d_in|d_sae|k|apply_b_dec_to_input|metadata",
        "normalize_activations|reshape_activations|rescale_acts_by_decoder_norm|hook_name|model_name",
        "finetuning_scaling_factor",  # whose tensor is looked at
    ),
    # Where it was read, and how it was trained.
    harmless=(
        "hook_(layer|layers|head_index|eval)|context_size|prepend_bos|exclude_\\w+|seqpos_slice|dataset\\w*|streaming",
        "is_dataset_\\w+|(use_)?cached_activations(_path)?|neuronpedia_id|sae_lens_\\w+|model_\\w+|dtype|device|seed",
        "(act_store|train|eval|wandb|log|checkpoint|adam|lr|l0|l1|lp|mse|dead|ghost|feature|resample|buffer|llm)_\\w+",
        "(autocast|compile|decoder|init|jumprelu|aux|topk_threshold|matryoshka|n|store_batch|tokens_per)_\\w+|lr",
        "from_pretrained_path|expansion_factor|checkpoint\\w*|use_ghost_grads|training_tokens|run_name|verbose",
        "normalize_sae_decoder|noise_scale|b_dec_init_method|scale_sparsity_penalty_by_decoder_norm|autocast",
        "l1_coefficient|lp_norm|logger|use_matryoshka_\\w+|resume\\w*|output_path|sparsity\\w*|name|version",
    ),
    fixed={"use_error_term|input_unit_norm|is_transcoder": (False,)},
)
_SAELENS_KWARGS = KnownKeys(read=("k",), harmless=(), fixed={"postact_fn": ("relu",)})
_ELEUTHER = KnownKeys(
    read=("k|num_latents|signed|transcode|multi_topk|activation|d_in",),
    harmless=("expansion_factor|normalize_decoder|hookpoint|layers?|name|seed|init_seeds",),
    fixed={"normalize_io|skip_connection": (False,)},
)
_OURS = {"cfg.json", "sae_weights.safetensors", "sparsity.safetensors"}
_PICKLES = {".pt", ".pth", ".pkl", ".bin", ".ckpt"}


def _settings(path: Path) -> dict[str, Any]:
    found = {_RENAMED.get(key, key): value for key, value in read_json(path).items()}
    metadata = found.get("metadata")
    if isinstance(metadata, dict):  # from version 6 on, facts about the model stand there
        found = {**metadata, **found}
    return found


def _normalization(value: object, path: Path) -> Normalize:
    if value is None or value is False:
        return "none"
    if value is True:
        return "expected_average_only_in"
    if value not in NORMALIZATIONS:
        raise ValueError(
            f"{path}: normalize_activations {value!r}; supported are {', '.join(NORMALIZATIONS)}"
        )
    return value


def _saelens_config(path: Path, d_in: int, d_sae: int) -> SAEConfig:
    found = _settings(path)
    for key, actual in (("d_in", d_in), ("d_sae", d_sae)):
        if key in found and found[key] != actual:
            raise ValueError(f"{path}: {key} is {found[key]}, but W_enc says {actual}")
    if found.get("reshape_activations", "none") not in {"none", None}:
        raise ValueError(f"{path}: reshape_activations {found['reshape_activations']!r} is not supported")
    _SAELENS.check(path, {_RENAMED.get(key, key): value for key, value in read_json(path).items()})
    kwargs = found.get("activation_fn_kwargs") or {}
    _SAELENS_KWARGS.check(f"{path}: activation_fn_kwargs", kwargs)
    activation = found.get("activation_fn", "relu")
    architecture = found.get("architecture", "standard")
    if architecture == "standard" and activation == "topk":
        architecture = "topk"
    if architecture not in _ARCHITECTURES:
        raise ValueError(f"{path}: architecture {architecture!r}; supported are {', '.join(_ARCHITECTURES)}")
    if architecture == "standard" and activation != "relu":
        raise ValueError(f"{path}: activation_fn {activation!r} in a standard SAE; supported is relu")
    kind = _ARCHITECTURES[architecture]
    k = found.get("k", kwargs.get("k")) if kind in {"topk", "batchtopk"} else None
    if kind in {"topk", "batchtopk"} and type(k) is not int:
        raise ValueError(f"{path}: a {kind} SAE needs the key 'k' (or activation_fn_kwargs.k), found {k!r}")
    return SAEConfig(
        d_in, d_sae, kind, None if k is None else int(k),
        apply_b_dec_to_input=_switch(path, found, "apply_b_dec_to_input"),
        normalize_activations=_normalization(found.get("normalize_activations"), path),
        hook_name=str(found.get("hook_name") or ""), model_name=str(found.get("model_name") or ""),
    )  # fmt: skip


def _switch(path: Path, found: dict[str, Any], key: str) -> bool:
    value = found.get(key, True)
    if not isinstance(value, bool):
        raise ValueError(f"{path}: key {key!r} is {value!r}, expected true or false")
    return value


_Tensors = dict[str, Float[np.ndarray, "..."]]  # by name


def _tensors(path: Path) -> _Tensors:
    handle = open_safetensors(path)
    return {name: read_floats(path, handle, name).astype(np.float32) for name in handle.keys()}  # noqa: SIM118


def _check(path: Path, tensors: _Tensors, expected: dict[str, tuple[int, ...]]) -> None:
    """Raises ValueError for tensors that are missing, misshapen, not finite, or part of something else."""
    spare = sorted(set(tensors) - set(expected))
    if spare and set(expected) <= set(tensors):
        raise ValueError(
            f"{path}: tensor {spare[0]!r} is no part of such an autoencoder, which has {sorted(expected)}"
        )
    for name, shape in expected.items():
        if name not in tensors:
            raise ValueError(f"{path}: tensor {name!r} is missing; it holds {sorted(tensors)}")
        if tensors[name].shape != shape:
            raise ValueError(f"{path}: tensor {name!r} has shape {tensors[name].shape}, expected {shape}")
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"{path}: tensor {name!r} is not finite")


def _sizes(path: Path, tensors: _Tensors, name: str) -> tuple[int, int]:
    """Rows and columns of a matrix."""
    if name not in tensors:
        raise ValueError(f"{path}: tensor {name!r} is missing; it holds {sorted(tensors)}")
    if tensors[name].ndim != 2:
        raise ValueError(f"{path}: tensor {name!r} has shape {tensors[name].shape}, expected a matrix")
    rows, columns = tensors[name].shape
    return rows, columns


def _build(config: SAEConfig, t: _Tensors, scale: float | None = None) -> SAE:
    threshold = t.get("threshold")
    if config.activation == "batchtopk" and threshold is not None:
        threshold = threshold.reshape(())
    return SAE(
        jnp.asarray(t["W_enc"]),
        jnp.asarray(t["b_enc"]),
        jnp.asarray(t["W_dec"]),
        jnp.asarray(t["b_dec"]),
        None if threshold is None else jnp.asarray(threshold),
        None if scale is None else jnp.asarray(scale, jnp.float32),
        config,
    )


def _load_saelens(folder: Path) -> SAE:
    file = folder / "sae_weights.safetensors"
    if not file.exists():
        raise ValueError(f"{folder}: sae_weights.safetensors is missing; {_pickle_hint(folder)}")
    t = _tensors(file)
    d_in, d_sae = _sizes(file, t, "W_enc")
    config = _saelens_config(folder / "cfg.json", d_in, d_sae)
    if "log_threshold" in t:  # what early JumpReLU trainings stored
        t["threshold"] = np.exp(t.pop("log_threshold"))
    factor = t.pop("scaling_factor", None)
    if factor is not None and not np.allclose(factor, 1):
        raise ValueError(
            f"{file}: scaling_factor is not 1 everywhere; gated or rescaled SAEs are not supported"
        )
    if _settings(folder / "cfg.json").get("rescale_acts_by_decoder_norm"):
        norms = np.linalg.norm(t.get("W_dec", np.ones((1, 1))), axis=1)
        if not np.allclose(norms, 1, atol=1e-3):
            raise ValueError(
                f"{folder / 'cfg.json'}: rescale_acts_by_decoder_norm with decoder rows of norms "
                f"{norms.min():.3g} to {norms.max():.3g}; fold the norms into the weights first"
            )
    # SAELens saves a trained BatchTopK as a JumpReLU whose thresholds are all alike.
    expected = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    if config.activation == "jumprelu":
        expected["threshold"] = (d_sae,)
    if config.activation == "batchtopk":
        if "threshold" not in t:
            raise ValueError(f"{file}: a BatchTopK SAE needs its 'threshold'")
        expected["threshold"] = t["threshold"].shape
    _check(file, t, expected)
    scale = None
    if config.normalize_activations == "expected_average_only_in":
        warnings.warn(
            f"{folder}: inputs are to be scaled to a mean norm of sqrt(d_in), but the file does not say by "
            "what; they are taken as they come. Scale them, or set the `scale` of the autoencoder",
            stacklevel=4,
        )
        scale = 1.0
    return _build(config, t, scale)


def _load_gemmascope(file: Path) -> SAE:
    try:
        with np.load(file, allow_pickle=False) as data:
            stored = {name: data[name] for name in data.files}
    except Exception as error:  # zipfile, zlib and numpy have many kinds for damaged files
        raise ValueError(f"{file} is no npz of plain arrays: {error}") from error
    odd = [name for name, value in stored.items() if value.dtype.kind not in "fiu"]
    if odd:
        raise ValueError(f"{file}: array {odd[0]!r} is of type {stored[odd[0]].dtype}, expected real numbers")
    found: _Tensors = {name: value.astype(np.float32) for name, value in stored.items()}
    names = {"w_enc": "W_enc", "w_dec": "W_dec"}
    t: _Tensors = {names.get(name, name): value for name, value in found.items()}
    d_in, d_sae = _sizes(file, t, "W_enc")
    shapes = {"b_enc": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,), "threshold": (d_sae,)}
    _check(file, t, {"W_enc": (d_in, d_sae), **shapes})
    return _build(SAEConfig(d_in, d_sae, "jumprelu", apply_b_dec_to_input=False), t)


def _load_eleuther(folder: Path) -> SAE:
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise ValueError(f"{folder}: expected one .safetensors file, found {[f.name for f in files]}")
    t = _tensors(files[0])
    found = read_json(folder / "cfg.json")
    d_sae, d_in = _sizes(files[0], t, "encoder.weight")
    if type(found.get("k")) is not int:
        raise ValueError(f"{folder / 'cfg.json'}: key 'k' is {found.get('k')!r}, expected an integer")
    odd = [key for key in ("signed", "transcode", "multi_topk") if found.get(key)] + ["W_skip"] * (
        "W_skip" in t
    )
    if odd or found.get("activation", "topk") != "topk":
        raise ValueError(f"{folder}: {odd or found['activation']} is not supported; plain TopK is")
    _ELEUTHER.check(folder / "cfg.json", found)
    for key, allowed in (("num_latents", (None, 0, d_sae)), ("d_in", (None, d_in))):
        if found.get(key) not in allowed:
            raise ValueError(f"{folder / 'cfg.json'}: {key} is {found[key]}, the weights say {allowed[-1]}")
    shapes = {
        "encoder.weight": (d_sae, d_in),
        "encoder.bias": (d_sae,),
        "W_dec": (d_sae, d_in),
        "b_dec": (d_in,),
    }
    _check(files[0], t, shapes)
    t = {**t, "W_enc": t["encoder.weight"].T, "b_enc": t["encoder.bias"]}
    return _build(SAEConfig(d_in, d_sae, "topk", int(found["k"])), t)


def _pickle_hint(folder: Path) -> str:
    found = sorted(p.name for p in folder.glob("*") if p.suffix in _PICKLES)
    if not found:
        return "expected cfg.json and sae_weights.safetensors, or an EleutherAI folder, or params.npz"
    return f"{found} are pickles, which can run code when read and are not read here"


def load_sae(path: str | Path) -> SAE:
    """Reads an autoencoder.

    Args: path: a SAELens folder (cfg.json, sae_weights.safetensors), an EleutherAI TopK folder (cfg.json,
      sae.safetensors), or a GemmaScope params.npz (or its folder).
    Raises: ValueError naming the file, key or tensor that is missing, misshapen or unsupported; for pickles.
    """
    path = Path(path)
    if path.suffix in _PICKLES:
        raise ValueError(
            f"{path} is a pickle: reading one can run any code, so it is refused. Save it as a SAELens "
            "folder with sae_weights.safetensors"
        )
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    try:
        return _load(path)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(
            f"{path}: a setting is missing, of the wrong type or out of range ({error})"
        ) from error


def _load(path: Path) -> SAE:
    if path.is_file():
        if path.suffix == ".npz":
            return _load_gemmascope(path)
        raise ValueError(f"{path}: expected a folder, or a GemmaScope .npz file")
    if (path / "params.npz").exists():
        return _load_gemmascope(path / "params.npz")
    if not (path / "cfg.json").exists():
        raise ValueError(f"{path}: cfg.json is missing; {_pickle_hint(path)}")
    if (path / "sae_weights.safetensors").exists() or not list(path.glob("*.safetensors")):
        return _load_saelens(path)
    return _load_eleuther(path)


def saelens_settings(sae: SAE) -> dict[str, Any]:
    """cfg.json as SAELens (6 and later) writes it."""
    config = sae.config
    architecture = {"relu": "standard"}.get(config.activation, config.activation)
    settings: dict[str, Any] = {
        "architecture": architecture,
        "d_in": config.d_in,
        "d_sae": config.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": config.apply_b_dec_to_input,
        "normalize_activations": config.normalize_activations,
        "reshape_activations": "none",
        "metadata": {
            "model_name": config.model_name,
            "hook_name": config.hook_name,
            "prepend_bos": False,
            "sae_lens_training_version": None,
        },
    }
    if config.activation == "topk":
        settings["k"] = config.k
        settings["rescale_acts_by_decoder_norm"] = False
    if config.activation == "batchtopk":
        # A trained BatchTopK encodes by its threshold: for SAELens that is a JumpReLU.
        settings["architecture"] = "jumprelu"
    return settings


def check_destination(folder: Path) -> None:
    """Raises ValueError where `save_sae` would overwrite anything but an autoencoder."""
    if folder.resolve() == Path.cwd():
        raise ValueError(f"{folder} is the current folder; name one for the autoencoder")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder")
    others = sorted(p.name for p in folder.iterdir() if p.name not in _OURS) if folder.exists() else []
    if others:
        raise ValueError(f"{folder} exists and is no SAELens folder: it holds {others[:3]}; choose another")


def save_sae(sae: SAE, folder: str | Path, *, frequency: Float[AnyArray, " d_sae"] | None = None) -> Path:
    """Writes a SAELens folder: cfg.json, sae_weights.safetensors, and sparsity.safetensors given frequencies.

    The folder appears whole or not at all. A scalar input scale is folded into the weights first.
    Raises: ValueError if the folder exists and holds something else.
    """
    from features.sae.model import fold_scale

    numpy_files = require("safetensors.numpy")
    sae = fold_scale(sae)
    folder = Path(folder)
    check_destination(folder)
    t = {name: np.ascontiguousarray(getattr(sae, name)) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    if sae.threshold is not None:
        t["threshold"] = (
            np.broadcast_to(np.asarray(sae.threshold), (sae.config.d_sae,)).astype(np.float32).copy()
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        (draft / "cfg.json").write_text(json.dumps(saelens_settings(sae), indent=1))
        numpy_files.save_file(t, draft / "sae_weights.safetensors")
        if frequency is not None:
            log = np.log10(np.maximum(np.asarray(frequency, np.float32), 1e-10))
            numpy_files.save_file({"sparsity": log}, draft / "sparsity.safetensors")
        draft.chmod(0o755)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    if folder.exists():
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-old-"))
        folder.replace(old / "was")
        draft.replace(folder)
        shutil.rmtree(old)
    else:
        draft.replace(folder)
    return folder
