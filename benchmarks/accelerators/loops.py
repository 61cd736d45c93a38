"""The hot loops of the five packages, at stated sizes, ready to be compiled for any target.

Each is a function of shapes alone: nothing is computed here. Loops over steps have a number of steps that
only running tells, or one, so that the figures are those of one step; or the steps are stated.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from benchmarks.accelerators.targets import Target

Shapes = Any
"""A tree of `jax.ShapeDtypeStruct`."""


@dataclasses.dataclass(frozen=True)
class Loop:
    """A function to compile, the shapes of its arguments, and how they lie over devices."""

    function: Callable[..., Any]
    arguments: tuple[Shapes, ...]
    size: str  # in words
    devices: int = 1
    axis: str = "device"
    spread: tuple[Any, ...] | None = (
        None  # for each argument a PartitionSpec, or a tree of them; None: all whole
    )
    count: int = 1  # steps to ask for where `COUNT` is an argument
    again: Callable[[Any], Any] = lambda results: results[0]
    over: Callable[[Mesh], Callable[..., Any]] | None = None  # makes the function, where it needs the devices
    donated: tuple[int, ...] = (0,)
    steps: int = 1  # of the compiled function, where it knows


def shapes(tree: Any) -> Shapes:
    """Shapes and types of a tree's arrays."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), tree)


def _leading(count: int, tree: Shapes) -> Shapes:
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct((count, *s.shape), s.dtype), tree)


KEY = jax.ShapeDtypeStruct((2,), jnp.uint32)
COUNT = jax.ShapeDtypeStruct((), jnp.int32)


def arc_run(name: str) -> Callable[[Target], Loop]:
    """One run of one puzzle of ARC-AGI-1."""

    def loop(target: Target) -> Loop:
        import compressarc
        from compressarc.solver import step

        puzzle, program = compressarc.load_puzzle(name), compressarc.SolveConfig().program.on(target.platform)
        static, data = compressarc.signature(puzzle.canvas), compressarc.grids(puzzle.canvas)
        run = jax.eval_shape(lambda: step.init(static, program, key=jax.random.key(0)))

        def chunk(run: Any, data: Any, count: Any, key: Any) -> Any:
            return step._chunk(run, data, count, jax.random.wrap_key_data(key), static, program)

        return Loop(chunk, (run, shapes(data), COUNT, KEY), f"{name}, 1 run", count=program.chunk)

    return loop


def _lanes(target: Target, room: Any, example: Any, lanes: int, size: str, devices: int = 1) -> Loop:
    import compressarc
    from compressarc.batch.lanes import steps_of_lanes
    from compressarc.solver import step

    program = compressarc.SolveConfig().program.on(target.platform, lanes)
    run = jax.eval_shape(lambda: step.init(room, program, key=jax.random.key(0)))
    total = lanes * devices
    spec = PartitionSpec("run")

    def chunk(runs: Any, data: Any, count: Any, keys: Any) -> Any:
        return steps_of_lanes(runs, data, count, keys, room, program)

    function = chunk
    if devices > 1:

        def function(runs: Any, data: Any, count: Any, keys: Any) -> Any:
            return jax.shard_map(
                chunk,
                in_specs=(spec, spec, PartitionSpec(), spec),
                out_specs=(spec, PartitionSpec(None, "run")),
                check_vma=False,  # as `Lanes` has it
            )(runs, data, count, keys)

    return Loop(
        function,
        (_leading(total, run), _leading(total, shapes(example)), COUNT, jax.ShapeDtypeStruct((total, 2), jnp.uint32)),
        f"{size}, {lanes} runs on {'each of ' * (devices > 1)}{devices} device{'s' * (devices > 1)}",
        devices=devices,
        count=program.chunk,
        axis="run",
        spread=(spec, spec, PartitionSpec(), spec) if devices > 1 else None,
    )  # fmt: skip


