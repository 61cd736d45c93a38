"""Checkpoints of a run (orbax), from which it continues to the same result bit for bit."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from compressarc.config import ADDED_LATER, SolveConfig
from compressarc.files import naming, write_atomically
from compressarc.network.inputs import signature
from compressarc.puzzle import Puzzle
from compressarc.solver.history import History
from compressarc.solver.moments import as_trees, as_vectors
from compressarc.solver.ranking import Ranking
from compressarc.solver.step import Run, init

_META = "run.json"


def _fingerprint(puzzle: Puzzle, config: SolveConfig, key: PRNGKeyArray) -> dict[str, Any]:
    """What a run depends on. The number of steps does not count: a run may be prolonged."""
    digest = hashlib.sha256()
    for grid in [g for pair in puzzle.train for g in pair] + list(puzzle.test):
        digest.update(bytes(grid.shape) + grid.tobytes())
    settings = dataclasses.asdict(config)
    settings.pop("steps")
    return {
        "puzzle": puzzle.name,
        "grids": digest.hexdigest(),
        "config": settings,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
    }


def _differences(found: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """In words, what two fingerprints differ in: the one in a folder and the one asked for."""
    out = []
    if found["puzzle"] != asked["puzzle"]:
        out.append(f"puzzle: {found['puzzle']}, asked for {asked['puzzle']}")
    elif found["grids"] != asked["grids"]:
        out.append(f"puzzle: one with other grids, also called {found['puzzle']}")
    for name in sorted(found["config"].keys() | asked["config"].keys()):
        one, other = (side["config"].get(name, ADDED_LATER.get(name)) for side in (found, asked))
        if one != other:
            out.append(f"{name}: {one}, asked for {other}")
    if found["key"] != asked["key"]:
        one, other = (_seed(side["key"]) for side in (found, asked))
        out.append(f"key: {one}, asked for {other}")
    return out


def _seed(key: list[int]) -> str:
    """The seed that makes this key, as far as one does."""
    return f"seed {key[1]}" if len(key) == 2 and key[0] == 0 else f"key {key}"


def pack_answers(ranking: Ranking) -> dict[str, np.ndarray]:
    """Answers by first appearance as one padded array; empty if there are none."""
    answers = [entry.answer for entry in ranking]
    if not answers:
        return {}
    sizes = np.array([[g.shape for g in a] for a in answers], np.int32)
    h, w = sizes.max((0, 1))
    grids = np.full((len(answers), len(answers[0]), h, w), -1, np.int8)
    for i, answer in enumerate(answers):
        for t, grid in enumerate(answer):
            grids[i, t, : grid.shape[0], : grid.shape[1]] = grid
    return {"grids": grids, "sizes": sizes}


def replay(history: dict[str, np.ndarray], answers: dict[str, np.ndarray]) -> History:
    """The vote again, from what was proposed when; no answers (`{}`) if nothing was proposed yet."""
    unpacked = [
        tuple(g[:h, :w] for g, (h, w) in zip(grids, sizes, strict=True))
        for grids, sizes in zip(answers.get("grids", ()), answers.get("sizes", ()), strict=True)
    ]
    ranking = Ranking()
    for step, (numbers, weights) in enumerate(zip(history["proposals"], history["weights"], strict=True)):
        for number, weight in zip(numbers, weights, strict=True):
            if weight > -np.inf:  # not of a skipped step
                ranking.vote(unpacked[number], weight, step)
    curves = {k: history[k] for k in ("kl", "reconstruction", "proposals", "weights")}
    return History(**curves, ranking=ranking, seconds=float(history.get("seconds", 0.0)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without orbax's log, which gives a traceback of a hundred lines for an error that is raised as well."""
    log = logging.getLogger("absl")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


class Saved(NamedTuple):
    """What a run goes on from."""

    run: Run
    history: History


