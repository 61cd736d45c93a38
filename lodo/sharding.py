"""How LODO's state is split over devices."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped


@dataclasses.dataclass(frozen=True)
class Sharding:
    """Splits the preconditioner over a mesh axis, so that state per device falls with their number.

    Raises: ValueError for an axis that the mesh has not, or that is explicit.
    """

    mesh: Mesh | None = None
    """over which theta and all state like it are split; None: not at all"""
    axis: str | None = None
    """of the mesh; the first by default"""
    params: Any = None
    """sharding, or tree of them, that updates and momentum are to have; for automatic meshes, where the
    compiler may otherwise replicate them (under explicit meshes they keep the gradients' shardings)"""

    def __post_init__(self) -> None:
        if self.mesh is None:
            return
        object.__setattr__(self, "axis", self.axis or self.mesh.axis_names[0])
        if self.axis not in self.mesh.axis_names:
            raise ValueError(f"axis={self.axis!r}: the mesh has axes {self.mesh.axis_names}")
        types = dict(zip(self.mesh.axis_names, self.mesh.axis_types, strict=True))
        if types[self.axis] != AxisType.Auto:
            raise ValueError(
                f"mesh axis {self.axis!r} is explicit: split weights need jax.make_mesh(..., axis_types="
                "(jax.sharding.AxisType.Auto, ...)); parameters on explicit meshes need no mesh argument"
            )

    @property
    def parts(self) -> int:
        """Devices along the axis."""
        return 1 if self.mesh is None else self.mesh.shape[self.axis]

    def split(self, tree: Any, width: int) -> Any:
        """Splits arrays whose last axis has `width` entries over the mesh axis; the rest is replicated.

        Raises: ValueError if the width can't be split evenly.
        """
        mesh = self.mesh
        if mesh is None:
            return tree
        if width > 0 and width % self.parts:
            raise ValueError(
                f"last axes of {width} entries can't be split over {self.parts} devices of mesh axis "
                f"{self.axis!r}: expected a multiple of {self.parts}"
            )

        def place(leaf: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
            split = leaf.ndim > 1 and leaf.shape[-1] == width
            spec = PartitionSpec(*(None,) * (leaf.ndim - 1), self.axis) if split else PartitionSpec()
            return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

        return jax.tree.map(place, tree)

    def whole(self, leaf: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """The array on every device."""
        return (
            leaf
            if self.mesh is None
            else jax.lax.with_sharding_constraint(leaf, NamedSharding(self.mesh, PartitionSpec()))
        )
