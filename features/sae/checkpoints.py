"""The state of a training on disk, through orbax: written whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

    from features.sae.config import SAEConfig
    from features.sae.step import Info, Run, TrainConfig


def identity(
    sae_config: SAEConfig, config: TrainConfig, key: PRNGKeyArray, sample: Float[np.ndarray, "n d_in"]
) -> str:
    """A digest of everything that decides a run; the data are represented by their sample."""
    text = repr((dataclasses.asdict(sae_config), dataclasses.asdict(config)))
    parts = (text.encode(), np.asarray(jax.random.key_data(key)).tobytes(), np.asarray(sample).tobytes())
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def exists(folder: Path) -> bool:
    """Whether a training left its state in a folder."""
    return folder.is_dir() and any(part.name.isdigit() for part in folder.iterdir())


def _manager(folder: Path) -> ocp.CheckpointManager:
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    return ocp.CheckpointManager(folder.absolute(), options=options)


def _arrays(run: Run) -> list[Shaped[Array, "..."]]:
    import equinox as eqx

    return jax.tree.leaves(eqx.filter(run, eqx.is_array))


def save(folder: Path, run: Run, infos: list[Info], identity: str) -> None:
    """Adds the state after a chunk; older ones but one are dropped."""
    import orbax.checkpoint as ocp

    with _manager(folder) as manager:
        history = [list(map(np.asarray, info)) for info in zip(*infos, strict=True)]
        columns = {str(n): np.concatenate(parts) for n, parts in enumerate(history)}
        arrays = {str(n): leaf for n, leaf in enumerate(_arrays(run))}
        manager.save(
            int(run.step),
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays),
                history=ocp.args.StandardSave(columns),
                about=ocp.args.JsonSave({"identity": identity}),
            ),
        )


def restore(folder: Path, run: Run, identity: str) -> tuple[Run, list[Info]]:
    """The latest state; the given one where the folder holds none.

    Raises: ValueError if it was made with other settings, data or another seed.
    """
    import equinox as eqx
    import orbax.checkpoint as ocp

    from features.sae.step import Info

    if not folder.exists():
        return run, []
    with _manager(folder) as manager:
        latest = manager.latest_step()
        if latest is None:
            return run, []
        about = manager.restore(latest, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
        if about["identity"] != identity:
            raise ValueError(
                f"{folder}: the checkpoint was made with other settings or another seed, or "
                "from other data; use those, or another folder"
            )
        wanted = {str(n): leaf for n, leaf in enumerate(_arrays(run))}
        found = manager.restore(
            latest,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardRestore(wanted), history=ocp.args.StandardRestore()
            ),
        )
    arrays, static = eqx.partition(run, eqx.is_array)
    leaves = [jnp.asarray(found["arrays"][str(n)]) for n in range(len(wanted))]
    restored = eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), static)
    columns = found["history"]
    return restored, [Info(*(np.asarray(columns[str(n)]) for n in range(len(Info._fields))))]
