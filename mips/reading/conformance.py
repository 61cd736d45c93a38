"""Words by which a machine is compared with the network that it was read from."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from mips.reading.machine_extraction import Machine
from mips.reading.oracle import Oracle
from mips.tasks.task import Inputs


def telling_apart(machine: Machine) -> list[tuple[int, ...]]:
    """Words that together tell any two states of a minimal machine apart by their outputs.

    A characterization set, as the W-method (Chow, 1978) wants it. Raises ValueError for a machine with
    unknown moves.
    """
    if not machine.complete:
        raise ValueError("a machine with unknown moves has no characterization set")
    states, symbols = machine.next.shape
    # First symbol of a shortest word that tells a pair apart, found backwards; -1 while there is none.
    first = np.full((states, states), -1)
    for symbol in range(symbols):
        said = machine.output[:, symbol]
        differs = (said[:, None] != said[None]).any(axis=2)
        first = np.where((first < 0) & differs, symbol, first)
    while True:
        new = first.copy()
        for symbol in range(symbols):
            after = machine.next[:, symbol]
            new = np.where((new < 0) & (first[np.ix_(after, after)] >= 0), symbol, new)
        if np.array_equal(new, first):
            break
        first = new
    words: dict[tuple[int, ...], None] = {}
    apart = np.eye(states, dtype=bool)
    for a, b in np.argwhere(first >= 0).tolist():
        if apart[a, b]:
            continue
        word, one, two = [], a, b
        while True:
            symbol = int(first[one, two])
            word.append(symbol)
            if (machine.output[one, symbol] != machine.output[two, symbol]).any():
                break
            one, two = int(machine.next[one, symbol]), int(machine.next[two, symbol])
        words[tuple(word)] = None
        answers = _answers(machine, np.array(word))
        apart |= (answers[:, None] != answers[None]).any(axis=2)
    return list(words)


def _answers(machine: Machine, word: Int[np.ndarray, " length"]) -> Int[np.ndarray, "states everything"]:
    """Outputs on a word from every state."""
    state, said = np.arange(machine.states), []
    for symbol in word:
        said.append(machine.output[state, symbol])
        state = machine.next[state, symbol]
    return np.concatenate(said, axis=1)


def conformance_words(
    machine: Machine,
    *,
    length: int,
    extra: int = 1,
    most: int = 2000,
    seed: int = 0,
    known: Int[np.ndarray, "steps inputs"] | None = None,
) -> Inputs:
    """Inputs (count, length, inputs) of the W-method for up to `extra` more states than the machine has.

    To every state by its shortest word, then every word of up to `extra` + 1 symbols, then every word of the
    characterization set. Words are cut at `length` and continued at random up to it; where there are more
    than `most`, some are drawn. Where only some inputs of a step are `known`, words of others are left out.
    """
    rng = np.random.default_rng(seed)
    ends = telling_apart(machine) or [()]
    usable = np.arange(len(machine.alphabet))
    if known is not None:
        there = (machine.alphabet[:, None] == known[None]).all(axis=2).any(axis=1)
        usable = np.flatnonzero(there)
    middles: list[tuple[int, ...]] = [()]
    for _ in range(extra + 1):
        middles += [(*m, a) for m in middles for a in usable.tolist()] if len(middles) < most else []
    middles = list(dict.fromkeys(middles))
    total = machine.states * len(middles) * len(ends)
    numbers = np.arange(total) if total <= most else np.sort(rng.choice(total, most, replace=False))
    words = usable[rng.integers(0, len(usable), size=(len(numbers), length))]
    for row, number in zip(words, numbers.tolist(), strict=True):
        rest, end = divmod(number, len(ends))
        state, middle = divmod(rest, len(middles))
        word = (*machine.access[state], *middles[middle], *ends[end])[:length]
        row[: len(word)] = word
    return machine.alphabet[words[np.isin(words, usable).all(axis=1)]]


def distinguishing_suffix(
    oracle: Oracle, machine: Machine, word: Int[np.ndarray, " length"]
) -> Int[np.ndarray, " suffix_length"] | None:
    """A suffix of a word on which network and machine differ, that tells apart two merged states.

    After Rivest and Schapire (1993): the network is asked from the access word of the state that the machine
    is in after each prefix; where its last answer changes, the rest of the word is the suffix. None where
    the answer never changes, which means that it differs at the last move alone.
    """
    state, answers = 0, []
    for begin in range(len(word)):
        path = (*machine.access[state], *word[begin:].tolist())
        answers.append(oracle.run(machine.alphabet[np.array(path)][None])[0, -1])
        state = int(machine.next[state, word[begin]])
    for begin in range(len(word) - 1):
        if (answers[begin] != answers[begin + 1]).any():
            return word[begin + 1 :]
    return None
