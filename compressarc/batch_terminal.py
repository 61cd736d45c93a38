"""A batch in the terminal: its plan, its progress, its summary (rich)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from compressarc.device_model import DeviceModel
from compressarc.plan import Plan, estimate, work
from compressarc.score import score_split

if TYPE_CHECKING:
    from compressarc.batch import Event
    from compressarc.run_folder import RunFolder

_SHOWN_BUCKETS = 12


def duration(seconds: float) -> str:
    """1.5 h, 12 min, 40 s."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def show_plan(
    console: Console, plan: Plan, device: DeviceModel, *, devices: int, seeds: int, steps: int
) -> None:
    """Prints what will be compiled, what padding wastes, memory, and a model of time and money."""
    total = estimate(plan, device, devices=devices, seeds=seeds, steps=steps)
    puzzles = sum(len(b.puzzles) for b in plan.buckets)
    console.print(
        f"{puzzles} puzzles x {seeds} seed{'s' if seeds > 1 else ''} x {steps} steps on "
        f"{devices} {device.name} device{'s' if devices > 1 else ''}: "
        f"{len(plan.buckets)} programs to compile, padded work {100 * plan.waste:.1f} %"
    )
    table = Table("room (E x C x X x Y)", "puzzles", "lanes a device", "work", "memory a device", "time")
    for bucket, seconds in list(zip(plan.buckets, total.bucket_seconds, strict=True))[:_SHOWN_BUCKETS]:
        s = bucket.room.shape
        size = work(s)
        table.add_row(
            f"{s.examples} x {s.colors} x {s.x} x {s.y}",
            str(len(bucket.puzzles)),
            str(bucket.lanes),
            f"{size:,}",
            f"{bucket.lanes * device.run_bytes(size) / 1e9:.2f} GB",
            duration(seconds),
        )
    if len(plan.buckets) > _SHOWN_BUCKETS:
        table.add_row(f"... {len(plan.buckets) - _SHOWN_BUCKETS} more", *[""] * 5)
    console.print(table)
    money = "" if total.dollars is None else f", {total.dollars:.2f} dollars"
    console.print(
        f"a model, not a measurement: {duration(total.seconds)} in all, "
        f"{duration(total.compile_seconds)} of it waiting for the compiler; at most "
        f"{total.peak_bytes / 1e9:.1f} GB on a device{money}"
    )
    for line in device.assumptions():
        console.print(f"  {line}", style="dim")


class BatchDisplay:
    """One bar for all steps of all runs, and a line for every puzzle that ends."""

    def __init__(self, console: Console, run: RunFolder, total_steps: int, *, quiet: bool = False):
        self._console, self._run, self._quiet = console, run, quiet
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.1f} %"),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("batch", total=total_steps, status="starting jax")
        settings = run.settings
        self._at = {
            (name, seed): settings.config.steps
            for name in run.names
            for seed in settings.seeds
            if run.ended(name, seed)
        }
        self._buckets = len(run.plan.buckets)
        self._solved = self._known = 0
        self._begun, self._taken, self._said = time.monotonic(), 0, ""

    def __enter__(self) -> BatchDisplay:
        if self._console.is_terminal and not self._quiet:
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._console.is_terminal and not self._quiet:
            self._bar.stop()

    def tell(self, event: Event) -> None:
        """Shows an event; never stops the batch."""
        if event.kind == "ended" and event.ended is not None:
            (name, seed), record = event.ended
            self._at[name, seed] = self._run.settings.config.steps  # settled runs are through as well
            self._line(name, seed, record)
        for name, seed, steps in event.active:
            self._at[name, seed] = max(steps, self._at.get((name, seed), 0))
        self._taken += event.steps
        rate = self._taken / max(1e-9, time.monotonic() - self._begun)
        status = f"bucket {event.bucket + 1} of {self._buckets}, {rate:.1f} steps/s"
        if event.kind == "compiling":
            status += ", compiling"
            if not self._console.is_terminal and not self._quiet and status.split(",")[0] != self._said:
                self._said = status.split(",")[0]
                self._console.print(f"{self._said}: compiling")
        if self._known:
            status += f", {self._solved} of {self._known} runs solved"
        self._bar.update(self._task, completed=sum(self._at.values()), status=status)

    def _line(self, name: str, seed: int, record: Any) -> None:
        puzzle = self._run.puzzles[name]
        text = f"{name} seed {seed}: {record.status} after {record.history.steps} steps"
        if puzzle.solution is not None:
            rank = record.history.ranking.rank(puzzle.solution)
            self._known += 1
            self._solved += rank is not None and rank <= 2
            text += f", solution ranks {rank}" if rank else ", solution never proposed"
        if not self._quiet:
            self._console.print(text, highlight=False)


def show_summary(console: Console, run: RunFolder) -> None:
    """Prints how far a batch is and what it has solved."""
    from compressarc.compare import compare_with_published, scores_of
    from compressarc.page import PASS, has_published

    results = run.results()
    running = sum(r["status"] == "running" for r in results.values())
    console.print(
        f"{run.folder}: {len(results) - running} of {len(run.names)} puzzles done"
        + (f", {running} under way" if running else "")
    )
    scores = scores_of(results)
    if not scores:
        console.print("no puzzle with a known solution has a result yet")
        return
    total = score_split(scores, PASS)
    counts = ", ".join(f"pass@{n} {total.solved[n]}" for n in PASS)
    console.print(f"of {total.puzzles} with known solutions: {counts}", highlight=False)
    console.print(
        f"official rule: {total.official:.2f} ({100 * total.official / total.puzzles:.2f} %)", highlight=False
    )
    if has_published(run):
        found = compare_with_published(results, run.split)
        console.print(f"published at 2000 steps, same puzzles: {found.published}", highlight=False)