class Checkpoints:
    """A run's checkpoints in one folder; the last one is kept, and the one before until it is whole."""

    def __init__(
        self,
        folder: str | Path,
        puzzle: Puzzle,
        config: SolveConfig,
        key: PRNGKeyArray,
        *,
        alone: bool = False,
    ) -> None:
        """Checkpoints in `folder`.

        alone: this process writes them without the others of `jax.distributed`, who have runs
        of their own.

        Raises: ValueError naming what differs if the folder holds the checkpoints of another puzzle,
          configuration or seed.
        """
        self._alone = alone
        self.folder = Path(folder).absolute()
        self._puzzle, self._config = puzzle, config
        self._print = _fingerprint(puzzle, config, key)
        self._manager: Any = None
        meta = self.folder / _META
        if meta.exists():
            try:
                found = json.loads(meta.read_text(encoding="utf-8"))
                differing = _differences(found, self._print)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                found = self._identity()
                if found is None:
                    raise ValueError(
                        f"{meta}: damaged ({error}); remove {self.folder} to begin the run anew"
                    ) from error
                differing = _differences(found, self._print)
            if differing:
                raise ValueError(
                    f"{self.folder.parent}: holds a run with another {' and another '.join(differing)}; "
                    "choose another folder, or the same settings"
                )

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, ascending; damaged ones among them."""
        found = (p.name for p in self.folder.glob("*") if p.is_dir() and p.name.isdigit())
        return sorted(map(int, found))

    def _open(self) -> Any:
        if self._manager is None:
            import orbax.checkpoint as ocp  # takes seconds to import

            from compressarc.solver.stored_arrays import ArraysHandler

            with naming(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / _META, json.dumps(self._print, indent=1))
            options = ocp.CheckpointManagerOptions(
                max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=True
            )
            if self._alone and jax.process_count() > 1:
                own = jax.process_index()
                options.create = False  # the folder is there; orbax can't make it for some processes only
                options.multiprocessing_options = ocp.options.MultiprocessingOptions(
                    primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
                )

            def manager() -> Any:
                with naming(self.folder), _quiet():
                    return ocp.CheckpointManager(self.folder, options=options, item_handlers=ArraysHandler())

            try:
                self._manager = manager()
            except (ValueError, TypeError, KeyError):  # damaged descriptions, which nobody needs
                for step in self.steps:
                    (self.folder / str(step) / "_CHECKPOINT_METADATA").unlink(missing_ok=True)
                self._manager = manager()
        return self._manager

    def save(self, run: Run, history: History) -> None:
        """Writes a checkpoint; it counts only once it is complete.

        Raises: OSError naming the folder, and what room is left if that was the trouble.
        """
        manager = self._open()
        from compressarc.solver.stored_arrays import ArraysSave

        run = as_trees(jax.tree.map(np.asarray, run))
        arrays = {f"run/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(run))}
        for field in dataclasses.fields(history):
            if field.name != "ranking":
                arrays[f"history/{field.name}"] = np.asarray(getattr(history, field.name))
        arrays |= {f"answers/{k}": a for k, a in pack_answers(history.ranking).items()}
        arrays["about"] = np.array(json.dumps(self._print))
        try:
            with naming(self.folder / str(history.steps)), _quiet():
                manager.save(history.steps, args=ArraysSave(arrays), force=True)
        except BaseException:
            for part in self.folder.glob("*.orbax-checkpoint-tmp*"):  # it would keep its room
                shutil.rmtree(part, ignore_errors=True)
            raise

    def restore(self, tell: Callable[[str], None] = warnings.warn) -> Saved | None:
        """The last complete checkpoint, or None if there is none.

        A damaged one is left out if there is an older one.

        tell: told in one line what was left out.

        Raises: ValueError naming the file if no checkpoint can be read.
        """
        if not (self.folder / _META).exists():
            if not self.steps:
                return None
            found = self._identity()
            if found is None or _differences(found, self._print):
                raise ValueError(
                    f"{self.folder / _META}: missing, and no checkpoint says that it is of this run; "
                    f"remove {self.folder} to begin the run anew"
                )
        damage: dict[Path, str] = {}
        for step in reversed(self.steps):
            try:
                saved = self._read(step)
            except Exception as error:  # what NumPy and zipfile raise of damaged files is without end
                damage[self.folder / str(step)] = (str(error).splitlines() or [type(error).__name__])[0]
                continue
            for path, reason in damage.items():
                tell(f"{path}: damaged checkpoint ({reason}), removed; going on from step {step}")
                shutil.rmtree(path, ignore_errors=True)
            if damage:
                self.close()  # it would still count the removed ones
            return saved
        if damage:
            each = " and ".join(f"{path}: damaged checkpoint ({reason})" for path, reason in damage.items())
            raise ValueError(f"{each}; there is no other; remove {self.folder} to begin the run anew")
        return None

    def _identity(self) -> dict[str, Any] | None:
        """What a checkpoint itself says of the run that it belongs to, if any can be read."""
        for step in reversed(self.steps):
            with contextlib.suppress(Exception), np.load(self._arrays(step), allow_pickle=False) as file:
                found = json.loads(str(file["about"]))
                if isinstance(found, dict):
                    return found
        return None

    def _arrays(self, step: int) -> Path:
        return self.folder / str(step) / "default" / "arrays.npz"  # `stored_arrays`, without orbax

    def _read(self, step: int) -> Saved:
        with np.load(self._arrays(step), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != "about"}
        part = lambda name: {k[len(name) :]: a for k, a in arrays.items() if k.startswith(name)}  # noqa: E731
        leaves, program = part("run/"), self._config.program
        static = signature(self._puzzle.canvas)
        shapes = as_trees(jax.eval_shape(lambda: init(static, program, key=jax.random.key(0))))
        wanted = jax.tree.leaves(shapes)
        found = [leaves[str(i)] for i in range(len(wanted))]
        for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
            if a.shape != b.shape:
                raise ValueError(f"array run/{i} has shape {a.shape}, expected {b.shape}")
        run = jax.tree.map(
            jax.numpy.asarray, as_vectors(jax.tree.unflatten(jax.tree.structure(shapes), found))
        )
        history = replay(part("history/"), part("answers/"))
        if history.steps != step or int(run.step) != step:
            raise ValueError(f"of step {int(run.step)} and a history of {history.steps} steps")
        return Saved(run, history)

    def clear(self) -> None:
        """Forgets what the folder holds: the run starts anew."""
        if self.folder.exists():
            with naming(self.folder):
                shutil.rmtree(self.folder)

    def close(self) -> None:
        """Waits for what is being written."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None
