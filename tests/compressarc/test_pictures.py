"""Pictures, the terminal and notebooks: one scale, every row named, wrong cells marked, names as they are."""

import io

import numpy as np
import pytest
from rich.console import Console

import compressarc
from compressarc.cli.terminal import SolveDisplay, grid_text, judgement, show_puzzle, show_solution, summary
from compressarc.grid import wrong_cells
from compressarc.network.components import Component
from compressarc.report.analysis_figures import draw_components, draw_solution_over_time
from compressarc.report.figures import draw_curves, draw_puzzle, draw_solution, save
from tests.compressarc import made_up, zoo

STRANGE = "a$b$ [bold]c[/bold] $x_1$ \\alpha"


@pytest.fixture(autouse=True)
def _nothing_is_compiled():
    before = made_up.compiled_programs()
    yield
    assert made_up.compiled_programs() == before


def partly():
    """Two tests of different sizes, of which the first guess has one right; its name is all markup."""
    puzzle = compressarc.load_splits()["training"]["53b68214"]
    puzzle = compressarc.Puzzle(STRANGE, puzzle.train, puzzle.test, puzzle.solution, puzzle.source)
    wrong = tuple((g + 1) % 10 for g in puzzle.solution)
    return made_up.solution(puzzle, [wrong, (puzzle.solution[0], wrong[1])])


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def crosses(figure):
    """How many cells are crossed out below each title."""
    return {a.get_title(): sum(len(c.get_offsets()) for c in a.collections[2:]) for a in figure.axes}


def scales(figure, path):
    """Inches of a cell in every panel with an image, once drawn."""
    save(figure, path)
    found = set()
    for axes in figure.axes:
        if axes.images:
            (x0, y0), (x1, y1) = axes.transData.transform([(0, 0), (1, 1)])
            found.add((round(abs(x1 - x0), 1), round(abs(y1 - y0), 1)))
    return found


def test_one_scale_for_all_cells_of_a_picture(tmp_path):
    solution = partly()
    for figure in (
        draw_puzzle(solution.puzzle),
        draw_solution(solution),
        draw_solution_over_time(solution, 10),
    ):
        (scale,) = scales(figure, tmp_path / "p.png")
        assert scale[0] == pytest.approx(scale[1], rel=0.02)


def test_every_row_says_which_test_it_is_and_wrong_cells_are_marked():
    solution = partly()
    figure = draw_solution(solution)
    shown = titles(figure)
    assert shown[0] == "test 0: input" and shown[6] == "test 1: input"
    assert shown[3] == "guess 1: right" and shown[9] == "guess 1: wrong"
    marked = [sum(len(c.get_offsets()) for c in a.collections[2:]) for a in figure.axes]
    size = solution.puzzle.solution[0].size
    assert marked == [0, 0, 0, 0, size, 0, 0, size, 0, size, size, 0]
    assert figure.get_suptitle().startswith(STRANGE) and figure.get_suptitle().endswith(": partly right")


def test_cells_outside_the_truth_are_wrong():
    truth = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(wrong_cells(np.array([[1, 0, 5]]), truth), [[False, True, True]])
    assert not wrong_cells(truth, truth).any()


def test_names_appear_as_they_are(tmp_path):
    solution = partly()
    for figure in (draw_puzzle(solution.puzzle), draw_curves(solution), draw_solution_over_time(solution)):
        assert figure.get_suptitle().startswith(STRANGE)
        save(figure, tmp_path / "p.png")  # mathematics in it would fail here
    console = Console(record=True, width=200, file=io.StringIO())
    show_puzzle(console, solution.puzzle)
    with SolveDisplay(console, solution.puzzle, 10) as display:
        display.say(STRANGE)
    assert console.export_text().count(STRANGE) == 2
    assert "&lt;b&gt;" in compressarc.Puzzle("<b>", zoo.SAME.train, zoo.SAME.test)._repr_html_()


@pytest.mark.parametrize("tests", [1, 2000])
def test_thousands_of_pairs_are_capped(tests, tmp_path):
    puzzle = compressarc.Puzzle("many", zoo.SAME.train * 1500, zoo.SAME.test * tests)
    figure = draw_puzzle(puzzle)
    assert len(figure.axes) == 3 * 20 and f"and {3000 + tests - 20} more" in figure.get_suptitle()
    assert f"test {0}: input" in titles(figure) and "train 0: input" in titles(figure)
    console = Console(record=True, width=100, file=io.StringIO())
    show_puzzle(console, puzzle)
    text = console.export_text()
    assert "more pairs" in text and text.count("train") == 20
    assert len(puzzle._repr_html_()) < 200_000


