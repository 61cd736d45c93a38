"""Which run works in which lane: the schedule alone, without a device."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compressarc.batch.schedule import Agreement, Schedule, flags


def items(count):
    return [(f"puzzle {i}", i % 2) for i in range(count)]


@given(st.integers(0, 40), st.integers(1, 9), st.randoms(use_true_random=False))
def test_every_run_gets_one_lane_once_and_in_order(count, lanes, chance):
    schedule, begun, ended = Schedule.of(items(count)), [], []
    while True:
        schedule, arrivals = schedule.filled(lanes)
        begun += [arrivals[lane] for lane in sorted(arrivals)]
        if not schedule.owners:
            break
        assert set(schedule.owners) <= set(range(lanes))
        assert len(set(schedule.owners.values())) == len(schedule.owners)
        # No lane is idle while a run waits.
        assert len(schedule.owners) == lanes or not schedule.queue
        over = chance.sample(sorted(schedule.owners), chance.randint(1, len(schedule.owners)))
        ended += [schedule.owners[lane] for lane in over]
        schedule = schedule.without(over)
    assert begun == items(count) and sorted(ended) == sorted(items(count))


@given(st.integers(1, 4), st.integers(1, 3), st.data())
def test_all_processes_agree_on_what_each_said_of_its_own_lanes(processes, each, data):
    lanes = processes * each
    said, ended, busy, stops = [], set(), set(), []
    for process in range(processes):
        local = list(range(process * each, (process + 1) * each))
        over = data.draw(st.sets(st.sampled_from(local)))
        going = data.draw(st.sets(st.sampled_from(local))) - over
        stops.append(data.draw(st.booleans()))
        said.append(flags(lanes, local=local, ended=over, busy=going, stop=stops[-1]))
        ended |= over
        busy |= going
    agreed = Agreement.of(np.stack(said))
    assert agreed == Agreement(tuple(sorted(ended)), any(stops), len(busy))


def test_a_lane_that_ended_takes_the_next_run_while_the_others_go_on():
    schedule, first = Schedule.of(items(3)).filled(2)
    assert first == {0: items(3)[0], 1: items(3)[1]}
    schedule, arrivals = schedule.without([1]).filled(2)
    assert arrivals == {1: items(3)[2]} and schedule.owners[0] == items(3)[0]
    schedule, arrivals = schedule.without([]).filled(2)
    assert arrivals == {} and len(schedule.owners) == 2
