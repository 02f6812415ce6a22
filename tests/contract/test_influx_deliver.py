"""Delivery of one piece: good lines land, refused ones are told apart, and it costs a bounded number of requests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web

from telemetryd.errors import StoreError
from telemetryd.store.influx.deliver import LEAST_REFUSALS, MOST_REFUSALS, Deliverer, Delivery
from telemetryd.store.influx.pieces import pack
from telemetryd.store.influx.respond import Action
from telemetryd.store.influx.transport import Target, Transport
from tests.influx_server import FaultServer, error, points_of, reset, script

NOW = 1_795_000_000.0


def text_of(count: int, bad: Sequence[int] = ()) -> bytes:
    """Make lines, some of them with the field that the server refuses."""
    return b"".join(
        b"usage,department=d%d %s=%di %d\n" % (n, b"bad" if n in bad else b"octets", n, n) for n in range(count)
    )


def is_bad(line: bytes) -> bool:
    return b" bad=" in line


def delivered(server: FaultServer, *texts: bytes, is_suspect: bool = False) -> list[Delivery]:
    """Deliver pieces one after the other."""

    async def story() -> list[Delivery]:
        before = len(server.requests)
        async with server, Transport(Target(server.url, "o", "b", timeout_s=5)) as transport:
            deliverer = Deliverer(transport.write, lambda: NOW)
            found = [await deliverer.deliver(pack(text), is_suspect=is_suspect) for text in texts]
            assert deliverer.requests == len(server.requests) - before
            return found

    return asyncio.run(story())


def rejected_lines(delivery: Delivery) -> set[bytes]:
    return {line for one in delivery.rejected for line in one.lines}


@pytest.mark.parametrize("partial", [False, True], ids=["none-stored", "good-stored"])
@pytest.mark.parametrize(("count", "bad"), [(1, [0]), (2, [1]), (5000, [4321]), (5000, [0, 1700, 4999]), (7, range(7))])
def test_good_lines_land_and_bad_ones_are_alone(partial: bool, count: int, bad: Sequence[int]) -> None:
    """Whether the server stores a part of a refused body or not: the good lines are there, the bad ones named."""
    server = FaultServer(refuses=is_bad, partial=partial)
    (delivery,) = delivered(server, text_of(count, bad))
    assert delivery.decision.action is Action.STORED
    assert server.points == points_of(
        b"".join(line for line in text_of(count, bad).splitlines(True) if not is_bad(line))
    )
    assert rejected_lines(delivery) == {line for line in text_of(count, bad).splitlines(True) if is_bad(line)}
    assert {(one.status, "conflicts" in one.reason) for one in delivery.rejected} == {(400, True)}
    assert len(server.requests) <= 2 * 13 * len(bad) + 1


def test_lines_that_the_server_quotes_are_told_apart_at_once() -> None:
    """InfluxDB quotes the lines it cannot parse: the others need one request, not a dozen."""
    server = FaultServer()

    async def quoting(request: web.Request, text: bytes) -> web.StreamResponse | None:
        bad = [line.decode() for line in text.splitlines() if is_bad(line)]
        return error(400, "\n".join(f"unable to parse '{line}': bad field" for line in bad)) if bad else None

    server.fault = quoting
    (delivery,) = delivered(server, text_of(5000, [77]))
    assert rejected_lines(delivery) == {text_of(5000, [77]).splitlines(True)[77]}
    assert len(server.points) == 4999
    assert [lines for _, lines in server.requests] == [5000, 4999, 1]


def test_a_piece_with_every_line_bad_costs_a_bounded_number_of_requests() -> None:
    """The budget is used up, what is left is refused together; the next such piece costs far less, a good one one."""
    server = FaultServer(refuses=is_bad)
    bad = text_of(5000, range(5000))
    deliveries = delivered(server, bad, bad, bad, bad, text_of(4000), bad)
    assert all(delivery.decision.action is Action.STORED for delivery in deliveries)
    assert [len(rejected_lines(delivery)) for delivery in deliveries] == [5000, 5000, 5000, 5000, 0, 5000]
    starts = [number for number, (_, lines) in enumerate(server.requests) if lines in (5000, 4000)]
    costs = [end - start for start, end in zip(starts, [*starts[1:], len(server.requests)], strict=True)]
    assert costs[0] <= MOST_REFUSALS + 15
    assert costs[3] <= LEAST_REFUSALS + 15
    assert costs[4] == 1
    assert len(server.points) == 4000


def test_good_lines_land_even_where_the_budget_ends() -> None:
    """What is not taken apart any more is still sent once: whole good parts are stored."""
    server = FaultServer(refuses=is_bad)
    bad = text_of(5000, range(1000))
    deliveries = delivered(server, bad)
    landed = len(server.points)
    assert landed >= 3000
    assert landed + len(rejected_lines(deliveries[0])) == 5000


@pytest.mark.parametrize("largest", [20_000, 3_000, 60])
def test_a_piece_that_is_too_large_is_sent_in_parts(largest: int) -> None:
    """413: parts get smaller until they fit, and the next piece begins with that size."""
    server = FaultServer(largest=largest)
    text = text_of(1000)
    first, second = delivered(server, text, text)
    assert first.decision.action is second.decision.action is Action.STORED
    assert server.points == points_of(text)
    assert not first.rejected
    assert not second.rejected
    assert server.statuses[413] <= 10
    assert [lines for _, lines in server.requests].count(1000) == 1


def test_a_line_that_is_too_large_is_refused() -> None:
    """No endless halving: it is alone, and the others land."""
    server = FaultServer(largest=200)
    text = text_of(20) + b"usage,department=" + b"x" * 300 + b" octets=1i 1\n" + text_of(20)
    (delivery,) = delivered(server, text)
    assert [one.status for one in delivery.rejected] == [413]
    assert server.points == points_of(text_of(20))


@pytest.mark.parametrize(
    ("step", "action"),
    [(reset, Action.AGAIN), ((503, "busy"), Action.AGAIN), ((401, "who"), Action.HOLD), ((500, "oh"), Action.FAULT)],
)
@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_failure_on_the_way_leaves_the_whole_piece_to_be_sent_again(step: Any, action: Action, after: int) -> None:
    """However far bisecting came, nothing is refused before all is decided; the second time finishes it."""
    text = text_of(100, [31])
    server = FaultServer(refuses=is_bad, fault=script(*[None] * after, step))
    first, second = delivered(server, text, text)
    assert first.decision.action is action
    assert not first.rejected
    assert second.decision.action is Action.STORED
    assert len(rejected_lines(second)) == 1
    assert len(server.points) == 99


def test_a_suspect_is_taken_apart_at_answers_5xx() -> None:
    """A piece that a server breaks on, while others are stored, does not wait for ever."""

    async def breaks(request: web.Request, text: bytes) -> web.StreamResponse | None:
        return error(500, "internal error") if b" bad=" in text else None

    server = FaultServer(fault=breaks)
    assert delivered(server, text_of(50, [7]))[0].decision.action is Action.FAULT
    (delivery,) = delivered(server, text_of(50, [7]), is_suspect=True)
    assert delivery.decision.action is Action.STORED
    assert [one.status for one in delivery.rejected] == [500]
    assert len(server.points) == 49


def test_points_beyond_the_retention_are_counted() -> None:
    """The server drops what is too old and says how many: nothing to take apart, nothing to keep."""
    reason = "partial write: points beyond retention policy dropped=8"
    server = FaultServer(fault=script((400, reason)))
    (delivery,) = delivered(server, text_of(10))
    assert (delivery.decision.action, delivery.expired, delivery.rejected) == (Action.STORED, 8, ())
    assert len(server.requests) == 1


def test_a_damaged_piece_is_said() -> None:
    """What is not gzip cannot be taken apart."""
    server = FaultServer(fault=script((400, "gzip: invalid header")))

    async def story() -> None:
        async with server, Transport(Target(server.url, "o", "b", timeout_s=5)) as transport:
            await Deliverer(transport.write, lambda: NOW).deliver(b"junk")

    with pytest.raises(StoreError, match=re.escape("a piece of the spool is damaged")):
        asyncio.run(story())