def test_no_empty_panels_and_legends_beside_the_curves(tmp_path):
    solution = partly()
    never = draw_curves(solution)
    assert len(never.axes) == 2 and "never proposed" in never.get_suptitle()
    right = made_up.solution(zoo.SAME, [zoo.SAME.test, zoo.SAME.solution])
    figure = draw_curves(right)
    assert len(figure.axes) == 3 and all(a.has_data() for a in figure.axes)
    save(figure, tmp_path / "c.png")
    for axes in figure.axes:
        if axes.get_legend() is not None:
            box = axes.get_legend().get_window_extent()
            assert box.x0 >= axes.get_window_extent().x1 and box.x1 <= figure.bbox.x1
    found = [Component("10010", 9.0, k, np.ones((3, 4)), 1.0) for k in range(3)]
    found.append(
        Component("01000", 2.0, 0, np.ones(2), 1.0)
    )  # a tensor with one component, where others have three
    panels = draw_components(found, zoo.SAME.canvas, "x").axes
    assert len(panels) == 6 and sum(a.axison for a in panels) == 4


@pytest.mark.parametrize(
    ("environment", "digits"), [({}, False), ({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, True)]
)
def test_where_colors_cant_be_seen_there_are_digits(environment, digits):
    console = Console(
        force_terminal=True, width=100, record=True, _environ={"TERM": "xterm-256color"} | environment
    )
    show_solution(console, made_up.solution(zoo.SAME, [zoo.SAME.test, zoo.SAME.solution]))
    lines = console.export_text().splitlines()
    first = " ".join(map(str, zoo.SAME.test[0][0]))
    assert any(line.startswith(first) for line in lines) == digits


def test_wrong_cells_are_marked_in_the_terminal():
    truth = np.array([[1, 2], [3, 4]], np.int8)
    guess = np.array([[1, 0, 5]], np.int8)
    assert grid_text(guess, digits=True, truth=truth).plain == "1 0!5!"
    assert grid_text(guess, truth=truth).plain == "  ><><"
    assert grid_text(truth, digits=True).plain == "1 2 \n3 4 "


def test_the_last_line_the_file_and_the_picture_agree(tmp_path):
    from compressarc.report.solution_files import read_result, write_pictures, write_result

    right = made_up.solution(zoo.SAME, [zoo.SAME.test, zoo.SAME.solution])
    wrong = made_up.solution(zoo.SAME, [zoo.SAME.test, tuple(1 - (g > 0) for g in zoo.SAME.test)])
    unknown = made_up.solution(zoo.UNKNOWN, [tuple(g[:1] for g in zoo.UNKNOWN.test)])
    for solution, word in ((right, "right"), (wrong, "wrong"), (partly(), "partly right"), (unknown, None)):
        folder = tmp_path / str(word)
        write_result(solution, folder)
        write_pictures(solution, folder)
        assert read_result(folder)["verdict"] == word
        line = judgement(solution.score, len(solution.puzzle.test)).plain
        assert line.startswith(word or "The true solution is not known")
        assert (draw_solution(solution).get_suptitle().split(": ")[-1] == word) == (word is not None)
        assert repr(solution).endswith(f", {word})" if word else "40 steps)")
    assert "1 of 2 test outputs" in judgement(partly().score, 2).plain


def test_speed_and_seconds_of_this_process_and_of_all():
    solution = made_up.solution(zoo.SAME, [zoo.SAME.test])
    assert summary(solution).startswith("40 steps in 1.0 s (compilation 2.0 s): finished")
    solution.history.seconds, solution.steps = 9.0, 10
    assert "10 steps in 1.0 s by this process, 40 in 9.0 s in all" in summary(solution)
    solution.steps, solution.history.weights[3] = 1, -np.inf
    assert summary(solution).startswith("1 step in") and "; 1 step skipped" in summary(solution)


def test_a_run_that_was_stopped_before_its_first_step(tmp_path):
    from compressarc.report.solution_files import write_result

    blank = made_up.solution(zoo.SAME, [], steps=0)
    assert "?" in [t.get_text() for a in draw_solution(blank).axes for t in a.texts]
    write_result(blank, tmp_path)
    assert "0 steps" in summary(blank) and "Solution('same', finished after 0 steps" in repr(blank)


def test_notebooks_show_grids():
    text = made_up.solution(zoo.SAME, [zoo.SAME.test, zoo.SAME.solution])._repr_html_()
    assert text.count("<table") == 4 and "guess 1" in text and "&times;" in text
    assert zoo.SAME._repr_html_().count("<table") == 6
    assert repr(zoo.SAME) == "Puzzle('same', 2 train, 1 test, 3 x 4)"
