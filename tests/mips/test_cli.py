"""The command line: results on disk, bad input, a kill in the middle."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

COMMAND = [sys.executable, "-m", "mips.cli"]


def mips(*arguments, env, cwd, status=0):
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, env=env, cwd=cwd, timeout=300
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stdout + done.stderr


def test_solve_show_verify_report(subprocess_env, tmp_path):
    def run(*arguments, status=0):
        return mips(*arguments, env=subprocess_env, cwd=tmp_path, status=status)

    text = run("solve", "Div_3", "--out", "out")
    assert "% 3" in text and "right on 100 % of 20000 fresh sequences" in text
    result = tmp_path / "out" / "div_3.json"
    assert json.loads(result.read_text())["report"]["exact"]
    assert "\\bmod 3" in run("show", result, "--form", "latex")
    assert "digraph" in run("show", result, "--form", "dot", "--png", "m.png")
    assert (tmp_path / "m.png").stat().st_size > 5_000
    assert "right on 100 %" in run("verify", "out/div_3.py", "--task", "Div_3")
    x = np.zeros((3, 4), int)
    np.savez(tmp_path / "wrong.npz", x=x, y=x + 1)
    assert "shortest counterexample: x=[[0]]" in run(
        "verify", "out/div_3.py", "--data", "wrong.npz", status=1
    )
    page = run("report", "out")
    assert "1 of 1 by formulas" in page and (tmp_path / "out" / "report.html").exists()
    before = result.stat().st_mtime_ns
    assert "1 of 1 tasks are done already" in run("solve", "Div_3", "--out", "out", "--resume")
    assert result.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["solve", "Div3"], "did you mean Div_3"),
        (["solve", "absent.npz"], "no such file"),
        (["solve", "Div_3", "--resume"], "--out"),
        (["solve", "Div_3", "--workers", "0"], "at least 1"),
        (["solve", "Abs_Current", "--route", "automaton", "--no-baseline"], "200 symbols"),
        (["solve", "Div_3", "--route", "data", "--steps", "0"], "steps=0"),
        (["verify", "absent.py", "--task", "Div_3"], "absent.py: no such file"),
        (["report", "absent"], "no such folder"),
        (["show", "absent.json"], "not a result"),
    ],
)
def test_bad_input_is_named_before_any_work(arguments, error, subprocess_env, tmp_path):
    text = mips(*arguments, env=subprocess_env, cwd=tmp_path, status=2)
    assert error in text and "Traceback" not in text


def test_listing_is_complete_and_light(subprocess_env, tmp_path):
    text = mips("tasks", env=subprocess_env, cwd=tmp_path)
    assert "Newton_Magnetic" in text and "Group_S3" in text
    code = "import sys, mips.cli; assert not {'jax', 'sympy', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_results_of_other_settings_or_tasks_are_not_taken_over(subprocess_env, tmp_path):
    def run(*arguments, status=0):
        return mips(*arguments, env=subprocess_env, cwd=tmp_path, status=status)

    run("solve", "Bitwise_Xor", "--route", "data", "--out", "o")
    assert "route='data' (now 'auto')" in run("solve", "Bitwise_Xor", "--out", "o", "--resume", status=2)
    x = np.random.default_rng(0).integers(0, 2, (200, 6))
    np.savez(tmp_path / "Bitwise_Xor.npz", x=x, y=x)
    assert "another task" in run("solve", "Bitwise_Xor.npz", "--out", "o", "--route", "data", status=2)
    run("solve", "Bitwise_Xor.npz", "--out", "mine", "--route", "data")
    assert "MIPS (paper): 0" in run("report", "mine")
    run("solve", "Bitwise_Xor", "--budget-minutes", "0.00001", "--out", "o")
    assert json.loads((tmp_path / "o" / "bitwise_xor.json").read_text())["status"] == "formula"
    (tmp_path / "file").write_text("")
    assert "must be a folder" in run("solve", "Div_3", "--out", "file", status=2)


def test_a_budget_that_runs_out_is_said(subprocess_env, tmp_path):
    mips("solve", "Div_3", "--budget-minutes", "0.0001", "--out", "o", env=subprocess_env, cwd=tmp_path)
    data = json.loads((tmp_path / "o" / "div_3.json").read_text())
    assert data["status"] == "unfinished" and "budget" in data["notes"][0]
    assert "formula" in mips("solve", "Div_3", "--out", "o", "--resume", env=subprocess_env, cwd=tmp_path)


def test_a_killed_run_goes_on_to_the_same_results(subprocess_env, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    code = (
        "import mips.tasks.library as l, mips.tasks as t, sys\n"
        "names = ('Parity_All', 'Bit_Shift_Right', 'Add_Mod_3')\n"
        "chosen = {n: l.PUBLISHED[n] for n in names}\n"
        "l.HARDER.clear(); l.HARDER.update(chosen)\n"
        "from mips.cli import main\n"
        "main(['solve', 'harder', '--out', sys.argv[1], '--resume', '--no-baseline'])\n"
    )
    arguments = [sys.executable, "-c", code]
    subprocess.run([*arguments, str(whole)], check=True, env=subprocess_env, timeout=300, capture_output=True)
    victim = subprocess.Popen([*arguments, str(cut)], env=subprocess_env, stdout=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not list(cut.glob("*.json")) and time.time() < deadline:
        time.sleep(0.02)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert 0 < len(list(cut.glob("*.json"))) < 3
    subprocess.run([*arguments, str(cut)], check=True, env=subprocess_env, timeout=300, capture_output=True)
    for path in whole.glob("*.json"):
        one, two = (json.loads((folder / path.name).read_text()) for folder in (whole, cut))
        one.pop("seconds"), two.pop("seconds")
        assert one == two
