"""A backend of the control service that says what a test gave it; the real one is the daemon's."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from telemetryd.serve.control import ControlServer
from telemetryd.serve.gate import Peer
from telemetryd.serve.messages import ReloadResult, Status, Update, Usage
from telemetryd.serve.updates import Broadcast

DEADLINE_S = 20.0

STATUS: Status = {
    "version": "0.1.0",
    "pid": os.getpid(),
    "started_ns": 1_700_000_000_000_000_000,
    "now_ns": 1_700_000_123_000_000_000,
    "state": "degraded",
    "components": [
        {"name": "receive", "state": "ok", "reasons": []},
        {"name": "store", "state": "degraded", "reasons": ["disk full: 12 windows wait"]},
    ],
    "config": "telemetryd.yaml",
    "registry": "registry",
    "loaded_ns": 1_700_000_000_500_000_000,
    "reloads": 2,
    "sockets": [{"name": "0", "counts": {"received": 10**12, "processed": 10**12 - 7, "shed": 4, "kernel_drops": 3}}],
    "agents": [{"name": "198.18.0.2", "counts": {"processed": 9000, "lost": 2}}],
    "loss": {"share": 0.0123, "datagrams": {"shed": 4, "kernel_drops": 3}, "samples": {}},
    "store": {"name": "store", "counts": {"windows": 120, "waiting": 12}},
    "spool": {"name": "spool", "counts": {"points": 4000, "octets": 90_000}},
    "outputs": [{"name": "city", "counts": {"points": 3000, "waiting_points": 1000}}],
    "alerts": [
        {
            "rule": "full",
            "kind": "utilisation",
            "severity": "critical",
            "state": state,
            "labels": {"alertname": "full", "link": link},
            "fingerprint": "0123456789abcdef",
            "since_ns": 1_700_000_060_000_000_000,
            "updated_ns": 1_700_000_120_000_000_000,
            "value": 0.95,
            "low": 0.94,
            "high": 0.96,
            "limit": 0.9,
            "unit": "ratio",
            "note": "",
            "summary": f"full {state}: utilisation of {link} in 95 % (94 % to 96 %), limit 90 %",
        }
        for link, state in (("isp1", "firing"), ("isp2", "pending"))
    ],
    "targets": [
        {
            "name": "CR01",
            "address": "192.0.2.1:9339",
            "state": "degraded",
            "phase": "streaming",
            "reasons": ["silent for 40 s"],
            "encoding": "PROTO",
            "transport": "fast",
            "secure": True,
            "skew_ns": -6_000_000_000,
            "asked_ns": 10_000_000_000,
            "achieved_ns": None,
            "counts": {"updates": 12_345},
        }
    ],
    "coverage": [
        {
            "link": "exit-1",
            "device": "CR01",
            "interface": "XGE1/0/1",
            "direction": "in",
            "coverage": 0.953,
            "low": 0.949,
            "high": 0.957,
            "alarm": "below",
            "since_ns": 1_700_000_100_000_000_000,
            "seconds": 300.0,
            "interval_s": 10.0,
            "counter_octets": 4.5e11,
            "estimated_octets": 4.29e11,
            "source": "gnmi",
            "skew_ns": -6_000_000_000,
            "loss_share": 0.05,
        },
        {
            "link": "uplink",
            "device": "CR01",
            "interface": "XGE1/0/2",
            "direction": "out",
            "coverage": None,
            "low": None,
            "high": None,
            "alarm": "",
            "since_ns": 0,
            "seconds": 290.0,
            "interval_s": 20.0,
            "counter_octets": 0.0,
            "estimated_octets": 0.0,
            "source": "sflow",
            "skew_ns": None,
            "loss_share": None,
        },
    ],
    "demand": [
        {
            "policy": "internet-exit",
            "link": "exit",
            "direction": "in",
            "start_ns": 1_700_000_090_000_000_000,
            "end_ns": 1_700_000_100_000_000_000,
            "capacity_bps": 7.6e9,
            "usage_bps": 4.4e9,
            "demand_bps": 4.9e9,
            "damped_bps": 4.8e9,
            "classes": 250,
            "censored": 3,
            "full": False,
            "stale": "no datagram of XR01",
        },
    ],
    "gateways": [{"name": "GW1", "phase": "held", "reason": "the protected class dropped more"}],
}


def usage(name: str, rate_bps: float, **more: object) -> Usage:
    """Make a line of an update, its interval 10 % either way."""
    line: Usage = {
        "name": name,
        "title": "",
        "direction": "",
        "rate_bps": rate_bps,
        "low_bps": 0.9 * rate_bps,
        "high_bps": 1.1 * rate_bps,
        "samples": int(rate_bps / 1e6),
        "capacity_bps": None,
        "share": 0.0,
    }
    line.update(more)  # type: ignore[typeddict-item]
    return line


def update(second: int = 0, **more: object) -> Update:
    """Make an update with two of each kind."""
    made: Update = {
        "start_ns": (1_700_000_000 + second) * 10**9,
        "span_ns": 10 * 10**9,
        "state": "ok",
        "reasons": [],
        "links": [
            usage("exit-1", 4e9, direction="in", capacity_bps=1e10, share=0.4),
            usage("uplink", 1e9, direction="out"),
        ],
        "departments": [usage("tax", 3e9, title="Taxation", share=0.6), usage("finance", 2e9, share=0.4)],
        "applications": [usage("unclassified", 2e8, share=0.04), usage("filing", 4.8e9, share=0.96)],
        "total": usage("total", 5e9, share=1.0),
        "unclassified": usage("unclassified", 2e8, share=0.04),
        "loss": {"share": 0.25, "datagrams": {"shed": 25}, "samples": {}},
    }
    made.update(more)  # type: ignore[typeddict-item]
    return made


class Backend:
    """Answer with what is in the attributes."""

    def __init__(self) -> None:
        self.answer: Status = STATUS
        self.result = ReloadResult(True, changes=("registry: 1 link more",))
        self.reloads = 0
        self.askers: list[Peer] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.updates: Broadcast[Update] = Broadcast()

    def status(self) -> Status:
        return self.answer

    async def reload(self, peer: Peer) -> ReloadResult:
        self.askers.append(peer)
        await self.hold.wait()
        self.reloads += 1
        return self.result

    def subscribe(self) -> AsyncGenerator[Update, None]:
        return self.updates.subscribe()


@asynccontextmanager
async def serving(backend: Backend, path: Path | None = None) -> AsyncIterator[Path]:
    """Run the control service of a backend, by default on a socket with a short path of its own."""
    with tempfile.TemporaryDirectory() as directory:
        chosen = path or Path(directory) / "control.sock"
        server = ControlServer(chosen, backend)
        task = asyncio.create_task(server.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                started = asyncio.create_task(server.started.wait())
                await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    started.cancel()
                    task.result()
            yield chosen
        finally:
            server.stop()
            async with asyncio.timeout(DEADLINE_S):
                await task
