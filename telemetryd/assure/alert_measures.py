"""What alert rules measure: figures of a span, with their intervals, from the windows in it.

Every measure takes in windows of 1 s as they close, and at the end of a span gives one reading a subject and begins
anew. Sums are added up over the windows; the interval is that of the span.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.interval import interval
from telemetryd.assure.alerts import Evidence, Limit, Reading
from telemetryd.schema import Direction, LinkDirection, Names, Table, UsageWindow

SECOND_NS: Final = 1_000_000_000
CONFIDENCE: Final = 0.95
#: Code of what no application of the registry claims.
UNCLASSIFIED: Final = 0
#: A span of which less has windows says nothing, as in reports.
SEEN_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Telemetry:
    """How telemetry arrives: counts since the start.

    Attributes
    ----------
    sent, lost:
        Datagrams that the agents sent, as far as is known, and those of them that no figure rests on.
    received:
        Agent address -> datagrams.
    coverages:
        (link, direction) -> the samples' octets over the counter's, of the last minutes, with its interval; not a
        number where the counter stood still.
    """

    sent: int = 0
    lost: int = 0
    received: Mapping[str, int] = field(default_factory=dict)
    coverages: Mapping[tuple[str, str], tuple[float, float, float]] = field(default_factory=dict)


class Measure(Protocol):
    """One rule's figures."""

    def add(self, window: UsageWindow) -> None:
        """Take in a window of 1 s."""

    def close(self, start_ns: int, end_ns: int, telemetry: Telemetry) -> list[Reading]:
        """End a span; return its readings, and begin anew."""


@dataclass(slots=True)
class Volume:
    """Sums of some rows: octets, their variance, the largest deviation, samples."""

    octets: float = 0.0
    variance: float = 0.0
    largest: float = 0.0
    samples: int = 0

    def add(self, columns: Mapping[str, NDArray[Any]], of: NDArray[np.bool_]) -> None:
        """Add the rows ``of`` a window."""
        if of.any():
            self.octets += float(columns["octets"][of].sum())
            self.variance += float(columns["octets_variance"][of].sum())
            self.largest = max(self.largest, float(columns["octets_largest"][of].max()))
            self.samples += int(columns["samples"][of].sum())

    def rate(self, seconds: float, unseen: float = 0.0) -> tuple[float, float, float]:
        """Return the rate in bit/s with its limits.

        Parameters
        ----------
        seconds:
            Time that there are windows of.
        unseen:
            Deviation of a sample that may have been missed, where there is none.
        """
        largest = self.largest if self.samples else max(self.largest, unseen)
        low, high = interval(self.octets, self.variance, largest, CONFIDENCE)
        scale = 8.0 / seconds if seconds else 0.0
        return self.octets * scale, float(low) * scale, float(high) * scale


