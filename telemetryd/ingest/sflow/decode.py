"""Decode whole sFlow version 5 datagrams in detail: the specification of the compiled hot path.

::

    datagram  version agent_address sub_agent_id sequence_number uptime count  sample*
    sample    data_format length  { fixed part, count, record* }
    record    data_format length  { fields }

A slice of exactly ``length`` octets is read, then the reader steps by ``length``: octets behind what is
known are legal at every level. Every count and length is held against what is left; damage is noted with
its :class:`~telemetryd.ingest.sflow.reasons.Reason` and offset, and what stands before it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_pton
from struct import Struct
from typing import Any, Final, NamedTuple

from telemetryd.ingest.sflow.dissect import IP_TCP, IP_WITH_PORTS, dissect
from telemetryd.ingest.sflow.kinds import VARIABLE, Fields, ShortError, read_word
from telemetryd.ingest.sflow.layout import Layouts, read_structure, unpack_tag
from telemetryd.ingest.sflow.packet import Ethernet, Packet
from telemetryd.ingest.sflow.reasons import Reason
from telemetryd.ingest.sflow.structures import COUNTER_RECORDS, FLOW_RECORDS, SAMPLES

VERSION: Final = 5
FRAME_OVERHEAD: Final = 18
"""Octets that an untagged Ethernet frame adds to its IP packet: header and FCS."""

_TAG_AND_LENGTH: Final = Struct(">II")
_AFTER_ADDRESS: Final = Struct(">IIII")
_ADDRESS_OFFSET: Final = 4
_ADDRESS_OCTETS: Final = {0: 0, 1: 4, 2: 16}  # by agent address type
_RECORD_TABLES: Final[dict[str, Layouts]] = {"flow": FLOW_RECORDS, "counter": COUNTER_RECORDS}


class Damage(NamedTuple):
    """One part of a datagram that was given up.

    Attributes
    ----------
    offset:
        Where that part begins, in octets from the beginning of the datagram.
    space, tag:
        For damage to a known structure its name space ("sample", "flow", "counter") and data_format.
    """

    reason: Reason
    offset: int
    space: str | None = None
    tag: int | None = None


class PacketSource(NamedTuple):
    """The packet that a sample describes, from the best of its records.

    Attributes
    ----------
    packet:
        None where the header is of a protocol that is not dissected.
    frame_length:
        Octets of the frame on the wire, with FCS.
    is_l3_length:
        Whether ``frame_length`` was derived from an IP length.
    """

    packet: Packet | None
    frame_length: int
    is_l3_length: bool


def decode_datagram(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Decode one datagram to JSON values; never raises, whatever the octets are.

    The shape is described in docs/decode.md.

    Examples
    --------
    >>> decode_datagram(bytes(4))
    {'version': 0, 'samples': [], 'errors': [{'reason': 'version_unsupported', 'offset': 0}]}
    """
    datagram = parse_datagram(data)
    for sample in datagram["samples"]:
        if "packet" in sample:
            source: PacketSource | None = sample["packet"]
            sample["packet"] = source.packet.describe() if source is not None and source.packet else None
    datagram["errors"] = [{"reason": damage.reason.label, "offset": damage.offset} for damage in datagram["errors"]]
    return datagram