def arc_lanes(name: str, lanes: int | None = None, devices: int = 1) -> Callable[[Target], Loop]:
    """Several runs of one puzzle side by side; None: as many as the plan would take for 128 seeds."""

    def loop(target: Target) -> Loop:
        import compressarc
        from compressarc.batch.device_model import device_model
        from compressarc.batch.plan import make_plan

        puzzle = compressarc.load_puzzle(name)
        static, data = compressarc.signature(puzzle.canvas), compressarc.grids(puzzle.canvas)
        planned = make_plan({name: static}, device_model(target.model), seeds=128).buckets[0].lanes
        return _lanes(target, static, data, lanes or planned, name, devices)

    return loop


def arc_room(
    examples: int, colors: int, x: int, y: int, lanes: int, tests: int = 1
) -> Callable[[Target], Loop]:
    """A padded room: puzzles of up to so many examples, colors beside black, and x times y cells."""

    def loop(target: Target) -> Loop:
        import numpy as np

        import compressarc
        from compressarc.batch.bucket_shapes import padded_grids, room_for

        rng = np.random.default_rng(0)

        def grid() -> list[list[int]]:
            cells = rng.integers(0, colors + 1, (x, y))
            cells.flat[: colors + 1] = np.arange(colors + 1)[: cells.size]
            return cells.tolist()

        pairs = lambda count: [{"input": grid(), "output": grid()} for _ in range(count)]  # noqa: E731
        large = {"train": pairs(examples - tests), "test": pairs(tests)}
        small = {"train": [{"input": [[0, 1]], "output": [[1, 0]]}] * 2, "test": pairs(1)}
        puzzles = [
            compressarc.parse_puzzle(data, name=name) for name, data in (("large", large), ("small", small))
        ]
        room = room_for([compressarc.signature(p.canvas) for p in puzzles])
        example = padded_grids(puzzles[0].canvas, room)
        return _lanes(target, room, example, lanes, f"padded room of {examples} x {colors} x {x} x {y}")

    return loop


def lodo_update(permutation: Literal["random", "shuffle"], n: int = 94_696) -> Callable[[Target], Loop]:
    """One update of the digits network's parameters (94,696)."""

    def loop(target: Target) -> Loop:
        import lodo

        optimizer = lodo.lodo(1e-2, architecture=lodo.BlockNetwork(permutation=permutation))
        params = jax.ShapeDtypeStruct((n,), jnp.float32)
        state = jax.eval_shape(optimizer.init, params)
        return Loop(
            lambda state, gradient, params: optimizer.update(gradient, state, params),
            (state, params, params),
            f"{n:,} parameters, {permutation}",
            again=lambda results: results[1],
        )

    return loop


def lodo_split(devices: int = 4, n: int = 94_696) -> Callable[[Target], Loop]:
    """The same update with the preconditioner split over devices."""

    def loop(target: Target) -> Loop:
        import lodo

        def optimizer(sharding: lodo.Sharding | None) -> Any:
            network = lodo.BlockNetwork(permutation="random", block_multiple=devices)
            return lodo.lodo(1e-2, architecture=network, sharding=sharding)

        def over(mesh: Mesh) -> Callable[..., Any]:
            split = optimizer(lodo.Sharding(mesh))
            return lambda state, gradient, params: split.update(gradient, state, params)

        params = jax.ShapeDtypeStruct((n,), jnp.float32)
        state = jax.eval_shape(optimizer(None).init, params)
        width = max(leaf.shape[-1] for leaf in jax.tree.leaves(state) if leaf.ndim > 1)
        by_block = lambda leaf: (  # noqa: E731  as `lodo.Sharding.split` lays it out
            PartitionSpec(*(None,) * (leaf.ndim - 1), "block")
            if leaf.ndim > 1 and leaf.shape[-1] == width
            else PartitionSpec()
        )
        return Loop(
            over(Mesh(jax.devices()[:1], ("block",))), (state, params, params),
            f"{n:,} parameters, random, theta over {devices} devices", devices=devices, axis="block",
            spread=(jax.tree.map(by_block, state), PartitionSpec(), PartitionSpec()), over=over,
            again=lambda results: results[1],
        )  # fmt: skip

    return loop


