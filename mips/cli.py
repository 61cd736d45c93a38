"""The command line: `mips tasks | solve | show | verify | report | normalize`."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from mips.config import SynthesisConfig
from mips.status import Status

if TYPE_CHECKING:
    from rich.console import Console

    from mips.tasks.task import Task

# jax is imported inside the commands: `mips --help` answers at once.


@dataclasses.dataclass(frozen=True)
class Records:
    """How files of recorded sequences are to be taken."""

    noise: float = 0.0
    """expected share of a file's records that are wrong"""
    symbols: bool = False
    """a file's values are symbols, also those that look like numbers"""


_Records = Annotated[Records, tyro.conf.OmitArgPrefixes]
_Config = Annotated[SynthesisConfig, tyro.conf.OmitArgPrefixes]


@dataclasses.dataclass(frozen=True)
class Tasks:
    """List the tasks: the paper's 62 and the harder ones."""

    harder: bool = False
    """only the harder ones"""


@dataclasses.dataclass(frozen=True)
class Solve:
    """Train networks on a task, read a program out of them, verify it."""

    what: tyro.conf.Positional[tuple[str, ...]]
    """names of tasks, `all` (the paper's 62), `harder`, or files of recorded sequences: .csv, .jsonl, .npz"""
    config: _Config = dataclasses.field(default_factory=SynthesisConfig)
    seed: int = 0
    """decides data, weights and batches"""
    out: Path | None = None
    """folder for one JSON and one Python file per task"""
    resume: bool = False
    """keep results that are in --out already"""
    budget_minutes: float | None = None
    """stop after this long; what is done by then is kept, and a stopped task says so"""
    workers: int = 1
    """processes that take tasks side by side"""
    cache: bool = True
    """keep compiled programs in the user's cache folder"""
    records: _Records = dataclasses.field(default_factory=Records)


@dataclasses.dataclass(frozen=True)
class Show:
    """Print a result: its program, evidence and formulas; draw its machine."""

    result: tyro.conf.Positional[Path]
    """a JSON file of `solve`"""
    form: Literal["python", "front", "latex", "sympy", "dot", "json"] = "python"
    """what to print; front: shorter and longer programs, and how often each is right"""
    png: Path | None = None
    """draw the machine here"""


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check a program on recorded sequences or on a task."""

    program: tyro.conf.Positional[Path]
    """a .py or .json file of `solve`"""
    data: Path | None = None
    """a .csv, .jsonl or .npz file of sequences"""
    task: str | None = None
    """or the name of a task"""
    records: _Records = dataclasses.field(default_factory=Records)


@dataclasses.dataclass(frozen=True)
class Report:
    """Print the table of a folder of results; write report.html with every program and machine."""

    folder: tyro.conf.Positional[Path]
    """the --out of `solve`"""


@dataclasses.dataclass(frozen=True)
class Normalize:
    """Train a small linear network on a task and draw its weights before and after normalization."""

    task: tyro.conf.Positional[str]
    """name of a task, or a file"""
    png: Path = Path("weights.png")
    """where to draw"""
    hidden: int = 2
    """hidden units"""
    eps: float = 0.7
    """eigenvalues closer than this count as equal; 0.7 in the paper's driver"""
    seed: int = 0
    """decides data and weights"""


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _print_whole(console: Console, text: str) -> None:
    """Text to be pasted: no line of it is broken at the terminal's width."""
    console.print(text, markup=False, soft_wrap=True)


def _prepare(cache: bool) -> None:
    """Settings that must be made before jax starts."""
    # The kernels are tiny: XLA's thread pool costs more than it gives, and can lose wake-ups in long loops.
    flag = "--xla_cpu_multi_thread_eigen=false"
    if "xla_cpu_multi_thread_eigen" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    import jax

    if cache:
        import platformdirs

        folder = Path(platformdirs.user_cache_dir("mips")) / "jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _load(what: str, records: Records = Records()) -> Task:
    from mips.tasks import from_file, get_task

    if _is_file(what):
        return from_file(what, noise=records.noise, symbols=records.symbols)
    if records != Records():
        raise ValueError(f"{what}: --noise and --symbols are for files of recorded sequences")
    return get_task(what)


