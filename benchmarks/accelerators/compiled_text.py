"""Reads XLA's text of a compiled module: which kernels run how often, and what they read and write.

Loop bodies count as often as they run. A loop whose trips the compiler does not know, which is how this
project's loops over steps are written, counts once: the figures are those of one step. Of a conditional the
branch that moves most counts.

The two minor dimensions of a TPU's arrays are stored in tiles: `padded` bytes are those of whole tiles,
`logical` ones those of the numbers in them. XLA's `estimated_cycles` leave out transfers, gathers and sorts.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Iterator

_BITS = {
    "pred": 8, "s2": 2, "u2": 2, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32,
    "s64": 64, "u64": 64, "f16": 16, "bf16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128,
    "f8e4m3fn": 8, "f8e5m2": 8,
}  # fmt: skip
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*->.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_NAME = re.compile(r"%([\w.\-]+)")

NOT_RUN = frozenset({
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id",
    "optimization-barrier", "opt-barrier", "domain",
})  # fmt: skip
"""Instructions that cost nothing at run time."""

LAUNCHED = frozenset(
    {"fusion", "custom-call", "copy", "dot", "convolution", "reduce", "gather", "scatter", "sort"}
)
"""Instructions that are kernels even where their result is one number."""

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Stored:
    """One array as it lies in memory."""

    logical: float  # bytes of its numbers
    padded: float  # bytes of its tiles
    near: bool  # in a TPU's VMEM (or another small memory) rather than HBM
    dtype: str

    @property
    def single(self) -> bool:
        """Whether it is one number."""
        return self.logical * 8 == _BITS[self.dtype]


def _stored(match: re.Match[str]) -> Stored:
    dtype, dims_text, layout = match.groups()
    dims = [int(d) for d in dims_text.split(",") if d]
    width = _BITS[dtype] / 8
    logical = padded = math.prod(dims) * width
    layout = layout or ""
    tile = re.search(r"T\(([\d,]+)\)", layout)
    if tile and dims:
        order = [int(d) for d in layout.split(":")[0].split(",") if d]
        sizes = [dims[d] for d in reversed(order)]  # major first
        tiles = [int(t) for t in tile.group(1).split(",")]
        sizes = [1] * (len(tiles) - len(sizes)) + sizes
        for place, size in enumerate(tiles, len(sizes) - len(tiles)):
            sizes[place] = -(-sizes[place] // size) * size
        padded = math.prod(sizes) * width
    space = re.search(r"S\((\d+)\)", layout)
    return Stored(logical, padded, bool(space and int(space.group(1)) > 0), dtype)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    results: tuple[Stored, ...]
    operands: tuple[str, ...]
    attributes: str
    number: int | None  # of a parameter
    value: str  # of a constant
    root: bool

    def attribute(self, key: str) -> str | None:
        """The computation that an attribute such as `calls` names."""
        found = re.search(rf"\b{key}=%?([\w.\-]+)", self.attributes)
        return found.group(1) if found else None


Computation = dict[str, Instruction]


def _closing(text: str, start: int) -> int:
    depth = 0
    for place in range(start, len(text)):
        if text[place] in "([{":
            depth += 1
        elif text[place] in ")]}":
            depth -= 1
            if depth == 0:
                return place
    return len(text) - 1


def _instruction(line: str, match: re.Match[str]) -> Instruction | None:
    rest = line[match.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opcode = re.match(r"([\w\-]+)\(", rest)
    if opcode is None:
        return None
    close = _closing(rest, opcode.end() - 1)
    inside, name = rest[opcode.end() : close], opcode.group(1)
    results = tuple(_stored(m) for m in _ARRAY.finditer(shape) if m.group(1) in _BITS)
    return Instruction(
        name=match.group(2),
        opcode=name,
        results=results,
        operands=() if name in ("parameter", "constant") else tuple(_NAME.findall(inside)),
        attributes=rest[close + 1 :],
        number=int(inside) if name == "parameter" else None,
        value=inside if name == "constant" else "",
        root=bool(match.group(1)),
    )


@dataclasses.dataclass(frozen=True)
class Run:
    """An instruction that runs, and how often in one step."""

    instruction: Instruction
    computation: Computation
    times: int


class Module:
    """The compiled module behind `jax.stages.Compiled.as_text()`."""

    def __init__(self, text: str) -> None:
        self.computations: dict[str, Computation] = {}
        self.entry = ""
        current: Computation | None = None
        for line in text.splitlines():
            header = None if line.startswith(" ") else _HEADER.match(line)
            if header:
                current = self.computations.setdefault(header.group(2), {})
                if header.group(1):
                    self.entry = header.group(2)
            elif line.startswith("}"):
                current = None
            elif current is not None and (match := _INSTRUCTION.match(line)):
                found = _instruction(line, match)
                if found is not None:
                    current[found.name] = found
        if not self.entry:
            raise ValueError("no ENTRY computation: not the text of a compiled module")

    def trips(self, loop: Instruction) -> int | None:
        """How often the body of a `while` runs, if the compiler knows."""
        known = re.search(r'known_trip_count"?:\{"n":"(\d+)"', loop.attributes)
        if known:
            return int(known.group(1))
        # A TPU's text does not say. JAX counts from 0 up to what the condition compares with: a constant
        # there, or the number of steps that came in from outside.
        return max(self._constants(loop.attribute("condition") or ""), default=None)

    def _constants(self, name: str) -> Iterator[int]:
        """Whole numbers among the constants of a computation and of what it calls."""
        for instruction in self.computations.get(name, {}).values():
            if instruction.opcode == "constant" and instruction.value.isdigit():
                yield int(instruction.value)
            elif called := instruction.attribute("calls"):
                yield from self._constants(called)

    def runs(self) -> list[Run]:
        """All that runs in one step."""
        return list(self._walk(self.entry, 1))

    def _walk(self, name: str, times: int) -> Iterator[Run]:
        computation = self.computations[name]
        for instruction in computation.values():
            if instruction.opcode == "while":
                yield from self._walk(
                    instruction.attribute("body") or "", times * (self.trips(instruction) or 1)
                )
            elif instruction.opcode == "call":
                yield from self._walk(instruction.attribute("to_apply") or "", times)
            elif instruction.opcode == "conditional":
                branches = [list(self._walk(b, times)) for b in self._branches(instruction)]
                yield from max(
                    branches, key=lambda b: sum(r.times * self.moved(r).padded for r in b), default=[]
                )
            elif instruction.opcode not in NOT_RUN and not instruction.opcode.endswith(("-done", "-update")):
                yield Run(instruction, computation, times)

    def _branches(self, conditional: Instruction) -> list[str]:
        listed = re.search(r"branch_computations=\{([^}]*)\}", conditional.attributes)
        if listed:
            return _NAME.findall(listed.group(1))
        both = (conditional.attribute("true_computation"), conditional.attribute("false_computation"))
        return [b for b in both if b]

    def moved(self, run: Run) -> Moved:
        """What one run of an instruction reads and writes; of slices, what is taken or replaced."""
        instruction = run.instruction
        if instruction.opcode in ("copy-start", "slice-start"):
            return self._transferred(run)
        called = instruction.attribute("calls") or ""
        total = Moved()
        in_place: list[Stored] = []
        for place, operand in enumerate(instruction.operands):
            source = run.computation.get(operand)
            if source is None:
                continue
            taken = self._taken(instruction, called, place)
            if taken is not None:
                replaced, parts = taken
                in_place += replaced
                for array in source.results[:1]:
                    total += Moved.of(array, parts)
            else:
                for array in source.results:
                    total += Moved.of(array)
        # beside its result a product of cuBLAS has a workspace, which is not traffic
        results = instruction.results[:1] if "__cublas" in instruction.attributes else instruction.results
        for place, array in enumerate(results):
            total += Moved.of(array, [in_place[place]] if place < len(in_place) else None)
        return total

    def _transferred(self, run: Run) -> Moved:
        """What an asynchronous copy moves: its text gives source and destination in one tuple, in either order."""
        instruction = run.instruction
        source = run.computation[instruction.operands[0]].results[0]
        arrived = instruction.results[1 if instruction.opcode == "slice-start" else 0]
        return Moved.of(source, [arrived]) + Moved.of(arrived)

    def _taken(
        self, instruction: Instruction, called: str, place: int
    ) -> tuple[list[Stored], list[Stored]] | None:
        """What is replaced in, and what is taken from, an operand that isn't read whole; None if it is."""
        if instruction.opcode in ("dynamic-slice", "slice", "gather") and place == 0:
            return [], list(instruction.results[:1])
        fused = self.computations.get(called, {})
        parameter = next((i.name for i in fused.values() if i.number == place), None)
        return None if parameter is None else self._taken_inside(called, parameter)

    @functools.cached_property
    def _users(self) -> dict[str, dict[str, list[Instruction]]]:
        """By computation and name: the instructions that read it."""
        users: dict[str, dict[str, list[Instruction]]] = {}
        for name, computation in self.computations.items():
            readers = users.setdefault(name, {})
            for instruction in computation.values():
                for operand in instruction.operands:
                    readers.setdefault(operand, []).append(instruction)
        return users

    def _taken_inside(self, called: str, parameter: str) -> tuple[list[Stored], list[Stored]] | None:
        fused = self.computations[called]
        names, readers = self._read_by(called, parameter)
        replaced, parts = [], []
        for reader in readers:
            first = reader.operands[0] in names and not names & set(reader.operands[1:])
            if first and reader.opcode == "dynamic-update-slice":
                replaced += fused[reader.operands[1]].results[:1]
            elif first and reader.opcode in ("dynamic-slice", "slice", "gather"):
                within = self._taken_inside(called, reader.name)  # a slice of a slice
                parts += reader.results[:1] if within is None or within[0] else within[1]
            else:
                return None
        return (replaced, parts) if readers else None

    def _read_by(self, called: str, name: str) -> tuple[set[str], list[Instruction]]:
        """An instruction's names, as others see its bytes, and those that read them."""
        users, names, todo = self._users[called], {name}, [name]
        readers: list[Instruction] = []
        while todo:
            for user in users.get(todo.pop(), []):
                if user.opcode == "bitcast":
                    names.add(user.name)
                    todo.append(user.name)
                else:
                    readers.append(user)
        return names, readers


