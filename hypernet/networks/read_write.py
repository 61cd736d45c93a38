"""Reads anybody's one-hidden-layer network: plain arrays, equinox, flax, or a file."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from numpy.typing import ArrayLike

from hypernet.files import replacing
from hypernet.networks.mlp import ACTIVATIONS, MLP, Activation

FORMS = (
    "a hypernet.MLP; a mapping with W (n, H), v (H,) and optionally b (H,), c (); a tuple (W, b, v, c); "
    "an equinox.nn.MLP with depth=1; flax.linen parameters of two Dense layers; a flax.nnx module with two "
    "Linear layers; or a .npz file with W, v, b, c"
)
_SYNONYMS = {"silu": "swish"}

_Weights: TypeAlias = tuple[object, object, object, object]
"""W, b (None: zero), v and c as somebody gives them, not yet checked"""


@runtime_checkable
class _Variable(Protocol):
    """A parameter of flax NNX."""

    def get_value(self) -> ArrayLike: ...


def activation_name(activation: object) -> str:
    """The name of an activation, given by name or as a function.

    Raises: ValueError for one that is not known, TypeError for what is neither.
    """
    name = activation if isinstance(activation, str) else None
    if name is None:
        settings = activation.keywords if isinstance(activation, functools.partial) else {}
        function = getattr(activation, "func", getattr(activation, "fn", activation))
        function = getattr(function, "__wrapped__", function)
        name = getattr(function, "__name__", None)
        if name is None:
            raise TypeError(f"activation={activation!r}: expected a name or a named function")
        if name == "gelu" and settings.get("approximate", True):
            name = "gelu-tanh"  # jax's default form
    name = _SYNONYMS.get(name, name)
    if name not in ACTIVATIONS:
        raise ValueError(
            f"activation {name!r} is not known: expected one of {', '.join(ACTIVATIONS)} (or silu)"
        )
    return name


def read_network(network: object, *, activation: str | Activation | None = None) -> MLP:
    """A network with one hidden layer and one output as an MLP of float64 arrays.

    Args: activation: name or function; needed where the form does not say it (plain arrays, flax).
    Raises: TypeError or ValueError naming what is unsupported and what is supported; ValueError for
        non-finite weights.
    """
    if isinstance(network, (str, Path)):
        return read_file(Path(network), activation=activation)
    if isinstance(network, MLP):
        if network.batch:
            raise ValueError(
                f"this MLP holds networks of shape {network.batch}; index one, or use classify_many"
            )
        if activation is not None and activation_name(activation) != network.activation:
            raise ValueError(f"activation={activation!r}, but the MLP says {network.activation!r}")
        if len(network.weights) != 1:
            raise ValueError(f"the network has {len(network.weights)} hidden layers; supported: {FORMS}")
        return _checked(network.W, network.b, network.v, network.c, network.activation)
    parts, named = _parts(network)
    chosen = activation if activation is not None else named
    if chosen is None:
        raise ValueError(
            f"say which activation the network has: activation='relu', 'swish', ... (or {FORMS})"
        )
    return _checked(*parts, activation_name(chosen))


def _parts(network: object) -> tuple[_Weights, object]:
    """W, b, v and c of any form, and the activation where the form says it."""
    if isinstance(network, (tuple, list)):
        if len(network) != 4:
            raise TypeError(f"a sequence of {len(network)} arrays; supported: {FORMS}")
        W, b, v, c = network
        return (W, b, v, c), None
    if isinstance(network, Mapping):
        return _mapping(network)
    if (found := _equinox(network)) is not None:
        return found
    if (found := _nnx(network)) is not None:
        return found
    raise TypeError(
        f"{type(network).__module__}.{type(network).__name__} is no supported network; supported: {FORMS}"
    )


def _mapping(network: Mapping[object, Any]) -> tuple[_Weights, object]:
    tree = network["params"] if set(network) == {"params"} else network
    if "W" in tree and "v" in tree:
        if unknown := sorted(set(map(str, tree)) - {"W", "v", "b", "c", "activation"}):
            raise ValueError(f"a mapping with W and v holds {unknown} too; expected W, v, b, c, activation")
        return (tree["W"], tree.get("b"), tree["v"], tree.get("c", 0.0)), _text(tree.get("activation"))
    layers = [layer for layer in tree.values() if isinstance(layer, Mapping) and "kernel" in layer]
    if len(layers) == len(tree) == 2:
        # the readout maps to one number, from as many as the other layer gives
        shapes = {name: np.shape(tree[name]["kernel"]) for name in tree}
        order = sorted(
            tree, key=lambda name: _is_readout(shapes[name], *(shapes[k] for k in tree if k != name))
        )
        first, last = (tree[name] for name in order)
        b = first["bias"] if "bias" in first else np.zeros(np.shape(first["kernel"])[-1])
        return (first["kernel"], b, last["kernel"], last.get("bias", 0.0)), None
    raise TypeError(f"a mapping with the keys {sorted(map(str, tree))}; supported: {FORMS}")


def _text(value: object) -> object:
    """A name that came out of a file is an array."""
    return str(value) if isinstance(value, np.ndarray) else value


def _is_readout(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return shape[-1] == 1 and shape[0] == other[-1] and other[0] != 1


def _holds_arrays(part: object) -> bool:
    """Whether an object has parameters: a normalization, an embedding."""
    values = getattr(part, "__dict__", {}).values()
    return any(np.ndim(value.get_value()) > 0 for value in values if isinstance(value, _Variable))


def _equinox(network: object) -> tuple[_Weights, object] | None:
    import equinox as eqx

    if not isinstance(network, eqx.nn.MLP):
        return None
    if len(network.layers) != 2:
        raise ValueError(f"an equinox MLP of depth {len(network.layers) - 1}; supported: {FORMS}")
    probe = np.linspace(-2, 2, 5)
    if not np.array_equal(np.asarray(network.final_activation(probe)), probe):
        raise ValueError(f"an equinox MLP with a final activation; supported: {FORMS}")
    first, last = network.layers
    W = np.asarray(first.weight).T
    b = np.zeros(W.shape[1]) if first.bias is None else first.bias
    c = 0.0 if last.bias is None else last.bias
    return (W, b, np.asarray(last.weight).T, c), getattr(network.activation, "fn", network.activation)


def _nnx(network: object) -> tuple[_Weights, None] | None:
    """Flax NNX: any object with exactly two layers that carry a kernel, in the order of their attributes."""
    parts = [part for part in getattr(network, "__dict__", {}).values() if hasattr(part, "__dict__")]
    layers = [part for part in parts if hasattr(part, "kernel")]
    if not layers:
        return None
    others = [type(part).__name__ for part in parts if part not in layers and _holds_arrays(part)]
    if others:
        raise ValueError(f"{type(network).__name__} holds {others} beside its layers; supported: {FORMS}")
    if len(layers) != 2:
        raise ValueError(
            f"{type(network).__name__} has {len(layers)} layers with a kernel; supported: {FORMS}"
        )

    def array(parameter: object) -> Shaped[np.ndarray, "..."]:
        return np.asarray(parameter.get_value() if isinstance(parameter, _Variable) else parameter)

    def bias(layer: object) -> Shaped[np.ndarray, "..."] | None:
        parameter = getattr(layer, "bias", None)
        return None if parameter is None else array(parameter)

    shapes = [np.shape(array(layer.kernel)) for layer in layers]
    if _is_readout(shapes[0], shapes[1]) and not _is_readout(shapes[1], shapes[0]):
        layers.reverse()
    (W, b), (v, c) = ((array(layer.kernel), bias(layer)) for layer in layers)
    return (W, np.zeros(np.shape(W)[1]) if b is None else b, v, 0.0 if c is None else c), None


def _checked(W: object, b: object, v: object, c: object, activation: str) -> MLP:
    try:
        W = np.asarray(W)
        given = [W, *(np.asarray(a) for a in (np.zeros(W.shape[-1:]) if b is None else b, v, c))]
        if any(np.iscomplexobj(a) for a in given):
            raise TypeError("complex numbers")
        W, b, v, c = (np.asarray(a, np.float64) for a in given)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"weights must be arrays of numbers ({error}); supported: {FORMS}") from error
    if W.ndim != 2 or W.shape[0] == 0:
        raise ValueError(f"W has shape {W.shape}: expected (inputs, hidden)")
    hidden = W.shape[1]
    if v.shape == (hidden, 1):
        v = v[:, 0]
    if v.shape != (hidden,):
        raise ValueError(
            f"v has shape {v.shape}: expected ({hidden},), one output and {hidden} hidden units as in W"
        )
    if b.shape != (hidden,):
        raise ValueError(f"b has shape {b.shape}: expected ({hidden},)")
    if c.size != 1:
        raise ValueError(f"c has shape {c.shape}: expected one number")
    for name, array in (("W", W), ("b", b), ("v", v), ("c", c)):
        bad = int(np.sum(~np.isfinite(array)))
        if bad:
            raise ValueError(f"{name} holds {bad} values that are not finite")
        if np.abs(array).max(initial=0) > 1e100:
            raise ValueError(f"{name} holds values above 1e100: the network's outputs would overflow")
    return MLP((W,), (b,), v, c.reshape(()), activation)


def read_file(path: Path, *, activation: str | Activation | None = None) -> MLP:
    """A network from a .npz file with W, v and optionally b, c and activation.

    Raises: ValueError naming the file and what is missing in it.
    """
    if not path.is_file():
        raise ValueError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and NumPy's parser of headers raise what they like
        raise ValueError(
            f"{path} is no .npz file of arrays ({error}); expected W, v, b, c, activation"
        ) from error
    if "W" not in arrays or "v" not in arrays:
        raise ValueError(
            f"{path} holds {sorted(arrays)[:8]}: expected W (n, H) and v (H,), optionally b, c, activation"
        )
    named = str(arrays.pop("activation")) if "activation" in arrays else None
    try:
        return read_network(arrays, activation=activation if activation is not None else named)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{path}: {error}") from error


def write_network(path: str | Path, mlp: MLP) -> None:
    """Writes a network that `read_network` reads as .npz, whole or not at all.

    Raises: ValueError for several networks, several hidden layers, or several outputs.
    """
    path = Path(path)
    if mlp.batch or len(mlp.weights) != 1 or mlp.vector:
        raise ValueError("one network with one hidden layer and one output can be written")
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, W=mlp.W, b=mlp.b, v=mlp.v, c=mlp.c, activation=mlp.activation)
