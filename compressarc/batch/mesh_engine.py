"""Running a batch on this process's devices, or on all devices of several processes in step.

Every process goes through the same buckets in the same order. All compute the same lane schedule
from an all-gather after each chunk; the process that holds a lane writes its votes, checkpoints
and results. Engines: the mesh (this module) and Ray (`compressarc.batch.ray_engine`), whose
workers call `run_bucket` too.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray

from compressarc.batch.bucket_shapes import HostRun, padded_grids, with_padding, without_padding
from compressarc.batch.compile_ahead import CompileAhead, programs_ahead
from compressarc.batch.lanes import Lanes, lane_mesh
from compressarc.batch.plan import Bucket, Plan
from compressarc.batch.records import Record, RunStatus
from compressarc.batch.schedule import Agreement, Item, Schedule, flags
from compressarc.batch.store import RunFolder
from compressarc.network.components import leading_components
from compressarc.network.inputs import Signature, signature
from compressarc.solver.candidates import BURN_IN_STEPS
from compressarc.solver.checkpoints import Saved
from compressarc.solver.history import History
from compressarc.solver.program_cache import forget
from compressarc.solver.step import StepInfo

BURN_IN_END = BURN_IN_STEPS
"""Steps whose votes hardly count; none can settle before."""


@dataclasses.dataclass
class Standing:
    """The two best answers of a run at the ends of chunks, and the step since which they are unchanged."""

    best: tuple[int, ...] = ()  # numbers of the answers, in order
    since: int = 0  # steps

    def judge(self, scores: Float[np.ndarray, " answers"], step: int) -> None:
        """Takes the score table after so many steps; equal scores rank by first appearance."""
        best = tuple(np.lexsort((np.arange(len(scores)), -scores))[:2].tolist())
        if best != self.best:
            self.best, self.since = best, step

    def settled(self, step: int, quiet: int) -> bool:
        """Whether nothing has changed for `quiet` steps, the burn-in apart."""
        return step - max(self.since, BURN_IN_END) >= quiet


def standings(history: History, chunk: int) -> Iterator[tuple[int, Standing]]:
    """The standing at the end of each chunk of a run: what it was judged by, or would have been."""
    now = Standing()
    for step, scores in enumerate(history.scores_over_time(), 1):
        if step % chunk == 0:
            now.judge(scores, step)
            yield step, now


@dataclasses.dataclass
class _Active:
    """A run in one of this process's lanes."""

    name: str
    seed: int
    static: Signature
    record: Record
    standing: Standing
    saved: int = 0  # steps of the newest checkpoint

    @property
    def steps(self) -> int:
        return self.record.history.steps


class Event(NamedTuple):
    """What happens in a batch, as this process sees it."""

    kind: Literal["compiling", "begun", "chunk", "ended", "note"]
    active: tuple[tuple[str, int, int], ...]  # puzzle, seed and steps taken, of this process's lanes
    steps: int  # steps of the chunk, summed over the lanes of all processes
    ended: tuple[Item, Record] | None = None
    bucket: int = 0  # number of the bucket in the plan
    cached: bool = False  # compiling: whether the program is in the cache
    text: str = ""  # note: what is to be said


Tell = Callable[[Event], bool | None]
"""Told of events; returns True to stop."""


def silent(event: Event) -> None:
    """Ignores the event."""
    del event


