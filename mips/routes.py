"""From one network to programs: every reading we have, cheapest first."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Int

from mips.config import SynthesisConfig
from mips.judging.candidates import Examination
from mips.programs.enumeration import Grammar
from mips.reading import machine_extraction as fsm
from mips.reading.finite_memory import definite_programs, memory_depth
from mips.reading.linear import Response, linear_programs, realize, response_of_oracle
from mips.reading.machine_extraction import Machine
from mips.reading.oracle import Oracle
from mips.reading.symbolic_lifting import lift, table_program
from mips.reading.windows import feature_rules, order_matters, recurrences, window_rules
from mips.tasks.task import Outputs

_MOST_SYMBOLS = 256
_STEPS = 400_000  # of a network, for one extraction


def grammar_of(config: SynthesisConfig, *, conditional: bool = False, largest: int | None = None) -> Grammar:
    """The enumerator's limits under these settings."""
    return Grammar(largest=largest or config.expression_nodes, tries=config.tries, conditional=conditional)


def read_response(exam: Examination, response: Response) -> bool:
    """Offers the programs of a linear system, if its rounded response is that of the task."""
    with exam.stage("linear realization"):
        if not exam.trials.exact_short(response.run):
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
    """The smallest machine by output signatures that is right on fresh data; whether a formula came of it.

    Suffixes grow from one symbol; longer ones split states spuriously in an imperfect network, so the
    first machine that is right is taken, and the search ends where the states become too many.
    """
    task = exam.task
    if task.symbols > _MOST_SYMBOLS:
        exam.note(
            f"no machine sought: {task.symbols} symbols (at most {_MOST_SYMBOLS}); "
            "the linear and window routes fit"
        )
        return None, False
    letters = fsm.alphabet(task.low, task.high, task.inputs)
    machine, nearly, largest = None, None, 0
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
            voted = fsm.extract_by_majority(oracle, letters, exam.trials.short[0][:paths], suffix=suffix)
            for candidate in itertools.chain([found], voted):
                if not candidate.complete:
                    continue
                share = exam.trials.share_short(candidate.run)
                if share == 1.0 and exam.trials.exact_long(candidate.run):
                    machine = fsm.minimize(candidate)
                    break
                if share > max(0.5, nearly[0] if nearly else 0.0):
                    nearly = share, candidate
            if machine is not None:
                break
    if machine is None:
        exam.note(f"machines of up to {largest} states are not right on fresh sequences")
        if nearly is not None:
            with exam.stage("symbolic lifting"):
                # Wrong in a few moves: a formula that the others obey may be right.
                exam.offer(lift(nearly[1], grammar_of(config), tolerance=0.04))
        return None, exam.found.formula is not None
    exam.note(f"finite-state: {machine.states} states, right on fresh sequences")
    exam.found.machine = machine
    return machine, read_formulas(exam, machine, config)


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
        if exam.found.formula is None:
            exam.offer(lift(machine, grammar_of(config, conditional=True)))
    return exam.found.formula is not None


def read_answers(exam: Examination, oracle: Oracle, config: SynthesisConfig) -> bool:
    """Rules over windows and running features of the network's own answers."""
    task = exam.task
    with exam.stage("windows"):
        x = exam.trials.short[0]
        y = oracle.run(x)
        wrong = float((y != exam.trials.short[1]).any(axis=2).mean())
        tolerance = min(0.05, 3 * wrong)
        if exam.offer(recurrences(x, y, tolerance=tolerance)):
            return True
        if exam.offer(window_rules(x, y, grammar_of(config), tolerance=tolerance)):
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
        running = feature_rules(
            x, y, task.low, task.high, grammar_of(config, largest=5), symmetric=False, tolerance=tolerance
        )
        return exam.offer(running)


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
            exam.found.machine = machine
            if exam.offer(lift(machine, grammar_of(config, conditional=True), most=8)):
                return True
    return False


def read_all(exam: Examination, oracle: Oracle, config: SynthesisConfig, *, final: bool) -> bool:
    """All readings of a network; the costly ones only of a `final` one, from which no better is to come."""
    _, done = read_machine(exam, oracle, config)
    if done or not final or config.route == "automaton":
        if not done and final:
            return read_horizon(exam, oracle, config)
        return done
    return read_answers(exam, oracle, config) or read_horizon(exam, oracle, config)


def classes_of(y: Outputs) -> tuple[Int[np.ndarray, "classes outputs"], Int[np.ndarray, "count length"]]:
    """Distinct outputs, and each step's class."""
    values, number = np.unique(y.reshape(-1, y.shape[2]), axis=0, return_inverse=True)
    return values, number.reshape(y.shape[:2])
