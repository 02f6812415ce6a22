"""Real servers: what is written through the transport is there, once, and stays when the server is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from telemetryd.store.influx.deliver import Deliverer, Delivery
from telemetryd.store.influx.pieces import pack
from telemetryd.store.influx.respond import Action
from telemetryd.store.influx.transport import Target, Transport
from tests.influx_servers import SERVERS, StoredPoints, start_influxd

NOW = 1_795_000_000
MS = 1_000_000
#: A department in Chinese, a space and a comma and an equals sign in tags: what escaping is for.
TAGS = ("税务局", "exam enrolment", "a,b=c")


def text_of(count: int) -> bytes:
    """Make lines with awkward tags, whole and broken numbers."""
    lines = []
    for n in range(count):
        tag = TAGS[n % 3].replace(" ", r"\ ").replace(",", r"\,").replace("=", r"\=")
        lines.append(f"usage,application={tag},link=l{n // 3} octets={n}.25,samples={n}i {NOW * 1000 * MS + n * MS}\n")
    return "".join(lines).encode()


def points_of(count: int) -> StoredPoints:
    """Return what a database should hold of :func:`text_of`."""
    found: StoredPoints = {}
    for n in range(count):
        tags = (("application", TAGS[n % 3]), ("link", f"l{n // 3}"))
        found["usage", tags, (NOW * 1000 + n) * MS, "octets"] = n + 0.25
        found["usage", tags, (NOW * 1000 + n) * MS, "samples"] = n
    return found


def deliver(target: Target, *texts: bytes) -> list[Delivery]:
    """Deliver pieces one after the other."""

    async def story() -> list[Delivery]:
        async with Transport(target) as transport:
            deliverer = Deliverer(transport.write, lambda: NOW)
            return [await deliverer.deliver(pack(text)) for text in texts]

    return asyncio.run(story())


@pytest.mark.parametrize("name", SERVERS)
def test_what_is_written_twice_is_there_once_after_a_restart(tmp_path: Path, name: str) -> None:
    """Points written = points read back, with every value; a second copy changes nothing, nor does SIGKILL."""
    with SERVERS[name](tmp_path) as server:
        deliveries = deliver(server.target(), text_of(300), text_of(300), text_of(100))
        assert {delivery.decision.action for delivery in deliveries} == {Action.STORED}
        assert server.points() == points_of(300)
        server.kill() if name == "influxd" else server.stop()
        server.start()
        assert server.points() == points_of(300)


def test_influxdb_names_the_lines_that_it_refuses(tmp_path: Path) -> None:
    """A conflict of types and a line that is none: the good lines land, each bad one is kept with its reason."""
    conflict = b'usage,application=x octets="text" %d\n' % (NOW * 1000 * MS)
    broken = b"usage,application=x octets= %d\n" % (NOW * 1000 * MS)
    with start_influxd(tmp_path) as server:
        first, second = deliver(server.target(), text_of(50), conflict + text_of(60) + broken)
        assert not first.rejected
        assert second.decision.action is Action.STORED
        reasons = {line: one.reason for one in second.rejected for line in one.lines}
        assert set(reasons) == {conflict, broken}
        assert "field type conflict" in reasons[conflict]
        assert "unable to parse" in reasons[broken]
        assert server.points() == points_of(60)


def test_influxdb_drops_what_is_older_than_it_keeps(tmp_path: Path) -> None:
    """Points beyond the retention policy are counted as expired, not as refused."""
    with start_influxd(tmp_path) as server:
        server.query('CREATE RETENTION POLICY "short" ON "telemetryd" DURATION 1h REPLICATION 1')
        target = Target(server.url, "o", "telemetryd/short")
        (delivery,) = deliver(target, b"usage,link=a octets=1 1500000000000000000\n")
        assert (delivery.decision.action, delivery.expired, delivery.rejected) == (Action.STORED, 1, ())
