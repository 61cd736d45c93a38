"""Names, verdicts and settings of a synthesis, without any network."""

import builtins
import dataclasses
import keyword
import unicodedata

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mips import routes, synthesis, training_schedules
from mips.config import SynthesisConfig
from mips.judging.candidates import BudgetExhaustedError, Examination
from mips.judging.verification import Report
from mips.programs.program import parse_program
from mips.reading.oracle import Judged
from mips.reading.symbolic_lifting import table_program
from mips.status import Provenance, Status
from mips.synthesis import identifier
from mips.tasks import PUBLISHED, Task, get_task
from tests.mips.machines import counter_mod, divider, oracle_of
from tests.mips.strategies import SEEDS, machines, sequences_for

KEY = jax.random.key(0)
SUM = parse_program("def f(xs):\n    s = 0\n    for x in xs:\n        s = s + x\n        yield s\n")


@given(st.text(max_size=12))
@example("²x")
@example("ｍａｘ")
@example("ℌ ﬁ")
@example("")
@example("__")
@example("match")
@example("İ")
def test_every_name_of_a_task_becomes_a_name_in_python(name):
    text = identifier(name)
    assert text.isidentifier() and unicodedata.normalize("NFKC", text) == text
    assert not keyword.iskeyword(text) and not hasattr(builtins, text)
    namespace = {}
    exec(SUM.source(text), namespace)
    assert list(namespace[text]([1, 2])) == [1, 3]
    assert "/" not in text  # it names files, too


def test_names_of_the_benchmark_are_kept_apart():
    assert len({identifier(name) for name in PUBLISHED}) == 62
    assert identifier("Base_7_Addition") == "base_7_addition"


GOOD = Report(1.0, 9, 1.0, 9, 40, 1.0, None)
VERDICTS = [
    (SUM, GOOD, True, False, Status.FORMULA),
    (table_program(divider(3)), GOOD, True, True, Status.TABLE),
    (SUM, dataclasses.replace(GOOD, long=0.5), True, False, Status.INEXACT),
    (SUM, dataclasses.replace(GOOD, exhaustive=0.5), True, True, Status.INEXACT),
    (SUM, dataclasses.replace(GOOD, long=None), True, False, Status.INEXACT),
    (SUM, dataclasses.replace(GOOD, long=None), False, False, Status.FORMULA),
    (SUM, dataclasses.replace(GOOD, long=None, fresh=0.9), False, False, Status.INEXACT),
    (SUM, dataclasses.replace(GOOD, long=None, recorded=1.0), False, False, Status.FORMULA),
    (SUM, dataclasses.replace(GOOD, long=None, recorded=0.999), False, False, Status.INEXACT),
    (None, None, True, True, Status.UNFINISHED),
    (None, None, True, False, Status.NETWORK),
]


@pytest.mark.parametrize(("program", "report", "longer", "stopped", "status"), VERDICTS)
def test_verdicts(program, report, longer, stopped, status):
    exam = Examination.of(get_task("Sum_All"))
    if not longer:
        exam = dataclasses.replace(exam, trials=dataclasses.replace(exam.trials, long=None))
    network = Judged(oracle_of(divider(3)), 1.0)
    assert synthesis._status(exam, program, report, network, stopped=stopped) == status
    if program is None and not stopped:
        assert synthesis._status(exam, program, report, None, stopped=stopped) == Status.NONE


def test_one_record_that_contradicts_makes_a_program_inexact_and_is_named():
    x = np.random.default_rng(0).integers(0, 5, (60, 8, 1))
    y = np.cumsum(x, axis=1)
    for spoiled in range(60):
        wrong = y.copy()
        wrong[spoiled, -1] += 1
        exam = Examination.of(Task("r", None, 0, 5, length=8, records=(x, wrong)))
        report = synthesis._verified(exam, SUM)
        assert synthesis._status(exam, SUM, report, None, stopped=False) == Status.INEXACT
        assert report.counterexample.x == x[spoiled].tolist()
        assert "1 of the 60 recorded sequences contradict the program" in exam.log.notes
    exam = Examination.of(Task("r", None, 0, 5, length=8, records=(x, y)))
    assert synthesis._status(exam, SUM, synthesis._verified(exam, SUM), None, stopped=False) == Status.FORMULA
    assert any(note.startswith("12 recorded sequences were set apart") for note in exam.log.notes)
    assert any("at most 22 % are wrong" in note for note in exam.log.notes)


