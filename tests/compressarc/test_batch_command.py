"""`compressarc batch` as a process: stopped, killed, without room, beside another; and what it says."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.console import Console

from compressarc.batch.device_model import device_model
from compressarc.batch.mesh_engine import Event, run_batch
from compressarc.batch.plan import make_plan
from compressarc.batch.records import BatchSettings, Record, RunStatus
from compressarc.batch.store import RunFolder
from compressarc.cli import batch_terminal
from compressarc.cli import main as cli
from compressarc.cli.batch_terminal import BatchDisplay, show_summary
from compressarc.config import SolveConfig
from compressarc.files import replace_json
from compressarc.network.inputs import signature
from compressarc.solver.voting import count_votes
from tests.compressarc import batches, made_up, zoo

STEPS = 400
OPTIONS = ["--chunk", "5", "--programs", "1", "--lanes", "2", "--devices", "1", "--checkpoint-every", "1"]


def command(*arguments):
    return [sys.executable, "-m", "compressarc", "batch", *map(str, arguments)]


def run(env, *arguments):
    return subprocess.run(
        command(*arguments), env=env, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory):
    """A folder of puzzles, with one split: nothing to choose."""
    folder = tmp_path_factory.mktemp("puzzles")
    batches.write_puzzles(folder)
    return folder


@pytest.fixture(scope="module")
def whole(subprocess_env, puzzles, tmp_path_factory):
    """The folder of an uninterrupted batch."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = run(subprocess_env, "--dataset", puzzles, "--steps", STEPS, *OPTIONS, "--out", folder)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 puzzles done" in done.stdout
    assert len(re.findall("bucket 1 of 1: compiling", done.stdout)) == 1
    return folder


def checkpoint_steps(folder):
    found = (folder / "checkpoints").glob("*/*/[0-9]*")
    return [int(p.name) for p in found if p.name.isdigit() and (p / "_CHECKPOINT_METADATA").exists()]


@contextlib.contextmanager
def stepping(env, puzzles, folder):
    """A batch that has written checkpoints and goes on."""
    arguments = ("--dataset", puzzles, "--steps", STEPS, *OPTIONS, "--out", folder)
    with subprocess.Popen(
        command(*arguments), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.time() + 240
        while time.time() < deadline and process.poll() is None and not checkpoint_steps(folder):
            time.sleep(0.02)
        try:
            yield process
        finally:
            process.kill()


def same_results(one, other):
    for name in batches.PUZZLES:
        a, b = (RunFolder(f).record(name, 0) for f in (one, other))
        for field in ("kl", "reconstruction", "proposals", "weights"):
            np.testing.assert_array_equal(getattr(a.history, field), getattr(b.history, field))
    assert (one / "submission.json").read_bytes() == (other / "submission.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed(subprocess_env, puzzles, whole, tmp_path, number):
    cut = tmp_path / "cut"
    with stepping(subprocess_env, puzzles, cut) as process:
        process.send_signal(number)
        out, error = process.communicate(timeout=100)
    assert process.returncode == 3 and not error, error
    assert "stopping after this chunk of steps, with checkpoints; again to stop at once" in out
    assert "stopped before the end: go on with --resume" in out and "2 under way" in out
    results = RunFolder(cut).results()
    assert len(results) == 2
    assert all(0 < r["steps"] < STEPS and r["status"] == "running" and r["answers"] for r in results.values())
    blank = [[0, 0], [0, 0]]
    attempts = json.loads((cut / "submission.json").read_text())
    assert any(a["attempt_1"] != blank for outputs in attempts.values() for a in outputs)
    resumed = run(subprocess_env, "--resume", "--devices", "1", "--out", cut)
    assert resumed.returncode == 0, resumed.stderr
    same_results(whole, cut)


@pytest.mark.slow
def test_told_twice_it_ends_at_once(subprocess_env, puzzles, tmp_path):
    with stepping(subprocess_env, puzzles, tmp_path / "cut") as process:
        process.send_signal(signal.SIGSTOP)  # so that both arrive within one chunk
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        _, error = process.communicate(timeout=30)
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM) and not error


@pytest.mark.slow
def test_a_second_command_on_the_folder_is_refused(subprocess_env, puzzles, tmp_path):
    with stepping(subprocess_env, puzzles, tmp_path / "run") as process:
        second = run(subprocess_env, "--resume", "--devices", "1", "--out", tmp_path / "run")
    assert second.returncode == 2 and f"in use by process {process.pid} on " in second.stderr
    assert len(second.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_guesses(subprocess_env, puzzles, whole, tmp_path):
    folder = tmp_path / "run"
    with stepping(subprocess_env, puzzles, folder) as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=100)
    before = {p: p.read_bytes() for p in (folder / "checkpoints").rglob("*") if p.is_file()}
    limited = " ".join(command("--resume", "--devices", "1", "--out", folder))
    full = subprocess.run(
        ["bash", "-c", f"ulimit -f 300; exec {limited}"], env=subprocess_env, capture_output=True, text=True
    )
    assert full.returncode == 2 and len(full.stderr.splitlines()) == 1, full.stderr
    assert re.search(r"larger than this process may write \(ulimit -f; .* free of", full.stderr)
    assert "what was there is whole, and the batch goes on with --resume" in full.stderr
    assert "0 of 3 puzzles done, 2 under way" in full.stdout
    assert {p: p.read_bytes() for p in (folder / "checkpoints").rglob("*") if p.is_file()} == before
    assert run(subprocess_env, "--resume", "--devices", "1", "--out", folder).returncode == 0
    same_results(whole, folder)


@pytest.mark.slow
def test_damaged_checkpoints_are_named_and_the_run_done_anew(subprocess_env, puzzles, whole, tmp_path):
    folder = tmp_path / "run"
    with stepping(subprocess_env, puzzles, folder) as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=100)
    for path in (folder / "checkpoints" / "same").rglob("arrays.npz"):
        path.write_bytes(path.read_bytes()[:500])
    resumed = run(subprocess_env, "--resume", "--devices", "1", "--out", folder)
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"checkpoints/same/0.*damaged checkpoint.*: done here|done anew", resumed.stdout)
    same_results(whole, folder)


