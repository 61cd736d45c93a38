"""Runs on disk: settings that come back as they were, damaged settings and states that are named."""

import dataclasses
import json
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hypernet
from hypernet.files import write_json
from hypernet.generator.assignment import Assignment
from hypernet.generator.config import GeneratorConfig
from hypernet.training import checkpoints
from hypernet.training.step import Info, Run, TrainConfig

KEY = jax.random.key(3)
SCALARS = ("l1", "linf", "parity", "modular-addition-3")


@st.composite
def configs(draw):
    """Settings of any training: `sort` makes its outputs vectors."""
    tree = draw(st.booleans())
    slots = draw(st.lists(st.integers(1, 4), min_size=1, max_size=2))
    return {
        "target": draw(st.sampled_from((*SCALARS, "sort"))),
        "assignment": {"slots": slots, "relation": "tree" if tree else "columns", "levels": draw(st.sampled_from([None, 4])) if tree else None},
        "generator": {
            "activation": draw(st.sampled_from(["swish", "relu", "gelu-tanh"])),
            "log10_beta": [draw(st.floats(-20, -3)), draw(st.floats(-2, 5))],
            "latent": draw(st.integers(1, 5)),
            "modes": draw(st.integers(1, 9)),
            "power_law": draw(st.booleans()),
            "size_exponent": draw(st.floats(0, 2)),
        },
        "training": {
            "sizes": draw(st.lists(st.integers(1, 16), min_size=1, max_size=3, unique=True)),
            "steps": draw(st.integers(1, 10**9)),
            "learning_rate": draw(st.floats(1e-300, 1e300)),
            "kl_warmup": draw(st.integers(0, 100)),
            "seeds": draw(st.integers(1, 99)),
        },
    }  # fmt: skip


def config_of(drawn):
    generator = GeneratorConfig(assignment=Assignment(**drawn["assignment"]), **drawn["generator"])
    return TrainConfig(generator=generator, target=hypernet.get_target(drawn["target"]), **drawn["training"])


