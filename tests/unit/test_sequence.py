"""Sequences, restarts and sample pools of sFlow sources (sFlow v5, section 5)."""

from __future__ import annotations

from typing import Any

import pytest

from telemetryd._ext import is_disabled, load
from telemetryd.ingest.sflow import sequence
from telemetryd.ingest.sflow.sequence import POOL_DUPLICATE, POOL_KNOWN, POOL_UNKNOWN
from tests.feed import Feed

Tracker = load("track", "telemetryd.ingest.sflow.sequence").Tracker
WRAP = 1 << 32


class Agent:
    """One agent with one source: datagrams go in one at a time, each with one sample or none."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.tracker = Tracker(self.feed.datagrams, self.feed.samples, self.feed.track)

    def send(self, number: int, sample: tuple[int, int] | None = None, *, uptime: int = 0, **fields: int) -> Any:
        """Send datagram ``number`` with a sample (its sequence number, its pool); return (growth, valid)."""
        datagram = {"sequence_number": number % WRAP, "uptime": uptime or number * 1000 % WRAP, "agent_version": 4}
        rows = []
        if sample is not None:
            row = {"sequence_number": sample[0] % WRAP, "sample_pool": sample[1] % WRAP, "sampling_rate": 100}
            rows.append(row | fields)
        self.feed.fill([datagram], rows)
        self.tracker.track()
        if sample is None:
            return None
        return int(self.feed.track["pool_growth"][0]), int(self.feed.track["pool_valid"][0])

    def agent(self, name: str) -> int:
        return int(self.tracker.agents()[name][1])

    def source(self, name: str) -> int:
        return int(self.tracker.sources()[name][1])


def test_growth_is_the_difference_of_pools() -> None:
    """The first sample of a source has no growth; each next one has the difference to the one before."""
    agent = Agent()
    assert agent.send(1, (1, 500)) == (0, POOL_UNKNOWN)
    assert agent.send(2, (2, 620)) == (120, POOL_KNOWN)
    assert agent.send(3, (3, 620)) == (0, POOL_KNOWN)


def test_counters_wrap() -> None:
    """Datagram and sample sequence numbers and the pool wrap at 2^32 without loss or restart."""
    agent = Agent()
    agent.send(WRAP - 1, (WRAP - 1, WRAP - 40), uptime=1000)
    assert agent.send(WRAP, (WRAP, 60), uptime=2000) == (100, POOL_KNOWN)
    assert agent.send(WRAP + 1, (WRAP + 1, 160), uptime=3000) == (100, POOL_KNOWN)
    assert [agent.agent(name) for name in ("lost", "restarts", "reordered", "duplicates")] == [0, 0, 0, 0]
    assert [agent.source(name) for name in ("lost", "restarts")] == [0, 0]


def test_uptime_wraps_after_50_days() -> None:
    """The uptime (ms) of an agent that runs for 49.7 days starts anew: that is no restart."""
    agent = Agent()
    agent.send(10, (10, 1000), uptime=WRAP - 500)
    agent.send(10, (11, 1100), uptime=500)
    assert agent.agent("restarts") == 0


def test_lost_datagrams_and_samples_are_counted_and_the_growth_covers_them() -> None:
    """A gap is counted; the growth across it is that of all the samples that were lost."""
    agent = Agent()
    agent.send(1, (1, 100))
    assert agent.send(5, (9, 900)) == (800, POOL_KNOWN)
    assert (agent.agent("lost"), agent.source("lost")) == (3, 7)


def test_reordered_samples_add_no_growth() -> None:
    """A late sample is in the growth of the newer one: the sums over all samples stay exact."""
    agent = Agent()
    agent.send(1, (1, 100))
    growths = [agent.send(3, (3, 300)), agent.send(2, (2, 200)), agent.send(4, (4, 400))]
    assert growths == [(200, POOL_KNOWN), (0, POOL_KNOWN), (100, POOL_KNOWN)]
    assert [agent.agent(name) for name in ("lost", "reordered", "restarts")] == [0, 1, 0]
    assert agent.source("lost") == 0


def test_a_repeated_datagram_is_marked() -> None:
    """A datagram that arrives twice is counted, and its samples are marked not to be added."""
    agent = Agent()
    agent.send(1, (1, 100))
    agent.send(2, (2, 200))
    assert agent.send(2, (2, 200)) == (0, POOL_DUPLICATE)
    assert agent.send(1, (1, 100)) == (0, POOL_DUPLICATE)
    assert agent.send(3, (3, 300)) == (100, POOL_KNOWN)
    assert (agent.agent("duplicates"), agent.source("duplicates"), agent.source("samples")) == (2, 2, 3)


def test_agents_that_do_not_number_datagrams_lose_nothing() -> None:
    """Where the sequence number stands still, equal numbers are no duplicates."""
    agent = Agent()
    agent.send(7, (1, 100), uptime=5)
    assert agent.send(7, (2, 200), uptime=5) == (100, POOL_KNOWN)
    assert agent.send(7, (3, 300), uptime=5) == (100, POOL_KNOWN)
    assert agent.agent("duplicates") == 0


def test_two_cards_with_one_identity_are_not_taken_for_duplicates() -> None:
    """Two line cards that send under one identity repeat numbers, but their samples are news: none is lost."""
    agent = Agent()
    valid = []
    for number in range(1, 6):
        for source in (1, 2):
            row = agent.send(number, (number, 100 * number), source_index=source)
            valid.append(row[1])
    assert valid == [POOL_UNKNOWN] * 2 + [POOL_KNOWN] * 8


def test_restart_voids_the_reference() -> None:
    """Sequence and uptime going back are a restart: the pool's reference of every source is void, once."""
    agent = Agent()
    agent.send(100, (500, 50_000), uptime=900_000)
    assert agent.send(1, (1, 100), uptime=800) == (0, POOL_UNKNOWN)
    assert agent.send(2, (2, 200), uptime=1800) == (100, POOL_KNOWN)
    assert (agent.agent("restarts"), agent.source("restarts"), agent.agent("lost")) == (1, 1, 0)


