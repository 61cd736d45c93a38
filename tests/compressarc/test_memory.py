"""Memory is planned for: large puzzles are warned about, and run."""

import dataclasses

from compressarc.batch import memory
from compressarc.batch.device_model import device_model
from compressarc.batch.plan import make_plan, work
from compressarc.network.inputs import signature
from tests.compressarc import zoo

LINE = zoo.make("line", [((1, 60), (1, 60))], [(1, 60)])


def test_this_machine_has_memory():
    here = memory.machine_bytes()
    assert here is not None and 1e8 < here < 1e14
    assert memory.device_bytes() == here or memory.device_bytes() is None or memory.device_bytes() > 1e8


def test_a_run_that_fits_is_not_warned_about(monkeypatch):
    shape = LINE.canvas.shape
    needed = device_model("cpu").run_bytes(work(shape))
    monkeypatch.setattr(memory, "device_bytes", lambda: needed)
    assert memory.run_warning(shape) is None
    monkeypatch.setattr(memory, "device_bytes", lambda: needed * 0.99)
    warning = memory.run_warning(shape)
    assert warning is not None and f"{needed / 1e9:.3g} GB" in warning
    monkeypatch.setattr(memory, "device_bytes", lambda: None)
    assert memory.run_warning(shape) is None


def test_a_plan_names_the_puzzle_that_does_not_fit():
    puzzles = {"line": LINE, "same": zoo.SAME}
    statics = {name: signature(puzzle.canvas) for name, puzzle in puzzles.items()}
    shapes = {name: static.shape for name, static in statics.items()}
    device = device_model("cpu")
    plan = make_plan(statics, device, programs=2)
    assert memory.plan_warnings(plan, device, shapes) == []
    small = dataclasses.replace(device, memory=device.run_bytes(work(shapes["line"])) - 1)
    (line,) = memory.plan_warnings(plan, small, shapes)
    assert line.startswith("warning: line (") and "--puzzles" in line
    two = make_plan(statics, device, programs=1, lanes=2, seeds=2)
    (line,) = memory.plan_warnings(two, small, shapes)
    assert "2 of its kind side by side" in line and "--lanes" in line
