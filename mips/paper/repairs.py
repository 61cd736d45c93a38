"""Repairs of the published pipeline, one name each."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mending:
    """Which repairs are on."""

    initial_state: bool = False
    """try every way to round the initial lattice state, at any n up to 6"""
    independent_basis: bool = False
    """the lattice that the Krylov vectors of all inputs generate, LLL-reduced; residuals are measured
    against the spread of the states"""
    all_steps: bool = False
    """hidden states of all steps, not of the last two"""
    all_rows: bool = False
    """check tables on every row, and remainders as Python has them"""
    any_inputs: bool = False
    """linear regression for more than one input"""

    @classmethod
    def everything(cls) -> Mending:
        """All repairs."""
        return cls(*[True] * len(dataclasses.fields(cls)))
