"""From one network to programs: every reading we have, cheapest first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int

from mips.config import SynthesisConfig
from mips.judging.candidates import Examination
from mips.judging.judges import ByNetwork, Chooser
from mips.programs.enumeration import Grammar
from mips.reading import machine_extraction as fsm
from mips.reading.conformance import conformance_words, distinguishing_suffix
from mips.reading.factoring import factored_programs
from mips.reading.finite_memory import definite_programs, memory_depth
from mips.reading.linear import Response, linear_programs, realize, response_of_oracle
from mips.reading.machine_extraction import Machine
from mips.reading.oracle import Oracle
from mips.reading.symbolic_lifting import lift, table_program
from mips.reading.windows import change_rules, feature_rules, order_matters, recurrences, window_rules
from mips.tasks.skewed import skewed
from mips.tasks.task import MISSING, Inputs, Outputs, agree

_MOST_SYMBOLS = 256
_STEPS = 400_000  # of a network, for one extraction
_REFINEMENTS = 8  # suffixes added to tell states apart, at most


def grammar_of(config: SynthesisConfig, *, conditional: bool = False, largest: int | None = None) -> Grammar:
    """The enumerator's limits under these settings."""
    return Grammar(largest=largest or config.expression_nodes, tries=config.tries, conditional=conditional)


def read_response(exam: Examination, response: Response) -> bool:
    """Offers the programs of a linear system, if its rounded response is that of the task."""
    with exam.stage("linear realization"):
        if not exam.judge.admits(exam.judge.share(response.run)):
            return False
        exam.note(f"linear: impulse response rounds to integers (largest deviation {response.deviation:.2g})")
        exam.found.realization = realize(response)
        return exam.offer(linear_programs(response, exam.found.realization))


def read_linear(exam: Examination, oracle: Oracle) -> bool:
    """Probes any network for linearity and reads its response."""
    task = exam.task
    with exam.stage("probing"):
        response = response_of_oracle(oracle, task.length, low=task.low, high=task.high)
    if response is None:
        exam.note("not linear: the network's answer to an impulse depends on the other inputs")
        return False
    return read_response(exam, response)


