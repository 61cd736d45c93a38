"""Discrete mechanics: a force moves a particle.

Semi-implicit steps: the velocity first, from the old position and velocity, then the position.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from mips.tasks.task import Sequences, Task, scan

Vectors = Int[np.ndarray, "count axes"]  # of every particle


def _newton(
    name: str, acceleration: Callable[[Vectors, Vectors, Vectors], Vectors], description: str, axes: int = 1
) -> Task:
    def reference(x: Sequences) -> Sequences:
        def step(state: tuple[Vectors, Vectors], force: Vectors) -> tuple[tuple[Vectors, Vectors], Vectors]:
            position, velocity = state
            velocity = velocity + acceleration(force, position, velocity)
            position = position + velocity
            return (position, velocity), position

        rest = np.zeros((len(x), axes), np.int64)
        return scan(step, (rest, rest), x)

    return Task(f"Newton_{name}", reference, -10, 11, inputs=axes, outputs=axes, description=description)


def _magnetic(force: Vectors, _position: Vectors, velocity: Vectors) -> Vectors:
    return force + velocity[:, ::-1] * np.array([-1, 1])


TASKS = (
    _newton("Freebody", lambda force, p, v: force, "position of a free particle under the forces"),
    _newton("Gravity", lambda force, p, v: force - 1, "the same in a constant field"),
    _newton("Spring", lambda force, p, v: force - p, "the same on a spring"),
    _newton("Magnetic", _magnetic, "the same in a plane with a magnetic field across it", axes=2),
)

HARDER: tuple[Task, ...] = ()
