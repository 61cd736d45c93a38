"""The state of a training on disk, through orbax: whole or not at all, continued to the same result."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from hypernet.files import plain, write_json
from hypernet.generator.assignment import Assignment
from hypernet.generator.config import GeneratorConfig
from hypernet.generator.generate import Generator
from hypernet.targets import Target, get_target
from hypernet.training.step import Info, Run, TrainConfig, init, seed_keys

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

_ABOUT = "generator.json"


def identity(config: TrainConfig, key: PRNGKeyArray) -> dict[str, Any]:
    """What decides a run, as JSON: settings, the target by name, and the key."""
    settings = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    settings["generator"] = dataclasses.asdict(config.generator)
    # 0 in the file where slots are related by columns
    settings["generator"]["assignment"]["levels"] = config.generator.assignment.levels or 0
    settings["target"] = config.target.name
    settings.pop("chunk")  # how often the host looks changes nothing
    settings["key"] = np.asarray(jax.random.key_data(key)).tolist()
    return json.loads(json.dumps(plain(settings)))


def _manager(folder: Path) -> ocp.CheckpointManager:
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    return ocp.CheckpointManager(folder.absolute() / "state", options=options)


def check(folder: Path, config: TrainConfig, key: PRNGKeyArray) -> bool:
    """Whether the folder holds a run of this configuration.

    Raises: ValueError naming the settings that differ if it holds another one.
    """
    about = folder / _ABOUT
    if not about.is_file():
        return False
    found, wanted = read_about(folder), identity(config, key)
    differing = _differences(found, wanted)
    if differing:
        raise ValueError(
            f"{folder} holds a run with other settings ({'; '.join(differing)}): use those, or another folder"
        )
    return True


def _differences(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for name in sorted(found.keys() | wanted.keys()):
        a, b = found.get(name), wanted.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            lines.append(f"{prefix}{name}: {a} there, {b} here")
    return lines


def read_about(folder: Path) -> dict[str, Any]:
    """The settings a folder was made with.

    Raises: ValueError if there are none, or they can't be read.
    """
    about = folder / _ABOUT
    if not about.is_file():
        raise ValueError(
            f"{folder} holds no trained generator (no {_ABOUT}); `hypernet train --out {folder}` makes one"
        )
    try:
        found = json.loads(about.read_text())
        if not isinstance(found, dict) or not isinstance(found.get("generator"), dict):
            raise TypeError("expected an object with the settings of a training and its generator")
        wanted = {f.name for f in dataclasses.fields(TrainConfig)} - {"chunk"} | {"key"}
        if missing := wanted - set(found):
            raise KeyError(*sorted(missing))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{about} is damaged: {error!r}") from error
    return found


def save(folder: Path, run: Run, infos: list[Info], config: TrainConfig, key: PRNGKeyArray) -> None:
    """Adds the state after a chunk; older ones but one are dropped."""
    import orbax.checkpoint as ocp

    if jax.process_index() == 0:
        write_json(folder / _ABOUT, identity(config, key))
    columns = [np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*infos, strict=True)]
    arrays = {str(k): leaf for k, leaf in enumerate(jax.tree.leaves(run))}
    history = dict(zip(Info._fields, columns, strict=True))
    with _manager(folder) as manager:
        manager.save(
            int(run.step),
            args=ocp.args.Composite(
                run=ocp.args.StandardSave(arrays), history=ocp.args.StandardSave(history)
            ),
            force=True,
        )


def restore(folder: Path, run: Run) -> tuple[Run, list[Info]]:
    """The latest state, laid out over devices as the given one; that one where the folder holds none."""
    import orbax.checkpoint as ocp

    with _manager(folder) as manager:
        latest = manager.latest_step()
        if latest is None:
            return run, []
        leaves, tree = jax.tree.flatten(run)
        # the layout over devices is the given run's: their number may have changed
        wanted = {
            str(k): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for k, leaf in enumerate(leaves)
        }
        args = ocp.args.Composite(run=ocp.args.StandardRestore(wanted), history=ocp.args.StandardRestore())
        try:
            found = manager.restore(latest, args=args)
        except Exception as error:  # orbax and its storage raise what they like
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{folder}: the checkpoint of step {latest} is damaged ({reason})") from error
    restored = jax.tree.unflatten(tree, [found["run"][str(k)] for k in range(len(leaves))])
    return restored, [Info(*(np.asarray(found["history"][name]) for name in Info._fields))]


def load_config(folder: str | Path, *, target: Target | None = None) -> TrainConfig:
    """The configuration a folder was trained with; targets of one's own must be given.

    Raises: ValueError if the folder holds none, or its target is neither given nor in the library.
    """
    about = Path(folder) / _ABOUT
    found = read_about(Path(folder))
    if target is None:
        try:
            target = get_target(found["target"])
        except (ValueError, TypeError) as error:  # TypeError: the name is no text
            raise ValueError(f"{about}: {error}; a target of one's own must be given") from error
    elif target.name != found["target"]:
        raise ValueError(f"{folder} was trained for target {found['target']!r}, not {target.name!r}")
    found.pop("key")
    generator = found.pop("generator")
    try:
        assignment = generator.pop("assignment")
        found.update(target=target)
        built = GeneratorConfig(assignment=Assignment(**assignment), **generator)
        settings: dict[str, Any] = found | {"generator": built}
        return TrainConfig(**settings)
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"{about} is damaged or of another version: {error}") from error


def load(folder: str | Path, *, seed: int | None = None, target: Target | None = None) -> Generator:
    """Trained generators: all seeds side by side, or one of them.

    Raises: ValueError if the folder holds none, or no such seed.
    """
    folder = Path(folder)
    config = load_config(folder, target=target)
    shapes = init(config, seed_keys(jax.random.key(0), config.seeds))
    run, infos = restore(folder, shapes)
    if not infos:
        raise ValueError(
            f"{folder} holds no complete checkpoint; run `hypernet train --out {folder} --resume`"
        )
    return run.generators if seed is None else run.generators.member(seed)
