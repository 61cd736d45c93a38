"""Public tasks beyond the paper's: `python -m benchmarks.mips_public [--quick] [--only NAME ...]`.

Tomita's languages, flip-flop, bounded Dyck-1, tracr's tasks in their causal form, tasks of work on length
generalization, and machines from the literature on automata learning. For each: the program that `mips`
reads from a network, whether it is exact and agrees with its network, seconds; beside, where the task is a
finite machine, what AALpy's L* needs to learn it when it may ask the task itself (`pip install aalpy`), which is
much more than labeled sequences: queries, steps and states. Writes results/mips_public.json.

PySR finds formulas of one row's values; none of these outputs is one, and it needs Julia: it is not run.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import mips
from benchmarks import output

Rule = Callable[[list[int]], int]
QUICK = ("tomita_1", "flip_flop", "coffee_machine")


class Public(NamedTuple):
    """A task: the output after each input, as a function of all inputs so far."""

    rule: Rule
    high: int
    source: str
    finite: bool = True


def _runs(xs: list[int], symbol: int) -> list[int]:
    """Lengths of the runs of a symbol."""
    text = "".join(map(str, xs))
    return [len(part) for part in text.split(str(1 - symbol)) if part]


def _tomita_3(xs: list[int]) -> int:
    """No odd run of ones followed by an odd run of zeros."""
    text = "".join(map(str, xs))
    odd_ones = False
    for group in text.replace("10", "1 0").replace("01", "0 1").split():
        if group[0] == "1":
            odd_ones = len(group) % 2 == 1
        elif odd_ones and len(group) % 2 == 1:
            # A run of zeros at the end may still grow; it counts as it is.
            return 0
        else:
            odd_ones = False
    return 1


def _tomita_7(xs: list[int]) -> int:
    """0*1*0*1*."""
    changes = [b for a, b in zip([0, *xs], [*xs], strict=False) if a != b]
    return int(len(changes) <= 3)


def _dyck(depth: int) -> Rule:
    def rule(xs: list[int]) -> int:
        height = 0
        for x in xs:
            height += 1 - 2 * x
            if not 0 <= height <= depth:
                return 0
        return int(height == 0)

    return rule


def _flip_flop(xs: list[int]) -> int:
    """What was last written: 1 writes 0, 2 writes 1, 0 leaves it."""
    written = [x for x in xs if x]
    return written[-1] - 1 if written else 0


def _machine(
    moves: dict[tuple[int, int], tuple[int, int]], otherwise: Callable[[int, int], tuple[int, int]]
) -> Rule:
    def rule(xs: list[int]) -> int:
        state = said = 0
        for x in xs:
            state, said = moves.get((state, x), otherwise(state, x))
        return said

    return rule


# Inputs 0 clean, 1 pod, 2 water, 3 button; outputs 0 ok, 1 coffee, 2 error; states empty, pod, water, both,
# served, broken.
_COFFEE = {
    **{(s, 0): (0, 0) for s in range(5)},
    **{(0, 1): (1, 0), (0, 2): (2, 0), (1, 1): (1, 0), (1, 2): (3, 0), (2, 1): (3, 0), (2, 2): (2, 0)},
    **{(3, 1): (3, 0), (3, 2): (3, 0), (3, 3): (4, 1)},
}
# Inputs 0 connect, 1 disconnect, 2 publish, 3 subscribe, 4 unsubscribe; outputs 0 connack, 1 connection closed,
# 2 puback, 3 suback, 4 unsuback, 5 publish and puback; states closed, connected, subscribed.
_MQTT = {
    (0, 0): (1, 0), (1, 2): (1, 2), (1, 3): (2, 3), (1, 4): (1, 4), (2, 2): (2, 5), (2, 3): (2, 3), (2, 4): (1, 4),
}  # fmt: skip


def _most_frequent(xs: list[int]) -> int:
    counts = collections.Counter(xs)
    return max(counts, key=lambda v: (counts[v], -v))


TOMITA = "Tomita (1982)"
LIU = "Liu et al. (2023), Transformers learn shortcuts to automata"
CHOMSKY = "Delétang et al. (2023), Neural networks and the Chomsky hierarchy"
TRACR = "tracr (Lindner et al., 2023), causal form"
PUBLIC: dict[str, Public] = {
    "tomita_1": Public(lambda xs: int(all(xs)), 2, TOMITA),
    "tomita_2": Public(lambda xs: int(all(x == 1 - i % 2 for i, x in enumerate(xs)) and len(xs) % 2 == 0), 2, TOMITA),
    "tomita_3": Public(_tomita_3, 2, TOMITA),
    "tomita_4": Public(lambda xs: int(max([0, *_runs(xs, 0)]) < 3), 2, TOMITA),
    "tomita_5": Public(lambda xs: int(xs.count(0) % 2 == xs.count(1) % 2 == 0), 2, TOMITA),
    "tomita_6": Public(lambda xs: int((xs.count(0) - xs.count(1)) % 3 == 0), 2, TOMITA),
    "tomita_7": Public(_tomita_7, 2, TOMITA),
    "flip_flop": Public(_flip_flop, 3, LIU),
    "dyck_1_depth_2": Public(_dyck(2), 2, "bounded Dyck-1"),
    "dyck_1_depth_3": Public(_dyck(3), 2, "bounded Dyck-1"),
    "dyck_1_depth_4": Public(_dyck(4), 2, "bounded Dyck-1"),
    "hist": Public(lambda xs: xs.count(xs[-1]), 5, TRACR, False),
    "most_freq": Public(_most_frequent, 4, TRACR, False),
    "sort_rank": Public(lambda xs: sum(x < xs[-1] for x in xs), 6, TRACR, False),
    "gridworld_4": Public(
        _machine({}, lambda s, x: (g := min(3, max(0, s + 2 * x - 1)), g)), 2, LIU
    ),
    "even_pairs": Public(lambda xs: int(xs[0] == xs[-1]), 2, CHOMSKY),
    "cycle_navigation": Public(_machine({}, lambda s, x: ((s + x - 1) % 5, (s + x - 1) % 5)), 3, CHOMSKY),
    "even_a_even_b": Public(
        lambda xs: int(xs.count(0) % 2 == 0 and xs.count(1) % 2 == 0), 3, "Angluin (1987), AALpy's example"
    ),
    "coffee_machine": Public(
        _machine(_COFFEE, lambda _s, _x: (5, 2)), 4, "Steffen, Howar and Merten (2011), AALpy's example"
    ),
    "mqtt_client": Public(
        _machine(_MQTT, lambda _s, _x: (0, 1)), 5, "Tappler et al. (2017), AALpy's example, without its faults"
    ),
}  # fmt: skip


def task_of(name: str) -> mips.Task:
    """The task as users give theirs."""
    rule = PUBLIC[name].rule

    def program(xs: list[int]) -> list[int]:
        return [rule(xs[: t + 1]) for t in range(len(xs))]

    return mips.from_callable(program, low=0, high=PUBLIC[name].high, length=10, name=name)


def by_aalpy(name: str) -> dict[str, Any] | None:
    """L* on the task itself, with AALpy's W-method of one extra state; None where it is not installed."""
    try:
        aalpy: Any = importlib.import_module("aalpy")  # not among what the tests install
    except ImportError:
        return None
    public = PUBLIC[name]

    class Asked(aalpy.SUL):
        def pre(self) -> None:
            self.xs: list[int] = []

        def post(self) -> None:
            pass

        def step(self, letter: int | None) -> int | None:
            if letter is None:
                return None
            self.xs.append(letter)
            return public.rule(self.xs)

    asked, letters = Asked(), list(range(public.high))
    begun = time.perf_counter()
    machine, info = aalpy.run_Lstar(
        letters,
        asked,
        aalpy.RandomWMethodEqOracle(letters, asked, walks_per_state=300, walk_len=12),
        automaton_type="mealy",
        return_data=True,
        print_level=0,
    )
    return {
        "states": machine.size,
        "queries": info["queries_learning"] + info["queries_eq_oracle"],
        "steps": info["steps_learning"] + info["steps_eq_oracle"],
        "seconds": round(time.perf_counter() - begun, 2),
    }


