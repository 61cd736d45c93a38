"""The table at the end, ours beside the paper's and GPT-4's; and a page with every program and machine."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mips.files import write_text
from mips.reading.machine_extraction import Machine
from mips.report.figures import draw_machine
from mips.status import Provenance, Status
from mips.synthesis import identifier

# Solved by the paper's method and by GPT-4 as published, and by GPT-4 when its programs are run on fresh
# sequences.
PAPER_SOLVED = frozenset(
    [
        "Binary_Addition",
        "Bitwise_Xor",
        "Bitwise_Or",
        "Bitwise_And",
        "Bitwise_Not",
        "Parity_Last2",
        "Parity_Last3",
        "Parity_All",
        "Parity_Zeros",
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
        "Bit_Shift_Right",
        "Bit_Dot_Prod_Mod2",
        "Add_Mod_3",
        "Newton_Freebody",
        "Newton_Gravity",
        "Newton_Spring",
    ]
)
GPT4_PUBLISHED = frozenset(
    [
        "Base_6_Addition",
        "Bitwise_Xor",
        "Bitwise_Or",
        "Bitwise_And",
        "Bitwise_Not",
        "Parity_Last2",
        "Sum_All",
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
        "Abs_Current",
        "Diff_Abs_Values",
        "Min_Seen",
        "Max_Seen",
        "Majority_0_1",
        "Evens_Detector",
        "Bit_Palindrome",
        "Parity_Bits_Mod2",
        "Alternating_Last4",
        "Bit_Shift_Right",
        "Div_3",
        "Add_Mod_3",
        "Dithering",
    ]
)
GPT4_STRICT = frozenset(
    [
        "Bitwise_Xor",
        "Bitwise_Or",
        "Bitwise_Not",
        "Sum_All",
        "Current_Number",
        "Prev2",
        "Prev3",
        "Prev4",
        "Prev5",
        "Abs_Current",
        "Min_Seen",
        "Max_Seen",
        "Evens_Detector",
        "Parity_Bits_Mod2",
    ]
)

STATUS: dict[str, str] = {
    Status.FORMULA: "formula from the network",
    Status.TABLE: "table from the network",
    Status.INEXACT: "program not exact",
    Status.NETWORK: "network trained, no program",
    Status.NONE: "no network learned it",
    Status.UNFINISHED: "budget exhausted",
}


def said(data: dict[str, Any]) -> str:
    """What came of a task, in words."""
    if data["status"] == Status.FORMULA and data["provenance"] == Provenance.DATA:
        return "formula from data"
    return STATUS.get(data["status"], data["status"])


def counts(results: dict[str, dict[str, Any]]) -> dict[str, int]:
    """How many tasks were solved in which way; "network" counts exact formulas read from a network."""

    def number(test: Callable[[dict[str, Any]], bool]) -> int:
        return sum(1 for data in results.values() if test(data))

    return {
        "tasks": len(results),
        "network": number(_exact),
        "inside": number(lambda d: _exact(d) and _agrees(d, "inside")),
        "faithful": number(lambda d: _exact(d) and _agrees(d, "faithful")),
        "table": number(lambda d: d["status"] == Status.TABLE),
        "data": number(lambda d: d["status"] == Status.FORMULA and d["provenance"] == Provenance.DATA),
        "baseline": number(lambda d: d["baseline"] is not None),
        "paper": number(lambda d: _ours(d) in PAPER_SOLVED),
        "gpt4": number(lambda d: _ours(d) in GPT4_PUBLISHED),
        "gpt4_strict": number(lambda d: _ours(d) in GPT4_STRICT),
    }


def _exact(data: dict[str, Any]) -> bool:
    return data["status"] == Status.FORMULA and data["provenance"] == Provenance.NETWORK


def _agrees(data: dict[str, Any], how: str) -> bool:
    return data["comparison"] is not None and data["comparison"][how]


def _ours(data: dict[str, Any]) -> str:
    """The benchmark task's name; "" for a user's task, whatever it is called."""
    return data["task"] if data["origin"] == "benchmark" else ""


def rows(results: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """The rows under `HEADINGS`; agreement is of sequences of the training length, and of longer ones."""
    table = []
    for name, data in results.items():
        task = _ours(data)
        mark = "yes" if task in PAPER_SOLVED else ""
        gpt = "exact" if task in GPT4_STRICT else "claimed" if task in GPT4_PUBLISHED else ""
        agreement, beyond = data["agreement"], (data["comparison"] or {}).get("beyond")
        table.append(
            (
                name,
                said(data),
                "" if data["bits"] is None else f"{data['bits']:.0f}",
                "" if agreement is None else f"{100 * agreement:.1f} %",
                "" if beyond is None else f"{100 * beyond:.1f} %",
                f"{sum(data['seconds'].values()):.1f}",
                "yes" if data["baseline"] else "",
                mark,
                gpt,
            )
        )
    return table


BRIEF_HEADINGS = ("task", "result", "bits", "inside", "beyond", "s", "also by")
"""Of the table for terminals of 80 columns."""

_BRIEF: dict[str, str] = {
    Status.FORMULA: "formula",
    Status.TABLE: "table",
    Status.INEXACT: "inexact",
    Status.NETWORK: "no program",
    Status.NONE: "no network",
    Status.UNFINISHED: "unfinished",
}


def brief_rows(results: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """The rows under `BRIEF_HEADINGS`; "GPT?" is a task that GPT-4 is said to solve and does not."""
    table = []
    for row, data in zip(rows(results), results.values(), strict=True):
        name, _, bits, inside, beyond, seconds, alone, paper, gpt = row
        told = _BRIEF.get(data["status"], data["status"])
        if data["status"] == Status.FORMULA and data["provenance"] == Provenance.DATA:
            told = "from data"
        others = {"data": alone, "MIPS": paper, "GPT": gpt == "exact", "GPT?": gpt == "claimed"}
        also = " ".join(other for other, so in others.items() if so)
        shares = (share.removesuffix(" %") for share in (inside, beyond))
        table.append((name, told, bits, *shares, seconds, also))
    return table


def evidence(data: dict[str, Any]) -> list[str]:
    """What a result rests on, in sentences: the task, the network, and which truth chose the program."""
    lines = []
    report, comparison = data["report"], data["comparison"]
    if report is not None:
        shares = [(report["fresh"], f"{report['fresh_count']} fresh sequences")]
        if report["recorded"] is not None:
            shares = [(report["recorded"], f"all {report['recorded_count']} recorded sequences")]
            if 0 < report["fresh_count"] < report["recorded_count"]:
                shares.insert(0, (report["fresh"], f"{report['fresh_count']} that nothing else had used"))
        if report["skewed"] is not None:
            shares.append((report["skewed"], f"{report['skewed_count']} skewed ones"))
        if report["long"] is not None:
            shares.append((report["long"], f"{report['long_count']} of length {report['long_length']}"))
        if report["exhaustive"] is not None:
            shares.append((report["exhaustive"], "all of the training length"))
        lines.append("task: right on " + ", ".join(f"{_percent(s)} of {what}" for s, what in shares))
        example = report["counterexample"]
        if example is not None:
            got = "an error" if example["got"] is None else example["got"]
            lines.append(
                f"shortest counterexample: x={example['x']} expected {example['expected']} got {got}"
            )
    if data["network"]:
        lines.append(f"network: {data['network']}, {_percent(data['accuracy'])} of sequences right")
    if comparison is not None:
        shares = [
            (comparison["drawn"], f"{comparison['drawn_count']} sequences"),
            (comparison["skewed"], f"{comparison['skewed_count']} skewed ones"),
        ]
        if comparison["words"] is not None:
            shares.append((comparison["words"], f"{comparison['words_count']} words of a conformance test"))
        shares.append(
            (comparison["beyond"], f"{comparison['beyond_count']} of length {comparison['beyond_length']}")
        )
        said = ", ".join(f"{_percent(s)} of {what}" for s, what in shares)
        lines.append(f"program and network agree on {said}")
        apart = comparison["disagreement"]
        if apart is not None:
            got = "an error" if apart["got"] is None else apart["got"]
            lines.append(f"shortest disagreement: x={apart['x']} network {apart['expected']} program {got}")
    if data["bits"] is not None:
        chosen = f"; chosen by {data['chosen_by']}" if data["chosen_by"] else ""
        lines.append(
            f"{data['kind']} program of {data['bits']:.0f} bits, read from: {data['provenance']}{chosen}"
        )
    return lines


def front_lines(data: dict[str, Any]) -> list[str]:
    """The front of length against agreement, a line for each program; none where the answer stands alone."""
    if len(data["front"]) < 2:
        return []
    return [
        f"{entry['bits']:5.0f} bits, {_percent(entry['right'])} right, {_percent(entry['agreement'])} as the "
        f"network: {_in_one_line(entry)}"
        for entry in data["front"]
    ]


def _in_one_line(entry: dict[str, Any]) -> str:
    if entry["program"]["tables"]:
        return "the machine's tables"
    _, *lines = (line.strip() for line in entry["source"].splitlines())
    loop = next(i for i, line in enumerate(lines) if line.startswith("for "))
    return "; ".join([*lines[:loop], f"{lines[loop]} {'; '.join(lines[loop + 1 :])}"])


def _percent(share: float) -> str:
    """A share in per cent, never rounded up to 100."""
    text = f"{100 * share:.4g}"
    return "just under 100 %" if text == "100" and share < 1 else f"{text} %"


HEADINGS = (
    "task",
    "result",
    "bits",
    "agrees with network",
    "beyond",
    "seconds",
    "data alone",
    "MIPS (paper)",
    "GPT-4",
)

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse}td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:left}
pre{background:#f5f6f8;padding:.8em;overflow:auto}section{border-top:1px solid #ccc;margin-top:1.5em}
.pair{display:flex;gap:1.5em;flex-wrap:wrap;align-items:flex-start}img{max-width:26em}small{color:#666}"""


