"""Settings of a synthesis."""

from __future__ import annotations

import dataclasses
from typing import Literal

Route = Literal["auto", "paper", "automaton", "linear", "data"]

Selection = Literal["task", "network"]


@dataclasses.dataclass(frozen=True)
class SynthesisConfig:
    """How a task is solved. All limits count work, not time, so equal seeds give equal programs."""

    route: Route = "auto"
    """auto (everything), paper (as published), automaton, linear, or data (no network)"""
    selection: Selection = "task"
    """what programs are chosen by: task (labels of the training length, and of longer ones only where these
    choose a program that is wrong beyond; the result says which), or network (its answers, and no label)"""
    sequences: int = 20_000
    """training sequences"""
    tests: int = 1_000
    """sequences on which training is judged"""
    steps: int = 2_000
    """optimizer steps of a network"""
    attempts: int = 3
    """networks of each kind, one after another, before giving up"""
    seeds: int = 2
    """symbol networks trained side by side; numeric ones are four times as many"""
    hidden: int = 32
    """units of the gated network; the input-switched affine one has half"""
    most_symbols: int = 128
    """largest alphabet for networks over symbols; above, networks over numbers"""
    most_classes: int = 64
    """most different outputs for the same"""
    most_states: int = 300
    """largest machine"""
    expression_nodes: int = 7
    """largest formula searched for"""
    tries: int = 4_000_000
    """expressions computed before a search ends"""
    baseline: bool = True
    """whether to report what can be found from data alone, beside"""
    mended: bool = False
    """paper route: with the repairs of its known failures"""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            wanted = {"int": int, "bool": bool}.get(str(field.type), str)
            if type(value) is not wanted:
                raise TypeError(f"{field.name}={value!r}: {wanted.__name__} expected")
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ValueError(f"{field.name}={value}: must be at least 1")
        routes = ("auto", "paper", "automaton", "linear", "data")
        if self.route not in routes:
            raise ValueError(f"route={self.route!r}: must be one of {', '.join(routes)}")
        if self.selection not in ("task", "network"):
            raise ValueError(f"selection={self.selection!r}: must be task or network")
        if self.selection == "network" and self.route in ("paper", "data"):
            raise ValueError(f"selection='network' with route={self.route!r}: that route chooses by labels")
        if self.tests >= self.sequences:
            raise ValueError(f"tests={self.tests}: must be fewer than sequences={self.sequences}")
