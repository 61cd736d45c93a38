"""The gallery: which networks it shows, what it says of them, and that names cannot break the page."""

import html.parser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hypernet
from hypernet.analysis.pareto_front import Front, Point
from hypernet.report.gallery import branches_of, describe, write_gallery

NET = hypernet.double_sided(2, k=5.0)
rows = st.lists(
    st.tuples(
        st.sampled_from(hypernet.LABELS), st.sampled_from([-5.0, -1.0]), st.integers(1, 9), st.integers(0, 9)
    ),
    max_size=8,
)


def front_of(rows):
    return Front(
        2, tuple(Point(label, lb, 0, 0, 0.5, float(b), float(loss), NET) for label, lb, loss, b in rows)
    )


@given(rows=rows)
def test_a_branch_is_shown_where_it_leads_most(rows):
    front = front_of(rows)
    found = branches_of(front)
    assert {p.label for p in found} == {p.label for p in front.points} - {"mixed", "none"}
    assert len({p.label for p in found}) == len(found)
    assert [p.bits for p in found] == sorted(p.bits for p in found)
    for chosen in found:

        def lead(p):
            rivals = [q.loss for q in front.points if q.label != p.label and q.log10_beta == p.log10_beta]
            return p.loss / min(rivals) if rivals else 1.0

        assert all(
            (lead(chosen), chosen.loss) <= (lead(p), p.loss) for p in front.points if p.label == chosen.label
        )


def test_a_point_is_described_with_its_formula_where_there_is_one():
    point = Point("double_sided", -3.0, 1, 2, 0.25, 7.0, 0.5, NET)
    about = describe(point, hypernet.get_target("l1"))
    assert {k: about[k] for k in ("label", "log10_beta", "bits", "nmse", "loss", "seed", "mode")} == {
        "label": "double_sided", "log10_beta": -3.0, "bits": 7.0, "nmse": 0.25, "loss": 0.5, "seed": 1, "mode": 2,
    }  # fmt: skip
    assert about["formula"].startswith("0.2 Σ swish(5 x) + 0.2 Σ swish(−5 x) ")
    assert about["unexplained"] < 1e-9
    deep = describe(point._replace(mlp=hypernet.tournament(4)), hypernet.get_target("linf"))
    assert "formula" not in deep


class Page(html.parser.HTMLParser):
    """Counts tags, and keeps the text and what is loaded."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.loaded, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_well_formed_loads_nothing_and_says_what_is_returned(tmp_path):
    name = "<script>alert('a & b')</script>"
    target = hypernet.Target(name, hypernet.get_target("l1").value)
    points = front_of([("double_sided", -5.0, 1, 9), ("convexity", -1.0, 1, 1), ("none", -1.0, 9, 5)])
    abouts = write_gallery(points, target, tmp_path / "gallery.html")
    page = Page((tmp_path / "gallery.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "script" not in page.tags and name in page.text
    assert page.tags.count("section") == len(abouts) == 2
    assert all(source.startswith("data:image/png;base64,") for source in page.loaded)
    assert len(page.loaded) == 3
    for about in abouts:
        assert f"f(x) ≈ {about['formula']}" in page.text
    assert "3 groups of generated networks" in page.text
    # what is to be shown may be said
    (only,) = write_gallery(points, target, tmp_path / "one.html", shown=[points.points[2]])
    assert only["label"] == "none"
    assert np.isfinite(only["formula_nmse"]) and only["loss"] == pytest.approx(9)
