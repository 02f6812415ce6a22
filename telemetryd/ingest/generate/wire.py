"""Encode columns of samples as real sFlow v5 datagrams, without a Python object per sample.

Samples are grouped by layout (:mod:`.layout`), a group is filled field by field with numpy, and its
rows are copied to their places in one buffer. An exporter's rules are kept: one (agent, sub-agent)
is one stream of datagrams with its own sequence numbers and uptime, a datagram is no larger than
:data:`MAX_OCTETS`, and what an agent sends leaves in order of time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.generate.layout import (
    DATAGRAM_HEADER_OCTETS,
    ETHERNET_OCTETS,
    FCS_OCTETS,
    HEADER_OCTETS,
    IP_OCTETS,
    TAG_OCTETS,
    TCP,
    UDP,
    Layout,
    counters_sample_layout,
    datagram_layout,
    flow_sample_layout,
    flow_sample_octets,
    header_octets,
)

MAX_OCTETS: Final = 1400  # host-sflow's default: a datagram fits an Ethernet frame unfragmented
MIN_FRAME_LENGTH: Final = 64  # IEEE 802.3, with FCS
_CHUNK: Final = 4096  # rows of a group filled at once: about 1 MiB, so that it stays in the L2 cache

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Agents:
    """The exporters: one row is one (agent, sub-agent), shape (a,) each.

    Attributes
    ----------
    address_hi, address_lo:
        uint64; IPv4 in the low 32 bits of ``address_lo``.
    version:
        uint8, 4 or 6.
    sub_agent_id:
        uint32.
    expanded, router:
        bool; whether it sends the expanded sample forms, and an extended_router record.
    """

    address_hi: NDArray[np.uint64]
    address_lo: NDArray[np.uint64]
    version: NDArray[np.uint8]
    sub_agent_id: NDArray[np.uint32]
    expanded: NDArray[np.bool_]
    router: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.version)


@dataclass(slots=True)
class Streams:
    """What the exporters remember between datagrams, shape (a,) each.

    ``sequence_number`` (uint32) is that of the agent's latest datagram; ``boot_ns`` (int64) is
    where its uptime counts from.
    """

    sequence_number: NDArray[np.uint32]
    boot_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Datagrams:
    """Datagrams in one buffer, in order of time stamp; d datagrams.

    Attributes
    ----------
    buffer:
        uint8, C-contiguous.
    offsets, lengths:
        uint64 and uint32, shape (d,): where each datagram lies in ``buffer``.
    ts_ns:
        int64, shape (d,): when it was sent, which is the time of its latest sample.
    agent:
        intp, shape (d,): row of :class:`Agents`, -1 for a datagram of no agent.
    """

    buffer: NDArray[np.uint8]
    offsets: NDArray[np.uint64]
    lengths: NDArray[np.uint32]
    ts_ns: NDArray[np.int64]
    agent: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[bytes]:
        for offset, length in zip(self.offsets.tolist(), self.lengths.tolist(), strict=True):
            yield self.buffer[offset : offset + length].tobytes()

    def take(self, rows: NDArray[np.intp]) -> Datagrams:
        """Return the datagrams ``rows``, in that order, over the same buffer."""
        return Datagrams(self.buffer, self.offsets[rows], self.lengths[rows], self.ts_ns[rows], self.agent[rows])


def encode(
    agents: Agents,
    streams: Streams,
    samples: Columns,
    counters: Columns | None = None,
    max_octets: int = MAX_OCTETS,
    out: NDArray[np.uint8] | None = None,
) -> Datagrams:
    """Encode flow samples and counters samples, and advance ``streams``.

    Parameters
    ----------
    agents, streams:
        The exporters and what they remember.
    samples:
        Columns of shape (n,) named and typed as in ``schema.SAMPLE_COLUMNS`` (``datagram``, ``flags``
        and ``ether_type`` are not read), and ``agent`` (intp row of ``agents``) and ``ts_ns`` (int64).
        ``vlan_id`` 0 is an untagged frame; ``protocol`` is TCP or UDP.
    counters:
        The same for ``schema.COUNTER_COLUMNS``; None for none.
    max_octets:
        Largest datagram.
    out:
        Memory to write to, used where it is large enough (touching new pages costs as much as encoding).

    Raises
    ------
    ValueError
        If a frame is too short for its headers or a protocol is neither TCP nor UDP.
    """
    layouts = _Layouts(agents, samples)
    counters = counters if counters is not None else _no_counters()
    n = len(samples["agent"])
    agent = np.concatenate([samples["agent"], counters["agent"]])
    ts_ns = np.concatenate([samples["ts_ns"], counters["ts_ns"]])
    counter_octets = np.array([counters_sample_layout(bool(e)).octets for e in agents.expanded], np.int64)
    sizes = np.concatenate([layouts.sizes, counter_octets[counters["agent"]]])

    order = _order(agent, ts_ns)
    agent, ts_ns, sizes = agent[order], ts_ns[order], sizes[order]
    header = np.where(agents.version == 6, DATAGRAM_HEADER_OCTETS[6], DATAGRAM_HEADER_OCTETS[4])
    first = _pack(agent, sizes, max_octets - header)
    counts = np.diff(np.append(first, len(order)))

    # datagrams, by agent; then by time, which is their order in the buffer
    d_agent = agent[first]
    d_ts = ts_ns[first + counts - 1]
    d_sequence = _number(d_agent, streams.sequence_number)
    ends = np.cumsum(sizes)
    d_octets = header[d_agent] + ends[first + counts - 1] - ends[first] + sizes[first]
    by_time = np.argsort(d_ts, kind="stable")
    offsets = np.empty(len(first), np.int64)
    offsets[by_time] = np.cumsum(d_octets[by_time]) - d_octets[by_time]

    inside = ends - sizes  # octets of samples before each item, over everything
    places = np.repeat(offsets + header[d_agent] - inside[first], counts) + inside
    position = np.empty(len(order), np.int64)
    position[order] = places

    octets = int(d_octets.sum())
    buffer = out[:octets] if out is not None and len(out) >= octets else np.empty(octets, np.uint8)
    for layout, rows, fill in layouts.groups():
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            _place(buffer, position[part], layout, fill(part))
    for expanded in (False, True):
        rows = np.flatnonzero(agents.expanded[counters["agent"]] == expanded)
        if len(rows):
            layout = counters_sample_layout(expanded)
            _place(buffer, position[n + rows], layout, _counters_rows(layout, expanded, counters, rows))
    d_uptime = (d_ts - streams.boot_ns[d_agent]) // 1_000_000
    for version in (4, 6):
        rows = np.flatnonzero(agents.version[d_agent] == version)
        layout = datagram_layout(version)
        head = layout.rows(len(rows))
        if version == 6:
            head["agent_hi"] = agents.address_hi[d_agent[rows]]
        head["agent_lo"] = agents.address_lo[d_agent[rows]]
        head["sub_agent_id"] = agents.sub_agent_id[d_agent[rows]]
        head["sequence_number"] = d_sequence[rows]
        head["uptime"] = d_uptime[rows] & 0xFFFF_FFFF
        head["samples"] = counts[rows]
        _place(buffer, offsets[rows], layout, head)
    return Datagrams(
        buffer,
        offsets[by_time].astype(np.uint64),
        d_octets[by_time].astype(np.uint32),
        d_ts[by_time],
        d_agent[by_time],
    )


class _Layouts:
    """The samples of one call, grouped by wire layout."""

    def __init__(self, agents: Agents, samples: Columns) -> None:
        self.samples = samples
        agent = samples["agent"]
        is_ipv6 = samples["ip_version"] == 6
        is_tagged = samples["vlan_id"] != 0
        is_tcp = samples["protocol"] == TCP
        if not np.all(is_tcp | (samples["protocol"] == UDP)):
            raise ValueError("the generator encodes TCP and UDP only")
        frame = samples["frame_length"].astype(np.int64)
        self.header_length = np.minimum(frame - FCS_OCTETS, HEADER_OCTETS)
        words = (self.header_length + 3) // 4
        flags = agents.expanded[agent] * 16 + agents.router[agent] * 8 + is_ipv6 * 4 + is_tagged * 2 + is_tcp
        self.needed = np.zeros(32, np.int64)
        self.extra = np.zeros(32, np.int64)
        for code in range(32):
            expanded, router, ip_version, tagged, protocol = _unpack(code)
            self.needed[code] = max(MIN_FRAME_LENGTH, header_octets(ip_version, tagged, protocol) + FCS_OCTETS)
            self.extra[code] = flow_sample_octets(0, expanded, router, ip_version)
        short = frame < self.needed[flags]
        if short.any():
            raise ValueError(f"{int(short.sum())} frames are too short for their headers")
        self.sizes = self.extra[flags] + words * 4
        self.code = (flags * 64 + words).astype(np.uint16)

    def groups(self) -> Iterator[tuple[Layout, NDArray[np.intp], Any]]:
        """Yield each layout, its rows, and the function that fills rows of it."""
        if not len(self.code):
            return
        by_code = np.argsort(self.code, kind="stable")
        codes = self.code[by_code]
        starts = np.flatnonzero(np.diff(codes, prepend=codes[:1] + 1))
        for start, stop in zip(starts, np.append(starts[1:], len(codes)), strict=True):
            code = int(codes[start])
            expanded, router, ip_version, tagged, protocol = _unpack(code // 64)
            layout = flow_sample_layout(expanded, ip_version, tagged, protocol, router, code % 64 * 4)
            flags = (expanded, ip_version, tagged, protocol)

            def fill(
                rows: NDArray[np.intp], layout: Layout = layout, flags: tuple[bool, int, bool, int] = flags
            ) -> NDArray[Any]:
                return self._fill(layout, rows, *flags)

            yield layout, by_code[start:stop], fill

    def _fill(
        self,
        layout: Layout,
        rows: NDArray[np.intp],
        expanded: bool,
        ip_version: int,
        tagged: bool,
        protocol: int,
    ) -> NDArray[Any]:
        column = {name: array[rows] for name, array in self.samples.items() if name not in _NOT_FILLED}
        out = layout.rows(len(rows))
        for name in ("sequence_number", "sampling_rate", "sample_pool", "drops", "frame_length"):
            out[name] = column[name]
        if expanded:
            for name in ("source_class", "source_index", "input_format", "input", "output_format", "output"):
                out[name] = column[name]
        else:
            out["source_id"] = column["source_class"] << 24 | column["source_index"]
            for name in ("input", "output"):
                out[name] = column[f"{name}_format"].astype(np.uint32) << 30 | column[name]
        out["header_length"] = self.header_length[rows]
        out["destination_station"] = column["output"]
        out["source_station"] = column["input"]
        if tagged:
            out["tci"] = column["vlan_id"]
        out["source_vlan"] = column["vlan_id"]
        out["destination_vlan"] = column["vlan_id"]

        ip_octets = column["frame_length"] - np.uint32(ETHERNET_OCTETS + TAG_OCTETS * tagged + FCS_OCTETS)
        if ip_version == 4:
            _fill_ipv4(out, column, ip_octets, protocol)
        else:
            out["version_class_label"] = np.uint32(0x6000_0000) | column["dscp"].astype(np.uint32) << 22
            out["payload_length"] = ip_octets - np.uint32(IP_OCTETS[6])
            for name in ("source_hi", "source_lo", "destination_hi", "destination_lo"):
                out[name] = column[name]
        out["source_port"] = column["source_port"]
        out["destination_port"] = column["destination_port"]
        if protocol == TCP:
            out["tcp_flags"] = column["tcp_flags"]
        else:
            out["udp_length"] = ip_octets - np.uint32(IP_OCTETS[ip_version])
        return out


_NOT_FILLED: Final = frozenset({"agent", "ts_ns", "datagram", "flags", "ether_type", "ip_version", "protocol"})


def _unpack(code: int) -> tuple[bool, bool, int, bool, int]:
    """Return (expanded, router, IP version, tagged, protocol) of a layout code."""
    return bool(code & 16), bool(code & 8), 6 if code & 4 else 4, bool(code & 2), TCP if code & 1 else UDP


def _fill_ipv4(out: NDArray[Any], column: Columns, ip_octets: NDArray[np.uint32], protocol: int) -> None:
    source = column["source_lo"].astype(np.uint32)
    destination = column["destination_lo"].astype(np.uint32)
    traffic_class = column["dscp"] << 2
    identification = column["sequence_number"] & np.uint32(0xFFFF)
    out["traffic_class"] = traffic_class
    out["total_length"] = ip_octets
    out["identification"] = identification
    out["source"] = source
    out["destination"] = destination
    # RFC 1071: one's complement sum of the ten 16-bit words, of which four are constant
    total = np.uint32(0x4500 + 0x4000 + (63 << 8 | protocol)) + traffic_class + ip_octets + identification
    total += (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF)
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    out["checksum"] = ~total & 0xFFFF


def _counters_rows(layout: Layout, expanded: bool, counters: Columns, rows: NDArray[np.intp]) -> NDArray[Any]:
    out = layout.rows(len(rows))
    for name, array in counters.items():
        if name in layout.dtype.names:  # type: ignore[operator]
            out[name] = array[rows]
    if not expanded:
        out["source_id"] = counters["source_class"][rows] << 24 | counters["source_index"][rows]
    return out


def _no_counters() -> Columns:
    return {"agent": np.empty(0, np.intp), "ts_ns": np.empty(0, np.int64)}


def _order(agent: NDArray[np.intp], ts_ns: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the rows by (agent, time), equal ones as they came."""
    if not len(agent):
        return np.empty(0, np.intp)
    since = ts_ns - ts_ns.min()
    row_bits, bits = len(agent).bit_length(), int(since.max()).bit_length()
    if int(agent.max()).bit_length() + bits + row_bits > 63:
        return np.lexsort((ts_ns, agent))
    # one unique integer key: the plain sort is several times faster than a stable one of two keys
    return np.argsort((agent.astype(np.int64) << bits | since) << row_bits | np.arange(len(agent)))


