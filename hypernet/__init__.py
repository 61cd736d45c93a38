"""Families of interpretable networks, ranked by complexity.

    trained = hypernet.train(hypernet.TrainConfig(), jax.random.key(0))
    mlp = hypernet.generate(trained.generator, jax.random.key(1), n=7, beta=1e-4)
    print(hypernet.classify(mlp).label, hypernet.formula(mlp).text)

After "Generating Interpretable Networks using Hypernetworks" (arXiv 2312.03051), for which no code was
published. Names are imported when first used: `hypernet --help` does not wait for jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypernet.algorithms import (
        convexity,
        convexity_floor,
        distributed_pudding,
        double_sided,
        error_table,
        pudding,
        tournament,
    )
    from hypernet.analysis.measure import Measured, measure
    from hypernet.analysis.pareto_front import Front, pareto_front
    from hypernet.analysis.phase_diagram import PhaseDiagram, phase_diagram
    from hypernet.classification.classify import Classification, classify, classify_many
    from hypernet.classification.formulas import Formula, formula
    from hypernet.classification.order_parameters import LABELS, OrderParameters, order_parameters
    from hypernet.classification.tournament import Rounds, classify_rounds
    from hypernet.generator.assignment import Assignment
    from hypernet.generator.config import GeneratorConfig
    from hypernet.generator.gaussians import bits
    from hypernet.generator.generate import Generator, draw_network_and_price, generate, init_generator
    from hypernet.networks.canonical import Simplified, expression, simplify
    from hypernet.networks.mlp import MLP, evaluate
    from hypernet.networks.read_write import read_network, write_network
    from hypernet.report.figures import draw_front, draw_network, draw_phase_diagram
    from hypernet.report.gallery import write_gallery
    from hypernet.targets import TARGETS, Target, get_target, modular_addition
    from hypernet.training.baseline import train_directly
    from hypernet.training.checkpoints import load, load_config
    from hypernet.training.step import Info, Run, TrainConfig, init, run_chunk, seed_keys, step
    from hypernet.training.train import Trained, collapsed, train

_HOMES = {
    "hypernet.algorithms": (
        "convexity",
        "convexity_floor",
        "distributed_pudding",
        "double_sided",
        "error_table",
        "pudding",
        "tournament",
    ),
    "hypernet.generator.assignment": ("Assignment",),
    "hypernet.training.baseline": ("train_directly",),
    "hypernet.training.checkpoints": ("load", "load_config"),
    "hypernet.classification.classify": ("Classification", "classify", "classify_many"),
    "hypernet.generator.config": ("GeneratorConfig",),
    "hypernet.report.figures": ("draw_front", "draw_network", "draw_phase_diagram"),
    "hypernet.classification.formulas": ("Formula", "formula"),
    "hypernet.analysis.pareto_front": ("Front", "pareto_front"),
    "hypernet.report.gallery": ("write_gallery",),
    "hypernet.generator.gaussians": ("bits",),
    "hypernet.generator.generate": ("Generator", "draw_network_and_price", "generate", "init_generator"),
    "hypernet.analysis.measure": ("Measured", "measure"),
    "hypernet.networks.mlp": ("MLP", "evaluate"),
    "hypernet.classification.order_parameters": ("LABELS", "OrderParameters", "order_parameters"),
    "hypernet.analysis.phase_diagram": ("PhaseDiagram", "phase_diagram"),
    "hypernet.networks.read_write": ("read_network", "write_network"),
    "hypernet.classification.tournament": ("Rounds", "classify_rounds"),
    "hypernet.networks.canonical": ("Simplified", "expression", "simplify"),
    "hypernet.targets": ("TARGETS", "Target", "get_target", "modular_addition"),
    "hypernet.training.step": ("Info", "Run", "TrainConfig", "init", "run_chunk", "seed_keys", "step"),
    "hypernet.training.train": ("Trained", "collapsed", "train"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "LABELS",
    "MLP",
    "TARGETS",
    "Assignment",
    "Classification",
    "Formula",
    "Front",
    "Generator",
    "GeneratorConfig",
    "Info",
    "Measured",
    "OrderParameters",
    "PhaseDiagram",
    "Rounds",
    "Run",
    "Simplified",
    "Target",
    "TrainConfig",
    "Trained",
    "bits",
    "classify",
    "classify_many",
    "classify_rounds",
    "collapsed",
    "convexity",
    "convexity_floor",
    "distributed_pudding",
    "double_sided",
    "draw_front",
    "draw_network",
    "draw_network_and_price",
    "draw_phase_diagram",
    "error_table",
    "evaluate",
    "expression",
    "formula",
    "generate",
    "get_target",
    "init",
    "init_generator",
    "load",
    "load_config",
    "measure",
    "modular_addition",
    "order_parameters",
    "pareto_front",
    "phase_diagram",
    "pudding",
    "read_network",
    "run_chunk",
    "seed_keys",
    "simplify",
    "step",
    "tournament",
    "train",
    "train_directly",
    "write_gallery",
    "write_network",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hypernet' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
