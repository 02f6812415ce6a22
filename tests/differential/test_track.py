"""The compiled tracker and its Python twin agree on any course of datagrams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd._ext import is_disabled
from telemetryd.ingest.sflow import sequence as twin
from tests.feed import Feed

if is_disabled():
    pytest.skip("TELEMETRYD_NO_EXT=1: there is nothing to compare", allow_module_level=True)

from telemetryd._ext import track as compiled

#: Steps of a 32-bit counter: forward, still, back, loss, restart, wrap, nonsense.
STEPS = st.sampled_from(
    [0, 1, 1, 1, 1, 2, 5, 63, 64, 65, -1, -2, -63, -64, -65, -1023, -1024, -1025]
) | st.sampled_from(
    [1 << 20, (1 << 20) + 1, 1 << 26, (1 << 26) + 1, (1 << 31) - 1, 1 << 31, -(1 << 31), 100_000, -100_000]
)
STARTS = st.sampled_from([0, 1, 1000, (1 << 31) - 2, (1 << 32) - 3, (1 << 32) - 3_000_000])
SAMPLE = st.tuples(st.integers(0, 3), STEPS, STEPS, STEPS, st.sampled_from([0, 1, 100, 1 << 20, (1 << 32) - 1]))
DATAGRAM = st.tuples(
    st.integers(0, 2), STEPS, st.sampled_from([0, 1, 1000, 1000, -1000, -2001, -900_000]), st.lists(SAMPLE, max_size=6)
)


@given(start=STARTS, batches=st.lists(st.lists(DATAGRAM, max_size=8), min_size=1, max_size=6))
def test_compiled_equals_twin(start: int, batches: list[list[tuple[int, int, int, list[tuple[int, ...]]]]]) -> None:
    """Every row and every count is equal, whatever the counters do, over several batches."""
    feeds = Feed(), Feed()
    trackers = [
        module.Tracker(feed.datagrams, feed.samples, feed.track)
        for module, feed in zip((compiled, twin), feeds, strict=True)
    ]
    counters: dict[tuple[int, ...], int] = {}

    def move(*name: int, step: int) -> int:
        counters[name] = (counters.get(name, start) + step) & 0xFFFFFFFF
        return counters[name]

    for batch in batches:
        datagrams, samples = [], []
        for number, (agent, step, uptime, rows) in enumerate(batch):
            datagrams.append(
                {
                    "agent_lo": agent,
                    "agent_version": 4,
                    "sequence_number": move(agent, 0, step=step),
                    "uptime": move(agent, 1, step=uptime),
                }
            )
            for source, ahead, grown, dropped, rate in rows:
                samples.append(
                    {
                        "datagram": number,
                        "source_index": source,
                        "sequence_number": move(agent, 2, source, step=ahead),
                        "sample_pool": move(agent, 3, source, step=grown),
                        "drops": move(agent, 4, source, step=dropped),
                        "sampling_rate": rate,
                    }
                )
        for feed, tracker in zip(feeds, trackers, strict=True):
            feed.fill(datagrams, samples)
            tracker.track()
        for name, column in feeds[0].track.rows().items():
            np.testing.assert_array_equal(column, feeds[1].track.rows()[name], err_msg=name)
    for of in ("agents", "sources"):
        one, other = (getattr(tracker, of)() for tracker in trackers)
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_the_limits_are_the_same() -> None:
    """The numbers that decide are those of the twin."""
    assert compiled.limits == twin.limits
    for name in ("POOL_UNKNOWN", "POOL_KNOWN", "POOL_DUPLICATE"):
        assert getattr(compiled, name) == getattr(twin, name)
