"""A sender and a real InfluxDB that is killed while it is written to."""

from __future__ import annotations

import asyncio
from pathlib import Path

from telemetryd.store.influx.dead_letter import DeadLetters
from telemetryd.store.influx.pieces import pack
from telemetryd.store.influx.respond import Pace
from telemetryd.store.influx.sender import Sender
from telemetryd.store.influx.transport import Transport
from telemetryd.store.spool import Entry, Spool
from tests.influx_servers import StoredPoints, parse_points, start_influxd
from tests.storing import Hasty

S = 1_000_000_000
NOW_S = 1_790_000_000
ENTRIES = 120
KILLS = (20, 70)
DEADLINE_S = 240


def text_of(number: int) -> bytes:
    """Make the lines of a window of 10 s."""
    at = (NOW_S + 10 * number) * S
    return b"".join(b"usage,department=d%d octets=%d.5,samples=%di %d\n" % (n, number, n, at) for n in range(100))


def test_a_server_killed_mid_batch_holds_every_point_once(tmp_path: Path) -> None:
    """SIGKILL of InfluxDB while batches are under way, twice: what is read back is what was spooled, point by point."""

    with Spool.open(tmp_path / "spool", {"city": (10 * S,)}, size=1 << 28, age_ns=10**6 * S, files=Hasty()) as spool:
        asyncio.run(tell(tmp_path, spool))


async def tell(tmp_path: Path, spool: Spool) -> None:
    """Write, kill, and read back."""
    expected: StoredPoints = {}
    with start_influxd(tmp_path) as server:
        letters = DeadLetters(tmp_path / "rejected.jsonl", "city", 1 << 24, lambda: NOW_S * S)
        async with Transport(server.target(timeout_s=20)) as transport:
            reader = spool.reader("city")
            pace = Pace(first_s=0.02, longest_s=0.2)
            sender = Sender(transport, reader, letters, pace=pace, backlog_points_per_s=10**7)
            running = asyncio.create_task(sender.run())
            async with asyncio.timeout(DEADLINE_S):
                for number in range(ENTRIES):
                    failures = sum(sender.counters().failures.values())
                    if number in KILLS:
                        await asyncio.to_thread(server.kill)
                    end_ns = (NOW_S + 10 * number + 10) * S
                    await asyncio.to_thread(spool.append, [Entry(pack(text_of(number)), 100, 10 * S, end_ns)])
                    expected |= parse_points(text_of(number))
                    sender.notify()
                    if number in KILLS:
                        while sum(sender.counters().failures.values()) == failures:
                            await asyncio.sleep(0.01)
                        await asyncio.to_thread(server.start)
                    await asyncio.sleep(0)
                while reader.pending().entries:
                    await asyncio.sleep(0.01)
                sender.stop()
                await running
        assert server.points() == expected
        assert sender.counters().failures
        assert not letters.path.exists()
