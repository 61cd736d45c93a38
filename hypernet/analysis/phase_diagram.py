"""Phase diagrams: which algorithm generators draw, against beta and against training time."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray, Real, Shaped

from hypernet.analysis.measure import Measured, check_betas, measure
from hypernet.classification.order_parameters import LABELS
from hypernet.files import replacing, write_json
from hypernet.training.step import Info, Run, TrainConfig
from hypernet.training.train import Trained, train
from hypernet.validation import whole

LOG10_BETAS = (-6.0, -5.0, -4.0, -3.5, -3.0, -2.5, -2.0, -1.0, 0.0)


# of a diagram, that a look holds: its fields behind n, steps and log10_betas
_COLUMNS = ("label", "nmse", "nats", "loss", "L", "A", "S")


class GroundState(NamedTuple):
    """The branch of least loss at one beta."""

    log10_beta: float
    label: str
    loss: float  # best seed's median
    seed: int
    losses: dict[str, float]  # best seed's median of every label seen


class PhaseDiagram(NamedTuple):
    """Networks of every seed at every beta, at looks during training: (looks, seeds, betas, networks)."""

    n: int
    steps: Int[np.ndarray, " looks"]
    log10_betas: Float[np.ndarray, " betas"]
    label: Int[np.ndarray, "looks seeds betas networks"]  # index into LABELS
    nmse: Float[np.ndarray, "looks seeds betas networks"]
    nats: Float[np.ndarray, "looks seeds betas networks"]
    loss: Float[np.ndarray, "looks seeds betas networks"]
    L: Float[np.ndarray, "looks seeds betas networks"]
    A: Float[np.ndarray, "looks seeds betas networks"]
    S: Float[np.ndarray, "looks seeds betas networks"]

    def shares(self, look: int = -1) -> Float[np.ndarray, "betas labels"]:
        """Share of every label among all seeds' networks, in the order of LABELS."""
        label = self.label[look]
        return np.stack([(label == k).mean(axis=(0, 2)) for k in range(len(LABELS))], axis=-1)

    def branches(self, look: int = -1) -> Shaped[np.ndarray, "seeds betas"]:
        """The commonest label of every seed at every beta: (seeds, betas) names."""
        counts = np.stack([(self.label[look] == k).sum(-1) for k in range(len(LABELS))], axis=-1)
        return np.asarray(LABELS)[counts.argmax(-1)]

    def ground_states(self, look: int = -1) -> list[GroundState]:
        """For every beta, the branch of the seed with the least median loss.

        Within one training the broken symmetry persists, so the ground state takes several seeds.
        """
        branches, median = self.branches(look), np.median(self.loss[look], axis=-1)
        found = []
        for j, lb in enumerate(self.log10_betas):
            seed = int(median[:, j].argmin())
            losses = {
                str(name): float(median[branches[:, j] == name, j].min())
                for name in np.unique(branches[:, j])
            }
            found.append(GroundState(float(lb), str(branches[seed, j]), float(median[seed, j]), seed, losses))
        return found

    def write_csv(self, path: str | Path) -> Path:
        """One row per look, seed and beta, written whole or not at all."""
        header = ("step", "seed", "log10_beta", *LABELS, "nmse", "nats", "bits", "loss", "L", "A", "S")
        path = Path(path)
        with replacing(path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for t, s, j in np.ndindex(self.label.shape[:3]):
                at = (t, s, j)
                shares = [float((self.label[at] == k).mean()) for k in range(len(LABELS))]
                nats = float(np.median(self.nats[at]))
                medians = [float(np.median(a[at])) for a in (self.loss, self.L, self.A, self.S)]
                row = [*shares, float(np.median(self.nmse[at])), nats, nats / np.log(2), *medians]
                writer.writerow(
                    [int(self.steps[t]), s, float(self.log10_betas[j]), *(f"{value:.6g}" for value in row)]
                )
        return path


def _numbers(measured: Measured) -> dict[str, Real[np.ndarray, "seeds betas networks"]]:
    if measured.order is None or measured.label is None:
        raise ValueError("phases are known for networks with one hidden layer and one output")
    index = {name: k for k, name in enumerate(LABELS)}
    return {
        "label": np.vectorize(index.__getitem__, otypes=[np.int8])(measured.label),
        "nmse": measured.nmse.astype(np.float32),
        "nats": measured.nats.astype(np.float32),
        "loss": measured.loss.astype(np.float32),
        "L": np.asarray(measured.order.L, np.float32),
        "A": np.asarray(measured.order.A, np.float32),
        "S": np.asarray(measured.order.S, np.float32),
    }


def phase_diagram(
    seeds: int = 8,
    log10_betas: Sequence[float] = LOG10_BETAS,
    steps: int = 4000,
    *,
    key: PRNGKeyArray | None = None,
    n: int = 16,
    networks: int = 16,
    looks: int = 10,
    config: TrainConfig = TrainConfig(),  # noqa: B008, frozen
    out: str | Path | None = None,
    resume: bool = False,
    on_chunk: Callable[[Run, Info], None] | None = None,
) -> tuple[PhaseDiagram, Trained]:
    """Trains generators side by side and looks, ten times by default, at what they draw.

    Args:
        n: size of the networks that are looked at.
        networks: drawn per seed, beta and look.
        looks: looks during training, evenly spaced; the last is at its end.
        config: everything else of the training.
        out: folder for checkpoints and looks; a killed run continues with `resume` to the same result.
    Raises: ValueError as `train`, for several hidden layers or outputs, and for betas outside the trained
        range.
    """
    for name, value in (("looks", looks), ("networks", networks), ("steps", steps), ("seeds", seeds)):
        whole(name, value)
    chunk = min(config.chunk, max(1, steps // looks))
    config = dataclasses.replace(config, seeds=seeds, steps=steps, chunk=chunk)
    check_betas(config.generator, log10_betas)
    config.generator.assignment.check_size(n)
    config.target.check_size(n)
    if len(config.generator.assignment.slots) != 1 or config.generator.outputs is not None:
        raise ValueError("phases are known for networks with one hidden layer and one output")
    key = jax.random.key(0) if key is None else key
    times = sorted({-(-steps * k // (looks * config.chunk)) * config.chunk for k in range(1, looks + 1)})
    times = sorted({min(t, steps) for t in times})
    folder = None if out is None else Path(out) / "looks"
    if folder is not None:
        _check_looks(
            folder,
            {"n": n, "networks": networks, "log10_betas": list(map(float, log10_betas)), "steps": times},
        )
    found: dict[int, dict[str, Real[np.ndarray, "seeds betas networks"]]] = {}

    def look(run: Run, info: Info) -> None:
        at = int(run.step)
        if at in times:
            measured = measure(
                run.generators, config.target, jax.random.fold_in(key, 10**6 + at), n, log10_betas,
                networks=networks, points=1024,
            )  # fmt: skip
            found[at] = _numbers(measured)
            if folder is not None:
                _write(folder / f"{at}.npz", found[at])
        if on_chunk is not None:
            on_chunk(run, info)

    trained = train(config, key, out=out, resume=resume, on_chunk=look)
    for at in times:
        if at not in found and folder is not None:  # looked at before the run was interrupted
            found[at] = _read(folder / f"{at}.npz")
    columns = {name: np.stack([found[at][name] for at in times]) for name in found[times[0]]}
    diagram = PhaseDiagram(n, np.asarray(times), np.asarray(log10_betas, float), **columns)
    return diagram, trained


def _check_looks(folder: Path, wanted: dict[str, object]) -> None:
    """Notes how a folder's looks are made; ValueError if they were made otherwise."""
    about = folder / "looks.json"
    if about.is_file():
        try:
            found = json.loads(about.read_text())
            if not isinstance(found, dict):
                raise TypeError("expected an object")
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{about} is damaged ({error}): remove {folder}, or use another folder"
            ) from error
        if differing := [
            f"{k}: {found.get(k)} there, {v} here" for k, v in wanted.items() if found.get(k) != v
        ]:
            raise ValueError(
                f"{folder.parent} holds other looks ({'; '.join(differing)}): use those, or another folder"
            )
    write_json(about, wanted)


def _read(path: Path) -> dict[str, Real[np.ndarray, "seeds betas networks"]]:
    """A look of an interrupted run. Raises: ValueError if it is missing or damaged."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: the run was trained without this look; use another folder")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in _COLUMNS}
    except Exception as error:  # zipfile, zlib and NumPy's parser of headers raise what they like
        raise ValueError(f"{path} is damaged ({error}): use another folder") from error


def _write(path: Path, arrays: dict[str, Real[np.ndarray, "seeds betas networks"]]) -> None:
    with replacing(path) as partial, partial.open("wb") as file:
        named: dict[str, Any] = dict(arrays)  # NumPy types no names beyond its own
        np.savez(file, **named)
