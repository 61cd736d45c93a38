"""The command line: `compressarc solve | show | list | analyze | score | batch | report | compare`."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from compressarc.config import SolveConfig

if TYPE_CHECKING:
    from rich.console import Console

    from compressarc.puzzle import Puzzle
    from compressarc.solver import Solution

# jax is imported inside the commands: `compressarc --help` answers at once.

_Config = Annotated[SolveConfig, tyro.conf.OmitArgPrefixes]


@dataclasses.dataclass(frozen=True)
class _Run:
    """Options shared by `solve` and `analyze`."""

    config: _Config = dataclasses.field(default_factory=SolveConfig)
    seed: int = 0
    """decides the initial weights and all noise"""
    dataset: str = "arcagi"
    """arcagi (ARC-AGI-1), arcagi2, kaggle2019, kaggle2024, kaggle2025, a folder or a challenges file"""
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
    """data set name, folder or challenges file"""
    solution: bool = False
    """show the true test outputs too"""
    png: Path | None = None
    """write a picture here"""


@dataclasses.dataclass(frozen=True)
class List:
    """List puzzles: id, examples, colors, canvas, output-size rule."""

    split: Literal["training", "evaluation", "all"] = "all"
    """which split"""
    dataset: str = "arcagi"
    """data set name, folder or challenges file"""


@dataclasses.dataclass(frozen=True)
class Score:
    """Score result or submission files by the paper's and the official rule."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """result.json files of `solve`, or submission files"""
    dataset: str = "arcagi"
    """where the true solutions are"""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Solve many puzzles, on all devices there are; goes on where it was interrupted."""

    config: _Config = dataclasses.field(default_factory=SolveConfig)
    split: Literal["training", "evaluation"] = "evaluation"
    """which split of the data set"""
    dataset: str = "arcagi"
    """arcagi (ARC-AGI-1), arcagi2, kaggle2019, kaggle2024, kaggle2025, a folder or a challenges file"""
    puzzles: tuple[str, ...] = ()
    """only these puzzles (ids)"""
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
    """Summarize a batch and write its report, one HTML file."""

    run: tyro.conf.Positional[Path]
    """folder of the batch"""
    html: Path | None = None
    """where to write the page (default: report.html in the folder)"""
    vote: str | None = None
    """count the recorded votes anew, in this way"""


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare a batch with the published run, puzzle by puzzle."""

    run: tyro.conf.Positional[Path]
    """folder of the batch"""
    json: Path | None = None
    """write the comparison here"""


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _use_cache() -> None:
    import jax
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("compressarc")) / "jax"
    jax.config.update("jax_compilation_cache_dir", str(folder))


def _describe(puzzle: Puzzle) -> str:
    s = puzzle.canvas.shape
    known = "known" if puzzle.canvas.size_known else "unknown"
    return f"{s.examples} examples, {s.colors} colors, {s.x} x {s.y} pixels, output size {known}"


