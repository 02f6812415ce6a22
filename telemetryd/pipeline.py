"""From datagrams to closed windows: the stages put together, a batch of rows at a time.

One thread runs one pipeline. The columns are allocated once; every stage is bound to them and works on
all rows of a batch before the next stage does, so that a batch stays in the second-level cache.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd._ext import load
from telemetryd.aggregate.sampled_counters import Rows, take_rows
from telemetryd.aggregate.windows import TOLERANCE_NS, Windows
from telemetryd.classify.tables import Tables
from telemetryd.schema import (
    CLASS_COLUMNS,
    COUNTER_COLUMNS,
    DATAGRAM_COLUMNS,
    SAMPLE_COLUMNS,
    TRACK_COLUMNS,
    Batch,
    Names,
    UsageWindow,
)

BATCH_ROWS: Final = 4096


class Pipeline:
    """Decode, track, classify and accumulate datagrams.

    Parameters
    ----------
    tables:
        What the registry was compiled to.
    batch_rows:
        Rows of a batch; at least what one datagram can hold.
    decapsulate:
        Classify the inner packet of a tunnel where there is one.
    tolerance_ns:
        How long a window waits for late rows; None where the caller moves the watermark.
    counter_rows:
        Counters samples that are kept until they are taken; of more, the newest are lost and counted.

    Attributes
    ----------
    lost_counter_rows:
        Counters samples that were lost.
    """

    def __init__(
        self,
        tables: Tables,
        *,
        batch_rows: int = BATCH_ROWS,
        decapsulate: bool = False,
        tolerance_ns: int | None = TOLERANCE_NS,
        counter_rows: int = 0,
    ) -> None:
        self.tables = tables
        self.lost_counter_rows = 0
        self._counter_rows = counter_rows
        self._kept_counters: list[Rows] = []
        self._kept_rows = 0
        self._datagrams = Batch(DATAGRAM_COLUMNS, batch_rows)
        self._samples = Batch(SAMPLE_COLUMNS, batch_rows)
        self._counters = Batch(COUNTER_COLUMNS, batch_rows)
        track = Batch(TRACK_COLUMNS, batch_rows)
        self._classes = classes = Batch(CLASS_COLUMNS, batch_rows)
        self.decoder = load("sflow", "telemetryd.ingest.sflow.columns").Decoder(
            self._datagrams, self._samples, self._counters, decapsulate=decapsulate
        )
        self.tracker = load("track", "telemetryd.ingest.sflow.sequence").Tracker(self._datagrams, self._samples, track)
        self._classifier = load("match", "telemetryd.classify.reference").Classifier(
            self._datagrams, self._samples, classes, tables
        )
        self._names = tables.names
        self._corrections = np.zeros(1)
        self._source_agents = np.zeros(1, np.uint32)
        self.windows = Windows(
            self._datagrams,
            self._samples,
            track,
            classes,
            names=self.names,
            corrections=self.corrections,
            agents=self.source_agents,
            tolerance_ns=tolerance_ns,
        )

    def add(
        self,
        buffer: NDArray[np.uint8],
        offsets: NDArray[np.uint64],
        lengths: NDArray[np.uint32],
        ts_ns: NDArray[np.int64],
    ) -> list[UsageWindow]:
        """Take in n datagrams; return the windows that this closed, oldest first.

        Parameters
        ----------
        buffer:
            The octets, uint8, C-contiguous.
        offsets, lengths, ts_ns:
            Where each datagram lies and when it came, uint64, uint32 and int64, each of shape (n,).
        """
        closed: list[UsageWindow] = []
        first = 0
        while first < len(offsets):
            first = self.decoder.decode(buffer, offsets, lengths, ts_ns, first)
            if self._counter_rows and self._counters.n:
                self._keep_counters()
            self.tracker.track()
            self._classifier.classify()
            closed += self.windows.add()
        return closed

    def take_counters(self) -> list[Rows]:
        """Return the counters samples since the last call (:func:`telemetryd.aggregate.sampled_counters.take_rows`)."""
        kept, self._kept_counters, self._kept_rows = self._kept_counters, [], 0
        return kept

    def _keep_counters(self) -> None:
        room = self._counter_rows - self._kept_rows
        lost = max(0, self._counters.n - room)
        self.lost_counter_rows += lost
        self._counters.n -= lost  # the decoder begins its next batch anew
        if self._counters.n:
            self._kept_counters.append(take_rows(self._counters, self._datagrams))
            self._kept_rows += self._counters.n

    def swap(self, tables: Tables) -> None:
        """Classify by other tables from the next row on; what is known of the sources stays.

        No open window may hold rows, since a window has one dictionary: close them first, and close none
        that the next rows belong to (:meth:`telemetryd.aggregate.windows.Windows.advance`).
        """
        self._classifier = load("match", "telemetryd.classify.reference").Classifier(
            self._datagrams, self._samples, self._classes, tables
        )
        self.tables, self._names, self._corrections = tables, tables.names, np.zeros(1)

    def names(self) -> Names:
        """Return the dictionary of the codes in use now, unregistered ports included."""
        known = len(self._names.links) - len(self.tables.names.links)
        if self._classifier.unregistered_count != known:
            ports = self._classifier.unregistered()
            links = tuple(
                _port_name(self.tables, {name: int(column[row]) for name, column in ports.items()})
                for row in range(self._classifier.unregistered_count)
            )
            self._names = replace(self._names, links=self.tables.names.links + links)
        return self._names

    def corrections(self, count: int) -> NDArray[np.float64]:
        """Return the octets to add to each packet, per source slot, shape (count,)."""
        if len(self._corrections) < count:
            tables = self.tables
            by_agent = {
                tuple(int(word) for word in key): float(tables.device_correction[device])
                for key, device in zip(tables.agent_keys, tables.agent_devices, strict=True)
                if device
            }
            agents, sources = self.tracker.agents(), self.tracker.sources()
            identity = ("agent_version", "agent_hi", "agent_lo")
            per_agent = np.array(
                [by_agent.get(agent, 0.0) for agent in zip(*(agents[c].tolist() for c in identity), strict=True)]
            )
            self._corrections = per_agent[sources["agent"]] if len(per_agent) else np.zeros(count)
        return self._corrections[:count]

    def source_agents(self, count: int) -> NDArray[np.uint32]:
        """Return the tracker's agent slot per source slot, shape (count,)."""
        if len(self._source_agents) < count:
            self._source_agents = self.tracker.sources()["agent"]
        return self._source_agents[:count]

    def unregistered_agents(self) -> list[str]:
        """Name the exporters that the registry does not know, sorted."""
        known = {tuple(int(word) for word in key) for key in self.tables.agent_keys[self.tables.agent_devices > 0]}
        agents = self.tracker.agents()
        identity = ("agent_version", "agent_hi", "agent_lo")
        seen = set(zip(*(agents[column].tolist() for column in identity), strict=True))
        return sorted(words_text(*agent) for agent in seen - known if agent[0])


def _port_name(tables: Tables, port: dict[str, int]) -> str:
    device = port["device"]
    address = (port["agent_version"], port["agent_hi"], port["agent_lo"])
    who = tables.device_names[device] if device else words_text(*address) if address[0] else "other agents"
    return f"{who}/ifIndex {port['if_index']}"


def words_text(version: int, hi: int, lo: int) -> str:
    """Return an address of the columns (version 4 or 6 and its two words) as text."""
    return str(IPv4Address(lo & 0xFFFFFFFF) if version == 4 else IPv6Address(hi << 64 | lo))


def sum_columns(counts: dict[str, NDArray[Any]], *names: str) -> dict[str, int]:
    """Add up columns of counts, for summaries."""
    return {name: int(counts[name].sum()) for name in names}
