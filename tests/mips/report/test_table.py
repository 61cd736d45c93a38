"""The table and the page: counts of a few made-up results, and names that are no markup."""

from hypothesis import given
from hypothesis import strategies as st

from mips.report import result_files as store
from mips.report import table
from mips.status import Provenance, Status
from tests.mips.report.test_result_files import EMPTY, result


def made(task, origin="benchmark", **changes):
    return store.to_json(result(task=task, **changes), origin=origin)


RESULTS = {
    name: made(name, **changes)
    for name, changes in {
        "Sum_All": {},
        "Div_3": {"status": Status.TABLE, "provenance": Provenance.TABLE, "baseline": None},
        "Dithering": {"status": Status.INEXACT},
        "Bitwise_Or": {"provenance": Provenance.DATA, "network": "", "comparison": None},
        "Bitwise_Xor": EMPTY,
        "Prev2": {"origin": "mine.csv"},
        "Base_6_Addition": EMPTY | {"status": Status.UNFINISHED},
    }.items()
}


def test_results_are_counted_by_where_their_programs_come_from():
    assert table.counts(RESULTS) == {
        "tasks": 7, "network": 2, "inside": 0, "faithful": 0, "table": 1, "data": 1, "baseline": 4, "paper": 3, "gpt4": 6, "gpt4_strict": 3,
    }  # fmt: skip
    assert set(table.counts({}).values()) == {0}


def test_rows_say_what_came_of_a_task_and_who_else_solved_it():
    rows = {row[0]: row[1:] for row in table.rows(RESULTS)}
    assert all(len(row) + 1 == len(table.HEADINGS) for row in rows.values())
    bits = f"{RESULTS['Sum_All']['bits']:.0f}"
    assert rows["Sum_All"] == (
        "formula from the network",
        bits,
        "50.0 %",
        "12.5 %",
        "1.8",
        "yes",
        "yes",
        "exact",
    )
    assert rows["Div_3"] == ("table from the network", bits, "50.0 %", "12.5 %", "1.8", "", "", "claimed")
    assert rows["Bitwise_Or"][0] == "formula from data" and rows["Bitwise_Or"][2] == ""
    assert rows["Bitwise_Xor"] == ("no network learned it", "", "", "", "0.0", "", "yes", "exact")
    # A task of the user's is not the paper's, whatever it is called.
    assert rows["Prev2"][-2:] == ("", "")
    assert rows["Base_6_Addition"][0] == "budget exhausted"


def test_the_narrow_table_says_the_same_in_fewer_words():
    rows = {row[0]: row[1:] for row in table.brief_rows(RESULTS)}
    assert all(len(row) + 1 == len(table.BRIEF_HEADINGS) for row in rows.values())
    bits = f"{RESULTS['Sum_All']['bits']:.0f}"
    assert rows["Sum_All"] == ("formula", bits, "50.0", "12.5", "1.8", "data MIPS GPT")
    assert rows["Div_3"] == ("table", bits, "50.0", "12.5", "1.8", "GPT?")
    assert rows["Bitwise_Or"][0] == "from data" and rows["Prev2"][-1] == "data"
    assert rows["Bitwise_Xor"] == ("no network", "", "", "", "0.0", "MIPS GPT")


def test_every_status_has_words():
    assert set(table.STATUS) == set(Status) == set(table._BRIEF)
    assert table.said({"status": "unheard", "provenance": ""}) == "unheard"


@given(st.lists(st.sampled_from(sorted(RESULTS)), unique=True))
def test_counts_add_up_over_parts(names):
    part = {n: RESULTS[n] for n in names}
    rest = {n: d for n, d in RESULTS.items() if n not in part}
    one, two, whole = map(table.counts, (part, rest, RESULTS))
    assert {k: one[k] + two[k] for k in whole} == whole


def test_the_page_shows_names_notes_and_programs_as_text(tmp_path):
    name = 'a<script>"&'
    data = made(name, origin="x")
    page = table.write_page({name: data, "Bitwise_Xor": RESULTS["Bitwise_Xor"]}, tmp_path).read_text()
    assert "<script" not in page and "a&lt;script&gt;&quot;&amp;" in page
    assert "one &lt;note&gt;" in page and "a network &amp; more" in page and "no program" in page
    assert "1 of 2 tasks solved by formulas" in page and page.count("<section>") == 2
    assert [p.name for p in (tmp_path / "machines").iterdir()] == ["a_script.png"]
    assert page.count("<img") == 1 and 'src="machines/a_script.png"' in page
