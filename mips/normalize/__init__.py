"""Function-preserving changes of a network that make its weights readable.

Any invertible T on the hidden coordinates, h' = T h, leaves the function unchanged; each normalizer
here chooses one, or moves a bias. `normalize` applies them in the paper's order.
"""

from mips.normalize.basis import change_basis, effective_transition
from mips.normalize.debias import debias
from mips.normalize.jordan import jordan, real_jordan_basis
from mips.normalize.pipeline import Step, normalize
from mips.normalize.quantize import quantize
from mips.normalize.toeplitz import toeplitz
from mips.normalize.whiten import whiten

__all__ = [
    "Step",
    "change_basis",
    "debias",
    "effective_transition",
    "jordan",
    "normalize",
    "quantize",
    "real_jordan_basis",
    "toeplitz",
    "whiten",
]
