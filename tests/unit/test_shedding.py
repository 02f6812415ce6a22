"""Shedding: the kept share follows the fill of the buffer and settles where what comes is what is processed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from telemetryd.ingest.sflow.receive import KEEP_ALL
from telemetryd.live.shedding import HIGH, LEAST_SHARE, LOW, SMOOTHING_NS, Shedding

MS = 1_000_000


def test_nothing_is_shed_below_the_low_mark() -> None:
    """A buffer that is half full, however long, costs no datagram."""
    shedding = Shedding()
    assert {shedding.update(LOW, now * MS) for now in range(1, 1000)} == {KEEP_ALL}


def test_one_full_buffer_is_no_overload() -> None:
    """A buffer that a pause has filled, and that the next batch empties, costs no datagram."""
    shedding = Shedding()
    fills = [0.0, 1.0] * 50
    assert {shedding.update(fill, now * 20 * MS) for now, fill in enumerate(fills)} == {KEEP_ALL}


def test_a_full_buffer_leaves_the_least_share_and_an_empty_one_all() -> None:
    """The share goes down and up smoothly, within its ends."""
    shedding = Shedding()
    assert shedding.update(0.0, 999 * MS) == KEEP_ALL
    down = [shedding.update(1.0, now * MS) for now in range(1000, 3000)]
    assert down[0] == KEEP_ALL
    assert all(later <= earlier for earlier, later in pairwise(down))
    assert max(earlier - later for earlier, later in pairwise(down)) < KEEP_ALL // 50
    assert down[-1] == pytest.approx(LEAST_SHARE * KEEP_ALL, rel=0.01)
    up = [shedding.update(0.0, now * MS) for now in range(3000, 5000)]
    assert all(later >= earlier for earlier, later in pairwise(up))
    assert up[-1] == KEEP_ALL


@pytest.mark.parametrize("seconds", [0.1, 1.0, 10.0])
def test_what_a_restart_inherits_is_processed(seconds: float) -> None:
    """What waits in a full buffer at the start costs no datagram while it shrinks, on a busy machine in jumps."""
    shedding = Shedding()
    for now in range(int(seconds * 1000)):
        fill = 1.0 - (now // 90) * 90 / (seconds * 1000) + now % 90 / 2000
        assert shedding.update(fill, (5000 + now) * MS) == KEEP_ALL


@pytest.mark.parametrize("growth_per_s", [-0.01, 0.0, 0.3, 3.0])
def test_a_restart_into_an_overload_sheds(growth_per_s: float) -> None:
    """What was inherited and does not shrink is shed like any other, soon."""
    shedding = Shedding()
    kept = [shedding.update(min(0.7 + growth_per_s * now / 1000, 1.0), now * MS) for now in range(1, 1500)]
    assert min(kept) < 0.8 * KEEP_ALL


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4])
def test_a_backlog_that_shrinks_is_processed(seconds: float) -> None:
    """What a pause left in a nearly full buffer is not shed when it is gone within half a second."""
    shedding = Shedding()
    assert shedding.update(0.0, 4999 * MS) == KEEP_ALL
    fills = [0.95 * max(0.0, 1 - now / (seconds * 1000)) for now in range(1000)]
    assert {shedding.update(fill, now * MS) for now, fill in enumerate(fills, 5000)} == {KEEP_ALL}


def test_a_pause_in_every_second_is_no_overload() -> None:
    """A window that is closed leaves a backlog that takes 40 ms to process, in a buffer of which it takes 0.9."""
    shedding = Shedding()
    fills = [max(0.05, 0.9 - now % 1000 / 45) if now % 1000 > 20 else 0.05 for now in range(5000)]
    assert {shedding.update(fill, now * MS) for now, fill in enumerate(fills, 1)} == {KEEP_ALL}


@pytest.mark.parametrize("overload", [1.2, 2.0, 3.0])
def test_it_settles_without_a_drop(overload: float) -> None:
    """Under a constant overload the buffer settles below the top, with the share that can be processed.

    Datagrams cost 1 to process and a tenth to receive; the buffer holds what comes in half a second.
    """
    shedding = Shedding()
    step_ns = SMOOTHING_NS // 50
    level, room, share = 0.0, overload / 2, 1.0
    for step in range(1, 5000):
        served = 1.0 / (0.1 + 0.9 * share)
        level = max(0.0, level + (overload - served) * step_ns / 1e9)
        assert level < room
        share = shedding.update(level / room, step * step_ns) / KEEP_ALL
    assert LOW < level / room < HIGH
    assert 1.0 / (0.1 + 0.9 * share) == pytest.approx(overload, rel=0.01)
