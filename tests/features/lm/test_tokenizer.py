"""Text to tokens and back; tokenizer files of every kind."""

import json

import pytest
import tokenizers as library
from hypothesis import given, settings
from hypothesis import strategies as st

from features.lm.loading import _begins_with, _hf_tokenizer
from features.lm.tokenizer import Tokenizer, from_file


@pytest.fixture(scope="module")
def bytes_model():
    """Byte-level: every text has tokens. Some pairs are merged."""
    alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "M"), ("a", "n")]
    words = [*alphabet, *("".join(pair) for pair in merges), "<s>"]
    backend = library.Tokenizer(library.models.BPE({w: i for i, w in enumerate(words)}, merges))
    backend.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = library.decoders.ByteLevel()
    backend.add_special_tokens(["<s>"])
    return Tokenizer(backend, len(words) - 1)


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_texts_come_back_from_their_tokens(bytes_model, text):
    if "<s>" in text:
        return
    ids = bytes_model.encode(text, bos=False)
    assert bytes_model.decode(ids) == text
    assert bytes_model.encode(text) == [bytes_model.bos, *ids]
    if text.isascii():  # else a token may hold a part of a character
        assert "".join(bytes_model.word(i) for i in ids) == text


def test_one_word_one_token(bytes_model):
    assert bytes_model.word(bytes_model.single(" the")) == " the" and bytes_model.single(
        "t"
    ) != bytes_model.single("the")
    with pytest.raises(ValueError, match=r"splits ' Mann' into \[' M', 'an', 'n'\].*Use other names"):
        bytes_model.single(" Mann")
    with pytest.raises(ValueError, match=r"splits '' into \[\]"):
        bytes_model.single("")


def test_spaces_written_as_lines_below():
    """SentencePiece models write the space into the token even where a text begins."""
    vocabulary = {"<unk>": 0, "▁Monday": 1, "Monday": 2, "▁on": 3}
    backend = library.Tokenizer(library.models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = library.pre_tokenizers.Metaspace()
    backend.decoder = library.decoders.Metaspace()
    words = Tokenizer(backend)
    assert words.word(1) == " Monday" and words.word(2) == "Monday"
    assert words.single("Monday") == words.single(" Monday") == 1 and words.bos is None
    assert words.encode("Monday on Monday") == [1, 3, 1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.text(max_size=4) | st.just("<s>"),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["single", "processors", "SpecialToken", "id", "content", "type"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(bytes_model, tmp_path_factory):
    found = tmp_path_factory.mktemp("words")
    bytes_model.backend.save(str(found / "tokenizer.json"))
    return found


@settings(max_examples=80)
@given(JSON, st.dictionaries(st.sampled_from(["bos_token", "add_bos_token"]), JSON, max_size=2))
def test_settings_of_any_kind_are_read_or_named(folder, post, told):
    """A tokenizer, or a ValueError that names a file of the folder."""
    whole = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(whole) | {"post_processor": post}))
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    try:
        words = _hf_tokenizer(folder)
    except ValueError as error:
        assert str(folder) in str(error)
    else:
        assert words.decode(words.encode("the", bos=False)) == "the"
    finally:
        (folder / "tokenizer.json").write_text(whole)
        (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize(
    ("post", "expected"),
    [
        ({"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}, True),
        ({"single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<s>"}}]}, False),
        ({"single": [{"SpecialToken": {"id": "<b>"}}]}, False),
        ({"processors": [{"type": "ByteLevel"}, {"single": [{"SpecialToken": {"id": "<s>"}}]}]}, True),
        (None, False),
    ],
)
def test_a_template_that_begins_with_a_token_is_seen(post, expected):
    assert _begins_with(post, "<s>") == expected


@given(st.binary(max_size=60))
def test_files_of_any_bytes_are_named(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("t") / "tokenizer.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"tokenizer.json is no tokenizer.json"):
        from_file(path)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no tokenizer"):
        _hf_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="is no tokenizer"):
        from_file(tmp_path / "missing.json")
