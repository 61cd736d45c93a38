"""Tasks on digits: carries, remainders, long division."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from mips.tasks.task import Channel, Inputs, Sequences, Step, Task, scan


def _zeros(x: Inputs) -> Step:
    return np.zeros(len(x), np.int64)


def _addition(base: int) -> Task:
    def reference(x: Inputs) -> Channel:
        def step(carry: Step, digits: Int[np.ndarray, "count inputs"]) -> tuple[Step, Step]:
            total = digits.sum(axis=1) + carry
            return total // base, total % base

        return scan(step, _zeros(x), x)

    name = "Binary_Addition" if base == 2 else f"Base_{base}_Addition"
    return Task(
        name,
        reference,
        0,
        base,
        inputs=2,
        description=f"digits of x + w, least significant first, base {base}",
    )


def _division(divisor: int) -> Task:
    def reference(x: Channel) -> Channel:
        def step(remainder: Step, bit: Int[np.ndarray, "count 1"]) -> tuple[Step, Step]:
            value = 2 * remainder + bit[:, 0]
            return value % divisor, value // divisor

        return scan(step, _zeros(x), x)

    return Task(
        f"Div_{divisor}", reference, 0, 2, description=f"long division of a binary number by {divisor}"
    )


def _add_mod(modulus: int) -> Task:
    return Task(
        f"Add_Mod_{modulus}",
        lambda x: np.cumsum(x, axis=1) % modulus,
        0,
        modulus,
        description=f"running sum mod {modulus}",
    )


def _dithering(x: Sequences) -> Sequences:
    total = np.cumsum(x, axis=1) // 15
    return np.diff(total, axis=1, prepend=0)


TASKS = (
    *map(_addition, range(2, 8)),
    Task(
        "Evens_Counter",
        lambda x: np.cumsum(x % 2 == 0, axis=1).astype(np.int64),
        0,
        10,
        description="how many even numbers so far",
    ),
    Task("Evens_Detector", lambda x: (x % 2 == 0).astype(np.int64), 0, 10, description="1 iff x is even"),
    Task(
        "Perfect_Square_Detector",
        lambda x: np.isin(x, [0, 1, 4, 9, 16]).astype(np.int64),
        0,
        20,
        description="1 iff x is a perfect square",
    ),
    *map(_division, (3, 5, 7)),
    *map(_add_mod, range(3, 9)),
    Task("Dithering", _dithering, 0, 16, description="how many fifteens the running sum passes at this step"),
)


def _multiply_mod(modulus: int) -> Task:
    """Running product of x + 1, so that the state never sticks at zero for a prime modulus."""

    def reference(x: Channel) -> Channel:
        def step(product: Step, digit: Int[np.ndarray, "count 1"]) -> tuple[Step, Step]:
            product = product * (digit[:, 0] + 1) % modulus
            return product, product

        return scan(step, np.ones(len(x), np.int64), x)

    return Task(
        f"Multiply_Mod_{modulus}",
        reference,
        0,
        modulus - 1,
        description=f"running product of x + 1, mod {modulus}",
    )


def _luhn(x: Channel) -> Channel:
    """Luhn's checksum: every second digit doubled, its digits added; mod 10."""
    doubled = x * (1 + np.arange(x.shape[1])[:, None] % 2)
    return np.cumsum(doubled // 10 + doubled % 10, axis=1) % 10


def _set_size(x: Channel) -> Channel:
    seen = np.cumsum(x == np.arange(6), axis=1) > 0
    return seen.sum(axis=2, keepdims=True)


HARDER = (
    *map(_addition, range(8, 11)),
    _multiply_mod(5),
    _multiply_mod(7),
    Task("Checksum_Luhn", _luhn, 0, 10, description="Luhn's checksum of the digits so far, mod 10"),
    Task("Set_Size", _set_size, 0, 6, description="how many different symbols so far"),
)
