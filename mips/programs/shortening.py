"""Shorter programs that come of leaving parts of one out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from mips.programs import expression as ex
from mips.programs.expression import Expr
from mips.programs.program import Program

_LEAVES = (ex.const(0), ex.const(1))


def shortened(program: Program) -> Iterator[Program]:
    """Every program in which a part, wherever it occurs, is replaced by a part of itself, an input, 0 or 1.

    State that nothing needs any more is left out.
    """
    leaves = (*_LEAVES, *map(ex.var, program.inputs))
    exprs = (*program.updates, *program.outputs)
    given = {program}
    for part in dict.fromkeys(node for expr in exprs for node in ex.nodes(expr) if node.args):
        for by in (*leaves, *part.args):
            changed = tuple(ex.replace(expr, part, by) for expr in exprs)
            states = len(program.state)
            found = _of_needed_state(program, changed[:states], changed[states:])
            if found is not None and found not in given:
                given.add(found)
                yield found


def simplified(program: Program, probes: Sequence[Int[np.ndarray, "_count _length inputs"]]) -> Program:
    """The program without the parts that make no difference to what it says about the probes.

    Args: probes: sequences; those in front are to tell most programs apart.
    """
    said = [program.attempt(x) for x in probes]

    def same(shorter: Program) -> bool:
        for x, (outputs, failed) in zip(probes, said, strict=True):
            got, codes = shorter.attempt(x)
            if not (np.array_equal(got, outputs) and np.array_equal(codes, failed)):
                return False
        return True

    while True:
        candidates = sorted(shortened(program), key=lambda p: p.bits)
        shorter = (p for p in candidates if p.bits < program.bits)
        # What occurs twice is written once: fewer bits can be more text.
        found = next((p for p in shorter if same(p) and len(p.source()) <= len(program.source())), None)
        if found is None:
            return program
        program = found


def _of_needed_state(
    program: Program, updates: tuple[Expr, ...], outputs: tuple[Expr, ...]
) -> Program | None:
    """The program with these expressions; None where they are none, an integer for a list, say."""
    following = dict(zip(program.state, updates, strict=True))
    needed = set().union(*map(ex.names, outputs))
    while True:
        more = needed.union(*(ex.names(following[name]) for name in needed & set(following)))
        if more == needed:
            break
        needed = more
    kept = [i for i, name in enumerate(program.state) if name in needed]
    try:
        return Program(
            program.inputs,
            tuple(program.state[i] for i in kept),
            tuple(program.initial[i] for i in kept),
            tuple(updates[i] for i in kept),
            outputs,
            tuple((name, table) for name, table in program.tables if name in needed),
            program.kind,
        )
    except ValueError:
        return None
