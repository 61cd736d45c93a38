"""`python -m compressarc`, and the command itself: an interruption is one line from the first moment on."""

import signal
import sys


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Runs the command line; its import takes half a second, in which Ctrl-C may come, too."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        from compressarc.cli import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("compressarc: stopped\n")
        return 3
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
