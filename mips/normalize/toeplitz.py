"""Toeplitz: a Jordan block that is fed at one end only, i.e. a shift register."""

from __future__ import annotations

import numpy as np

from mips.networks.relu import ReluRNN
from mips.normalize.basis import Matrix, change_basis, effective_input, effective_transition


def blocks(w: Matrix, *, eps: float = 1e-2) -> list[tuple[int, int]]:
    """Ranges [begin, end) of units in Jordan blocks of a real eigenvalue, ones above the diagonal.

    A unit by itself is a block; the two units of a complex pair come out as two blocks and are left alone
    by `toeplitz`.
    """
    n = len(w)
    found, begin = [], 0
    while begin < n:
        end = begin + 1
        while end < n and abs(w[end - 1, end] - 1) < eps and abs(w[end, end - 1]) < eps:
            end += 1
        found.append((begin, end))
        begin = end
    return found


def toeplitz(network: ReluRNN, *, eps: float = 1e-2) -> ReluRNN:
    """The network with the input of each Jordan block entering at the block's last unit alone.

    T^-1 is upper triangular Toeplitz in the block, its d-th diagonal the input weight of the unit d places
    before the last. It commutes with the block, so the transition stays. Where the last unit receives
    (almost) no input the block is shortened from that end.
    """
    w, into = effective_transition(network), effective_input(network)
    inverse = np.eye(len(w))
    for begin, whole in blocks(w, eps=eps):
        end = whole
        outside = [i for i in range(len(w)) if not begin <= i < whole]
        if (
            np.abs(w[begin:whole, outside]).max(initial=0) > eps
            or np.abs(w[outside, begin:whole]).max(initial=0) > eps
        ):
            continue  # coupled to other units, as in a complex pair: it would not commute
        while end > begin:
            column = into[begin:end, np.abs(into[end - 1]).argmax()]
            if abs(column[-1]) > eps * np.abs(into).max():
                size = end - begin
                part = np.zeros((size, size))
                for d in range(size):
                    part += np.diag(np.full(size - d, column[size - 1 - d]), d)
                # A shortened block must not disturb the units after it.
                if end == whole:
                    inverse[begin:end, begin:end] = part
                break
            end -= 1
    return change_basis(network, np.linalg.inv(inverse))