def sae_step(activation: Literal["topk", "relu"]) -> Callable[[Target], Loop]:
    """One step of a sparse autoencoder: 4,096 tokens of width 576, 8,192 latents."""

    def loop(target: Target) -> Loop:
        import equinox as eqx

        from features.sae import step
        from features.sae.config import TrainConfig
        from features.sae.model import SAEConfig

        sae_config = SAEConfig(576, 8192, activation, k=32 if activation == "topk" else None)
        config = TrainConfig(steps=1000, batch=4096).on(target.platform)
        sample = jax.ShapeDtypeStruct((4096, 576), jnp.float32)
        run = eqx.filter_eval_shape(
            lambda sample: step.init_run(sae_config, config, sample, key=jax.random.key(0)), sample
        )
        arrays, static = eqx.partition(run, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))

        def one(arrays: Any, x: Any) -> Any:
            after, info = step.step(eqx.combine(arrays, static), x, config)
            return eqx.filter(after, eqx.is_array), info

        return Loop(one, (arrays, sample), f"{activation}, 4,096 tokens of 576, 8,192 latents")

    return loop


def decoder_forward(heads: int = 9, shared: int = 3, devices: int = 1) -> Callable[[Target], Loop]:
    """Logits of a decoder of SmolLM2's shape, or with as many heads as devices can divide."""

    def loop(target: Target) -> Loop:
        import equinox as eqx

        from features.lm import decoder
        from features.lm.assemble import partition_specs
        from features.lm.config import DecoderConfig

        config = DecoderConfig(
            num_layers=30, width=64 * heads, num_heads=heads, num_kv_heads=shared, head_size=64, mlp_width=1536,
            vocab_size=49_152, context=8192,
        )  # fmt: skip
        model = eqx.filter_eval_shape(lambda: decoder.init(config, key=jax.random.key(0)))
        arrays, static = eqx.partition(model, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))

        def forward(arrays: Any, tokens: Any) -> Any:
            model = eqx.combine(arrays, static)
            stream = decoder.advance(model, decoder.embed(model, tokens, None), 0, config.num_layers)
            return decoder.unembed(model, stream.x)

        tokens = jax.ShapeDtypeStruct((8, 128), jnp.int32)
        specs = partition_specs(config, devices)
        return Loop(
            forward, (arrays, tokens), f"30 blocks, {heads} and {shared} heads, width {64 * heads}, 8 x 128 tokens",
            donated=(), devices=devices, axis="model", spread=None if devices == 1 else (specs, PartitionSpec()),
        )  # fmt: skip

    return loop


def _by_seed(seeds: int, *arguments: Shapes) -> tuple[Any, ...]:
    """What has an axis of seeds is spread, the rest is everywhere."""
    return jax.tree.map(
        lambda leaf: PartitionSpec("seed") if leaf.shape[:1] == (seeds,) else PartitionSpec(), arguments
    )


def hypernet_step(
    backend: Literal["tables", "transformer"], seeds: int = 2, modes: int = 1, devices: int = 1
) -> Callable[[Target], Loop]:
    """One step of a hypernetwork's training, sizes 4 and 8."""

    def loop(target: Target) -> Loop:
        import hypernet
        from hypernet.training.step import init, run_chunk, seed_keys

        config = hypernet.TrainConfig(
            generator=hypernet.GeneratorConfig(backend=backend, modes=modes),
            sizes=(4, 8),
            seeds=seeds,
            steps=2000,
        )
        keys = jax.eval_shape(lambda: seed_keys(jax.random.key(0), seeds))
        run = jax.eval_shape(lambda keys: init(config, keys), keys)
        data = jax.eval_shape(jax.random.key_data, keys)

        def one(run: Any, data: Any) -> Any:
            return run_chunk(run, jax.random.wrap_key_data(data), config=config, steps=1)

        return Loop(
            one, (run, data), f"{backend}, {seeds} seeds, {modes} mode{'s' * (modes > 1)}, sizes 4 and 8",
            devices=devices, axis="seed", spread=_by_seed(seeds, run, data) if devices > 1 else None,
        )  # fmt: skip

    return loop


