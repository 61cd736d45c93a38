import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compressarc.batch.device_model import device_model
from compressarc.batch.plan import make_plan
from compressarc.batch.records import BatchSettings, Record, RunStatus
from compressarc.batch.store import RunFolder
from compressarc.cli import main as cli
from compressarc.datasets import load_splits
from compressarc.files import replace_json
from compressarc.network.inputs import signature
from compressarc.score import (
    Score,
    read_answers,
    read_outcomes,
    score_answers,
    score_split,
    submission,
    verdict,
)
from tests.compressarc import made_up, zoo
from tests.conftest import DATA


@pytest.fixture(autouse=True)
def _nothing_is_compiled():
    before = made_up.compiled_programs()
    yield
    assert made_up.compiled_programs() == before


def grid(value, shape=(2, 2)):
    return np.full(shape, value, np.int8)


@pytest.mark.parametrize(
    ("split", "pass1", "pass2", "official"), [("training", 121, 140, 141.33), ("evaluation", 75, 81, 82.0)]
)
def test_true_totals_of_the_published_run(split, pass1, pass2, official):
    """The published tables say 139 and 80 (and 121, 74 with one guess): one puzzle too few each."""
    outcomes = read_outcomes(DATA / "published_solves.csv", split)
    total = score_split(outcomes)
    assert total.puzzles == 400
    assert total.solved == {1: pass1, 2: pass2}
    assert total.fraction(2) == pytest.approx(pass2 / 400)
    assert total.official == pytest.approx(official, abs=0.01)


def test_the_two_puzzles_that_the_tables_lost_are_solved():
    assert read_outcomes(DATA / "published_solves.csv", "training")["ba26e723"].rank == 2
    assert read_outcomes(DATA / "published_solves.csv", "evaluation")["66e6c45b"].rank == 1


def test_joint_and_official_rule_differ_on_several_outputs():
    solution = (grid(1), grid(2))
    score = score_answers([(grid(1), grid(0)), (grid(0), grid(2))], solution)
    assert not score.solved(2) and score.per_output == 1.0
    score = score_answers([(grid(1), grid(0)), (grid(3), grid(0)), solution], solution)
    assert score.rank == 3 and score.solved(3) and not score.solved(2) and score.per_output == 0.5


def test_an_answer_of_another_size_is_wrong():
    assert score_answers([(grid(1, (2, 3)),)], (grid(1),)).rank is None


def test_submission_round_trip(tmp_path):
    made = submission({"p": [(grid(1), grid(2)), (grid(3), grid(4))], "q": [(grid(5),)]})
    assert made["p"][1] == {"attempt_1": grid(2).tolist(), "attempt_2": grid(4).tolist()}
    path = tmp_path / "submission.json"
    path.write_text(json.dumps(made))
    back = read_answers(path)
    np.testing.assert_array_equal(back["p"][1][1], grid(4))
    np.testing.assert_array_equal(back["q"][1][0], grid(5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected a JSON object"),
        ('{"a": [{"attempt_1": [[1]]}]}', r"a\[0\]: missing key 'attempt_2'"),
        ('{"a": []}', "a: expected a non-empty list"),
    ],
)
def test_malformed_answers_are_named(tmp_path, content, message):
    path = tmp_path / "answers.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_answers(path)
    assert str(path) in str(error.value)


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("split,task\ntraining,a\n")
    with pytest.raises(ValueError, match="n_guesses_needed_at_2000"):
        read_outcomes(path)


TRAINING = load_splits()["training"]
ONE = "6f8cd79b"  # one test
TWO = "53b68214"  # two tests


def official(grids, second=None):
    """Attempts in a submission's form."""
    return [
        {"attempt_1": np.asarray(a).tolist(), "attempt_2": np.asarray(b).tolist()}
        for a, b in zip(grids, grids if second is None else second, strict=True)
    ]


@pytest.fixture
def scored(tmp_path, capsys):
    """Runs `compressarc score` on answers; returns status, what it printed as JSON, and its errors."""

    def run(*answers, options=()):
        paths = []
        for i, content in enumerate(answers):
            paths.append(tmp_path / f"answers{i}.json")
            text = content if isinstance(content, (str, bytes)) else json.dumps(content)
            paths[-1].write_bytes(text if isinstance(text, bytes) else text.encode())
        capsys.readouterr()
        status = cli.main(["score", *map(str, paths), "--json", *options])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return status, json.loads(shown.out) if shown.out else None, shown.err

    return run


