"""Checkpoints of a run (orbax), from which it continues to the same result bit for bit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from compressarc.inputs import signature
from compressarc.puzzle import Puzzle
from compressarc.ranking import Ranking
from compressarc.solver import History, Run, SolveConfig, init

_META = "run.json"


def replace_file(path: Path, content: bytes) -> None:
    """Replaces a file's content in one step, so that a reader or a crash never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes of several hosts may write the same file, and share their numbers.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def write_atomically(path: Path, text: str) -> None:
    """As `replace_file`, for text."""
    replace_file(path, text.encode())


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
    return History(**history, ranking=ranking)


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
    ):
        """Checkpoints in `folder`.

        alone: this process writes them without the others of `jax.distributed`, who have runs
        of their own.

        Raises: ValueError if the folder holds the checkpoints of another puzzle, configuration or seed.
        """
        self._alone = alone
        self.folder = Path(folder).absolute()
        self._puzzle, self._config = puzzle, config
        self._print = _fingerprint(puzzle, config, key)
        self._manager: Any = None
        meta = self.folder / _META
        if meta.exists():
            found = json.loads(meta.read_text())
            differing = [k for k in self._print if found.get(k) != self._print[k]]
            if differing:
                shown = {k: found.get(k) for k in differing if k != "grids"}
                what = " and ".join(differing)
                raise ValueError(
                    f"{self.folder.parent}: holds a run with another {what} {shown or ''}; "
                    "choose another folder, or remove this one"
                )

    def _open(self) -> Any:
        if self._manager is None:
            import orbax.checkpoint as ocp  # takes seconds to import

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
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        return self._manager

    def save(self, run: Run, history: History) -> None:
        """Writes a checkpoint; it counts only once it is complete."""
        import orbax.checkpoint as ocp

        arrays = {f.name: getattr(history, f.name) for f in dataclasses.fields(history)}
        arrays.pop("ranking")
        tree = {
            "run": [np.asarray(leaf) for leaf in jax.tree.leaves(run)],
            "history": arrays,
            "answers": pack_answers(history.ranking),
        }
        self._open().save(history.steps, args=ocp.args.StandardSave(tree), force=True)

    def restore(self) -> tuple[Run, History] | None:
        """The last complete checkpoint, or None if there is none."""
        import orbax.checkpoint as ocp

        if not (self.folder / _META).exists():
            return None
        manager = self._open()
        latest = manager.latest_step()
        if latest is None:
            return None
        tree = manager.restore(latest, args=ocp.args.StandardRestore())
        tree = jax.tree.map(np.asarray, tree)
        program = self._config.program
        static = signature(self._puzzle.canvas)
        shapes = jax.eval_shape(lambda: init(static, program, key=jax.random.key(0)))
        leaves = [jax.numpy.asarray(leaf) for leaf in tree["run"]]
        run = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
        return run, replay(tree["history"], tree.get("answers") or {})

    def clear(self) -> None:
        """Forgets what the folder holds: the run starts anew."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def close(self) -> None:
        """Waits for what is being written."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None
