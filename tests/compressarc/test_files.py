"""Files that are whole or not there, locks on folders, and stopping."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressarc import files
from compressarc.cli import stopping
from compressarc.cli.stopping import Stop
from compressarc.files import printable, replace_file
from compressarc.folder_lock import folder_lock


@contextlib.contextmanager
def at_most(size):
    """No file of this process may be larger than this (`ulimit -f`), as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_where_there_is_no_room_the_old_file_stays(tmp_path):
    path = tmp_path / "result.json"
    files.write_atomically(path, "old")
    with (
        at_most(1000),
        pytest.raises(OSError, match=r"result\.json: larger than .*ulimit -f; .* free of") as error,
    ):
        files.replace_file(path, bytes(5000))
    assert "\n" not in str(error.value) and "Errno" not in str(error.value)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_file_system_is_named_with_its_room(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        files.write_atomically(tmp_path / "a.json", "old")
        with pytest.raises(
            OSError, match=r"a\.json: no space left to write it \(.* free of 65\.5 kB there\)"
        ):
            files.replace_file(tmp_path / "a.json", bytes(100_000))
        assert (tmp_path / "a.json").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_an_interrupted_picture_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "a.png") as partial:
        partial.write_bytes(b"half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[" * 100_000, b"", b"\x00" * 9])
def test_json_that_is_none_is_named(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json: not valid JSON"):
        files.read_json(path)


HOLD = """
import sys, time
from compressarc.files import printable, replace_file
from compressarc.folder_lock import folder_lock
with folder_lock(sys.argv[1]) as locked:
    print(locked, flush=True)
    time.sleep(60)
"""


def test_a_second_command_is_told_who_holds_the_folder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "True\n"
        with (
            pytest.raises(ValueError, match=rf"in use by process {holder.pid} on .* since 20") as error,
            folder_lock(tmp_path),
        ):
            pass
        assert "\n" not in str(error.value)
        holder.kill()  # the lock dies with its process, whatever it wrote
    with folder_lock(tmp_path) as locked:
        assert locked
    with folder_lock(tmp_path) as locked:
        assert locked


STOPPING = """
import hashlib, signal, sys
from compressarc.cli.stopping import Stop
with Stop(lambda: print("heard", flush=True)) as stop:
    print("begun", flush=True)
    if sys.argv[1] == "long":  # as a compilation: no instruction of Python's for a minute
        hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
    while not stop.asked:
        pass
print("saved", flush=True)
sys.exit(3)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_acknowledged_and_a_second_ends_at_once(number):
    def start(kind):
        process = subprocess.Popen([sys.executable, "-c", STOPPING, kind], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert process.stdout.readline() == "heard\n"
        return process

    once = start("short")
    assert once.communicate(timeout=20)[0] == "saved\n" and once.returncode == 3
    begun = time.monotonic()
    twice = start("long")
    twice.send_signal(number)
    assert twice.communicate(timeout=20)[0] == "" and twice.returncode == 128 + number
    assert time.monotonic() - begun < 15


def test_handlers_are_given_back():
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with Stop(lambda: None) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        while not stop.asked:
            time.sleep(0.01)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_who_holds_is_written_in_the_lock(tmp_path):
    with folder_lock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert (tmp_path / ".lock").read_text() == ""


def test_links_are_followed_and_devices_written_to(tmp_path):
    """`--out /dev/null`, a pipe or a link: what stands there is used, never replaced."""
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    replace_file(link, b"through")
    assert link.is_symlink() and target.read_bytes() == b"through"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    read = []
    reader.start()
    replace_file(pipe, b"into a pipe")
    reader.join(10)
    assert read == [b"into a pipe"] and pipe.is_fifo()
    assert not list(tmp_path.glob(".*"))


@given(st.text(max_size=50))
def test_printable_text_is_one_line(text):
    shown = printable(text)
    assert shown.isprintable() and (not text.isprintable() or len(text) > 300 or shown == text)


def test_long_text_is_shortened():
    assert len(printable("x" * 10_000)) < 400


def test_an_acknowledgement_that_fails_does_not_deafen(monkeypatch):
    """Standard output may be gone: the second signal must still end the process."""
    ended = []
    monkeypatch.setattr(stopping, "_end", ended.append)

    def fails():
        raise SystemExit(1)

    with Stop(fails) as stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
            deadline = time.time() + 10
            while (
                not (ended if stop.asked and number == signal.SIGTERM else stop.asked)
                and time.time() < deadline
            ):
                time.sleep(0.01)
    assert stop.asked and ended == [128 + signal.SIGTERM]


def test_a_closed_terminal_stops_and_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop(lambda: None) as stop:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            assert not stop.asked and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
            deadline = time.time() + 10
            while not stop.asked and time.time() < deadline:
                time.sleep(0.01)
            assert stop.asked
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_folder_that_is_none_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="a file, expected a folder"):
        files.check_writable(tmp_path / "file")
    with pytest.raises(ValueError, match="a link to nowhere"):
        files.check_writable(tmp_path / "link")
