"""The page of planes: contexts, counts, and nothing of the text taken for HTML."""

import html
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.discovery.discover import Candidate, Discovery
from features.discovery.reconstruction import Reconstruction
from features.irreducibility.measure import Irreducibility
from features.report.page import token_contexts, write_page


@given(
    st.lists(st.text(max_size=4), min_size=1, max_size=20), st.integers(0, 9), st.integers(0, 9), st.data()
)
def test_a_context_is_the_text_around_its_token(words, before, after, data):
    places = data.draw(st.lists(st.integers(0, len(words) - 1), max_size=5))
    found = token_contexts(words, np.array(places, int), before=before, after=after)
    for at, text in zip(places, found, strict=True):
        left = [words[i] for i in range(len(words)) if at - before <= i < at]
        right = [words[i] for i in range(len(words)) if at < i <= at + after]
        assert text == f"…{''.join(left)}[{words[at]}]{''.join(right)}…"


def found_planes(rng, sizes, tokens=400):
    candidates = []
    for number, size in enumerate(sizes):
        planes = {
            (0, 1): Irreducibility(0.5, 0.4, 2, size, "X"),
            (1, 2): Irreducibility(1.5, 0.2, 2, size, "X"),
        }
        nothing = np.zeros(0)
        made = Reconstruction(
            np.sort(rng.choice(tokens, size, replace=False)), rng.normal(size=(size, 3)), np.eye(3), nothing,
            np.zeros(3), np.eye(3),
        )  # fmt: skip
        p = None if number else 0.0125
        candidates.append(Candidate(np.arange(number, number + 4), 1.0 - number / 10, planes, made, p))
    return Discovery(candidates, 9, tokens)


@pytest.fixture
def without_library(monkeypatch):
    """The drawing library itself, four megabytes in every page, is left out."""
    import plotly.offline

    monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda: "/* library */")


def test_a_page_says_what_was_found(tmp_path, without_library):
    rng = np.random.default_rng(0)
    found = found_planes(rng, [300, 40, 20])
    words = [f" W{i % 5}" for i in range(400)]
    write_page(found, words, tmp_path / "p" / "page.html", first=2, most_points=60)
    text = (tmp_path / "p" / "page.html").read_text(encoding="utf-8")
    assert text.count("<section>") == 2 and "3 groups of latents measured, over 400 tokens" in text
    assert "1. score 1.000" in text and "2. score 0.900" in text and "3. score" not in text
    assert "components 2 and 3: S = 1.500 bits, M = 0.200, p = 0.013" in text
    assert text.count(", p = ") == 1 and "4 latents [0, 1, 2, 3], 300 tokens" in text
    for section, size in zip(text.split("<section>")[1:], (60, 40), strict=True):
        assert len(set(re.findall(r"…[^…]*\[ W\d\][^…]*…", section.replace("\\u2026", "…")))) <= size
        assert section.count("\\u2026") + section.count("…") == 2 * size  # as many points as are shown
    first = found.candidates[0].reconstruction.tokens
    counts = {f"w{k}": sum(words[t] == f" W{k}" for t in first) for k in range(5)}
    listed = re.search(r"commonest tokens: ([^<]*)<", text)[1].split(", ")
    assert sorted(listed) == sorted(counts)
    assert [counts[w] for w in listed] == sorted(counts.values(), reverse=True)


@pytest.mark.slow
@settings(max_examples=8)
@given(word=st.text(st.sampled_from("<>&'\"/script()"), min_size=1, max_size=12))
def test_no_word_becomes_markup(tmp_path_factory, word):
    import plotly.offline

    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plotly.offline, "get_plotlyjs", lambda: "")
        for name, words in (("plain", ["x"] * 20), ("odd", [word] * 20)):
            write_page(found_planes(np.random.default_rng(0), [10], 20), words, folder / f"{name}.html")
    tags = [re.findall(r"</?[a-z]+", (folder / f"{name}.html").read_text()) for name in ("plain", "odd")]
    assert tags[0] == tags[1]
    assert html.escape(word.strip().lower()) in (folder / "odd.html").read_text()
