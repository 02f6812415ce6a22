"""A process that writes windows to a server as they come, for bench_outages.py: `KIND URL DIRECTORY FIRST LAST SPEED`.

KIND is `spool` (telemetryd's spool and sender) or `client` (influxdb-client's batching writer). A number is printed for
every window that the writer took. Times of both are divided by SPEED.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from telemetryd.store.influx.dead_letter import DeadLetters
from telemetryd.store.influx.pieces import pack
from telemetryd.store.influx.respond import Pace
from telemetryd.store.influx.sender import Sender
from telemetryd.store.influx.transport import Target, Transport
from telemetryd.store.spool import Entry, Spool

WINDOW_S = 10
POINTS = 500
BASE_S = 1_790_000_000
#: One window in so many has one line that servers refuse: a field of another type.
BAD_EVERY = 10
LEAST_TIMEOUT_S = 0.5


def text_of(number: int) -> bytes:
    """Return the lines of a window."""
    at = (BASE_S + WINDOW_S * number) * 1_000_000_000
    lines = [b"usage,application=a%d,link=exit octets=%di %d\n" % (n, number * POINTS + n, at) for n in range(POINTS)]
    if number % BAD_EVERY == 0:
        lines[POINTS // 2] = b'usage,application=a%d,link=exit octets="bad" %d\n' % (POINTS // 2, at)
    return b"".join(lines)


def windows(first: int, last: int, speed: float) -> Iterator[int]:
    """Yield window numbers at their times."""
    due = time.monotonic()
    for number in range(first, last):
        yield number
        due += WINDOW_S / speed
        time.sleep(max(0.0, due - time.monotonic()))


def write_by_client(url: str, first: int, last: int, speed: float) -> None:
    """Write with the batching writer: its defaults, but for the speed."""
    from influxdb_client import InfluxDBClient, WriteOptions

    def ms(default: float) -> int:
        return max(1, int(default / speed))

    options = WriteOptions(
        flush_interval=ms(1000),
        retry_interval=ms(5000),
        max_retry_delay=ms(125_000),
        max_retry_time=ms(180_000),
        jitter_interval=0,
    )
    timeout_ms = max(ms(10_000), int(LEAST_TIMEOUT_S * 1000))
    with (
        InfluxDBClient(url, token="t", org="o", timeout=timeout_ms, enable_gzip=True) as client,
        client.write_api(options) as api,
    ):
        for number in windows(first, last, speed):
            api.write("b", "o", text_of(number).decode().rstrip("\n"))
            print(number, flush=True)


async def write_by_spool(url: str, directory: Path, first: int, last: int, speed: float) -> None:
    """Write with the spool, and wait until everything that waits is sent."""
    span_ns = WINDOW_S * 1_000_000_000
    pace = Pace(0.5 / speed, 30 / speed, 300 / speed, 30 / speed)
    timeout_s = max(30 / speed, LEAST_TIMEOUT_S)
    with Spool.open(directory / "spool", {"city": (span_ns,)}, size=1 << 30, age_ns=86_400 * 10**9) as spool:
        async with Transport(Target(url, "o", "b", timeout_s=timeout_s)) as transport:
            letters = DeadLetters(directory / "rejected.jsonl", "city", 1 << 26, time.time_ns)
            reader = spool.reader("city")
            sender = Sender(transport, reader, letters, backlog_points_per_s=int(50_000 * speed / 60), pace=pace)
            sending = asyncio.create_task(sender.run())
            arriving = windows(first, last, speed)
            while (number := await asyncio.to_thread(next, arriving, None)) is not None:
                end_ns = (BASE_S + WINDOW_S * (number + 1)) * 1_000_000_000
                await asyncio.to_thread(spool.append, [Entry(pack(text_of(number)), POINTS, span_ns, end_ns)])
                sender.notify()
                print(number, flush=True)
            while reader.pending().entries:
                await asyncio.sleep(0.01)
            sender.stop()
            await sending


def main() -> None:
    """Write, then say the largest memory in MB."""
    kind, url, directory, first, last, speed = sys.argv[1:]
    if kind == "client":
        write_by_client(url, int(first), int(last), float(speed))
    else:
        asyncio.run(write_by_spool(url, Path(directory), int(first), int(last), float(speed)))
    status = Path("/proc/self/status").read_text()
    print("memory", int(status.partition("VmHWM:")[2].split()[0]) // 1024, flush=True)


if __name__ == "__main__":
    main()
