"""Solves ARC-AGI puzzles by compressing them.

`compressarc COMMAND --help` for each command; `compressarc --version`.
"""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, cast

import tyro

from compressarc.config import SolveConfig
from compressarc.files import Unfailing, printable
from compressarc.stopping import STOPPED

if TYPE_CHECKING:
    from rich.console import Console

    from compressarc.datasets import Dataset
    from compressarc.puzzle import Puzzle

# jax is imported inside the commands: `compressarc --help` answers at once.

_Config = Annotated[SolveConfig, tyro.conf.OmitArgPrefixes]


@dataclasses.dataclass(frozen=True)
class _Run:
    """Options shared by `solve` and `analyze`."""

    config: _Config = dataclasses.field(default_factory=SolveConfig)
    seed: int = 0
    """decides the initial weights and all noise"""
    dataset: str = "arcagi"
    """arcagi (ARC-AGI-1), arcagi2, kaggle2019, kaggle2024, kaggle2025, a folder or a file of puzzles"""
    cache: bool = True
    """keep compiled programs in the user's cache folder"""


@dataclasses.dataclass(frozen=True)
class Solve(_Run):
    """Solve one puzzle."""

    puzzle: tyro.conf.Positional[str] = dataclasses.field(default=tyro.MISSING)
    """id of a puzzle, or a JSON file"""
    out: Path | None = None
    """folder for result.json, solution.png, curves.png and checkpoints"""
    resume: bool = False
    """go on from the last checkpoint in --out"""
    overwrite: bool = False
    """begin anew in --out, whatever run it holds"""
    checkpoint_every: int = 10
    """chunks between checkpoints"""
    time_limit: float | None = None
    """seconds after which to stop with the answer so far"""


@dataclasses.dataclass(frozen=True)
class Analyze(_Run):
    """Solve one puzzle and draw the paper's figures: KL per tensor, components, solution over time."""

    puzzle: tyro.conf.Positional[str] = dataclasses.field(default=tyro.MISSING)
    """id of a puzzle, or a JSON file"""
    out: Path = Path("analysis")
    """folder for the pictures"""


@dataclasses.dataclass(frozen=True)
class Show:
    """Print a puzzle, and draw it if asked."""

    puzzle: tyro.conf.Positional[str]
    """id of a puzzle, or a JSON file"""
    dataset: str = "arcagi"
    """data set name, folder or file"""
    solution: bool = False
    """show the true test outputs too"""
    png: Path | None = None
    """write a picture here"""


@dataclasses.dataclass(frozen=True)
class List:
    """List puzzles: id, examples, colors, canvas, output-size rule. Into a pipe: ids, one a line."""

    split: str | None = None
    """only this split"""
    dataset: str = "arcagi"
    """data set name, folder or file"""
    json: bool = False
    """print everything as JSON"""
    strict: bool = False
    """refuse what can't be read, instead of leaving it out"""


@dataclasses.dataclass(frozen=True)
class Score:
    """Score answers by the paper's, ARC Prize's and Kaggle's rule, against the whole split they belong to."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """result.json files of `solve`, submission files, or folders of batches"""
    dataset: str | None = None
    """where the true solutions are; by default what a batch's folder says, else arcagi"""
    split: str | None = None
    """only this split of the data set"""
    json: bool = False
    """print everything as JSON"""
    strict: bool = False
    """refuse puzzles that can't be read, instead of leaving them out"""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Solve many puzzles, on all devices there are; goes on where it was interrupted."""

    config: _Config = dataclasses.field(default_factory=SolveConfig)
    split: str | None = None
    """which split of the data set; by default the only one, or evaluation"""
    dataset: str = "arcagi"
    """arcagi (ARC-AGI-1), arcagi2, kaggle2019, kaggle2024, kaggle2025, a folder or a file of puzzles"""
    puzzles: tuple[str, ...] = ()
    """only these puzzles (ids)"""
    strict: bool = False
    """refuse puzzles that can't be read, instead of leaving them out"""
    seeds: int = 1
    """seeds of each puzzle, 0 and up; their votes are counted together"""
    out: Path | None = None
    """folder for results, checkpoints, submission.json and report.html"""
    resume: bool = False
    """go on with the batch in --out, with whatever devices, processes or engine there are now; settings that
    are not given are the folder's; more --steps or --seeds may be asked for"""
    replan: bool = False
    """with --resume: make a new plan for what is left (other devices, --lanes, --programs)"""
    budget: str | None = None
    """time after which to stop with the guesses so far: 90s, 10m, 2h"""
    settle: int | None = None
    """stop a run whose two best answers have not changed for this many steps (see the docs for the price)"""
    vote: str = "paper"
    """how votes are counted; `compressarc report` can count them otherwise later"""
    plan: bool = False
    """print the plan and stop"""
    save_plan: Path | None = None
    """write the plan here (JSON)"""
    programs: int | None = None
    """programs to compile, instead of the number that the plan finds best"""
    lanes: int | None = None
    """runs side by side on one device, instead of what suits it"""
    device: str | None = None
    """device model for the plan: cpu, rtx4070, a100, h100, h200, v5e; by default what is here"""
    devices: int | None = None
    """number of devices: for the plan, and how many CPU devices to make; by default one per core"""
    checkpoint_every: int = 10
    """chunks between checkpoints"""
    engine: Literal["mesh", "ray"] = "mesh"
    """mesh: all devices of this process, or of all processes with --coordinator; ray: a Ray cluster"""
    address: str | None = None
    """of the Ray cluster; without it one is started here"""
    coordinator: str | None = None
    """host:port of process 0, or `auto` where jax finds it itself (TPU pods, SLURM)"""
    num_processes: int | None = None
    """how many processes there are (with --coordinator host:port)"""
    process_id: int | None = None
    """which of them this is"""
    cache: bool = True
    """keep compiled programs in the user's cache folder"""


