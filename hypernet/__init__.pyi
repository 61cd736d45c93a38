"""The public names; `__init__.py` imports them when they are first used."""

from .algorithms import (
    convexity as convexity,
)
from .algorithms import (
    convexity_floor as convexity_floor,
)
from .algorithms import (
    distributed_pudding as distributed_pudding,
)
from .algorithms import (
    double_sided as double_sided,
)
from .algorithms import (
    error_table as error_table,
)
from .algorithms import (
    pudding as pudding,
)
from .algorithms import (
    tournament as tournament,
)
from .analysis.measure import (
    Measured as Measured,
)
from .analysis.measure import (
    measure as measure,
)
from .analysis.pareto_front import (
    Front as Front,
)
from .analysis.pareto_front import (
    pareto_front as pareto_front,
)
from .analysis.phase_diagram import (
    PhaseDiagram as PhaseDiagram,
)
from .analysis.phase_diagram import (
    phase_diagram as phase_diagram,
)
from .classification.classify import (
    Classification as Classification,
)
from .classification.classify import (
    classify as classify,
)
from .classification.classify import (
    classify_many as classify_many,
)
from .classification.formulas import (
    Formula as Formula,
)
from .classification.formulas import (
    formula as formula,
)
from .classification.order_parameters import (
    LABELS as LABELS,
)
from .classification.order_parameters import (
    OrderParameters as OrderParameters,
)
from .classification.order_parameters import (
    order_parameters as order_parameters,
)
from .classification.tournament import (
    Rounds as Rounds,
)
from .classification.tournament import (
    classify_rounds as classify_rounds,
)
from .generator.assignment import (
    Assignment as Assignment,
)
from .generator.config import (
    GeneratorConfig as GeneratorConfig,
)
from .generator.gaussians import (
    bits as bits,
)
from .generator.generate import (
    Generator as Generator,
)
from .generator.generate import (
    draw_network_and_price as draw_network_and_price,
)
from .generator.generate import (
    generate as generate,
)
from .generator.generate import (
    init_generator as init_generator,
)
from .networks.canonical import (
    Simplified as Simplified,
)
from .networks.canonical import (
    expression as expression,
)
from .networks.canonical import (
    simplify as simplify,
)
from .networks.mlp import (
    MLP as MLP,
)
from .networks.mlp import (
    evaluate as evaluate,
)
from .networks.read_write import (
    read_network as read_network,
)
from .networks.read_write import (
    write_network as write_network,
)
from .report.figures import (
    draw_front as draw_front,
)
from .report.figures import (
    draw_network as draw_network,
)
from .report.figures import (
    draw_phase_diagram as draw_phase_diagram,
)
from .report.gallery import (
    write_gallery as write_gallery,
)
from .targets import (
    TARGETS as TARGETS,
)
from .targets import (
    Target as Target,
)
from .targets import (
    get_target as get_target,
)
from .targets import (
    modular_addition as modular_addition,
)
from .training.baseline import (
    train_directly as train_directly,
)
from .training.checkpoints import (
    load as load,
)
from .training.checkpoints import (
    load_config as load_config,
)
from .training.step import (
    Info as Info,
)
from .training.step import (
    Run as Run,
)
from .training.step import (
    TrainConfig as TrainConfig,
)
from .training.step import (
    init as init,
)
from .training.step import (
    run_chunk as run_chunk,
)
from .training.step import (
    seed_keys as seed_keys,
)
from .training.step import (
    step as step,
)
from .training.train import (
    SeedStatus as SeedStatus,
)
from .training.train import (
    Trained as Trained,
)
from .training.train import (
    collapsed as collapsed,
)
from .training.train import (
    train as train,
)

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
    "SeedStatus",
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
