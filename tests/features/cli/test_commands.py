"""What commands say and do around the work itself."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from features.circles.concepts import TASKS
from features.circles.fit import NullTest
from features.circles.intervention import Effect
from features.cli import autoencoders, main, models
from features.cli.commands import Circles, Demo, Intervene
from features.discovery.discover import Annotation, Candidate
from features.discovery.reconstruction import Reconstruction


@pytest.mark.parametrize(
    ("hook", "wanted", "expected"),
    [
        ("blocks.7.hook_resid_pre", None, 7), ("blocks.7.hook_resid_post", None, 8), ("blocks.11.hook_resid_pre", 11, 11),
        ("", 3, 3),
    ],
)  # fmt: skip
def test_the_layer_is_the_files_or_the_given_one(hook, wanted, expected):
    assert autoencoders._hooked_layer(hook, wanted) == expected


def test_a_layer_that_is_another_or_nowhere_is_refused():
    with pytest.raises(ValueError, match=r"--layer 7: .*blocks.7.hook_resid_post, which is state 8"):
        autoencoders._hooked_layer("blocks.7.hook_resid_post", 7)
    with pytest.raises(ValueError, match="--layer is needed"):
        autoencoders._hooked_layer("", None)


@pytest.mark.parametrize("wanted", [None, 3])
@pytest.mark.parametrize(
    "hook", ["blocks.3.hook_mlp_out", "blocks.3.attn.hook_z", "blocks.3.hook_resid_mid", "3"]
)
def test_hooks_that_are_no_state_of_the_residual_stream_are_refused_by_name(hook, wanted):
    with pytest.raises(ValueError, match=f"reads '{hook}', which is no state of the residual stream"):
        autoencoders._hooked_layer(hook, wanted)


@given(
    st.lists(st.lists(st.sampled_from(["Today", "is", "Monday", "Friday"]), max_size=5), max_size=12),
    st.integers(2, 9),
)
def test_texts_are_cut_into_rows_of_their_tokens(tiny_model, tmp_path_factory, lines, length):
    path = tmp_path_factory.mktemp("t") / "text.txt"
    path.write_text("\n".join(" ".join(line) for line in lines))
    words = [f" {word}" for line in lines for word in line]
    if len(words) < length:
        with pytest.raises(ValueError, match=f"holds {len(words)} tokens; at least {length} are needed"):
            autoencoders._token_rows(path, tiny_model.tokenizer, length, 16)
        return
    found = autoencoders._token_rows(path, tiny_model.tokenizer, length, 16)
    assert found.shape == (len(words) // length, length)
    assert [tiny_model.tokenizer.word(i) for i in found.ravel().tolist()] == words[: found.size]


def test_texts_that_cannot_be_read_are_named(tiny_model, tmp_path):
    (tmp_path / "latin.txt").write_bytes("Mäßig".encode("latin-1"))
    for path, length, message in (
        (tmp_path / "latin.txt", 4, r"latin.txt is no UTF-8 text"),
        (tmp_path / "missing.txt", 4, "no such file"),
        (None, 4, "no such file"),
        (tmp_path / "latin.txt", 1, "--length 1: expected 2 to 16"),
        (tmp_path / "latin.txt", 17, "--length 17: expected 2 to 16"),
    ):
        with pytest.raises(ValueError, match=message):
            autoencoders._token_rows(path, tiny_model.tokenizer, length, 16)


@given(st.lists(st.sampled_from([" a", " b", " c", "d"]), min_size=1, max_size=30))
def test_the_commonest_words_come_first(words):
    tokens = np.arange(len(words))
    made = Reconstruction(
        tokens, *(np.zeros((len(words), 2)), np.eye(2), np.zeros(2), np.zeros(2), np.eye(2))
    )
    found = autoencoders._commonest(Candidate(np.arange(2), 1.0, {}, made), words)
    counts = [sum(word.strip() == name for word in words) for name in found]
    assert counts == sorted(counts, reverse=True) and sum(counts) == len(words)


def test_annotations_are_plain_data():
    null = NullTest(0.5, np.zeros(3), 0.25)
    whole = autoencoders._as_data(
        Annotation(0.9, 7, (1, 2), null, null._replace(value=0.75), np.zeros(2, int))
    )
    assert whole == {
        "share": 0.9,
        "members": 7,
        "plane": (1, 2),
        "order": 0.5,
        "order p": 0.25,
        "r2": 0.75,
        "r2 p": 0.25,
    }
    none = autoencoders._as_data(Annotation(0.1, 2, None, None, None, np.zeros(2, int)))
    assert none["order"] is none["r2 p"] is none["plane"] is None


def test_a_table_holds_every_effect_once():
    table = {layer: {m: Effect(layer + 0.25, 0.1, 0.5, 3) for m in ("none", "circle")} for layer in (0, 4)}
    out = io.StringIO()
    Console(file=out, width=120).print(models._effects_table(table, "a title"))
    text = out.getvalue()
    assert "a title" in text and text.count("+0.25 / 0.50") == 2 == text.count("+4.25 / 0.50")


def test_a_concepts_prompts_are_the_papers_unless_told():
    assert models._concept_task(Circles(concept="days")) is TASKS["weekdays"]
    own = models._concept_task(Circles(concept="x, y, z", template="Say {alpha}"))
    assert own.template == "Say {alpha}" and own.concept.members == ("x", "y", "z")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--relabellings", "0"], "--relabellings 0: must be at least 1"),
        (["circles", "--permutations", "0"], "--permutations 0: must be at least 1"),
        (["intervene", "--k", "1"], "--k at least 2"),
        (["intervene", "--relabellings", "-1"], "must not be negative"),
        (["evr", "--task", "tomorrow"], "--task tomorrow: regression on alpha and beta needs several steps"),
        (["irreducible", "missing.npy"], "missing.npy: no such file"),
        (["sae", "train", "--out", "x", "--text", "a", "--activations", "b"], "give either"),
        (["sae", "discover", "x", "--activations", "b.npy", "--concept", "days"], "--concept needs --text"),
        (["sae", "discover", "nothing", "--activations", "b.npy"], "nothing: no such file or folder"),
    ],
    ids=str,
)
def test_mistakes_end_in_one_line_and_status_two(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main.main(arguments)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and message in said
    assert said.startswith("features: ") and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing was made before the mistake was seen


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, 130), (FloatingPointError, 2), (ImportError, 2)]
)
def test_every_end_has_its_status(error, status, monkeypatch, capsys):
    def broken(command):
        assert command == Demo(seed=4)
        raise error("why")

    monkeypatch.setattr(models, "demo", broken)
    with pytest.raises(SystemExit) as stop:
        main.main(["demo", "--seed", "4"])
    assert stop.value.code == status
    assert capsys.readouterr().err == ("" if status == 130 else "features: why\n")


def test_options_reach_their_command(monkeypatch):
    seen = []
    monkeypatch.setattr(models, "intervene", seen.append)
    main.main(["intervene", "--task", "tomorrow", "--layers", "3", "5", "--spelling", "bare", "--k", "2"])
    assert seen == [Intervene(task="tomorrow", layers=(3, 5), spelling="bare", k=2)]