def _solve(command: _Run, puzzle: Puzzle, console: Console, *, store: Solve | None = None) -> Solution:
    """Runs a puzzle with the progress display, checkpointing into `store.out` if given."""
    from compressarc.terminal import SolveDisplay

    config = command.config
    console.print(f"[bold]{puzzle.name}[/bold]: {_describe(puzzle)}")
    with SolveDisplay(console, puzzle, config.steps) as display:
        display.compiling("starting jax")
        import jax

        from compressarc.checkpoint import Checkpoints
        from compressarc.solver import solve

        if command.cache:
            _use_cache()
        key = jax.random.key(command.seed)
        checkpoints = resume_from = None
        if store is not None and store.out is not None:
            checkpoints = Checkpoints(store.out / "checkpoints", puzzle, config, key)
            if store.resume:
                resume_from = checkpoints.restore()
            else:
                checkpoints.clear()
                # orbax takes seconds to import: meanwhile, compile
                threading.Thread(target=__import__, args=("orbax.checkpoint",), daemon=True).start()
        if resume_from is not None:
            console.print(f"resuming after step {resume_from[1].steps}")
        display.compiling("compiling the training step (about half a minute, once per puzzle shape)")

        def on_chunk(progress) -> None:
            display.update(progress)
            steps = progress.history.steps
            if checkpoints is not None and store is not None:
                due = (steps // config.chunk) % store.checkpoint_every == 0
                if due or steps >= config.steps:
                    checkpoints.save(progress.run, progress.history)

        limit = store.time_limit if store is not None else None
        solution = solve(
            puzzle, config, key=key, on_chunk=on_chunk, time_limit=limit, resume_from=resume_from
        )
        if checkpoints is not None:
            checkpoints.close()
    console.print(
        f"{solution.history.steps} steps in {solution.seconds:.1f} s "
        f"(compilation {solution.compile_seconds:.1f} s): {solution.status}"
    )
    return solution


def _run_solve(command: Solve) -> int:
    from compressarc.datasets import load_puzzle

    if command.resume and command.out is None:
        raise ValueError("--resume needs --out, the folder that holds the checkpoints")
    if command.checkpoint_every <= 0:
        raise ValueError(f"--checkpoint-every={command.checkpoint_every}: expected a positive number")
    if command.time_limit is not None and command.time_limit <= 0:
        raise ValueError(f"--time-limit={command.time_limit}: expected a positive number of seconds")
    puzzle = load_puzzle(command.puzzle, command.dataset)
    if command.out is not None:
        from compressarc.report import check_writable

        check_writable(command.out)
    console = _console()
    solution = _solve(command, puzzle, console, store=command)
    from compressarc.terminal import show_solution

    show_solution(console, solution)
    if command.out is not None:
        from compressarc.report import write_pictures, write_result

        written = [write_result(solution, command.out, seed=command.seed)]
        written += write_pictures(solution, command.out)
        console.print("wrote " + ", ".join(str(path) for path in written))
    return 0


def _run_analyze(command: Analyze) -> int:
    from compressarc.datasets import load_puzzle

    puzzle = load_puzzle(command.puzzle, command.dataset)
    from compressarc.report import check_writable

    check_writable(command.out)
    console = _console()
    solution = _solve(command, puzzle, console)
    import jax

    from compressarc.analyze import draw_analysis
    from compressarc.terminal import show_solution

    show_solution(console, solution)
    key = jax.random.fold_in(jax.random.key(command.seed), 1)
    written = draw_analysis(solution, command.out, key=key)
    console.print("wrote " + ", ".join(str(path) for path in written))
    return 0


def _run_show(command: Show) -> int:
    from compressarc.datasets import load_puzzle
    from compressarc.terminal import show_puzzle

    puzzle = load_puzzle(command.puzzle, command.dataset)
    console = _console()
    show_puzzle(console, puzzle, solution=command.solution)
    console.print(_describe(puzzle))
    if command.png is not None:
        from compressarc.draw import draw_puzzle, save
        from compressarc.report import check_writable

        check_writable(command.png.parent)
        path = save(draw_puzzle(puzzle, show_solution=command.solution), command.png)
        console.print(f"wrote {path}")
    return 0


def _run_list(command: List) -> int:
    from rich.table import Table

    from compressarc.datasets import load_splits

    table = Table("id", "split", "train", "test", "colors", "canvas", "output size")
    for split, puzzles in load_splits(command.dataset).items():
        if command.split not in ("all", split):
            continue
        for name, puzzle in puzzles.items():
            canvas = puzzle.canvas
            rule = (
                "as input" if canvas.in_out_same else "as train outputs" if canvas.all_out_same else "unknown"
            )
            s = canvas.shape
            counts = (len(puzzle.train), len(puzzle.test), s.colors)
            table.add_row(name, split, *map(str, counts), f"{s.x} x {s.y}", rule)
    _console().print(table)
    return 0


def _run_score(command: Score) -> int:
    from rich.table import Table

    from compressarc.datasets import load_splits
    from compressarc.score import read_answers, score_answers, score_split

    if not command.files:
        raise ValueError("score: expected at least one result.json or submission file")
    truth = {n: p for puzzles in load_splits(command.dataset).values() for n, p in puzzles.items()}
    scores = {}
    for path in command.files:
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        for name, answers in read_answers(path).items():
            puzzle = truth.get(name)
            if puzzle is None or puzzle.solution is None:
                raise ValueError(f"{path}: no known solution of {name!r} in dataset {command.dataset!r}")
            scores[name] = score_answers(answers, puzzle.solution)
    table = Table("puzzle", "rank of solution", "pass@1", "pass@2", "official")
    for name, score in scores.items():
        mark = {True: "yes", False: "no"}
        cells = (mark[score.solved(1)], mark[score.solved(2)], f"{score.per_output:.2f}")
        table.add_row(name, str(score.rank or "-"), *cells)
    console = _console()
    console.print(table)
    total = score_split(scores)
    console.print(
        f"{total.puzzles} puzzles: pass@1 {total.solved[1]}, pass@2 {total.solved[2]} "
        f"({100 * total.fraction(2):.2f} %, joint answers); official rule {total.official:.2f} "
        f"({100 * total.official / total.puzzles:.2f} %)"
    )
    return 0


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
    run, console = RunFolder(command.run), _console()
    if command.vote is not None:
        run.recount(command.vote)
    show_summary(console, run)
    console.print(f"wrote {write_page(run, command.html)}", markup=False)
    return 0


def _run_compare(command: Compare) -> int:
    import json

    from compressarc.compare import compare_with_published
    from compressarc.page import has_published
    from compressarc.run_folder import RunFolder, replace_file

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status (2 for bad input)."""
    Command = (
        Annotated[Solve, tyro.conf.subcommand("solve")]
        | Annotated[Show, tyro.conf.subcommand("show")]
        | Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Analyze, tyro.conf.subcommand("analyze")]
        | Annotated[Score, tyro.conf.subcommand("score")]
        | Annotated[Batch, tyro.conf.subcommand("batch")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
    )
    try:
        typed = sys.argv[1:] if arguments is None else arguments
        _given.clear()
        _given.update(a.split("=")[0].replace("_", "-") for a in typed if a.startswith("--"))
        command = tyro.cli(Command, prog="compressarc", args=arguments, description=__doc__)
        status = _COMMANDS[type(command)](command)
        if arguments is None:
            _leave(status)
        return status
    except (ValueError, OSError) as error:
        print(f"compressarc: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
