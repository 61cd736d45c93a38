"""Tasks on bits: logic, parities, counts, patterns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from mips.tasks.task import Channel, Inputs, Outputs, Sequences, Task, lagged, scan


def _window_sum(k: int) -> Callable[[Inputs], Outputs]:
    return lambda x: np.add.reduce([lagged(x, i) for i in range(k)])


def _parity_last(k: int) -> Task:
    return Task(
        f"Parity_Last{k}",
        lambda x: _window_sum(k)(x) % 2,
        0,
        2,
        description=f"sum of the last {k} bits mod 2",
    )


def _alternating_last(k: int) -> Task:
    def reference(x: Sequences) -> Sequences:
        different = [lagged(x, i) != lagged(x, i + 1) for i in range(k - 1)]
        # Zeros stand before the start, so an alternation may begin there (…0|1010).
        return np.logical_and.reduce(different).astype(np.int64)

    return Task(f"Alternating_Last{k}", reference, 0, 2, description=f"1 iff the last {k} bits alternate")


def _majority(symbols: int) -> Task:
    def reference(x: Channel) -> Channel:
        counts = np.cumsum(x == np.arange(symbols), axis=1)
        return counts.argmax(axis=2)[..., None]

    return Task(
        f"Majority_0_{symbols - 1}",
        reference,
        0,
        symbols,
        description="the most frequent symbol so far, the smallest of several",
    )


def _palindrome(x: Sequences) -> Sequences:
    prefixes = [x[:, : t + 1] for t in range(x.shape[1])]
    return np.stack([(p == p[:, ::-1]).all(axis=1) for p in prefixes], axis=1).astype(np.int64)


def _planted_palindromes(rng: np.random.Generator, count: int, length: int) -> Channel:
    """Uniform bits whose first m (uniform in 2..length) form a palindrome."""
    x = rng.integers(0, 2, size=(count, length, 1))
    m = rng.integers(min(2, length), length + 1, size=count)[:, None]  # one bit is a palindrome
    t = np.arange(length)
    mirrored = np.where(t < m, np.minimum(t, m - 1 - t), t)
    return np.take_along_axis(x[..., 0], mirrored, axis=1)[..., None]


def _balanced(x: Sequences) -> Sequences:
    balance = np.cumsum(1 - 2 * x, axis=1)
    alive = np.minimum.accumulate(balance, axis=1) >= 0
    return (alive & (balance == 0)).astype(np.int64)


def _pairs(name: str, rule: Callable[[Channel, Channel], Channel], description: str) -> Task:
    return Task(name, lambda x: rule(x[..., :1], x[..., 1:]), 0, 2, inputs=2, description=description)


TASKS = (
    _pairs("Bitwise_Xor", lambda x, w: x ^ w, "x xor w"),
    _pairs("Bitwise_Or", lambda x, w: x | w, "x or w"),
    _pairs("Bitwise_And", lambda x, w: x & w, "x and w"),
    Task("Bitwise_Not", lambda x: 1 - x, 0, 2, description="not x"),
    *map(_parity_last, (2, 3, 4)),
    Task("Parity_All", lambda x: np.cumsum(x, axis=1) % 2, 0, 2, description="parity of the ones so far"),
    Task(
        "Parity_Zeros", lambda x: np.cumsum(1 - x, axis=1) % 2, 0, 2, description="parity of the zeros so far"
    ),
    *map(_majority, (2, 3, 4)),
    Task(
        "Bit_Palindrome",
        _palindrome,
        0,
        2,
        sampler=_planted_palindromes,
        description="1 iff the bits so far read the same backwards",
    ),
    Task(
        "Balanced_Parenthesis",
        _balanced,
        0,
        2,
        description="0 opens, 1 closes; 1 iff balanced and never closed more than opened",
    ),
    Task(
        "Parity_Bits_Mod2",
        lambda x: np.broadcast_to(np.arange(x.shape[1])[:, None] % 2, x.shape),
        0,
        2,
        description="0, 1, 0, 1, ... whatever the input",
    ),
    *map(_alternating_last, (3, 4)),
    Task("Bit_Shift_Right", lambda x: lagged(x, 1), 0, 2, description="the bit before"),
    _pairs(
        "Bit_Dot_Prod_Mod2",
        lambda x, w: np.cumsum(x * w, axis=1) % 2,
        "dot product of the two bit strings so far, mod 2",
    ),
)


def _word(k: int, wanted: tuple[int, ...], name: str) -> Task:
    """1 iff the last k bits are the word."""

    def reference(x: Sequences) -> Sequences:
        hits = [lagged(x, k - 1 - i) == bit for i, bit in enumerate(wanted)]
        return np.logical_and.reduce(hits).astype(np.int64)

    return Task(name, reference, 0, 2, description=f"1 iff the last {k} bits are {wanted}")


def _crc(x: Channel) -> Channel:
    """Remainder of the bits read as a polynomial, modulo z^3 + z + 1."""

    def step(
        register: Int[np.ndarray, "count 1"], bit: Int[np.ndarray, "count 1"]
    ) -> tuple[Int[np.ndarray, "count 1"], Int[np.ndarray, "count 1"]]:
        register = (register << 1) | bit
        register = np.where(register & 8, register ^ 0b1011, register)
        return register, register

    return scan(step, np.zeros((len(x), 1), np.int64), x)


HARDER = (
    _word(4, (1, 0, 1, 1), "Contains_1011"),
    Task("Checksum_CRC3", _crc, 0, 2, description="CRC remainder of the bits so far, polynomial z^3 + z + 1"),
)