class UsageMeasure:
    """The rate of everything that a filter lets pass, as one subject.

    Parameters
    ----------
    limit:
        In bit/s.
    links, direction:
        Links and "in" or "out"; without links the totals of all metering points are taken, and the direction is one of
        theirs ("inbound" ...) or "".
    departments, applications:
        Names; none lets all pass.
    """

    def __init__(
        self,
        limit: Limit,
        links: Collection[str] = (),
        direction: str = "",
        departments: Collection[str] = (),
        applications: Collection[str] = (),
    ) -> None:
        self._limit = limit
        self._links = frozenset(links)
        self._direction = direction
        self._filters = {"department": frozenset(departments), "application": frozenset(applications)}
        self._names: Names | None = None
        self._accepted: dict[str, NDArray[np.bool_]] = {}
        self._reset()
        parts = {"link": sorted(links), "direction": [direction] if direction else []}
        parts |= {name: sorted(names) for name, names in self._filters.items()}
        self._subject = tuple((name, ",".join(values)) for name, values in parts.items() if values)

    def _reset(self) -> None:
        self._volume = Volume()
        self._unseen = 0.0
        self._windows = 0

    def add(self, window: UsageWindow) -> None:
        """Take in a window of 1 s."""
        self._windows += 1
        self._learn(window.names)
        columns = window.columns
        of = columns["table"] == (Table.LINK_USAGE if self._links else Table.TOTALS)
        if of.any():
            self._unseen = max(self._unseen, float(columns["octets_largest"][of].max()))
        for name, accepted in self._accepted.items():
            of &= accepted[columns[name]]
        if self._direction:
            kind = LinkDirection if self._links else Direction
            of &= columns["direction"] == kind[self._direction.upper()]
        self._volume.add(columns, of)

    def close(self, start_ns: int, end_ns: int, telemetry: Telemetry) -> list[Reading]:
        """End a span."""
        value, low, high = self._volume.rate(self._windows, self._unseen)
        evidence = self._limit.evidence(low, high) if is_seen(self._windows, start_ns, end_ns) else Evidence.NONE
        self._reset()
        return [Reading(self._subject, value, low, high, evidence, self._limit.value)]

    def _learn(self, names: Names) -> None:
        if self._names is names:
            return
        self._names = names
        wanted = {"link": (names.links, self._links)} if self._links else {}
        wanted["department"] = (names.departments, self._filters["department"])
        wanted["application"] = (names.applications, self._filters["application"])
        self._accepted = {
            column: np.array([name in accepted for name in known], np.bool_)
            for column, (known, accepted) in wanted.items()
            if accepted
        }


class UtilisationMeasure:
    """The rate of each link over its capacity, a subject a link and direction.

    Parameters
    ----------
    limit:
        As a part of the capacity.
    capacities:
        (link, direction) -> bit/s.
    """

    def __init__(self, limit: Limit, capacities: Mapping[tuple[str, str], int]) -> None:
        self._limit = limit
        self._capacities = capacities
        self._volumes = {key: Volume() for key in capacities}
        self._unseen = 0.0
        self._windows = 0

    def add(self, window: UsageWindow) -> None:
        """Take in a window of 1 s."""
        self._windows += 1
        columns = window.columns
        of = columns["table"] == Table.LINK_USAGE
        if not of.any():
            return
        self._unseen = max(self._unseen, float(columns["octets_largest"][of].max()))
        codes = {name: code for code, name in enumerate(window.names.links)}
        for (link, direction), volume in self._volumes.items():
            if link in codes:
                is_there = of & (columns["link"] == codes[link])
                volume.add(columns, is_there & (columns["direction"] == LinkDirection[direction.upper()]))

    def close(self, start_ns: int, end_ns: int, telemetry: Telemetry) -> list[Reading]:
        """End a span; of a link without a sample nobody knows whether it is idle or unseen."""
        readings = []
        has_enough = is_seen(self._windows, start_ns, end_ns)
        for (link, direction), volume in self._volumes.items():
            rates = volume.rate(self._windows, self._unseen)
            value, low, high = (rate / self._capacities[link, direction] for rate in rates)
            evidence = self._limit.evidence(low, high) if volume.samples and has_enough else Evidence.NONE
            subject = (("link", link), ("direction", direction))
            readings.append(Reading(subject, value, low, high, evidence, self._limit.value))
        self._volumes = {key: Volume() for key in self._capacities}
        self._unseen, self._windows = 0.0, 0
        return readings


class UnclassifiedMeasure:
    """The part of the octets at the metering points that no application of the registry claims.

    Parameters
    ----------
    limit:
        As a part of all octets.
    """

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._unknown, self._known = Volume(), Volume()
        self._windows = 0

    def add(self, window: UsageWindow) -> None:
        """Take in a window of 1 s."""
        self._windows += 1
        columns = window.columns
        of = columns["table"] == Table.TOTALS
        unknown = of & (columns["application"] == UNCLASSIFIED)
        self._unknown.add(columns, unknown)
        self._known.add(columns, of & ~unknown)

    def close(self, start_ns: int, end_ns: int, telemetry: Telemetry) -> list[Reading]:
        """End a span; the limits of the share are those of its parts at their worst."""
        largest = max(self._unknown.largest, self._known.largest)
        unknown, known = (part.rate(self._windows, largest) for part in (self._unknown, self._known))
        has_any = self._unknown.samples + self._known.samples > 0 and is_seen(self._windows, start_ns, end_ns)
        value = share(unknown[0], known[0])
        low, high = share(unknown[1], known[2]), share(unknown[2], known[1])
        self._unknown, self._known, self._windows = Volume(), Volume(), 0
        evidence = self._limit.evidence(low, high) if has_any else Evidence.NONE
        return [Reading((), value, low, high, evidence, self._limit.value)]