def test_one_right_of_four_hundred_is_a_quarter_of_a_percent(tmp_path, capsys):
    path = tmp_path / "one.json"
    path.write_text(json.dumps({ONE: official(TRAINING[ONE].solution)}))
    assert cli.main(["score", str(path)]) == 0
    text = capsys.readouterr().out
    assert "joint answers (paper's rule), of 400 puzzles: pass@1 1 (0.25 %), pass@2 1 (0.25 %)" in text
    assert "(ARC Prize's rule): 1.00 of 400 puzzles (0.25 %)" in text
    assert "(Kaggle's rule): 1 of 416 test outputs (0.24 %)" in text
    assert "399 missing, which count as not solved: 007bbfb7, " in text


def test_totals_of_every_rule(scored):
    truth = TRAINING[TWO].solution
    wrong = tuple(1 - (g > 0) for g in truth)
    status, found, _ = scored(
        {TWO: official((truth[0], wrong[1]), wrong), ONE: official(TRAINING[ONE].solution)}
    )
    split = found["splits"]["training"]
    assert status == 0 and split["puzzles"] == 400 and len(split["missing"]) == 398
    assert split["paper"] == {"pass@1": 1, "pass@2": 1} and split["arc_prize"] == 1.5
    assert split["kaggle"] == {"outputs": 416, "right": 2}
    one = split["scores"][TWO]
    assert one["verdict"] == "partly right" and [o["right"] for o in one["outputs"]] == [True, False]
    assert one["outputs"][1]["size_right"] and one["outputs"][0]["pixels"] == 1.0


def test_answers_for_another_number_of_tests_are_an_error_of_that_puzzle(scored):
    both = official(TRAINING[ONE].solution) * 2
    status, found, errors = scored({ONE: both, TWO: official(TRAINING[TWO].solution)})
    assert status == 1 and f"{ONE}: 2 outputs for 1 test input" in errors
    split = found["splits"]["training"]
    assert list(split["scores"]) == [TWO] and ONE in split["missing"] and split["paper"]["pass@1"] == 1


def test_missing_and_null_attempts_count_as_wrong_and_are_counted(scored, tmp_path, capsys):
    truth = TRAINING[TWO].solution
    answers = {TWO: [{"attempt_1": None, "attempt_2": truth[0].tolist()}, {"attempt_1": truth[1].tolist()}]}
    status, found, _ = scored(answers)
    outputs = found["splits"]["training"]["scores"][TWO]["outputs"]
    assert status == 0 and [o["missing"] for o in outputs] == [1, 1] and all(o["right"] for o in outputs)
    assert found["splits"]["training"]["scores"][TWO]["rank_of_solution"] is None
    assert cli.main(["score", str(tmp_path / "answers0.json")]) == 0
    assert "2 attempts are missing or null, which count as wrong" in capsys.readouterr().out
    _, found, _ = scored({TWO: [None, None], ONE: official(TRAINING[ONE].solution)})
    assert [o["missing"] for o in found["splits"]["training"]["scores"][TWO]["outputs"]] == [2, 2]


def test_splits_are_reported_apart(scored):
    other = load_splits()["evaluation"]
    name = next(iter(other))
    _, found, _ = scored({ONE: official(TRAINING[ONE].solution)}, {name: official(other[name].solution)})
    assert {k: len(v["missing"]) for k, v in found["splits"].items()} == {"training": 399, "evaluation": 399}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        (b"\xff\xfe\x01", "not valid JSON"),
        ("[" * 50_000, "not valid JSON"),
        ("[1]", "expected a JSON object, got list"),
        ("null", "expected a JSON object, got NoneType"),
        ("{}", "no answers in it"),
        (f'{{"{ONE}": 3}}', "expected a non-empty list of attempts"),
        (f'{{"{ONE}": [3]}}', "expected attempt_1 and attempt_2, got int"),
        (f'{{"{ONE}": [{{"attempt_1": [[11]], "attempt_2": []}}]}}', "attempt_1: cell [0][0] is 11"),
        ('{"puzzle": "6f8cd79b", "answers": {}}', "answers should be a list"),
        ('{"puzzle": "6f8cd79b", "answers": [3]}', "answers[0]: expected an object with a list of grids"),
        (
            '{"nosuch": [{"attempt_1": [[1]], "attempt_2": [[1]]}]}',
            "nosuch: no such puzzle in dataset arcagi",
        ),
    ],
)
def test_malformed_answers_are_a_line_each_and_the_rest_is_scored(scored, content, message):
    status, found, errors = scored(content, {TWO: official(TRAINING[TWO].solution)})
    assert status == 1 and message in errors and found["splits"]["training"]["paper"]["pass@2"] == 1
    assert all(line.startswith("compressarc: ") for line in errors.splitlines())
    status, _, errors = scored(content)
    assert status in (1, 2) and message in errors


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 11) | st.floats() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["attempt_1", "attempt_2", "grids"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.dictionaries(st.sampled_from([ONE, TWO, "answers", "puzzle"]), ANY, max_size=4) | ANY)
def test_no_shape_of_answers_ends_in_a_traceback(scored, data):
    status, _, errors = scored(json.dumps(data))
    assert status in (0, 1, 2) and (status == 0 or errors)


