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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PRNGKeyArray

from compressarc.config import Program
from compressarc.network.inputs import Grids, Signature
from compressarc.solver.program_cache import CompiledProgram, OnCompile, Spread, compiled_program
from compressarc.solver.step import Run, StepInfo, _empty_infos, compiler_options, init, step

AXIS = "run"
_LANES = PartitionSpec(AXIS)
_AFTER_STEPS = PartitionSpec(None, AXIS)


def lane_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of all devices, those of other processes included."""
    return Mesh(np.array(jax.devices() if devices is None else devices), (AXIS,))


def lanes_of_steps(
    runs: Run, data: Grids, count: Array, keys: Array, static: Signature, program: Program
) -> tuple[Run, StepInfo]:
    """Takes `count` steps of every lane: leading axis of runs, data and keys (uint32 key data).

    Returns the runs and what the steps report, [chunk, lane, ...].
    """
    lanes = keys.shape[0]
    empty = _empty_infos(static, program.chunk, runs.ema.logits.dtype)
    room = jax.tree.map(lambda a: jnp.zeros((a.shape[0], lanes, *a.shape[1:]), a.dtype), empty)

    def one(run: Run, data: Grids, key: Array) -> tuple[Run, StepInfo]:
        return step(run, data, static, program, key=jax.random.wrap_key_data(key))

    def body(i, carry):
        runs, infos = carry
        runs, info = jax.vmap(one)(runs, data, keys)
        infos = jax.tree.map(
            lambda all_, new: jax.lax.dynamic_update_index_in_dim(all_, new, i, 0), infos, info
        )
        return runs, infos

    return jax.lax.fori_loop(0, count, body, (runs, room))


def _first_state(key: Array, places: Array | None, static: Signature, program: Program) -> Run:
    """One lane's state before the first step; places: `Padding.noise`, None without padding."""
    return init(static, program, key=jax.random.wrap_key_data(key), places=places)


