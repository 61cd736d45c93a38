"""The public names; `__init__.py` imports them when they are first used."""

from .batch.bucket_shapes import (
    padded_grids as padded_grids,
)
from .batch.bucket_shapes import (
    room_for as room_for,
)
from .batch.device_model import (
    DeviceModel as DeviceModel,
)
from .batch.lanes import (
    Lanes as Lanes,
)
from .batch.lanes import (
    lane_mesh as lane_mesh,
)
from .batch.mesh_engine import (
    Event as Event,
)
from .batch.mesh_engine import (
    run_batch as run_batch,
)
from .batch.mesh_engine import (
    run_bucket as run_bucket,
)
from .batch.plan import (
    Bucket as Bucket,
)
from .batch.plan import (
    Estimate as Estimate,
)
from .batch.plan import (
    Plan as Plan,
)
from .batch.plan import (
    estimate as estimate,
)
from .batch.plan import (
    make_plan as make_plan,
)
from .batch.ray_engine import (
    run_elastic as run_elastic,
)
from .batch.records import (
    BatchSettings as BatchSettings,
)
from .batch.records import (
    Record as Record,
)
from .batch.records import (
    RunStatus as RunStatus,
)
from .batch.store import (
    RunFolder as RunFolder,
)
from .config import (
    Program as Program,
)
from .config import (
    SolveConfig as SolveConfig,
)
from .config import (
    Variant as Variant,
)
from .datasets import (
    Dataset as Dataset,
)
from .datasets import (
    load_dataset as load_dataset,
)
from .datasets import (
    load_puzzle as load_puzzle,
)
from .datasets import (
    load_splits as load_splits,
)
from .datasets import (
    official_form as official_form,
)
from .datasets import (
    parse_puzzle as parse_puzzle,
)
from .grid import (
    Grid as Grid,
)
from .grid import (
    wrong_cells as wrong_cells,
)
from .network.components import (
    Component as Component,
)
from .network.components import (
    components as components,
)
from .network.inputs import (
    Grids as Grids,
)
from .network.inputs import (
    Signature as Signature,
)
from .network.inputs import (
    grids as grids,
)
from .network.inputs import (
    signature as signature,
)
from .puzzle import (
    Canvas as Canvas,
)
from .puzzle import (
    Puzzle as Puzzle,
)
from .report.compare import (
    Comparison as Comparison,
)
from .report.compare import (
    Proportion as Proportion,
)
from .report.compare import (
    compare_runs as compare_runs,
)
from .report.compare import (
    compare_with_published as compare_with_published,
)
from .report.figures import (
    draw_curves as draw_curves,
)
from .report.figures import (
    draw_puzzle as draw_puzzle,
)
from .report.figures import (
    draw_solution as draw_solution,
)
from .report.page import (
    write_page as write_page,
)
from .report.solution_files import (
    read_result as read_result,
)
from .report.solution_files import (
    write_pictures as write_pictures,
)
from .report.solution_files import (
    write_result as write_result,
)
from .score import (
    OutputScore as OutputScore,
)
from .score import (
    Score as Score,
)
from .score import (
    SplitScore as SplitScore,
)
from .score import (
    read_answers as read_answers,
)
from .score import (
    score_answers as score_answers,
)
from .score import (
    score_split as score_split,
)
from .score import (
    submission as submission,
)
from .score import (
    verdict as verdict,
)
from .solver.checkpoints import (
    Checkpoints as Checkpoints,
)
from .solver.checkpoints import (
    Saved as Saved,
)
from .solver.history import (
    History as History,
)
from .solver.ranking import (
    Ranking as Ranking,
)
from .solver.solve import (
    Progress as Progress,
)
from .solver.solve import (
    Solution as Solution,
)
from .solver.solve import (
    Status as Status,
)
from .solver.solve import (
    solve as solve,
)
from .solver.step import (
    ChunkProgram as ChunkProgram,
)
from .solver.step import (
    Run as Run,
)
from .solver.step import (
    StepInfo as StepInfo,
)
from .solver.step import (
    chunk_program as chunk_program,
)
from .solver.step import (
    init as init,
)
from .solver.step import (
    run_chunk as run_chunk,
)
from .solver.step import (
    step as step,
)
from .solver.voting import (
    VOTES as VOTES,
)
from .solver.voting import (
    count_votes as count_votes,
)

__version__: str

__all__ = [
    "VOTES",
    "BatchSettings",
    "Bucket",
    "Canvas",
    "Checkpoints",
    "ChunkProgram",
    "Comparison",
    "Component",
    "Dataset",
    "DeviceModel",
    "Estimate",
    "Event",
    "Grid",
    "Grids",
    "History",
    "Lanes",
    "OutputScore",
    "Plan",
    "Program",
    "Progress",
    "Proportion",
    "Puzzle",
    "Ranking",
    "Record",
    "Run",
    "RunFolder",
    "RunStatus",
    "Saved",
    "Score",
    "Signature",
    "Solution",
    "SolveConfig",
    "SplitScore",
    "Status",
    "StepInfo",
    "Variant",
    "chunk_program",
    "compare_runs",
    "compare_with_published",
    "components",
    "count_votes",
    "draw_curves",
    "draw_puzzle",
    "draw_solution",
    "estimate",
    "grids",
    "init",
    "lane_mesh",
    "load_dataset",
    "load_puzzle",
    "load_splits",
    "make_plan",
    "official_form",
    "padded_grids",
    "parse_puzzle",
    "read_answers",
    "read_result",
    "room_for",
    "run_batch",
    "run_bucket",
    "run_chunk",
    "run_elastic",
    "score_answers",
    "score_split",
    "signature",
    "solve",
    "step",
    "submission",
    "verdict",
    "write_page",
    "write_pictures",
    "write_result",
    "wrong_cells",
]
