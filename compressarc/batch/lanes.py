"""Many runs side by side on many devices: a mesh of lanes, each of them one run.

A lane is one puzzle with one seed. Lanes are the leading axis of every array, spread over the
devices of a one-axis mesh; within a device they are vmapped. Runs have nothing to say to one
another, so the step holds no collective; a lane that has finished is given the next run
while the others go on.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, ArrayLike, Bool, Int, PRNGKeyArray, Shaped, UInt32

from compressarc.config import Program
from compressarc.network.inputs import Grids, Signature
from compressarc.solver.program_cache import CompiledProgram, OnCompile, Spread, compiled_program
from compressarc.solver.step import Run, StepInfo, compiler_options, empty_reports, init, loop, step

AXIS = "run"
_LANES = PartitionSpec(AXIS)
_AFTER_STEPS = PartitionSpec(None, AXIS)


def lane_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of all devices, those of other processes included."""
    return Mesh(np.array(jax.devices() if devices is None else devices), (AXIS,))


LaneKeys = UInt32[Array, "lanes 2"]
"""The noise key of each lane, as data."""


def steps_of_lanes(
    runs: Run[Array],
    data: Grids[Array],
    count: Int[Array, ""],
    keys: LaneKeys,
    static: Signature,
    program: Program,
) -> tuple[Run[Array], StepInfo[Array]]:
    """Takes `count` steps of every lane: leading axis of runs, data and keys.

    Returns the runs and what the steps report, [chunk, lane, ...].
    """
    one_lane = empty_reports(static, program.chunk, runs.ema.logits.dtype)
    reports = jax.tree.map(lambda a: jnp.zeros((a.shape[0], len(keys), *a.shape[1:]), a.dtype), one_lane)

    def one(
        run: Run[Array], data: Grids[Array], key: UInt32[Array, "2"]
    ) -> tuple[Run[Array], StepInfo[Array]]:
        return step(run, data, static, program, key=jax.random.wrap_key_data(key))

    every = jax.vmap(one)
    return loop(lambda runs: every(runs, data, keys), runs, count, reports)


def _first_state(
    key: UInt32[Array, "2"], places: Int[Array, " N"] | None, static: Signature, program: Program
) -> Run[Array]:
    """One lane's state before the first step; places: `Padding.noise`, None without padding."""
    return init(static, program, key=jax.random.wrap_key_data(key), places=places)


class _Loaded(NamedTuple):
    """What the lanes work on, on the devices, lanes leading."""

    data: Grids[Array]
    keys: LaneKeys


