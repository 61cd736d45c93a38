"""Worker processes end with what they work for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PARENT = """
import os, time
from mips.workers import pool_of

if __name__ == "__main__":
    with pool_of(2) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        list(pool.map(time.sleep, [300, 300]))
"""


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(how, subprocess_env, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, script],
        env=subprocess_env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        worker = int(parent.stdout.readline())
        assert alive(worker)
        os.kill(parent.pid, how)
        assert parent.wait(timeout=20) != 0
        end = time.monotonic() + 20
        while alive(worker) and time.monotonic() < end:
            time.sleep(0.1)
        assert not alive(worker)
    finally:
        parent.kill()
