"""The command line, as a process."""

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from compressarc.cli.main import main

MANY_STEPS = True
PUZZLE = "6f8cd79b"
# In the default chunks of 25 steps: with the program of test_solver.
SOLVE = ["solve", PUZZLE, "--steps", "150", "--checkpoint-every", "1", "--out"]


def command(*arguments):
    return [sys.executable, "-m", "compressarc.cli.main", *map(str, arguments)]


def run(env, *arguments):
    return subprocess.run(
        command(*arguments), env=env, capture_output=True, text=True, timeout=300, check=False
    )


def test_help_answers_at_once(subprocess_env):
    begun = time.perf_counter()
    done = run(subprocess_env, "--help")
    assert done.returncode == 0 and "solve" in done.stdout
    assert time.perf_counter() - begun < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("solve", "6f8cd79c"), "did you mean 6f8cd79b"),
        (("solve", "nothing.json"), "nothing.json: no such file"),
        (("solve", PUZZLE, "--steps", "0"), "steps=0: expected a positive integer"),
        (("solve", PUZZLE, "--resume"), "--resume needs --out"),
        (("solve", PUZZLE, "--time-limit", "-1"), "--time-limit"),
        (("solve", PUZZLE, "--checkpoint-every", "0"), "--checkpoint-every=0"),
        (("solve", PUZZLE, "--overwrite"), "--overwrite belongs to --out"),
        (("list", "--split", "private"), "no split 'private'; there are training, evaluation"),
        (("report", "nowhere", "--write"), "--write belongs to --vote"),
        (("submission", "nowhere.json"), "nowhere.json: no such file"),
        (("show", PUZZLE, "--dataset", "nowhere"), "unknown dataset 'nowhere'"),
        (("score", "missing.json"), "missing.json: no such file"),
        (("solve", PUZZLE, "--seed", str(2**63)), "expected at most 4294967295"),
        (("solve", PUZZLE, "--seed", "-1"), "seed=-1: expected an integer of at least 0"),
        (("solve", PUZZLE, "--chunk", "99999999999999"), "expected at most 10000"),
        (("show", PUZZLE, "--png", "x.jpg"), "expected the name of a picture"),
        (("list", "--dataset", ""), "expected a name, a folder or a file"),
    ],
)
def test_bad_input_is_named_before_any_work(arguments, message, capsys):
    begun = time.perf_counter()
    try:
        status = main(arguments)
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    captured = capsys.readouterr()
    shown = (captured.err + captured.out).replace("│", " ")  # a box around settings that are wrong
    assert message in " ".join(shown.split())
    assert time.perf_counter() - begun < 5