def write_page(results: dict[str, dict[str, Any]], folder: Path) -> Path:
    """Writes `report.html` and a PNG of every machine into `folder/machines`; opens without a network."""
    total = counts(results)
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>\n" for row in rows(results)
    )
    parts = [
        f"<!doctype html><meta charset=utf-8><title>mips</title><style>{_STYLE}</style>",
        f"<h1>{total['network']} of {total['tasks']} tasks solved by formulas read from a network</h1>",
        f"<p>{total['inside']} of these agree with their network on everything of the training length that "
        f"was compared, {total['faithful']} on longer sequences, too. "
        f"Besides: {total['table']} by tables, {total['data']} from data. Data alone, for comparison: "
        f"{total['baseline']}. On these tasks the paper's method solves {total['paper']}; "
        f"GPT-4 {total['gpt4']} as published, "
        f"{total['gpt4_strict']} when its programs are run on fresh sequences.</p>",
        "<table><tr>" + "".join(f"<th>{h}</th>" for h in HEADINGS) + f"</tr>\n{cells}</table>",
    ]
    for name, data in results.items():
        parts.append(_section(name, data, folder))
    path = folder / "report.html"
    write_text(path, "\n".join(parts))
    return path


def _section(name: str, data: dict[str, Any], folder: Path) -> str:
    picture = ""
    if data["machine"] is not None:
        machine = Machine.from_json(data["machine"])
        place = folder / "machines" / f"{identifier(name)}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        draw_machine(machine, place, title=name)
        picture = f'<img src="machines/{place.name}" alt="machine of {html.escape(name)}">'
    notes = "".join(f"<li>{html.escape(n)}</li>" for n in [*evidence(data), *data["notes"]])
    lines = html.escape("\n".join(front_lines(data)))
    by_length = f"<details><summary>programs by length</summary><pre>{lines}</pre></details>" if lines else ""
    source = html.escape(data["source"]) or "no program"
    return (
        f"<section><h2>{html.escape(name)}</h2><div class=pair><pre>{source}</pre>{picture}</div>"
        f"{by_length}<small><ul>{notes}</ul></small></section>"
    )
