"""Plans: every puzzle once, little waste, and rooms that puzzles really fit in."""

import dataclasses
import json

import numpy as np
import pytest

from compressarc.batch.bucket_shapes import fits, padded_grids, room_for
from compressarc.batch.device_model import DEVICES, FEW, TILE, Fitted, device_model
from compressarc.batch.plan import Plan, estimate, group_shapes, make_plan, work
from compressarc.batch.records import BatchSettings
from compressarc.datasets import load_splits
from compressarc.network.inputs import signature
from tests.compressarc import zoo


@pytest.fixture(scope="module", params=[pytest.param("training", marks=pytest.mark.slow), "evaluation"])
def statics(request):
    return {n: signature(p.canvas) for n, p in load_splits("arcagi")[request.param].items()}


@pytest.mark.parametrize(("programs", "allowed"), [(40, 0.41), (60, 0.27), (100, 0.14)])
def test_padded_work_of_a_whole_split(statics, programs, allowed):
    """At most what merging the cheapest pairs reaches with size flags as data (more rounds: less)."""
    groups = group_shapes(statics, programs, rounds=30)
    assert len(groups) == programs and sorted(n for g in groups for n in g) == sorted(statics)
    padded = sum(len(g) * work(room_for(statics[n] for n in g).shape) for g in groups)
    own = sum(work(s.shape) for s in statics.values())
    assert padded / own - 1 <= allowed


def test_refining_is_never_worse_than_merging(statics):
    few = dict(list(statics.items())[:60])
    padded = [
        sum(len(g) * work(room_for(few[n] for n in g).shape) for g in group_shapes(few, 8, rounds=rounds))
        for rounds in (0, 20, 80)
    ]
    assert padded[0] >= padded[1] >= padded[2] and padded[2] < padded[0]


def test_a_plan_is_whole_and_survives_json(statics):
    some = dict(list(statics.items())[:80])
    plan = make_plan(some, device_model("h100"), devices=8, seeds=4, steps=2000)
    assert sorted(n for b in plan.buckets for n in b.puzzles) == sorted(some)
    assert all(fits(some[n], b.room) for b in plan.buckets for n in b.puzzles)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    with pytest.raises(ValueError, match="not a plan"):
        Plan.from_json({"buckets": [{}]})


def test_more_steps_make_more_programs_and_more_devices_fewer(statics):
    some = dict(list(statics.items())[:60])
    count = lambda **kw: len(make_plan(some, device_model("cpu"), **kw).buckets)  # noqa: E731
    assert count(steps=50) < count(steps=2000)
    assert count(steps=2000, devices=64) <= count(steps=2000)


@pytest.mark.parametrize("name", sorted(DEVICES))
def test_the_model_grows_with_work_and_fits_memory(name):
    device = device_model(name)
    small, large = work(zoo.SAME.canvas.shape), 48_050
    assert 0 < device.step_seconds(small, 1) <= device.step_seconds(large, 1)
    assert device.step_seconds(large, 2) <= 2 * device.step_seconds(large, 1) + 1e-12
    lanes = device.lanes(large)
    assert 1 <= lanes <= device.max_lanes and (lanes == 1 or device.run_bytes(large, lanes) <= device.memory)
    plan = make_plan({p.name: signature(p.canvas) for p in zoo.ALL}, device, programs=2)
    one, two = (estimate(plan, device, devices=1, seeds=1, steps=s) for s in (100, 200))
    assert two.seconds - two.compile_seconds == pytest.approx(2 * (one.seconds - one.compile_seconds))
    compiles = [device.compile_seconds(work(b.room.shape), b.lanes) for b in plan.buckets]
    assert min(compiles) <= one.compile_seconds <= sum(compiles) + 1e-9
    assert (one.dollars is None) == (name == "cpu") and device.assumptions()


def test_a_tpus_lanes_are_whole_tiles_where_they_fit():
    device = device_model("v5e")
    for size in (100, 1_000, 3_000, 10_000, 48_050):
        lanes = device.lanes(size)
        assert lanes % TILE == 0 or lanes < FEW
        assert device.fits(size, lanes)
        assert device.side_by_side(size, 5) <= 5
        assert device.side_by_side(size, 100) in (lanes, TILE)
    assert device.lanes(100) >= TILE
    full, more = (device.said(1_000, n)["cycles"] for n in (TILE, TILE + 1))
    assert more == 2 * full


def test_programs_compiled_ahead_take_memory():
    device = dataclasses.replace(device_model("v5e"), compile_ahead=4)
    alone = dataclasses.replace(device, compile_ahead=0)
    for lanes in (1, TILE):
        assert device.program_bytes(1_000, lanes) == 5 * alone.program_bytes(1_000, lanes) > 0
    assert device.lanes(3_000) <= alone.lanes(3_000)


def test_a_program_compiled_while_another_runs_costs_no_time(statics):
    some = dict(list(statics.items())[:40])
    constant = Fitted(kernels=1e3, bytes=(1e6, 1e5), memory=(1e6, 1e4), compile_seconds=(60.0, 0.0))
    model = dataclasses.replace(device_model("h100"), fitted=constant, small=constant)
    ahead, none = (dataclasses.replace(model, compile_ahead=n) for n in (1, 0))
    plan = make_plan(some, ahead, programs=6)
    long, short = (estimate(plan, ahead, devices=1, seeds=8, steps=s) for s in (1_000_000, 1))
    assert long.compile_seconds == 60  # the first one's alone
    # Hardly any steps: two programs at a time, one after another.
    assert short.compile_seconds == pytest.approx(3 * 60, rel=0.05)
    assert estimate(plan, none, devices=1, seeds=8, steps=1).compile_seconds == 6 * 60


def test_padding_is_marked_as_such():
    room = room_for(signature(p.canvas) for p in zoo.ALL)
    for puzzle in zoo.ALL:
        static, data = signature(puzzle.canvas), padded_grids(puzzle.canvas, room)
        padding, own = data.padding, static.shape
        assert padding.plane.sum() == (own.colors + 1) * own.x * own.y * own.examples
        assert padding.known.sum() == own.examples + static.num_train
        assert padding.test_share.sum() == pytest.approx(1)
        latents = 4 * np.sum([np.prod(own.axes(c)) for c in own_types()])
        assert (padding.noise >= 0).sum() == latents == padding.noise.max() + 1
        assert all(np.isfinite(a).all() for a in (data.union, data.target, data.signs_x, data.crop_x))


def own_types():
    from compressarc.multitensor import TYPES

    return TYPES


def test_settings_are_checked():
    with pytest.raises(ValueError, match="none twice"):
        BatchSettings(seeds=(1, 1))
    with pytest.raises(ValueError, match="settle=0"):
        BatchSettings(settle=0)
    with pytest.raises(ValueError, match="unknown vote"):
        BatchSettings(vote="x")
    with pytest.raises(ValueError, match="no puzzles"):
        make_plan({}, device_model("cpu"))
    with pytest.raises(ValueError, match="lanes=0"):
        make_plan({"a": signature(zoo.SAME.canvas)}, device_model("cpu"), lanes=0)
    assert BatchSettings.from_json(json.loads(json.dumps(BatchSettings().to_json()))) == BatchSettings()
    assert dataclasses.replace(BatchSettings(), vote="count").vote == "count"
