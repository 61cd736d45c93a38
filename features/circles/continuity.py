"""Between the names: whether "very early on Monday" leans toward Sunday, "very late" toward Tuesday."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from features.circles.concepts import Concept
from features.circles.fit import principal
from features.circles.prompting import pad_left
from features.lm.decoder import residual
from features.lm.loading import LanguageModel

QUALIFIERS = ("very early on", "very late on", "morning on", "evening on")


class Continuity(NamedTuple):
    """Plain names in their principal plane, and qualified ones beside them."""

    plain: Float[np.ndarray, "members 2"]
    qualified: dict[str, Float[np.ndarray, "members 2"]]
    shift: dict[str, Float[np.ndarray, " members"]]  # turn from the plain name, in steps of the cycle


def continuity(
    model: LanguageModel,
    concept: Concept,
    layer: int,
    *,
    carrier: str = "Today is {}",
    qualifiers: Sequence[str] = QUALIFIERS,
) -> Continuity:
    """Residual state `layer` at the last token of "carrier qualifier name", in the plane of the plain names.

    Positive shifts lead to the next member. The published texts are bare names; without a token before
    it a name falls on the attention sink at position 0, hence the carrier.
    Raises: ValueError for a carrier without {} or a name that is split into tokens.
    """
    if "{}" not in carrier:
        raise ValueError(f"carrier={carrier!r} lacks {{}}")
    for name in concept.members:
        model.tokenizer.single(" " + name)

    def states(qualifier: str) -> Float[np.ndarray, "members width"]:
        texts = [carrier.format(f"{qualifier} {name}".strip()) for name in concept.members]
        tokens, mask = pad_left([model.tokenizer.encode(text) for text in texts])
        found = residual(model.decoder, jnp.asarray(tokens), jnp.asarray(layer), jnp.asarray(mask))
        return np.asarray(found[:, -1], np.float32)

    base = states("")
    W, mean = (np.asarray(part) for part in principal(jnp.asarray(base), 2))
    plain = (base - mean) @ W.T
    turn = np.exp(1j * np.arange(concept.period) * 2 * np.pi / concept.period)
    complex_plain = plain[:, 0] + 1j * plain[:, 1]
    # The sense of rotation that the names have in this plane.
    forward = abs((complex_plain * turn.conj()).sum()) >= abs((complex_plain * turn).sum())
    qualified, shift = {}, {}
    for qualifier in qualifiers:
        points = (states(qualifier) - mean) @ W.T
        angle = np.angle((points[:, 0] + 1j * points[:, 1]) / complex_plain)
        qualified[qualifier] = points
        shift[qualifier] = (angle if forward else -angle) * concept.period / (2 * np.pi)
    return Continuity(plain, qualified, shift)
