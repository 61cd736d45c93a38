"""Which run works in which lane: pure, and the same in every process.

Runs wait in a queue; every free lane takes the next one. After each chunk all processes hear which
lanes' runs have ended, so all compute the same schedule without sending it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

Item = tuple[str, int]
"""A run: puzzle and seed."""

ENDED, STOP, BUSY = 1, 2, 4
"""Flags that a process raises for its lanes at the end of a chunk."""


class Schedule(NamedTuple):
    """The lanes of all processes that have a run, and the runs that wait."""

    owners: Mapping[int, Item]  # lane -> its run
    queue: tuple[Item, ...]

    @classmethod
    def of(cls, items: Sequence[Item]) -> Schedule:
        """All lanes free."""
        return cls({}, tuple(items))

    def filled(self, lanes: int) -> tuple[Schedule, dict[int, Item]]:
        """Gives the next runs to the free ones of so many lanes; returns those arrivals, too."""
        free = [lane for lane in range(lanes) if lane not in self.owners]
        arrivals = dict(zip(free, self.queue, strict=False))
        return Schedule({**self.owners, **arrivals}, self.queue[len(arrivals) :]), arrivals

    def without(self, lanes: Iterable[int]) -> Schedule:
        """These lanes are free again."""
        ended = set(lanes)
        return self._replace(owners={k: item for k, item in self.owners.items() if k not in ended})


class Agreement(NamedTuple):
    """What all processes know after having told each other."""

    ended: tuple[int, ...]  # lanes whose runs have ended
    stop: bool  # some process asks for a stop
    busy: int  # lanes with a run

    @classmethod
    def of(cls, flags: Int[np.ndarray, "processes lanes"]) -> Agreement:
        """From the flags that each process raised for its own lanes, 0 for those of others."""
        every = np.bitwise_or.reduce(flags, axis=0)
        ended = tuple(np.flatnonzero(every & ENDED).tolist())
        return cls(ended, bool((every & STOP).any()), int(np.count_nonzero(every & BUSY)))


def flags(
    lanes: int, *, local: Sequence[int], ended: Iterable[int], busy: Iterable[int], stop: bool
) -> Int[np.ndarray, " lanes"]:
    """What one process says of its lanes (`local`); zero for the others."""
    own = np.zeros(lanes, np.int32)
    own[list(ended)] = ENDED
    own[list(local)] |= STOP * stop
    own[list(busy)] |= BUSY
    return own
