"""Finite-state machines with outputs (Mealy machines), and reading them out of a network."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Int

from mips.reading.oracle import Oracle, States, take
from mips.tasks.task import Inputs, Outputs

if TYPE_CHECKING:
    from automata.fa.dfa import DFA


@dataclasses.dataclass(frozen=True, eq=False)
class Machine:
    """States 0 (initial), 1, ...; symbols are rows of `alphabet`; -1 marks an unknown transition."""

    alphabet: Int[np.ndarray, "symbols inputs"]
    """inputs of every symbol"""
    next: Int[np.ndarray, "states symbols"]
    """next state"""
    output: Int[np.ndarray, "states symbols outputs"]
    """outputs of every move"""
    access: tuple[tuple[int, ...], ...] = ()
    """a shortest word of symbols that leads to each state"""

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.next)

    @property
    def complete(self) -> bool:
        """Whether every transition is known."""
        return bool((self.next >= 0).all())

    def symbols_of(self, x: Inputs) -> Int[np.ndarray, "count length"]:
        """Symbol numbers of inputs."""
        return encode(self.alphabet, x)

    def run(self, x: Inputs) -> Outputs:
        """Outputs on whole sequences. Unknown transitions stay where they are."""
        symbols = self.symbols_of(x)
        state = np.zeros(len(x), np.int64)
        columns = []
        for t in range(x.shape[1]):
            columns.append(self.output[state, symbols[:, t]])
            after = self.next[state, symbols[:, t]]
            state = np.where(after >= 0, after, state)
        return np.stack(columns, axis=1)

    def to_json(self) -> dict[str, Any]:
        """Plain data: alphabet, next states, outputs, access words."""
        return {
            "alphabet": self.alphabet.tolist(),
            "next": self.next.tolist(),
            "output": self.output.tolist(),
            "access": [list(w) for w in self.access],
        }

    @classmethod
    def from_json(cls, data: Any) -> Machine:
        """Inverse of `to_json`. Raises KeyError, TypeError or ValueError for anything else."""
        letters = _read_integers("alphabet", data["alphabet"], 2)
        following = _read_integers("next", data["next"], 2)
        output = _read_integers("output", data["output"], 3)
        states, symbols = following.shape
        if len(letters) != symbols or output.shape[:2] != (states, symbols):
            raise ValueError(
                f"alphabet of {len(letters)} symbols, next of shape {following.shape} and output of shape "
                f"{output.shape} do not fit"
            )
        if following.min() < -1 or following.max() >= states:
            raise ValueError(f"next names states from {following.min()} to {following.max()} of {states}")
        access = tuple(tuple(word) for word in data["access"])
        if len(access) not in (0, states) or not all(
            type(s) is int and 0 <= s < symbols for word in access for s in word
        ):
            raise ValueError("access is not a word of symbols for each state")
        return cls(letters, following, output, access)

    def to_automaton(self) -> DFA:
        """An automata-lib DFA that accepts the machine's own traces, words of (symbol, outputs...).

        That language says everything about a machine, so tools for automata serve it as well.
        """
        from automata.fa.dfa import DFA

        transitions: dict[int, dict[tuple[int, ...], int]] = {s: {} for s in range(self.states)}
        for state, symbol in np.argwhere(self.next >= 0).tolist():
            label = (symbol, *map(int, self.output[state, symbol]))
            transitions[state][label] = int(self.next[state, symbol])
        return DFA(
            states=set(transitions),
            input_symbols={label for row in transitions.values() for label in row},  # pyright: ignore[reportArgumentType]  typed as str, any hashable symbol will do
            transitions=transitions,  # pyright: ignore[reportArgumentType]  typed for str, any hashable symbol will do
            initial_state=0,
            final_states=set(transitions),
            allow_partial=True,
        )

    def edges(self) -> dict[tuple[int, int], list[str]]:
        """Labels "input/output" of the moves between each two states; unknown moves are left out."""
        found: dict[tuple[int, int], list[str]] = {}
        for state in range(self.states):
            for symbol, after in enumerate(self.next[state]):
                if after >= 0:
                    read = ",".join(map(str, self.alphabet[symbol]))
                    say = ",".join(map(str, self.output[state, symbol]))
                    found.setdefault((state, int(after)), []).append(f"{read}/{say}")
        return found

    def to_dot(self) -> str:
        """The machine in Graphviz's language."""
        lines = [
            "digraph machine {",
            "  rankdir=LR; node [shape=circle]; start [shape=point];",
            "  start -> 0;",
        ]
        for (state, after), labels in self.edges().items():
            lines.append(f'  {state} -> {after} [label="{_shorten(labels)}"];')
        return "\n".join([*lines, "}"]) + "\n"