def read_machine(exam: Examination, oracle: Oracle, config: SynthesisConfig) -> tuple[Machine | None, bool]:
    """The machine that the judge takes, minimized; whether a formula came of it.

    Suffixes grow from one symbol; longer ones split states spuriously in an imperfect network, so the
    first machine against which nothing speaks is taken, and the search ends where the states become too
    many. Where a machine and the network differ and the network may be right, the suffix that tells two
    merged states apart is added. If every machine has something against it, the one of the shortest
    description is taken that the judge admits.
    """
    task, judge = exam.task, exam.judge
    if task.symbols > _MOST_SYMBOLS:
        exam.note(
            f"no machine sought: {task.symbols} symbols (at most {_MOST_SYMBOLS}); "
            "the linear and window routes fit"
        )
        return None, False
    letters = fsm.alphabet(task.low, task.high, task.inputs)
    x, _ = judge.sequences
    machine, nearly, cheapest, largest = None, None, None, 0
    with exam.stage("finite-state extraction"):
        for suffix in range(1, 5):
            words = suffix * min(400, len(letters) ** suffix)
            room = min(config.most_states, max(24, _STEPS // (len(letters) * words)))
            found = fsm.extract(oracle, letters, suffix=suffix, most_states=room)
            if found is None:
                exam.note(
                    f"not finite-state within {room} states: suffixes of length {suffix} tell more apart"
                )
                break
            largest = found.states
            paths = max(20, min(400, _STEPS // (words * (task.length + 1))))
            voted = fsm.extract_by_majority(oracle, letters, x[:paths], suffix=suffix)
            split = refined(exam, oracle, found, suffix=suffix, most_states=room)
            plain = itertools.chain([found], voted)
            for refining, candidate in itertools.chain(
                ((False, m) for m in plain), ((True, m) for m in split)
            ):
                if not candidate.complete:
                    continue
                share = judge.share(candidate.run)
                refuted = False
                if share == 1.0 and judge.settles(candidate.run):
                    smallest = fsm.minimize(candidate)
                    refuted = bool(_contradicted(exam, oracle, smallest).any())
                    if not refuted:
                        machine = smallest
                        break
                    refuted = judge.chooser is not Chooser.NETWORK  # which says so by its errors, too
                # What refinement splits, errors may have split: a rule is sought in the states before.
                if not refining and share > max(0.5, nearly[0] if nearly else 0.0):
                    nearly = share, candidate
                if judge.admits(share) and not refuted:
                    smallest = fsm.minimize(candidate)
                    written = table_program(smallest)
                    cost = written.bits + judge.misfit(written)
                    if cheapest is None or cost < cheapest[0]:
                        cheapest = cost, smallest
            if machine is not None:
                break
    if machine is None and cheapest is not None:
        machine = cheapest[1]
    if machine is None:
        exam.note(f"machines of up to {largest} states are not right on fresh sequences")
        if nearly is not None:
            with exam.stage("symbolic lifting"):
                # Wrong in a few moves: a formula that the others obey may be right.
                exam.offer(lift(nearly[1], grammar_of(config), tolerance=0.04))
        return None, exam.found.formula is not None
    right = judge.share(machine.run)
    exam.note(f"finite-state: {machine.states} states, right on {100 * right:.4g} % of sequences")
    exam.found.machine = machine
    return machine, read_formulas(exam, machine, config)


def _words(exam: Examination, machine: Machine) -> Inputs:
    """Sequences of the training length on which a machine is compared with its network."""
    task = exam.task
    words = conformance_words(fsm.minimize(machine), length=task.length, known=task.recorded_steps)
    return np.concatenate([skewed(task, 105, 400, task.length), words])


def _contradicted(
    exam: Examination, oracle: Oracle, machine: Machine, x: Inputs | None = None
) -> Bool[np.ndarray, "count length"]:
    """Where a machine is wrong on sequences chosen to find it out, by what counts as true at present.

    By labels it is wrong where the reference solution says so, if that can be asked about any sequence; by
    the network where that says something else.
    """
    x = _words(exam, machine) if x is None else x
    if exam.judge.chooser is Chooser.NETWORK:
        truth = oracle.run(x)
    elif exam.task.defined_everywhere:
        truth = exam.task.solve(x)
    else:
        return np.zeros(x.shape[:2], bool)
    return (truth != machine.run(x)).any(axis=2)


def refined(
    exam: Examination, oracle: Oracle, machine: Machine, *, suffix: int, most_states: int
) -> Iterator[Machine]:
    """Machines with more and more states, told apart by suffixes of words that contradict the one before.

    The words are skewed sequences and those of a conformance test, none longer than the training sequences.
    Where labels judge, the network must have the right answer to a word, or it has nothing to tell.
    """
    extra: list[Int[np.ndarray, "_one _length"]] = []
    for _ in range(_REFINEMENTS):
        if not machine.complete:
            return
        x = _words(exam, machine)
        wrong = _contradicted(exam, oracle, machine, x)
        rows = np.flatnonzero(wrong.any(axis=1))
        rows = rows[np.argsort(wrong[rows].argmax(axis=1), kind="stable")][:64]  # the shortest words
        if exam.judge.chooser is not Chooser.NETWORK and len(rows):
            told, truth = oracle.run(x[rows]), exam.task.solve(x[rows])
            at = wrong[rows].argmax(axis=1)
            rows = rows[(told == truth)[np.arange(len(rows)), at].all(axis=1)]
        if not len(rows):
            return
        word = machine.symbols_of(x[rows[:1], : int(wrong[rows[0]].argmax()) + 1])[0]
        apart = distinguishing_suffix(oracle, machine, word)
        if apart is None:
            return
        extra.append(apart[None])
        found = fsm.extract(oracle, machine.alphabet, suffix=suffix, most_states=most_states, extra=extra)
        if found is None:
            return
        machine = found
        yield machine


def read_formulas(exam: Examination, machine: Machine, config: SynthesisConfig) -> bool:
    """Formulas for an exact minimal machine; its tables as the last resort."""
    exam.offer([table_program(machine)])
    depth = memory_depth(machine)
    if depth is not None:
        exam.note(f"finite memory: the output depends on the last {depth + 1} inputs")
        with exam.stage("bits and windows"):
            exam.offer(definite_programs(machine, grammar_of(config, largest=5)))
    with exam.stage("symbolic lifting"):
        exam.offer(lift(machine, grammar_of(config)))
        if exam.judge.share(machine.run) < 1.0:  # a few of its moves may be the network's errors
            exam.offer(lift(machine, grammar_of(config), tolerance=0.04))
        if exam.found.formula is None:
            exam.offer(lift(machine, grammar_of(config, conditional=True)))
    return exam.found.formula is not None


def read_answers(exam: Examination, oracle: Oracle, config: SynthesisConfig) -> bool:
    """Rules over windows and running features of the network's own answers."""
    task = exam.task
    with exam.stage("windows"):
        x, truth = exam.judge.sequences
        y = oracle.run(x)
        wrong = float((~agree(y, truth)).mean())
        if isinstance(exam.judge, ByNetwork):  # it never contradicts itself; training knows how often it errs
            wrong = 1 - exam.judge.accuracy ** (1 / task.length)
        tolerance = min(0.05, 3 * wrong)
        if exam.offer(recurrences(x, y, tolerance=tolerance)):
            return True
        if exam.offer(window_rules(x, y, grammar_of(config), tolerance=tolerance)):
            return True
        if exam.offer(change_rules(x, y, grammar_of(config), tolerance=tolerance)):
            return True
    with exam.stage("counters and history"):
        if task.inputs > 1:
            return False
        symmetric = not order_matters(x, oracle.run)
        if symmetric:
            exam.note("commutative: shuffling the inputs does not change the last output")
            counted = feature_rules(
                x, y, task.low, task.high, grammar_of(config, largest=5), symmetric=True, tolerance=tolerance
            )
            if exam.offer(counted):
                return True
        grammar = grammar_of(config, largest=5)
        if exam.offer(
            feature_rules(x, y, task.low, task.high, grammar, symmetric=False, tolerance=tolerance)
        ):
            return True
        small = grammar_of(config, largest=3)
        return exam.offer(
            feature_rules(
                x, y, task.low, task.high, small, symmetric=symmetric, tolerance=tolerance, further=True
            )
        )


def read_horizon(exam: Examination, oracle: Oracle, config: SynthesisConfig) -> bool:
    """Lifts the part of the machine that the training length reaches, with one conditional."""
    task = exam.task
    if task.symbols > config.most_symbols:
        return False
    letters = fsm.alphabet(task.low, task.high, task.inputs)
    for depth in dict.fromkeys(d for d in (task.length // 2, task.length // 3) if d):
        with exam.stage("horizon machine"):
            machine = fsm.extract_to_horizon(oracle, letters, depth=depth, length=task.length)
        if machine is None or machine.states > config.most_states:
            continue
        with exam.stage("symbolic lifting"):
            exam.note(f"within {depth} steps: {machine.states} states")
            before = exam.found.formula
            exam.offer(lift(machine, grammar_of(config, conditional=True), most=8))
            if exam.found.formula is not before:
                exam.found.machine = machine  # the part that the formula was read from
                return True
    return False


def read_all(exam: Examination, oracle: Oracle, config: SynthesisConfig, *, final: bool) -> bool:
    """All readings of a network; the costly ones only of a `final` one, from which no better is to come."""
    machine, done = read_machine(exam, oracle, config)
    # A machine that needs half of the training length to reach its last state may be the part of an
    # infinite one that sequences of that length show: a rule for the whole is shorter.
    deep = machine is not None and 2 * (max(map(len, machine.access)) + 1) >= exam.task.length
    if (done and not deep) or (not done and not final):
        return done
    if config.route != "automaton" and read_answers(exam, oracle, config) and not deep:
        return True
    if not read_horizon(exam, oracle, config) and exam.found.formula is None and machine is not None:
        with exam.stage("factoring"):
            exam.offer(factored_programs(machine, grammar_of(config)))
    return exam.found.formula is not None


def classes_of(y: Outputs) -> tuple[Int[np.ndarray, "classes outputs"], Int[np.ndarray, "count length"]]:
    """Distinct outputs, and each step's class; -1 where no output is recorded."""
    values, number = np.unique(y.reshape(-1, y.shape[2]), axis=0, return_inverse=True)
    number = number.reshape(y.shape[:2])
    if len(values) and (values[0] == MISSING).any():  # it sorts first
        return values[1:], number - 1
    return values, number
