"""The commands `compressarc solve` and `analyze`: checks, display, checkpoints, stopping and going on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressarc.cli.stopping import STOPPED, Stop
from compressarc.config import ADDED_LATER, seed_number
from compressarc.files import check_writable, naming
from compressarc.folder_lock import folder_lock

if TYPE_CHECKING:
    from rich.console import Console

    from compressarc.cli.commands import Analyze, Solve
    from compressarc.cli.terminal import SolveDisplay
    from compressarc.config import SolveConfig
    from compressarc.puzzle import Puzzle
    from compressarc.solver.checkpoints import Checkpoints, Saved
    from compressarc.solver.solve import Progress, Solution

_LEFT_BEHIND = ("result.json", "history.npz", "solution.png", "curves.png")


def _check(command: Solve) -> None:
    """Everything that can be known to be wrong before jax starts."""
    if command.resume and command.out is None:
        raise ValueError("--resume needs --out, the folder that holds the checkpoints")
    if command.overwrite and (command.resume or command.out is None):
        raise ValueError("--overwrite belongs to --out without --resume: it begins the folder's run anew")
    seed_number(command.seed)
    if command.checkpoint_every <= 0:
        raise ValueError(f"--checkpoint-every={command.checkpoint_every}: expected a positive number")
    if command.time_limit is not None and not command.time_limit > 0:
        raise ValueError(f"--time-limit={command.time_limit}: expected a positive number of seconds")


def run_solve_command(command: Solve, console: Console, use_cache: Callable[[], None]) -> int:
    """Runs `compressarc solve`; returns the exit status (3: stopped before the end)."""
    from compressarc.datasets import load_puzzle

    _check(command)
    puzzle = load_puzzle(command.puzzle, command.dataset)
    if command.out is None:
        return _Session(command, puzzle, console, use_cache).run()
    check_writable(command.out)
    with folder_lock(command.out) as locked:
        if not locked:
            console.print(
                f"{command.out}: no locks here; see that no other command works on it", markup=False
            )
        return _Session(command, puzzle, console, use_cache, command).run()


def run_analyze_command(command: Analyze, console: Console, use_cache: Callable[[], None]) -> int:
    """Runs `compressarc analyze`; returns the exit status."""
    from compressarc.datasets import load_puzzle

    puzzle = load_puzzle(command.puzzle, command.dataset)
    check_writable(command.out)
    return _Session(command, puzzle, console, use_cache, analysis=command.out).run()


class _Session:
    """One run of the solver on the command line."""

    def __init__(
        self,
        command: Solve | Analyze,
        puzzle: Puzzle,
        console: Console,
        use_cache: Callable[[], None],
        store: Solve | None = None,
        analysis: Path | None = None,
    ) -> None:
        self.command, self.puzzle, self.console, self.use_cache = command, puzzle, console, use_cache
        self.store, self.analysis = store, analysis
        self.out: Path | None = None if store is None else store.out
        self.checkpoints: Checkpoints | None = None
        self.saved = 0  # steps of the newest checkpoint
        self.latest: Progress | None = None

    def run(self) -> int:
        """To the end, or until it is stopped; returns the exit status."""
        from compressarc.cli.terminal import SolveDisplay

        self.console.print(f"{self.puzzle.name}: {describe(self.puzzle)}", markup=False, highlight=False)
        display = SolveDisplay(self.console, self.puzzle, self.command.config.steps)
        with Stop(display.acknowledge) as stop:
            try:
                with display:
                    solution = self._solve(display, stop)
            except OSError:
                self._show_what_there_is()
                raise
            display.phase = "writing"
            return self._finish(solution, stopped=stop.asked)

    def _solve(self, display: SolveDisplay, stop: Stop) -> Solution:
        display.compiling("starting jax")
        import jax

        from compressarc.batch.memory import run_warning
        from compressarc.solver.solve import solve

        if self.command.cache:
            self.use_cache()
        warning = run_warning(self.puzzle.canvas.shape)
        if warning is not None:
            display.say(warning)
        key = jax.random.key(self.command.seed)
        saved = None if self.out is None else self._open(self.out, key, display)
        if self.checkpoints is not None:
            # orbax takes seconds to import: meanwhile, compile
            threading.Thread(target=_import_orbax, daemon=True).start()

        solution = solve(
            self.puzzle,
            self.command.config,
            key=key,
            on_chunk=lambda progress: self._on_chunk(progress, display),
            time_limit=None if self.store is None else self.store.time_limit,
            resume_from=saved,
            stop_when=lambda: stop.asked or self._unread(),
            on_compile=display.compiling_step,
        )
        if self.checkpoints is not None:
            if solution.history.steps > self.saved:
                self.checkpoints.save(solution.run, solution.history)
            self.checkpoints.close()
        return solution

    def _unread(self) -> bool:
        """Whether nobody reads the output, and nothing else is kept of the run."""
        return (
            self.out is None
            and self.analysis is None
            and getattr(self.console.file, "broken", None) is not None
        )

    def _open(self, out: Path, key: Any, display: SolveDisplay) -> Saved | None:
        """Checkpoints in the folder; what the run goes on from, if it does."""
        from compressarc.solver.checkpoints import Checkpoints

        assert self.store is not None
        place = out / "checkpoints"
        if (out / "settings.json").exists():
            raise ValueError(f"{out}: holds a batch; choose another folder")
        if self.store.overwrite:
            _clear(out)
        _refuse_another(out, self.puzzle.name, self.store, display.say)
        try:
            checkpoints = Checkpoints(place, self.puzzle, self.command.config, key)
        except ValueError as error:
            hint = "" if self.store.resume else ", or --overwrite it"
            raise ValueError(f"{error}{hint}") from error
        there = max(checkpoints.steps, default=0)
        steps = self.command.config.steps
        if there > steps:
            raise ValueError(
                f"{out}: holds this run with {there} steps, more than the --steps {steps} asked for; "
                "ask for at least as many, choose another folder, or --overwrite it"
            )
        self.checkpoints = checkpoints
        if not self.store.resume:
            if 0 < there < steps:
                raise ValueError(
                    f"{out}: holds this run after {there} steps; go on with --resume, choose another folder, "
                    "or --overwrite it"
                )
            if there == 0 and (out / "result.json").exists():
                raise ValueError(
                    f"{out}: holds a result of this puzzle, and no checkpoints to go on from; choose another "
                    "folder, or --overwrite it"
                )
            if there == 0:
                checkpoints.clear()
                return None
            display.say(f"{out} holds this run already, all {there} steps; --overwrite would begin it anew")
        saved = checkpoints.restore(display.say)
        if saved is None:
            display.say("no checkpoint yet: from the first step")
        elif saved.history.steps == steps:
            self.saved = steps
        else:
            self.saved = saved.history.steps
            display.say(f"resuming after step {self.saved}")
        return saved

    def _on_chunk(self, progress: Progress, display: SolveDisplay) -> None:
        self.latest = progress
        display.update(progress)
        if self.checkpoints is None or self.store is None:
            return
        steps, chunk = progress.history.steps, self.command.config.chunk
        if (steps // chunk) % self.store.checkpoint_every == 0 or steps >= self.command.config.steps:
            self.checkpoints.save(progress.run, progress.history)
            self.saved = steps

    def _show_what_there_is(self) -> None:
        """The guesses of a run that can't go on, for want of room say."""
        from compressarc.cli.terminal import show_guesses

        if self.latest is not None and len(self.latest.history.ranking):
            steps = self.latest.history.steps
            self.console.print(f"guesses after {steps} steps, the last that were taken:", highlight=False)
            show_guesses(self.console, self.puzzle, self.latest.history.ranking)

    def _finish(self, solution: Solution, *, stopped: bool) -> int:
        from compressarc.cli.terminal import show_solution, summary
        from compressarc.solver.solve import Status

        history, console = solution.history, self.console
        console.print(summary(solution), highlight=False, soft_wrap=True)
        interrupted = stopped and solution.status == Status.INTERRUPTED
        if history.steps:
            show_solution(console, solution)
            self._write(solution)
        if interrupted and self.out is not None:
            how = (
                "go on with --resume"
                if history.steps
                else "nothing to keep yet; the same command begins anew"
            )
            console.print(
                f"stopped after {history.steps} of {solution.config.steps} steps: {how}",
                highlight=False,
                soft_wrap=True,
            )
        elif interrupted:
            console.print(
                f"stopped after {history.steps} of {solution.config.steps} steps; "
                "only with --out could it go on later",
                highlight=False,
                soft_wrap=True,
            )
        return STOPPED if interrupted else 0

    def _write(self, solution: Solution) -> None:
        written: list[Path] = []
        if self.out is not None:
            from compressarc.report.solution_files import write_pictures, write_result

            written.append(write_result(solution, self.out, seed=self.command.seed))
            written += write_pictures(solution, self.out)
        if self.analysis is not None:
            import jax

            from compressarc.report.analysis_figures import draw_analysis

            key = jax.random.fold_in(jax.random.key(self.command.seed), 1)
            written += draw_analysis(solution, self.analysis, key=key)
        if written:
            names = ", ".join(map(str, written))
            self.console.print(f"wrote {names}", markup=False, highlight=False, soft_wrap=True)


