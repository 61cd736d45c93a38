"""The command line, phase diagrams and pictures, on trainings of seconds."""

import csv
import json

import jax
import numpy as np
import pytest

import hypernet
from hypernet.cli import main as cli
from hypernet.generator.assignment import Assignment
from hypernet.generator.config import GeneratorConfig
from hypernet.training import checkpoints
from hypernet.training.step import Info, TrainConfig, init, seed_keys

TINY = ("--sizes", "2", "4", "--steps", "40", "--seeds", "2")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    cli.main(["train", *TINY, "--out", str(folder)])
    return folder


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    from rich.console import Console

    from hypernet.cli import run as commands
    from hypernet.cli import terminal

    console = Console(highlight=False, width=200)
    for module in (commands, terminal):
        monkeypatch.setattr(module, "CONSOLE", console)


def test_generate_writes_networks_that_classify_reads(run, tmp_path, capsys):
    cli.main(
        ["generate", "--n", "7", "--beta", "1e-3", "--run", str(run), "--count", "2", "--out", str(tmp_path)]
    )
    rows = json.loads((tmp_path / "result.json").read_text())
    assert len(rows) == 2
    assert rows[0]["bits"] == pytest.approx(rows[0]["nats"] / np.log(2))
    assert (tmp_path / "network-2.png").stat().st_size > 10_000
    assert rows[0]["label"] in capsys.readouterr().out
    cli.main(
        [
            "classify",
            str(tmp_path / "network-1.npz"),
            "--png",
            str(tmp_path / "a.png"),
            "--out",
            str(tmp_path / "a.json"),
        ]
    )
    assert json.loads((tmp_path / "a.json").read_text())["label"] == rows[0]["label"]
    assert "L " in capsys.readouterr().out


def test_gallery_is_one_page(run, tmp_path):
    cli.main(["gallery", "--run", str(run), "--n", "4", "--networks", "4", "--out", str(tmp_path)])
    assert (tmp_path / "gallery.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "front.png").stat().st_size > 5000
    assert json.loads((tmp_path / "result.json").read_text())["n"] == 4


def test_deep_networks_are_generated_too(tmp_path):
    target = hypernet.get_target("linf")
    generator = GeneratorConfig(assignment=Assignment((3, 3), "tree", 2))
    config, key = TrainConfig(generator=generator, target=target, sizes=(4,)), jax.random.key(0)
    run = init(config, seed_keys(key, 1))
    checkpoints.save(tmp_path / "deep", run, [Info(*np.zeros((5, 1)))], config, key)
    cli.main(
        ["generate", "--n", "4", "--beta", "1e-3", "--run", str(tmp_path / "deep"), "--out", str(tmp_path)]
    )
    with np.load(tmp_path / "network-1.npz") as found:
        assert found["W2"].shape == (12, 12)
    assert (tmp_path / "network-1.png").stat().st_size > 10_000


def test_phase_diagrams_resume_and_are_written(tmp_path, capsys):
    arguments = [
        "phase",
        "--seeds",
        "2",
        "--steps",
        "40",
        "--looks",
        "2",
        "--sizes",
        "2",
        "4",
        "--n",
        "4",
        "--networks",
        "4",
        "--log10-betas",
        "-5",
        "-1",
    ]
    cli.main([*arguments, "--out", str(tmp_path / "whole")])
    rows = list(csv.DictReader((tmp_path / "whole" / "phase.csv").open()))
    assert len(rows) == 2 * 2 * 2
    assert {row["step"] for row in rows} == {"20", "40"}
    assert all(abs(sum(float(row[name]) for name in hypernet.LABELS) - 1) < 1e-6 for row in rows)
    assert (tmp_path / "whole" / "phase.png").stat().st_size > 20_000
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert len(result["ground_states"]) == 2
    cli.main([*arguments, "--out", str(tmp_path / "whole"), "--resume"])
    assert rows == list(csv.DictReader((tmp_path / "whole" / "phase.csv").open()))
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--networks", "5", "--out", str(tmp_path / "whole"), "--resume"])
    assert "networks: 4 there, 5 here" in capsys.readouterr().err


def test_ground_states_are_the_best_seed_s_branch():
    shape = (1, 2, 1, 3)
    label = np.array([[[[0, 0, 0]], [[1, 1, 4]]]], np.int8)
    loss = np.array([[[[3.0, 3, 3]], [[2.0, 2, 9]]]])
    blank = np.zeros(shape)
    diagram = hypernet.PhaseDiagram(
        4, np.array([10]), np.array([-3.0]), label, blank, blank, loss, blank, blank, blank
    )
    (state,) = diagram.ground_states()
    assert (state.label, state.loss, state.seed) == ("pudding_pos", 2.0, 1)
    assert state.losses == {"double_sided": 3.0, "pudding_pos": 2.0}
    np.testing.assert_allclose(diagram.shares()[0, [0, 1, 4]], [0.5, 1 / 3, 1 / 6])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--n", "7", "--beta", "1e-3", "--run", "{tmp}/none"], "holds no trained generator"),
        (["generate", "--n", "0", "--beta", "1e-3", "--run", "{run}"], "n=0: expected"),
        (["generate", "--n", "4", "--beta", "-1", "--run", "{run}"], "--beta -1.0: expected a positive"),
        (["generate", "--n", "4", "--beta", "1", "--member", "9", "--run", "{run}"], "holds members 0 to 1"),
        (["classify", "{tmp}/none.npz"], "no such file"),
        (["train", *TINY, "--out", "{run}"], "already holds this run"),
        (["train", *TINY, "--seed", "1", "--resume", "--out", "{run}"], "other settings (key:"),
        (["phase", "--log10-betas", "-9", "--out", "{tmp}/y"], "within -6.0 .. 0.0"),
        (["phase", "--target", "sort", "--out", "{tmp}/z"], "one hidden layer and one output"),
        (["gallery", "--run", "{run}", "--n", "-3"], "n=-3"),
        (["gallery", "--run", "{run}", "--networks", "0"], "--networks=0: must be at least 1"),
        (["phase", "--looks", "0", "--out", "{tmp}/w"], "looks=0"),
        (["phase", "--n", "0", "--out", "{tmp}/w"], "n=0"),
        (["train", "--seed", "99999999999999999999", "--out", "{tmp}/v"], "--seed 99999999999999999999"),
    ],
)
def test_bad_input_is_one_line(arguments, message, run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([a.format(run=run, tmp=tmp_path) for a in arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--target", "l9"], "unknown target 'l9'"),
        (["train", "--relation", "tree", "--sizes"], "sizes=(): expected different numbers of inputs"),
        (["train", "--slots", "0"], "slots=0: must be at least 1"),
        (["train", "--steps", "0"], "steps=0: must be at least 1"),
        (["phase", "--target", "l9"], "unknown target 'l9'"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_made(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in said
    assert not list(tmp_path.iterdir())


def test_damaged_settings_are_named(run, tmp_path):
    (tmp_path / "generator.json").write_text("{}")
    with pytest.raises(ValueError, match="is damaged"):
        hypernet.load(tmp_path)


def test_networks_are_drawn(tmp_path):
    for name, mlp in (("a", hypernet.pudding(6)), ("b", hypernet.tournament(4))):
        hypernet.draw_network(mlp, tmp_path / f"{name}.png", title=name)
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
