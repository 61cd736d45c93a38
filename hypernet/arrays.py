"""Kinds of arrays that annotations name: on the device or on the host, single numbers, keys of many seeds."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Int, Key, Real, UInt32

AnyArray: TypeAlias = Array | np.ndarray
"""on the device, or NumPy's"""

Number: TypeAlias = float | np.floating | np.integer | Real[AnyArray, ""]
"""one number, traced or not"""

WholeNumber: TypeAlias = int | np.integer | Int[AnyArray, ""]
"""one whole number, traced or not"""

SeedKeys: TypeAlias = Key[Array, " seeds"] | UInt32[Array, "seeds 2"]
"""a key for every seed, of the new or the old kind"""
