"""Reads anybody's one-hidden-layer network: plain arrays, equinox, flax, or a file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hypernet.network import ACTIVATIONS, MLP

FORMS = (
    "a hypernet.MLP; a mapping with W (n, H), v (H,) and optionally b (H,), c (); a tuple (W, b, v, c); "
    "an equinox.nn.MLP with depth=1; flax.linen parameters of two Dense layers; a flax.nnx module with two "
    "Linear layers; or a .npz file with W, v, b, c"
)
_SYNONYMS = {"silu": "swish", "swish": "swish"}


def activation_name(activation: Any) -> str:
    """The name of an activation, given by name or as a function.

    Raises: ValueError for one that is not known, TypeError for what is neither.
    """
    name = activation if isinstance(activation, str) else None
    if name is None:
        function = getattr(activation, "func", getattr(activation, "fn", activation))
        function = getattr(function, "__wrapped__", function)
        name = getattr(function, "__name__", None)
        if name is None:
            raise TypeError(f"activation={activation!r}: expected a name or a named function")
    name = _SYNONYMS.get(name, name)
    if name not in ACTIVATIONS:
        raise ValueError(
            f"activation {name!r} is not known: expected one of {', '.join(ACTIVATIONS)} (or silu)"
        )
    return name


def read_network(network: Any, *, activation: Any = None) -> MLP:
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


def _parts(network: Any) -> tuple[tuple[Any, Any, Any, Any], Any]:
    if isinstance(network, (tuple, list)):
        if len(network) != 4:
            raise TypeError(f"a sequence of {len(network)} arrays; supported: {FORMS}")
        return tuple(network), None
    if isinstance(network, Mapping):
        return _mapping(network)
    if (found := _equinox(network)) is not None:
        return found
    if (found := _nnx(network)) is not None:
        return found
    raise TypeError(
        f"{type(network).__module__}.{type(network).__name__} is no supported network; supported: {FORMS}"
    )


def _mapping(network: Mapping) -> tuple[tuple[Any, Any, Any, Any], Any]:
    tree = network["params"] if set(network) == {"params"} else network
    if "W" in tree and "v" in tree:
        W = np.asarray(tree["W"])
        b = tree["b"] if "b" in tree else np.zeros(W.shape[-1:])
        return (W, b, tree["v"], tree.get("c", 0.0)), tree.get("activation")
    layers = [layer for layer in tree.values() if isinstance(layer, Mapping) and "kernel" in layer]
    if len(layers) == len(tree) == 2:
        order = sorted(tree, key=lambda name: np.shape(tree[name]["kernel"])[-1] == 1)
        first, last = (tree[name] for name in order)
        b = first["bias"] if "bias" in first else np.zeros(np.shape(first["kernel"])[-1])
        return (first["kernel"], b, last["kernel"], last.get("bias", 0.0)), None
    raise TypeError(f"a mapping with the keys {sorted(map(str, tree))}; supported: {FORMS}")


def _equinox(network: Any):
    import equinox as eqx

    if not isinstance(network, eqx.nn.MLP):
        return None
    if len(network.layers) != 2:
        raise ValueError(f"an equinox MLP of depth {len(network.layers) - 1}; supported: {FORMS}")
    first, last = network.layers
    W = np.asarray(first.weight).T
    b = np.zeros(W.shape[1]) if first.bias is None else first.bias
    c = 0.0 if last.bias is None else last.bias
    return (W, b, np.asarray(last.weight).T, c), getattr(network.activation, "fn", network.activation)


def _nnx(network: Any):
    """Flax NNX: any object with exactly two layers that carry a kernel, in the order of their attributes."""
    layers = [layer for layer in getattr(network, "__dict__", {}).values() if hasattr(layer, "kernel")]
    if not layers:
        return None
    if len(layers) != 2:
        raise ValueError(
            f"{type(network).__name__} has {len(layers)} layers with a kernel; supported: {FORMS}"
        )

    def array(parameter) -> Any:
        if parameter is None:
            return None
        return np.asarray(parameter.get_value() if hasattr(parameter, "get_value") else parameter)

    layers.sort(key=lambda layer: np.shape(array(layer.kernel))[-1] == 1)
    (W, b), (v, c) = ((array(layer.kernel), array(getattr(layer, "bias", None))) for layer in layers)
    return (W, np.zeros(np.shape(W)[1]) if b is None else b, v, 0.0 if c is None else c), None


def _checked(W: Any, b: Any, v: Any, c: Any, activation: str) -> MLP:
    try:
        W, b, v, c = (np.asarray(a, np.float64) for a in (W, b, v, c))
    except (TypeError, ValueError) as error:
        raise TypeError(f"weights must be arrays of numbers ({error}); supported: {FORMS}") from error
    if W.ndim != 2 or 0 in W.shape:
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
    return MLP((W,), (b,), v, c.reshape(()), activation)


def read_file(path: Path, *, activation: Any = None) -> MLP:
    """A network from a .npz file with W, v and optionally b, c and activation.

    Raises: ValueError naming the file and what is missing in it.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
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


def write_network(path: Path, mlp: MLP) -> None:
    """Writes a one-hidden-layer network as .npz, whole or not at all."""
    if mlp.batch or len(mlp.weights) != 1:
        raise ValueError("one network with one hidden layer can be written")
    draft = path.with_name(f".{path.name}.draft.npz")
    np.savez(draft, W=mlp.W, b=mlp.b, v=mlp.v, c=mlp.c, activation=mlp.activation)
    draft.replace(path)
