"""The live engine: UDP sockets in, complete windows out; every thread of the hot path is in here."""

from telemetryd.ingest.sflow.sockets import adopt_sockets, open_sockets
from telemetryd.live.counters import AgentCounters, LiveCounters, SocketCounters
from telemetryd.live.engine import LiveEngine
from telemetryd.live.settings import LiveSettings

__all__ = [
    "AgentCounters",
    "LiveCounters",
    "LiveEngine",
    "LiveSettings",
    "SocketCounters",
    "adopt_sockets",
    "open_sockets",
]
