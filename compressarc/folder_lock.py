"""One command at a time works on a folder: a lock that ends with the process that holds it.

The lock is the operating system's (`flock`) on the file `.lock`, so it is gone with its process,
however that ended. Over a network: NFS passes it on to the server (version 4, and Linux clients
of version 3), so that it holds between hosts, after the loss of a host until the server's lease
ends, 90 s usually; Lustre does if it is mounted with `flock`. Object stores mounted as folders
(gcsfuse, s3fs) lock within one host only. Where the file system or the platform has no such
locks, the command goes on without one and says so.

The file says who holds it, for the message that others get.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from compressarc.files import named, naming

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


def _holder(file: int) -> str:
    """Who holds the lock, as far as the file says."""
    try:
        data = json.loads(os.pread(file, 4096, 0))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(data["since"])))
        return f"process {data['pid']} on {data['host']} since {since} ({data['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _sign(file: int) -> None:
    """Writes who holds the lock; a full disk only costs others the name."""
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.time(),
        "command": " ".join(["compressarc", *sys.argv[1:]])[:200],
    }
    with contextlib.suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(about).encode(), 0)


@contextlib.contextmanager
def folder_lock(folder: str | Path) -> Iterator[bool]:
    """Holds the folder, which must exist, while the block runs.

    Yields whether it is locked: False where there are no locks.

    Raises: ValueError that says who holds it if another process does.
    """
    try:
        import fcntl
    except ImportError:  # not a Unix
        yield False
        return
    path = Path(folder) / ".lock"
    with naming(path):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        locked = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{folder}: in use by {_holder(file)}; wait for it to end, or choose another folder"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise named(error, path) from error
            locked = False
        if locked:
            _sign(file)
        try:
            yield locked
        finally:
            if locked:
                with contextlib.suppress(OSError):
                    os.ftruncate(file, 0)
    finally:
        os.close(file)
