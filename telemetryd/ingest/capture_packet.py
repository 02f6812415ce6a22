"""From the octets of one captured packet to its UDP payload: the specification of ext/_capture_packet.pxd.

Offsets are into the whole buffer; ``end`` is the first octet that must not be read. Layers: link types of
https://www.tcpdump.org/linktypes.html, 802.1Q and 802.1ad tags, IPv4 (RFC 791), IPv6 and its extension
headers (RFC 8200), UDP (RFC 768).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from telemetryd.ingest.capture_codes import Skip

LINK_NULL: Final = 0
LINK_ETHERNET: Final = 1
LINK_LOOP: Final = 108
LINK_LINUX_SLL: Final = 113
LINK_LINUX_SLL2: Final = 276
LINKS_RAW: Final = frozenset({12, 14, 101, 228, 229})

ETHER_TYPE_IPV4: Final = 0x0800
ETHER_TYPE_IPV6: Final = 0x86DD
VLAN_TAGS: Final = frozenset({0x8100, 0x88A8, 0x9100, 0x9200})
MOST_VLAN_TAGS: Final = 8

AF_INET: Final = 2
AF_INET6: Final = frozenset({10, 24, 28, 30})  # Linux, NetBSD and OpenBSD, FreeBSD, Darwin

IPV4_HEADER: Final = 20
IPV6_HEADER: Final = 40
UDP_HEADER: Final = 8
PROTOCOL_UDP: Final = 17
EXTENSION_FRAGMENT: Final = 44
EXTENSION_AUTHENTICATION: Final = 51
# hop-by-hop, routing, destination options, mobility, HIP, shim6: (n + 1) * 8 octets; AH: (n + 2) * 4
EXTENSIONS: Final = frozenset({0, 43, 60, 135, 139, 140, EXTENSION_AUTHENTICATION})
MOST_EXTENSION_HEADERS: Final = 8

SFLOW_VERSION: Final = 5
SFLOW_HEADER: Final = {0: 24, 1: 28, 2: 40}  # by the type of the agent address
SFLOW_LEAST_SAMPLE: Final = 8


@dataclass(slots=True)
class Datagram:
    """A UDP payload: offset, octets captured, whether the UDP header states more; and its sender."""

    payload: int
    length: int
    truncated: bool
    version: int = 0
    source: int = 0


@dataclass(slots=True)
class Fragment:
    """A part of an IP packet; `length` as the IP header states it, `octets` at `data` in the buffer."""

    version: int
    source: int
    destination: int
    identification: int
    offset: int
    length: int
    more: bool
    next_header: int
    data: int


Found = Datagram | Fragment | Skip


def _be(buffer: bytes | memoryview, offset: int, octets: int) -> int:
    return int.from_bytes(buffer[offset : offset + octets], "big")


def read_link(buffer: memoryview, start: int, end: int, link_type: int, port: int | None) -> Found:
    """Find the UDP payload behind a link-layer header."""
    if link_type == LINK_ETHERNET:
        header, ether_type = 14, 12
    elif link_type == LINK_LINUX_SLL:
        header, ether_type = 16, 14
    elif link_type == LINK_LINUX_SLL2:
        header, ether_type = 20, 0
    elif link_type in (LINK_NULL, LINK_LOOP):
        return _read_loopback(buffer, start, end, port)
    elif link_type in LINKS_RAW:
        if start == end:
            return Skip.SHORT_PACKET
        return _read_ip(buffer, start, end, buffer[start] >> 4, port)
    else:
        return Skip.UNSUPPORTED_LINK_TYPE
    if end - start < header:
        return Skip.SHORT_PACKET
    kind = _be(buffer, start + ether_type, 2)
    start += header
    tags = 0
    while kind in VLAN_TAGS:
        if tags == MOST_VLAN_TAGS:
            return Skip.NOT_IP
        if end - start < 4:
            return Skip.SHORT_PACKET
        kind = _be(buffer, start + 2, 2)
        start += 4
        tags += 1
    return _read_ip(buffer, start, end, {ETHER_TYPE_IPV4: 4, ETHER_TYPE_IPV6: 6}.get(kind, 0), port)


def _read_loopback(buffer: memoryview, start: int, end: int, port: int | None) -> Found:
    """BSD loopback: the address family in the order of whoever captured (NULL) or of the network (LOOP)."""
    if end - start < 4:
        return Skip.SHORT_PACKET
    family = _be(buffer, start, 4)
    if family > 0xFFFF:
        family = int.from_bytes(buffer[start : start + 4], "little")
    version = 4 if family == AF_INET else 6 if family in AF_INET6 else 0
    return _read_ip(buffer, start + 4, end, version, port)


def _read_ip(buffer: memoryview, start: int, end: int, version: int, port: int | None) -> Found:
    if version == 4:
        return _read_ipv4(buffer, start, end, port)
    if version == 6:
        return _read_ipv6(buffer, start, end, port)
    return Skip.NOT_IP


def _read_ipv4(buffer: memoryview, start: int, end: int, port: int | None) -> Found:
    """Octets after the total length are padding; a total length of 0 is segmentation offload."""
    if end - start < IPV4_HEADER:
        return Skip.SHORT_PACKET
    header = (buffer[start] & 0x0F) * 4
    total = _be(buffer, start + 2, 2)
    if buffer[start] >> 4 != 4 or header < IPV4_HEADER or 0 < total < header:
        return Skip.BAD_IP_HEADER
    if buffer[start + 9] != PROTOCOL_UDP:
        return Skip.NOT_UDP
    if end - start < header:
        return Skip.SHORT_PACKET
    source = _be(buffer, start + 12, 4)
    word = _be(buffer, start + 6, 2)
    if word & 0x3FFF:
        return Fragment(
            version=4,
            source=source,
            destination=_be(buffer, start + 16, 4),
            identification=_be(buffer, start + 4, 2),
            offset=(word & 0x1FFF) * 8,
            length=total - header if total else 0,
            more=bool(word & 0x2000),
            next_header=PROTOCOL_UDP,
            data=start + header,
        )
    if total:
        end = min(end, start + total)
    return _from(read_udp(buffer, start + header, end, port), 4, source)


def _read_ipv6(buffer: memoryview, start: int, end: int, port: int | None) -> Found:
    """A payload length of 0 is a jumbogram or segmentation offload: all that is there."""
    if end - start < IPV6_HEADER:
        return Skip.SHORT_PACKET
    if buffer[start] >> 4 != 6:
        return Skip.BAD_IP_HEADER
    stated = _be(buffer, start + 4, 2)
    stated_end = start + IPV6_HEADER + stated
    if stated:
        end = min(end, stated_end)
    found = read_ipv6_chain(buffer, start + IPV6_HEADER, end, buffer[start + 6], port)
    if isinstance(found, Fragment):
        found.destination = _be(buffer, start + 24, 16)
        found.length = max(stated_end - found.data, 0) if stated else 0
    return _from(found, 6, _be(buffer, start + 8, 16))


def _from(found: Found, version: int, source: int) -> Found:
    if not isinstance(found, Skip):
        found.version = version
        found.source = source
    return found


def read_ipv6_chain(buffer: memoryview, start: int, end: int, next_header: int, port: int | None) -> Found:
    """Walk the extension headers to UDP or to the fragment header (RFC 8200 section 4)."""
    for _ in range(MOST_EXTENSION_HEADERS):
        if next_header not in EXTENSIONS and next_header != EXTENSION_FRAGMENT:
            break
        if end - start < 8:
            return Skip.SHORT_PACKET
        length = 8
        if next_header == EXTENSION_FRAGMENT:
            word = _be(buffer, start + 2, 2)
            if word & 0xFFF9:
                return Fragment(
                    version=6,
                    source=0,
                    destination=0,
                    identification=_be(buffer, start + 4, 4),
                    offset=word & 0xFFF8,
                    length=0,
                    more=bool(word & 1),
                    next_header=buffer[start],
                    data=start + 8,
                )
            # an atomic fragment (RFC 6946) is a whole packet
        elif next_header == EXTENSION_AUTHENTICATION:
            length = (buffer[start + 1] + 2) * 4
        else:
            length = (buffer[start + 1] + 1) * 8
        if end - start < length:
            return Skip.SHORT_PACKET
        next_header = buffer[start]
        start += length
    if next_header != PROTOCOL_UDP:
        return Skip.NOT_UDP
    return read_udp(buffer, start, end, port)


def read_udp(buffer: memoryview, start: int, end: int, port: int | None) -> Datagram | Skip:
    """Take the payload; without a port, where it starts like an sFlow v5 datagram."""
    if end - start < UDP_HEADER:
        return Skip.SHORT_PACKET
    stated = _be(buffer, start + 4, 2)
    if stated < UDP_HEADER:
        return Skip.BAD_UDP_LENGTH
    if port is not None and _be(buffer, start + 2, 2) != port:
        return Skip.OTHER_PORT
    stated -= UDP_HEADER
    start += UDP_HEADER
    length = min(stated, end - start)
    if port is None and not _starts_like_sflow(buffer[start : start + length], stated):
        return Skip.NOT_SFLOW
    return Datagram(payload=start, length=length, truncated=stated > length)


def _starts_like_sflow(payload: memoryview, stated: int) -> bool:
    if len(payload) < 8 or _be(payload, 0, 4) != SFLOW_VERSION:
        return False
    header = SFLOW_HEADER.get(_be(payload, 4, 4))
    if header is None or len(payload) < header:
        return False
    # version, address type, address, sub-agent, sequence number, uptime, number of samples
    return _be(payload, header - 4, 4) * SFLOW_LEAST_SAMPLE <= stated - header
