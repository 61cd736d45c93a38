"""A batch in the terminal: its plan, its progress, its summary (rich)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from compressarc.batch.device_model import DeviceModel
from compressarc.batch.plan import Plan, estimate, work
from compressarc.batch.records import RunStatus
from compressarc.files import printable
from compressarc.score import describe_split

if TYPE_CHECKING:
    from compressarc.batch.mesh_engine import Event
    from compressarc.batch.store import RunFolder

_SHOWN_BUCKETS = 12
_LINE_EVERY = 60.0
"""Seconds between lines of progress where there is no terminal."""


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
        f"{puzzles} puzzle{'s' if puzzles > 1 else ''} x {seeds} seed{'s' if seeds > 1 else ''} x {steps} "
        f"step{'s' if steps > 1 else ''} on {devices} {device.name} device{'s' if devices > 1 else ''}: "
        f"{len(plan.buckets)} program{'s' if len(plan.buckets) > 1 else ''} to compile, "
        f"padded work {100 * plan.waste:.1f} %"
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
            f"{device.run_bytes(size, bucket.lanes) / 1e9:.2f} GB",
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

    def __init__(self, console: Console, run: RunFolder, total_steps: int, *, quiet: bool = False) -> None:
        self._console, self._run, self._quiet = console, run, quiet
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.1f} %"),
            TextColumn("{task.fields[status]}", markup=False),
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
        self._total = total_steps
        self._buckets = len(run.plan.buckets)
        self._solved = self._known = 0
        self._begun, self._taken, self._said = time.monotonic(), 0, ""
        self._printed = self._begun
        self.phase = "starting"
        """What goes on: starting, compiling, stepping."""

    def __enter__(self) -> BatchDisplay:
        if self._console.is_terminal and not self._quiet:
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.phase = "writing"
        if self._console.is_terminal and not self._quiet:
            self._bar.stop()

    def _print(self, text: str) -> None:
        if not self._quiet:
            self._console.print(printable(text, 2000), markup=False, highlight=False, soft_wrap=True)

    def acknowledge(self) -> None:
        """Says what a first Ctrl-C or SIGTERM will do."""
        after = {
            "starting": "as soon as it has started",
            "compiling": "after the compilation",
            "stepping": "after this chunk of steps, with checkpoints",
            "writing": "once the results are written",
        }[self.phase]
        self._print(f"stopping {after}; again to stop at once")

    def tell(self, event: Event) -> None:
        """Shows an event; never stops the batch."""
        if event.kind == "note":
            self._print(event.text)
            return
        if event.kind == "ended" and event.ended is not None:
            (name, seed), record = event.ended
            self._at[name, seed] = self._run.settings.config.steps  # settled runs are through as well
            self._line(name, seed, record)
        self.phase = "compiling" if event.kind == "compiling" else "stepping"
        for name, seed, steps in event.active:
            self._at[name, seed] = max(steps, self._at.get((name, seed), 0))
        self._taken += event.steps
        rate = self._taken / max(1e-9, time.monotonic() - self._begun)
        status = f"bucket {event.bucket + 1} of {self._buckets}, {rate:.1f} steps/s"
        if event.kind == "compiling":
            status = f"bucket {event.bucket + 1} of {self._buckets}: compiling"
            status += " (from the cache)" if event.cached else ""
            if not self._console.is_terminal and status != self._said:
                self._said = status
                self._print(status)
        if self._known:
            runs = f"run{'' if self._known == 1 else 's'}"
            status += f", {self._solved} of {self._known} {runs} solved"
        self._bar.update(self._task, completed=sum(self._at.values()), status=status)
        if not self._console.is_terminal and event.kind == "chunk":
            self._minute(status, rate)

    def _minute(self, status: str, rate: float) -> None:
        """Into a pipe: a line a minute."""
        now = time.monotonic()
        if now - self._printed < _LINE_EVERY:
            return
        self._printed = now
        done = sum(self._at.values())
        left = f", {duration((self._total - done) / rate)} left at this rate" if rate else ""
        self._print(f"{100 * done / max(1, self._total):.1f} % of the steps, {status}{left}")

    def _line(self, name: str, seed: int, record: Any) -> None:
        puzzle, history = self._run.puzzles[name], record.history
        steps = f"{history.steps} step{'' if history.steps == 1 else 's'}"
        text = f"{name} seed {seed}: {record.status} after {steps}"
        skipped = int(history.skipped.sum())
        if skipped:
            text += f", {skipped} of them skipped (not finite)"
        if puzzle.solution is not None:
            rank = history.ranking.rank(puzzle.solution)
            self._known += 1
            self._solved += rank is not None and rank <= 2
            text += f", solution ranks {rank}" if rank else ", solution never proposed"
        self._print(text)


def show_summary(
    console: Console, run: RunFolder, results: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Prints how far a batch is and what it has solved, against all of its puzzles and the whole split.

    results: `run.results()` by default.
    """
    results = run.results() if results is None else results
    from compressarc.report.compare import compare_with_published
    from compressarc.report.page import PASS, has_published

    def line(text: str) -> None:
        console.print(printable(text, 2000), markup=False, highlight=False, soft_wrap=True)

    running = sum(r["status"] == RunStatus.RUNNING for r in results.values())
    puzzles = f"{len(run.names)} puzzle{'' if len(run.names) == 1 else 's'}"
    line(
        f"{run.folder}: {len(results) - running} of {puzzles} done"
        + (f", {running} under way" if running else "")
    )
    skipped = sum(r.get("skipped_steps", 0) for r in results.values())
    if skipped:
        line(f"{skipped} step{'' if skipped == 1 else 's'} skipped, which were not finite")
    total = run.totals(results, PASS)
    if not total.puzzles:
        line("the solutions of these puzzles are not known")
        return
    if len(total.missing) == total.puzzles:
        line("no puzzle with a known solution has a result yet")
        return
    if run.whole_split.tests:
        line(f"{run.dataset} {run.split}:")
    for text in (*describe_split(total), *run.within(total)):
        line(text)
    if has_published(run):
        found = compare_with_published(results, run.split)
        line(f"published at 2000 steps, the puzzles that are done: {found.published}")