def _made_with(config: SynthesisConfig, seed: int, records: Records) -> dict[str, Any]:
    return {"seed": seed, **dataclasses.asdict(config), **dataclasses.asdict(records)}


def _solve_one(
    what: str,
    config: SynthesisConfig,
    seed: int,
    records: Records,
    deadline: float | None,
    notify: Callable[[str, str], None] | None = None,
) -> dict[str, Any]:
    """One task to plain data; a budget that runs out keeps what was found, and says so."""
    import jax

    from mips.judging.candidates import BudgetExhaustedError
    from mips.report import result_files as store
    from mips.synthesis import synthesize

    task = _load(what, records)

    def on_stage(stage: str, detail: str) -> None:
        if deadline is not None and time.time() > deadline:
            raise BudgetExhaustedError
        if notify is not None:
            notify(stage, detail)

    result = synthesize(task, config, key=jax.random.key(seed), on_stage=on_stage)
    if config.route == "paper":
        # Its search compiles a network per architecture; thousands exhaust the process's memory maps.
        jax.clear_caches()
    return store.to_json(result, origin=_origin(what), made_with=_made_with(config, seed, records))


def _origin(what: str) -> str:
    return str(Path(what).resolve()) if _is_file(what) else "benchmark"


def _is_file(what: str) -> bool:
    return "/" in what or what.endswith((".npz", ".csv", ".jsonl"))


def _work(arguments: tuple[str, SynthesisConfig, int, Records, float | None, bool]) -> dict[str, Any]:
    """`_solve_one` in a process of its own."""
    what, config, seed, records, deadline, cache = arguments
    _prepare(cache)
    return _solve_one(what, config, seed, records, deadline)


def _solve(command: Solve) -> None:
    _prepare(command.cache)
    from mips.report import result_files as store
    from mips.tasks import HARDER, PUBLISHED

    groups = {"all": list(PUBLISHED), "harder": list(HARDER)}
    if not command.what:
        raise ValueError("name a task, a file, `all` or `harder`; `mips tasks` lists the tasks")
    tasks: dict[str, str] = {}
    for name in dict.fromkeys(name for what in command.what for name in groups.get(what, [what])):
        task = _load(name, command.records).name  # bad input is found before any work
        if task in tasks and (_is_file(name) or _is_file(tasks[task])):
            raise ValueError(f"{name}: {tasks[task]} gives a task of the same name, {task!r}; rename one")
        tasks[task] = name
    if command.resume and command.out is None:
        raise ValueError("--resume needs the --out folder whose results it should keep")
    if command.workers < 1:
        raise ValueError(f"--workers {command.workers}: must be at least 1")
    if command.budget_minutes is not None and not command.budget_minutes > 0:
        raise ValueError(f"--budget-minutes {command.budget_minutes}: must be positive")
    if not 0 <= command.seed < 1 << 32:
        raise ValueError(f"--seed {command.seed}: must be from 0 to 2^32 - 1")
    results = _kept(command, tasks)
    deadline = None if command.budget_minutes is None else time.time() + 60 * command.budget_minutes
    console = _console()
    if results:
        console.print(f"{len(results)} of {len(tasks)} tasks are done already")
    todo = [name for task, name in tasks.items() if task not in results]
    for data in _progress(command, todo, deadline, console):
        results[data["task"]] = data
        unfinished = data["status"] == Status.UNFINISHED
        if command.out is not None and not (unfinished and _finished_before(command.out, data["task"])):
            store.write(command.out, data)
        _print_line(console, data)
    ordered = {name: results[name] for name in tasks if name in results}
    if len(tasks) == 1:
        _print_result(console, next(iter(ordered.values())))
    else:
        _print_table(console, ordered)


