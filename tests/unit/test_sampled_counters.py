"""Counters samples on their way from datagrams to readings: none is lost unseen, and the threads hand them on."""

from __future__ import annotations

import socket
import struct
from typing import Any

import numpy as np
import pytest

from telemetryd.aggregate.feeds import Feed, Feeds, Ports
from telemetryd.aggregate.sampled_counters import Rows, SampledCounters
from telemetryd.classify.compile import compile_registry
from telemetryd.live import LiveEngine, LiveSettings, open_sockets
from telemetryd.pipeline import Pipeline
from telemetryd.schema import Counter, CounterSource
from tests.sflow_octets import datagram, sample_of
from tests.small_city import small_city

ALL_ONES = 2**32 - 1


def counters_datagram(*if_indexes: int, octets: int = 1000) -> bytes:
    """Return a datagram with a counters sample for each port; broadcasts are not known."""
    samples = []
    for index in if_indexes:
        record = struct.pack(
            ">IIQIIQ6IQ6I", index, 6, 10**10, 1, 3, octets, 5, 4, ALL_ONES, 3, 2, 1, 2 * octets, 9, 8, ALL_ONES, 7, 6, 2
        )
        samples.append(sample_of("counter", [(1, record)]))
    return datagram(samples)


def put(pipeline: Pipeline, *datagrams: bytes) -> None:
    lengths = np.array([len(one) for one in datagrams], np.uint32)
    offsets = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.uint64)
    times = np.arange(1, len(datagrams) + 1, dtype=np.int64) * 10**18
    pipeline.add(np.frombuffer(b"".join(datagrams), np.uint8).copy(), offsets, lengths, times)


def numbers(rows: list[Rows]) -> list[int]:
    return [index for one in rows for index in one["if_index"].tolist()]


def test_rows_are_kept_until_they_are_taken() -> None:
    """Every counters sample comes once, with its agent and time; a pipeline that is not asked for them keeps none."""
    tables = compile_registry(small_city())
    pipeline = Pipeline(tables, counter_rows=100)
    put(pipeline, counters_datagram(1, 2), counters_datagram(3))
    put(pipeline, counters_datagram(4))
    rows = pipeline.take_counters()
    assert numbers(rows) == [1, 2, 3, 4]
    first = rows[0]
    assert first["agent_version"].tolist() == [4, 4, 4] and first["ts_ns"].tolist() == [10**18, 10**18, 2 * 10**18]
    assert first["out_octets"].tolist() == [2000] * 3
    assert pipeline.take_counters() == []
    idle = Pipeline(tables)
    put(idle, counters_datagram(1))
    assert idle.take_counters() == [] and idle.lost_counter_rows == 0


def test_what_finds_no_room_is_counted() -> None:
    """A flood of counters samples takes no more memory than it may; the batch after it is whole again."""
    pipeline = Pipeline(compile_registry(small_city()), counter_rows=3)
    put(pipeline, counters_datagram(1, 2), counters_datagram(3, 4))
    put(pipeline, counters_datagram(5))
    assert numbers(pipeline.take_counters()) == [1, 2, 3]
    assert pipeline.lost_counter_rows == 2
    put(pipeline, counters_datagram(6))
    assert numbers(pipeline.take_counters()) == [6]


def test_readings_leave_out_what_the_agent_does_not_know() -> None:
    """A value with all bits set is none; the others are readings of 64 or 32 bits, and speed and state are noted."""
    pipeline = Pipeline(compile_registry(small_city()), counter_rows=100)
    put(pipeline, counters_datagram(7))
    feeds = Feeds(Ports())
    (rows,) = pipeline.take_counters()
    readings = SampledCounters(feeds, lambda *words: "sw1").read(rows)
    cells = zip(*(readings[name].tolist() for name in ("counter", "value", "bits")), strict=True)
    assert {Counter(counter): (value, bits) for counter, value, bits in cells} == {
        Counter.IN_OCTETS: (1000, 64),
        Counter.IN_UNICAST_PACKETS: (5, 32),
        Counter.IN_MULTICAST_PACKETS: (4, 32),
        Counter.IN_DISCARDS: (3, 32),
        Counter.IN_ERRORS: (2, 32),
        Counter.OUT_OCTETS: (2000, 64),
        Counter.OUT_UNICAST_PACKETS: (9, 32),
        Counter.OUT_MULTICAST_PACKETS: (8, 32),
        Counter.OUT_DISCARDS: (7, 32),
        Counter.OUT_ERRORS: (6, 32),
    }
    assert feeds[0] == Feed(CounterSource.SFLOW, "sw1", 7)
    assert (feeds.speeds_bps().tolist(), feeds.up().tolist()) == ([10e9], [1])


@pytest.mark.no_twins
def test_threads_hand_them_on() -> None:
    """What comes to the sockets of the live engine is handed on by the time that it is drained."""
    sockets = open_sockets("127.0.0.1", 0, 2, 1 << 20)
    taken: list[Any] = []
    settings = LiveSettings(registered_only=False)
    engine = LiveEngine(
        sockets, compile_registry(small_city()), settings, lambda window: None, on_counters=taken.extend
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(1, 6):
            sender.sendto(counters_datagram(number), sockets[0].getsockname())
    engine.start()
    engine.drain(60)
    assert sorted(numbers(taken)) == [1, 2, 3, 4, 5]
    assert engine.counters().lost_counters_samples == 0
    for one in sockets:
        one.close()