@dataclasses.dataclass(frozen=True)
class Moved:
    """Bytes read and written: of tiles and of numbers, all and in the large memory alone."""

    padded: float = 0
    logical: float = 0
    far_padded: float = 0
    far_logical: float = 0

    @staticmethod
    def of(array: Stored, parts: list[Stored] | None = None) -> Moved:
        """An array, or parts of it, each at most the whole."""
        padded, logical = array.padded, array.logical
        if parts is not None:
            padded = min(padded, sum(p.padded for p in parts))
            logical = min(logical, sum(p.logical for p in parts))
        return Moved(padded, logical, 0 if array.near else padded, 0 if array.near else logical)

    def __add__(self, other: Moved) -> Moved:
        return Moved(
            *(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True))
        )

    def times(self, count: int) -> Moved:
        """As often."""
        return Moved(*(count * a for a in dataclasses.astuple(self)))


@dataclasses.dataclass(frozen=True)
class Figures:
    """What the compiler says of one step."""

    kernels: int  # fusions, custom calls, copies and the like
    scalars: int  # arithmetic of single numbers in a TPU's scalar unit, which is no kernel
    transfers: int  # asynchronous copies between memories (DMA)
    far_padded: float  # bytes moved in HBM, whole tiles
    far_logical: float  # bytes moved in HBM, numbers
    padded: float  # bytes moved in all memories, whole tiles
    logical: float
    cycles: int  # XLA's estimate; 0 where it makes none
    collectives: dict[str, int]
    products: dict[str, int]  # number of products by operands' type and precision
    sorts: int
    scatters: int  # scatter instructions, loops that stand for one included

    @property
    def padding(self) -> float:
        """Padded over logical bytes in HBM."""
        return self.far_padded / self.far_logical if self.far_logical else 1.0