def test_the_words():
    assert [verdict(s) for s in (Score(2, 1.0), Score(3, 0.5), Score(None, 1.0), Score(None, 0.0))] == [
        "right", "partly right", "partly right", "wrong",
    ]  # fmt: skip


def test_a_split_that_is_not_all_there():
    total = score_split({"a": Score(1, 1.0)}, split={"a": 1, "b": 2, "c": 1})
    assert total.puzzles == 3 and total.missing == ("b", "c") and total.fraction(2) == pytest.approx(1 / 3)
    assert total.outputs == 4


def kaggle(folder, **challenges):
    """A competition folder: {split: ({id: [solution, ...]}, whether the solutions are there)}."""
    for split, (solutions, known) in challenges.items():
        puzzles = {
            name: {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[1]]} for _ in grids]}
            for name, grids in solutions.items()
        }
        replace_json(folder / f"arc-agi_{split}_challenges.json", puzzles)
        if known:
            replace_json(folder / f"arc-agi_{split}_solutions.json", solutions)
    return folder


def right(solutions):
    return {name: official(grids) for name, grids in solutions.items()}


def test_a_test_set_of_known_puzzles_takes_none_of_them_away(scored, tmp_path):
    """Kaggle's placeholder test set repeats puzzles of the training set, without solutions."""
    truth = {"a": [[[1]]], "b": [[[2]]], "c": [[[3]]], "d": [[[4]]]}
    hidden = {name: truth[name] for name in "abc"}
    folder = kaggle(tmp_path / "kaggle", training=(truth, True), test=(hidden, False))
    status, found, errors = scored(right(truth), options=["--dataset", str(folder)])
    assert status == 0 and list(found["splits"]) == ["training"], errors
    assert found["splits"]["training"]["paper"]["pass@1"] == 4


def test_each_split_is_judged_by_its_own_solutions(scored, tmp_path):
    train, other = {"a": [[[1]]], "b": [[[2]]]}, {"a": [[[5]]], "z": [[[6]]]}
    folder = kaggle(tmp_path / "k", training=(train, True), evaluation=(other, True))
    _, found, errors = scored(right({"a": [[[1]]]}), options=["--dataset", str(folder)])
    assert {k: v["paper"]["pass@1"] for k, v in found["splits"].items()} == {"training": 1, "evaluation": 0}
    assert "judged in" in errors
    options = ["--dataset", str(folder), "--split", "evaluation"]
    _, found, _ = scored(right(other), options=options)
    assert list(found["splits"]) == ["evaluation"] and found["splits"]["evaluation"]["paper"]["pass@1"] == 2


def test_a_batch_is_scored_in_the_split_it_names(tmp_path, capsys):
    own = zoo.make("own", [((2, 2), (2, 2))], [(2, 2)], truth_sizes=[(2, 2)])
    rest = {f"other{i}": zoo.SAME for i in range(7)}
    plan = make_plan({"own": signature(own.canvas)}, device_model("cpu"))
    run = RunFolder.create(
        tmp_path / "run", {"own": own}, BatchSettings(), plan,
        dataset="mine", split="training", whole_split=rest | {"own": own},
    )  # fmt: skip
    run.save_record("own", 0, Record(made_up.history([own.solution]), RunStatus.FINISHED, 1.0))
    assert cli.main(["score", str(run.folder), "--json"]) == 0
    (split,) = json.loads(capsys.readouterr().out)["splits"].values()
    assert split["of"] == "mine training" and split["puzzles"] == 8 and len(split["missing"]) == 7
    assert split["paper"] == {"pass@1": 1, "pass@2": 1}
    assert run.totals(run.results()).solved[2] == 1 and run.totals(run.results()).puzzles == 8
    assert run.within(run.totals(run.results()))[0].startswith(
        "7 of the 8 are not in this batch; of its own 1"
    )


def test_blanks_are_no_answers(scored, tmp_path, capsys):
    """Unless they are right."""
    blank = [[0, 0], [0, 0]]
    empty = [{"attempt_1": blank, "attempt_2": blank}]
    status, found, _ = scored({ONE: empty, TWO: official(TRAINING[TWO].solution)})
    split = found["splits"]["training"]
    assert status == 0 and split["blank"] == 1 and ONE in split["missing"] and list(split["scores"]) == [TWO]
    _, found, _ = scored({ONE: empty})
    assert len(found["splits"]["training"]["missing"]) == 400
    folder = kaggle(tmp_path / "k", training=({"a": [blank]}, True))
    _, found, _ = scored({"a": empty}, options=["--dataset", str(folder)])
    assert found["splits"]["training"]["paper"]["pass@1"] == 1


