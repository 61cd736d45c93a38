"""Pictures: whole PNG files of machines of every size."""

import struct

import numpy as np
import pytest
from matplotlib.figure import Figure

from mips.reading.machine_extraction import Machine
from mips.report.figures import draw_machine, draw_weights, machine_on
from tests.mips.machines import machine_of


def ring(states):
    """A machine with two moves from each state."""
    return machine_of(lambda s, x: ((s + 1 + x) % states, x), 0)


def shape_of(path):
    """Width and height of a PNG."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[-8:-4] == b"IEND"
    return struct.unpack(">II", data[16:24])


def test_pictures_grow_with_the_machine_up_to_a_limit(tmp_path):
    sizes = []
    for states in (1, 3, 18):
        draw_machine(ring(states), tmp_path / "m.png", title="t")
        sizes.append(shape_of(tmp_path / "m.png"))
    assert sizes == sorted(sizes) and sizes[0] == (440, 440) and sizes[-1] == (1320, 1320)
    assert [p.name for p in tmp_path.iterdir()] == ["m.png"]  # nothing half written is left


def drawn(machine):
    axes = Figure().add_subplot()
    machine_on(axes, machine, title="mine")
    return axes, [text.get_text() for text in axes.texts]


def test_moves_are_labeled_and_unknown_ones_are_not_drawn():
    axes, texts = drawn(
        Machine(np.array([[0], [1]]), np.array([[1, -1], [1, 0]]), np.array([[[5], [6]], [[7], [8]]]))
    )
    assert {"0", "1", "0/5", "0/7", "1/8"} <= set(texts) and not any("6" in t for t in texts)
    assert axes.get_title() == "mine\ndashed: states with unknown moves"


def test_many_moves_between_two_states_are_counted_and_large_machines_cut():
    _, texts = drawn(machine_of(lambda s, x: (0, x), 0, high=9))
    assert "0/0\n1/1\n2/2\n+6" in texts
    axes, texts = drawn(ring(45))
    assert axes.get_title() == "mine (40 of 45 states)" and "39" in texts and "40" not in texts


def test_a_folder_that_is_not_there_is_made_and_weights_without_steps_are_drawn(tmp_path):
    from tests.mips.normalize.test_pipeline import affine

    path = tmp_path / "new" / "w.png"
    draw_weights(affine(2, 0), [], path)
    width, height = shape_of(path)
    assert width == pytest.approx(2.3 * 110, abs=1) and height == pytest.approx(6.2 * 110, abs=1)


def test_a_picture_is_of_the_kind_that_its_name_says(tmp_path):
    for name, start in (("m.png", b"\x89PNG"), ("m.svg", b"<?xml"), ("m.pdf", b"%PDF")):
        draw_machine(ring(3), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
