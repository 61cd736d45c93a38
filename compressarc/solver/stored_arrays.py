"""How orbax stores a checkpoint's arrays: one file of NumPy's, in the folders that it keeps.

Orbax decides where a checkpoint lies, makes it whole or absent, and removes old ones. Its own
array store writes in threads of its own, whose errors nobody can catch; a file that NumPy
writes fails with the system's word for it, and has a checksum for every array.

Importing this takes seconds: orbax. Reading a checkpoint does not need it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

FILE = "arrays.npz"


class ArraysHandler(ocp.CheckpointHandler):
    """Saves and restores a flat dictionary of arrays."""

    def save(self, directory: Any, args: ArraysSave) -> None:
        """Writes them; errors of the system are let through."""
        with (Path(directory) / FILE).open("wb") as file:
            arrays: dict[str, Any] = args.arrays
            np.savez(file, **arrays)

    def restore(self, directory: Any, args: ArraysRestore | None = None) -> dict[str, np.ndarray]:
        """Reads them."""
        with np.load(Path(directory) / FILE, allow_pickle=False) as file:
            return dict(file)


@ocp.args.register_with_handler(ArraysHandler, for_save=True)
@dataclasses.dataclass
class ArraysSave(ocp.args.CheckpointArgs):
    """What to save."""

    arrays: dict[str, np.ndarray]


@ocp.args.register_with_handler(ArraysHandler, for_restore=True)
@dataclasses.dataclass
class ArraysRestore(ocp.args.CheckpointArgs):
    """Nothing to say."""