@pytest.mark.slow
def test_a_test_set_without_solutions_gives_a_submission(subprocess_env, tmp_path):
    """Kaggle's folder, of one-dimensional puzzles wider than 30: a warning, and they are solved."""
    line = zoo.make("line", [((1, 40), (1, 40))], [(1, 40), (1, 40)], colors=(0, 1))
    train = [{"input": a.tolist(), "output": b.tolist()} for a, b in line.train]
    challenge = {"line": {"train": train, "test": [{"input": g.tolist()} for g in line.test]}}
    for split in ("training", "test"):
        replace_json(tmp_path / "kaggle" / f"arc-agi_{split}_challenges.json", challenge)
    replace_json(tmp_path / "kaggle" / "arc-agi_training_solutions.json", {"line": [[[0] * 40]] * 2})
    options = ["--split", "test", "--steps", "2", "--chunk", "2", "--devices", "1"]
    done = run(subprocess_env, "--dataset", tmp_path / "kaggle", *options, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "line: 1 x 40" in done.stderr and "the solutions of these puzzles are not known" in done.stdout
    attempts = json.loads((tmp_path / "run" / "submission.json").read_text())
    assert list(attempts) == ["line"] and len(attempts["line"]) == 2
    for attempt in attempts["line"]:
        assert np.array(attempt["attempt_1"]).shape == np.array(attempt["attempt_2"]).shape == (1, 40)


def test_a_kill_between_a_record_and_its_result(tmp_path):
    """The process died after it had written down a run's end: its votes are counted on resuming."""
    plan = make_plan({"same": signature(zoo.SAME.canvas)}, device_model("cpu"))
    settings = BatchSettings(SolveConfig(steps=40))
    run = RunFolder.create(tmp_path / "run", {"same": zoo.SAME}, settings, plan)
    history = made_up.history([zoo.SAME.solution])
    run.save_record("same", 0, Record(history, RunStatus.FINISHED, 1.0), result=False)
    assert run.results() == {}
    compiled = made_up.compiled_programs()
    assert run_batch(RunFolder(run.folder))
    assert made_up.compiled_programs() == compiled
    assert run.results()["same"]["status"] == "finished"
    attempt = json.loads((run.folder / "submission.json").read_text())["same"][0]["attempt_1"]
    assert attempt == count_votes([history]).ranked()[0].answer[0].tolist()


@pytest.fixture
def part(tmp_path):
    """Two puzzles of a split of 400, one with steps that were skipped; the solution found in one."""
    small = zoo.make("small", [((2, 2), (2, 2))], [(2, 2)], truth_sizes=[(2, 2)])
    puzzles = {"same": zoo.SAME, "small": small}
    plan = make_plan({n: signature(p.canvas) for n, p in puzzles.items()}, device_model("cpu"))
    whole = puzzles | {f"other{i}": small for i in range(398)}
    run = RunFolder.create(
        tmp_path / "part", puzzles, BatchSettings(SolveConfig(steps=40)), plan,
        dataset="mine", split="evaluation", whole_split=whole,
    )  # fmt: skip
    for name, puzzle in puzzles.items():
        answers = [tuple((g + 1) % 3 for g in puzzle.solution), tuple((g + 2) % 3 for g in puzzle.solution)]
        answers += [puzzle.solution] if name == "same" else []
        history = made_up.history(answers)
        if name == "small":
            history.weights[3:6] = -np.inf
        run.save_record(name, 0, Record(history, RunStatus.FINISHED, 1.0))
    return run


def test_the_summary_is_against_the_split(part):
    console = Console(record=True, width=200)
    show_summary(console, part)
    text = console.export_text()
    assert "2 of 2 puzzles done" in text
    assert "of 400 puzzles: pass@1 1 (0.25 %), pass@2 1 (0.25 %)" in text
    assert "398 missing, which count as not solved" in text
    assert "398 of the 400 are not in this batch; of its own 2: pass@2 1 (50.00 %)" in text
    assert "3 steps skipped, which were not finite" in text
    assert part.results()["small"]["skipped_steps"] == 3


def test_a_line_a_minute_into_a_pipe(part, monkeypatch):
    console = Console(record=True, width=200, force_terminal=False)
    display = BatchDisplay(console, part, 4000)
    now = [1000.0]
    monkeypatch.setattr(batch_terminal.time, "monotonic", lambda: now[0])
    display._begun = display._printed = 1000.0
    for seconds in range(1, 301):
        now[0] = 1000.0 + seconds
        display.tell(Event("chunk", (("same", 0, seconds),), 10))
    lines = [line for line in console.export_text().splitlines() if "% of the steps" in line]
    assert len(lines) == 5
    assert re.fullmatch(r"2\.5 % of the steps, .*10\.0 steps/s, .* left at this rate", lines[0]), lines[0]


WRONG = (None, -1, 1.5, True, "x", [], {}, [[1]], [{}])


def damaged(data, path=()):
    """The same data with one place of it replaced or gone, place by place, two levels deep."""
    if len(path) < 3 and isinstance(data, dict):
        for key in list(data)[:20]:
            yield (*path, key), {k: v for k, v in data.items() if k != key}
            for _, inner in damaged(data[key], (*path, key)):
                yield (*path, key), data | {key: inner}
    elif len(path) < 3 and isinstance(data, list) and data:
        yield path, data[:-1]
        for _, inner in damaged(data[0], (*path, 0)):
            yield path, [inner, *data[1:]]
    for value in WRONG:
        if type(value) is not type(data) or value != data:
            yield path, value


@pytest.mark.parametrize(
    "file",
    [
        pytest.param("results/small.json", marks=pytest.mark.slow),
        pytest.param("settings.json", marks=pytest.mark.slow),
        pytest.param("puzzles.json", marks=pytest.mark.slow),
        "plan.json",
    ],
)
def test_no_damage_to_a_folder_ends_in_a_traceback(part, file, capsys, monkeypatch, tmp_path):
    """One place of one file wrong: a line that names the file, or a result that does not depend on it."""
    from compressarc.report import page

    monkeypatch.setattr(page, "has_published", lambda run: False)
    path = part.folder / file
    whole = json.loads(path.read_text())
    commands = (["report", str(part.folder)], ["score", str(part.folder)],
                ["submission", str(part.folder), "--out", str(tmp_path / "merged.json")])  # fmt: skip
    refused = 0
    for place, content in damaged(whole):
        path.write_text(json.dumps(content))
        for command in commands:
            capsys.readouterr()
            status = cli.main(command)
            shown = capsys.readouterr().err
            assert status in (0, 1, 2), (place, content)
            if status == 2:
                assert str(part.folder) in shown and len(shown.splitlines()) <= 1 + (command[0] == "score"), (
                    shown
                )
                refused += 1
    assert refused > 10 or file == "plan.json"


@pytest.mark.parametrize("dataset", ["", "zoo"])
def test_a_folder_made_in_python_is_resumed_wherever_one_stands(dataset, tmp_path, monkeypatch):
    """What it notes of its dataset is no path from here, even where there is one of that name."""
    run = RunFolder.create(
        tmp_path / "run", batches.PUZZLES, BatchSettings(batches.CONFIG, (0, 1)), batches.small_plan(),
        dataset=dataset, split="training",
    )  # fmt: skip
    (tmp_path / "here" / "zoo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert cli.main(["batch", "--out", str(run.folder), "--resume", "--plan", "--device", "a100"]) == 0
