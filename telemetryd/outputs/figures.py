"""The rows that no window holds: how each device's telemetry arrives, and how telemetryd does, once a minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from telemetryd.live import AgentCounters
from telemetryd.store.series import DEVICE, SELF
from telemetryd.store.series_render import Labels, SeriesRenderer

MINUTE_NS: Final = 60_000_000_000
#: Fields of ``device`` -> the counts of an agent that they are the growth of.
_COUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    "datagrams": ("received",),
    "samples": ("samples",),
    "lost_datagrams": ("lost_outside",),
    "lost_samples": ("samples_lost",),
    "dropped_samples": ("samples_dropped",),
    "shed_datagrams": ("shed", "capped"),
    "restarts": ("restarts",),
}


class Figure(NamedTuple):
    """One row of ``self``: the metric, what it is about, its value."""

    metric: str
    source: str
    value: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One look at the daemon.

    Attributes
    ----------
    agents:
        Counts since the start, by the name of the device or else the agent's address; those of one device are added.
    own:
        Rows of ``self``.
    """

    agents: Sequence[tuple[str, AgentCounters]] = ()
    own: Sequence[Figure] = field(default=())


class MinuteRows:
    """Make the rows of each minute; one thread uses it."""

    def __init__(self) -> None:
        self._before: dict[str, Counter[str]] = {}

    def render(self, renderer: SeriesRenderer, start_ns: int, figures: Figures) -> bytes:
        """Return the lines of the minute that began at ``start_ns``; counts grow from one call to the next."""
        now: dict[str, Counter[str]] = {}
        for name, agent in figures.agents:
            counts = now.setdefault(name, Counter())
            for field_name, parts in _COUNTS.items():
                counts[field_name] += sum(getattr(agent, part) for part in parts)
        grown = {
            # What is received late after all takes a loss back.
            name: {key: counts[key] - self._before.get(name, Counter())[key] for key in _COUNTS}
            for name, counts in now.items()
        }
        self._before = now
        return self._devices(renderer, start_ns, grown) + self._own(renderer, start_ns, figures.own)

    def _devices(self, renderer: SeriesRenderer, start_ns: int, grown: Mapping[str, Mapping[str, int]]) -> bytes:
        if not grown:
            return b""
        return renderer.rows(
            DEVICE.name,
            {"device": Labels(np.arange(len(grown)), list(grown))},
            {key: np.array([counts[key] for counts in grown.values()], np.int64) for key in _COUNTS},
            time_ns=start_ns,
            span_ns=MINUTE_NS,
        )

    def _own(self, renderer: SeriesRenderer, start_ns: int, own: Sequence[Figure]) -> bytes:
        if not own:
            return b""
        places = np.arange(len(own))
        return renderer.rows(
            SELF.name,
            {
                "metric": Labels(places, [figure.metric for figure in own]),
                "source": Labels(places, [figure.source for figure in own]),
            },
            {"value": np.array([figure.value for figure in own], np.float64)},
            time_ns=start_ns,
            span_ns=MINUTE_NS,
        )