@dataclasses.dataclass
class Lanes:
    """The compiled programs of one room on one mesh, and the lanes' state between their calls."""

    static: Signature  # the room
    program: Program
    mesh: Mesh
    per_device: int
    example: Grids[np.ndarray]  # of any puzzle in the room: only its shapes matter

    def __post_init__(self) -> None:
        self.platform: str = self.mesh.devices.flat[0].platform
        self.program = self.program.on(self.platform, self.per_device)
        self.total = self.mesh.size * self.per_device
        self._sharding = NamedSharding(self.mesh, _LANES)
        self.local = [
            lane
            for place, device in enumerate(self.mesh.devices.flat)
            if device.process_index == jax.process_index()
            for lane in range(place * self.per_device, (place + 1) * self.per_device)
        ]
        """The lanes that this process holds, ascending."""
        self._shapes = jax.eval_shape(lambda: init(self.static, self.program, key=jax.random.key(0)))
        self._hosts: dict[int, tuple[Grids[np.ndarray], UInt32[np.ndarray, "2"]]] = {}
        self._advance: CompiledProgram | None = None
        self._compiling = threading.Lock()
        self._known = threading.Event()  # whether it is in the cache, or compiled already
        self._cached = False
        self._runs: Run[Array] | None = None
        self._loaded: _Loaded | None = None

    @property
    def program_key(self) -> Hashable:
        """What the compiled step is known by in `program_cache`."""
        return ("lanes", self.static, self.program, self.per_device)

    @property
    def compiled(self) -> bool:
        """Whether the step has been compiled."""
        return self._advance is not None

    @property
    def filled(self) -> bool:
        """Whether any of this process's lanes has something to work on."""
        return bool(self._hosts)

    def fill(self, lane: int, grids: Grids[np.ndarray], key: PRNGKeyArray) -> None:
        """Sets what a lane of this process works on (NumPy arrays of the room's shapes)."""
        self._hosts[lane] = (grids, np.asarray(jax.random.key_data(key)))
        self._loaded = None

    def start(
        self, fresh: Mapping[int, PRNGKeyArray], restored: Mapping[int, Run[np.ndarray]] | None = None
    ) -> None:
        """Gives lanes new states. All processes call it together, each with its own lanes.

        fresh: keys of the initial draw, for lanes that begin. restored: states of the room's
        shapes (host arrays), for lanes that go on; they must have been filled, all lanes once.
        """
        data = self._upload().data
        zero = np.zeros(2, np.uint32)
        keys = {lane: np.asarray(jax.random.key_data(fresh[lane])) for lane in fresh}
        chosen = self._global({lane: np.array(lane in fresh) for lane in self.local})
        key_array = self._global({lane: keys.get(lane, zero) for lane in self.local})
        places = None if data.padding is None else data.padding.noise
        runs = self._zeros() if self._runs is None else self._runs
        self._runs = self._starter(runs, chosen, key_array, places)
        if jax.process_count() > 1 or restored:
            restored = restored or {}
            blank = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), self._shapes)
            incoming = self._global({lane: restored.get(lane, blank) for lane in self.local})
            chosen = self._global({lane: np.array(lane in restored) for lane in self.local})
            self._runs = self._replacer(self._runs, chosen, incoming)

    def _chunk(
        self, runs: Run[Array], rest: tuple[Grids[Array], Int[Array, ""], LaneKeys]
    ) -> tuple[Run[Array], StepInfo[Array]]:
        """One device's part of the step."""
        data, count, keys = rest
        return steps_of_lanes(runs, data, count, keys, self.static, self.program)

    def _local_shapes(self) -> tuple[Any, Any]:
        """Shapes of one device's arguments of `_chunk`."""
        data = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), self.example)
        keys = jax.ShapeDtypeStruct((2,), np.uint32)
        runs, data, keys = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct((self.per_device, *s.shape), s.dtype), (self._shapes, data, keys)
        )
        return runs, (data, jax.ShapeDtypeStruct((), np.int32), keys)

    def exported(self, platforms: Sequence[str]) -> jax.export.Exported:
        """One device's part of the step, lowered for other platforms."""
        return jax.export.export(jax.jit(self._chunk), platforms=list(platforms))(*self._local_shapes())

    def compile(self, on_compile: OnCompile | None = None) -> None:
        """Compiles the step, or finds it in the cache, or waits for the thread that does.

        on_compile: called before it is compiled, with whether it is in the cache.
        """
        if not self._compiling.acquire(blocking=False):  # another thread is at it
            self._known.wait()
            if on_compile is not None and self._advance is None:
                on_compile(self._cached)
            self._compiling.acquire()
        try:
            if self._advance is None:
                self._advance = self._compile(functools.partial(self._told, on_compile))
        finally:
            self._known.set()
            self._compiling.release()

    def _told(self, on_compile: OnCompile | None, cached: bool) -> None:
        self._cached = cached
        self._known.set()
        if on_compile is not None:
            on_compile(cached)

    def _compile(self, on_compile: OnCompile | None) -> CompiledProgram:
        runs, (data, count, keys) = self._local_shapes()
        reports = jax.eval_shape(lambda: empty_reports(self.static, self.program.chunk, np.float32))
        everywhere = NamedSharding(self.mesh, PartitionSpec())

        def whole(tree: Any) -> Any:
            return jax.tree.map(
                lambda s: jax.ShapeDtypeStruct((self.total, *s.shape[1:]), s.dtype, sharding=self._sharding),
                tree,
            )

        def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
            ins = (
                (_LANES,) * len(jax.tree.leaves(runs)),
                (*(_LANES,) * len(jax.tree.leaves(data)), PartitionSpec(), _LANES),
            )
            outs = (_LANES,) * len(jax.tree.leaves(runs)) + (_AFTER_STEPS,) * len(jax.tree.leaves(reports))
            return jax.shard_map(call, mesh=self.mesh, in_specs=ins, out_specs=outs, check_vma=False)

        number = jax.ShapeDtypeStruct((), np.int32, sharding=everywhere)
        return compiled_program(
            self._chunk,
            runs,
            (data, count, keys),
            (runs, reports),
            static=self.program_key,
            compiler_options=compiler_options(self.platform, self.static.shape, self.per_device),
            platform=self.platform,
            spread=Spread(
                name=repr([d.id for d in self.mesh.devices.flat]),
                wrap=wrap,
                arguments=(whole(runs), (whole(data), number, whole(keys))),
            ),
            on_compile=on_compile,
        )

    @property
    def text(self) -> str:
        """The compiled step, as the compiler prints it."""
        return self._compiled().executable.as_text() or ""

    def memory(self) -> Any:
        """What the compiled step takes of a device's memory, as XLA says (`memory_analysis`)."""
        return self._compiled().executable.memory_analysis()

    def _compiled(self) -> CompiledProgram:
        self.compile()
        assert self._advance is not None
        return self._advance

    def advance(self, count: int) -> StepInfo[Array]:
        """Takes `count` steps of all lanes; returns without waiting for them."""
        advance, loaded = self._compiled(), self._loaded
        if loaded is None:
            raise ValueError("no lane has been started")
        number = jax.device_put(np.int32(count), NamedSharding(self.mesh, PartitionSpec()))
        self._runs, reports = advance(self._runs, (loaded.data, number, loaded.keys))
        return reports

    def reports(self, reports: StepInfo[Array]) -> dict[int, StepInfo[np.ndarray]]:
        """What this process's lanes reported, on the host: lane -> [chunk, ...]."""
        parts = jax.tree.map(lambda a: self._on_host(a, 1), reports)
        return {lane: jax.tree.map(lambda a, i=i: a[:, i], parts) for i, lane in enumerate(self.local)}

    def state(self, lane: int) -> Run[np.ndarray]:
        """One of this process's lanes, on the host, in the room's shapes."""

        def pick(a: Shaped[Array, " lanes *rest"]) -> Shaped[np.ndarray, " *rest"]:
            for shard in a.addressable_shards:
                span = shard.index[0]
                low = span.start or 0
                if low <= lane < low + shard.data.shape[0]:
                    return np.asarray(shard.data[lane - low])
            raise ValueError(f"lane {lane} is not of this process; its lanes are {self.local}")

        return jax.tree.map(pick, self._runs)

    def _on_host(self, a: Shaped[Array, "..."], axis: int) -> Shaped[np.ndarray, "..."]:
        shards = sorted(a.addressable_shards, key=lambda s: s.index[axis].start or 0)
        return np.concatenate([np.asarray(s.data) for s in shards], axis)

    def _global(self, per_lane: Mapping[int, Any]) -> Any:
        """Arrays over all lanes from this process's lanes."""
        trees = [per_lane[lane] for lane in self.local]

        def build(*leaves: ArrayLike) -> Shaped[Array, "lanes ..."]:
            stacked = np.stack([np.asarray(leaf) for leaf in leaves])
            place = {lane: i for i, lane in enumerate(self.local)}

            def part(index: tuple[slice, ...] | None) -> Shaped[np.ndarray, "lanes ..."]:
                assert index is not None
                low = index[0].start or 0
                stop = self.total if index[0].stop is None else index[0].stop
                return stacked[place[low] : place[low] + stop - low]

            shape = (self.total, *stacked.shape[1:])
            return jax.make_array_from_callback(shape, self._sharding, part)

        return jax.tree.map(build, *trees)

    def _upload(self) -> _Loaded:
        if self._loaded is not None:
            return self._loaded
        if not self._hosts:
            raise ValueError("no lane has been filled")
        spare = self._hosts[min(self._hosts)]  # lanes without a run repeat another's; nobody looks at them
        for lane in self.local:
            self._hosts.setdefault(lane, spare)
        self._loaded = _Loaded(
            self._global({lane: self._hosts[lane][0] for lane in self.local}),
            self._global({lane: self._hosts[lane][1] for lane in self.local}),
        )
        return self._loaded

    def _zeros(self) -> Run[Array]:
        make = jax.jit(
            lambda: jax.tree.map(lambda s: jnp.zeros((self.total, *s.shape), s.dtype), self._shapes),
            out_shardings=self._sharding,
        )
        return make()

    @functools.cached_property
    def _starter(self) -> Callable[..., Run[Array]]:
        def one(
            run: Run[Array],
            chosen: Bool[Array, ""],
            key: UInt32[Array, "2"],
            places: Int[Array, " N"] | None,
        ) -> Run[Array]:
            new = _first_state(key, places, self.static, self.program)
            return jax.tree.map(lambda a, b: jnp.where(chosen, b, a), run, new)

        return self._elementwise(jax.vmap(one), 4)

    @functools.cached_property
    def _replacer(self) -> Callable[..., Run[Array]]:
        def one(run: Run[Array], chosen: Bool[Array, ""], new: Run[Array]) -> Run[Array]:
            return jax.tree.map(lambda a, b: jnp.where(chosen, b, a), run, new)

        return self._elementwise(jax.vmap(one), 3)

    def _elementwise(self, function: Callable[..., Run[Array]], arguments: int) -> Callable[..., Run[Array]]:
        spread = jax.shard_map(
            function, mesh=self.mesh, in_specs=(_LANES,) * arguments, out_specs=_LANES, check_vma=False
        )
        return jax.jit(spread, donate_argnums=0)
