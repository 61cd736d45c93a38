"""The report page: complete, self-contained, and quick in a real browser."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from compressarc.batch.device_model import device_model
from compressarc.batch.plan import make_plan
from compressarc.batch.records import BatchSettings, Record, RunStatus
from compressarc.batch.results import solved_over_time
from compressarc.batch.store import RunFolder
from compressarc.cli import main as cli
from compressarc.cli.batch_terminal import show_summary
from compressarc.config import SolveConfig
from compressarc.datasets import load_splits
from compressarc.network.inputs import signature
from compressarc.report.compare import compare_with_published
from compressarc.report.page import page_data, write_page
from compressarc.solver.history import History
from compressarc.solver.ranking import Ranking

STEPS = 40


def fake_history(puzzle, rng, right_from):
    """Proposals of a made-up run that finds the solution at one step and stays with it (None: never)."""
    ranking, proposals, weights = Ranking(), [], []
    wrong = [tuple((g + k) % 10 for g in puzzle.solution) for k in (1, 2, 3)]
    for step in range(STEPS):
        found = right_from is not None and step >= right_from
        answers = [puzzle.solution if found else wrong[rng.integers(3)], wrong[rng.integers(3)]]
        weight = [-0.1 if found else -5.0, -9.0]
        proposals.append([ranking.vote(a, w, step).order for a, w in zip(answers, weight, strict=True)])
        weights.append(weight)
    kl = np.abs(rng.standard_normal((STEPS, 18))) * 10
    return History(
        kl.astype(np.float32),
        np.linspace(500, 1, STEPS, dtype=np.float32),
        np.array(proposals, np.int32),
        np.array(weights, np.float32),
        ranking,
    )


def made_up_run(folder, puzzles):
    """Every fifth puzzle solved, at known steps."""
    statics = {n: signature(p.canvas) for n, p in puzzles.items()}
    plan = make_plan(statics, device_model("cpu"), programs=3, lanes=1)
    settings = BatchSettings(SolveConfig(steps=STEPS))
    run = RunFolder.create(folder, puzzles, settings, plan, dataset="arcagi", split="evaluation")
    rng = np.random.default_rng(0)
    for i, (name, puzzle) in enumerate(puzzles.items()):
        history = fake_history(puzzle, rng, i // 5 % STEPS if i % 5 == 0 else None)
        shape = statics[name].shape
        components = {"10010": rng.uniform(-1, 1, (shape.examples, shape.x))}
        run.save_record(name, 0, Record(history, RunStatus.FINISHED, 1.0 + i, components))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the whole evaluation split."""
    return made_up_run(tmp_path_factory.mktemp("page") / "run", load_splits("arcagi")["evaluation"])


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A run of twenty puzzles, for what doesn't depend on how many there are."""
    puzzles = list(load_splits("arcagi")["evaluation"].items())[:20]
    return made_up_run(tmp_path_factory.mktemp("few") / "run", dict(puzzles))


def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium here")
    return found


def opened(path, tmp_path, link, *options):
    """Standard output of headless Chromium on the page, offline."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]
    flags += ["--disable-component-update", "--disable-sync", "--virtual-time-budget=4000"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [browser(), *flags, *options, f"{path.as_uri()}#{link}"], capture_output=True, text=True, timeout=120
    )
    return done.stdout


def shown(page):
    """Ids of the puzzles that are visible in a dumped page."""
    cards = re.findall(r'<details class="puzzle"[^>]*>', page)
    assert len(cards) == 400
    return [re.search(r'data-id="(\w+)"', c).group(1) for c in cards if " hidden" not in c]


@pytest.mark.slow
def test_the_numbers_are_those_of_the_results(run):
    data = page_data(run)
    results = run.results()
    assert len(data["puzzles"]) == 400 and data["pass"][1][1] == "80 of 400"
    curve = solved_over_time(list(results.values()), STEPS)
    expected = [sum(i // 5 % STEPS < step for i in range(0, 400, 5)) for step in range(1, STEPS + 1)]
    np.testing.assert_array_equal(curve, expected)
    assert data["by_steps"][-1] == [STEPS, 80] and data["published_by_steps"][-1] == [2000, 81]
    found = compare_with_published(results, "evaluation")
    assert found.own.count == 80 and found.published.count == 81
    assert len(found.newly_solved) - len(found.lost) == -1
    # known values of the exact interval for 80 of 400
    assert (round(found.own.low, 4), round(found.own.high, 4)) == (0.1619, 0.2426)


@pytest.mark.slow
def test_the_summary_and_the_submission(run):
    from rich.console import Console

    console = Console(record=True, width=120)
    show_summary(console, run)
    text = console.export_text()
    assert "400 of 400 puzzles done" in text and "pass@2 80" in text and "81 of 400" in text
    attempts = json.loads(run.write_submission().read_text())
    assert list(attempts) == list(run.names)
    first = run.puzzles[run.names[0]]
    assert attempts[run.names[0]][0]["attempt_1"] == first.solution[0].tolist()


def test_counting_votes_anew(few, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(few.folder, copy)
    other = RunFolder(copy)
    other.recount("decay-100")
    assert RunFolder(copy).settings.vote == "decay-100"
    assert {r["vote"] for r in other.results().values()} == {"decay-100"}
    with pytest.raises(ValueError, match="did you mean decay-100"):
        other.recount("decay-10")


@pytest.mark.slow
def test_the_page_in_a_browser(run, tmp_path):
    path = write_page(run, tmp_path / "report.html")
    text = path.read_text()
    assert not re.search(r'(?:src|href)="?(?:https?:)?//', text), "needs a network"
    everything = opened(path, tmp_path, "", "--dump-dom")
    assert len(shown(everything)) == 400
    assert int(re.search(r'data-ready="(\d+)"', everything).group(1)) < 2000
    solved = {n for n, r in run.results().items() if r["solved"]["pass@2"]}
    assert set(shown(opened(path, tmp_path, "filter=solved", "--dump-dom"))) == solved
    unsolved = shown(opened(path, tmp_path, f"filter=unsolved&open={run.names[1]}", "--dump-dom"))
    assert set(unsolved) == set(run.names) - solved
    one = opened(path, tmp_path, f"q={run.names[7]}&open={run.names[7]}", "--dump-dom")
    assert shown(one) == [run.names[7]] and "<canvas" in one and "Leading latent components" in one


MEASURE = """
<script>
addEventListener("load", () => {
  const lines = e => { const r = document.createRange(); r.selectNodeContents(e);
    return new Set([...r.getClientRects()].filter(q => q.width).map(q => Math.round(q.top))).size };
  const root = document.documentElement, wrapped = [...document.querySelectorAll("td,.id,.state")]
    .filter(e => e.textContent && lines(e) > 1).map(e => e.textContent);
  const over = [...document.querySelectorAll("svg,canvas,table,.grids,.legend,summary")]
    .filter(e => !e.closest(".wide") && e.getBoundingClientRect().right > root.clientWidth + 1)
    .map(e => e.outerHTML.slice(0, 80));
  parent.postMessage({width: root.clientWidth, scrolls: root.scrollWidth, wrapped, over,
    cells: document.querySelectorAll("td").length}, "*") });