class _Bucket:
    """One bucket being worked on."""

    def __init__(
        self,
        folder: RunFolder,
        bucket: Bucket,
        lanes: Lanes,
        *,
        checkpoint_every: int,
        deadline: float | None,
        tell: Tell,
    ) -> None:
        self.folder, self.bucket, self.settings = folder, bucket, folder.settings
        self.config = folder.settings.config
        self.lanes = lanes
        self.checkpoint_every, self.deadline, self.tell = checkpoint_every, deadline, tell
        self.mine: dict[int, _Active] = {}  # by lane
        self.first = jax.process_index() == 0
        self._chunks = 0
        # reports of a chunk under way, whose votes are not counted yet
        self._pending: StepInfo[Array] | None = None
        self._counted = time.perf_counter()  # until when the lanes' time has been counted
        self._refreshed = time.monotonic()
        self._busy_elsewhere = 0  # lanes of other processes that had a run, when last heard of

    def run(self, items: Sequence[Item]) -> bool:
        """Works through the items. Returns whether it got to the end (and was not stopped)."""
        schedule = Schedule.of(items)
        if self._agree((), self._out_of_time()).stop:
            return False
        while True:
            schedule, arrivals = schedule.filled(self.lanes.total)
            if not schedule.owners:
                return True
            if arrivals and not self._admit(arrivals):
                return False
            ended = self._take_chunk()
            agreed = self._agree(ended, self._event("chunk") or self._out_of_time())
            schedule = schedule.without(agreed.ended)
            if self.first and (self._due or agreed.ended):
                self.folder.write_submission()
            if agreed.stop:
                if self._pending is not None:
                    self._absorb_pending()
                    self._retire()
                self._save(final=True)
                return False

    @property
    def _due(self) -> bool:
        """Whether checkpoints are due after the chunk just taken."""
        return self._chunks % self.checkpoint_every == 0

    def _admit(self, arrivals: Mapping[int, Item]) -> bool:
        """Puts runs into free lanes; False if a stop was asked for before the first chunk."""
        self._absorb_pending()  # what the lanes' former runs did belongs to nobody else
        self._begin({lane: item for lane, item in arrivals.items() if lane in self.lanes.local})
        if self._chunks == 0:  # compilation takes so long that a stop may have been asked for
            stop = self._event("begun") or self._out_of_time()
            if self._agree((), stop).stop:
                self._save(final=True)
                return False
        self._counted = time.perf_counter()
        return True

    def _take_chunk(self) -> list[int]:
        """Takes a chunk of steps in all lanes; returns those of this process's whose runs have ended.

        The votes of a chunk are counted while the next one runs, except where something waits for them.
        """
        reports = self.lanes.advance(self.config.chunk)
        self._chunks += 1
        self._absorb_pending()
        self._pending = reports
        # Wait for the last steps of a run, rather than take a chunk for nothing.
        last = any(a.steps + self.config.chunk >= self.config.steps for a in self.mine.values())
        if self._due or last or self._out_of_time():
            self._absorb_pending()
        ended = self._retire()
        if self._due:
            self._save()
        return ended

    def _absorb_pending(self) -> None:
        if self._pending is not None:
            self._counted = self._absorb(self._pending, self._counted)
            self._pending = None

    def _event(self, kind: Literal["compiling", "begun", "chunk"], *, cached: bool = False) -> bool:
        active = tuple((a.name, a.seed, a.steps) for a in self.mine.values())
        steps = (len(active) + self._busy_elsewhere) * self.config.chunk if kind == "chunk" else 0
        return bool(self.tell(Event(kind, active, steps, cached=cached)))

    def _out_of_time(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def _begin(self, arrivals: dict[int, Item]) -> None:
        """Puts runs into lanes; all processes together, each with its own."""
        fresh: dict[int, PRNGKeyArray] = {}
        restored: dict[int, HostRun] = {}
        for lane, item in arrivals.items():
            self._take(lane, item, fresh, restored)
        self._fill_first()
        self.lanes.start(fresh, restored)

        def told(cached: bool) -> None:
            self._event("compiling", cached=cached)

        self.lanes.compile(told)

    def _take(
        self, lane: int, item: Item, fresh: dict[int, PRNGKeyArray], restored: dict[int, HostRun]
    ) -> None:
        """Puts a run into one of this process's lanes, from its checkpoint if there is one."""
        name, seed = item
        puzzle = self.folder.puzzles[name]
        static = signature(puzzle.canvas)
        init_key, noise_key = jax.random.split(jax.random.key(seed))
        self.lanes.fill(lane, padded_grids(puzzle.canvas, self.bucket.room), noise_key)
        saved = self._restored(name, seed)
        if saved is None:
            fresh[lane] = init_key
            record = Record(History.empty(), RunStatus.RUNNING, 0.0)
        else:
            run, history = saved
            restored[lane] = with_padding(jax.tree.map(np.asarray, run), static, self.bucket.room)
            before = self.folder.record(name, seed)
            record = Record(history, RunStatus.RUNNING, 0.0 if before is None else before.seconds)
        standing = Standing()
        if self.settings.settle is not None:
            for _, standing in standings(record.history, self.config.chunk):  # noqa: B007, the last one
                pass
        self.mine[lane] = _Active(name, seed, static, record, standing, record.history.steps)
        self.folder.log("start", name, seed, record.history.steps)

    def _restored(self, name: str, seed: int) -> Saved | None:
        """What a run goes on from; where all its checkpoints are damaged it begins anew, and that is said."""

        def note(text: str) -> None:
            self.tell(Event("note", (), 0, text=text))

        try:
            return self.folder.checkpoints(name, seed).restore(note)
        except ValueError as error:
            note(f"{error}: done here")
            self.folder.forget_checkpoints(name, seed)
            return None

    def _fill_first(self) -> None:
        """A process without a run of its own in the first wave computes along with somebody's."""
        if not self.lanes.filled:
            name = self.bucket.puzzles[0]
            puzzle = self.folder.puzzles[name]
            self.lanes.fill(
                self.lanes.local[0], padded_grids(puzzle.canvas, self.bucket.room), jax.random.key(0)
            )

    def _absorb(self, reports: StepInfo[Array], since: float) -> float:
        """Votes of a chunk; returns the time at which it was done."""
        per_lane = self.lanes.reports(reports)
        now = time.perf_counter()
        devices = len(self.lanes.local) / self.lanes.per_device
        for lane, active in self.mine.items():
            if active.record.ended:
                continue
            active.record.seconds += (now - since) * devices / max(1, len(self.mine))
            info, tests = per_lane[lane], active.static.num_test
            candidates = info.candidates
            info = info._replace(
                candidates=candidates._replace(
                    colors=candidates.colors[:, :, :tests], crop=candidates.crop[:, :, :tests]
                )
            )
            history, config = active.record.history, self.config
            count = min(config.chunk, config.steps - history.steps)
            colors = self.folder.puzzles[active.name].canvas.colors
            if not history.append(info, count, colors):
                active.record.status = RunStatus.NON_FINITE
            elif history.steps >= config.steps:
                active.record.status = RunStatus.FINISHED
            elif self._settled(active):
                active.record.status = RunStatus.SETTLED
            self.folder.log("steps", active.name, active.seed, history.steps)
        return now

    def _settled(self, active: _Active) -> bool:
        """Whether the two best answers have stood still long enough, judged at the ends of chunks."""
        history, settle = active.record.history, self.settings.settle
        if settle is None:
            return False
        active.standing.judge(np.array([entry.score for entry in history.ranking]), history.steps)
        return active.standing.settled(history.steps, settle)

    def _retire(self) -> list[int]:
        """Writes the results of this process's runs that have ended; returns their lanes."""
        over, ended = [lane for lane, active in self.mine.items() if active.record.ended], set()
        for lane in over:
            active = self.mine.pop(lane)
            record = active.record
            if record.status == RunStatus.FINISHED:
                run = without_padding(self.lanes.state(lane), active.static, self.bucket.room)
                record.components = leading_components(run.params, active.static)
            self.folder.save_record(active.name, active.seed, record, result=False)
            ended.add(active.name)
            self.folder.forget_checkpoints(active.name, active.seed)
            self.folder.log("end", active.name, active.seed, active.steps)
            self.tell(Event("ended", (), 0, ((active.name, active.seed), record)))
        for name in sorted(ended):
            self.folder.write_result(name)
        return over

    def _save(self, *, final: bool = False) -> None:
        """Checkpoints of all of this process's runs; now and then their results so far, too."""
        refresh = final or time.monotonic() - self._refreshed > PARTIAL_RESULTS_EVERY
        if refresh:
            self._refreshed = time.monotonic()
        for lane, active in self.mine.items():
            if active.steps == active.saved:
                continue
            state = without_padding(self.lanes.state(lane), active.static, self.bucket.room)
            checkpoints = self.folder.checkpoints(active.name, active.seed)
            checkpoints.save(state, active.record.history)
            checkpoints.close()
            active.saved = active.steps
            self.folder.save_record(active.name, active.seed, active.record, result=False)
        for name in sorted({active.name for active in self.mine.values()} if refresh else ()):
            self.folder.write_result(name)

    def _agree(self, ended: Iterable[int], stop: bool) -> Agreement:
        """Tells all processes which of this one's lanes have ended and whether it asks for a stop."""
        own = flags(self.lanes.total, local=self.lanes.local, ended=ended, busy=self.mine, stop=stop)
        several = jax.process_count() > 1
        agreed = Agreement.of(np.asarray(multihost_utils.process_allgather(own)) if several else own[None])
        self._busy_elsewhere = agreed.busy - len(self.mine)
        return agreed


PARTIAL_RESULTS_EVERY = 60.0
"""Seconds between updates of the results of unfinished runs: counting votes anew takes time."""


def run_bucket(
    folder: RunFolder,
    bucket: Bucket,
    items: Sequence[Item],
    *,
    lanes: Lanes | None = None,
    checkpoint_every: int = 10,
    deadline: float | None = None,
    tell: Tell = silent,
) -> bool:
    """Solves some of a bucket's runs that have not ended.

    Args:
      folder: of the batch; results and checkpoints go there.
      items: (puzzle, seed) pairs of this bucket.
      lanes: `lanes_of(folder, bucket)` by default.
      checkpoint_every: chunks between checkpoints.
      deadline: `time.monotonic()` after which to stop, with checkpoints.
      tell: told of every chunk and every run that ended; return True to stop.

    Returns: whether all of them have ended.
    """
    work = _Bucket(
        folder,
        bucket,
        lanes_of(folder, bucket) if lanes is None else lanes,
        checkpoint_every=checkpoint_every,
        deadline=deadline,
        tell=tell,
    )
    return work.run(items) if items else True


def lanes_of(folder: RunFolder, bucket: Bucket, mesh: Mesh | None = None) -> Lanes:
    """The bucket's lanes on a mesh, by default of all devices; nothing is compiled yet."""
    mesh = lane_mesh() if mesh is None else mesh
    example = padded_grids(folder.puzzles[bucket.puzzles[0]].canvas, bucket.room)
    return Lanes(bucket.room, folder.settings.config.program, mesh, bucket.lanes, example)


def unfinished(folder: RunFolder, bucket: Bucket) -> list[Item]:
    """The runs of a bucket that have not ended: the seeds of a puzzle side by side."""
    every = [(name, seed) for name in bucket.puzzles for seed in folder.settings.seeds]
    return [item for item in every if not folder.ended(*item)]


def run_batch(
    folder: RunFolder,
    *,
    plan: Plan | None = None,
    mesh: Mesh | None = None,
    checkpoint_every: int = 10,
    budget: float | None = None,
    tell: Tell = silent,
) -> bool:
    """Solves what is left of a batch on the devices of the mesh, bucket by bucket.

    Under `jax.distributed` every process calls it, with the folder on storage that all share.

    Args:
      folder: `RunFolder.create(...)`, or the folder of a batch that was interrupted.
      plan: the folder's own by default.
      mesh: all devices of all processes by default.
      checkpoint_every: chunks between checkpoints.
      budget: seconds after which to stop; unfinished runs keep their checkpoints and guesses.
      tell: told of every chunk and every run that ended; return True to stop.

    Returns: whether everything has ended. `submission.json` is up to date in either case.
    """
    plan = folder.plan if plan is None else plan
    deadline = None if budget is None else time.monotonic() + budget
    buckets = [(number, bucket) for number, bucket in enumerate(plan.buckets) if unfinished(folder, bucket)]
    programs = CompileAhead(
        [functools.partial(lanes_of, folder, bucket, mesh) for _, bucket in buckets],
        programs_ahead(jax.local_devices()[0].platform if mesh is None else mesh.devices.flat[0].platform),
    )
    first, whole = jax.process_index() == 0, True
    if first:
        folder.write_missing_results()
    _together("begin of batch")
    for place, (number, bucket) in enumerate(buckets):
        items = unfinished(folder, bucket)
        _together(f"bucket {number}")

        def told(event: Event, number: int = number) -> bool:
            return bool(tell(event._replace(bucket=number)))

        whole = run_bucket(
            folder,
            bucket,
            items,
            lanes=programs.take(place),
            checkpoint_every=checkpoint_every,
            deadline=deadline,
            tell=told,
        )
        _together(f"end of bucket {number}")
        if first and jax.process_count() > 1:
            # Two processes may have counted one puzzle's votes at once, each without the other's.
            folder.recount_seeds(bucket.puzzles)
        if len(plan.buckets) > 1:
            forget()
        if not whole:
            break
    _together("end of batch")
    if first:
        folder.write_submission()
    return whole


def _together(name: str) -> None:
    """Waits for all processes: none may begin to write while others read what is left."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