@given(drawn=configs())
def test_settings_come_back_from_disk_and_are_recognized(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("about")
    config = config_of(drawn)
    assert not checkpoints.check(folder, config, KEY)
    write_json(folder / "generator.json", checkpoints.identity(config, KEY))
    assert hypernet.load_config(folder) == config
    # how often the host looks is not part of a run
    assert checkpoints.check(folder, dataclasses.replace(config, chunk=7), KEY)
    with pytest.raises(ValueError, match=r"other settings \(steps: \d+ there, \d+ here\)"):
        checkpoints.check(folder, dataclasses.replace(config, steps=config.steps + 1), KEY)
    with pytest.raises(ValueError, match=r"other settings \(generator\.latent: \d there, 9 here\)"):
        other = dataclasses.replace(config.generator, latent=9)
        checkpoints.check(folder, dataclasses.replace(config, generator=other), KEY)
    with pytest.raises(ValueError, match=r"other settings \(key: "):
        checkpoints.check(folder, config, jax.random.key(4))


@pytest.mark.usefixtures("types_unchecked")
def test_numbers_of_numpy_are_settings_too():
    whole = {name: np.int64(getattr(TrainConfig(), name)) for name in ("steps", "seeds", "networks")}
    config = TrainConfig(sizes=np.array([2, 4]), learning_rate=np.float64(4e-3), **whole)
    assert checkpoints.identity(config, KEY) == checkpoints.identity(TrainConfig(sizes=(2, 4)), KEY)


GOOD = checkpoints.identity(TrainConfig(), KEY)
PLACES = [(name,) for name in GOOD] + [("generator", name) for name in GOOD["generator"]]
PLACES += [("generator", "assignment", name) for name in GOOD["generator"]["assignment"]]
WRONG = (None, -1, 0, 2.5, 10**30, 1e308, "x", "", [], [1], [[2]], {}, {"a": 1}, [None], ["a", "b"], True)


def changed(place, value):
    found = json.loads(json.dumps(GOOD))
    inner = found
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return found


@pytest.mark.parametrize("place", PLACES, ids="/".join)
def test_a_wrong_setting_on_disk_is_named_with_its_file(place, tmp_path):
    for value in WRONG:
        write_json(tmp_path / "generator.json", changed(place, value))
        try:
            config = hypernet.load_config(tmp_path)
        except ValueError as error:
            assert str(tmp_path) in str(error)
        else:  # it was a possible setting
            assert isinstance(config, TrainConfig)
            hash(config)


@given(data=st.data())
def test_settings_cut_or_with_other_characters_are_read_or_named(data, tmp_path_factory):
    text = bytearray(json.dumps(GOOD).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("about")
    (folder / "generator.json").write_bytes(text[: data.draw(st.integers(0, len(text)) | st.just(len(text)))])
    try:
        assert isinstance(hypernet.load_config(folder), TrainConfig)
    except ValueError as error:
        assert str(folder) in str(error)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"generator": 3}', "[" * 100_000, "\ud800", '{"generator": {}}']
)
def test_what_holds_no_settings_is_damaged(text, tmp_path):
    (tmp_path / "generator.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"generator\.json is damaged"):
        checkpoints.read_about(tmp_path)


@pytest.mark.parametrize("place", PLACES, ids="/".join)
def test_a_missing_setting_is_named_or_the_default(place, tmp_path):
    found = changed(place, None)
    inner = found
    for name in place[:-1]:
        inner = inner[name]
    del inner[place[-1]]
    write_json(tmp_path / "generator.json", found)
    if len(place) > 1 and place != ("generator", "assignment"):
        assert hypernet.load_config(tmp_path) == TrainConfig()
    else:
        with pytest.raises(ValueError, match=rf"generator\.json is damaged.*{place[-1]}"):
            hypernet.load_config(tmp_path)


def test_targets_of_one_s_own_must_be_given(tmp_path):
    mine = hypernet.Target("mine", lambda x: jnp.sum(x, -1))
    config = TrainConfig(target=mine)
    write_json(tmp_path / "generator.json", checkpoints.identity(config, KEY))
    assert hypernet.load_config(tmp_path, target=mine) == config
    with pytest.raises(ValueError, match=r"generator\.json: unknown target 'mine'"):
        hypernet.load_config(tmp_path)
    with pytest.raises(ValueError, match="was trained for target 'mine', not 'l1'"):
        hypernet.load_config(tmp_path, target=hypernet.get_target("l1"))
    with pytest.raises(ValueError, match="holds no trained generator"):
        hypernet.load_config(tmp_path / "elsewhere")


CONFIG = TrainConfig(seeds=2)


def saved(folder, step, numbers):
    """A run of a few numbers in place of a generator's."""
    run = Run({"a": jnp.asarray(numbers), "b": jnp.float32(2.5)}, (jnp.arange(3),), jnp.int32(step))
    history = Info(np.arange(step), *(np.full((step, 2), float(k)) for k in range(4)))
    checkpoints.save(
        folder, run, [Info(*(c[:2] for c in history)), Info(*(c[2:] for c in history))], CONFIG, KEY
    )
    return run, history


@pytest.mark.usefixtures("types_unchecked")
def test_the_latest_state_comes_back_and_a_damaged_one_is_named(tmp_path):
    folder = tmp_path / "run"
    blank = Run({"a": jnp.zeros(4), "b": jnp.float32(0)}, (jnp.zeros(3, int),), jnp.int32(0))
    run, infos = checkpoints.restore(folder, blank)
    assert infos == [] and run is blank
    for step in (3, 5, 8):
        wanted, history = saved(folder, step, np.linspace(0, step, 4, dtype=np.float32))
    run, (info,) = checkpoints.restore(folder, blank)
    chex.assert_trees_all_equal(run, wanted)
    chex.assert_trees_all_equal(info, history)
    state = folder / "state"
    assert sorted(int(p.name) for p in state.iterdir() if p.name.isdigit()) == [5, 8]
    files = [p for p in sorted((state / "8").rglob("*")) if p.is_file()]
    assert len(files) > 4
    named = 0
    for path in files:  # each cut in half, one at a time
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        try:
            run, (info,) = checkpoints.restore(folder, blank)
        except ValueError as error:
            assert re.search(rf"{re.escape(str(folder))}: the checkpoint of step 8 is damaged", str(error))
            named += 1
        else:  # a note that restoring does not need
            chex.assert_trees_all_equal(run, wanted)
            chex.assert_trees_all_equal(info, history)
        path.write_bytes(data)
    assert named >= 2