def _read_integers(key: str, data: Any, axes: int) -> Int[np.ndarray, "..."]:
    """Stored integers as an array. Raises ValueError, naming the key, for anything else."""
    try:
        array = np.array(data)
    except ValueError:
        array = np.empty(0, object)  # ragged
    if array.ndim != axes or not array.size or array.dtype != np.int64:
        raise ValueError(f"{key} is not a table of integers with {axes} axes")
    return array


def _shorten(labels: list[str], most: int = 6) -> str:
    return "  ".join(labels if len(labels) <= most else [*labels[: most - 1], f"(+{len(labels) - most + 1})"])


def alphabet(low: int, high: int, inputs: int) -> Int[np.ndarray, "symbols inputs"]:
    """All inputs of a step, last channel fastest."""
    axes = [np.arange(low, high)] * inputs
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, inputs)


def encode(letters: Int[np.ndarray, "symbols inputs"], x: Inputs) -> Int[np.ndarray, "count length"]:
    """Symbol numbers of inputs over a full alphabet."""
    low, width = letters[0, 0], letters[-1, 0] - letters[0, 0] + 1
    if x.size and (x.min() < low or x.max() >= low + width):
        raise ValueError(f"inputs from {x.min()} to {x.max()}; the alphabet is {low} to {low + width - 1}")
    symbols = np.zeros(x.shape[:-1], np.int64)
    for channel in range(x.shape[-1]):
        symbols = symbols * width + (x[..., channel] - low)
    return symbols


def suffixes(
    symbols: int, length: int, *, limit: int = 400, seed: int = 0
) -> list[Int[np.ndarray, "_words _length"]]:
    """Words to tell states apart by, as one array for each length up to `length`.

    All words, or `limit` random ones of a length that has more. A word's outputs contain those of its
    prefixes, so where all words of the greatest length are there, shorter ones add nothing.
    """
    if symbols**length <= limit:
        return [np.array(list(itertools.product(range(symbols), repeat=length)))]
    shorter = suffixes(symbols, length - 1, limit=limit, seed=seed) if length > 1 else []
    rng = np.random.default_rng((seed, length))
    return [*shorter, rng.integers(0, symbols, size=(limit, length))]


def signatures(
    oracle: Oracle,
    states: States,
    letters: Int[np.ndarray, "symbols inputs"],
    words: list[Int[np.ndarray, "_words _length"]],
) -> Int[np.ndarray, "states everything"]:
    """Outputs of the network from each state on each word."""
    import jax

    count = len(jax.tree.leaves(states)[0])
    parts = []
    for group in words:
        rows = np.repeat(np.arange(count), len(group))
        x = np.tile(letters[group], (count, 1, 1))
        parts.append(oracle.run(x, take(states, rows)).reshape(count, -1))
    return np.concatenate(parts, axis=1)


