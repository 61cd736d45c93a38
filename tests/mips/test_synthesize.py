"""From a task to a verified program, end to end; nothing depends on a task's name."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mips
from mips import SynthesisConfig
from mips.report import result_files as store
from mips.report.table import GPT4_PUBLISHED, GPT4_STRICT, PAPER_SOLVED, counts, write_page
from mips.synthesis import identifier
from mips.tasks import PUBLISHED

KEY = jax.random.key(0)
QUICK = SynthesisConfig(baseline=False)


@pytest.mark.parametrize(
    "name",
    [
        "Newton_Gravity",
        "Parity_Last3",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("Add_Mod_5", "Abs_Diff", "Majority_0_2")),
    ],
)
def test_a_formula_is_read_from_a_network(name):
    result = mips.synthesize(mips.get_task(name), QUICK, key=KEY)
    assert (result.status, result.provenance) == ("formula", "network")
    assert result.report.exact and result.accuracy > 0.8
    assert result.agreement > 0.7
    assert mips.verify(mips.parse_program(result.source), mips.get_task(name)).exact


def test_a_renamed_task_gets_the_same_program():
    task = mips.get_task("Add_Mod_3")
    one = mips.synthesize(task, QUICK, key=KEY)
    two = mips.synthesize(dataclasses.replace(task, name="zzz 7!"), QUICK, key=KEY)
    assert one.program == two.program and one.notes == two.notes and one.accuracy == two.accuracy
    assert two.source.startswith("def zzz_7(xs):")


def test_data_alone_is_reported_beside_and_labeled():
    result = mips.synthesize(mips.get_task("Parity_All"), key=KEY)
    assert result.provenance == "network" and result.baseline is not None
    alone = mips.synthesize(mips.get_task("Parity_All"), SynthesisConfig(route="data"), key=KEY)
    assert (alone.status, alone.provenance, alone.network) == ("formula", "data", "")


def test_the_users_function_and_recorded_sequences(tmp_path):
    def last_two_equal(xs):
        before = 0
        for x in xs:
            yield int(x == before)
            before = x

    task = mips.from_callable(last_two_equal, low=0, high=4)
    assert mips.synthesize(task, QUICK, key=KEY).report.exact
    x, y = task.sample(5, 1500)
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    recorded = mips.synthesize(mips.from_npz(tmp_path / "mine.npz"), QUICK, key=KEY)
    assert recorded.status == "formula" and recorded.report.long is None
    assert mips.verify(recorded.program, task).exact


def test_the_users_network_is_read_as_it_is():
    # Counts modulo 3, except that it errs on purpose: 2 + 2 gives 0.
    def step(state, x):
        state = jnp.where((state == 2) & (x == 2), 0, (state + x) % 3)
        return state, state.astype(jnp.float32)

    network = mips.from_step(step, jnp.int32(0))
    task = mips.task_of_network(network, low=0, high=3)
    result = mips.synthesize_from_network(network, task)
    assert result.status in {"formula", "table"} and result.agreement == 1.0
    assert result.machine.states == 3 and result.report.exact


@pytest.mark.slow
def test_a_task_without_structure_gets_a_statement_and_no_program():
    table = np.random.default_rng(0).integers(0, 2, 1 << 10)

    def scramble(xs):
        code = 1
        for x in xs:
            code = (code * 13 + x * 7 + 5) % 1023
            yield int(table[code])

    config = SynthesisConfig(baseline=False, attempts=1, steps=200)
    result = mips.synthesize(mips.from_callable(scramble, low=0, high=2), config, key=KEY)
    assert result.status in {"none", "network"} and result.program is None
    assert any("did not learn it: at best" in note or "machine" in note for note in result.notes), (
        result.notes
    )


def test_routes_refuse_what_they_cannot_treat():
    with pytest.raises(ValueError, match=r"200 symbols.*`--route linear` or `auto` fits"):
        mips.synthesize(
            mips.get_task("Abs_Current"), SynthesisConfig(route="automaton", baseline=False), key=KEY
        )
    with pytest.raises(ValueError, match="route='magic'"):
        SynthesisConfig(route="magic")
    with pytest.raises(ValueError, match="too few"):
        x = np.ones((10, 5, 1), int)
        few = mips.Task("few", None, 0, 2, records=(x, x), length=5)
        mips.synthesize(few, QUICK, key=KEY)


def test_the_published_route_end_to_end():
    pytest.importorskip("sklearn")
    result = mips.synthesize(
        mips.get_task("Bitwise_Not"), SynthesisConfig(route="paper", baseline=False), key=KEY
    )
    assert result.status == "formula" and "n=1" in result.network


def test_published_sets_have_the_published_sizes():
    assert (len(PAPER_SOLVED), len(GPT4_PUBLISHED), len(GPT4_STRICT)) == (32, 30, 14)
    assert len(PAPER_SOLVED & GPT4_PUBLISHED) == 19
    assert set(PUBLISHED) >= PAPER_SOLVED | GPT4_PUBLISHED and GPT4_STRICT < GPT4_PUBLISHED


def test_results_are_stored_and_reported(tmp_path):
    result = mips.synthesize(mips.get_task("Add_Mod_3"), key=KEY)
    store.write(tmp_path, store.to_json(result, origin="benchmark"))
    data = store.read_all(tmp_path)["Add_Mod_3"]
    assert data["report"]["exact"] and data["machine"]["next"] and data["latex"]
    assert store.read_program(tmp_path / "add_mod_3.py").outputs == result.program.outputs
    assert store.read_program(tmp_path / "add_mod_3.json") == result.program
    assert counts({"Add_Mod_3": data})["network"] == 1
    page = write_page({"Add_Mod_3": data}, tmp_path).read_text()
    assert "def add_mod_3" in page and "machines/add_mod_3.png" in page
    assert (tmp_path / "machines" / "add_mod_3.png").stat().st_size > 5_000
    (tmp_path / "foreign.json").write_text('{"a": 1}')
    assert list(store.read_all(tmp_path)) == ["Add_Mod_3"]
    for text, error in (("{", "not a result"), ('{"format": 1, "task": "x"}', "not a whole result")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=rf"bad\.json: {error}"):
            store.read_all(tmp_path)
    for change, error in (
        ({"report": {"fresh": 1}}, "damaged"),
        ({"machine": {}}, "damaged"),
        ({"notes": None}, "notes"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps(data | change))
        with pytest.raises(ValueError, match=rf"bad\.json: {error}"):
            store.read(tmp_path / "bad.json")


@pytest.mark.parametrize("name", ["<lambda>", "max", "class", "7up", "sum.csv"])
def test_program_names_are_names(name):
    text = f"def {identifier(name)}(xs):\n    for x in xs:\n        yield max(x, 1)\n"
    namespace = {}
    exec(text, namespace)
    assert list(namespace[identifier(name)]([0, 5])) == [1, 5]


def test_short_tasks_and_many_channels_are_no_trouble():
    table = jnp.array([3, 1, 4, 1, 5, 9, 2, 6])
    network = mips.from_step(lambda s, x: ((), table[x]), ())
    for length in (1, 3):
        task = mips.task_of_network(network, low=0, high=8, length=length)
        assert mips.synthesize(task, SynthesisConfig(route="data"), key=KEY).program is None
        read = mips.synthesize_from_network(network, task)
        assert read.status == "table" and read.report.exact
    wide = mips.from_callable(
        lambda xs: [tuple(x * j for j in range(7)) for x in xs], low=0, high=5, outputs=7
    )
    alone = mips.synthesize(wide, SynthesisConfig(route="data"), key=KEY)
    assert alone.status == "formula" and alone.report.exact


class TestStepFunctions:
    def read(self, step, state, **alphabet):
        network = mips.from_step(step, state)
        task = mips.task_of_network(network, **alphabet)
        return mips.synthesize_from_network(network, task)

    def test_no_state_at_all(self):
        assert self.read(lambda s, x: ((), x * x % 5), (), low=0, high=5).report.exact

    def test_a_delay_of_any_length(self):
        for length in (1, 3):
            result = self.read(lambda s, x: (x, s), jnp.int32(0), low=0, high=5, length=length)
            assert result.realization is None or result.realization.order == 2 or length == 1
            assert result.status in {"formula", "table"}

    def test_what_is_not_a_number_is_refused(self):
        with pytest.raises(ValueError, match="not finite"):
            self.read(lambda s, x: (s, x / 0.0), jnp.int32(0), low=0, high=5)
        with pytest.raises(ValueError, match="one array, not tuple"):
            mips.from_step(lambda s, x: (s, (x, x)), jnp.int32(0))
        with pytest.raises(ValueError, match="can be read by auto"):
            network = mips.from_step(lambda s, x: (s, x), jnp.int32(0))
            task = mips.task_of_network(network, low=0, high=3)
            mips.synthesize_from_network(network, task, SynthesisConfig(route="data"))


def test_settings_have_types():
    for name, value, kind in (
        ("steps", "x", "int"),
        ("hidden", None, "int"),
        ("expression_nodes", 7.5, "int"),
        ("baseline", "no", "bool"),
    ):
        with pytest.raises(TypeError, match=f"{name}={value!r}: {kind} expected"):
            SynthesisConfig(**{name: value})
    assert SynthesisConfig(steps=7) == SynthesisConfig(steps=7)