def _pack(agent: NDArray[np.intp], sizes: NDArray[np.int64], room: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the first row of each datagram: an agent's samples in order, as many as fit."""
    n = len(agent)
    if not n:
        return np.empty(0, np.intp)
    ends = np.cumsum(sizes)
    before = ends - sizes
    fits = np.searchsorted(ends, before + room[agent], side="right")
    change = np.append(np.flatnonzero(np.diff(agent)) + 1, n)
    last = np.repeat(change, np.diff(change, prepend=0))
    following = np.maximum(np.minimum(fits, last), np.arange(1, n + 1)).tolist()
    first, row = [], 0
    while row < n:
        first.append(row)
        row = following[row]
    return np.array(first, np.intp)


def _number(agent: NDArray[np.intp], latest: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return consecutive sequence numbers per agent (rows sorted by agent) and advance ``latest``."""
    counts = np.bincount(agent, minlength=len(latest))
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(agent)) - starts[agent]
    sequence = (latest[agent].astype(np.int64) + rank + 1) & 0xFFFF_FFFF
    latest[:] = (latest.astype(np.int64) + counts) & 0xFFFF_FFFF
    return sequence.astype(np.uint32)


def _place(buffer: NDArray[np.uint8], position: NDArray[np.int64], layout: Layout, rows: NDArray[Any]) -> None:
    """Copy each row to its octet position; XDR keeps every position a multiple of four."""
    if not len(rows):
        return
    row = np.dtype((np.void, layout.octets))
    # a view with one item of the row's size at every fourth octet: assignment is one copy a row
    items = (len(buffer) - layout.octets) // 4 + 1
    everywhere = np.ndarray((items,), row, buffer, 0, (4,))
    everywhere[position // 4] = rows.view(row)