def mips_step(
    kind: Literal["relu", "gru", "affine"], seeds: int = 5, devices: int = 1
) -> Callable[[Target], Loop]:
    """Training `seeds` recurrent networks on 4,096 sequences of 10: a chunk of 100 steps and its evaluation."""

    def loop(target: Target) -> Loop:
        from mips.networks.relu import ReluConfig
        from mips.networks.tokens import TokenConfig
        from mips.networks.training import Data, TrainConfig, init_run, run_chunk

        config = TrainConfig(seeds=seeds)
        inputs: tuple[int, ...] = (2,) if kind == "relu" else ()
        outputs: tuple[int, ...] = (1,) if kind == "relu" else ()
        family: Any = (
            ReluConfig(inputs=2, hidden=8) if kind == "relu" else TokenConfig(4, 4, hidden=32, cell=kind)
        )

        def whole(count: int, tail: tuple[int, ...]) -> Any:
            return jax.ShapeDtypeStruct((10, count, *tail), jnp.int32)

        data = Data(whole(8192, inputs), whole(8192, outputs), whole(4096, inputs), whole(4096, outputs))

        def keyed(key: Any) -> Any:
            return init_run(family, config, length=10, key=jax.random.wrap_key_data(key))

        run = jax.eval_shape(keyed, KEY)
        plain = dataclasses.replace(run, key=KEY)  # typed keys have no layout of their own

        def one(run: Any, data: Any) -> Any:
            run = dataclasses.replace(run, key=jax.random.wrap_key_data(run.key))
            after, info = run_chunk(run, data, family=family, config=config)
            return dataclasses.replace(after, key=jax.random.key_data(after.key)), info

        spread = dataclasses.replace(_by_seed(seeds, plain)[0], key=PartitionSpec()), PartitionSpec()
        return Loop(
            one, (plain, data), f"{family.describe()}, {seeds} seeds", steps=config.chunk,
            devices=devices, axis="seed", spread=spread if devices > 1 else None,
        )  # fmt: skip

    return loop


LOOPS: dict[str, Callable[[Target], Loop]] = {
    "compressarc/25ff71a9": arc_run("25ff71a9"),
    "compressarc/25ff71a9 lanes": arc_lanes("25ff71a9"),
    "compressarc/272f95fa": arc_run("272f95fa"),
    "compressarc/272f95fa lanes": arc_lanes("272f95fa"),
    "compressarc/3631a71a": arc_run("3631a71a"),
    "compressarc/3631a71a lanes": arc_lanes("3631a71a"),
    "compressarc/bucket": arc_room(6, 9, 10, 10, lanes=32, tests=2),
    "compressarc/devices": arc_lanes("25ff71a9", lanes=2, devices=4),
    "lodo/random": lodo_update("random"),
    "lodo/shuffle": lodo_update("shuffle"),
    "lodo/devices": lodo_split(),
    "features/topk": sae_step("topk"),
    "features/relu": sae_step("relu"),
    "features/decoder": decoder_forward(),
    "features/devices": decoder_forward(12, 4, devices=4),
    "hypernet/tables": hypernet_step("tables"),
    "hypernet/modes": hypernet_step("tables", modes=8),
    "hypernet/transformer": hypernet_step("transformer"),
    "hypernet/devices": hypernet_step("tables", seeds=4, devices=4),
    "mips/relu": mips_step("relu"),
    "mips/gru": mips_step("gru"),
    "mips/affine": mips_step("affine"),
    "mips/devices": mips_step("gru", seeds=4, devices=4),
}
"""What is compiled, by name."""

_ROOM = re.compile(r"compressarc/room (\d+)x(\d+)x(\d+)x(\d+) x (\d+)")
_RUNS = re.compile(r"compressarc/([0-9a-f]{8}) x (\d+)")


def loop_of(name: str) -> Callable[[Target], Loop]:
    """What is compiled: one of `LOOPS`, "compressarc/room ExCxXxY x LANES" or "compressarc/PUZZLE x LANES".

    Raises: KeyError.
    """
    if room := _ROOM.fullmatch(name):
        return arc_room(*map(int, room.groups()))
    if runs := _RUNS.fullmatch(name):
        return arc_lanes(runs[1], int(runs[2]))
    return LOOPS[name]


QUICK = ("lodo/shuffle", "features/decoder", "hypernet/tables", "mips/gru")
"""A loop of each package that compiles in seconds; compressarc's takes half a minute at least."""
