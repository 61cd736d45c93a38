"""The command `compressarc batch`: checks, plan, folder, engine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from compressarc.cli import Batch
    from compressarc.plan import Plan
    from compressarc.puzzle import Puzzle
    from compressarc.run_folder import RunFolder

_UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `10m`, `1h30m`. Raises ValueError if it is none."""
    found = re.fullmatch(r"(?:\d+(?:\.\d+)?[smh])+|\d+(?:\.\d+)?", text.strip())
    if found is None:
        raise ValueError(f"--budget={text!r}: expected a time such as 90s, 10m or 1h30m")
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh]?)", text)
    seconds = sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)
    if seconds <= 0:
        raise ValueError(f"--budget={text!r}: expected more than no time")
    return seconds


def _check(command: Batch) -> None:
    """Everything that can be known to be wrong before jax starts."""
    for name in ("seeds", "programs", "lanes", "devices", "checkpoint_every", "num_processes"):
        value = getattr(command, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')}={value}: expected a positive number")
    if command.out is None and not command.plan:
        raise ValueError("batch needs --out, the folder for its results (or --plan, to print the plan only)")
    if command.resume and command.out is not None and not (command.out / "settings.json").exists():
        raise ValueError(f"{command.out}: no batch to resume here (no settings.json)")
    several = command.coordinator not in (None, "auto")
    if several and (command.num_processes is None or command.process_id is None):
        raise ValueError("--coordinator host:port needs --num-processes and --process-id")
    if several and not 0 <= (command.process_id or 0) < (command.num_processes or 1):
        raise ValueError(
            f"--process-id={command.process_id}: expected 0 to {(command.num_processes or 1) - 1}"
        )
    if command.engine == "ray" and command.coordinator is not None:
        raise ValueError("--coordinator belongs to the mesh engine; --engine ray takes --address")
    if command.address is not None and command.engine != "ray":
        raise ValueError("--address belongs to --engine ray")


def _choose(command: Batch) -> dict[str, Puzzle]:
    from compressarc.datasets import load_splits

    splits = load_splits(command.dataset)
    if command.split not in splits:
        raise ValueError(f"{command.dataset}: no split {command.split!r}; there are {sorted(splits)}")
    puzzles = splits[command.split]
    unknown = [name for name in command.puzzles if name not in puzzles]
    if unknown:
        raise ValueError(f"no puzzle {', '.join(unknown)} in {command.dataset} {command.split}")
    return {name: puzzles[name] for name in command.puzzles} if command.puzzles else dict(puzzles)


def _start_jax(command: Batch, use_cache: Callable[[], None]) -> None:
    """Sets up devices and processes; nothing has touched jax's backends before."""
    from compressarc.elastic import CPU_FLAGS

    if os.environ.get("JAX_PLATFORMS", "cpu") == "cpu" and CPU_FLAGS not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {CPU_FLAGS}"
    import jax

    forced = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not forced:
        # Without effect on accelerators.
        jax.config.update("jax_num_cpu_devices", command.devices or os.cpu_count() or 1)
    if command.coordinator is not None:
        several = command.coordinator != "auto"
        jax.distributed.initialize(
            *((command.coordinator, command.num_processes, command.process_id) if several else ())
        )
    if command.cache:
        use_cache()


def _device_name(command: Batch) -> str:
    """The device model for what is here."""
    if command.device is not None:
        return command.device
    import jax

    from compressarc.device_model import DEVICES

    kind = jax.devices()[0].device_kind.lower().replace(" ", "")
    known = (name for name in DEVICES if name != "cpu" and name in kind.replace("lite", "e"))
    return "cpu" if jax.default_backend() == "cpu" else next(known, "a100")


def run_batch_command(command: Batch, console: Console, use_cache: Callable[[], None]) -> int:
    """Runs `compressarc batch`; returns the exit status (3: stopped before the end)."""
    from compressarc.batch_terminal import BatchDisplay, show_plan, show_summary

    _check(command)
    budget = None if command.budget is None else parse_duration(command.budget)
    puzzles = _choose(command)
    if command.device is not None:
        from compressarc.device_model import device_model

        device_model(command.device)
    if command.out is not None and not command.plan:
        from compressarc.report import check_writable

        check_writable(command.out)
    from compressarc.vote import vote_weights

    vote_weights(command.vote)
    if command.engine == "ray":
        from compressarc.elastic import require_ray

        require_ray()
    if not (command.plan and command.device is not None):
        _start_jax(command, use_cache)
    import jax

    from compressarc.device_model import device_model

    modeled_only = command.plan and command.device is not None
    devices = command.devices or (1 if modeled_only else len(jax.devices()))
    device = device_model(_device_name(command))
    first = modeled_only or jax.process_index() == 0
    plan, run = _plan_and_folder(command, puzzles, device.name, devices, first)
    if first:
        steps, seeds = command.config.steps, command.seeds
        show_plan(console, plan, device, devices=devices, seeds=seeds, steps=steps)
        if command.save_plan is not None:
            from compressarc.run_folder import replace_json

            replace_json(command.save_plan, plan.to_json())
            console.print(f"wrote {command.save_plan}", markup=False)
    if run is None:
        return 0
    total = len(run.names) * command.seeds * command.config.steps
    with BatchDisplay(console, run, total, quiet=not first) as display:
        if command.engine == "ray":
            from compressarc.elastic import run_elastic

            cache = jax.config.values["jax_compilation_cache_dir"] if command.cache else ""
            whole = run_elastic(
                run,
                address=command.address,
                checkpoint_every=command.checkpoint_every,
                budget=budget,
                tell=display.tell,
                cache=cache or "",
            )
        else:
            from compressarc.batch import run_batch

            whole = run_batch(
                run, checkpoint_every=command.checkpoint_every, budget=budget, tell=display.tell
            )
    if first:
        from compressarc.page import write_page

        show_summary(console, run)
        console.print(f"wrote {run.folder / 'submission.json'}, {write_page(run)}", markup=False)
        if not whole:
            console.print("stopped before the end: go on with --resume")
    return 0 if whole else 3


def _plan_and_folder(
    command: Batch, puzzles: dict[str, Puzzle], device: str, devices: int, first: bool
) -> tuple[Plan, RunFolder | None]:
    """The plan, a new one or that of the batch being resumed, and the batch's folder."""
    import jax

    from compressarc.device_model import device_model
    from compressarc.inputs import signature
    from compressarc.plan import make_plan
    from compressarc.run_folder import BatchSettings, RunFolder

    settings = BatchSettings(command.config, tuple(range(command.seeds)), command.settle, command.vote)
    if command.resume and command.out is not None:
        run = RunFolder(command.out)
        run.same_batch(puzzles, settings)
        if command.plan:
            return run.plan, None
        if first and settings != run.settings:
            run.extend(settings)
        run.settings = settings
        return run.plan, run
    if first:
        plan = make_plan(
            {name: signature(puzzle.canvas) for name, puzzle in puzzles.items()},
            device_model(device),
            devices=devices,
            seeds=command.seeds,
            steps=command.config.steps,
            programs=command.programs,
            lanes=command.lanes,
        )
        if command.plan:
            return plan, None
        assert command.out is not None
        RunFolder.create(command.out, puzzles, settings, plan, dataset=command.dataset, split=command.split)
    if not command.plan and jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("batch folder")
    assert command.out is not None
    run = RunFolder(command.out)
    return run.plan, run