def test_where_nothing_can_be_set_apart_nothing_is_promised_of_other_sequences():
    x = np.arange(4).reshape(4, 1, 1).repeat(8, axis=1)
    exam = Examination.of(Task("r", None, 0, 5, length=8, records=(x, np.cumsum(x, axis=1))))
    report = synthesis._verified(exam, SUM)
    assert (report.fresh_count, report.recorded, report.recorded_count) == (0, 1.0, 4)
    assert report.error_bound == 1.0 and report.right_at_its_length
    assert "too few different sequences are recorded to set any apart as evidence" in exam.log.notes
    spoiled = np.cumsum(x, axis=1)
    spoiled[2, 3] = 9
    exam = Examination.of(Task("r", None, 0, 5, length=8, records=(x, spoiled)))
    report = synthesis._verified(exam, SUM)
    assert synthesis._status(exam, SUM, report, None, stopped=False) == Status.INEXACT


def test_a_rule_of_the_files_last_part_alone_is_not_chosen():
    """A log sorted by size: its last fifth obeys a rule that the others contradict."""
    x = np.random.default_rng(0).integers(160, size=(2000, 10, 1))
    x = x[np.argsort(-x.max(axis=(1, 2)), kind="stable")]
    task = Task("mine", None, 0, 160, length=10, records=(x, np.minimum(x, 150)))
    copy = parse_program("def f(xs):\n    for x in xs:\n        yield x\n")
    assert (copy.run(x[1600:]) == task.records[1][1600:]).all()
    for seed in range(20):
        exam = Examination.of(task, seed=seed)
        assert not exam.offer([copy]) and exam.found.formula is None


def test_where_a_program_comes_from():
    table, data = table_program(divider(3)), SynthesisConfig(route="data")
    assert synthesis._provenance(None, data) == Provenance.NONE == ""
    assert synthesis._provenance(SUM, data) == Provenance.DATA
    assert synthesis._provenance(SUM, SynthesisConfig()) == Provenance.NETWORK
    assert synthesis._provenance(table, SynthesisConfig()) == Provenance.TABLE


def test_agreement_with_a_network_is_none_where_the_program_fails():
    machine = divider(3)
    exam = Examination.of(get_task("Div_3"))
    assert synthesis._compared(oracle_of(machine), table_program(machine), exam).faithful
    x = exam.task.draw((1_000_004, 0), 2000)
    other = synthesis._compared(oracle_of(machine), SUM, exam)
    assert other.drawn == pytest.approx((machine.run(x) == SUM.run(x)).all(axis=(1, 2)).mean())
    fails = parse_program("def f(xs):\n    for x in xs:\n        yield 1 // x\n")
    compared = synthesis._compared(oracle_of(machine), fails, exam)
    assert compared.drawn < 0.01 and compared.disagreement.got is None


def test_a_budget_that_runs_out_keeps_what_was_found():
    def listen(stage, _detail):
        if stage == "training":
            raise BudgetExhaustedError

    result = synthesis.synthesize(get_task("Sum_All"), SynthesisConfig(), key=KEY, on_stage=listen)
    assert result.status == Status.UNFINISHED and result.program is None
    assert result.notes[-1] == "the budget ran out" and result.baseline is not None
    assert result.source == "" and result.agreement is None


def test_a_budget_that_runs_out_while_a_network_is_read_keeps_its_name_and_accuracy():
    def listen(stage, _detail):
        if stage == "finite-state extraction":
            raise BudgetExhaustedError

    config = SynthesisConfig(baseline=False, seeds=1)
    result = synthesis.synthesize(get_task("Parity_Last2"), config, key=KEY, on_stage=listen)
    assert result.status == Status.UNFINISHED and result.program is None
    assert "affine" in result.network and result.accuracy > 0.5


def test_data_alone_solves_what_is_a_window():
    task = get_task("Prev2")
    result = synthesis.synthesize(task, SynthesisConfig(route="data"), key=KEY)
    assert (result.status, result.provenance, result.network) == ("formula", "data", "")
    assert result.baseline == result.program and result.report.exact


def test_the_task_of_a_network_is_what_it_says():
    machine = counter_mod(4)
    task = synthesis.task_of_network(oracle_of(machine), "mine", low=0, high=4, length=5)
    x = sequences_for(machine)
    np.testing.assert_array_equal(task.solve(x), machine.run(x))
    assert (task.name, task.low, task.high, task.length, task.outputs) == ("mine", 0, 4, 5, 1)