def describe(puzzle: Puzzle) -> str:
    """Examples, colors, pixels and what is known of the output's size, in words."""
    s = puzzle.canvas.shape
    known = "known" if puzzle.canvas.size_known else "unknown"
    colors = f"{s.colors} color{'' if s.colors == 1 else 's'}"
    return f"{s.examples} examples, {colors}, {s.x} x {s.y} pixels, output size {known}"


def _import_orbax() -> None:
    with contextlib.suppress(ImportError):
        import orbax.checkpoint  # noqa: F401


def _settings(config: SolveConfig) -> dict[str, Any]:
    """Settings that a run's result depends on; a run may be prolonged."""
    return {k: v for k, v in dataclasses.asdict(config).items() if k != "steps"}


def _clear(out: Path) -> None:
    """Removes what an earlier run left behind, checkpoints and results."""
    with naming(out):
        if (out / "checkpoints").exists():
            shutil.rmtree(out / "checkpoints")
        for name in _LEFT_BEHIND:
            (out / name).unlink(missing_ok=True)


def _refuse_another(out: Path, name: str, command: Solve, tell: Callable[[str], None]) -> None:
    """Refuses a folder that holds the result of another run, or of more steps.

    tell: told of a damaged result beside checkpoints, from which it is written anew.

    Raises: ValueError that says what it holds.
    """
    path = out / "result.json"
    if not path.exists():
        return
    otherwise = "choose another folder, or --overwrite it"
    asked: dict[str, Any] = {"puzzle": name, "key": f"seed {command.seed}"} | _settings(command.config)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        held = {"puzzle": str(found["puzzle"]), "key": f"seed {found['seed']}"}
        held |= {k: (ADDED_LATER | found["config"])[k] for k in _settings(command.config)}
        steps = int(found["steps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        if (out / "checkpoints").exists():
            tell(f"{path}: damaged ({error}); the checkpoints beside it count, and it is written anew")
            return
        raise ValueError(f"{path}: not a result of `compressarc solve` ({error}); {otherwise}") from error
    differing = [f"another {k}: {held[k]}, asked for {asked[k]}" for k in held if held[k] != asked[k]]
    if differing:
        raise ValueError(f"{out}: holds a run with {' and '.join(differing)}; {otherwise}")
    if steps > command.config.steps:
        raise ValueError(
            f"{out}: holds the result of this run with {steps} steps, more than the --steps "
            f"{command.config.steps} asked for; {otherwise}"
        )
