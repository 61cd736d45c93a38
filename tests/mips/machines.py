"""Exact machines and oracles of tasks, made without any network."""

import itertools

import numpy as np

from mips.reading.machine_extraction import Machine, alphabet, with_access
from mips.reading.oracle import Oracle


def machine_of(step, start, *, low=0, high=2, inputs=1):
    """The machine of a pure step function (state, inputs) -> (state, output), by breadth-first search."""
    letters = alphabet(low, high, inputs)
    number, queue, following, output = {start: 0}, [start], [], []
    for state in queue:
        row, says = [], []
        for letter in letters.tolist():
            after, y = step(state, *letter)
            if after not in number:
                number[after] = len(number)
                queue.append(after)
            row.append(number[after])
            says.append([y])
        following.append(row)
        output.append(says)
    return with_access(Machine(letters, np.array(following), np.array(output)))


class StepOracle(Oracle):
    """An oracle from a numpy step over batches, no jax in it."""

    def step(self, states, x):
        return self.advance(states, np.asarray(x))


def oracle_of(machine, *, noise=0.0, seed=0):
    """An oracle that follows a machine, with outputs wrong at a share of (history) places."""

    def advance(states, x):
        state, history = states
        symbol = machine.symbols_of(x[:, None])[:, 0]
        y = machine.output[state, symbol].copy()
        history = (history * 31 + symbol + 1) % 1_000_003
        if noise:
            wrong = np.random.default_rng(seed).random(1_000_003)[history] < noise
            y[wrong] = machine.output.max() - y[wrong]
        return (machine.next[state, symbol], history), y

    return StepOracle(advance, (np.int64(0), np.int64(7)), machine.alphabet.shape[1], machine.output.shape[2])


def words(symbols, length):
    return np.array(list(itertools.product(range(symbols), repeat=length)))


def adder(base):
    return machine_of(lambda c, x, w: ((c + x + w) // base, (c + x + w) % base), 0, high=base, inputs=2)


def divider(k):
    return machine_of(lambda r, x: ((2 * r + x) % k, (2 * r + x) // k), 0)


def counter_mod(k):
    return machine_of(lambda s, x: ((s + x) % k,) * 2, 0, high=k)


def dithering():
    return machine_of(lambda r, x: ((r + x) % 15, (r + x) // 15), 0, high=16)
