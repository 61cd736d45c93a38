"""The command line: results on disk, bad input, a kill in the middle."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mips import cli
from mips.cli import main
from mips.programs.program import parse_program
from mips.report import result_files as store
from tests.mips.report.test_result_files import EMPTY, FULL, result

COMMAND = [sys.executable, "-m", "mips.cli"]


def status_of(arguments):
    """The exit status of the command line, run in this process; 0 where it returns."""
    try:
        main(list(map(str, arguments)))
    except SystemExit as done:
        return done.code
    return 0


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
    ("form", "wanted"),
    [
        ("python", ["shortest counterexample: x=[[1], [2]] expected [3]", "- another", "s = s + x"]),
        ("latex", ["\\begin{aligned}", "s_0 = 0"]),
        ("sympy", ["s' = s + x", "y = s + x"]),
        ("front", ["100 % right, 90 % as the network: s = 0; for x in xs: s = s + x; yield s"]),
        ("dot", ["digraph machine {"]),
        ("json", ['"task": "Mine <b>[/x]"']),
    ],
)
def test_a_result_is_shown_in_every_form(form, wanted, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    path = store.write(tmp_path, FULL)
    assert status_of(["show", path, "--form", form]) == 0
    text = capsys.readouterr().out
    for part in wanted:
        assert part in text
    if form == "json":
        assert json.loads(text) == FULL


def test_no_line_of_a_program_is_broken_at_the_terminals_width(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    long = "def f(xs):\n    for x in xs:\n        yield " + " + ".join(["x"] * 60)
    tree = {"program": parse_program(long).to_json(), "task": "f", "source": "edited by hand"}
    path = store.write(tmp_path, FULL | tree | {"latex": "a " * 90, "dot": "digraph " + "b; " * 90})
    for form, text in (("python", long), ("latex", "a " * 90), ("dot", "digraph " + "b; " * 90)):
        assert status_of(["show", path, "--form", form]) == 0
        assert text.rstrip() in capsys.readouterr().out


def test_names_of_tasks_are_whole_in_narrow_tables(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    name = "Alternating_Last4_Of_My_Log"
    store.write(tmp_path, FULL | {"task": name})
    assert status_of(["report", tmp_path]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if name in line]
    assert "formula" in line and "50.0" in line and len(line) <= 80  # the whole row is in one line


def test_an_interruption_is_one_line(capsys, monkeypatch):
    def interrupted(_command):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_solve", interrupted)
    assert status_of(["solve", "Sum_All"]) == 130
    assert capsys.readouterr().err == "mips: interrupted\n"
    assert status_of(["solve", "Sum_All", "--out", "there"]) == 130
    assert "--resume keeps" in capsys.readouterr().err


def test_a_result_without_program_or_machine_says_so(capsys, tmp_path):
    path = store.write(tmp_path, store.to_json(result(**EMPTY)))
    for form, said in (("python", "no program"), ("latex", "no formula"), ("dot", "no machine")):
        assert status_of(["show", path, "--form", form]) == 0
        assert said in capsys.readouterr().out
    for arguments, said in (
        (["--form", "sympy"], "was not solved"),
        (["--png", tmp_path / "m.png"], "none to draw"),
    ):
        assert status_of(["show", path, *arguments]) == 2
        assert said in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "m.png").exists()


def test_a_program_is_checked_on_recorded_sequences_and_the_status_says_how(capsys, tmp_path):
    x = np.random.default_rng(0).integers(0, 4, (30, 5))
    program = store.write(tmp_path, FULL).with_suffix(".py")
    np.savez(
        tmp_path / "right.npz",
        x=x,
        y=np.cumsum(x, axis=1),
        x_long=np.ones((2, 9), int),
        y_long=[range(1, 10)] * 2,
    )
    assert status_of(["verify", program, "--data", tmp_path / "right.npz"]) == 0
    text = capsys.readouterr().out
    assert "right on 100 % of 30 sequences of length 5" in text and "of 2 sequences of length 9" in text
    np.savez(tmp_path / "wrong.npz", x=x, y=np.cumsum(x, axis=1) + (x == 3))
    assert status_of(["verify", program, "--data", tmp_path / "wrong.npz"]) == 1
    assert "shortest counterexample: x=" in capsys.readouterr().out
    failing = tmp_path / "fails.py"
    failing.write_text("def f(xs):\n    for x in xs:\n        yield 1 // (x - x)\n")
    assert status_of(["verify", failing, "--data", tmp_path / "right.npz"]) == 1
    assert "got an error" in capsys.readouterr().out


def test_a_folder_is_reported_with_its_names_as_they_are(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    store.write(tmp_path, FULL)
    store.write(tmp_path, store.to_json(result(**EMPTY | {"task": "Sum_All"}), origin="benchmark"))
    assert status_of(["report", tmp_path]) == 0
    text = capsys.readouterr().out
    assert "Mine <b>[/x]" in text and text.index("Sum_All") < text.index("Mine")  # the paper's come first
    assert "1 of 2 by formulas" in text and (tmp_path / "report.html").exists()


def solve(folder, **changes):
    return cli.Solve(("Sum_All",), out=folder, **changes)


def test_results_in_the_folder_are_kept_where_they_are_finished_and_made_alike(tmp_path):
    ours = solve(tmp_path / "o", resume=True)
    assert cli._kept(solve(None), {}) == {} == cli._kept(ours, {"Sum_All": "Sum_All"})
    made = cli._made_with(ours.config, 0, ours.records)
    data = store.to_json(result(task="Sum_All"), origin="benchmark", made_with=made)
    store.write(tmp_path / "o", data)
    names = {"Sum_All": "Sum_All"}
    assert cli._kept(ours, names) == {"Sum_All": data}
    assert cli._kept(ours, {"Div_3": "Div_3"}) == {} == cli._kept(solve(tmp_path / "o"), names)
    with pytest.raises(ValueError, match=r"made with seed=0 \(now 7\); take another --out"):
        cli._kept(solve(tmp_path / "o", resume=True, seed=7), names)
    with pytest.raises(ValueError, match="another task"):
        cli._kept(ours, {"sum_all": "sum_all"})
    assert cli._finished_before(tmp_path / "o", "Sum_All")
    store.write(tmp_path / "o", data | {"status": "unfinished"})
    assert cli._kept(ours, names) == {} and not cli._finished_before(tmp_path / "o", "Sum_All")
    assert not cli._finished_before(tmp_path / "o", "Div_3")


@pytest.mark.parametrize("damage", ["", "{", '{"format": 1, "task": 3}'])
def test_a_damaged_result_does_not_stop_a_resumed_run(damage, tmp_path, capsys):
    ours = solve(tmp_path, resume=True)
    data = store.to_json(
        result(task="Sum_All"),
        origin="benchmark",
        made_with=cli._made_with(ours.config, ours.seed, ours.records),
    )
    store.write(tmp_path, data)
    hurt = tmp_path / "div_3.json"
    hurt.write_text(damage)
    names = {"Sum_All": "Sum_All", "Div_3": "Div_3"}
    with pytest.raises(ValueError, match=r"div_3\.json"):
        cli._kept(solve(tmp_path), names)
    assert cli._kept(ours, names) == {"Sum_All": data}
    assert "div_3.json" in capsys.readouterr().err
    assert not hurt.exists() and (tmp_path / "div_3.json.damaged").read_text() == damage


def test_files_are_told_from_names_by_their_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [cli._is_file(w) for w in ("Div_3", "a.npz", "a.csv", "./a", "a.json")] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert cli._origin("Div_3") == "benchmark" and cli._origin("a.csv") == str(tmp_path.resolve() / "a.csv")


def test_a_task_is_solved_from_data_in_this_process(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).integers(0, 4, (200, 5))
    np.savez("[b]odd.npz", x=x, y=x + 2)  # a name that would be markup
    arguments = ["solve", "[b]odd.npz", "--route", "data", "--out", "o", "--no-cache"]
    assert status_of(arguments) == 0
    text = capsys.readouterr().out
    assert "x + 2" in text and "[b]odd" in text and "formula from data" in text
    assert status_of([*arguments, "--resume"]) == 0
    assert "1 of 1 tasks are done already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["solve", "Div3"], "did you mean Div_3"),
        (["solve", "absent.npz"], "no such file"),
        (["solve", "Div_3", "--resume"], "--out"),
        (["solve", "Div_3", "--workers", "0"], "at least 1"),
        (["solve", "Abs_Current", "--route", "automaton", "--no-baseline"], "200 symbols"),
        (["solve", "Div_3", "--route", "data", "--steps", "0"], "steps=0"),
        (["solve", "Div_3", "--seed", "-1"], "--seed -1: must be from 0 to 2^32 - 1"),
        (["solve", "Div_3", "--seed", "4294967296"], "--seed 4294967296"),
        (["solve", "Div_3", "--budget-minutes", "0"], "--budget-minutes 0.0: must be positive"),
        (["solve", "Div_3", "--budget-minutes", "nan"], "--budget-minutes nan: must be positive"),
        (["solve", "a/b", "--workers", "2"], "a/b: no such file"),
        (["verify", "absent.py", "--task", "Div_3"], "absent.py: no such file"),
        (["verify", "absent.py"], "give either --data FILE or --task NAME"),
        (["verify", "absent.py", "--task", "Div_3", "--data", "x.npz"], "give either --data"),
        (["report", "."], "no results of `mips solve --out` there"),
        (["show", "absent.json", "--png", "no/such/x.png"], "no/such/x.png: there is no folder"),
        (["normalize", "Div_3", "--png", "no/such/x.png"], "no/such/x.png: there is no folder"),
        (["report", "absent"], "no such folder"),
        (["show", "absent.json"], "not a result"),
    ],
)
def test_bad_input_is_named_before_any_work(arguments, error, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # In this process: the compilation cache of whoever runs the tests is not theirs.
    assert status_of([*arguments, *(["--no-cache"] if arguments[0] == "solve" else [])]) == 2
    said = capsys.readouterr()
    assert error in said.err and "Traceback" not in said.out + said.err
    if "Value error" not in said.err:  # settings, which the parser of the command line shows in its own way
        assert said.err.startswith("mips: ") and said.err.count("\n") == 1


def test_listing_is_complete_and_light(subprocess_env, tmp_path):
    text = mips("tasks", env=subprocess_env, cwd=tmp_path)
    assert "Newton_Magnetic" in text and "Group_S3" in text
    code = "import sys, mips.cli; assert not {'jax', 'sympy', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_budget_that_runs_out_is_said(subprocess_env, tmp_path):
    mips("solve", "Div_3", "--budget-minutes", "0.0001", "--out", "o", env=subprocess_env, cwd=tmp_path)
    data = json.loads((tmp_path / "o" / "div_3.json").read_text())
    assert data["status"] == "unfinished" and "budget" in data["notes"][0]
    assert "formula" in mips("solve", "Div_3", "--out", "o", "--resume", env=subprocess_env, cwd=tmp_path)


@pytest.mark.slow
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


def test_what_a_killed_run_left_half_written_goes_when_it_is_resumed(tmp_path):
    ours, foreign = (tmp_path / f".{name}.json.0123.partial" for name in ("sum_all", "prev1"))
    for path in (ours, foreign):
        path.write_text("{")
    command = cli.Solve(("Sum_All",), out=tmp_path, resume=True)
    assert cli._kept(command, {"Sum_All": "Sum_All"}) == {}
    assert not ours.exists() and foreign.exists()
