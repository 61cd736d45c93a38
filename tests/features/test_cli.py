"""The command line: files, tables, bad input, a kill in the middle."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.console import Console

from features.circles.intervention import METHODS

COMMAND = [sys.executable, "-m", "features.cli.main"]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """The command line in this process: starting jax and loading again would take most of the time."""
    from features.cli import main as cli
    from features.cli import terminal
    from features.lm import loading

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(terminal, "CONSOLE", Console(width=200, highlight=False))
    monkeypatch.setattr(terminal, "keep_compiled", lambda: None)
    monkeypatch.setattr(loading, "load", functools.cache(loading.load))  # once per test

    def call(*arguments, status=0):
        found = 0
        try:
            cli.main([str(a) for a in arguments])
        except SystemExit as stop:
            found = stop.code
        out, err = capsys.readouterr()
        assert found == status, out + err
        return out if status == 0 else err

    return call


@pytest.fixture
def given(run, smollm2, monkeypatch):
    """The real model, read once for all tests."""
    from features.lm import loading

    monkeypatch.setattr(loading, "load", lambda name: smollm2)


def test_help_is_light():
    code = (
        "import sys\ntry:\n    import features.cli.main as c; c.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "import features\nassert not {'jax', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "assert all(hasattr(features, name) for name in features.__all__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in ("demo", "circles", "intervene", "evr", "irreducible", "sae"):
        assert name in done.stdout


@pytest.mark.slow
def test_demo(run, monkeypatch, tmp_path):
    """Files and figures; a short training serves, what a whole one reaches is tested in test_calendar."""
    from features.synthetic import calendar_model

    whole = calendar_model.train_calendar

    def short(config, **kwargs):
        assert config == calendar_model.CalendarConfig()
        return whole(dataclasses.replace(config, steps=400), **kwargs)

    monkeypatch.setattr(calendar_model, "train_calendar", short)
    text = run("demo", "--out", "demo", "--relabellings", "9")
    assert "months: held-out accuracy" in text
    result = json.loads((tmp_path / "demo" / "result.json").read_text())
    assert set(result["months"]["effects at layer 0"]) == set(METHODS)
    assert result["months"]["effects at layer 0"]["layer"]["patches"] == 1584
    assert result["months"]["relabeled circles"]["p"] <= 1
    for name in ("circles", "residual", "sweep_days", "sweep_months", "null_months"):
        assert (tmp_path / "demo" / f"{name}.png").stat().st_size > 10_000


def test_irreducible(run, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2))
    np.save(tmp_path / "ring.npy", x / np.linalg.norm(x, axis=1, keepdims=True))
    text = run("irreducible", "ring.npy", "--bootstrap", "20", "--png", "ring.png", "--out", "ring.json")
    assert "separability S = 1." in text and "mixture      M = 0.2" in text
    assert (tmp_path / "ring.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "ring.json").read_text())["rank"] == 2
    for name, array, message in (
        ("few", x[:10], "10 points are too few"),
        ("nan", np.full((500, 2), np.nan), "not finite"),
        ("flat", np.ones((500, 2)), "constant"),
        ("one", x[:, 0], "expected (n, d)"),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        assert message in run("irreducible", f"{name}.npy", status=2)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert "no .npy file of numbers" in run("irreducible", "objects.npy", status=2)
    assert "no such file" in run("irreducible", "nothing.npy", status=2)


def circles_of(n):
    from features.synthetic.planted import toy_circles

    return toy_circles(np.random.default_rng(0), n)


@pytest.mark.slow
def test_sae_train_survives_a_kill_and_discovers(run, subprocess_env, tmp_path):
    """kill -9 in the middle, --resume, and the same weights as without."""
    np.save(tmp_path / "x.npy", circles_of(4000))
    arguments = [
        "sae", "train", "--activations", "x.npy", "--d-sae", "48", "--activation", "relu", "--sparsity", "0.1",
        "--normalize", "none", "--steps", "800", "--batch", "64",
    ]  # fmt: skip
    assert "explains" in run(*arguments, "--out", "whole")
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--out", "cut"], env=subprocess_env, cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    state = tmp_path / "cut-training"
    deadline = time.time() + 120
    while time.time() < deadline and not any(p.name.isdigit() for p in state.glob("*")):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert state.exists() and not (tmp_path / "cut").exists()
    assert "--resume goes on with it" in run(*arguments, "--out", "cut", status=2)
    assert "other settings or another seed" in run(
        *arguments, "--out", "cut", "--resume", "--seed", "5", status=2
    )
    run(*arguments, "--out", "cut", "--resume")
    assert not state.exists()
    same = [(tmp_path / name / "sae_weights.safetensors").read_bytes() for name in ("whole", "cut")]
    assert same[0] == same[1]
    text = run("sae", "discover", "whole", "--activations", "x.npy", "--out", "found")
    assert "groups measured" in text
    result = json.loads((tmp_path / "found" / "result.json").read_text())
    assert result["candidates"][0]["score"] > 0.5
    assert (tmp_path / "found" / "planes.html").stat().st_size > 100_000
    assert "4 wide, but the SAE reads d_in=10" in bad_width(run, tmp_path)


def bad_width(run, folder):
    np.save(folder / "narrow.npy", circles_of(500)[:, :4])
    return run("sae", "discover", "whole", "--activations", "narrow.npy", status=2)


@pytest.mark.slow
def test_circles_and_interventions_of_the_real_model(run, given, tmp_path):
    text = run("circles", "--concept", "days", "--permutations", "20", "--out", "c")
    rows = json.loads((tmp_path / "c" / "result.json").read_text())["layers"]
    assert len(rows) == 30 and all(row["order"] == 1 for row in rows[:20]) and "7/7" in text
    assert (tmp_path / "c" / "circles.png").stat().st_size > 20_000
    text = run(
        "intervene", "--task", "next-month", "--layers", "0", "24", "--relabellings", "3", "--out", "i"
    )
    assert "12 of 12 prompts right" in text and "stops working at layer 24" in text
    assert json.loads((tmp_path / "i" / "result.json").read_text())["null"]["p"] == pytest.approx(1 / 4)


def test_text_through_the_real_model(run, given, tmp_path):
    """Text to tokens to an autoencoder to ranked groups with words."""
    lines = [
        f"We meet on {d} in {m}." for d in ("Monday", "Friday", "Sunday") for m in ("May", "June", "July")
    ]
    (tmp_path / "text.txt").write_text("\n".join(lines * 40))
    text = run(
        "sae", "train", "--text", "text.txt", "--layer", "2", "--length", "32", "--d-sae", "64", "--k", "4",
        "--steps", "60", "--batch", "128", "--out", "sae",
    )  # fmt: skip
    assert "as training goes" in text and "wrote sae" in text
    settings = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    assert settings["metadata"]["hook_name"] == "blocks.2.hook_resid_pre" and settings["k"] == 4
    text = run(
        "sae", "discover", "sae", "--text", "text.txt", "--layer", "2", "--length", "32", "--threshold", "0.1",
        "--concept", "days", "--out", "found",
    )  # fmt: skip
    assert "commonest tokens" in text
    text = run("sae", "discover", "sae", "--text", "text.txt", "--layer", "3", status=2)
    assert "trained on blocks.2.hook_resid_pre, which is state 2" in text


def test_bad_input_is_named_before_any_work(run, tmp_path):
    assert "did you mean ['months']" in run("circles", "--concept", "month", status=2)
    assert "unknown task 'next'" in run("intervene", "--task", "next", status=2)
    assert "no such file or folder" in run("circles", "--model", "nothing.gguf", status=2)
    assert "needs several steps" in run("evr", "--task", "next-month", status=2)
    assert "give either --activations" in run("sae", "train", "--out", "x", status=2)
    assert "may hold {alpha} and {beta} only" in run("circles", "--template", "{alpha} {x}", status=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("x")
    np.save(tmp_path / "x.npy", circles_of(300))
    train = ("sae", "train", "--activations", "x.npy", "--out")
    assert "it holds ['notes']" in run(*train, "full", status=2)
    assert "current folder" in run(*train, ".", status=2)
    (tmp_path / "file").write_text("x")
    assert "--out must be a folder" in run("demo", "--out", "file", status=2)
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    assert "a.gguf" in run("circles", "--model", "a.gguf", status=2)