def test_an_output_folder_that_is_a_file(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main(["solve", PUZZLE, "--out", str(blocked)]) == 2
    assert f"{blocked}: cannot write here" in capsys.readouterr().err


def test_show_list_and_score(tmp_path, capsys):
    assert main(["show", PUZZLE, "--solution", "--png", str(tmp_path / "p.png")]) == 0
    assert (tmp_path / "p.png").exists()
    assert "train 0 input" in capsys.readouterr().out
    assert main(["list", "--split", "evaluation"]) == 0
    ids = capsys.readouterr().out.split("\n")
    assert len(ids) == 401 and ids[0] == "00576224" and all(len(i) == 8 for i in ids[:-1])
    assert main(["list", "--json"]) == 0
    every = json.loads(capsys.readouterr().out)
    assert (
        len(every) == 800 and every[0]["id"] == "007bbfb7" and every[0]["output_size"] == "as train outputs"
    )
    answers = {PUZZLE: [{"attempt_1": [[0]], "attempt_2": [[1]]}]}
    (tmp_path / "s.json").write_text(json.dumps(answers))
    capsys.readouterr()
    assert main(["score", str(tmp_path / "s.json")]) == 0
    assert "pass@2 0" in capsys.readouterr().out


def checkpoint_steps(folder):
    return [int(p.name) for p in (folder / "checkpoints").glob("[0-9]*") if p.name.isdigit()]


@contextlib.contextmanager
def stepping(env, arguments, folder, least=25):
    """A run that has taken at least so many steps, and goes on."""
    with subprocess.Popen(
        command(*arguments, folder), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.time() + 240
        while time.time() < deadline and process.poll() is None:
            if max(checkpoint_steps(folder), default=0) >= least:
                break
            time.sleep(0.02)
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def whole(subprocess_env, tmp_path_factory):
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("solve") / "whole"
    done = run(subprocess_env, *SOLVE, folder)
    assert done.returncode == 0, done.stderr
    return folder


def same_result(one, other):
    with np.load(one / "history.npz") as a, np.load(other / "history.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])
    results = [json.loads((d / "result.json").read_text()) for d in (one, other)]
    assert results[0]["answers"] == results[1]["answers"]


def test_kill_and_resume_give_the_uninterrupted_result(subprocess_env, whole, tmp_path):
    cut = tmp_path / "cut"
    with stepping(subprocess_env, SOLVE, cut) as process:
        os.kill(process.pid, signal.SIGKILL)
    assert not (cut / "result.json").exists()

    again = run(subprocess_env, *SOLVE, cut)
    assert again.returncode == 2 and "steps; go on with --resume" in again.stderr
    resumed = run(subprocess_env, *SOLVE, cut, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after step" in resumed.stdout
    assert re.search(r"steps in .* by this process, 150 in .* in all", resumed.stdout)
    same_result(whole, cut)
    result = json.loads((cut / "result.json").read_text())
    assert result["seconds_of_all_processes"] > result["seconds"] and result["steps_of_this_process"] < 150


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_stepping_and_resumed(subprocess_env, whole, tmp_path, number):
    cut = tmp_path / "cut"
    with stepping(subprocess_env, SOLVE, cut) as process:
        process.send_signal(number)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 3 and not error, error
    assert "stopping after this chunk of steps; again to stop at once" in out
    assert "of 150 steps: go on with --resume" in out and "guess 1" in out
    result = json.loads((cut / "result.json").read_text())
    assert result["status"] == "interrupted" and result["steps"] in checkpoint_steps(cut)
    assert run(subprocess_env, *SOLVE, cut, "--resume").returncode == 0
    same_result(whole, cut)


def test_a_finished_run_is_shown_again_and_not_begun_anew(subprocess_env, whole):
    before = {p: p.read_bytes() for p in (whole / "checkpoints").rglob("*") if p.is_file()}
    again = run(subprocess_env, *SOLVE, whole)
    assert again.returncode == 0 and "holds this run already, all 150 steps" in again.stdout
    assert "compiling" not in again.stdout and "guess 1" in again.stdout
    assert {p: p.read_bytes() for p in (whole / "checkpoints").rglob("*") if p.is_file()} == before
    result = json.loads((whole / "result.json").read_text())
    assert result["status"] == "finished" and result["steps"] == 150


@pytest.mark.slow
def test_what_is_damaged_beside_whole_checkpoints_is_written_anew(subprocess_env, whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    (copy / "result.json").write_bytes((whole / "result.json").read_bytes()[:100])
    (copy / "checkpoints" / "run.json").write_text("{")
    resumed = run(subprocess_env, *SOLVE, copy, "--resume")
    assert resumed.returncode == 0 and "result.json: damaged" in resumed.stdout, resumed.stderr
    same_result(whole, copy)
    (copy / "checkpoints" / "run.json").unlink()
    other = run(subprocess_env, *SOLVE, copy, "--resume", "--b2", "0.8")
    assert other.returncode == 2 and "another b2: 0.9, asked for 0.8" in other.stderr
    assert run(subprocess_env, *SOLVE, copy, "--resume").returncode == 0
    shutil.rmtree(copy / "checkpoints")
    kept = (copy / "result.json").read_bytes()
    for options, message in (((), "no checkpoints to go on from"), (("--b2", "0.8"), "another b2")):
        refused = run(subprocess_env, *SOLVE, copy, *options)
        assert refused.returncode == 2 and message in refused.stderr
    assert (copy / "result.json").read_bytes() == kept


def test_a_batch_is_not_overwritten_by_a_run(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "kept").write_text("x")
    (tmp_path / "settings.json").write_text("{}")
    assert main(["solve", PUZZLE, "--out", str(tmp_path), "--overwrite"]) == 2
    assert "holds a batch" in capsys.readouterr().err and (tmp_path / "checkpoints" / "kept").exists()


@pytest.mark.slow
def test_a_run_outlives_its_output(subprocess_env, whole, tmp_path):
    """Nobody reads it any more, or the disk that it is written to is full: the run itself is kept."""
    folder = tmp_path / "closed"
    with subprocess.Popen(
        command(*SOLVE, folder), env=subprocess_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 0 and not error, error
    same_result(whole, folder)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(*SOLVE, tmp_path / "full"),
            env=subprocess_env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "compressarc: standard output: No space left on device; going on without it\n"
    same_result(whole, tmp_path / "full")


@pytest.mark.slow
def test_a_second_command_on_the_folder_is_refused(subprocess_env, tmp_path):
    with stepping(subprocess_env, SOLVE, tmp_path / "run") as process:
        second = run(subprocess_env, *SOLVE, tmp_path / "run", "--overwrite")
        assert second.returncode == 2 and f"in use by process {process.pid} on " in second.stderr
        assert len(second.stderr.splitlines()) == 1


@pytest.mark.slow
def test_what_a_folder_holds_is_refused_by_the_name_of_the_setting(subprocess_env, whole, tmp_path):
    cases = [
        (("--resume", "--seed", "1"), "another key: seed 0, asked for seed 1"),
        (("--seed", "1"), "another key: seed 0, asked for seed 1"),
        (
            ("--steps", "100"),
            "holds the result of this run with 150 steps, more than the --steps 100 asked for",
        ),
        (("--resume", "--steps", "100"), "150 steps, more than the --steps 100 asked for"),
        (("--resume", "--b1", "0.9"), "another b1: 0.5, asked for 0.9"),
        (("--steps", "175"), "holds this run after 150 steps; go on with --resume"),
    ]
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    for options, message in cases:
        refused = run(subprocess_env, *SOLVE, whole, *options)
        assert refused.returncode == 2 and message in refused.stderr, (options, refused.stderr)
        assert len(refused.stderr.splitlines()) == 1
    another = run(subprocess_env, "solve", "3618c87e", "--out", whole, "--resume")
    assert another.returncode == 2 and "another puzzle: 6f8cd79b, asked for 3618c87e" in another.stderr
    assert {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()} == before
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    done = run(subprocess_env, "solve", PUZZLE, "--steps", "10", "--out", copy, "--overwrite")
    assert done.returncode == 0 and json.loads((copy / "result.json").read_text())["steps"] == 10


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_an_older_one_used(subprocess_env, whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    newest, older = sorted(checkpoint_steps(copy))[::-1]
    (damaged,) = (copy / "checkpoints" / str(newest)).rglob("arrays.npz")
    damaged.write_bytes(damaged.read_bytes()[:1000])
    resumed = run(subprocess_env, *SOLVE, copy, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert f"checkpoints/{newest}: damaged checkpoint" in resumed.stdout
    assert f"removed; going on from step {older}" in resumed.stdout
    same_result(whole, copy)
    for path in (copy / "checkpoints").rglob("arrays.npz"):
        path.write_bytes(b"nothing")
    refused = run(subprocess_env, *SOLVE, copy, "--resume")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "damaged checkpoint" in refused.stderr and "to begin the run anew" in refused.stderr


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_guesses(subprocess_env, whole, tmp_path):
    """`ulimit -f`: checkpoints of 660 kB don't fit; nothing that was there is damaged."""
    folder = tmp_path / "run"
    begin = ["solve", PUZZLE, "--checkpoint-every", "1", "--out", folder]
    first = run(subprocess_env, *begin, "--steps", "25")
    assert first.returncode == 0, first.stderr
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    limited = " ".join(command(*begin, "--steps", "150", "--resume"))
    full = subprocess.run(
        ["bash", "-c", f"ulimit -f 300; exec {limited}"], env=subprocess_env, capture_output=True, text=True
    )
    assert full.returncode == 2 and len(full.stderr.splitlines()) == 1, full.stderr
    assert re.search(
        r"checkpoints/50: larger than this process may write \(ulimit -f; .* free of", full.stderr
    )
    assert "guesses after 50 steps" in full.stdout and "guess 1" in full.stdout
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert run(subprocess_env, *begin, "--steps", "150", "--resume").returncode == 0
    same_result(whole, folder)


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"compressarc {importlib.metadata.version('quintet-jax')}\n"


@pytest.mark.slow
def test_interrupted_before_anything_has_begun(subprocess_env):
    """While Python imports and parses: one line, no traceback."""
    for delay in (0.15, 0.4, 0.8):
        with subprocess.Popen(
            [sys.executable, "-m", "compressarc", "solve", PUZZLE], env=subprocess_env,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            time.sleep(delay)
            process.send_signal(signal.SIGTERM)
            out, error = process.communicate(timeout=120)
        assert "Traceback" not in error and process.returncode in (3, -signal.SIGTERM), error
        if process.returncode == 3:
            assert "stopped" in out + error


def test_shares_of_a_split_are_merged_into_one_submission(tmp_path, capsys):
    from compressarc.datasets import load_splits

    puzzles = load_splits()["evaluation"]
    names = list(puzzles)
    shares = []
    for part in range(2):
        made = {
            n: [{"attempt_1": [[part + 1]], "attempt_2": [[3]]} for _ in puzzles[n].test]
            for n in names[part:398:2]
        }
        shares.append(tmp_path / f"{part}.json")
        shares[-1].write_text(json.dumps(made))
    out = tmp_path / "all.json"
    arguments = [
        "submission",
        *map(str, shares),
        "--out",
        str(out),
        "--dataset",
        "arcagi",
        "--split",
        "evaluation",
    ]
    assert main(arguments) == 1
    shown = capsys.readouterr().out
    assert "398 of 400 puzzles of arcagi evaluation" in shown
    assert f"2 in no share, and blank in the file: {names[398]}, {names[399]}" in shown
    merged = json.loads(out.read_text())
    assert list(merged) == names and merged[names[1]][0]["attempt_1"] == [[2]]
    assert merged[names[399]][0]["attempt_2"] == [[0, 0], [0, 0]]
    assert all(len(merged[n]) == len(puzzles[n].test) for n in names)


def test_an_interruption_within_a_dataclass_ends_with_our_status(tmp_path):
    """Python itself would end with the signal's, see `__main__`."""
    code = (
        "import sys, types, compressarc.__main__ as m\n"
        "cli = types.ModuleType('compressarc.cli.main')\n"
        "def main():\n"
        "    exec('raise KeyboardInterrupt')\n"
        "cli.main = main\n"
        "sys.modules['compressarc.cli.main'] = cli\n"
        "sys.exit(m.main())\n"
    )
    (tmp_path / "interrupted.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 3 and done.stderr == "compressarc: stopped\n"