def test_a_source_that_starts_anew_by_itself() -> None:
    """A sample sequence far behind its reference is a restart of the source alone."""
    agent = Agent()
    agent.send(1, (500_000, 50_000_000))
    assert agent.send(2, (1, 100)) == (0, POOL_UNKNOWN)
    assert agent.send(3, (2, 200)) == (100, POOL_KNOWN)
    assert (agent.agent("restarts"), agent.source("restarts")) == (0, 1)


def test_a_run_of_late_samples_is_a_restart() -> None:
    """Samples that stay behind the reference are not reordered for ever: the reference moves."""
    agent = Agent()
    agent.send(1, (800, 80_000))
    valid = [agent.send(2 + i, (1 + i, 100 * (1 + i)))[1] for i in range(70)]
    assert valid[:64] == [POOL_KNOWN] * 64
    assert valid[64:66] == [POOL_UNKNOWN, POOL_KNOWN]


@pytest.mark.parametrize("jump", [1 << 31, (1 << 31) + 5, WRAP - 1])
def test_a_pool_that_goes_back_is_not_believed(jump: int) -> None:
    """A growth of 2^31 or more is a pool that went back: unknown, and the new reference holds."""
    agent = Agent()
    agent.send(1, (1, 100))
    assert agent.send(2, (2, 100 + jump)) == (0, POOL_UNKNOWN)
    assert agent.send(3, (3, 200 + jump)) == (100, POOL_KNOWN)


def test_an_unbelievable_jump_is_judged_by_the_stated_rate() -> None:
    """100 M packets for one sample are believed of a source that states 1 in 10^6, not of one at 1 in 100."""
    agent = Agent()
    agent.send(1, (1, 0))
    assert agent.send(2, (2, 100_000_000)) == (0, POOL_UNKNOWN)
    agent.send(3, (1, 0), source_index=2, sampling_rate=1_000_000)
    row = agent.send(4, (2, 100_000_000), source_index=2, sampling_rate=1_000_000)
    assert row == (100_000_000, POOL_KNOWN)


def test_drops_are_summed_across_the_wrap() -> None:
    """The agent's own drop counter is summed over its growth."""
    agent = Agent()
    agent.send(1, (1, 100), drops=WRAP - 2)
    agent.send(2, (2, 200), drops=3)
    agent.send(3, (3, 300), drops=3)
    assert agent.source("drops") == 5


def test_identities_are_kept_apart() -> None:
    """Agent address, address type, sub-agent, source class and index each make a slot of their own."""
    feed = Feed()
    tracker = Tracker(feed.datagrams, feed.samples, feed.track)
    agents = [{"agent_lo": 1}, {"agent_hi": 1}, {"agent_lo": 1, "agent_version": 6}, {"agent_lo": 1, "sub_agent_id": 9}]
    feed.fill(
        agents + agents[:1],
        [{"datagram": i} for i in range(5)] + [{"datagram": 4, "source_class": 1}, {"datagram": 4, "source_index": 1}],
    )
    tracker.track()
    assert feed.track["source"][:7].tolist() == [1, 2, 3, 4, 1, 5, 6]
    assert tracker.agents()["datagrams"].tolist() == [0, 2, 1, 1, 1]
    assert tracker.n_sources == 7
    assert feed.track.n == 7


def test_sources_beyond_the_limit_share_a_slot() -> None:
    """After 65,535 sources the rest is counted under slot 0, without growth."""
    capacity = 70_000 if not is_disabled() else 66_000
    feed = Feed(capacity)
    tracker = Tracker(feed.datagrams, feed.samples, feed.track)
    feed.datagrams.n, feed.samples.n = 1, capacity
    feed.datagrams["agent_version"][0] = 4
    feed.samples["source_index"][:] = range(capacity)
    tracker.track()
    assert tracker.n_sources == sequence.limits["slots"]
    assert int(tracker.sources()["samples"][0]) == capacity - 65_535
    assert set(feed.track["source"][65_535:capacity].tolist()) == {0}


def test_a_batch_that_claims_too_much_is_refused() -> None:
    """More valid rows than the batch holds are an error, not a read outside it."""
    feed = Feed(4)
    tracker = Tracker(feed.datagrams, feed.samples, feed.track)
    feed.samples.n = 5
    with pytest.raises(ValueError, match="more rows"):
        tracker.track()
    with pytest.raises(ValueError, match="smaller"):
        Tracker(feed.datagrams, feed.samples, Feed(3).track)


def test_rows_without_a_datagram_are_kept_apart() -> None:
    """A sample that refers to no datagram of the batch goes to slot 0."""
    feed = Feed()
    tracker = Tracker(feed.datagrams, feed.samples, feed.track)
    feed.fill([{"agent_version": 4}], [{"datagram": 0}, {"datagram": 1}])
    tracker.track()
    assert feed.track["source"][:2].tolist() == [1, 0]
