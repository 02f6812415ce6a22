"""The static side of generated traffic: exporters, sampling sources, flows and their paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.generate.layout import FCS_OCTETS, header_octets
from telemetryd.ingest.generate.truth import LINK_NAMES, TOTALS_NAMES, KeyTable
from telemetryd.ingest.generate.wire import MIN_FRAME_LENGTH, Agents

NO_KEY: Final = -1
_USUAL_SPEED_BPS: Final = 10_000_000_000
_LOW_64: Final = 2**64 - 1

# packet size mixes: (frame_length with FCS, share of the packets)
PACKET_SIZES: Final[dict[str, tuple[tuple[int, float], ...]]] = {
    "web": ((70, 0.32), (134, 0.08), (594, 0.12), (1078, 0.06), (1518, 0.42)),
    "video": ((70, 0.04), (134, 0.02), (594, 0.04), (1270, 0.30), (1418, 0.60)),
    "bulk": ((70, 0.10), (134, 0.01), (594, 0.01), (1418, 0.02), (1518, 0.86)),
    "voice": ((70, 0.02), (134, 0.08), (218, 0.80), (262, 0.06), (594, 0.04)),
    "interactive": ((70, 0.46), (134, 0.28), (262, 0.12), (594, 0.10), (1518, 0.04)),
    "requests": ((70, 0.72), (134, 0.08), (594, 0.14), (1078, 0.04), (1518, 0.02)),
}
_MIX_NAMES: Final = tuple(PACKET_SIZES)
_SIZES: Final = np.array([[size for size, _ in mix] for mix in PACKET_SIZES.values()], np.uint32)
_SHARES: Final = np.array([[share for _, share in mix] for mix in PACKET_SIZES.values()], np.float64)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a flow: addresses ``base`` + any of the bits in ``mask``; port 0 is ephemeral.

    Only the low 64 bits of an address vary.
    """

    version: int
    base: int
    mask: int = 0
    port: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """What a packet's headers say, and whose it is by that."""

    application: str
    department: str
    peer_department: str
    source: End
    destination: End
    protocol: int
    dscp: int = 0


@dataclass(frozen=True, slots=True)
class Hop:
    """One device on a flow's path: where packets enter and leave, and what that counts towards.

    ``totals`` is (metering point, direction) where the hop meters; links are names, "" for none.
    ``header`` is what packets look like here where that differs from their flow's header (NAT).
    """

    source: int
    input: int
    output: int
    link_in: str = ""
    link_out: str = ""
    totals: tuple[str, str] | None = None
    vlan_id: int = 0
    header: Header | None = None


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """A stream of packets in one direction, in one mix of sizes along one path."""

    header: Header
    sizes: str
    path: tuple[Hop, ...]


