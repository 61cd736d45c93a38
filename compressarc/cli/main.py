"""Solves ARC-AGI puzzles by compressing them.

`compressarc COMMAND --help` for each command; `compressarc --version`.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from compressarc.cli.commands import Analyze, Batch, Compare, List, Report, Score, Show, Solve, Submission
from compressarc.cli.messages import loaded, make_console, say
from compressarc.cli.stopping import STOPPED
from compressarc.files import printable

if TYPE_CHECKING:
    from compressarc.puzzle import Puzzle

# jax is imported inside the commands: `compressarc --help` answers at once.


def _use_cache() -> None:
    import jax
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("compressarc")) / "jax"
    jax.config.update("jax_compilation_cache_dir", str(folder))


def _run_solve(command: Solve) -> int:
    from compressarc.cli.solve import run_solve_command

    return run_solve_command(command, make_console(), _use_cache)


def _run_analyze(command: Analyze) -> int:
    from compressarc.cli.solve import run_analyze_command

    return run_analyze_command(command, make_console(), _use_cache)


def _run_show(command: Show) -> int:
    from compressarc.cli.solve import describe
    from compressarc.cli.terminal import show_puzzle
    from compressarc.datasets import load_puzzle

    if command.png is not None:
        from compressarc.files import check_writable

        if command.png.suffix.lower() != ".png" or command.png.is_dir():
            raise ValueError(
                f"--png {str(command.png)!r}: expected the name of a picture, such as puzzle.png"
            )
        check_writable(command.png.parent)
    puzzle = load_puzzle(command.puzzle, command.dataset, tell=say)
    console = make_console()
    show_puzzle(console, puzzle, solution=command.solution)
    console.print(describe(puzzle))
    if command.png is not None:
        from compressarc.report.figures import draw_puzzle, save

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
    console = make_console()
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
    from compressarc.cli.score import run_score_command

    return run_score_command(command, make_console())


def _run_batch(command: Batch) -> int:
    from compressarc.cli.batch import run_batch_command

    return run_batch_command(command, make_console(), _use_cache)


def _run_report(command: Report) -> int:
    from compressarc.batch.store import RunFolder
    from compressarc.cli.batch_terminal import show_summary
    from compressarc.report.page import write_page
    from compressarc.solver.voting import vote_weights

    if command.vote is not None:
        vote_weights(command.vote)
    if command.write and command.vote is None:
        raise ValueError("--write belongs to --vote: the results as they are counted in another way")
    if command.html is not None and (command.html.is_dir() or not command.html.name):
        raise ValueError(f"--html {str(command.html)!r}: expected the name of the page, such as report.html")
    run, console = RunFolder(command.run), make_console()
    if command.write and command.vote is not None:
        from compressarc.folder_lock import folder_lock

        with folder_lock(command.run):
            run.recount(command.vote)
    results = run.results(command.vote)
    show_summary(console, run, results)
    console.print(f"wrote {write_page(run, command.html, results)}", markup=False)
    return 0


def _run_submission(command: Submission) -> int:
    from compressarc.cli.submission import run_submission_command

    return run_submission_command(command, make_console())


def _run_compare(command: Compare) -> int:
    import json

    from compressarc.batch.store import RunFolder
    from compressarc.files import replace_file
    from compressarc.report.compare import compare_with_published
    from compressarc.report.page import has_published

    run = RunFolder(command.run)
    if not has_published(run):
        raise ValueError(
            f"{command.run}: a batch of {run.dataset} {run.split}; the published run is of arcagi, "
            "training and evaluation"
        )
    found, console = compare_with_published(run.results(), run.split), make_console()
    console.print(f"this run:      {found.own}", highlight=False)
    console.print(f"published:     {found.published} (at 2000 steps, same puzzles)", highlight=False)
    console.print(f"same outcome:  {found.agreement}", highlight=False)
    for what, names in (("newly solved", found.newly_solved), ("lost", found.lost)):
        console.print(f"{what}: {len(names)} {' '.join(names)}", highlight=False)
    console.print(f"p = {found.p_value:.3g} that a puzzle is as likely to be newly solved as lost (exact)")
    if command.json is not None:
        replace_file(command.json, json.dumps(found.to_json(), indent=1).encode())
    return 0


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
    ahead = sys.modules.get("compressarc.batch.compile_ahead")
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


def _parse(arguments: Sequence[str] | None, batch: Batch | None = None) -> Any:
    """The command; batch: where the defaults of `batch` come from, if not from its class."""
    Command = (
        Annotated[Solve, tyro.conf.subcommand("solve")]
        | Annotated[Show, tyro.conf.subcommand("show")]
        | Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Analyze, tyro.conf.subcommand("analyze")]
        | Annotated[Score, tyro.conf.subcommand("score")]
        | Annotated[Batch, tyro.conf.subcommand("batch", default=Batch() if batch is None else batch)]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
        | Annotated[Submission, tyro.conf.subcommand("submission")]
    )
    return tyro.cli(Command, prog="compressarc", args=arguments, description=__doc__)


def _parsed(arguments: Sequence[str] | None) -> Any:
    """The command; what is not said of a batch to be resumed is as its folder has it."""
    command = _parse(arguments)
    if not isinstance(command, Batch) or not command.resume:
        return command
    from compressarc.cli.batch import resumed

    return _parse(arguments, resumed(command))


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
