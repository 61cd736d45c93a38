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
    from hypernet.assignment import Assignment
    from hypernet.baseline import train_directly
    from hypernet.canonical import Simplified, expression, simplify
    from hypernet.checkpoints import load, load_config
    from hypernet.classifier import Classification, classify, classify_many
    from hypernet.config import GeneratorConfig
    from hypernet.draw import draw_front, draw_network, draw_phase_diagram
    from hypernet.formulas import Formula, formula
    from hypernet.front import Front, pareto_front
    from hypernet.gallery import write_gallery
    from hypernet.gaussians import bits
    from hypernet.generator import Generator, draw_network_and_price, generate, init_generator
    from hypernet.measuring import Measured, measure
    from hypernet.network import MLP, evaluate
    from hypernet.order import LABELS, OrderParameters, order_parameters
    from hypernet.phase import PhaseDiagram, phase_diagram
    from hypernet.reading import read_network, write_network
    from hypernet.rounds import Rounds, classify_rounds
    from hypernet.target import TARGETS, Target, get_target, modular_addition
    from hypernet.training import (
        Info,
        Run,
        TrainConfig,
        Trained,
        collapsed,
        init,
        run_chunk,
        seed_keys,
        step,
        train,
    )

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
    "hypernet.assignment": ("Assignment",),
    "hypernet.baseline": ("train_directly",),
    "hypernet.checkpoints": ("load", "load_config"),
    "hypernet.classifier": ("Classification", "classify", "classify_many"),
    "hypernet.config": ("GeneratorConfig",),
    "hypernet.draw": ("draw_front", "draw_network", "draw_phase_diagram"),
    "hypernet.formulas": ("Formula", "formula"),
    "hypernet.front": ("Front", "pareto_front"),
    "hypernet.gallery": ("write_gallery",),
    "hypernet.gaussians": ("bits",),
    "hypernet.generator": ("Generator", "draw_network_and_price", "generate", "init_generator"),
    "hypernet.measuring": ("Measured", "measure"),
    "hypernet.network": ("MLP", "evaluate"),
    "hypernet.order": ("LABELS", "OrderParameters", "order_parameters"),
    "hypernet.phase": ("PhaseDiagram", "phase_diagram"),
    "hypernet.reading": ("read_network", "write_network"),
    "hypernet.rounds": ("Rounds", "classify_rounds"),
    "hypernet.canonical": ("Simplified", "expression", "simplify"),
    "hypernet.target": ("TARGETS", "Target", "get_target", "modular_addition"),
    "hypernet.training": (
        "Info",
        "Run",
        "TrainConfig",
        "Trained",
        "collapsed",
        "init",
        "run_chunk",
        "seed_keys",
        "step",
        "train",
    ),
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
