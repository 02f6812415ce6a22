"""Samples against the counters samples of the same sFlow exporters: all that a replay needs to calibrate its usage."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from telemetryd.aggregate.counters import CounterTracker, by_direction
from telemetryd.aggregate.feeds import Feeds, ports_of
from telemetryd.aggregate.link_growth import Links, link_growths
from telemetryd.aggregate.reconcile import Coverage, Figures, Reconciler
from telemetryd.aggregate.sampled_counters import Rows, SampledCounters
from telemetryd.registry.models import Registry
from telemetryd.schema import UsageWindow


class SampledReconciler:
    """Take counters samples and windows in the order of time; hand out figures.

    Parameters
    ----------
    registry:
        Names devices, interfaces and links.
    address_text:
        Writes an agent's address, given in words (version, hi, lo).
    """

    def __init__(self, registry: Registry, address_text: Callable[[int, int, int], str]) -> None:
        self._address_text = address_text
        self._ports = ports_of(registry)
        self._links = Links.of(registry)
        self._feeds = Feeds(self._ports)
        self._tracker = CounterTracker()
        self._samples = SampledCounters(self._feeds, self._device_of)
        self._reconciler = Reconciler(self._links.points)
        self._known = 0
        self._has_counters = False

    def add_counters(self, rows: Sequence[Rows]) -> None:
        """Add counters samples (:func:`telemetryd.aggregate.sampled_counters.take_rows`)."""
        self._has_counters = self._has_counters or bool(rows)
        for one in rows:
            readings = self._samples.read(one)
            if len(self._feeds) != self._known:
                self._known = len(self._feeds)
                self._tracker.set_speeds(np.arange(self._known), self._feeds.speeds_bps())
            # Counters samples bear the time of their datagram, as flow samples do.
            grown = by_direction(self._tracker.add(readings), np.zeros(self._known, np.int64))
            feeds = grown["feed"]
            places = [self._feeds.interface(self._feeds[feed]) for feed in feeds.tolist()]
            corrections, ranks = self._feeds.corrections()[feeds], self._feeds.sources()[feeds]
            self._reconciler.add_growths(link_growths(grown, places, corrections, ranks, self._links))

    def add_window(self, window: UsageWindow) -> list[tuple[int, Figures]]:
        """Add a closed window of 1 s; return the spans of figures that are complete."""
        if not self._has_counters:
            return []
        self._reconciler.add_window(window)
        return self._reconciler.advance(window.start_ns + window.span_ns)

    def flush(self) -> list[tuple[int, Figures]]:
        """Return the figures that are left: no more windows and counters will come."""
        return self._reconciler.flush()

    def coverages(self) -> list[Coverage]:
        """Return the coverage of every link that has counters, over its last minutes."""
        return self._reconciler.coverages()

    def _device_of(self, version: int, hi: int, lo: int) -> str:
        address = self._address_text(version, hi, lo) if version else "other agents"
        return self._ports.agents.get(address, address)
