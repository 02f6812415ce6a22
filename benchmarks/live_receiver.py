"""A receiver in a process of its own: `python -m benchmarks.live_receiver ours|bare [--buffer OCTETS] [--force]`.

It prints `{"port": ...}`, then its counts for every line on stdin, and ends with it.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time
from collections.abc import Callable

from telemetryd._ext import load

LINGER_NS = 5_000_000  # of the bare counter: longer waits gain it nothing, and cost it buffer
STEP_NS = 20_000_000
DRAIN_S = 20.0


def main() -> None:
    """Receive until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=("ours", "bare"))
    parser.add_argument("--buffer", type=int, required=True)
    parser.add_argument("--force", action="store_true", help="beyond net.core.rmem_max, as root")
    arguments = parser.parse_args()
    if arguments.kind == "bare":
        bare(arguments.buffer)
    else:
        ours(arguments.buffer, arguments.force)


def bare(buffer: int) -> None:
    """Count datagrams and nothing else."""
    with bound(buffer) as listening:
        counter = load("send", "telemetryd.ingest.generate.send_reference").Counter(listening.fileno(), LINGER_NS)
        say(port=listening.getsockname()[1])
        while True:
            counter.receive(time.monotonic_ns() + STEP_NS)
            if select.select([sys.stdin], [], [], 0)[0]:
                if not sys.stdin.readline():
                    return
                say(datagrams=counter.datagrams, samples=None)


def ours(buffer: int, force: bool) -> None:
    """Run the live engine over the example city on one socket."""
    from telemetryd.classify.compile import compile_registry
    from telemetryd.live import LiveEngine, LiveSettings, open_sockets
    from telemetryd.registry.load import load_registry
    from telemetryd.registry.locate import default_registry
    from telemetryd.schema import UsageWindow

    tables = compile_registry(load_registry(default_registry()))
    windows = [0, 0]  # number, rows

    def take(window: UsageWindow) -> None:
        windows[0] += 1
        windows[1] += len(window.columns["samples"])

    listening = open_sockets("127.0.0.1", 0, 1, buffer)[0] if force else bound(buffer)
    # the load comes from loopback addresses that no registry knows, and an agent may send what it likes
    settings = LiveSettings(registered_only=False, agent_datagrams_per_s=0)
    engine = LiveEngine([listening], tables, settings, take)
    engine.start()
    say(port=listening.getsockname()[1])
    answer(lambda: counts(engine, windows))
    engine.drain(DRAIN_S)
    if engine.failure is not None:
        raise engine.failure


def counts(engine, windows) -> dict[str, object]:  # type: ignore[no-untyped-def]
    """Return what the engine has counted; its threads publish their counts about once a second."""
    now = engine.counters()
    socket_counts = now.sockets[0]
    return {
        "datagrams": socket_counts.received,
        "processed": socket_counts.processed,
        "shed": socket_counts.shed,
        "samples": now.flow_samples,
        "windows": windows[0],
        "rows": windows[1],
        "worst_delay_ms": now.worst_delay_ns / 1e6,
    }


def bound(buffer: int) -> socket.socket:
    """Return a socket on loopback with as large a buffer as net.core.rmem_max lets it have."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    listening.bind(("127.0.0.1", 0))
    return listening


def answer(ask: Callable[[], dict[str, object]]) -> None:
    """Print the counts for every line on stdin."""
    while sys.stdin.readline():
        say(**ask())


def say(**values: object) -> None:
    """Print one line of JSON."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
