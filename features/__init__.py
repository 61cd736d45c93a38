"""Multi-dimensional features of language models: find them, test them, intervene on them.

    model = features.load("smollm2")
    months = features.run_task(model, features.get_task("next-month"))
    print(features.intervene(months, layer=0, method="circle"))

After "Not All Language Model Features Are One-Dimensionally Linear" (ICLR 2025; arXiv 2405.14860), and
beyond it. Names are imported when first used: `features --help` does not wait for jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.circles.concepts import Concept, Task, get_concept, get_task
    from features.circles.continuity import Continuity, continuity
    from features.circles.fit import (
        circle,
        circle_fit_test,
        class_means,
        fit_circle,
        fourier_power,
        order_score,
        order_test,
    )
    from features.circles.intervention import (
        Effect,
        causal_null,
        circle_writer,
        intervene,
        layer_sweep,
        polar_sweep,
    )
    from features.circles.patching import draw_pairs, patch_blocks, patch_heads
    from features.circles.prompting import Cached, run_prompts, run_task
    from features.circles.regression import explain, explain_automatically, library, regress
    from features.discovery.clusters import ClusterConfig, cluster, spectral
    from features.discovery.discover import Candidate, DiscoverConfig, Discovery, annotate, discover
    from features.discovery.graph import coactivation, components, nearest
    from features.irreducibility.measure import Irreducibility, measure, measure_many
    from features.irreducibility.mixture import sweep
    from features.irreducibility.separability import mutual_information_curve, separability
    from features.irreducibility.superposition import overlap, principal_cosines
    from features.lm.decoder import Decoder, forward, residual, residuals
    from features.lm.edits import Ablate, Patch, Steer
    from features.lm.loading import LanguageModel, load
    from features.sae.activations import CachedActivations, StreamedActivations
    from features.sae.config import SAEConfig
    from features.sae.metrics import evaluate, loss_recovered
    from features.sae.model import SAE, decode, encode, firings, reconstruct
    from features.sae.step import TrainConfig
    from features.sae.storage import load_sae, save_sae
    from features.sae.train import train
    from features.synthetic.calendar_model import Calendar, CalendarConfig, train_calendar

_HOMES = {
    "features.synthetic.calendar_model": ("Calendar", "CalendarConfig", "train_calendar"),
    "features.circles.fit": (
        "circle",
        "circle_fit_test",
        "class_means",
        "fit_circle",
        "fourier_power",
        "order_score",
        "order_test",
    ),
    "features.discovery.clusters": ("ClusterConfig", "cluster", "spectral"),
    "features.circles.concepts": ("Concept", "Task", "get_concept", "get_task"),
    "features.circles.continuity": ("Continuity", "continuity"),
    "features.discovery.discover": ("Candidate", "DiscoverConfig", "Discovery", "annotate", "discover"),
    "features.discovery.graph": ("coactivation", "components", "nearest"),
    "features.circles.intervention": (
        "Effect",
        "causal_null",
        "circle_writer",
        "intervene",
        "layer_sweep",
        "polar_sweep",
    ),
    "features.irreducibility.measure": ("Irreducibility", "measure", "measure_many"),
    "features.lm.decoder": ("Decoder", "forward", "residual", "residuals"),
    "features.lm.edits": ("Ablate", "Patch", "Steer"),
    "features.lm.loading": ("LanguageModel", "load"),
    "features.irreducibility.mixture": ("sweep",),
    "features.circles.patching": ("draw_pairs", "patch_blocks", "patch_heads"),
    "features.circles.prompting": ("Cached", "run_prompts", "run_task"),
    "features.circles.regression": ("explain", "explain_automatically", "library", "regress"),
    "features.sae.activations": ("CachedActivations", "StreamedActivations"),
    "features.sae.config": ("SAEConfig",),
    "features.sae.metrics": ("evaluate", "loss_recovered"),
    "features.sae.model": ("SAE", "decode", "encode", "firings", "reconstruct"),
    "features.sae.storage": ("load_sae", "save_sae"),
    "features.sae.step": ("TrainConfig",),
    "features.sae.train": ("train",),
    "features.irreducibility.separability": ("mutual_information_curve", "separability"),
    "features.irreducibility.superposition": ("overlap", "principal_cosines"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "SAE",
    "Ablate",
    "Cached",
    "CachedActivations",
    "Calendar",
    "CalendarConfig",
    "Candidate",
    "ClusterConfig",
    "Concept",
    "Continuity",
    "Decoder",
    "DiscoverConfig",
    "Discovery",
    "Effect",
    "Irreducibility",
    "LanguageModel",
    "Patch",
    "SAEConfig",
    "Steer",
    "StreamedActivations",
    "Task",
    "TrainConfig",
    "annotate",
    "causal_null",
    "circle",
    "circle_fit_test",
    "circle_writer",
    "class_means",
    "cluster",
    "coactivation",
    "components",
    "continuity",
    "decode",
    "discover",
    "draw_pairs",
    "encode",
    "evaluate",
    "explain",
    "explain_automatically",
    "firings",
    "fit_circle",
    "forward",
    "fourier_power",
    "get_concept",
    "get_task",
    "intervene",
    "layer_sweep",
    "library",
    "load",
    "load_sae",
    "loss_recovered",
    "measure",
    "measure_many",
    "mutual_information_curve",
    "nearest",
    "order_score",
    "order_test",
    "overlap",
    "patch_blocks",
    "patch_heads",
    "polar_sweep",
    "principal_cosines",
    "reconstruct",
    "regress",
    "residual",
    "residuals",
    "run_prompts",
    "run_task",
    "save_sae",
    "separability",
    "spectral",
    "sweep",
    "train",
    "train_calendar",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'features' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
