"""From a file's tensors to a `Decoder`: which name goes where, and onto which devices.

Each tensor is read once; over a mesh every device gets its own part, so that a model need not fit one
device, nor the host more than one field of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from features.lm.config import DecoderConfig
from features.lm.decoder import Block, Decoder, Linear, Norm


@runtime_checkable
class Source(Protocol):
    """What a file format must offer."""

    layout: str

    @property
    def path(self) -> object: ...
    def names(self) -> set[str]: ...
    def shape(self, name: str) -> tuple[int, ...]: ...
    def read(self, name: str) -> Shaped[np.ndarray, "..."]: ...


class Piece(NamedTuple):
    """Where a weight lies in a file; `{}` in a name stands for the block."""

    name: str
    transpose: bool = False  # stored (in, out)
    part: int | None = None  # of a fused query-key-value matrix: 0, 1 or 2


def _llama(block: str, attention: str, mlp: str, norms: tuple[str, str]) -> dict[str, Piece]:
    q, k, v, o = attention.split()
    gate, up, down = mlp.split()
    matrices = dict(query=q, key=k, value=v, output=o, gate=gate, up=up, down=down)
    pieces = {name: Piece(f"{block}.{there}.weight") for name, there in matrices.items()}
    for field, there in zip(("attention_norm", "mlp_norm"), norms, strict=True):
        pieces[f"{field}.scale"] = Piece(f"{block}.{there}.weight")
    return pieces


def _gpt2(
    block: str, fused: str, output: str, up: str, down: str, norms: tuple[str, str], transpose: bool
) -> dict[str, Piece]:
    pieces = {}
    for part, field in enumerate(("query", "key", "value")):
        pieces[field] = Piece(f"{block}.{fused}.weight", transpose, part)
        pieces[f"{field}.bias"] = Piece(f"{block}.{fused}.bias", False, part)
    for field, there in zip(("output", "up", "down"), (output, up, down), strict=True):
        pieces[field] = Piece(f"{block}.{there}.weight", transpose)
        pieces[f"{field}.bias"] = Piece(f"{block}.{there}.bias")
    for field, there in zip(("attention_norm", "mlp_norm"), norms, strict=True):
        pieces[f"{field}.scale"] = Piece(f"{block}.{there}.weight")
        pieces[f"{field}.shift"] = Piece(f"{block}.{there}.bias")
    return pieces


_LAYOUTS: dict[str, dict[str, Piece]] = {
    "hf-llama": {
        "embedding": Piece("model.embed_tokens.weight"),
        "final_norm.scale": Piece("model.norm.weight"),
        "unembedding": Piece("lm_head.weight"),
        **_llama("model.layers.{}", "self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj",
                 "mlp.gate_proj mlp.up_proj mlp.down_proj", ("input_layernorm", "post_attention_layernorm")),
    },
    "gguf-llama": {
        "embedding": Piece("token_embd.weight"),
        "final_norm.scale": Piece("output_norm.weight"),
        "unembedding": Piece("output.weight"),
        **_llama("blk.{}", "attn_q attn_k attn_v attn_output", "ffn_gate ffn_up ffn_down",
                 ("attn_norm", "ffn_norm")),
    },
    "hf-gpt2": {
        "embedding": Piece("wte.weight"),
        "position_embedding": Piece("wpe.weight"),
        "final_norm.scale": Piece("ln_f.weight"),
        "final_norm.shift": Piece("ln_f.bias"),
        "unembedding": Piece("lm_head.weight"),
        **_gpt2("h.{}", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj", ("ln_1", "ln_2"), True),
    },
    "gguf-gpt2": {
        "embedding": Piece("token_embd.weight"),
        "position_embedding": Piece("position_embd.weight"),
        "final_norm.scale": Piece("output_norm.weight"),
        "final_norm.shift": Piece("output_norm.bias"),
        "unembedding": Piece("output.weight"),
        **_gpt2("blk.{}", "attn_qkv", "attn_output", "ffn_up", "ffn_down", ("attn_norm", "ffn_norm"), False),
    },
}  # fmt: skip


def half_split_rows(
    weight: Shaped[np.ndarray, "outputs inputs"], heads: int
) -> Shaped[np.ndarray, "outputs inputs"]:
    """Query or key rows from GGUF's interleaved pairs to the half-split order of Hugging Face."""
    out, inputs = weight.shape
    return weight.reshape(heads, out // heads // 2, 2, inputs).swapaxes(1, 2).reshape(out, inputs)


_Module = TypeVar("_Module", bound=eqx.Module)


def _holding(kind: type[_Module], *fields: object) -> _Module:
    """A module whose fields hold something else than arrays, as `jax.tree.map` would make it.

    The constructor is not called: it may check that fields are arrays.
    """
    made = object.__new__(kind)
    for field, value in zip(dataclasses.fields(kind), fields, strict=True):
        object.__setattr__(made, field.name, value)
    return made


def partition_specs(config: DecoderConfig, parts: int, axis: str = "model") -> Decoder:
    """How weights spread over `parts` devices of a mesh axis: heads, MLP units and vocabulary are divided.

    A size that `parts` does not divide stays whole on every device.
    """
    heads = axis if config.num_heads % parts == 0 else None
    shared = axis if config.num_kv_heads % parts == 0 else None
    hidden = axis if config.mlp_width % parts == 0 else None
    words = axis if config.vocab_size % parts == 0 else None
    spec = PartitionSpec

    def split_out(name: str | None) -> Linear:
        return _holding(Linear, spec(None, name, None), spec(None, name) if config.bias else None)

    def split_in(name: str | None) -> Linear:
        return _holding(Linear, spec(None, None, name), spec() if config.bias else None)

    norm = (
        Norm(None, None)
        if config.norm == "none"
        else _holding(Norm, spec(), spec() if config.norm == "layer" else None)
    )
    block = Block(
        norm, split_out(heads), split_out(shared), split_out(shared), split_in(heads), norm,
        split_out(hidden) if config.activation == "swiglu" else None,
        split_out(hidden), split_in(hidden),
    )  # fmt: skip
    return _holding(
        Decoder,
        spec(words, None),
        spec() if config.positions == "learned" else None,
        block,
        norm,
        None if config.tied else spec(words, None),
        config,
    )


def automatic(mesh: Mesh) -> Mesh:
    """The same devices, with the compiler choosing where intermediate values lie.

    `jax.make_mesh` makes axes "explicit" by default, which asks every operation for its output's sharding.
    """
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def shard(model: Decoder, mesh: Mesh, axis: str = "model") -> Decoder:
    """The same model with its weights divided over a mesh axis (tensor parallelism)."""
    mesh = automatic(mesh)
    specs = partition_specs(model.config, mesh.shape[axis], axis)
    is_spec = lambda leaf: isinstance(leaf, PartitionSpec)  # noqa: E731
    return jax.tree.map(
        lambda s, leaf: jax.device_put(leaf, NamedSharding(mesh, s)), specs, model, is_leaf=is_spec
    )


def _place(
    shape: tuple[int, ...],
    dtype: np.dtype,
    sharding: Sharding,
    read: Callable[[int | None], Float[np.ndarray, "..."]],
    stacked: bool,
) -> Float[Array, "..."]:
    """An array on its devices from `read(layer)`; every layer is read once, each device gets its part."""
    parts: dict[tuple[tuple[int, int], ...], Float[np.ndarray, "..."]] = {}
    wanted = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        full = tuple(s.indices(n)[:2] for s, n in zip(index, shape, strict=True))  # pyright: ignore[reportArgumentType]  jax types the indices of devices that hold parts as optional
        wanted[device] = full
        parts.setdefault(full, np.empty([b - a for a, b in full], dtype))
    for layer in range(shape[0]) if stacked else [None]:
        values = read(layer)
        for full, buffer in parts.items():
            bounds = full if layer is None else full[1:]
            piece = values[tuple(slice(*b) for b in bounds)]
            if layer is None:
                buffer[...] = piece
            elif full[0][0] <= layer < full[0][1]:
                buffer[layer - full[0][0]] = piece
    arrays = [jax.device_put(parts[full], device) for device, full in wanted.items()]
    return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def assemble(
    source: Source, config: DecoderConfig, *, dtype: DTypeLike = jnp.float32, mesh: Mesh | None = None
) -> Decoder:
    """Reads a model; over a mesh with an axis "model", divided as in `partition_specs`.

    Raises: ValueError naming a tensor that is missing, of another shape than `config` implies, not finite, or
      not part of such a model, so that it would be left out.
    """
    layout = dict(_LAYOUTS[source.layout])
    if config.tied:
        layout.pop("unembedding", None)
    names = source.names()
    if config.num_layers > len(names):
        raise ValueError(f"{source.path}: {config.num_layers} layers, but only {len(names)} tensors")
    layers = range(config.num_layers)
    wanted = {
        p.name.format(layer) for p in layout.values() for layer in (layers if "{}" in p.name else [None])
    }
    spare = sorted(names - wanted)
    if spare and wanted <= names:  # what is missing is named below
        raise ValueError(
            f"{source.path}: tensor {spare[0]!r} ({len(spare)} such) is no part of a model of these settings "
            "and would be left out"
        )
    dtype = np.dtype(dtype)
    if mesh is not None:
        if "model" not in mesh.axis_names:
            raise ValueError(f"the mesh has the axes {mesh.axis_names}; one must be called 'model'")
        mesh = automatic(mesh)
    parts = 1 if mesh is None else mesh.shape["model"]
    shapes = eqx.filter_eval_shape(_empty, config)
    specs = partition_specs(config, parts)
    whole = SingleDeviceSharding(jax.local_devices()[0])

    def check(piece: Piece, shape: tuple[int, ...], layer: int | None) -> None:
        name = piece.name.format(layer)
        expected = shape[::-1] if piece.transpose else shape
        if piece.part is not None:
            axis = -1 if piece.transpose else 0
            longer = list(expected)
            longer[axis] = (config.num_heads + 2 * config.num_kv_heads) * config.head_size
            expected = tuple(longer)
        if source.shape(name) != tuple(expected):
            raise ValueError(
                f"{source.path}: tensor {name!r} has shape {source.shape(name)}, expected {tuple(expected)}"
            )

    def read(field: str, piece: Piece, layer: int | None) -> Float[np.ndarray, "..."]:
        values = source.read(piece.name.format(layer))
        if piece.transpose:
            values = values.T
        if source.layout == "gguf-llama" and config.rope_layout == "half" and field in {"query", "key"}:
            values = half_split_rows(values, config.num_heads if field == "query" else config.num_kv_heads)
        if piece.part is not None:
            queries, shared = config.num_heads * config.head_size, config.num_kv_heads * config.head_size
            start = (0, queries, queries + shared)[piece.part]
            values = values[start : start + (queries if piece.part == 0 else shared)]
        with np.errstate(over="ignore"):  # named here
            converted = values.astype(dtype)
        if not np.isfinite(converted).all():
            fault = "is not finite" if not np.isfinite(values).all() else f"has numbers too large for {dtype}"
            raise ValueError(f"{source.path}: tensor {piece.name.format(layer)!r} {fault}")
        return converted

    placements: list[tuple[str, Piece, tuple[int, ...], PartitionSpec, bool]] = []
    for field, piece in layout.items():
        stacked = "{}" in piece.name
        shape = _field(shapes, field, stacked, jax.ShapeDtypeStruct).shape
        placements.append((field, piece, shape, _field(specs, field, stacked, PartitionSpec), stacked))
    for _, piece, shape, _, stacked in placements:  # everything is checked before anything is read
        for layer in range(config.num_layers) if stacked else [None]:
            check(piece, shape[1:] if stacked else shape, layer)

    arrays = {}
    for field, piece, shape, spec, stacked in placements:
        sharding = whole if mesh is None else NamedSharding(mesh, spec)
        arrays[field] = _place(
            shape, dtype, sharding, lambda layer, f=field, p=piece: read(f, p, layer), stacked
        )
    return _fill(config, arrays)


_Leaf = TypeVar("_Leaf")


def _empty(config: DecoderConfig) -> Decoder:
    from features.lm.decoder import init

    return init(config, key=jax.random.key(0))


def _field(tree: Decoder, field: str, stacked: bool, kind: type[_Leaf]) -> _Leaf:
    """What a tree of one kind of leaves holds in place of a weight."""
    owner = tree.blocks if stacked else tree
    name, _, part = field.partition(".")
    found = getattr(owner, name)
    if part:
        found = getattr(found, part)
    elif isinstance(found, Linear):
        found = found.weight
    if not isinstance(found, kind):
        raise TypeError(f"{field} holds a {type(found).__name__}, expected {kind.__name__}")
    return found


def _fill(config: DecoderConfig, arrays: dict[str, Float[Array, "..."]]) -> Decoder:
    def linear(name: str) -> Linear:
        return Linear(arrays[name], arrays.get(f"{name}.bias"))

    def norm(name: str) -> Norm:
        return Norm(arrays.get(f"{name}.scale"), arrays.get(f"{name}.shift"))

    block = Block(
        norm("attention_norm"), linear("query"), linear("key"), linear("value"), linear("output"),
        norm("mlp_norm"), linear("gate") if "gate" in arrays else None, linear("up"), linear("down"),
    )  # fmt: skip
    return Decoder(
        arrays["embedding"], arrays.get("position_embedding"), block, norm("final_norm"),
        arrays.get("unembedding"), config,
    )  # fmt: skip
