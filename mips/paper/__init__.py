"""The published method: integer and Boolean autoencoders on a ReLU RNN, then regression.

`Mending` names the repairs of its known failures; all off is "as published".
"""

from mips.paper.lattice import Lattice, gcd_lattice, linear_lattice
from mips.paper.repairs import Mending
from mips.paper.search import published_search

__all__ = ["Lattice", "Mending", "gcd_lattice", "linear_lattice", "published_search"]
