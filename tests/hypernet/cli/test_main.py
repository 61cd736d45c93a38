"""The command line without any training: exits, options, folders, choices of seeds and modes."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import hypernet
from hypernet.cli import main as cli
from hypernet.cli import run as commands
from hypernet.cli import terminal
from hypernet.training.step import Info


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("a bad value"), 2, "hypernet: a bad value"),
        (TypeError("a bad type"), 2, "hypernet: a bad type"),
        (FileNotFoundError("no file"), 2, "hypernet: no file"),
        (FloatingPointError("all lost"), 2, "hypernet: all lost"),
        (MemoryError("full"), 2, "hypernet: full"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: 9 GiB\nmore"),
            2,
            "hypernet: not enough memory: RESOURCE_EXHAUSTED: 9 GiB",
        ),
        (KeyboardInterrupt(), 130, "hypernet: stopped; --resume goes on from the last checkpoint"),
    ],
)
def test_errors_end_in_one_line_and_a_status(error, code, said, monkeypatch, capsys):
    def fail(options):
        raise error

    monkeypatch.setattr(commands, "train", fail)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train"])
    assert stopped.value.code == code
    assert capsys.readouterr().err == said + "\n"


def test_other_errors_of_the_runtime_are_not_hidden(monkeypatch):
    def fail(options):
        raise RuntimeError("INTERNAL: a bug")

    monkeypatch.setattr(commands, "train", fail)
    with pytest.raises(RuntimeError, match="INTERNAL"):
        cli.main(["train"])


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        (
            "train",
            ["--target", "sort", "--sizes", "2", "3", "--modes", "4"],
            {"config": {"sizes": (2, 3), "seeds": 8}},
        ),
        (
            "generate",
            ["--n", "7", "--beta", "1e-4"],
            {"n": 7, "beta": 1e-4, "member": None, "mode": None, "count": 1},
        ),
        (
            "classify",
            ["a.npz", "--target", "linf"],
            {"file": Path("a.npz"), "target": hypernet.get_target("linf")},
        ),
        ("phase", ["--log10-betas", "-5", "-1"], {"log10_betas": (-5.0, -1.0), "looks": 10}),
        ("gallery", ["--n", "4", "--out", "x y"], {"n": 4, "out": Path("x y"), "networks": 16}),
    ],
)
def test_options_reach_their_command(command, arguments, expected, monkeypatch):
    seen = []
    monkeypatch.setattr(commands, command, seen.append)
    cli.main([command, *arguments])
    (options,) = seen
    for name, value in expected.items():
        found = getattr(options, name)
        if isinstance(value, dict):
            assert {key: getattr(found, key) for key in value} == value
        else:
            assert found == value
    if command == "train":
        assert (options.config.target.name, options.config.generator.outputs) == ("sort", "inputs")
        assert options.config.generator.modes == 4


def test_a_network_of_a_file_is_classified_written_and_drawn(tmp_path, capsys):
    hypernet.write_network(tmp_path / "net.npz", hypernet.pudding(5, "negative"))
    arguments = ["classify", str(tmp_path / "net.npz")]
    cli.main([*arguments, "--out", str(tmp_path / "a" / "b.json"), "--png", str(tmp_path / "c" / "d.png")])
    row = json.loads((tmp_path / "a" / "b.json").read_text())
    found = hypernet.classify(hypernet.pudding(5, "negative"))
    assert row["label"] == "pudding_neg"
    assert row["nmse"] == pytest.approx(found.nmse)
    assert row["order"]["L"] == pytest.approx(1)
    assert row["servers"][2] == [{"unit": 2, "sign": 1, "pull": pytest.approx(found.servers[2][0].pull)}]
    assert (row["sea"], row["ambiguous"]) == ([5], False)
    assert row["formula"] == hypernet.formula(found).text
    assert (tmp_path / "c" / "d.png").stat().st_size > 10_000
    assert row["formula"].split("−")[0] in capsys.readouterr().out


def test_a_network_without_units_is_classified_and_drawn(tmp_path):
    np.savez(tmp_path / "dead.npz", W=np.zeros((3, 0)), v=np.zeros(0), c=5.0, activation="relu")
    cli.main(["classify", str(tmp_path / "dead.npz"), "--png", str(tmp_path / "dead.png")])
    assert (tmp_path / "dead.png").stat().st_size > 1000


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_out_of_range_are_named(seed):
    with pytest.raises(ValueError, match=f"--seed {seed}: expected 0 to"):
        commands._key(seed)
    assert jax.random.key_data(commands._key(2**63 - 1)).shape == (2,)


def test_folders_are_made_and_files_in_their_place_refused(tmp_path):
    assert terminal.folder(tmp_path / "a" / "b").is_dir()
    assert terminal.folder(tmp_path / "a") == tmp_path / "a"
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file: --out must be a folder"):
        terminal.folder(tmp_path / "file")


@pytest.mark.parametrize(
    ("member", "mode", "best"), [(None, None, (1, 2)), (0, None, (0, 1)), (None, 0, (2, 0)), (2, 2, (2, 2))]
)
@pytest.mark.usefixtures("types_unchecked")
def test_the_seed_and_mode_of_the_least_median_loss_are_taken(member, mode, best, monkeypatch):
    medians = np.array([[5.0, 2.0, 7.0], [9.0, 8.0, 1.0], [4.0, 6.0, 3.0]])
    modes = np.arange(48) % 3
    loss = medians[:, modes]
    loss[:, :3] = 0.0  # a lucky network decides nothing
    measured = SimpleNamespace(loss=loss[:, None], mode=np.broadcast_to(modes, (3, 1, 48)))
    monkeypatch.setattr(commands, "measure", lambda *_, **__: measured)
    config = SimpleNamespace(seeds=3, target=None, generator=SimpleNamespace(modes=3))
    assert commands._best(config, None, jax.random.key(0), 4, -3.0, member, mode) == best


@pytest.mark.usefixtures("types_unchecked")
def test_the_bar_says_the_median_loss_and_price(monkeypatch):
    seen = []
    monkeypatch.setattr(terminal.Progress, "update", lambda self, line, **given: seen.append(given))
    with terminal.training_bar(30) as advance:
        info = Info(np.array([2, 4]), *(np.array([[1.0, 3.0], [5.0, 8.0]]),) * 4)
        advance(SimpleNamespace(step=20), info)
    assert seen == [{"completed": 20, "description": "loss 4.0000, 1.4 nats per input"}]
