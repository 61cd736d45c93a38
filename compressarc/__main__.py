"""`python -m compressarc`, and the command itself: an interruption is one line from the first moment on."""

import signal
import sys


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Runs the command line; its import takes half a second, in which Ctrl-C may come, too."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        from compressarc.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("compressarc: stopped\n")
        return 3
    finally:
        signal.signal(signal.SIGTERM, before)
        # Had the interruption come while Python executed a string, as for every dataclass, it would end
        # with the signal's status, whatever is returned here: unless another string is executed after it.
        eval("0")


if __name__ == "__main__":
    sys.exit(main())
