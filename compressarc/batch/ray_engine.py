"""The Ray engine: a batch on a cluster whose nodes come and go (extra `cluster`).

Each bucket becomes tasks of one wave of runs, one worker per device. Ray starts a lost task
anew on another node; the run goes on from its last checkpoint in the batch's folder, which all
nodes must share. What the mesh engine began, this one can finish, and the other way round.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compressarc.batch.mesh_engine import Event, Tell, lanes_of, run_bucket, silent, unfinished
from compressarc.batch.schedule import Item
from compressarc.batch.store import RunFolder
from compressarc.solver.program_cache import forget

CPU_FLAGS = "--xla_cpu_multi_thread_eigen=false"
"""One thread a device: two puzzles on two cores do more than one on two threads."""


def require_ray() -> Any:
    """The module `ray`. Raises ValueError naming the extra if it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise ValueError("--engine ray needs Ray: pip install 'quintet-jax[cluster]'") from error
    return ray


def _work(
    folder: str, number: int, items: Sequence[Item], checkpoint_every: int, until: float | None, cache: str
) -> list[Item]:
    """A task: some runs of one bucket on this worker's device. Returns those that have ended."""
    import jax

    from compressarc.batch.lanes import lane_mesh

    if cache:
        jax.config.update("jax_compilation_cache_dir", cache)
    run = RunFolder(folder)
    bucket = run.plan.buckets[number]
    lanes = lanes_of(run, bucket, lane_mesh(jax.local_devices()[:1]))
    forget(but_for=lanes.program_key)  # the worker's former tasks may have been of other buckets
    left = [item for item in items if not run.ended(*item)]
    remaining = None if until is None else until - time.time()
    if remaining is not None and remaining <= 0:
        left = []
    deadline = None if remaining is None else time.monotonic() + remaining
    run_bucket(
        run,
        bucket,
        left,
        lanes=lanes,
        checkpoint_every=checkpoint_every,
        deadline=deadline,
    )
    return [item for item in items if run.ended(*item)]


def worker_resources(cluster: dict[str, float]) -> dict[str, Any]:
    """What one worker asks Ray for: a GPU or a TPU chip if the cluster has any, else a core."""
    if cluster.get("GPU"):
        return {"num_gpus": 1, "num_cpus": 1}
    if cluster.get("TPU"):
        return {"num_cpus": 1, "resources": {"TPU": 1}}
    return {"num_cpus": 1}


def run_elastic(
    folder: RunFolder,
    *,
    address: str | None = None,
    checkpoint_every: int = 10,
    budget: float | None = None,
    retries: int = 20,
    tell: Tell = silent,
    cache: str = "",
) -> bool:
    """Solves what is left of a batch with the workers of a Ray cluster.

    Args:
      folder: on storage that all nodes share.
      address: of a running cluster (`auto`, `host:port`, `ray://...`); a local one if None.
      checkpoint_every: chunks between checkpoints; the most that a lost worker loses.
      budget: seconds after which workers stop, with checkpoints.
      retries: how often a task is started anew after its worker or node was lost.
      tell: told of every run that ended.
      cache: folder of compiled programs, on every node.

    Returns: whether everything has ended.
    Raises: ValueError if Ray is not installed, there is no cluster at the address, or tasks failed.
    """
    ray = require_ray()
    started_here = connect(address)
    try:
        return _drive(ray, folder, checkpoint_every, budget, retries, tell, cache)
    finally:
        folder.write_submission()
        if started_here:
            ray.shutdown()


def connect(address: str | None) -> bool:
    """Joins a cluster, or starts one here. Returns whether this call did it.

    Raises: ValueError if there is no cluster at the address.
    """
    ray = require_ray()
    if ray.is_initialized():
        return False
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(f"no Ray cluster at {address!r}: {error}") from error
    return True


def cluster_devices() -> tuple[str, int]:
    """Device model and number of devices of the cluster that has been joined."""
    from compressarc.batch.device_model import DEVICES

    has = require_ray().cluster_resources()
    kinds = [key.split(":", 1)[1].lower() for key in has if key.startswith("accelerator_type:")]
    known = [name for kind in kinds for name in DEVICES if name != "cpu" and name in kind.replace("-", "")]
    if has.get("GPU"):
        return (known or ["a100"])[0], int(has["GPU"])
    if has.get("TPU"):
        return (known or ["v5e"])[0], int(has["TPU"])
    return "cpu", max(1, int(has.get("CPU", 1)))


def _drive(
    ray: Any,
    folder: RunFolder,
    checkpoint_every: int,
    budget: float | None,
    retries: int,
    tell: Tell,
    cache: str,
) -> bool:
    wants = worker_resources(ray.cluster_resources())
    variables = {}
    if not wants.get("num_gpus") and "resources" not in wants:
        flags = os.environ.get("XLA_FLAGS", "")
        variables = {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": flags if CPU_FLAGS in flags else f"{flags} {CPU_FLAGS}",
        }
    work = ray.remote(**wants, max_retries=retries, runtime_env={"env_vars": variables})(_work)
    until = None if budget is None else time.time() + budget
    plan = folder.plan
    tasks: dict[Any, int] = {}
    left: set[Item] = set()
    folder.write_missing_results()
    where = str(Path(folder.folder).absolute())
    for number, bucket in enumerate(plan.buckets):
        items = unfinished(folder, bucket)
        left |= set(items)
        for low in range(0, len(items), bucket.lanes):
            wave = items[low : low + bucket.lanes]
            tasks[work.remote(where, number, wave, checkpoint_every, until, cache)] = number
    stopped, failures = False, []
    while tasks and not stopped:
        ready, _ = ray.wait(list(tasks), timeout=1.0)
        for task in ready:
            number = tasks.pop(task)
            try:
                done = ray.get(task)
            except ray.exceptions.RayError as error:  # the others go on
                failures.append(error)
                continue
            for item in done:
                folder.recount_seeds([item[0]])
                left.discard(item)
                record = folder.record(*item)
                assert record is not None
                stopped |= bool(tell(Event("ended", (), 0, (item, record), number)))
            folder.write_submission()
        stopped |= bool(tell(Event("chunk", (), 0)))
    for task in tasks:
        ray.cancel(task)
    if failures:
        # Ray's own message repeats the whole traceback; the cause is what the worker raised.
        cause = getattr(failures[0], "cause", None) or str(failures[0]).strip().splitlines()[-1]
        tasks_failed = f"{len(failures)} task{'' if len(failures) == 1 else 's'} failed"
        raise ValueError(f"{tasks_failed}; the first: {cause}; the rest goes on with --resume")
    return not left
