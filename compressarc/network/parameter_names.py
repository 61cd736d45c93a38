"""Parameters under structured names: one array per type and role, as papers and goldens list them.

Names: `post_mean/T`, `post_lca/T`, `target_capacity/T`, `decode_w/T`, `decode_b/T`,
`layerK/{share_up,softmax,cummax,shift,nonlinear,share_down}_{in,out}/T`,
`layerK/direction_share/T/{to}{from}`, `head_w`, `head_b`, `mask_w`, `mask_b`. T is a type
code. Tied weights appear once, under the name of their representative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import DTypeLike

from compressarc.multitensor import (
    DIRECTED_SETS,
    NUM_LAYERS,
    PLAIN_SETS,
    PLANES_DIRECTED,
    TYPES,
    Shape,
    pack,
    unpack,
)
from compressarc.network.layers.decode import Posterior
from compressarc.network.layers.direction import LINE_TYPES, SYMMETRIC_TYPES, tying_table
from compressarc.network.layers.softmax import out_rows
from compressarc.network.parameters import Heads, Layer, Linear, Params, Sets, SweepLinear

_LINEAR = ("share_up", "softmax", "nonlinear", "share_down")
_SWEEP = ("cummax", "shift")
_DIRECTION = (("direction_symmetric", SYMMETRIC_TYPES, "symmetric"), ("direction_line", LINE_TYPES, "row"))


def _free_pairs(kind: str) -> list[tuple[int, int]]:
    """The (to, from) pair that represents each free direction map."""
    table = tying_table(kind)
    pairs = []
    for index in range(table.max() + 1):
        candidates = [tuple(int(i) for i in p) for p in np.argwhere(table == index)]
        pairs.append(min(candidates))
    return pairs


def _set_parts(weight: Sets, is_softmax_out: bool = False) -> dict[str, Any]:
    """Type code -> weight of one block."""
    out = {}
    for array, types in ((weight.plain, PLAIN_SETS), (weight.directed, DIRECTED_SETS)):
        rows = out_rows(types) if is_softmax_out else range(len(types))
        out.update({code: array[row] for code, row in zip(types, rows, strict=True)})
    return out


def named(params: Params, shape: Shape) -> dict[str, np.ndarray]:
    """All free parameters (or gradients, or any `Params` of arrays) by structured name."""
    params = jax.tree.map(np.asarray, params)
    out: dict[str, np.ndarray] = {}
    for role, packed in (("post_mean", params.posterior.mean), ("post_lca", params.posterior.local)):
        out |= {f"{role}/{code}": a for code, a in unpack(packed, shape).items()}
    out |= {f"target_capacity/{code}": a for code, a in zip(TYPES, params.posterior.target, strict=True)}
    for role, sets in (("decode_w", params.decode_weight), ("decode_b", params.decode_bias)):
        out |= {f"{role}/{code}": a for code, a in _set_parts(sets).items()}
    for k in range(NUM_LAYERS):
        layer: Layer = jax.tree.map(lambda a, k=k: a[k], params.layers)
        for name in _LINEAR:
            linear: Linear = getattr(layer, name)
            out |= {f"layer{k}/{name}_in/{c}": a for c, a in _set_parts(linear.into).items()}
            parts = _set_parts(linear.out, is_softmax_out=name == "softmax")
            out |= {f"layer{k}/{name}_out/{c}": a for c, a in parts.items()}
        for name in _SWEEP:
            sweep: SweepLinear = getattr(layer, name)
            for i, code in enumerate(PLANES_DIRECTED.types):
                out[f"layer{k}/{name}_in/{code}"] = sweep.into[i]
                out[f"layer{k}/{name}_out/{code}"] = sweep.out[i]
        for field, types, kind in _DIRECTION:
            for i, code in enumerate(types):
                for index, (to, source) in enumerate(_free_pairs(kind)):
                    name = f"layer{k}/direction_share/{code}/{to}{source}"
                    out[name] = getattr(layer, field)[i, index]
    head = params.heads
    out |= {"head_w": head.color_weight, "head_b": head.color_bias}
    out |= {"mask_w": head.mask_weight, "mask_b": head.mask_bias}
    return out


def from_named(get: Mapping[str, Any], shape: Shape, dtype: DTypeLike = np.float32) -> Params:
    """Parameters from arrays by structured name.

    Direction maps may be given singly (`.../{to}{from}`) or as one (8, 8, 8, 8) array
    `layerK/direction_share/T`, indexed [to, from, channel in, channel out].

    Raises: KeyError naming the first missing parameter.
    """

    def sets(name: Callable[[str], str], rows: bool = False) -> Sets:
        join = np.concatenate if rows else np.stack
        return Sets(join([get[name(c)] for c in PLAIN_SETS]), join([get[name(c)] for c in DIRECTED_SETS]))

    def direction(k: int, code: str, kind: str) -> np.ndarray:
        name = f"layer{k}/direction_share/{code}"
        if name in get:
            full = get[name]
            return np.stack([full[pair] for pair in _free_pairs(kind)])
        return np.stack([get[f"{name}/{to}{source}"] for to, source in _free_pairs(kind)])

    def layer(k: int) -> Layer:
        fields: dict[str, Any] = {}
        for name in _LINEAR:
            fields[name] = Linear(
                sets(lambda c, n=name: f"layer{k}/{n}_in/{c}"),
                sets(lambda c, n=name: f"layer{k}/{n}_out/{c}", rows=name == "softmax"),
            )
        for name in _SWEEP:
            fields[name] = SweepLinear(
                *(
                    np.stack([get[f"layer{k}/{name}_{way}/{code}"] for code in PLANES_DIRECTED.types])
                    for way in ("in", "out")
                )
            )
        for field, types, kind in _DIRECTION:
            fields[field] = np.stack([direction(k, code, kind) for code in types])
        return Layer(**fields)

    layers = [layer(k) for k in range(NUM_LAYERS)]
    params = Params(
        posterior=Posterior(
            mean=pack({c: get[f"post_mean/{c}"] for c in TYPES}, shape),
            local=pack({c: get[f"post_lca/{c}"] for c in TYPES}, shape),
            target=np.stack([get[f"target_capacity/{c}"] for c in TYPES]),
        ),
        decode_weight=sets(lambda c: f"decode_w/{c}"),
        decode_bias=sets(lambda c: f"decode_b/{c}"),
        layers=jax.tree.map(lambda *a: np.stack(a), *layers),
        heads=Heads(get["head_w"], get["head_b"], get["mask_w"], get["mask_b"]),
    )
    return jax.tree.map(lambda a: jax.numpy.asarray(a, dtype), params)