def _finished_before(folder: Path, task: str) -> bool:
    """Whether a finished result is there, which one that a budget stopped must not replace."""
    from mips.report import result_files as store

    path = folder / f"{store.identifier(task)}.json"
    return path.is_file() and store.read(path)["status"] != Status.UNFINISHED


def _kept(command: Solve, tasks: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Finished results in --out that this run may keep.

    Raises ValueError where --out is no folder, or holds results of other tasks under the same name, or
    (with --resume) of another seed or other settings.
    """
    from mips.report import result_files as store

    folder = command.out
    if folder is None or not folder.exists():
        return {}
    if not folder.is_dir():
        raise ValueError(f"{folder}: --out must be a folder")

    def set_aside(path: Path, wrong: str) -> None:
        if path.stem in {store.identifier(name) for name in tasks}:
            path = path.rename(path.with_name(path.name + ".damaged"))
        print(f"mips: {wrong}; passed over, kept as {path.name}", file=sys.stderr)

    there = store.read_all(folder, on_damage=set_aside if command.resume else None)
    for name, what in tasks.items():
        store.clear_partial(folder, name)
        path = folder / f"{store.identifier(name)}.json"
        for other in there.values():
            same_file = store.identifier(other["task"]) == store.identifier(name)
            if same_file and (other["task"], other["origin"]) != (name, _origin(what)):
                raise ValueError(
                    f"{path}: holds the result of another task ({other['origin']}); take another --out"
                )
    if not command.resume:
        return {}
    kept = {n: d for n, d in there.items() if n in tasks and d["status"] != Status.UNFINISHED}
    ours = _made_with(command.config, command.seed, command.records)
    former = dataclasses.asdict(SynthesisConfig()) | dataclasses.asdict(Records())  # what files may lack
    for name, data in kept.items():
        made = former | data["made_with"]
        different = sorted(k for k in ours if made.get(k) != ours[k])
        if different:
            said = ", ".join(f"{k}={made.get(k)!r} (now {ours[k]!r})" for k in different)
            raise ValueError(f"{folder}: the result of {name} was made with {said}; take another --out")
    return kept


def _progress(
    command: Solve, todo: list[str], deadline: float | None, console: Console
) -> Iterator[dict[str, Any]]:
    """Results one after another, with a bar; the stage under way where one process works."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task("starting", total=len(todo))
        if command.workers == 1 or len(todo) < 2:
            for name in todo:

                def notify(stage: str, detail: str, name: str = name) -> None:
                    bar.update(line, description=f"{name}: {stage}{': ' + detail if detail else ''}")

                yield _solve_one(name, command.config, command.seed, command.records, deadline, notify)
                bar.advance(line)
            return
        from concurrent.futures import as_completed

        from mips.workers import pool_of

        bar.update(line, description=f"{command.workers} processes")
        with pool_of(min(command.workers, len(todo))) as pool:
            rest = (command.config, command.seed, command.records, deadline, command.cache)
            jobs = [pool.submit(_work, (name, *rest)) for name in todo]
            for job in as_completed(jobs):
                yield job.result()
                bar.advance(line)


def _print_line(console: Console, data: dict[str, Any]) -> None:
    from rich.text import Text

    from mips.report.table import said

    good, text = data["status"] == Status.FORMULA, said(data)
    seconds = sum(data["seconds"].values())
    name = (f"{data['task']:28s}", "green" if good else "yellow")  # no markup: a name may have brackets
    console.print(Text.assemble(name, f" {text:26s} {seconds:6.1f} s"))


def _print_result(console: Console, data: dict[str, Any]) -> None:
    from mips.report.table import STATUS, evidence

    console.print()
    if data["source"]:
        _print_whole(console, data["source"])
    else:
        console.print(f"no program: {STATUS.get(data['status'], data['status'])}. What is known:")
    for line in evidence(data):
        console.print(line, markup=False)
    if data["baseline_source"]:
        console.print("data alone, without a network, also gives a program")
    for note in data["notes"]:
        console.print(f"- {note}", markup=False)


def _print_table(console: Console, results: dict[str, dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from mips.report import table as report

    table = Table(*report.BRIEF_HEADINGS, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.columns[0].no_wrap = True  # a name is for the next command
    table.columns[0].overflow = "fold"
    for column in table.columns[2:6]:
        column.justify = "right"
    for row in report.brief_rows(results):
        table.add_row(*map(escape, row))
    console.print(table)
    console.print(
        "inside, beyond: agreement with the network in %, of the training length and of longer ones"
    )
    total = report.counts(results)
    console.print(
        f"{total['network']} of {total['tasks']} by formulas read from a network, of which {total['inside']} "
        f"agree with it on everything of the training length and {total['faithful']} beyond it, too; "
        f"{total['table']} by tables, {total['data']} from data. "
        f"Data alone, beside: {total['baseline']}. MIPS (paper): {total['paper']}, "
        f"GPT-4: {total['gpt4']} published, {total['gpt4_strict']} exact."
    )


def _tasks(command: Tasks) -> None:
    from rich.table import Table

    from mips.tasks import HARDER, PUBLISHED

    console = _console()
    table = Table("task", "inputs", "outputs", "values", "length", "rule")
    table.columns[0].no_wrap = True
    for task in ({} if command.harder else PUBLISHED).values():
        table.add_row(*_describe(task))
    table.add_section()
    for task in HARDER.values():
        table.add_row(*_describe(task))
    console.print(table)


def _describe(task: Task) -> tuple[str, ...]:
    values = f"{task.low}..{task.high - 1}"
    return task.name, str(task.inputs), str(task.outputs), values, str(task.length), task.description


def _check_png(path: Path | None) -> None:
    if path is not None and not path.resolve().parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.resolve().parent}")


def _show(command: Show) -> None:
    import json

    from mips.report import result_files as store
    from mips.report.table import front_lines
    from mips.tasks.records import write_legend

    _check_png(command.png)
    data = store.read(command.result)
    if data["program"] is not None:  # the tree is what was verified; a text may have been edited
        program, symbols = store.read_program_and_symbols(command.result)
        data["source"] = write_legend(*symbols) + program.source(store.identifier(data["task"]))
    console = _console()
    if command.png is not None:
        if data["machine"] is None:
            raise ValueError(f"{command.result}: no machine was read for this task, so there is none to draw")
        from mips.reading.machine_extraction import Machine
        from mips.report.figures import draw_machine

        draw_machine(Machine.from_json(data["machine"]), command.png, title=data["task"])
        console.print(f"wrote {command.png}")
    match command.form:
        case "python":
            _print_result(console, data)
        case "front":
            _print_whole(console, "\n".join(front_lines(data)) or "no front: there is no other program")
        case "latex":
            _print_whole(console, data["latex"] or "no formula")
        case "dot":
            _print_whole(console, data["dot"] or "no machine")
        case "json":
            console.print_json(json.dumps(data))
        case "sympy":
            program = store.read_program(command.result)
            for name, value in program.sympy().items():
                _print_whole(console, f"{name} = {value}")


def _verify(command: Verify) -> int:
    from mips.judging.verification import verify
    from mips.report import result_files as store
    from mips.tasks import from_file, get_task
    from mips.tasks.records import renumbered

    if (command.data is None) == (command.task is None):
        raise ValueError("give either --data FILE or --task NAME")
    program, symbols = store.read_program_and_symbols(command.program)
    if command.data is not None:
        task = from_file(command.data, noise=command.records.noise, symbols=command.records.symbols)
        task = renumbered(task, *symbols)
    else:
        task = get_task(command.task or "")
    report = verify(program, task)
    console = _console()
    console.print(
        f"right on {100 * report.fresh:.4g} % of {report.fresh_count} sequences of length {task.length}"
    )
    if report.skewed is not None:
        console.print(f"right on {100 * report.skewed:.4g} % of {report.skewed_count} skewed ones")
    if report.long is not None:
        console.print(
            f"right on {100 * report.long:.4g} % of {report.long_count} "
            f"sequences of length {report.long_length}"
        )
    if report.exhaustive is not None:
        console.print(f"right on {100 * report.exhaustive:.4g} % of all sequences of length {task.length}")
    example = report.counterexample
    if example is not None:
        got = "an error" if example.got is None else example.got
        console.print(
            f"shortest counterexample: x={example.x} expected {example.expected} got {got}", markup=False
        )
    return 0 if report.right_at_its_length and report.long in (None, 1.0) else 1


def _report(command: Report) -> None:
    from mips.report import result_files as store
    from mips.report.table import write_page
    from mips.tasks import HARDER, PUBLISHED

    results = store.read_all(command.folder)
    if not results:
        raise ValueError(f"{command.folder}: no results of `mips solve --out` there")
    order = {name: i for i, name in enumerate([*PUBLISHED, *HARDER])}
    results = dict(sorted(results.items(), key=lambda item: order.get(item[0], len(order))))
    console = _console()
    _print_table(console, results)
    console.print(f"wrote {write_page(results, command.folder)}")


def _normalize(command: Normalize) -> None:
    _check_png(command.png)
    _prepare(True)
    import jax
    import numpy as np

    from mips.networks.relu import ReluConfig
    from mips.networks.training import TrainConfig, network_of, place, train
    from mips.normalize import normalize
    from mips.report.figures import draw_weights
    from mips.tasks.task import MISSING

    task = _load(command.task)
    x, y = task.sample(command.seed, 20_000)
    family = ReluConfig(
        task.inputs,
        task.outputs,
        command.hidden,
        loss="squared",
        orthogonal=True,
        input_scale=float(max(1, abs(task.low), abs(task.high - 1))),
        output_scale=float(max(1.0, y[y != MISSING].std())),
        partial=task.partial,
    )
    config = TrainConfig(steps=4000, batch=512, learning_rate=1e-2, schedule="cosine", clip=1.0, seeds=8)
    run = seen = None
    for item in train(family, place(x, y, 1000), config, key=jax.random.key(command.seed)):
        run, seen = item
        if seen.sequences.max() == 1.0:
            break
    assert run is not None and seen is not None
    best = int(np.nanargmax(seen.sequences))
    network = family.unscale(network_of(run, best))
    steps = normalize(network, x[:500].astype(np.float64), jordan_eps=command.eps, tolerance=0.5)
    title = f"{task.name}, n={command.hidden}: {100 * seen.sequences[best]:.1f} % of sequences right"
    draw_weights(network, steps, command.png, title=title)
    console = _console()
    for step in steps:
        kept = "" if step.kept else ", not kept"
        console.print(f"{step.name:10s} largest change of an output {step.change:.2g}{kept}")
    console.print(f"wrote {command.png}")


_Command = (
    Annotated[Tasks, tyro.conf.subcommand("tasks")]
    | Annotated[Solve, tyro.conf.subcommand("solve")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Normalize, tyro.conf.subcommand("normalize")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; bad input ends with one line on stderr and status 2."""
    command = tyro.cli(_Command, prog="mips", description=__doc__, args=arguments)
    try:
        match command:
            case Tasks():
                _tasks(command)
            case Solve():
                _solve(command)
            case Show():
                _show(command)
            case Verify():
                sys.exit(_verify(command))
            case Report():
                _report(command)
            case Normalize():
                _normalize(command)
    except (ValueError, TypeError, ModuleNotFoundError) as error:
        print(f"mips: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        again = (
            "; --resume keeps the results in its folder" if isinstance(command, Solve) and command.out else ""
        )
        print(f"mips: interrupted{again}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
