"""The public names; `__init__.py` imports them when they are first used."""

from .config import (
    SynthesisConfig as SynthesisConfig,
)
from .judging.comparison import (
    Comparison as Comparison,
)
from .judging.judges import (
    Chooser as Chooser,
)
from .judging.verification import (
    Report as Report,
)
from .judging.verification import (
    verify as verify,
)
from .programs.program import (
    Program as Program,
)
from .programs.program import (
    parse_program as parse_program,
)
from .reading.machine_extraction import (
    Machine as Machine,
)
from .reading.oracle import (
    Oracle as Oracle,
)
from .reading.oracle import (
    from_step as from_step,
)
from .status import (
    Provenance as Provenance,
)
from .status import (
    Status as Status,
)
from .synthesis import (
    Result as Result,
)
from .synthesis import (
    synthesize as synthesize,
)
from .synthesis import (
    synthesize_from_network as synthesize_from_network,
)
from .synthesis import (
    task_of_network as task_of_network,
)
from .tasks import (
    HARDER as HARDER,
)
from .tasks import (
    PUBLISHED as PUBLISHED,
)
from .tasks import (
    Task as Task,
)
from .tasks import (
    from_callable as from_callable,
)
from .tasks import (
    from_columns as from_columns,
)
from .tasks import (
    from_csv as from_csv,
)
from .tasks import (
    from_file as from_file,
)
from .tasks import (
    from_jsonl as from_jsonl,
)
from .tasks import (
    from_npz as from_npz,
)
from .tasks import (
    get_task as get_task,
)

__all__ = [
    "HARDER",
    "PUBLISHED",
    "Chooser",
    "Comparison",
    "Machine",
    "Oracle",
    "Program",
    "Provenance",
    "Report",
    "Result",
    "Status",
    "SynthesisConfig",
    "Task",
    "from_callable",
    "from_columns",
    "from_csv",
    "from_file",
    "from_jsonl",
    "from_npz",
    "from_step",
    "get_task",
    "parse_program",
    "synthesize",
    "synthesize_from_network",
    "task_of_network",
    "verify",
]
