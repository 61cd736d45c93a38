"""The command line, as a process."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from compressarc.cli import main

PUZZLE = "6f8cd79b"
SOLVE = ["solve", PUZZLE, "--steps", "60", "--chunk", "5", "--checkpoint-every", "1", "--out"]


def command(*arguments):
    return [sys.executable, "-m", "compressarc.cli", *map(str, arguments)]


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
        (("show", PUZZLE, "--dataset", "nowhere"), "unknown dataset 'nowhere'"),
        (("score", "missing.json"), "missing.json: no such file"),
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
    answers = {PUZZLE: [{"attempt_1": [[0]], "attempt_2": [[1]]}]}
    (tmp_path / "s.json").write_text(json.dumps(answers))
    capsys.readouterr()
    assert main(["score", str(tmp_path / "s.json")]) == 0
    assert "pass@2 0" in capsys.readouterr().out


def test_kill_and_resume_give_the_uninterrupted_result(subprocess_env, tmp_path):
    whole = run(subprocess_env, *SOLVE, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr

    cut = tmp_path / "cut"
    with subprocess.Popen(
        command(*SOLVE, cut), env=subprocess_env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.time() + 240
        while time.time() < deadline and process.poll() is None:
            done = [int(p.name) for p in (cut / "checkpoints").glob("[0-9]*") if p.name.isdigit()]
            if done and max(done) >= 10:
                break
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not (cut / "result.json").exists()

    resumed = run(subprocess_env, *SOLVE, cut, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after step" in resumed.stdout
    with np.load(tmp_path / "whole" / "history.npz") as a, np.load(cut / "history.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])
    results = [json.loads((tmp_path / d / "result.json").read_text()) for d in ("whole", "cut")]
    assert results[0]["answers"] == results[1]["answers"]

    other = run(subprocess_env, *SOLVE, cut, "--resume", "--seed", "1")
    assert other.returncode == 2 and "holds a run with another key" in other.stderr
    another = run(subprocess_env, "solve", "3618c87e", "--chunk", "5", "--out", cut, "--resume")
    assert another.returncode == 2 and "another puzzle" in another.stderr
