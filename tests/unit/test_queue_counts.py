"""What queues count: sums since the last look by direction, totals for guards, and which interfaces are down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from telemetryd.aggregate.feeds import Feed, Feeds, ports_of
from telemetryd.enforce.queue_counts import QueueCounts
from telemetryd.schema import Counter, CounterSource
from tests.gateway_case import registry

pytestmark = pytest.mark.no_twins

S = 10**9


def growth(*rows: tuple[int, Counter, int, int, int]) -> dict[str, NDArray[Any]]:
    feed, counter, start, end, value = zip(*rows, strict=True)
    return {
        "feed": np.array(feed, np.uint32),
        "counter": np.array(counter, np.uint8),
        "start_ns": np.array(start, np.int64) * S,
        "end_ns": np.array(end, np.int64) * S,
        "growth": np.array(value, np.uint64),
    }


def test_queues_are_summed_and_looked_at_once() -> None:
    """Rates are means over what was counted; drops add up; directions are apart; interfaces are left out."""
    feeds, counts = Feeds(ports_of(registry())), QueueCounts()
    out = feeds.number(Feed(CounterSource.GNMI, "GW1", "eth1", "q", "out"))
    inward = feeds.number(Feed(CounterSource.GNMI, "GW1", "eth1", "q", "in"))
    port = feeds.number(Feed(CounterSource.GNMI, "GW1", "eth1"))
    assert counts.look() == {}
    for first in (1, 2):
        counts.add(
            growth(
                (out, Counter.TRANSMIT_OCTETS, first, first + 1, 1000),
                (out, Counter.TRANSMIT_PACKETS, first, first + 1, 10),
                (out, Counter.DROPPED_PACKETS, first, first + 1, 3),
                (out, Counter.DROPPED_OCTETS, first, first + 1, 300),
                (inward, Counter.TRANSMIT_OCTETS, first, first + 1, 50),
                (port, Counter.OUT_OCTETS, first, first + 1, 9999),
            ),
            feeds,
        )
    found = counts.look()
    assert set(found) == {("GW1", "eth1", "out", "q"), ("GW1", "eth1", "in", "q")}
    own = found["GW1", "eth1", "out", "q"]
    assert (own.bps, own.octets, own.packets, own.dropped, own.span_ns) == (8000, 2000, 20, 6, 2 * S)
    assert found["GW1", "eth1", "in", "q"].bps == 400
    assert counts.look() == {}
    total = counts.totals("GW1")["q"]
    assert (total.packets, total.dropped, total.at_ns) == (20, 6, 3 * S)
    assert counts.totals("GW2") == {}


def test_an_interface_is_down_where_nobody_says_otherwise() -> None:
    """By gNMI or sFlow; one that says that it is up is up; what is unknown is not down."""
    feeds, counts = Feeds(ports_of(registry())), QueueCounts()
    assert counts.down() == set()
    numbers = {name: feeds.number(Feed(CounterSource.GNMI, "GW1", name)) for name in ("eth0", "eth1", "eth2")}
    sampled = feeds.number(Feed(CounterSource.SFLOW, "GW1", 3))
    counts.add(growth((numbers["eth0"], Counter.IN_OCTETS, 1, 2, 1)), feeds)
    feeds.say_state(numbers["eth1"], False)
    feeds.say_state(numbers["eth2"], False)
    feeds.say_state(sampled, True)  # the index of eth2
    assert counts.down() == {("GW1", "eth1")}
