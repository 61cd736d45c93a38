"""The options of every command."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from features.discovery.config import ClusterConfig, DiscoverConfig
from features.sae.config import Activation, Normalize, TrainConfig

# Fields of these are options themselves.
_Training = Annotated[TrainConfig, tyro.conf.OmitArgPrefixes]
_Discovery = Annotated[DiscoverConfig, tyro.conf.OmitArgPrefixes]


@dataclasses.dataclass(frozen=True)
class Demo:
    """Train the soft calendar, find its circles, write points of them: the whole method in two minutes."""

    out: Path = Path("features-demo")
    """folder for pictures and result.json"""
    seed: int = 0
    """decides weights and the split of problems"""
    relabellings: int = 200
    """permuted circles that the ordered one is compared with"""


@dataclasses.dataclass(frozen=True)
class Circles:
    """Look for a concept's circle in a language model, layer by layer."""

    model: str = "smollm2"
    """smollm2, a .gguf file, a folder of safetensors, or a hub id"""
    concept: str = "months"
    """days, months, hours, seasons, compass, notes, zodiac, colors, or names: 'a,b,c,...'"""
    template: str | None = None
    """a prompt with {alpha}; default: the paper's prompts for days and months"""
    out: Path = Path("features-circles")
    """folder for circles.png and result.json"""
    permutations: int = 200
    """relabellings for the null of every fit"""


@dataclasses.dataclass(frozen=True)
class Intervene:
    """Write points of a circle into a language model, with all baselines and relabeled circles."""

    model: str = "smollm2"
    """smollm2, a .gguf file, a folder of safetensors, or a hub id"""
    task: str = "next-month"
    """weekdays, months, next-month, tomorrow, same-day, same-month, ..."""
    layers: tuple[int, ...] = ()
    """layers to patch; default: all"""
    relabellings: int = 200
    """permuted circles at the first of the layers; 0: none"""
    k: int = 5
    """principal coordinates of the probe"""
    spelling: Literal["space", "bare"] = "space"
    """answers with a leading space, or without as in the reference"""
    out: Path = Path("features-intervene")
    """folder for pictures and result.json"""


@dataclasses.dataclass(frozen=True)
class Evr:
    """Explain a model's hidden states by functions of alpha and beta."""

    model: str = "smollm2"
    """smollm2, a .gguf file, a folder of safetensors, or a hub id"""
    task: str = "months"
    """a task with several steps: weekdays, months"""
    layer: int = 20
    """residual state that is explained"""
    position: Literal["last", "alpha"] = "last"
    """at which token"""
    functions: tuple[str, ...] = ()
    """functions in order; default: chosen by gain in adjusted r^2"""
    out: Path = Path("features-evr")
    """folder for residual.png and result.json"""


@dataclasses.dataclass(frozen=True)
class Irreducible:
    """Measure both indices of a point cloud."""

    file: tyro.conf.Positional[Path]
    """a .npy file with an array (points, dimensions)"""
    protocol: Literal["X", "P", "A", "B"] = "X"
    """X: exact sweeps; B: the paper's cluster figures; P: its appendix; A: its demo"""
    bootstrap: int = 200
    """resamples for 95 % intervals; 0: none"""
    png: Path | None = None
    """draw the cloud, its fullest band and the information curve here"""
    out: Path | None = None
    """write the result as JSON here"""
    seed: int = 0
    """decides resamples and starts of ascents"""


@dataclasses.dataclass(frozen=True)
class SaeTrain:
    """Train a sparse autoencoder on activations, or on a text run through a language model."""

    out: Path
    """folder for the autoencoder (SAELens form); training state is kept beside it"""
    activations: Path | None = None
    """a .npy file (tokens, d_in)"""
    text: Path | None = None
    """or a text file, with --model and --layer"""
    model: str = "smollm2"
    """model that reads the text"""
    layer: int = 6
    """residual state that is learned"""
    length: int = 128
    """tokens per sequence"""
    d_sae: int = 4096
    """latents"""
    activation: Activation = "topk"
    """kind of autoencoder"""
    k: int = 16
    """latents per token of topk and batchtopk"""
    normalize: Normalize = "constant_norm_rescale"
    """how activations are scaled"""
    training: _Training = dataclasses.field(
        default_factory=lambda: TrainConfig(steps=4000, batch=2048, sparsity=1.0, chunk=50)
    )
    seed: int = 0
    """decides weights and order"""
    resume: bool = False
    """go on from an interrupted training"""


@dataclasses.dataclass(frozen=True)
class SaeDiscover:
    """Group an autoencoder's latents, measure every group's planes, rank them."""

    sae: tyro.conf.Positional[Path]
    """folder or file of the autoencoder"""
    activations: Path | None = None
    """a .npy file (tokens, d_in)"""
    text: Path | None = None
    """or a text file, with --model and --layer"""
    model: str = "smollm2"
    """model that reads the text"""
    layer: int | None = None
    """residual state that the autoencoder reads; default: what its file says"""
    length: int = 128
    """tokens per sequence"""
    config: _Discovery = dataclasses.field(
        default_factory=lambda: DiscoverConfig(ClusterConfig(least_frequency=2e-4))
    )
    concept: str | None = None
    """say afterwards how each group relates to this concept (needs --text)"""
    out: Path = Path("features-discover")
    """folder for result.json, planes.png and, with plotly, planes.html"""


_Sae = (
    Annotated[SaeTrain, tyro.conf.subcommand("train")]
    | Annotated[SaeDiscover, tyro.conf.subcommand("discover")]
)


@dataclasses.dataclass(frozen=True)
class Sae:
    """Sparse autoencoders: train, discover."""

    command: tyro.conf.OmitSubcommandPrefixes[_Sae]