def parse_datagram(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Decode one datagram; as :func:`decode_datagram`, but with typed packets and errors.

    ``packet`` of a flow sample or discarded packet is a :class:`PacketSource` (None without a packet
    record), ``errors`` are :class:`Damage`, and samples of an unknown type carry ``type: "unknown"``.
    """
    octets = bytes(data)
    errors: list[Damage] = []
    datagram: dict[str, Any] = {}
    samples: list[dict[str, Any]] = []
    try:
        offset, count = _read_header(octets, datagram)
    except ShortError:
        errors.append(Damage(Reason.DATAGRAM_SHORT, 0))
    except _ForeignError as error:
        errors.append(Damage(error.reason, error.offset))
    else:
        _read_samples(octets, offset, count, samples, errors)
    datagram["samples"] = samples
    datagram["errors"] = errors
    return datagram


def find_packet(records: Iterable[dict[str, Any]]) -> PacketSource | None:
    """Choose the record that tells most about the packet; the order of records is free.

    The first sampled_header wins, else the first sampled_ipv4 or sampled_ipv6, whose frame length is
    that of a sampled_ethernet beside it, else sampled_ethernet alone. Incomplete records do not count.
    """
    network: dict[str, Any] | None = None
    ethernet: dict[str, Any] | None = None
    for record in records:
        if record["enterprise"] != 0 or "incomplete" in record:
            continue
        form = record["format"]
        if form == 1:
            packet = dissect(bytes.fromhex(record["header"]), record["protocol"])
            return PacketSource(packet, record["frame_length"], False)
        if form == 2:
            ethernet = ethernet or record
        elif form in (3, 4):
            network = network or record
    if network is None and ethernet is None:
        return None
    packet = Packet() if network is None else _packet_of_ip_record(network)
    if ethernet is not None:
        packet.ethernet = _link_of_ethernet_record(ethernet)
        return PacketSource(packet, ethernet["length"], False)
    assert network is not None
    return PacketSource(packet, network["length"] + FRAME_OVERHEAD & 0xFFFFFFFF, True)


# --- the three levels ----------------------------------------------------------------------------------


class _ForeignError(Exception):
    """The datagram is not of this protocol, or its header cannot be understood."""

    def __init__(self, reason: Reason, offset: int) -> None:
        self.reason = reason
        self.offset = offset


def _read_header(octets: bytes, datagram: dict[str, Any]) -> tuple[int, int]:
    """Fill the datagram's header fields; return where the samples begin and how many are claimed."""
    end = len(octets)
    datagram["version"] = version = read_word(octets, 0, end)
    if version != VERSION:
        raise _ForeignError(Reason.VERSION_UNSUPPORTED, 0)
    width = _ADDRESS_OCTETS.get(read_word(octets, _ADDRESS_OFFSET, end))
    if width is None:
        raise _ForeignError(Reason.AGENT_ADDRESS_TYPE, _ADDRESS_OFFSET)
    offset = _ADDRESS_OFFSET + 4 + width
    if end - offset < _AFTER_ADDRESS.size:
        raise ShortError
    datagram["agent_address"], _ = VARIABLE["address"](octets, _ADDRESS_OFFSET, end)
    sub_agent, sequence, uptime, count = _AFTER_ADDRESS.unpack_from(octets, offset)
    datagram["sub_agent_id"] = sub_agent
    datagram["sequence_number"] = sequence
    datagram["uptime"] = uptime
    return offset + _AFTER_ADDRESS.size, count


def _read_samples(octets: bytes, offset: int, count: int, samples: list[dict[str, Any]], errors: list[Damage]) -> None:
    end = len(octets)
    for _ in range(count):
        if end - offset < _TAG_AND_LENGTH.size:
            errors.append(Damage(Reason.SAMPLE_OVERRUN, offset))
            return
        tag, length = _TAG_AND_LENGTH.unpack_from(octets, offset)
        start = offset + _TAG_AND_LENGTH.size
        if length > end - start:
            errors.append(Damage(Reason.SAMPLE_OVERRUN, offset))
            return
        if length & 3:
            errors.append(Damage(Reason.SAMPLE_LENGTH, offset))
        sample = _read_sample(octets, tag, start, start + length, errors)
        if sample is not None:
            samples.append(sample)
        offset = start + (length + 3 & ~3)


def _read_sample(octets: bytes, tag: int, start: int, stop: int, errors: list[Damage]) -> dict[str, Any] | None:
    enterprise, form = unpack_tag(tag)
    layouts = SAMPLES.get(tag)
    if layouts is None:
        raw = octets[start:stop].hex()
        return {"type": "unknown", "enterprise": enterprise, "format": form, "raw": raw}
    layout = layouts[0]
    sample: dict[str, Any] = {"type": layout.name, "enterprise": enterprise, "format": form}
    try:
        offset = layout.read(octets, start, stop, sample)
        count = read_word(octets, offset, stop) if layout.records else 0
    except ShortError:
        errors.append(Damage(Reason.SAMPLE_SHORT, start - _TAG_AND_LENGTH.size, "sample", tag))
        return None
    if layout.records:
        sample["records"] = records = _read_records(layout.records, octets, offset + 4, stop, count, errors)
        if layout.records == "flow":
            sample["packet"] = find_packet(records)
    return sample


def _read_records(
    space: str, octets: bytes, offset: int, end: int, count: int, errors: list[Damage]
) -> list[dict[str, Any]]:
    table = _RECORD_TABLES[space]
    records: list[dict[str, Any]] = []
    for _ in range(count):
        if end - offset < _TAG_AND_LENGTH.size:
            errors.append(Damage(Reason.RECORD_OVERRUN, offset))
            break
        tag, length = _TAG_AND_LENGTH.unpack_from(octets, offset)
        start = offset + _TAG_AND_LENGTH.size
        stop = start + length
        if length > end - start:
            errors.append(Damage(Reason.RECORD_OVERRUN, offset))
            break
        if length & 3:
            errors.append(Damage(Reason.RECORD_LENGTH, offset))
        enterprise, form = unpack_tag(tag)
        record: Fields = {"enterprise": enterprise, "format": form, "name": None}
        layouts = table.get(tag)
        if layouts is None:
            record["raw"] = octets[start:stop].hex()
        else:
            record["name"] = layouts[0].name
            fields, is_complete = read_structure(layouts, octets, start, stop)
            record.update(fields)
            if not is_complete:
                record["incomplete"] = True
                errors.append(Damage(Reason.RECORD_SHORT, offset, space, tag))
        records.append(record)
        offset = start + (length + 3 & ~3)
    return records


# --- packets that are told by fields, not by a header -----------------------------------------------------


def _packet_of_ip_record(record: dict[str, Any]) -> Packet:
    """Describe sampled_ipv4 or sampled_ipv6; words that their IP field cannot hold count as unknown."""
    packet = Packet()
    is_version_4 = record["format"] == 3
    family = AF_INET if is_version_4 else AF_INET6
    traffic_class = record["tos" if is_version_4 else "priority"]
    packet.ip_version = 4 if is_version_4 else 6
    packet.src_address = int.from_bytes(inet_pton(family, record["src_ip"]), "big")
    packet.dst_address = int.from_bytes(inet_pton(family, record["dst_ip"]), "big")
    packet.ip_length = record["length"]
    packet.dscp, packet.ecn = traffic_class >> 2 & 63, traffic_class & 3
    if record["protocol"] <= 0xFF:
        packet.protocol = record["protocol"]
    if packet.protocol in IP_WITH_PORTS:
        packet.src_port = record["src_port"] & 0xFFFF
        packet.dst_port = record["dst_port"] & 0xFFFF
    if packet.protocol == IP_TCP:
        packet.tcp_flags = record["tcp_flags"] & 0xFF
    return packet


def _link_of_ethernet_record(record: dict[str, Any]) -> Ethernet:
    return Ethernet(
        src_mac=bytes.fromhex(record["src_mac"].replace(":", "")),
        dst_mac=bytes.fromhex(record["dst_mac"].replace(":", "")),
        ether_type=record["type"] if record["type"] <= 0xFFFF else None,
    )
