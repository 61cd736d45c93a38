"""Ctrl-C and SIGTERM: the first asks to stop, a second one ends at once.

Python runs its own handlers only between two of its instructions, and compilation is one that
takes half a minute. So signals are also written into a pipe, from which a thread reads, says
what will happen, and ends the process if told a second time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, the end that a scheduler asks for, and a terminal that is closed."""

STOPPED = 3
"""Exit status of a command that was stopped and can go on."""


class Stop:
    """While the block runs, the first signal sets `asked`; the second ends the process."""

    def __init__(self, acknowledge: Callable[[], None]) -> None:
        """acknowledge: called once, in a thread of its own, as soon as a stop is asked for."""
        self._acknowledge = acknowledge
        self._asked = threading.Event()

    @property
    def asked(self) -> bool:
        """Whether a stop was asked for."""
        return self._asked.is_set()

    def __enter__(self) -> Stop:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread hears signals
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._fd_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        # Handlers that do nothing: what counts is that the pipe hears of it.
        # One that is ignored stays so: nohup, or a job in the background of a script.
        heard = [s for s in SIGNALS if signal.getsignal(s) != signal.SIG_IGN]
        self._before = {s: signal.signal(s, lambda *_: None) for s in heard}
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if not hasattr(self, "_before"):
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        os.close(self._write)
        self._listener.join()
        os.close(self._read)

    def _listen(self) -> None:
        while numbers := os.read(self._read, 64):
            for number in numbers:
                if number not in self._before:
                    continue
                if self._asked.is_set():
                    _end(128 + number)
                self._asked.set()
                with contextlib.suppress(Exception, SystemExit):  # nobody may read it any more
                    self._acknowledge()


def _end(status: int) -> None:
    """Ends the process without waiting for compiler or device; files are whole at any moment."""
    with contextlib.suppress(Exception):
        if os.isatty(1):
            os.write(1, b"\x1b[?25h\r\n")  # a progress bar hides the cursor, and has taken `sys.stdout`
        else:
            sys.stdout.flush()
    os._exit(status)