@dataclass(slots=True)
class Model:
    """Everything that does not change while traffic is generated.

    Attributes
    ----------
    agents:
        The exporters.
    source_agent, source_index, source_rate:
        Per sampling source, shape (s,): row of ``agents`` (intp), ifIndex (uint32), 1 in N (uint32).
    speeds_bps:
        (row of ``agents``, ifIndex) -> bit/s, for the interfaces that are not 10 Gbit/s.
    ip_version, protocol, dscp:
        uint8 per header, shape (p,): the flows' own headers first, in the order of the flows.
    ends:
        uint64, shape (p, 6): source hi, lo, mask, destination hi, lo, mask.
    ports:
        uint16, shape (p, 2): source and destination, 0 is ephemeral.
    frame_length, share:
        uint32 and float64, shape (f, z): a flow's packet sizes and their shares of its packets.
    hop_flow, hop_header, hop_source:
        intp, shape (h,): which flow, under which header, sampled by which source.
    hop_input, hop_output, hop_vlan:
        uint32, uint32, uint16, shape (h,).
    hop_totals, hop_link_in, hop_link_out:
        intp, shape (h,): codes of the key tables, ``NO_KEY`` for none.
    interface_agent, interface_index, interface_speed_bps:
        Per interface with counters, shape (i,).
    hop_interface_in, hop_interface_out:
        intp, shape (h,): rows of the interfaces.
    """

    agents: Agents
    source_agent: NDArray[np.intp]
    source_index: NDArray[np.uint32]
    source_rate: NDArray[np.uint32]
    flows: tuple[FlowSpec, ...]
    speeds_bps: Mapping[tuple[int, int], int] = field(default_factory=dict)
    ip_version: NDArray[np.uint8] = field(init=False)
    protocol: NDArray[np.uint8] = field(init=False)
    dscp: NDArray[np.uint8] = field(init=False)
    ends: NDArray[np.uint64] = field(init=False)
    ports: NDArray[np.uint16] = field(init=False)
    frame_length: NDArray[np.uint32] = field(init=False)
    share: NDArray[np.float64] = field(init=False)
    hop_flow: NDArray[np.intp] = field(init=False)
    hop_header: NDArray[np.intp] = field(init=False)
    hop_source: NDArray[np.intp] = field(init=False)
    hop_input: NDArray[np.uint32] = field(init=False)
    hop_output: NDArray[np.uint32] = field(init=False)
    hop_vlan: NDArray[np.uint16] = field(init=False)
    hop_totals: NDArray[np.intp] = field(init=False)
    hop_link_in: NDArray[np.intp] = field(init=False)
    hop_link_out: NDArray[np.intp] = field(init=False)
    interface_agent: NDArray[np.intp] = field(init=False)
    interface_index: NDArray[np.uint32] = field(init=False)
    interface_speed_bps: NDArray[np.uint64] = field(init=False)
    hop_interface_in: NDArray[np.intp] = field(init=False)
    hop_interface_out: NDArray[np.intp] = field(init=False)
    totals_keys: KeyTable = field(init=False)
    link_keys: KeyTable = field(init=False)

    def __post_init__(self) -> None:
        self._set_headers()
        self._set_sizes()
        self._set_hops()

    def _set_headers(self) -> None:
        headers = [flow.header for flow in self.flows]
        rows = []
        for number, flow in enumerate(self.flows):
            for hop in flow.path:
                rows.append(number if hop.header is None else len(headers))
                if hop.header is not None:
                    headers.append(hop.header)
        self.hop_header = np.array(rows, np.intp)
        self.ip_version = np.array([header.source.version for header in headers], np.uint8)
        self.protocol = np.array([header.protocol for header in headers], np.uint8)
        self.dscp = np.array([header.dscp for header in headers], np.uint8)
        self.ends = np.array(
            [[*_words(header.source), *_words(header.destination)] for header in headers], np.uint64
        ).reshape(len(headers), 6)
        self.ports = np.array([[header.source.port, header.destination.port] for header in headers], np.uint16).reshape(
            len(headers), 2
        )

    def _set_sizes(self) -> None:
        mix = np.array([_MIX_NAMES.index(flow.sizes) for flow in self.flows], np.intp)
        needed = [
            max(
                MIN_FRAME_LENGTH,
                header_octets(flow.header.source.version, any(hop.vlan_id for hop in flow.path), flow.header.protocol)
                + FCS_OCTETS,
            )
            for flow in self.flows
        ]
        self.frame_length = np.maximum(_SIZES[mix], np.array(needed, np.uint32)[:, None])
        self.share = _SHARES[mix]

    def _set_hops(self) -> None:
        self.totals_keys, self.link_keys = KeyTable(TOTALS_NAMES), KeyTable(LINK_NAMES)
        hops = [(row, flow, hop) for row, flow in enumerate(self.flows) for hop in flow.path]
        totals, link_in, link_out = [], [], []
        for _, flow, hop in hops:
            header = hop.header or flow.header
            names = (header.department, header.peer_department, header.application)
            totals.append(self.totals_keys.code(*hop.totals, *names) if hop.totals else NO_KEY)
            link_in.append(self.link_keys.code(hop.link_in, "in", *names) if hop.link_in else NO_KEY)
            link_out.append(self.link_keys.code(hop.link_out, "out", *names) if hop.link_out else NO_KEY)
        self.hop_totals = np.array(totals, np.intp)
        self.hop_link_in = np.array(link_in, np.intp)
        self.hop_link_out = np.array(link_out, np.intp)
        self.hop_flow = np.array([row for row, _, _ in hops], np.intp)
        self.hop_source = np.array([hop.source for _, _, hop in hops], np.intp)
        self.hop_input = np.array([hop.input for _, _, hop in hops], np.uint32)
        self.hop_output = np.array([hop.output for _, _, hop in hops], np.uint32)
        self.hop_vlan = np.array([hop.vlan_id for _, _, hop in hops], np.uint16)
        # an interface is (agent, ifIndex); both sides of every hop have counters
        agent = self.source_agent[self.hop_source].astype(np.int64)
        pairs = np.concatenate([agent << 32 | self.hop_input, agent << 32 | self.hop_output])
        interfaces, inverse = np.unique(pairs, return_inverse=True)
        self.interface_agent = (interfaces >> 32).astype(np.intp)
        self.interface_index = (interfaces & 0xFFFF_FFFF).astype(np.uint32)
        ports = zip(self.interface_agent.tolist(), self.interface_index.tolist(), strict=True)
        self.interface_speed_bps = np.array([self.speeds_bps.get(port, _USUAL_SPEED_BPS) for port in ports], np.uint64)
        self.hop_interface_in = inverse[: len(hops)]
        self.hop_interface_out = inverse[len(hops) :]

    def mean_octets(self) -> NDArray[np.float64]:
        """Return the mean frame_length of each flow, shape (f,)."""
        return np.asarray((self.frame_length * self.share).sum(axis=1), np.float64)


def _words(end: End) -> tuple[int, int, int]:
    """Return an end's high and low 64 bits and its mask."""
    return end.base >> 64, end.base & _LOW_64, end.mask
