"""Figures hold the numbers they are drawn from; files appear whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgba

from features.circles.intervention import Effect, PolarSweep
from features.irreducibility.mixture import sweep
from features.report import figures

NOWHERE = Path("unused.png")
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they are given to be saved."""
    kept = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: kept.append(figure))
    return kept


@settings(max_examples=10)
@given(SEEDS, st.integers(2, 7))
def test_planes_show_points_in_colors_and_means_in_order(seed, period):
    rng = np.random.default_rng(seed)
    points, labels = rng.normal(size=(30, 2)), rng.integers(-1, period, 30)
    labels[0] = 0
    names = [f"name {i}" for i in range(period)]
    axes = figures._figure(3, 3).subplots()
    figures.circle_on(axes, points, labels, names, title="some plane")
    others, known, *means = axes.collections
    np.testing.assert_allclose(others.get_offsets(), points[labels < 0])
    np.testing.assert_allclose(known.get_offsets(), points[labels >= 0])
    wheel = figures._wheel(period)
    np.testing.assert_allclose(known.get_facecolors()[:, :3], wheel[labels[labels >= 0]][:, :3])
    present = sorted(set(labels[labels >= 0].tolist()))
    expected = np.array([points[labels == c].mean(0) for c in present])
    np.testing.assert_allclose(np.concatenate([m.get_offsets() for m in means]), expected)
    assert [text.get_text() for text in axes.texts] == [names[c] for c in present]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [*expected, expected[0]])  # closed
    assert axes.get_title() == "some plane"


def test_the_wheel_of_colors_goes_around():
    wheel = figures._wheel(12)
    gaps = np.abs(wheel - np.roll(wheel, -1, 0)).sum(1)
    assert (
        gaps.max() < 0.7 and len({tuple(c) for c in wheel}) == 12
    )  # the last is as near to the first as any


def test_panels_are_as_many_as_planes(drawn):
    rng = np.random.default_rng(0)
    panels = [(f"plane {i}", rng.normal(size=(9, 2)), np.arange(9) % 3, ("a", "b", "c")) for i in range(4)]
    figures.draw_circles(panels, NOWHERE, columns=3)
    shown = [axes for axes in drawn[0].axes if axes.axison]
    assert [axes.get_title() for axes in shown] == [f"plane {i}" for i in range(4)] and len(
        drawn[0].axes
    ) == 6
    figures.draw_circles(panels[:1], NOWHERE)
    assert len(drawn[1].axes) == 1


def test_sweeps_show_every_method_with_its_interval(drawn):
    rng = np.random.default_rng(0)
    table = {layer: {m: Effect(*rng.random(3).tolist(), 5) for m in ("layer", "evr")} for layer in (4, 0, 2)}
    figures.draw_sweep(table, NOWHERE, title="a task")
    axes = drawn[0].axes[0]
    for line, band, method in zip(axes.lines, axes.collections, ("layer", "evr"), strict=False):
        values = [table[layer][method].logit_difference for layer in (0, 2, 4)]
        errors = np.array([table[layer][method].error for layer in (0, 2, 4)])
        np.testing.assert_allclose(line.get_xydata(), np.stack([[0, 2, 4], values], 1))
        corners = band.get_paths()[0].vertices
        assert corners[:, 1].max() == pytest.approx((values + errors).max())
        assert corners[:, 1].min() == pytest.approx((values - errors).min())
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["layer", "evr"]


def test_nulls_show_every_relabelling_beside_the_true_circle(drawn):
    null = np.random.default_rng(0).normal(size=57)
    figures.draw_null(-1.25, null, NOWHERE)
    axes = drawn[0].axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == 57
    assert set(axes.lines[0].get_xdata()) == {-1.25}


def test_polar_pictures_show_answers_at_their_places(drawn):
    rng = np.random.default_rng(0)
    radius, angle = np.array([0.0, 1.0, 2.0]), 2 * np.pi * np.arange(5) / 5
    answer = rng.integers(0, 4, (2, 3, 5))
    found = PolarSweep(
        radius, angle, answer, rng.integers(0, 4, (2, 1, 5)), rng.random((2, 3, 5)), rng.random((2, 3, 5))
    )
    figures.draw_polar(found, tuple("abcd"), NOWHERE, title="t")
    first, second, third = drawn[0].axes[:3]
    places = [(r * np.cos(a), r * np.sin(a)) for r in radius for a in angle]
    wheel = figures._wheel(4)
    for axes, values in ((first, answer[0]), (second, np.broadcast_to(found.expected[0], (3, 5)))):
        np.testing.assert_allclose(axes.collections[0].get_offsets(), places, atol=1e-12)
        np.testing.assert_allclose(axes.collections[0].get_facecolors(), wheel[values.ravel()])
    np.testing.assert_allclose(third.collections[0].get_array(), found.margin[0].ravel())
    assert [text.get_text() for text in second.get_legend().get_texts()] == list("abcd")


def test_images_are_the_arrays(drawn):
    rng = np.random.default_rng(0)
    images = [(name, rng.random((3, 4, 3))) for name in ("states", "left")]
    figures.draw_colors(images, tuple("abc"), NOWHERE)
    for axes, (name, image) in zip(drawn[0].axes, images, strict=True):
        assert axes.get_title() == name and [t.get_text() for t in axes.get_yticklabels()] == list("abc")
        np.testing.assert_allclose(axes.images[0].get_array(), image)
    table = rng.random((5, 2))
    figures.draw_heat(table, ["alpha", "is"], NOWHERE, title="heads")
    axes = drawn[1].axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), table)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["alpha", "is"] and axes.images[0].norm.vmin == 0


@pytest.mark.parametrize("seed", [0])
def test_a_cloud_is_shown_with_the_borders_of_its_band(drawn, seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 2)) + 5
    band, curve = sweep(points, directions=20, offsets=41), rng.random(50)
    figures.draw_cloud(points, curve, band, NOWHERE, title="cloud")
    left, right = drawn[0].axes
    v, center, half = np.asarray(band.direction), float(band.center), float(band.half_width)
    for line, border in zip(left.lines, (center - half, center + half), strict=True):
        np.testing.assert_allclose((line.get_xydata() - points.mean(0)) @ v, border, atol=1e-4)
        along = (line.get_xydata() - points.mean(0)) @ [-v[1], v[0]]
        assert along.min() <= ((points - points.mean(0)) @ [-v[1], v[0]]).min() + 1e-6
    assert f"{100 * float(band.share):.1f} %" in left.get_title()
    np.testing.assert_allclose(right.lines[0].get_ydata(), curve)
    assert right.get_title() == f"least: {curve.min():.3f} bits"


def test_pictures_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "null.png"
    null = np.random.default_rng(0).normal(size=20)
    figures.draw_null(0.0, null, path)
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG\r\n\x1a\n") and before.endswith(b"IEND\xaeB`\x82")
    from matplotlib.figure import Figure

    def torn(self, partial, **_):
        partial.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", torn)
    with pytest.raises(OSError, match="no space"):
        figures.draw_null(0.0, null, path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["null.png"]


def test_gray_is_for_what_is_not_named():
    axes = figures._figure(3, 3).subplots()
    figures.circle_on(axes, np.ones((3, 2)), np.array([-1, -1, 0]), ["a"])
    np.testing.assert_allclose(axes.collections[0].get_facecolors()[0], to_rgba("0.8"))
