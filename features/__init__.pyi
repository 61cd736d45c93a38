"""The public names; `__init__.py` imports them when they are first used."""

from .circles.concepts import (
    Concept as Concept,
)
from .circles.concepts import (
    Task as Task,
)
from .circles.concepts import (
    get_concept as get_concept,
)
from .circles.concepts import (
    get_task as get_task,
)
from .circles.continuity import (
    Continuity as Continuity,
)
from .circles.continuity import (
    continuity as continuity,
)
from .circles.fit import (
    circle as circle,
)
from .circles.fit import (
    circle_fit_test as circle_fit_test,
)
from .circles.fit import (
    class_means as class_means,
)
from .circles.fit import (
    fit_circle as fit_circle,
)
from .circles.fit import (
    fourier_power as fourier_power,
)
from .circles.fit import (
    order_score as order_score,
)
from .circles.fit import (
    order_test as order_test,
)
from .circles.intervention import (
    Effect as Effect,
)
from .circles.intervention import (
    causal_null as causal_null,
)
from .circles.intervention import (
    circle_writer as circle_writer,
)
from .circles.intervention import (
    intervene as intervene,
)
from .circles.intervention import (
    layer_sweep as layer_sweep,
)
from .circles.intervention import (
    polar_sweep as polar_sweep,
)
from .circles.patching import (
    draw_pairs as draw_pairs,
)
from .circles.patching import (
    patch_blocks as patch_blocks,
)
from .circles.patching import (
    patch_heads as patch_heads,
)
from .circles.prompting import (
    Cached as Cached,
)
from .circles.prompting import (
    run_prompts as run_prompts,
)
from .circles.prompting import (
    run_task as run_task,
)
from .circles.regression import (
    explain as explain,
)
from .circles.regression import (
    explain_automatically as explain_automatically,
)
from .circles.regression import (
    library as library,
)
from .circles.regression import (
    regress as regress,
)
from .discovery.clusters import (
    ClusterConfig as ClusterConfig,
)
from .discovery.clusters import (
    cluster as cluster,
)
from .discovery.clusters import (
    spectral as spectral,
)
from .discovery.discover import (
    Candidate as Candidate,
)
from .discovery.discover import (
    DiscoverConfig as DiscoverConfig,
)
from .discovery.discover import (
    Discovery as Discovery,
)
from .discovery.discover import (
    annotate as annotate,
)
from .discovery.discover import (
    discover as discover,
)
from .discovery.graph import (
    coactivation as coactivation,
)
from .discovery.graph import (
    components as components,
)
from .discovery.graph import (
    nearest as nearest,
)
from .irreducibility.measure import (
    Irreducibility as Irreducibility,
)
from .irreducibility.measure import (
    measure as measure,
)
from .irreducibility.measure import (
    measure_many as measure_many,
)
from .irreducibility.mixture import (
    sweep as sweep,
)
from .irreducibility.separability import (
    mutual_information_curve as mutual_information_curve,
)
from .irreducibility.separability import (
    separability as separability,
)
from .irreducibility.superposition import (
    overlap as overlap,
)
from .irreducibility.superposition import (
    principal_cosines as principal_cosines,
)
from .lm.decoder import (
    Decoder as Decoder,
)
from .lm.decoder import (
    forward as forward,
)
from .lm.decoder import (
    residual as residual,
)
from .lm.decoder import (
    residuals as residuals,
)
from .lm.edits import (
    Ablate as Ablate,
)
from .lm.edits import (
    Patch as Patch,
)
from .lm.edits import (
    Steer as Steer,
)
from .lm.loading import (
    LanguageModel as LanguageModel,
)
from .lm.loading import (
    load as load,
)
from .sae.activations import (
    CachedActivations as CachedActivations,
)
from .sae.activations import (
    StreamedActivations as StreamedActivations,
)
from .sae.config import (
    SAEConfig as SAEConfig,
)
from .sae.metrics import (
    evaluate as evaluate,
)
from .sae.metrics import (
    loss_recovered as loss_recovered,
)
from .sae.model import (
    SAE as SAE,
)
from .sae.model import (
    decode as decode,
)
from .sae.model import (
    encode as encode,
)
from .sae.model import (
    firings as firings,
)
from .sae.model import (
    reconstruct as reconstruct,
)
from .sae.step import (
    TrainConfig as TrainConfig,
)
from .sae.storage import (
    load_sae as load_sae,
)
from .sae.storage import (
    save_sae as save_sae,
)
from .sae.train import (
    train as train,
)
from .synthetic.calendar_model import (
    Calendar as Calendar,
)
from .synthetic.calendar_model import (
    CalendarConfig as CalendarConfig,
)
from .synthetic.calendar_model import (
    train_calendar as train_calendar,
)

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
