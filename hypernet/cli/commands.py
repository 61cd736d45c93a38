"""The options of every command."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Train:
    """Train generators, one per seed, side by side."""

    out: Path = Path("hypernet-run")
    """folder for checkpoints and history.png"""
    target: str = "l1"
    """l1, l2, linf, max, sum-relu, huber, sum-squares, parity, sort, modular-addition-3, ..."""
    seeds: int = 8
    """generators side by side"""
    steps: int = 4000
    """optimizer steps; 8,000 for best accuracy"""
    sizes: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 16)
    """numbers of inputs"""
    slots: tuple[int, ...] = (3,)
    """hidden units per input, one number per hidden layer"""
    relation: Literal["columns", "tree"] = "columns"
    """what a generator knows of two inputs: the same or not, or their distance in a binary tree"""
    activation: str = "swish"
    """swish, relu, gelu, softplus, tanh"""
    modes: int = 1
    """branches that one generator holds"""
    backend: Literal["tables", "transformer"] = "tables"
    """tables: a posterior per orbit, fast; transformer: the paper's shape"""
    log10_beta: tuple[float, float] = (-6.0, 0.0)
    """range of prices"""
    learning_rate: float = 4e-3
    """Adam's, at its peak"""
    kl_warmup: int = 0
    """steps over which the price rises from zero"""
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
    target: str = "l1"
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
    steps: int = 4000
    """optimizer steps"""
    log10_betas: tuple[float, ...] = (-6.0, -5.0, -4.0, -3.5, -3.0, -2.5, -2.0, -1.0, 0.0)
    """prices looked at"""
    n: int = 16
    """inputs of the networks looked at"""
    networks: int = 16
    """networks per seed, beta and look"""
    looks: int = 10
    """looks during training"""
    target: str = "l1"
    """a target with one output"""
    sizes: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 16)
    """numbers of inputs that are trained"""
    activation: str = "swish"
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
