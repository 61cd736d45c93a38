"""The folder of a batch: everything that a run needs to go on, and everything it found.

    settings.json        puzzles' names, seeds, settings
    puzzles.json         the puzzles themselves, in the official form, solutions where known
    plan.json            which puzzles share a program
    checkpoints/ID/SEED  orbax checkpoints of unfinished runs, in the form of `compressarc solve`
    runs/ID/SEED.npz     what a run proposed, step by step
    results/ID.json      one puzzle: guesses, scores, how long
    submission.json      both guesses of every puzzle, in Kaggle's form
    log/HOST-PID.jsonl   which process started, continued and ended which run, when

Every file is replaced in one step: a reader, or a process that takes over, never sees half
of one. Several processes may share the folder as long as no two work on one puzzle and seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import socket
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from compressarc.batch.plan import Plan
from compressarc.batch.records import BatchSettings, Record, RunStatus, WholeSplit
from compressarc.batch.results import checked_result, puzzle_result
from compressarc.datasets import official_form, parse_puzzle
from compressarc.files import check_writable, naming, read_json, replace_file, replace_json
from compressarc.grid import Grid
from compressarc.puzzle import Puzzle
from compressarc.score import Score, SplitScore, percent, score_answers, score_split, submission
from compressarc.solver.checkpoints import Checkpoints, pack_answers, replay

_UNREADABLE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile)
"""What reading a missing or damaged record may raise."""


class RunFolder:
    """A batch on disk; see the module's text."""

    def __init__(self, folder: str | Path) -> None:
        """Opens a batch's folder. Raises ValueError if it is none."""
        self.folder = Path(folder)
        data = read_json(self.folder / "settings.json")
        try:
            self.settings = BatchSettings.from_json(data["settings"])
            self.split: str = data["split"]
            self.dataset: str = data["dataset"]
            self.names: tuple[str, ...] = tuple(data["puzzles"])
            self.whole_split = WholeSplit.from_json(data.get("whole_split"))
            strings = (self.split, self.dataset, *self.names)
            if not all(isinstance(text, str) for text in strings):
                raise TypeError("split, dataset and the names of puzzles should be strings")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{self.folder / 'settings.json'}: missing or wrong key: {error}") from error
        self._seen: dict[str, tuple[Any, list[list[np.ndarray]]]] = {}
        puzzles = read_json(self.folder / "puzzles.json")
        missing = [n for n in self.names if not isinstance(puzzles, dict) or n not in puzzles]
        if missing:
            raise ValueError(f"{self.folder / 'puzzles.json'}: no puzzle {', '.join(missing[:3])}")
        try:
            self.puzzles = {
                name: parse_puzzle(puzzles[name], name, source=self.dataset, tell=lambda _: None)
                for name in self.names
            }
        except ValueError as error:
            raise ValueError(f"{self.folder / 'puzzles.json'}: {error}") from error

    @classmethod
    def create(
        cls,
        folder: str | Path,
        puzzles: Mapping[str, Puzzle],
        settings: BatchSettings,
        plan: Plan,
        *,
        dataset: str = "",
        split: str = "",
        whole_split: Mapping[str, Puzzle] | None = None,
    ) -> RunFolder:
        """Writes a new batch's folder.

        whole_split: all puzzles of the split, of which these may be some; by default these.

        Raises: ValueError if there is a batch already.
        """
        odd = [name for name in puzzles if not re.fullmatch(r"(?![. ])[^/\\\x00-\x1f\x7f]{1,150}", name)]
        if odd:
            raise ValueError(
                f"puzzle id {odd[0]!r}: files are named by it; expected no dot at its front and no slashes"
            )
        if not puzzles:
            raise ValueError("no puzzle to solve")
        folder = check_writable(folder)
        if (folder / "settings.json").exists():
            raise ValueError(
                f"{folder}: holds a batch already; go on with --resume, or choose another folder"
            )
        replace_json(folder / "puzzles.json", {n: official_form(p) for n, p in puzzles.items()})
        replace_json(folder / "plan.json", plan.to_json())
        described = {"settings": settings.to_json(), "dataset": dataset, "split": split}
        described |= {
            "whole_split": WholeSplit.of(whole_split or puzzles).to_json(),
            "puzzles": list(puzzles),
        }
        replace_json(folder / "settings.json", described)
        run = cls(folder)
        run.write_submission()
        return run

    def set_plan(self, plan: Plan) -> None:
        """Another plan for what is left; checkpoints don't depend on it."""
        replace_json(self.folder / "plan.json", plan.to_json())

    def same_batch(self, puzzles: Mapping[str, Puzzle], settings: BatchSettings) -> None:
        """Checks that this batch can go on here: the same puzzles and settings, or more steps or seeds.

        Raises: ValueError if the folder holds another batch.
        """
        plain = [
            s.to_json() | {"vote": "", "steps": s.config.steps} | s.to_json()["config"] | {"config": 0}
            for s in (settings, self.settings)
        ]
        differing = [k for k in plain[0] if k not in ("steps", "seeds") and plain[0][k] != plain[1][k]]
        if settings.config.steps < self.settings.config.steps:
            differing.append("steps")
        if not set(self.settings.seeds) <= set(settings.seeds):
            differing.append("seeds")
        if differing:
            told = ", ".join(f"{k} {plain[1][k]}, asked for {plain[0][k]}" for k in differing)
            raise ValueError(f"{self.folder}: holds a batch with other settings: {told}")
        if list(puzzles) != list(self.names) or any(
            official_form(puzzles[n]) != official_form(self.puzzles[n]) for n in self.names
        ):
            raise ValueError(f"{self.folder}: holds a batch of other puzzles ({len(self.names)} of them)")

    def extend(self, settings: BatchSettings) -> None:
        """Sets more steps or seeds. Runs that have ended with fewer steps start anew."""
        self._set(settings)

    def _set(self, settings: BatchSettings) -> None:
        self.settings = settings
        data = read_json(self.folder / "settings.json")
        replace_json(self.folder / "settings.json", data | {"settings": settings.to_json()})

    @property
    def plan(self) -> Plan:
        return Plan.from_json(read_json(self.folder / "plan.json"))

    # One run

    def checkpoints(self, name: str, seed: int) -> Checkpoints:
        """The orbax checkpoints of one run."""
        folder = self.folder / "checkpoints" / name / str(seed)
        return Checkpoints(folder, self.puzzles[name], self.settings.config, jax.random.key(seed), alone=True)

    def forget_checkpoints(self, name: str, seed: int) -> None:
        """Removes what an ended run no longer needs."""
        shutil.rmtree(self.folder / "checkpoints" / name / str(seed), ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.folder / "checkpoints" / name).rmdir()

    def _record_path(self, name: str, seed: int) -> Path:
        return self.folder / "runs" / name / f"{seed}.npz"

    def save_record(self, name: str, seed: int, record: Record, *, result: bool = True) -> None:
        """Writes what a run has proposed so far, and the puzzle's result with it (result: or not)."""
        history, buffer = record.history, io.BytesIO()
        before = None if record.ended else self._brief(name, seed)
        if before is not None and before[1] > history.steps:
            return  # a run that is being prolonged: its former end says more, as yet
        answers = pack_answers(history.ranking)
        arrays: dict[str, Any] = {
            "kl": history.kl,
            "reconstruction": history.reconstruction,
            "proposals": history.proposals,
            "weights": history.weights,
            "status": np.array(record.status.value),
            "seconds": np.array(record.seconds),
        }
        arrays |= {f"answers/{k}": a for k, a in answers.items()}
        arrays |= {f"components/{k}": a.astype(np.float16) for k, a in (record.components or {}).items()}
        np.savez_compressed(buffer, **arrays)
        replace_file(self._record_path(name, seed), buffer.getvalue())
        if result:
            self.write_result(name)

    def record(self, name: str, seed: int) -> Record | None:
        """What is known of one run, or None."""
        path = self._record_path(name, seed)
        if not path.exists():
            return None
        try:
            with np.load(path) as file:
                data = dict(file)
            status = RunStatus(str(data["status"]))
        except _UNREADABLE:  # as if the run had not begun
            return None
        curves = {k: data[k] for k in ("kl", "reconstruction", "proposals", "weights")}
        answers = {k: data[f"answers/{k}"] for k in ("grids", "sizes") if f"answers/{k}" in data}
        history = replay(curves, answers)
        mark = "components/"
        components = {k.removeprefix(mark): a for k, a in data.items() if k.startswith(mark)}
        return Record(history, status, float(data["seconds"]), components or None)

    def _brief(self, name: str, seed: int) -> tuple[RunStatus, int] | None:
        """Status and steps of a recorded run."""
        try:
            with np.load(self._record_path(name, seed)) as file:
                return RunStatus(str(file["status"])), len(file["reconstruction"])
        except _UNREADABLE:
            return None

    def ended(self, name: str, seed: int) -> bool:
        """Whether a run has ended, for the steps that are asked for."""
        brief = self._brief(name, seed)
        if brief is None:
            return False
        status, steps = brief
        if status is RunStatus.FINISHED:
            return steps >= self.settings.config.steps
        return status is not RunStatus.RUNNING

    def log(self, event: str, name: str, seed: int, step: int) -> None:
        """Notes in this process's log that a run was started, has taken steps, or has ended."""
        path = self.folder / "log" / f"{socket.gethostname()}-{os.getpid()}.jsonl"
        entry = {"time": time.time(), "event": event, "puzzle": name, "seed": seed, "step": step}
        with naming(path):
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(entry) + "\n")

    # One puzzle

    def write_result(self, name: str) -> None:
        """Counts all seeds' votes of one puzzle and writes its result."""
        if known := self._records(name):
            data = puzzle_result(self.puzzles[name], known, self.settings)
            replace_json(self.folder / "results" / f"{name}.json", data)

    def write_missing_results(self) -> None:
        """Writes the results that are older than what they are counted from.

        A process that was killed may have recorded a run's end, and not counted its votes any more.
        """
        for name in self.names:
            records = [self._record_path(name, seed) for seed in self.settings.seeds]
            newest = max((p.stat().st_mtime_ns for p in records if p.exists()), default=None)
            result = self.folder / "results" / f"{name}.json"
            if newest is not None and not (result.exists() and result.stat().st_mtime_ns >= newest):
                self.write_result(name)

    def _records(self, name: str) -> dict[int, Record]:
        """What is known of a puzzle's runs, by seed."""
        records = {seed: self.record(name, seed) for seed in self.settings.seeds}
        return {seed: r for seed, r in records.items() if r is not None}

    def recount(self, vote: str) -> None:
        """Counts all recorded votes in another way, and writes results and submission anew.

        `results(vote)` counts without writing.
        """
        self.settings = dataclasses.replace(self.settings, vote=vote)
        for name in self.names:
            self.write_result(name)
        self.write_submission()
        self._set(self.settings)

    def recount_seeds(self, names: Sequence[str]) -> None:
        """Counts once more where several runs belong to one puzzle and may have ended at once."""
        for name in names if len(self.settings.seeds) > 1 else ():
            self.write_result(name)

    def results(self, vote: str | None = None) -> dict[str, dict[str, Any]]:
        """The results there are, by puzzle; vote: counted in this way, and not written."""
        found = {}
        if vote not in (None, self.settings.vote):
            settings = dataclasses.replace(self.settings, vote=vote)
            for name in self.names:
                if known := self._records(name):
                    found[name] = puzzle_result(self.puzzles[name], known, settings)
            return found
        for name in self.names:
            path = self.folder / "results" / f"{name}.json"
            if path.exists():
                found[name] = checked_result(read_json(path), self.puzzles[name], path)
        return found

    def scores(self, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Score]:
        """Scores of the puzzles that are done and whose solutions are known."""
        done = [n for n, r in results.items() if r["status"] != RunStatus.RUNNING and "official_score" in r]
        out = {}
        for name in done:
            solution = self.puzzles[name].solution
            if solution is None:
                continue
            guesses = [tuple(np.array(g) for g in a["grids"]) for a in results[name]["answers"][:2]]
            judged = score_answers(guesses, solution)
            out[name] = dataclasses.replace(judged, rank=results[name]["rank_of_solution"])
        return out

    def split_outputs(self) -> dict[str, int]:
        """Test outputs of every puzzle of the whole split whose solution is known, by puzzle."""
        own = {n: len(p.solution) for n, p in self.puzzles.items() if p.solution is not None}
        return self.whole_split.outputs() | own

    def totals(self, results: Mapping[str, Mapping[str, Any]], guesses: Sequence[int] = (1, 2)) -> SplitScore:
        """Totals of the whole split's puzzles with known solutions; those that are not done are missing."""
        return score_split(self.scores(results), guesses, split=self.split_outputs())

    def within(self, total: SplitScore) -> list[str]:
        """What a batch of some of a split's puzzles has of its own: sentences."""
        own = sum(p.solution is not None for p in self.puzzles.values())
        elsewhere = total.puzzles - own
        lines = []
        if elsewhere > 0:
            lines.append(
                f"{elsewhere} of the {total.puzzles} are not in this batch; of its own {own}: pass@2 "
                f"{total.solved[2]} ({percent(total.solved[2], own)}), ARC Prize's rule "
                f"{percent(total.official, own)}"
            )
        if unknown := len(self.whole_split.unknown):
            lines.append(
                f"{unknown} puzzle{'' if unknown == 1 else 's'} of the split without a known "
                "solution, which no percentage counts"
            )
        return lines

    def _guesses(self, name: str) -> list[list[Grid]]:
        """The guesses in a puzzle's result, read again only if the file is another."""
        path = self.folder / "results" / f"{name}.json"
        try:
            stat = path.stat()
        except FileNotFoundError:
            return []
        mark = stat.st_mtime_ns, stat.st_ino, stat.st_size
        if self._seen.get(name, (None,))[0] != mark:
            answers = read_json(path)["answers"][:2]
            self._seen[name] = mark, [[np.array(g, np.int8) for g in a["grids"]] for a in answers]
        return self._seen[name][1]

    def write_submission(self) -> Path:
        """Both guesses of every puzzle; 2 x 2 black grids where there is none yet."""
        attempts = {}
        for name, puzzle in self.puzzles.items():
            grids = self._guesses(name)
            attempts[name] = grids or [[np.zeros((2, 2), np.int8) for _ in puzzle.test]]
        path = self.folder / "submission.json"
        replace_json(path, submission(attempts))
        return path