@dataclasses.dataclass(frozen=True)
class Report:
    """Summarize a batch and write its report, one HTML file; the batch itself stays as it is."""

    run: tyro.conf.Positional[Path]
    """folder of the batch"""
    html: Path | None = None
    """where to write the page (default: report.html in the folder)"""
    vote: str | None = None
    """count the recorded votes in this way, for the report"""
    write: bool = False
    """with --vote: also write results and submission as they are counted now"""


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare a batch with the published run, puzzle by puzzle."""

    run: tyro.conf.Positional[Path]
    """folder of the batch"""
    json: Path | None = None
    """write the comparison here"""


@dataclasses.dataclass(frozen=True)
class Submission:
    """Merge shares of a split, folders of batches or submission files, into one file in Kaggle's form."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of batches, or submission files"""
    out: Path = Path("submission.json")
    """the file to write"""
    dataset: str | None = None
    """the data set, where it is not the one that the batches name"""
    split: str | None = None
    """the split, where it is not the one that the batches name"""


_PIPE_WIDTH = 400
"""Characters of a line into a pipe or a file: an ARC puzzle's grids side by side."""


def _console() -> Console:
    from rich.console import Console

    file = cast("IO[str]", Unfailing(sys.stdout, say))
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return Console(file=file, highlight=False, emoji=False, width=_PIPE_WIDTH)
    return Console(file=file, highlight=False, emoji=False)


def _use_cache() -> None:
    import jax
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("compressarc")) / "jax"
    jax.config.update("jax_compilation_cache_dir", str(folder))


def say(line: str) -> None:
    """A line about what was left out or is unusual, on standard error."""
    with suppress(OSError):
        print(f"compressarc: {printable(line)}", file=sys.stderr)


def loaded(dataset: str, *, strict: bool) -> Dataset:
    """A data set; says what was left out."""
    from compressarc.datasets import describe_omissions, load_dataset

    found = load_dataset(dataset, strict=strict)
    for line in describe_omissions(found):
        say(line)
    return found


def _run_solve(command: Solve) -> int:
    from compressarc.solve_command import run_solve_command

    return run_solve_command(command, _console(), _use_cache)


def _run_analyze(command: Analyze) -> int:
    from compressarc.solve_command import run_analyze_command

    return run_analyze_command(command, _console(), _use_cache)


def _run_show(command: Show) -> int:
    from compressarc.datasets import load_puzzle
    from compressarc.solve_command import describe
    from compressarc.terminal import show_puzzle

    if command.png is not None:
        from compressarc.files import check_writable

        if command.png.suffix.lower() != ".png" or command.png.is_dir():
            raise ValueError(
                f"--png {str(command.png)!r}: expected the name of a picture, such as puzzle.png"
            )
        check_writable(command.png.parent)
    puzzle = load_puzzle(command.puzzle, command.dataset, tell=say)
    console = _console()
    show_puzzle(console, puzzle, solution=command.solution)
    console.print(describe(puzzle))
    if command.png is not None:
        from compressarc.draw import draw_puzzle, save

        path = save(draw_puzzle(puzzle, show_solution=command.solution), command.png)
        console.print(f"wrote {path}", markup=False)
    return 0


def _listed(name: str, split: str, puzzle: Puzzle) -> dict[str, Any]:
    canvas = puzzle.canvas
    rule = "as input" if canvas.in_out_same else "as train outputs" if canvas.all_out_same else "unknown"
    return {
        "id": name,
        "split": split,
        "train": len(puzzle.train),
        "test": len(puzzle.test),
        "colors": canvas.shape.colors,
        "canvas": [canvas.shape.x, canvas.shape.y],
        "output_size": rule,
        "solution": puzzle.solution is not None,
    }


def _run_list(command: List) -> int:
    from rich.table import Table
    from rich.text import Text

    splits = loaded(command.dataset, strict=command.strict).splits
    if command.split not in (None, "all", *splits):
        raise ValueError(f"{command.dataset}: no split {command.split!r}; there are {', '.join(splits)}")
    chosen = [
        (name, split, puzzle)
        for split, puzzles in splits.items()
        if command.split in (None, "all", split)
        for name, puzzle in puzzles.items()
    ]
    console = _console()
    if command.json:
        import json

        print(json.dumps([_listed(*row) for row in chosen], indent=1))
        return 0
    if not console.is_terminal:
        print("\n".join(printable(name, len(name) * 10) for name, _, _ in chosen))
        return 0
    table = Table("id", "split", "train", "test", "colors", "canvas", "output size")
    for row in chosen:
        found = _listed(*row)
        x, y = found["canvas"]
        counts = (str(found[k]) for k in ("train", "test", "colors"))
        table.add_row(
            Text(printable(found["id"])), found["split"], *counts, f"{x} x {y}", found["output_size"]
        )
    console.print(table)
    return 0


