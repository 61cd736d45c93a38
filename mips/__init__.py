"""From a trained recurrent network to a verified Python program.

    result = mips.synthesize(mips.get_task("Div_5"), key=jax.random.key(0))
    print(result.source)

After "Opening the AI Black Box: Distilling Machine-Learned Algorithms into Code" (Entropy 26, 1046,
2024; arXiv 2402.05110), and beyond it. Names are imported when first used: `mips --help` does not wait
for jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mips.config import SynthesisConfig
    from mips.judging.verification import Report, verify
    from mips.programs.program import Program, parse_program
    from mips.reading.machine_extraction import Machine
    from mips.reading.oracle import Oracle, from_step
    from mips.synthesis import Result, synthesize, synthesize_from_network, task_of_network
    from mips.tasks import HARDER, PUBLISHED, Task, from_callable, from_csv, from_file, from_npz, get_task

_HOMES = {
    "mips.reading.machine_extraction": ("Machine",),
    "mips.config": ("SynthesisConfig",),
    "mips.reading.oracle": ("Oracle", "from_step"),
    "mips.programs.program": ("Program", "parse_program"),
    "mips.synthesis": ("Result", "synthesize", "synthesize_from_network", "task_of_network"),
    "mips.tasks": (
        "HARDER",
        "PUBLISHED",
        "Task",
        "from_callable",
        "from_csv",
        "from_file",
        "from_npz",
        "get_task",
    ),
    "mips.judging.verification": ("Report", "verify"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "HARDER",
    "PUBLISHED",
    "Machine",
    "Oracle",
    "Program",
    "Report",
    "Result",
    "SynthesisConfig",
    "Task",
    "from_callable",
    "from_csv",
    "from_file",
    "from_npz",
    "from_step",
    "get_task",
    "parse_program",
    "synthesize",
    "synthesize_from_network",
    "task_of_network",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mips' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
