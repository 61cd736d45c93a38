"""Taking a learned preconditioner to a new run."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lodo import trees
from lodo.transform import LodoState, checked_state


def warm_start(learned: optax.OptState, fresh: optax.OptState, *, keep_meta: bool = False) -> LodoState:
    """A state that starts a new run with the preconditioner of an earlier one.

    learned: state of the earlier run; fresh: `init(params)` of the new run, same number of
    parameters and architecture. Momentum and counters start anew; theta's optimizer too
    unless `keep_meta`. The result shares no array with `learned`, so either may be donated.
    Raises: ValueError if the two states' preconditioners differ in shape.
    """
    learned, fresh = checked_state(learned), checked_state(fresh)
    for name in ("theta", "wiring", *(["meta"] if keep_meta else [])):
        try:
            trees.check_like(name, getattr(learned, name), getattr(fresh, name))
        except ValueError as error:
            raise ValueError(
                f"{name} of the learned state does not fit the new run; number of parameters, layers, block "
                f"size, permutation and precision must agree ({error})"
            ) from error
    copied: Any = jax.tree.map(jnp.copy, (learned.theta, learned.wiring, learned.meta))
    theta, wiring, meta = copied
    return fresh._replace(theta=theta, wiring=wiring, meta=meta if keep_meta else fresh.meta)
