"""A program against the network that it was read from: how far they agree, and where they do not."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mips.judging.verification import Counterexample
from mips.programs.program import Program
from mips.reading.conformance import conformance_words
from mips.reading.machine_extraction import Machine, minimize
from mips.reading.oracle import Oracle
from mips.tasks.skewed import skewed
from mips.tasks.task import MISSING, Inputs, Outputs, Task

_DRAWN, _SKEWED, _BEYOND = 2_000, 800, 300
_PRECISION, _FEWEST = 0.6, 5  # from which on exceptions are said to follow a rule
_VALUES = 24  # of an input that conditions name one by one


@dataclasses.dataclass(frozen=True)
class Exceptions:
    """Where a network says something else than the program, and not by chance."""

    condition: str
    """what holds there"""
    precision: float
    """share of the steps under that condition at which the network says something else"""
    recall: float
    """share of all differences that the condition covers"""
    count: int
    """sequences that differ under the condition"""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Shares of whole sequences on which program and network say the same, right or wrong."""

    drawn: float
    """of sequences as the task draws them, of the training length"""
    drawn_count: int
    skewed: float
    """of sorted, sticky, constant, ... ones of that length"""
    skewed_count: int
    words: float | None
    """of the words of a conformance test, where there is a machine; cut at that length"""
    words_count: int
    beyond: float
    """of sequences of four times the training length, drawn and skewed"""
    beyond_count: int
    beyond_length: int
    disagreement: Counterexample | None
    """a shortest input on which they differ; `expected` is the network's answer"""
    exceptions: Exceptions | None
    """where the differences at the training length follow a rule"""

    @property
    def inside(self) -> bool:
        """Whether they agree on everything of the training length that was compared."""
        return self.drawn == 1.0 and self.skewed == 1.0 and self.words in (None, 1.0)

    @property
    def faithful(self) -> bool:
        """Whether they agree on everything that was compared, longer sequences included."""
        return self.inside and self.beyond == 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self) | {"faithful": self.faithful, "inside": self.inside}


def compare(
    program: Program, network: Oracle, task: Task, machine: Machine | None = None, *, seed: int = 1_000_004
) -> Comparison:
    """Compares a program with its network, inside and beyond the training length.

    machine: what the program is a formula of, if it was read; its conformance test is added where every move
        is known.
    """
    length, longer = task.length, 4 * task.length
    drawn = task.draw((seed, 0), _DRAWN)
    odd = skewed(task, (seed, 1), _SKEWED, length)
    far = [skewed(task, (seed, 3), _BEYOND, longer)]
    if task.reference is not None:
        far.append(task.draw((seed, 2), _BEYOND, longer))
    parts = {"drawn": drawn, "skewed": odd, "beyond": np.concatenate(far)}
    if machine is not None and machine.complete:
        words = conformance_words(minimize(machine), length=length, known=task.recorded_steps)
        if len(words):
            parts["words"] = words
    differs, shares = {}, {}
    best: Counterexample | None = None
    for name, x in parts.items():
        told = answers(network, x)
        got, codes = program.attempt(x)
        differs[name] = (told != got).any(axis=2) | (codes != 0)
        shares[name] = float((~differs[name].any(axis=1)).mean())
        found = _shortest(x, told, got, codes, differs[name])
        if found is not None and (best is None or len(found.x) < len(best.x)):
            best = found
    return Comparison(
        shares["drawn"],
        len(drawn),
        shares["skewed"],
        len(odd),
        shares.get("words"),
        len(parts.get("words", ())),
        shares["beyond"],
        len(parts["beyond"]),
        longer,
        best,
        exceptions_of(drawn, differs["drawn"]),
    )


def answers(network: Oracle, x: Inputs) -> Outputs:
    """What a network says; `MISSING` where that is no number, as may be beyond what it was trained on."""
    try:
        return network.run(x)
    except ValueError:
        return np.full((*x.shape[:2], network.outputs), MISSING)