def solved(name: str, seed: int) -> dict[str, Any]:
    """What `mips` reads, and what it is worth."""
    import jax

    begun = time.perf_counter()
    result = mips.synthesize(task_of(name), mips.SynthesisConfig(baseline=False), key=jax.random.key(seed))
    program, report = result.program, result.report
    table = None
    if result.machine is not None and result.machine.complete:
        from mips.reading.symbolic_lifting import table_program

        table = len(table_program(result.machine).source(name))
    return {
        "name": name,
        "source": PUBLIC[name].source,
        "status": str(result.status),
        "program": result.source,
        "characters": len(result.source),
        "table_characters": table,
        "bits": None if program is None else round(program.bits, 1),
        "exact": report is not None and report.exact,
        "inside": result.comparison is not None and result.comparison.inside,
        "faithful": result.faithful,
        "chosen_by": str(result.chosen_by),
        "seconds": round(time.perf_counter() - begun, 1),
        "aalpy": by_aalpy(name) if PUBLIC[name].finite else None,
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three tasks")
    parser.add_argument("--only", nargs="+", choices=tuple(PUBLIC))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rows = []
    for name in asked.only or (QUICK if asked.quick else PUBLIC):
        row = solved(name, asked.seed)
        rows.append(row)
        said = "exact" if row["exact"] else "not exact"
        agrees = "faithful" if row["faithful"] else "agrees inside" if row["inside"] else "differs"
        beside = row["aalpy"]
        learned = "" if beside is None else f"L*: {beside['states']} states, {beside['queries']} queries"
        print(
            f"{name:18s} {row['status']:9s} {said:9s} {agrees:14s} {row['seconds']:6.1f} s  {learned}",
            flush=True,
        )
        print("    " + row["program"].replace("\n", "\n    ").rstrip(), flush=True)
    formulas = sum(row["status"] == "formula" for row in rows)
    print(
        f"{formulas} of {len(rows)} by exact formulas; {sum(r['exact'] and r['inside'] for r in rows)} agree with "
        f"their network inside the training length, {sum(r['exact'] and r['faithful'] for r in rows)} beyond, too"
    )
    if asked.only is None:
        output.write(output.results(quick=asked.quick) / "mips_public.json", rows)
    return int(formulas < len(rows))


if __name__ == "__main__":
    raise SystemExit(main())