@settings(max_examples=5)
@given(machines(most_states=3))
def test_any_machine_given_as_a_network_comes_back_as_a_program_that_is_exact(make):
    machine = make()
    low, high = int(machine.alphabet.min()), int(machine.alphabet.max()) + 1
    network = oracle_of(machine)
    task = dataclasses.replace(
        synthesis.task_of_network(network, low=low, high=high, length=4), most_listed=1
    )
    exam = Examination.of(task)
    found, formula = routes.read_machine(exam, network, SynthesisConfig(expression_nodes=3, tries=20_000))
    assert found is not None and exam.found.machine is found
    x = sequences_for(machine, length=9)
    best = exam.found.formula or exam.found.table
    np.testing.assert_array_equal(best.run(x), machine.run(x))
    assert formula == (exam.found.formula is not None)


def test_readings_say_why_they_found_nothing():
    network = oracle_of(divider(3))
    task = synthesis.task_of_network(network, low=0, high=2)
    exam = Examination.of(task)
    assert not routes.read_linear(exam, network)
    assert "not linear" in exam.log.notes[0] and set(exam.log.seconds) == {"probing"}
    wide = Examination.of(get_task("Sum_All"))
    wide = dataclasses.replace(
        wide, trials=dataclasses.replace(wide.trials, task=Task("t", lambda x: x, 0, 300))
    )
    assert routes.read_machine(wide, network, SynthesisConfig()) == (None, False)
    assert "no machine sought: 300 symbols (at most 256)" in wide.log.notes[0]


@given(SEEDS, st.integers(1, 3), st.integers(1, 4))
def test_classes_number_the_outputs(seed, outputs, kinds):
    y = np.random.default_rng(seed).integers(0, kinds, (5, 4, outputs))
    values, number = routes.classes_of(y)
    np.testing.assert_array_equal(values[number], y)
    assert len(np.unique(values, axis=0)) == len(values) == number.max() + 1
    assert values.tolist() == sorted(values.tolist())


def test_limits_of_the_search_follow_the_settings():
    config = SynthesisConfig(expression_nodes=6, tries=123)
    grammar = routes.grammar_of(config)
    assert (grammar.largest, grammar.tries, grammar.conditional) == (6, 123, False)
    assert routes.grammar_of(config, conditional=True, largest=4).largest == 4
    assert routes.grammar_of(config, conditional=True).conditional


@given(st.floats(0, 1))
def test_rungs_are_passed_once_each(share):
    rungs, passed = (0.9, 0.98, 0.999), 0
    while training_schedules._passed(rungs, share):
        rungs, passed = training_schedules._above(rungs, share), passed + 1
    assert passed == (share >= 0.9)  # one look is enough for all the rungs below it
    assert all(rung > share for rung in rungs)
    assert not training_schedules._passed((), 1.0)


@given(st.integers(1, 300))
def test_sizes_are_rounded_up_to_a_few(count):
    size = training_schedules._round_up(count)
    assert size >= count and (size in (4, 16, 64, 128) or count > 128)
    assert training_schedules._round_up(size) == size


FIELDS = [f for f in dataclasses.fields(SynthesisConfig) if f.type == "int"]


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
def test_counts_are_at_least_one_and_whole(field):
    for value, error in (
        (0, ValueError),
        (-3, ValueError),
        (1.0, TypeError),
        (True, TypeError),
        ("1", TypeError),
    ):
        with pytest.raises(error, match=f"^{field.name}="):
            SynthesisConfig(**{field.name: value})
    assert getattr(SynthesisConfig(**{"tests": 1, field.name: 5}), field.name) == 5


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"route": "magic"}, ValueError, "route='magic': must be one of auto, paper"),
        ({"route": 3}, TypeError, "route=3: str expected"),
        ({"mended": 1}, TypeError, "mended=1: bool expected"),
        ({"tests": 20_000}, ValueError, "tests=20000: must be fewer than sequences=20000"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(change, error, text, types_unchecked):
    with pytest.raises(error, match=text):
        SynthesisConfig(**change)


def test_a_part_that_one_record_alone_needs_is_not_simplified_away():
    """Of 30,000 records one has a number to which the program answers otherwise, and drawn ones do not meet it."""
    x = np.random.default_rng(0).integers(0, 900_000, (30_000, 4, 1))
    x[1234, 2] = 999_999
    program = parse_program("def f(xs):\n    for x in xs:\n        yield 77 if x == 999999 else x\n")
    task = Task("rare", None, 0, 1_000_000, length=4, records=(x, program.run(x)))
    assert synthesis._simplified(Examination.of(task), program) == program