def _run_score(command: Score) -> int:
    from compressarc.score_command import run_score_command

    return run_score_command(command, _console())


def _run_batch(command: Batch) -> int:
    from compressarc.batch_command import run_batch_command

    return run_batch_command(command, _console(), _use_cache, _given)


def _run_report(command: Report) -> int:
    from compressarc.batch_terminal import show_summary
    from compressarc.page import write_page
    from compressarc.run_folder import RunFolder
    from compressarc.vote import vote_weights

    if command.vote is not None:
        vote_weights(command.vote)
    if command.write and command.vote is None:
        raise ValueError("--write belongs to --vote: the results as they are counted in another way")
    if command.html is not None and (command.html.is_dir() or not command.html.name):
        raise ValueError(f"--html {str(command.html)!r}: expected the name of the page, such as report.html")
    run, console = RunFolder(command.run), _console()
    if command.write and command.vote is not None:
        from compressarc.folder_lock import folder_lock

        with folder_lock(command.run):
            run.recount(command.vote)
    results = run.results(command.vote)
    show_summary(console, run, results)
    console.print(f"wrote {write_page(run, command.html, results)}", markup=False)
    return 0


def _run_submission(command: Submission) -> int:
    from compressarc.submission_command import run_submission_command

    return run_submission_command(command, _console())


def _run_compare(command: Compare) -> int:
    import json

    from compressarc.compare import compare_with_published
    from compressarc.files import replace_file
    from compressarc.page import has_published
    from compressarc.run_folder import RunFolder

    run = RunFolder(command.run)
    if not has_published(run):
        raise ValueError(
            f"{command.run}: a batch of {run.dataset} {run.split}; the published run is of arcagi, "
            "training and evaluation"
        )
    found, console = compare_with_published(run.results(), run.split), _console()
    console.print(f"this run:      {found.own}", highlight=False)
    console.print(f"published:     {found.published} (at 2000 steps, same puzzles)", highlight=False)
    console.print(f"same outcome:  {found.agreement}", highlight=False)
    for what, names in (("newly solved", found.newly_solved), ("lost", found.lost)):
        console.print(f"{what}: {len(names)} {' '.join(names)}", highlight=False)
    console.print(f"p = {found.p_value:.3g} that a puzzle is as likely to be newly solved as lost (exact)")
    if command.json is not None:
        replace_file(command.json, json.dumps(found.to_json(), indent=1).encode())
    return 0


_given: set[str] = set()
"""Options that were typed, as far as a default could mean something else."""

_COMMANDS = {
    Solve: _run_solve,
    Analyze: _run_analyze,
    Show: _run_show,
    List: _run_list,
    Score: _run_score,
    Batch: _run_batch,
    Report: _run_report,
    Compare: _run_compare,
    Submission: _run_submission,
}


def _leave(status: int) -> None:
    """Ends the process at once if programs are being compiled that nobody will use any more."""
    ahead = sys.modules.get("compressarc.compile_ahead")
    if ahead is not None and ahead.compiling():
        import jax

        if jax.process_count() > 1:
            jax.distributed.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does, until a command has handlers of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    """Warnings of libraries as one line."""
    text = str(message).strip()
    say(f"warning: {text.splitlines()[0] if text else type(message).__name__}")


def _parsed(arguments: Sequence[str] | None) -> Any:
    Command = (
        Annotated[Solve, tyro.conf.subcommand("solve")]
        | Annotated[Show, tyro.conf.subcommand("show")]
        | Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Analyze, tyro.conf.subcommand("analyze")]
        | Annotated[Score, tyro.conf.subcommand("score")]
        | Annotated[Batch, tyro.conf.subcommand("batch")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
        | Annotated[Submission, tyro.conf.subcommand("submission")]
    )
    typed = sys.argv[1:] if arguments is None else arguments
    _given.clear()
    _given.update(a.split("=")[0].replace("_", "-") for a in typed if a.startswith("--"))
    return tyro.cli(Command, prog="compressarc", args=arguments, description=__doc__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status (2 for bad input, 3 if it was stopped)."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    if typed[:1] in (["--version"], ["-V"]):
        import compressarc

        print(f"compressarc {compressarc.__version__}")
        return 0
    if arguments is None:
        warnings.showwarning = _one_line
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a locale that can't show a name must not stop anything
                stream.reconfigure(errors="backslashreplace")
    try:
        with _terminated_as_interrupted():
            command = _parsed(arguments)
            status = _COMMANDS[type(command)](command)
        if arguments is None:
            _leave(status)
        return status
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped")
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
