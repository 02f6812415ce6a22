"""Counters of 32 bits that turn over, and classes that are made anew."""

from __future__ import annotations

import pytest

from telemetryd.agent.qos.counting import Widened
from telemetryd.agent.qos.netlink import Statistics
from telemetryd.agent.qos.objects import Key

pytestmark = pytest.mark.no_twins
KEY = Key("eth1", "class", 0x10)


def test_counters_grow_beyond_32_bits() -> None:
    """Each turn adds 2^32; the others go on as they are."""
    widened = Widened()
    for packets, drops, want in (
        (10, 2**32 - 5, 2**32 - 5),
        (20, 7, 2**32 + 7),
        (30, 9, 2**32 + 9),
        (40, 1, 2**33 + 1),
    ):
        (found,) = widened.widen(
            {KEY: Statistics(octets=packets, packets=packets, drops=drops, lends=packets)}
        ).values()
        assert (found.drops, found.lends) == (want, packets)


def test_a_class_made_anew_begins_at_nothing() -> None:
    """Fewer packets than before: it is another class."""
    widened = Widened()
    widened.widen({KEY: Statistics(octets=100, packets=100, drops=50)})
    widened.widen({KEY: Statistics(octets=110, packets=110, drops=3)})
    (found,) = widened.widen({KEY: Statistics(octets=1, packets=1, drops=1)}).values()
    assert found.drops == 1
    assert widened.widen({}) == {}