def test_a_malformed_answer_keeps_its_rank(scored):
    truth = TRAINING[ONE].solution[0].tolist()
    answers = [5, {"grids": [[[1]]]}, {"grids": [truth]}]
    status, found, _ = scored({"puzzle": ONE, "answers": answers})
    one = found["splits"]["training"]["scores"][ONE]
    assert status == 1 and one["rank_of_solution"] == 3 and one["verdict"] == "wrong"
    assert [o["missing"] for o in one["outputs"]] == [1]


def test_puzzles_without_a_known_solution_are_said(scored, tmp_path):
    folder = kaggle(tmp_path / "k", training=({"a": [[[1]]], "b": [[[2]]], "c": [[[3]]]}, False))
    replace_json(folder / "arc-agi_training_solutions.json", {"a": [[[1]]]})
    _, found, _ = scored(right({"a": [[[1]]]}), options=["--dataset", str(folder)])
    split = found["splits"]["training"]
    assert split["puzzles"] == 1 and split["without_known_solution"] == 2


def test_what_else_stands_in_a_submission_is_said(scored):
    entry = official(TRAINING[ONE].solution)[0] | {"attempt_3": [[1]]}
    _, found, errors = scored({ONE: [entry]})
    assert "ignored: attempt_3" in errors and found["splits"]["training"]["paper"]["pass@1"] == 1
    text = json.dumps({ONE: [entry]})
    _, _, errors = scored(text[:-1] + ", " + text[1:])
    assert f"key {ONE!r} for the second time" in errors


def test_control_characters_are_shown_and_not_sent(scored):
    status, _, errors = scored({"a\nb\x1b[2Jc": 3, ONE: official(TRAINING[ONE].solution), "x" * 10_000: 3})
    assert status == 1 and "\x1b" not in errors and "a\\nb\\x1b[2Jc" in errors
    assert all(line.startswith("compressarc: ") and len(line) < 500 for line in errors.splitlines())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: submission({"a": []}), "a: no answer"),
        (lambda: score_answers([[[1, 2]]], [np.ones((1, 2))]), "expected grids of rows and columns"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_answer_at_all_is_wrong():
    score = score_answers([None], [np.ones((1, 2))])
    assert score.rank is None and score.outputs[0].missing == 2


def merge(tmp_path, capsys, *shares, options=()):
    paths = []
    for i, content in enumerate(shares):
        paths.append(tmp_path / f"share{i}.json")
        paths[-1].write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    capsys.readouterr()
    out = tmp_path / "merged.json"
    status = cli.main(["submission", *map(str, paths), "--out", str(out), *options])
    return status, json.loads(out.read_text()) if out.exists() else None, "".join(capsys.readouterr())


ARC = ("--dataset", "arcagi", "--split", "training")


def test_what_is_unusable_in_a_share_is_named_and_blank(tmp_path, capsys):
    one, two = official(TRAINING[ONE].solution), official(TRAINING[TWO].solution)
    bad = {
        ONE: one * 2,
        TWO: [two[0], {"attempt_1": None, "attempt_2": two[1]["attempt_2"]}],
        "007bbfb7": [{"attempt_1": [[11]], "attempt_2": [[1.5]]}],
        "_meta": {"by": "me"},
    }
    status, merged, shown = merge(tmp_path, capsys, bad, options=ARC)
    blank = [[0, 0], [0, 0]]
    assert status == 1 and f"{ONE}: 2 outputs for 1 test input" in shown and "is 11" in shown
    assert "_meta: expected a non-empty list" in shown and "Traceback" not in shown
    assert merged[ONE] == [{"attempt_1": blank, "attempt_2": blank}] and len(merged) == 400
    assert merged[TWO][1] == {"attempt_1": blank, "attempt_2": two[1]["attempt_2"]}


def test_shares_in_other_encodings(tmp_path, capsys):
    text = json.dumps({ONE: official(TRAINING[ONE].solution)})
    other = json.dumps({TWO: official(TRAINING[TWO].solution)})
    _, merged, shown = merge(
        tmp_path, capsys, b"\xef\xbb\xbf" + text.encode(), other.encode("utf-16"), options=ARC
    )
    assert "2 of 400 puzzles of arcagi training" in shown
    assert merged[ONE] == official(TRAINING[ONE].solution)


def test_a_split_that_is_named_must_be_there(tmp_path, capsys):
    share = {ONE: official(TRAINING[ONE].solution)}
    for options, message in (
        (("--dataset", "arcagj", "--split", "training"), "did you mean"),
        (("--dataset", "arcagi", "--split", "trainign"), "no split 'trainign'"),
        (("--split", "training"), "--split needs --dataset"),
    ):
        status, merged, shown = merge(tmp_path, capsys, share, options=options)
        assert status == 2 and merged is None and message in shown