</script>"""


def framed(page, width, link):
    """A page that shows another at a width (a browser's own window has a least width), and what it measured."""
    inner = page.with_name(f"inner{width}.html")
    inner.write_text(page.read_text().replace("</body>", MEASURE + "</body>"))
    outer = page.with_name(f"outer{width}.html")
    outer.write_text(
        "<script>addEventListener('message', e => document.body.dataset.found = JSON.stringify(e.data))"
        f"</script><body style='margin:0'><iframe src='{inner.name}#{link}' width={width} height=9000 "
        "style='border:0'></iframe></body>"
    )
    return outer


@pytest.mark.parametrize("width", [1280, 420])
def test_no_number_wraps_and_nothing_is_cut_off(few, tmp_path, width):
    name = few.names[1]
    outer = framed(write_page(few, tmp_path / "report.html"), width, f"q={name}&open={name}")
    page = opened(outer, tmp_path, "", "--dump-dom", "--allow-file-access-from-files")
    found = json.loads(html.unescape(re.search(r'data-found="([^"]*)"', page).group(1)))
    assert found["width"] == width and found["cells"] == 6 * 5
    assert found["scrolls"] <= width and not found["wrapped"] and not found["over"], found


def test_wrong_cells_are_marked_and_types_have_names(few, tmp_path):
    """The first guess of an unsolved puzzle: each cell that differs from the truth is counted."""
    name = next(n for n in few.names[1:] if not few.results()[n]["solved"]["pass@2"])
    page = opened(write_page(few, tmp_path / "r.html"), tmp_path, f"q={name}&open={name}", "--dump-dom")
    truth, result = few.puzzles[name].solution, few.results()[name]
    marked = re.findall(r'<canvas title="(guess \d: \w+)"[^>]* data-wrong="(\d+)"', page)
    expected = [
        (f"guess {k + 1}: wrong", str(int((np.array(answer["grids"][i]) != truth[i]).sum())))
        for i in range(len(truth))
        for k, answer in enumerate(result["answers"][:2])
    ]
    assert marked == expected and all(int(count) > 0 for _, count in expected)
    assert "example x row (" in page and not re.search(
        r"\b[01]{5}\b", re.sub(r"<script.*?</script>", "", page, flags=re.S)
    )


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "report.html"}


def test_a_report_changes_nothing_but_its_page(few, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(few.folder, copy)
    before = contents(copy)
    assert cli.main(["report", str(copy)]) == 0
    assert (copy / "report.html").exists() and contents(copy) == before
    assert cli.main(["report", str(copy), "--vote", "decay-100"]) == 0
    assert "vote: decay-100" in (copy / "report.html").read_text() and contents(copy) == before
    elsewhere = tmp_path / "elsewhere.html"
    assert cli.main(["report", str(copy), "--html", str(elsewhere)]) == 0
    assert "vote: paper" in elsewhere.read_text()
    assert cli.main(["report", str(copy), "--vote", "decay-100", "--write"]) == 0
    assert contents(copy) != before and RunFolder(copy).settings.vote == "decay-100"
    capsys.readouterr()


def test_a_picture_of_the_page(few, tmp_path):
    path = write_page(few, tmp_path / "report.html")
    picture = tmp_path / "page.png"
    opened(path, tmp_path, f"open={few.names[0]}", f"--screenshot={picture}", "--window-size=1200,1600")
    assert picture.stat().st_size > 30_000