@dataclasses.dataclass
class Lanes:
    """The compiled programs of one room on one mesh, and the lanes' state between their calls."""

    static: Signature  # the room
    program: Program
    mesh: Mesh
    per_device: int
    example: Grids  # of any puzzle in the room: only its shapes matter

    def __post_init__(self) -> None:
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
        self._hosts: dict[int, tuple[Grids, np.ndarray]] = {}
        self._advance: CompiledProgram | None = None
        self._compiling = threading.Lock()
        self._known = threading.Event()  # whether it is in the cache, or compiled already
        self._cached = False
        self._runs: Any = None
        self._data: Any = None
        self._keys: Any = None

    @property
    def compiled(self) -> bool:
        """Whether the step has been compiled."""
        return self._advance is not None

    @property
    def filled(self) -> bool:
        """Whether any of this process's lanes has something to work on."""
        return bool(self._hosts)

    def fill(self, lane: int, grids: Grids, key: PRNGKeyArray) -> None:
        """Sets what a lane of this process works on (NumPy arrays of the room's shapes)."""
        self._hosts[lane] = (grids, np.asarray(jax.random.key_data(key)))
        self._data = None

    def start(self, fresh: Mapping[int, PRNGKeyArray], restored: Mapping[int, Run] | None = None) -> None:
        """Gives lanes new states. All processes call it together, each with its own lanes.

        fresh: keys of the initial draw, for lanes that begin. restored: states of the room's
        shapes (host arrays), for lanes that go on; they must have been filled, all lanes once.
        """
        self._upload()
        zero = np.zeros(2, np.uint32)
        keys = {lane: np.asarray(jax.random.key_data(fresh[lane])) for lane in fresh}
        chosen = self._global({lane: np.array(lane in fresh) for lane in self.local})
        key_array = self._global({lane: keys.get(lane, zero) for lane in self.local})
        if self._runs is None:
            self._runs = self._zeros()
        padding = self._data.padding
        places = None if padding is None else padding.noise
        self._runs = self._starter(self._runs, chosen, key_array, places)
        if jax.process_count() > 1 or restored:
            restored = restored or {}
            blank = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), self._shapes)
            incoming = self._global({lane: restored.get(lane, blank) for lane in self.local})
            chosen = self._global({lane: np.array(lane in restored) for lane in self.local})
            self._runs = self._replacer(self._runs, chosen, incoming)

    def _chunk(self, runs: Run, rest: tuple[Grids, Array, Array]) -> tuple[Run, StepInfo]:
        """One device's part of the step."""
        data, count, keys = rest
        return lanes_of_steps(runs, data, count, keys, self.static, self.program)

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
        infos = jax.eval_shape(lambda: _empty_infos(self.static, self.program.chunk, np.float32))
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
            outs = (_LANES,) * len(jax.tree.leaves(runs)) + (_AFTER_STEPS,) * len(jax.tree.leaves(infos))
            return jax.shard_map(call, mesh=self.mesh, in_specs=ins, out_specs=outs, check_vma=False)

        number = jax.ShapeDtypeStruct((), np.int32, sharding=everywhere)
        return compiled_program(
            self._chunk,
            runs,
            (data, count, keys),
            (runs, infos),
            static=("lanes", self.static, self.program, self.per_device),
            compiler_options=compiler_options(),
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
        self.compile()
        assert self._advance is not None
        return self._advance.executable.as_text()

    def advance(self, count: int) -> StepInfo:
        """Takes `count` steps of all lanes; returns without waiting for them."""
        self.compile()
        assert self._advance is not None
        number = jax.device_put(np.int32(count), NamedSharding(self.mesh, PartitionSpec()))
        self._runs, infos = self._advance(self._runs, (self._data, number, self._keys))
        return infos

    def infos(self, infos: StepInfo) -> dict[int, StepInfo]:
        """What this process's lanes reported, on the host: lane -> [chunk, ...]."""
        parts = jax.tree.map(lambda a: self._on_host(a, 1), infos)
        return {lane: jax.tree.map(lambda a, i=i: a[:, i], parts) for i, lane in enumerate(self.local)}

    def state(self, lane: int) -> Run:
        """One of this process's lanes, on the host, in the room's shapes."""

        def pick(a: Array) -> np.ndarray:
            for shard in a.addressable_shards:
                span = shard.index[0]
                low = span.start or 0
                if low <= lane < low + shard.data.shape[0]:
                    return np.asarray(shard.data[lane - low])
            raise ValueError(f"lane {lane} is not of this process; its lanes are {self.local}")

        return jax.tree.map(pick, self._runs)

    def _on_host(self, a: Array, axis: int) -> np.ndarray:
        shards = sorted(a.addressable_shards, key=lambda s: s.index[axis].start or 0)
        return np.concatenate([np.asarray(s.data) for s in shards], axis)

    def _global(self, per_lane: Mapping[int, Any]) -> Any:
        """Arrays over all lanes from this process's lanes."""
        trees = [per_lane[lane] for lane in self.local]

        def build(*leaves: Any) -> Array:
            stacked = np.stack([np.asarray(leaf) for leaf in leaves])
            place = {lane: i for i, lane in enumerate(self.local)}

            def part(index: tuple[slice, ...]) -> np.ndarray:
                low = index[0].start or 0
                stop = self.total if index[0].stop is None else index[0].stop
                return stacked[place[low] : place[low] + stop - low]

            shape = (self.total, *stacked.shape[1:])
            return jax.make_array_from_callback(shape, self._sharding, part)

        return jax.tree.map(build, *trees)

    def _upload(self) -> None:
        if self._data is not None:
            return
        if not self._hosts:
            raise ValueError("no lane has been filled")
        spare = self._hosts[min(self._hosts)]  # lanes without a run repeat another's; nobody looks at them
        for lane in self.local:
            self._hosts.setdefault(lane, spare)
        self._data = self._global({lane: self._hosts[lane][0] for lane in self.local})
        self._keys = self._global({lane: self._hosts[lane][1] for lane in self.local})

    def _zeros(self) -> Run:
        make = jax.jit(
            lambda: jax.tree.map(lambda s: jnp.zeros((self.total, *s.shape), s.dtype), self._shapes),
            out_shardings=self._sharding,
        )
        return make()

    @functools.cached_property
    def _starter(self) -> Callable[..., Run]:
        def one(run: Run, chosen: Array, key: Array, places: Array | None) -> Run:
            new = _first_state(key, places, self.static, self.program)
            return jax.tree.map(lambda a, b: jnp.where(chosen, b, a), run, new)

        return self._elementwise(jax.vmap(one), 4)

    @functools.cached_property
    def _replacer(self) -> Callable[..., Run]:
        def one(run: Run, chosen: Array, new: Run) -> Run:
            return jax.tree.map(lambda a, b: jnp.where(chosen, b, a), run, new)

        return self._elementwise(jax.vmap(one), 3)

    def _elementwise(self, function: Callable[..., Run], arguments: int) -> Callable[..., Run]:
        spread = jax.shard_map(
            function, mesh=self.mesh, in_specs=(_LANES,) * arguments, out_specs=_LANES, check_vma=False
        )
        return jax.jit(spread, donate_argnums=0)
