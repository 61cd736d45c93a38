"""The 62 tasks of the benchmark, the harder ones on the shelf, and the user's own."""

from mips.tasks.custom import from_callable
from mips.tasks.library import HARDER, PUBLISHED, get_task
from mips.tasks.records import from_columns, from_csv, from_file, from_jsonl, from_npz
from mips.tasks.task import Task

__all__ = [
    "HARDER",
    "PUBLISHED",
    "Task",
    "from_callable",
    "from_columns",
    "from_csv",
    "from_file",
    "from_jsonl",
    "from_npz",
    "get_task",
]
