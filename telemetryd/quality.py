"""How good each window is: the live engine's counts, as what came and was lost in the time of one window."""

from __future__ import annotations

from typing import Final

from telemetryd.live import LiveCounters
from telemetryd.store.quality import COVERAGE, GAP, NO_SOURCE, RECEIVED

#: Counts of an agent -> the metric they are kept under.
_AGENT: Final = {
    "received": RECEIVED,
    "samples": "received.samples",
    "lost_outside": GAP,
    "shed": "loss.shed",
    "capped": "loss.capped",
    "samples_dropped": "loss.samples_dropped",
}
#: Counts of the engine as a whole.
_WHOLE: Final = {
    "late_samples": "loss.late",
    "duplicate_samples": "loss.duplicate",
    "unplaced_samples": "loss.unplaced",
}

_Counts = dict[tuple[str, str], int]


def counted(counters: LiveCounters) -> _Counts:
    """Return all counts since the start by (metric, source)."""
    counts: _Counts = {}
    for name, agent in counters.agents.items():
        for field, metric in _AGENT.items():
            counts[metric, name] = getattr(agent, field)
    for number, one in enumerate(counters.sockets):
        counts["loss.kernel", f"socket:{number}"] = one.kernel_drops
    for sender, datagrams in counters.refused_sources.items():
        counts["loss.refused", sender] = datagrams
    for reason, count in counters.undecodable.items():
        counts[f"loss.undecodable.{reason}", NO_SOURCE] = count
    for field, metric in _WHOLE.items():
        counts[metric, NO_SOURCE] = getattr(counters, field)
    return counts


class WindowQuality:
    """Tell what happened since the window before; one owner."""

    def __init__(self) -> None:
        self._before: _Counts = {}

    def of_window(self, counters: LiveCounters | None) -> dict[tuple[str, str], float]:
        """Return the figures of a window of 1 s that was just closed, those that are 0 left out.

        A datagram that was missing and came late after all is taken back: that figure is below 0.
        """
        figures: dict[tuple[str, str], float] = {(COVERAGE, NO_SOURCE): 1.0}
        if counters is None:
            return figures
        now = counted(counters)
        for key, count in now.items():
            if more := count - self._before.get(key, 0):
                figures[key] = float(more)
        self._before = now
        return figures
