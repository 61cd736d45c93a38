"""LODO: a quasi-Newton optimizer that learns its preconditioner online, for optax.

optimizer = lodo.lodo(learning_rate=0.1)  # instead of optax.adam(...)
"""

from lodo.diagnostics import (
    Info,
    apply_preconditioner,
    dense_preconditioner,
    diagnose,
    hessian_error,
    state_bytes,
    top_eigenvalues,
)
from lodo.meta_optimizer import ReferenceAdamState, reference_adam
from lodo.preconditioners import Architecture, BlockNetwork, Diagonal, Global, Residual
from lodo.sharding import Sharding
from lodo.transfer import warm_start
from lodo.transform import LodoState, StateTooLargeError, lodo, scale_by_lodo

__all__ = [
    "Architecture",
    "BlockNetwork",
    "Diagonal",
    "Global",
    "Info",
    "LodoState",
    "ReferenceAdamState",
    "Residual",
    "Sharding",
    "StateTooLargeError",
    "apply_preconditioner",
    "dense_preconditioner",
    "diagnose",
    "hessian_error",
    "lodo",
    "reference_adam",
    "scale_by_lodo",
    "state_bytes",
    "top_eigenvalues",
    "warm_start",
]
