"""Taking a learned preconditioner to a new run."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lodo.transform import LodoState


def warm_start(learned: LodoState, fresh: LodoState, *, keep_meta: bool = False) -> LodoState:
    """A state that starts a new run with the preconditioner of an earlier one.

    learned: state of the earlier run; fresh: `init(params)` of the new run, same number of
    parameters and architecture. Momentum and counters start anew; theta's optimizer too
    unless `keep_meta`. The result shares no array with `learned`, so either may be donated.
    Raises: ValueError if the two states' preconditioners differ in shape.
    """
    for name in ("theta", "wiring"):
        old, new = getattr(learned, name), getattr(fresh, name)
        shapes = [[leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (old, new)]
        if jax.tree.structure(old) != jax.tree.structure(new) or shapes[0] != shapes[1]:
            raise ValueError(
                f"{name} of the learned state has shapes {shapes[0][:3]}..., "
                f"of the new one {shapes[1][:3]}...: "
                "number of parameters, layers, block size and permutation must agree"
            )
    copied: Any = jax.tree.map(jnp.copy, (learned.theta, learned.wiring, learned.meta))
    theta, wiring, meta = copied
    return fresh._replace(theta=theta, wiring=wiring, meta=meta if keep_meta else fresh.meta)
