"""Tasks by name, in the paper's order."""

from __future__ import annotations

import difflib

from mips.tasks import bits, digits, groups, numbers, physics
from mips.tasks.task import Task

_MODULES = (bits, digits, numbers, physics, groups)
_ALL = {task.name: task for module in _MODULES for task in module.TASKS}

# The order of the paper's table. Which tasks the paper's method and GPT-4 solve: the paper's table of tasks.
_ORDER = [
    "Binary_Addition",
    "Base_3_Addition",
    "Base_4_Addition",
    "Base_5_Addition",
    "Base_6_Addition",
    "Base_7_Addition",
    "Bitwise_Xor",
    "Bitwise_Or",
    "Bitwise_And",
    "Bitwise_Not",
    "Parity_Last2",
    "Parity_Last3",
    "Parity_Last4",
    "Parity_All",
    "Parity_Zeros",
    "Evens_Counter",
    "Sum_All",
    "Sum_Last2",
    "Sum_Last3",
    "Sum_Last4",
    "Sum_Last5",
    "Sum_Last6",
    "Sum_Last7",
    "Current_Number",
    "Prev1",
    "Prev2",
    "Prev3",
    "Prev4",
    "Prev5",
    "Previous_Equals_Current",
    "Diff_Last2",
    "Abs_Diff",
    "Abs_Current",
    "Diff_Abs_Values",
    "Min_Seen",
    "Max_Seen",
    "Majority_0_1",
    "Majority_0_2",
    "Majority_0_3",
    "Evens_Detector",
    "Perfect_Square_Detector",
    "Bit_Palindrome",
    "Balanced_Parenthesis",
    "Parity_Bits_Mod2",
    "Alternating_Last3",
    "Alternating_Last4",
    "Bit_Shift_Right",
    "Bit_Dot_Prod_Mod2",
    "Div_3",
    "Div_5",
    "Div_7",
    "Add_Mod_3",
    "Add_Mod_4",
    "Add_Mod_5",
    "Add_Mod_6",
    "Add_Mod_7",
    "Add_Mod_8",
    "Dithering",
    "Newton_Freebody",
    "Newton_Gravity",
    "Newton_Spring",
    "Newton_Magnetic",
]

PUBLISHED: dict[str, Task] = {name: _ALL[name] for name in _ORDER}
HARDER: dict[str, Task] = {task.name: task for module in _MODULES for task in module.HARDER}


def get_task(name: str) -> Task:
    """The task of that name, from the paper or from the harder ones.

    Raises ValueError, with near matches, for an unknown name.
    """
    known = PUBLISHED | HARDER
    folded = {key.lower(): key for key in known}
    if name.lower() in folded:
        return known[folded[name.lower()]]
    near = [folded[n] for n in difflib.get_close_matches(name.lower(), folded, n=3)]
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise ValueError(f"unknown task {name!r}{hint} `mips tasks` lists all {len(known)}")
