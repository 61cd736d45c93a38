"""The known algorithms as exact constructions, with what they cost in error."""

from hypernet.algorithms.convexity import convexity, convexity_floor
from hypernet.algorithms.double_sided import double_sided
from hypernet.algorithms.errors import ErrorRow, error_table
from hypernet.algorithms.pudding import distributed_pudding, pudding
from hypernet.algorithms.tournament import tournament

__all__ = [
    "ErrorRow",
    "convexity",
    "convexity_floor",
    "distributed_pudding",
    "double_sided",
    "error_table",
    "pudding",
    "tournament",
]
