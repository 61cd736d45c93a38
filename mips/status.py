"""What a synthesis can come to; plain words, which need no jax."""

from __future__ import annotations

import enum


class Status(enum.StrEnum):
    """How far a synthesis has come."""

    FORMULA = "formula"  # exact at both lengths, or on what is recorded
    TABLE = "table"  # exact, but tables
    INEXACT = "inexact"  # passed the quick checks, failed the full ones
    NETWORK = "network"  # trained, not understood
    UNFINISHED = "unfinished"  # stopped by a budget
    NONE = "none"


class Provenance(enum.StrEnum):
    """Where a program comes from."""

    NETWORK = "network"
    TABLE = "table"  # of a machine read from a network
    DATA = "data"
    NONE = ""  # there is no program