def extract(
    oracle: Oracle,
    letters: Int[np.ndarray, "symbols inputs"],
    *,
    suffix: int,
    most_states: int = 300,
    extra: Sequence[Int[np.ndarray, "_words _length"]] = (),
) -> Machine | None:
    """The machine whose states are the distinct behaviors on short suffixes (a batched L*).

    Every state is asked through its shortest access word only, which is where a network is most
    reliable. None when there are more than `most_states` behaviors.

    extra: longer words to tell states apart by, beside those of `suffix` symbols.
    """
    symbols = len(letters)
    words = [*suffixes(symbols, suffix), *extra]
    start = oracle.initial(1)
    known = {signatures(oracle, start, letters, words).tobytes(): 0}
    access: list[tuple[int, ...]] = [()]
    rows: list[Int[np.ndarray, "_states symbols"]] = []
    outputs: list[Int[np.ndarray, "_states symbols outputs"]] = []
    frontier, names = start, [0]
    while names:
        count = len(names)
        x = np.tile(letters, (count, 1))
        after, y = oracle.step(take(frontier, np.repeat(np.arange(count), symbols)), x)
        found = signatures(oracle, after, letters, words)
        fresh = []
        row = np.empty(count * symbols, np.int64)
        for i, signature in enumerate(found):
            key = signature.tobytes()
            if key not in known:
                known[key] = len(known)
                fresh.append(i)
                access.append((*access[names[i // symbols]], i % symbols))
                if len(known) > most_states:
                    return None
            row[i] = known[key]
        rows.append(row.reshape(count, symbols))
        outputs.append(y.reshape(count, symbols, -1))
        names = [int(row[i]) for i in fresh]
        frontier = take(after, np.array(fresh, np.int64))
    return Machine(letters, np.concatenate(rows), np.concatenate(outputs), tuple(access))


def extract_to_horizon(
    oracle: Oracle, letters: Int[np.ndarray, "symbols inputs"], *, depth: int, length: int
) -> Machine | None:
    """The part of a (perhaps infinite) machine that sequences of the training length reach.

    Prefixes up to `depth`, told apart by all suffixes of `length - depth` (random ones where these are
    many), so that the network is never asked beyond what it was trained on. Transitions at the last
    depth are unknown. None where there are too many prefixes.
    """
    symbols = len(letters)
    # The last layer is the largest: what the network may be asked there decides how many suffixes.
    widest = min(symbols**depth, 300 * symbols)
    limit = int(np.clip(500_000 // (widest * (length - depth)), 60, 1100))
    words = suffixes(symbols, length - depth, limit=limit)
    known: dict[bytes, int] = {}
    access: list[tuple[int, ...]] = []
    layer, prefixes = oracle.initial(1), [()]
    first: list[Int[np.ndarray, "_states symbols outputs"]] = []
    edges: list[tuple[int, int, int]] = []
    parents: list[tuple[int, int]] = [(-1, -1)]
    singles = letters[np.arange(symbols)]
    for level in range(depth + 1):
        found = signatures(oracle, layer, letters, words)
        numbers = []
        fresh = []
        for i, signature in enumerate(found):
            key = signature.tobytes()
            if key not in known:
                known[key] = len(known)
                access.append(prefixes[i])
                fresh.append(i)
            numbers.append(known[key])
            if parents[i][0] >= 0:
                edges.append((*parents[i], known[key]))
        if fresh:
            rows = np.repeat(np.array(fresh), symbols)
            after, y = oracle.step(take(layer, rows), np.tile(singles, (len(fresh), 1)))
            first.append(y.reshape(len(fresh), symbols, -1))
        if level == depth or not fresh:
            break
        if len(known) > 300:
            return None
        # Every state is followed from its first prefix only.
        layer = after
        parents = [(numbers[i], a) for i in fresh for a in range(symbols)]
        prefixes = [(*prefixes[i], a) for i in fresh for a in range(symbols)]
    table = np.full((len(known), symbols), -1)
    for state, symbol, after_state in edges:
        table[state, symbol] = after_state
    return Machine(letters, table, np.concatenate(first), tuple(access))


def minimize(machine: Machine) -> Machine:
    """The smallest machine with the same behavior, by automata-lib.

    Canonical: states are numbered breadth-first. Raises ValueError for a machine with unknown moves.
    """
    if not machine.complete:
        raise ValueError("a machine with unknown moves has no single smallest form")
    automaton = machine.to_automaton().minify()
    order = _breadth_first(automaton)
    number = {s: i for i, s in enumerate(order)}
    # automata-lib types its symbols as str; these are the labels of `to_automaton`.
    transitions = cast("Mapping[Hashable, Mapping[tuple[int, ...], Hashable]]", automaton.transitions)
    moves = [{label[0]: (label[1:], after) for label, after in transitions[s].items()} for s in order]
    symbols = range(len(machine.alphabet))
    following = np.array([[number[row[a][1]] for a in symbols] for row in moves])
    output = np.array([[row[a][0] for a in symbols] for row in moves])
    return with_access(Machine(machine.alphabet, following, output))


def _breadth_first(automaton: DFA) -> list[Hashable]:
    order, seen = [automaton.initial_state], {automaton.initial_state}
    for state in order:
        for label in sorted(automaton.transitions[state]):
            after = automaton.transitions[state][label]
            if after not in seen:
                seen.add(after)
                order.append(after)
    return order


def with_access(machine: Machine) -> Machine:
    """The machine with a shortest access word for every state."""
    words: dict[int, tuple[int, ...]] = {0: ()}
    queue = [0]
    for state in queue:
        for symbol, after in enumerate(machine.next[state]):
            if after >= 0 and int(after) not in words:
                words[int(after)] = (*words[state], symbol)
                queue.append(int(after))
    return dataclasses.replace(machine, access=tuple(words[s] for s in range(machine.states)))


def isomorphic(a: Machine, b: Machine) -> bool:
    """Whether two machines behave alike (both are minimized first)."""
    a, b = minimize(a), minimize(b)
    parts = ((a.alphabet, b.alphabet), (a.next, b.next), (a.output, b.output))
    return all(np.array_equal(one, two) for one, two in parts)


def extract_by_majority(
    oracle: Oracle, letters: Int[np.ndarray, "symbols inputs"], x: Inputs, *, suffix: int
) -> Iterator[Machine]:
    """Machines by vote: what most visits to a behavior do next (denoising).

    All states that the network passes through on the sequences x are sorted by their outputs on short
    suffixes. Frequent behaviors become states; rare ones, which are mostly errors, count as the nearest
    frequent one. How many are frequent: one machine for each of the largest drops in the counts.
    """
    words = suffixes(len(letters), suffix)
    symbols = encode(letters, x)
    count, length = symbols.shape
    states = oracle.initial(count)
    visited, answers = [], []
    for t in range(length):
        visited.append(signatures(oracle, states, letters, words))
        states, y = oracle.step(states, x[:, t])
        answers.append(y)
    visited.append(signatures(oracle, states, letters, words))
    everything = np.stack(visited, axis=1).reshape(count * (length + 1), -1)
    kinds, number, frequency = np.unique(everything, axis=0, return_inverse=True, return_counts=True)
    number = number.ravel()
    order = np.argsort(-frequency, kind="stable")
    if len(order) > 5000:
        return
    drops = frequency[order][:-1] / frequency[order][1:]
    for cut in (
        *np.argsort(-drops[:300], kind="stable")[:8],
        *([len(order) - 1] if len(order) <= 300 else []),
    ):
        kept = order[: cut + 1]
        nearest = np.array([(kinds[kept] != k).sum(axis=1).argmin() for k in kinds])
        path = nearest[number].reshape(count, length + 1)
        machine = _vote(letters, path, symbols, np.stack(answers, axis=1), len(kept))
        if machine is not None:
            yield machine


def _vote(
    letters: Int[np.ndarray, "symbols inputs"],
    path: Int[np.ndarray, "count visits"],
    symbols: Int[np.ndarray, "count length"],
    answers: Int[np.ndarray, "count length outputs"],
    states: int,
) -> Machine | None:
    here, there, read = path[:, :-1].ravel(), path[:, 1:].ravel(), symbols.ravel()
    values, answer = np.unique(answers.reshape(len(read), -1), axis=0, return_inverse=True)
    moves = np.zeros((states, len(letters), states), np.int64)
    says = np.zeros((states, len(letters), len(values)), np.int64)
    np.add.at(moves, (here, read, there), 1)
    np.add.at(says, (here, read, answer.ravel()), 1)
    if (moves.sum(axis=2) == 0).any():
        return None
    start = int(np.bincount(path[:, 0]).argmax())
    renumber = np.arange(states)
    renumber[[0, start]] = [start, 0]
    following = renumber[moves.argmax(axis=2)][renumber]
    output = values[says.argmax(axis=2)][renumber]
    return with_reachable(Machine(letters, following, output))


def with_reachable(machine: Machine) -> Machine:
    """The states that can be reached from the initial one, numbered breadth-first."""
    order, seen = [0], {0}
    for state in order:
        for after in map(int, machine.next[state]):
            if after >= 0 and after not in seen:
                seen.add(after)
                order.append(after)
    number = np.full(machine.states + 1, -1)
    number[order] = np.arange(len(order))
    return with_access(Machine(machine.alphabet, number[machine.next[order]], machine.output[order]))
