"""The wire layout of what the generator writes, as numpy structured dtypes (sFlow v5, RFC 4506 XDR).

A layout is drawn once as a list of (field, format, constant); numpy then writes a whole group of
samples field by field, and everything that no column decides comes from the layout's template row.

    flow_sample           tag 0:1   sequence_number, source_id, sampling_rate, sample_pool, drops,
                                    input, output
    flow_sample_expanded  tag 0:3   the same with source_id, input and output as two words each
      sampled_header      tag 0:1   header_protocol, frame_length, stripped, header<128>
      extended_switch     tag 0:1001
      extended_router     tag 0:1002
    counters_sample       tag 0:2   sequence_number, source_id   (expanded: tag 0:4)
      if_counters         tag 0:1
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

HEADER_OCTETS: Final = 128  # sFlow v5's default maximum of sampled_header.header
FCS_OCTETS: Final = 4  # counted in frame_length, removed from header: sampled_header.stripped
ETHERNET_OCTETS: Final = 14
TAG_OCTETS: Final = 4  # IEEE 802.1Q
IP_OCTETS: Final = {4: 20, 6: 40}
TCP: Final = 6
UDP: Final = 17
TRANSPORT_OCTETS: Final = {TCP: 20, UDP: 8}
IF_COUNTERS_OCTETS: Final = 88
DATAGRAM_HEADER_OCTETS: Final = {4: 28, 6: 40}

_PRIORITY: Final = 0  # IEEE 802.1p, best effort
# what stands behind the headers: constant, and no run of zeros that would compress unlike real traffic
_PAYLOAD: Final = np.random.Generator(np.random.PCG64(5)).integers(0, 256, HEADER_OCTETS, dtype=np.uint8)

Field = tuple[str, str, int | None]


@dataclass(frozen=True, slots=True)
class Layout:
    """One fixed-size wire structure.

    Attributes
    ----------
    dtype:
        Structured dtype without padding: its fields are the wire fields, big-endian.
    template:
        Array of shape (1,): one row with every constant in its place.
    """

    dtype: np.dtype[Any]
    template: NDArray[Any]

    @property
    def octets(self) -> int:
        """Size of one row on the wire."""
        return int(self.dtype.itemsize)

    def rows(self, n: int) -> NDArray[Any]:
        """Return ``n`` copies of the template, shape (n,)."""
        return np.repeat(self.template, n)


def _build(fields: list[Field]) -> Layout:
    names, formats, offsets, at = [], [], [], 0
    constants: dict[str, int] = {}
    for number, (name, form, constant) in enumerate(fields):
        key = name if constant is None else f"{number}:{name}"
        names.append(key)
        formats.append(form)
        offsets.append(at)
        at += np.dtype(form).itemsize
        if constant is not None:
            constants[key] = constant
    # offsets are given because a packed dtype must not be re-aligned
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": at})
    template = np.zeros(1, dtype)
    for key, constant in constants.items():
        template[key] = constant
    return Layout(dtype, template)


def _ethernet(ip_version: int, tagged: bool) -> list[Field]:
    ether_type = {4: 0x0800, 6: 0x86DD}[ip_version]
    tag: list[Field] = [("tpid", ">u2", 0x8100), ("tci", ">u2", None)] if tagged else []
    # locally administered MAC addresses that end in the ports' ifIndex
    return [
        ("destination_mac", ">u2", 0x0201),
        ("destination_station", ">u4", None),
        ("source_mac", ">u2", 0x0200),
        ("source_station", ">u4", None),
        *tag,
        ("ether_type", ">u2", ether_type),
    ]


def _ip(ip_version: int, protocol: int) -> list[Field]:
    if ip_version == 4:  # RFC 791
        return [
            ("version_ihl", "u1", 0x45),
            ("traffic_class", "u1", None),
            ("total_length", ">u2", None),
            ("identification", ">u2", None),
            ("flags_offset", ">u2", 0x4000),
            ("ttl", "u1", 63),
            ("protocol", "u1", protocol),
            ("checksum", ">u2", None),
            ("source", ">u4", None),
            ("destination", ">u4", None),
        ]
    return [  # RFC 8200
        ("version_class_label", ">u4", None),
        ("payload_length", ">u2", None),
        ("next_header", "u1", protocol),
        ("hop_limit", "u1", 63),
        ("source_hi", ">u8", None),
        ("source_lo", ">u8", None),
        ("destination_hi", ">u8", None),
        ("destination_lo", ">u8", None),
    ]


def _transport(protocol: int) -> list[Field]:
    ports: list[Field] = [("source_port", ">u2", None), ("destination_port", ">u2", None)]
    if protocol == TCP:  # RFC 9293
        return [
            *ports,
            ("tcp_sequence", ">u4", 0x5F3A_0001),
            ("tcp_acknowledgement", ">u4", 0x1B2C_0001),
            ("data_offset", "u1", 0x50),
            ("tcp_flags", "u1", None),
            ("tcp_window", ">u2", 501),
            ("tcp_checksum", ">u2", 0x5AA5),  # cannot be verified: the payload is cut
            ("urgent", ">u2", 0),
        ]
    return [*ports, ("udp_length", ">u2", None), ("udp_checksum", ">u2", 0x5AA5)]  # RFC 768


def header_octets(ip_version: int, tagged: bool, protocol: int) -> int:
    """Return the octets of Ethernet, tag, IP and transport header together."""
    return ETHERNET_OCTETS + TAG_OCTETS * tagged + IP_OCTETS[ip_version] + TRANSPORT_OCTETS[protocol]


def _router_octets(ip_version: int) -> int:
    return 4 + (16 if ip_version == 6 else 4) + 8  # next hop type and address, two mask lengths


def flow_sample_octets(header: int, expanded: bool, router: bool, ip_version: int) -> int:
    """Return the size of a flow sample with its tag and length whose header is padded to ``header``."""
    fixed = 8 + (44 if expanded else 32)
    return fixed + 24 + header + 24 + (8 + _router_octets(ip_version) if router else 0)


@cache
def flow_sample_layout(
    expanded: bool, ip_version: int, tagged: bool, protocol: int, router: bool, header: int
) -> Layout:
    """Draw a flow sample: sampled_header, extended_switch and, for a ``router``, extended_router.

    ``header`` is the sampled header's size padded to four octets.
    """
    size = flow_sample_octets(header, expanded, router, ip_version)
    fields: list[Field] = [("tag", ">u4", 3 if expanded else 1), ("length", ">u4", size - 8)]
    fields += [("sequence_number", ">u4", None)]
    if expanded:
        fields += [("source_class", ">u4", None), ("source_index", ">u4", None)]
    else:
        fields += [("source_id", ">u4", None)]
    fields += [(name, ">u4", None) for name in ("sampling_rate", "sample_pool", "drops")]
    if expanded:
        fields += [(name, ">u4", None) for name in ("input_format", "input", "output_format", "output")]
    else:
        fields += [("input", ">u4", None), ("output", ">u4", None)]
    fields += [("records", ">u4", 3 if router else 2)]

    fields += [("tag", ">u4", 1), ("length", ">u4", 16 + header), ("header_protocol", ">u4", 1)]
    fields += [("frame_length", ">u4", None), ("stripped", ">u4", FCS_OCTETS), ("header_length", ">u4", None)]
    packet = [*_ethernet(ip_version, tagged), *_ip(ip_version, protocol), *_transport(protocol)]
    fields += packet
    payload = header - header_octets(ip_version, tagged, protocol)
    fields += [("payload", "u1", int(octet)) for octet in _PAYLOAD[:payload]]

    fields += [("tag", ">u4", 1001), ("length", ">u4", 16)]
    fields += [("source_vlan", ">u4", None), ("source_priority", ">u4", _PRIORITY)]
    fields += [("destination_vlan", ">u4", None), ("destination_priority", ">u4", _PRIORITY)]
    if router:
        fields += [("tag", ">u4", 1002), ("length", ">u4", _router_octets(ip_version))]
        if ip_version == 6:
            fields += [("next_hop_type", ">u4", 2)]
            fields += [("next_hop", ">u8", 0x2001_0DB8_0000_0000), ("next_hop", ">u8", 1)]
        else:
            fields += [("next_hop_type", ">u4", 1), ("next_hop", ">u4", 0x6440_0001)]  # 100.64.0.1
        mask = 48 if ip_version == 6 else 24
        fields += [("source_mask", ">u4", mask), ("destination_mask", ">u4", mask)]
    return _build(fields)


@cache
def counters_sample_layout(expanded: bool) -> Layout:
    """Draw a counters sample with one if_counters record; its fields carry COUNTER_COLUMNS' names."""
    fixed = 16 if expanded else 12
    fields: list[Field] = [
        ("tag", ">u4", 4 if expanded else 2),
        ("length", ">u4", fixed + 8 + IF_COUNTERS_OCTETS),
        ("sequence_number", ">u4", None),
    ]
    if expanded:
        fields += [("source_class", ">u4", None), ("source_index", ">u4", None)]
    else:
        fields += [("source_id", ">u4", None)]
    fields += [("records", ">u4", 1), ("tag", ">u4", 1), ("length", ">u4", IF_COUNTERS_OCTETS)]
    for name in ("if_index", "if_type", "if_speed_bps", "if_direction", "if_status"):
        fields += [(name, ">u8" if name == "if_speed_bps" else ">u4", None)]
    for side in ("in", "out"):
        fields += [(f"{side}_octets", ">u8", None)]
        for what in ("ucast_packets", "multicast_packets", "broadcast_packets", "discards", "errors"):
            fields += [(f"{side}_{what}", ">u4", None)]
        if side == "in":
            fields += [("in_unknown_protos", ">u4", None)]
    fields += [("promiscuous", ">u4", 2)]  # TruthValue false
    return _build(fields)


@cache
def datagram_layout(ip_version: int) -> Layout:
    """Draw the datagram header up to and with the number of samples."""
    address: list[Field] = (
        [("agent_lo", ">u4", None)] if ip_version == 4 else [("agent_hi", ">u8", None), ("agent_lo", ">u8", None)]
    )
    return _build(
        [
            ("version", ">u4", 5),
            ("address_type", ">u4", 1 if ip_version == 4 else 2),
            *address,
            ("sub_agent_id", ">u4", None),
            ("sequence_number", ">u4", None),
            ("uptime", ">u4", None),
            ("samples", ">u4", None),
        ]
    )