def _shortest(
    x: Inputs,
    told: Int[np.ndarray, "count length outputs"],
    got: Int[np.ndarray, "count length outputs"],
    codes: Int[np.ndarray, "count length"],
    differs: Bool[np.ndarray, "count length"],
) -> Counterexample | None:
    rows = np.flatnonzero(differs.any(axis=1))
    if not len(rows):
        return None
    row = int(rows[differs[rows].argmax(axis=1).argmin()])
    t = int(differs[row].argmax())
    said = None if codes[row, t] else got[row, t].tolist()
    return Counterexample(x[row, : t + 1].tolist(), told[row, t].tolist(), said)


def exceptions_of(x: Inputs, differs: Bool[np.ndarray, "count length"]) -> Exceptions | None:
    """A condition under which differences are the rule, if one explains half of them; None otherwise.

    Conditions: the present input, one of the two before, one of the first three, the place in the sequence,
    what has occurred, and pairs of these. Only the first difference of a sequence counts, and the steps up
    to it: later ones may follow from it. A network's scattered errors meet no condition of this kind.
    """
    first = np.where(differs.any(axis=1), differs.argmax(axis=1), differs.shape[1])
    steps = np.arange(differs.shape[1])
    looked_at = steps <= first[:, None]
    target = (differs & (steps == first[:, None]))[looked_at]
    total = int(target.sum())
    if total < _FEWEST:
        return None
    atoms = _atoms(x)
    table = np.stack([values[looked_at] for values in atoms.values()], axis=1).astype(np.float32)
    under = table.T @ table  # steps under both conditions; under one alone on the diagonal
    hits = table[target].T @ table[target]
    precision = hits / np.maximum(under, 1)
    good = (hits >= max(_FEWEST, total / 2)) & (precision >= _PRECISION)
    if not good.any():
        return None
    single = np.eye(len(under), dtype=bool)
    score = np.where(good, hits + single * 0.02 * total, -1)  # one condition rather than two
    one, two = np.unravel_index(int(score.argmax()), score.shape)
    names = list(atoms)
    condition = names[one] if one == two else f"{names[one]} and {names[two]}"
    count = int(hits[one, two])
    return Exceptions(condition, float(precision[one, two]), count / total, count)


def _atoms(x: Inputs) -> dict[str, Bool[np.ndarray, "count length"]]:
    """Conditions on every step of every sequence, by name."""
    count, length, inputs = x.shape
    names = ["x", "w", "z", "r"][:inputs] if inputs <= 4 else [f"in{i}_" for i in range(inputs)]
    atoms: dict[str, Bool[np.ndarray, "count length"]] = {}
    for channel, name in enumerate(names):
        values = x[..., channel]
        for word, test in _tests(values):
            now = test(values)
            atoms[f"{name} {word}"] = now
            for lag, said in ((1, f"the {name} before"), (2, f"the {name} two steps before")):
                if lag < length:
                    earlier = np.zeros_like(now)
                    earlier[:, lag:] = now[:, :-lag]
                    atoms[f"{said} {word}"] = earlier
            for place in range(min(3, length)):
                since = np.arange(length) >= place
                atoms[f"input {place + 1} ({name}) {word}"] = now[:, place : place + 1] & since[None]
            occurred = np.logical_or.accumulate(now, axis=1)
            before = np.zeros_like(now)
            before[:, 1:] = occurred[:, :-1]
            atoms[f"an earlier {name} {word}"] = before
    for t in range(length):
        atoms[f"it is step {t + 1}"] = np.broadcast_to(np.arange(length) == t, (count, length))
    return atoms


def _tests(values: Int[np.ndarray, "count length"]) -> list[tuple[str, Any]]:
    """Questions about one number: equal to a value, or beyond a threshold where there are many values."""
    seen = np.unique(values)
    if len(seen) <= _VALUES:
        return [(f"= {v}", lambda a, v=v: a == v) for v in seen.tolist()]
    marks: Float[np.ndarray, " marks"] = np.quantile(values, np.arange(1, 20) / 20)
    found = []
    for v in np.unique(np.round(marks).astype(np.int64)).tolist():
        found += [(f">= {v}", lambda a, v=v: a >= v), (f"< {v}", lambda a, v=v: a < v)]
    return found
