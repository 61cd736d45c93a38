"""The options of every command."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from hypernet.generator.config import GeneratorConfig
from hypernet.targets import L1, Target, get_target
from hypernet.training.step import TrainConfig

_Config = Annotated[TrainConfig, tyro.conf.OmitArgPrefixes]
"""Its fields are options themselves."""

registry = tyro.constructors.ConstructorRegistry()
"""How options are read that are no plain values."""


@registry.primitive_rule
def _targets(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Targets go by their names."""
    if info.type is not Target:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="NAME",
        instance_from_str=lambda given: get_target(given[0]),
        is_instance=lambda value: isinstance(value, Target),
        str_from_instance=lambda target: [target.name],
    )


@dataclasses.dataclass(frozen=True)
class Train:
    """Train generators, one per seed, side by side."""

    config: _Config = dataclasses.field(default_factory=lambda: TrainConfig(seeds=8))
    out: Path = Path("hypernet-run")
    """folder for checkpoints and history.png"""
    seed: int = 0
    """decides everything"""
    resume: bool = False
    """go on from an interrupted training"""


@dataclasses.dataclass(frozen=True)
class Generate:
    """Generate a network for any number of inputs, classify it, draw it."""

    n: int
    """number of inputs"""
    beta: float
    """price of a nat: small for precise networks, large for simple ones"""
    run: Path = Path("hypernet-run")
    """folder of `hypernet train`"""
    member: int | None = None
    """which of the trained seeds; default: the one of least loss at this beta"""
    mode: int | None = None
    """which branch; default: the one of least loss"""
    count: int = 1
    """networks"""
    seed: int = 0
    """decides the networks"""
    out: Path = Path("hypernet-networks")
    """folder for network-1.npz, network-1.png, ... and result.json"""


@dataclasses.dataclass(frozen=True)
class Classify:
    """Say which algorithm a network of yours uses."""

    file: tyro.conf.Positional[Path]
    """a .npz file with W (n, H), v (H,), optionally b (H,), c () and activation"""
    activation: str | None = None
    """swish, relu, gelu, softplus, tanh; needed where the file does not say"""
    target: Target = L1
    """what the network is to compute"""
    png: Path | None = None
    """draw the network here"""
    out: Path | None = None
    """write the result as JSON here"""


@dataclasses.dataclass(frozen=True)
class Phase:
    """Train many seeds and map which algorithm they draw, against beta and training time."""

    out: Path = Path("hypernet-phase")
    """folder for phase.png, phase.csv, result.json and checkpoints"""
    seeds: int = 8
    """generators side by side; the paper pooled 33"""
    steps: int = TrainConfig.steps
    """optimizer steps"""
    log10_betas: tuple[float, ...] = (-6.0, -5.0, -4.0, -3.5, -3.0, -2.5, -2.0, -1.0, 0.0)
    """prices looked at"""
    n: int = 16
    """inputs of the networks looked at"""
    networks: int = 16
    """networks per seed, beta and look"""
    looks: int = 10
    """looks during training"""
    target: Target = L1
    """a target with one output"""
    sizes: tuple[int, ...] = tuple(TrainConfig.sizes)
    """numbers of inputs that are trained"""
    activation: str = GeneratorConfig.activation
    """swish, relu, gelu, softplus, tanh"""
    seed: int = 0
    """decides everything"""
    resume: bool = False
    """go on from an interrupted training"""


@dataclasses.dataclass(frozen=True)
class Gallery:
    """One page: error against bits, with the networks and formulas where the front bends."""

    run: Path = Path("hypernet-run")
    """folder of `hypernet train` or `hypernet phase`"""
    n: int = 16
    """inputs of the networks"""
    networks: int = 16
    """networks per seed and beta"""
    seed: int = 0
    """decides the networks"""
    out: Path = Path("hypernet-gallery")
    """folder for gallery.html, front.png and result.json"""
