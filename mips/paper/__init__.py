"""The published method: integer and Boolean autoencoders on a ReLU RNN, then regression.

Spec sections 5 to 9.

`Mending` names the repairs of its known failures (spec section (b)); all off is "as published".
"""

from mips.paper.lattice import Lattice, gcd_lattice, linear_lattice
from mips.paper.repairs import Mending
from mips.paper.search import published_search

__all__ = ["Lattice", "Mending", "gcd_lattice", "linear_lattice", "published_search"]
