"""Phase diagrams: shares and ground states counted by hand, tables that read back, damaged looks."""

import csv
import json

import hypothesis.extra.numpy as hnp
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hypernet
from hypernet.analysis import phase_diagram as phases
from hypernet.analysis.measure import Measured
from hypernet.analysis.phase_diagram import PhaseDiagram
from hypernet.generator.assignment import Assignment
from hypernet.generator.config import GeneratorConfig
from hypernet.training.step import TrainConfig
from tests.hypernet import plain

SHAPE = (2, 3, 2, 4)  # looks, seeds, betas, networks


def diagram_of(label, seed=0):
    rng = np.random.default_rng(seed)
    nmse, nats, loss, L, A, S = rng.uniform(0.1, 9, size=(6, *SHAPE)).astype(np.float32)
    return PhaseDiagram(4, np.array([5, 10]), np.array([-5.0, -1.5]), label, nmse, nats, loss, L, A, S)


labels = hnp.arrays(np.int8, SHAPE, elements=st.integers(0, 6))


@given(label=labels, seed=plain.SEEDS, order=st.permutations(range(3)))
def test_shares_and_ground_states_count_networks_whatever_the_order_of_the_seeds(label, seed, order):
    diagram = diagram_of(label, seed)
    moved = PhaseDiagram(*diagram[:3], *(column[:, order] for column in diagram[3:]))
    for look in (0, -1):
        shares = diagram.shares(look)
        np.testing.assert_allclose(shares.sum(-1), 1)
        np.testing.assert_array_equal(moved.shares(look), shares)
        branches = diagram.branches(look)
        for j, (state, other) in enumerate(
            zip(diagram.ground_states(look), moved.ground_states(look), strict=True)
        ):
            for k in range(len(hypernet.LABELS)):
                assert shares[j, k] == np.mean(
                    [label[look, s, j, i] == k for s in range(3) for i in range(4)]
                )
            medians = [float(np.median(diagram.loss[look, s, j])) for s in range(3)]
            assert state.loss == min(medians) == state.losses[state.label]
            assert medians[state.seed] == state.loss
            assert branches[state.seed, j] == state.label
            counts = [np.sum(label[look, state.seed, j] == k) for k in range(7)]
            assert counts[hypernet.LABELS.index(state.label)] == max(counts)
            assert state.losses == {
                name: min(medians[s] for s in range(3) if branches[s, j] == name)
                for name in set(branches[:, j])
            }
            assert (other.label, other.loss, order[other.seed]) == (state.label, state.loss, state.seed)


@given(label=labels, seed=plain.SEEDS)
def test_tables_read_back_as_the_medians(label, seed, tmp_path_factory):
    diagram = diagram_of(label, seed)
    path = diagram.write_csv(tmp_path_factory.mktemp("phase") / "phase.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 2
    for row, (t, s, j) in zip(rows, np.ndindex(2, 3, 2), strict=True):
        assert (int(row["step"]), int(row["seed"]), float(row["log10_beta"])) == (
            (5, 10)[t],
            s,
            (-5.0, -1.5)[j],
        )
        for k, name in enumerate(hypernet.LABELS):
            assert float(row[name]) == np.mean(label[t, s, j] == k)
        for name in ("nmse", "nats", "loss", "L", "A", "S"):
            assert float(row[name]) == pytest.approx(
                float(np.median(getattr(diagram, name)[t, s, j])), rel=1e-5
            )
        assert float(row["bits"]) == pytest.approx(float(row["nats"]) / np.log(2), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"looks": 0}, "looks=0: must be at least 1"),
        ({"networks": 1.5}, "networks=1.5: expected a whole number"),
        ({"steps": -1}, "steps=-1"),
        ({"seeds": 0}, "seeds=0"),
        ({"n": 0}, "n=0"),
        ({"log10_betas": (1.0,)}, "within -6.0 .. 0.0"),
        (
            {"config": TrainConfig(generator=GeneratorConfig(assignment=Assignment((2, 2))))},
            "one hidden layer",
        ),
        ({"config": TrainConfig(target=hypernet.get_target("sort"))}, "one hidden layer and one output"),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_settings_of_phase_diagrams_are_checked_before_any_training(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        hypernet.phase_diagram(**settings, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_numbers_of_networks_without_labels_are_refused():
    blank = np.zeros((1, 1, 1))
    mlps = plain.random_network(0, (2, 3), batch=(1, 1, 1))
    measured = Measured(2, np.zeros(1), blank.astype(int), blank, blank, blank, None, None, mlps)
    with pytest.raises(ValueError, match="one hidden layer and one output"):
        phases._numbers(measured)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"a"', "\ud800"])
def test_damaged_notes_of_looks_are_named(text, tmp_path):
    (tmp_path / "looks").mkdir()
    (tmp_path / "looks" / "looks.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"looks\.json is damaged"):
        phases._check_looks(tmp_path / "looks", {"n": 4})


def test_notes_of_looks_are_kept_and_differences_named(tmp_path):
    wanted = {"n": 4, "log10_betas": [-5.0, -1.0]}
    for _ in range(2):
        phases._check_looks(tmp_path / "looks", wanted)
    assert json.loads((tmp_path / "looks" / "looks.json").read_text()) == wanted
    with pytest.raises(ValueError, match=r"holds other looks \(n: 4 there, 5 here\)"):
        phases._check_looks(tmp_path / "looks", wanted | {"n": 5})


def test_looks_read_back_and_missing_or_damaged_ones_are_named(tmp_path):
    names = ("label", "nmse", "nats", "loss", "L", "A", "S")
    arrays = {name: np.full((2, 1, 3), k, np.float32) for k, name in enumerate(names)}
    phases._write(tmp_path / "10.npz", arrays)
    found = phases._read(tmp_path / "10.npz")
    jax.tree.map(np.testing.assert_array_equal, found, arrays)
    data = (tmp_path / "10.npz").read_bytes()
    for name, content in (
        ("cut", data[:200]),
        ("empty", b""),
        ("text", b"no"),
        ("changed", data.replace(b"nmse", b"nmsf")),
    ):
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\.npz is damaged"):
            phases._read(tmp_path / f"{name}.npz")
    with pytest.raises(ValueError, match=r"none\.npz is missing"):
        phases._read(tmp_path / "none.npz")
