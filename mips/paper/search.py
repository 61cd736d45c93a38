"""Search for the smallest network that learns a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mips.networks.relu import ReluConfig, published_architecture

_START = 256 * 256  # n = 2, everything linear, widths 1


def published_search(
    succeeds: Callable[[ReluConfig], bool],
    *,
    inputs: int,
    outputs: int,
    largest: int = 3 * 3 * 128 * 256 * 256,
) -> ReluConfig | None:
    """The published search: up by factors of 2^(1/4) from n = 2 linear, then bisection.

    `succeeds` trains an architecture (five seeds, one after another, in the paper) and says whether one got
    everything right. None when no index below `largest` succeeds. Architectures that differ from the one
    before in a width without layers only are not tried again.
    """

    def architecture(index: int) -> ReluConfig:
        return published_architecture(index, inputs=inputs, outputs=outputs)

    tried: dict[ReluConfig, bool] = {}

    def learns(index: int) -> bool:
        candidate = architecture(index)
        if candidate not in tried:
            tried[candidate] = succeeds(candidate)
        return tried[candidate]

    index = _START
    while not learns(index):
        index = int(index * 2**0.25)
        if index >= largest:
            return None
    low, high = index // 2, index
    while high - low > 1:
        middle = (low + high) // 2
        if learns(middle):
            high = middle
        else:
            low = middle
    return architecture(high)


def better_search(*, inputs: int, outputs: int, largest: int = 8) -> Iterator[ReluConfig]:
    """Linear networks by n, then networks with inner layers in f, then in g: the published priorities.

    Widths are few instead of all to 256, and n stays small.
    """
    for n in range(1, largest + 1):
        yield ReluConfig(inputs, outputs, n)
    for d_f, w_f, d_g, w_g in ((2, 8, 1, 1), (2, 32, 1, 1), (1, 1, 2, 16), (2, 16, 2, 16), (2, 32, 2, 32)):
        for n in range(1, largest // 2 + 1):
            yield ReluConfig(inputs, outputs, n, d_f, w_f, d_g, w_g)
