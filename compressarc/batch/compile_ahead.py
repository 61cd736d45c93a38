"""Compiling the programs of coming buckets while the present one runs.

Compilation takes half a minute and more of one to two cores. On an accelerator that costs
nothing as long as steps are running there. On a CPU it takes as much from the steps, and more,
because devices wait for one another (measured: docs/batches.md); there nothing is compiled ahead.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

from compressarc.solver.program_cache import settings

MOST_AHEAD = 4
"""Programs compiled beyond the present one where steps run on an accelerator."""


def programs_ahead(platform: str) -> int:
    """How many programs to compile beyond the present one where steps run on a platform."""
    return 0 if platform == "cpu" else max(1, min(MOST_AHEAD, (os.cpu_count() or 1) // 2))


_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def compiling() -> bool:
    """Whether any thread of this process is compiling ahead."""
    return any(thread.is_alive() for thread in _threads)


@runtime_checkable
class Compilable(Protocol):
    """Something with a program, such as `Lanes`."""

    def compile(self) -> None:
        """Compiles it, or waits for the thread that does."""
        ...


LanesT = TypeVar("LanesT", bound=Compilable)


class CompileAhead(Generic[LanesT]):
    """Compiles lanes' programs in threads, at most `ahead` of them beyond the one in use."""

    def __init__(self, make: Sequence[Callable[[], LanesT]], ahead: int) -> None:
        self._make, self._ahead = make, ahead
        self._settings = settings()
        self._begun: dict[int, LanesT] = {}

    def take(self, number: int) -> LanesT:
        """The lanes of one number, being compiled or compiled; those after it are begun, too.

        They are taken once, in ascending order; the caller owns the returned lanes.
        """
        for coming in range(number, min(number + self._ahead + 1, len(self._make))):
            if coming not in self._begun:
                lanes = self._make[coming]()
                # No daemon: a process that ends while XLA compiles in one is aborted. So Python waits for
                # it at the end; the command doesn't (`compiling`).
                thread = threading.Thread(target=self._compile, args=(lanes,))
                _threads.add(thread)
                self._begun[coming] = lanes
                thread.start()
        return self._begun.pop(number)

    def _compile(self, lanes: LanesT) -> None:
        # What a `with jax....` of the caller has set does not hold in this thread: then the caller's own
        # thread compiles, as it does after an error here.
        if settings() == self._settings:
            with contextlib.suppress(Exception):
                lanes.compile()
