"""What the live engine counts: nothing that a socket received is without its number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.observe.clock import ClockState
from telemetryd.pipeline import words_text

#: The name of what has no readable agent, and of senders beyond those counted one by one.
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class SocketCounters:
    """Counts of one socket since the start.

    ``received`` = ``processed`` + ``shed`` + ``capped`` + ``refused`` + ``short`` datagrams, and what was sent to
    the socket is ``received`` + ``kernel_drops``. ``octets`` are those of all received; ``truncated`` datagrams
    are also counted as one of the others; ``wakes`` are batches; ``inherited_drops`` were there when the socket was
    taken over; ``backlog`` and ``receive_buffer`` are octets of the kernel's memory; ``keep_share`` is the part
    of the datagrams that shedding leaves, 1 where it is off.
    """

    received: int = 0
    octets: int = 0
    processed: int = 0
    shed: int = 0
    capped: int = 0
    refused: int = 0
    short: int = 0
    truncated: int = 0
    wakes: int = 0
    kernel_drops: int = 0
    inherited_drops: int = 0
    backlog: int = 0
    receive_buffer: int = 0
    keep_share: float = 1.0


@dataclass(slots=True)
class AgentCounters:
    """Counts of one agent address since the start.

    ``received`` = ``processed`` + ``shed`` + ``capped`` datagrams; ``lost`` are gaps of the datagram sequence, in
    which those that were shed or capped are included; ``lost_outside`` are the others (network and kernel).
    ``samples_lost`` are gaps of the sample sequences, ``samples_dropped`` what the agent itself says it dropped.
    """

    received: int = 0
    octets: int = 0
    processed: int = 0
    shed: int = 0
    capped: int = 0
    lost: int = 0
    reordered: int = 0
    duplicates: int = 0
    restarts: int = 0
    samples: int = 0
    samples_lost: int = 0
    samples_dropped: int = 0

    @property
    def lost_outside(self) -> int:
        """Datagrams that got lost before they could be received."""
        return max(self.lost - self.shed - self.capped, 0)


@dataclass(frozen=True, slots=True)
class LiveCounters:
    """All counts of the engine, as of at most a second ago for each socket; coherent within a socket.

    Attributes
    ----------
    sockets:
        One a socket, in their order.
    agents:
        Address -> counts; ``"other"`` is what names no agent.
    refused_sources:
        Sender -> datagrams that were refused; ``"other"`` for those beyond the first ones.
    undecodable:
        Reason -> count (telemetryd.ingest.sflow.reasons); datagrams too short to have a header are in it.
    unknown_structures:
        Samples and records of an unknown type, which were skipped.
    flow_samples, counters_samples:
        Decoded samples.
    discarded_packets:
        Records of packets that an exporter discarded.
    late_samples, duplicate_samples, unplaced_samples:
        Samples that are in no window, or on no link.
    windows:
        Windows handed out.
    last_delay_ns, worst_delay_ns:
        How long after their end windows were handed out.
    swaps:
        Registries that took the place of another.
    clock:
        The clock's state.
    lost_counters_samples:
        Counters samples that came faster than they are taken.
    """

    sockets: tuple[SocketCounters, ...]
    agents: dict[str, AgentCounters]
    refused_sources: dict[str, int]
    undecodable: dict[str, int]
    unknown_structures: int
    flow_samples: int
    counters_samples: int
    discarded_packets: int
    late_samples: int
    duplicate_samples: int
    unplaced_samples: int
    windows: int
    last_delay_ns: int
    worst_delay_ns: int
    swaps: int
    clock: ClockState
    lost_counters_samples: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one socket's thread publishes once a second: copies that only readers touch."""

    receiver: dict[str, int]
    received_agents: dict[str, NDArray[Any]]
    refused: list[tuple[int, int, int, int]]
    decoder: dict[str, Any]
    tracked_agents: dict[str, NDArray[Any]]
    sources: dict[str, NDArray[Any]]
    windows: dict[str, int]
    keep_share: float
    lost_counter_rows: int = 0


def socket_counters(snapshot: Snapshot) -> SocketCounters:
    """Return the counts of the socket itself."""
    names = {field.name for field in fields(SocketCounters)}
    counts = {name: count for name, count in snapshot.receiver.items() if name in names}
    return SocketCounters(**counts, keep_share=snapshot.keep_share)


def agent_counters(snapshots: Sequence[Snapshot]) -> dict[str, AgentCounters]:
    """Add up the counts of each agent, by its address, over the sockets and its sub-agents."""
    agents: dict[str, AgentCounters] = {}
    for snapshot in snapshots:
        received, tracked, sources = snapshot.received_agents, snapshot.tracked_agents, snapshot.sources
        counts = ("octets", "processed", "shed", "capped")
        _add(agents, _names(received), ("received", *counts), [received[name] for name in ("datagrams", *counts)])
        streams = ("lost", "reordered", "duplicates", "restarts")
        names = _names(tracked)
        _add(agents, names, streams, [tracked[name] for name in streams])
        sums = [
            np.bincount(sources["agent"], sources[name], len(names)).astype(np.uint64)
            for name in ("samples", "lost", "drops")
        ]
        _add(agents, names, ("samples", "samples_lost", "samples_dropped"), sums)
    return {name: counts for name, counts in agents.items() if name != OTHER or counts.received}


def refused_sources(snapshots: Sequence[Snapshot]) -> dict[str, int]:
    """Add up the refused datagrams of each sender."""
    total: Counter[str] = Counter()
    for snapshot in snapshots:
        for version, hi, lo, count in snapshot.refused:
            total[address_text(version, hi, lo)] += count
    return dict(total.most_common())


def undecodable(snapshots: Sequence[Snapshot]) -> dict[str, int]:
    """Add up what could not be decoded, by reason; what was too short for any header is datagram_short."""
    total: Counter[str] = Counter()
    for snapshot in snapshots:
        total.update(snapshot.decoder["errors"])
        total["datagram_short"] += snapshot.receiver["short"]
    return dict(+total)


def address_text(version: int, hi: int, lo: int) -> str:
    """Return an address as text, ``"other"`` for version 0."""
    return words_text(version, hi, lo) if version else OTHER


def _names(columns: dict[str, NDArray[Any]]) -> list[str]:
    words = (columns[name].tolist() for name in ("agent_version", "agent_hi", "agent_lo"))
    return [address_text(*word) for word in zip(*words, strict=True)]


def _add(
    agents: dict[str, AgentCounters], names: list[str], fields_: tuple[str, ...], columns: list[NDArray[Any]]
) -> None:
    for name, *counts in zip(names, *(column.tolist() for column in columns), strict=True):
        agent = agents.setdefault(name, AgentCounters())
        for field, count in zip(fields_, counts, strict=True):
            setattr(agent, field, getattr(agent, field) + int(count))
