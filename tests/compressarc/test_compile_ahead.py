"""Programs are compiled before they are needed, not too many, and errors reach whoever needs them."""

import threading

import jax
import pytest

from compressarc.batch.compile_ahead import MOST_AHEAD, CompileAhead, compiling, programs_ahead


class Compiled:
    """Stands in for lanes: waits for permission before it is compiled."""

    def __init__(self, number: int, made: list[int]):
        self.number, self.go, self.done = number, threading.Event(), threading.Event()
        self.dtype = None
        made.append(number)

    def compile(self):
        assert self.go.wait(10)
        self.dtype = jax.numpy.zeros(1).dtype
        self.done.set()
        if self.number == 13:
            raise RuntimeError("no such program")


def test_coming_programs_are_begun_and_none_twice():
    made: list[int] = []
    lanes = {n: Compiled(n, made) for n in range(5)}
    made.clear()
    programs = CompileAhead([lambda n=n: made.append(n) or lanes[n] for n in range(5)], 2)
    assert programs.take(0) is lanes[0] and made == [0, 1, 2] and compiling()
    for one in lanes.values():
        one.go.set()
    assert all(lanes[n].done.wait(10) for n in range(3)) and not lanes[3].done.is_set()
    assert programs.take(1) is lanes[1] and made == [0, 1, 2, 3]
    assert programs.take(2) is lanes[2] and programs.take(3) is lanes[3] and programs.take(4) is lanes[4]
    assert made == [0, 1, 2, 3, 4] and lanes[4].done.wait(10)


def test_an_error_waits_for_the_one_who_needs_the_program():
    broken = Compiled(13, [])
    broken.go.set()
    programs = CompileAhead([lambda: broken], 1)
    assert programs.take(0) is broken and broken.done.wait(10)
    with pytest.raises(RuntimeError, match="no such program"):
        broken.compile()


def test_settings_of_the_callers_thread_are_not_lost():
    """What a `with` of jax has set holds in one thread: other threads then leave compiling to it."""
    lanes = Compiled(0, [])
    lanes.go.set()
    with jax.enable_x64(True):
        programs = CompileAhead([lambda: lanes], 1)
        programs.take(0)
    assert not lanes.done.wait(0.5)
    assert programs_ahead("cpu") == 0 and 1 <= programs_ahead("tpu") <= MOST_AHEAD