def _is_collective(opcode: str) -> str | None:
    return next((c for c in COLLECTIVES if opcode in (c, f"{c}-start")), None)


def _precision(instruction: Instruction) -> str:
    found = re.search(r"operand_precision\"?[=:]\s*[\[{]\"?(\w+)", instruction.attributes)
    return found.group(1).lower() if found else "default"


def figures(text: str, *, steps: int = 1, tpu: bool = False) -> Figures:
    """Reads the text of a compiled module.

    steps: how many the module takes, where it knows; figures are of one, rounded up. tpu: whether it is for one.
    """
    module = Module(text)
    runs = module.runs()
    moved, kernels, scalars, transfers, cycles = Moved(), 0, 0, 0, 0
    collectives: Counter[str] = Counter()
    products: Counter[str] = Counter()
    sorts = scatters = 0
    for run in runs:
        instruction = run.instruction
        moved += module.moved(run).times(run.times)
        estimate = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
        cycles += run.times * int(estimate.group(1)) if estimate else 0
        if collective := _is_collective(instruction.opcode):
            collectives[collective] += run.times
        elif instruction.opcode.endswith("-start"):
            transfers += run.times
        elif tpu and instruction.opcode not in LAUNCHED and all(r.single for r in instruction.results):
            scalars += run.times
        else:
            kernels += run.times
        inside = module.computations.get(instruction.attribute("calls") or "", {}).values()
        for each in (instruction, *inside):
            if each.opcode in ("dot", "convolution") or "__cublas" in each.attributes:
                products[f"{_operand_type(each, run, module)} {_precision(each)}"] += run.times
            sorts += run.times * (each.opcode == "sort" or "TopK" in each.attributes)
            scatters += run.times * ("scatter" in each.opcode and each.opcode != "reduce-scatter")
    whole = lambda count: -(-count // steps)  # noqa: E731
    return Figures(
        whole(kernels), whole(scalars), whole(transfers), moved.far_padded / steps, moved.far_logical / steps,
        moved.padded / steps, moved.logical / steps, whole(cycles),
        {kind: whole(count) for kind, count in collectives.items()},
        {kind: whole(count) for kind, count in products.items()}, whole(sorts), whole(scatters),
    )  # fmt: skip


def _operand_type(product: Instruction, run: Run, module: Module) -> str:
    inside = module.computations.get(run.instruction.attribute("calls") or "", {})
    for operand in product.operands[:1]:
        source = inside.get(operand) or run.computation.get(operand)
        if source and source.results:
            return source.results[0].dtype
    return product.results[0].dtype if product.results else "?"