class LossMeasure:
    """The part of the agents' datagrams that no figure rests on: counted, not sampled.

    Parameters
    ----------
    limit:
        As a part of the datagrams sent.
    """

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._before: Telemetry | None = None

    def add(self, window: UsageWindow) -> None:
        """Take no notice of windows."""

    def close(self, start_ns: int, end_ns: int, telemetry: Telemetry) -> list[Reading]:
        """End a span."""
        before, self._before = self._before or telemetry, telemetry
        sent, lost = telemetry.sent - before.sent, max(telemetry.lost - before.lost, 0)
        value = lost / sent if sent > 0 else 0.0
        evidence = self._limit.evidence(value, value) if sent > 0 else Evidence.NONE
        return [Reading((), value, value, value, evidence, self._limit.value)]


class CoverageMeasure:
    """The part of the registry's exporters that sent anything: counted, not sampled.

    Parameters
    ----------
    limit:
        As a part of the exporters.
    exporters:
        Device -> its agent addresses.
    """

    def __init__(self, limit: Limit, exporters: Mapping[str, Sequence[str]]) -> None:
        self._limit = limit
        self._exporters = exporters
        self._before: Telemetry | None = None

    def add(self, window: UsageWindow) -> None:
        """Take no notice of windows."""

    def close(self, start_ns: int, end_ns: int, telemetry: Telemetry) -> list[Reading]:
        """End a span; the first one only begins to count."""
        before, self._before = self._before, telemetry
        if before is None or not self._exporters:
            return [Reading((), 1.0, 1.0, 1.0, Evidence.NONE, self._limit.value)]
        silent = [
            device
            for device, agents in self._exporters.items()
            if not any(telemetry.received.get(agent, 0) > before.received.get(agent, 0) for agent in agents)
        ]
        value = 1.0 - len(silent) / len(self._exporters)
        named = ", ".join(silent[:8]) + (f" and {len(silent) - 8} more" if len(silent) > 8 else "")
        note = f"silent: {named}" if silent else ""
        return [Reading((), value, value, value, self._limit.evidence(value, value), self._limit.value, note)]


class LinkCoverageMeasure:
    """The samples' octets over the counter's, of each link that has counters.

    Parameters
    ----------
    limit:
        As a part of the counter's octets.
    links, direction:
        Only these links, and "in" or "out"; none takes all.
    """

    def __init__(self, limit: Limit, links: Collection[str] = (), direction: str = "") -> None:
        self._limit = limit
        self._links = frozenset(links)
        self._direction = direction

    def add(self, window: UsageWindow) -> None:
        """Take no notice of windows."""

    def close(self, start_ns: int, end_ns: int, telemetry: Telemetry) -> list[Reading]:
        """End a span; the figures are those of the last minutes at its end."""
        readings = []
        for (link, direction), figures in sorted(telemetry.coverages.items()):
            if (self._links and link not in self._links) or self._direction not in ("", direction):
                continue
            value, low, high = figures
            evidence = self._limit.evidence(low, high) if low <= high else Evidence.NONE
            readings.append(
                Reading((("link", link), ("direction", direction)), value, low, high, evidence, self._limit.value)
            )
        return readings


def is_seen(windows: int, start_ns: int, end_ns: int) -> bool:
    """Tell whether a span has windows enough to say anything."""
    return windows * SECOND_NS >= SEEN_SHARE * (end_ns - start_ns)


def share(part: float, rest: float) -> float:
    """Return the part of both together; 0 where there is nothing."""
    whole = part + rest
    return part / whole if whole > 0 else 0.0
