"""The options of every command."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from compressarc.config import SolveConfig

if TYPE_CHECKING:
    pass


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
    compile: bool = False
    """with --plan and --device: compile the largest program for that device, which need not be here, and say
    what memory it takes"""
    compile_only: bool = False
    """compile all programs of the plan for --target, take no step: what was traced is kept in the cache"""
    target: str | None = None
    """with --compile-only: the device to compile for, which need not be here: rtx4070, a100, h100, v5e"""
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
