"""Figures: edge strengths by hand, pictures of degenerate networks and diagrams, whole files or none."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hypernet
from hypernet.analysis.pareto_front import Front, Point
from hypernet.networks.mlp import MLP
from hypernet.report import figures
from hypernet.training.step import Info
from tests.hypernet import plain


def by_hand(mlp):
    """An edge counts times all that its upper unit passes on, path after path."""
    out = mlp.v if mlp.v.ndim == 2 else mlp.v[:, None]
    found, passed = [out], np.sqrt((out**2).sum(1))
    for W in mlp.weights[::-1]:
        edges = np.zeros_like(W)
        for i, j in np.ndindex(W.shape):
            edges[i, j] = W[i, j] * passed[j]
        found.insert(0, edges)
        passed = np.array(
            [sum(abs(W[i, j]) * passed[j] for j in range(W.shape[1])) for i in range(W.shape[0])]
        )
    return [e / max(abs(e).max(), 1e-12) for e in found]


@pytest.mark.parametrize("outputs", [None, 2])
@given(seed=plain.SEEDS, scale=st.floats(1e-3, 1e3))
def test_strengths_are_what_edges_pass_on_and_do_not_see_how_a_unit_is_scaled(outputs, seed, scale):
    mlp = plain.random_network(seed, (2, 3, 4), outputs=outputs)
    found = figures.strengths(mlp)
    for a, b in zip(found, by_hand(mlp), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
        assert np.abs(a).max() == pytest.approx(1)
    scaled = MLP((scale * mlp.W, mlp.weights[1]), mlp.biases, mlp.v / scale, mlp.c, mlp.activation)
    for a, b in zip(figures.strengths(scaled), found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_several_networks_have_no_strengths():
    with pytest.raises(ValueError, match="index one"):
        figures.strengths(plain.random_network(0, (2, 3), batch=(2,)))


def size_of(data):
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">2I", data[16:24])


@pytest.mark.parametrize(
    "mlp",
    [
        MLP((np.zeros((3, 0)),), (np.zeros(0),), np.zeros(0), np.float64(5), "relu"),
        MLP((np.zeros((1, 1)),), (np.ones(1),), np.zeros(1), np.float64(0), "swish"),
        plain.random_network(0, (2, 3), outputs=2, scale=1e60),
    ],
    ids=["no units", "all zero", "a vector of huge weights"],
)
def test_degenerate_networks_are_drawn(mlp, tmp_path):
    path = hypernet.draw_network(mlp, tmp_path / "deep" / "net.png", title="a $ and a _")
    assert size_of(path.read_bytes()) == (600, 600)


def test_a_figure_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "net.png"
    path.write_text("before")
    figure = figures.new_figure(1, 1)
    monkeypatch.setattr(figure, "savefig", lambda *_, **__: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        figures.save(figure, path)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["net.png"]
    assert size_of(figures.png_bytes(figures.new_figure(2, 1), dpi=50)) == (100, 50)


NET = hypernet.double_sided(1)


def test_fronts_without_points_or_with_one_are_drawn(tmp_path):
    one = Point("network", -3.0, 0, 0, 0.5, 0.0, 1.0, NET)
    for name, points in (("none", ()), ("one", (one,))):
        data = hypernet.draw_front(Front(1, points), tmp_path / f"{name}.png").read_bytes()
        assert size_of(data)[0] >= 720


def test_a_phase_diagram_of_one_look_shows_every_label_that_was_seen(tmp_path):
    label = np.zeros((1, 1, 2, 3), np.int8)
    label[0, 0, 1] = [0, 4, 6]
    ones = np.ones(label.shape)
    diagram = hypernet.PhaseDiagram(3, np.array([7]), np.array([-4.0, -1.0]), label, *(ones,) * 6)
    axes = figures.new_figure(3, 3).add_subplot()
    figures._shares_on(axes, diagram)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "double-sided",
        "convexity",
        "none",
    ]
    # bars of a beta are stacked up to one
    tops = {round(bar.get_x() + 0.45): bar.get_y() + bar.get_height() for bar in axes.patches}
    assert tops == pytest.approx({0: 1.0, 1: 1.0})
    assert size_of(hypernet.draw_phase_diagram(diagram, tmp_path / "phase.png").read_bytes()) == (1440, 864)


@pytest.mark.parametrize("steps", [1, 120])
def test_histories_are_drawn_as_means_of_bins(steps, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    loss, nats, n = rng.uniform(1, 2, (steps, 2)), rng.uniform(1, 2, (steps, 2)), rng.integers(1, 9, steps)
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure) or path)
    figures.draw_history(Info(n, loss, loss, loss, nats), tmp_path / "history.png")
    left, right = drawn[0].axes
    bins = np.array_split(np.arange(steps), min(50, steps))
    for s in range(2):
        np.testing.assert_allclose(left.lines[s].get_ydata(), [loss[b, s].mean() for b in bins])
        np.testing.assert_allclose(right.lines[s].get_ydata(), [np.median(nats[b, s] / n[b]) for b in bins])
