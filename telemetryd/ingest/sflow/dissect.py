"""Dissect a sampled packet header: link layer, tags, labels, IP, transport, and one inner packet.

This is the specification of what the hot path's columns hold. Nothing here fails: a layer that does not
fit sets ``truncated`` and ends the dissection, a layer that is not understood ends it silently, and what
was read before stays as it is.

::

    sampled_header.protocol  1 Ethernet        7 PPP       11 IPv4   12 IPv6   13 MPLS
                             | tags, SNAP      |               \\    /          |
                             ether_type -- PPPoE (0x8864) --- IPv4/IPv6 ---- labels -- pseudowire (once)
                                                                 |
                                            TCP UDP SCTP DCCP UDP-Lite ICMP ICMPv6
                                            GRE IP-in-IP MPLS-in-IP VXLAN GTP-U -- inner packet (once)

``truncated`` tells about the layers of the packet itself: a tunnel header that does not fit only means
that there is no ``inner``.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from telemetryd.ingest.sflow.packet import Ethernet
from telemetryd.ingest.sflow.packet import Packet as Packet

# sampled_header.protocol (sFlow version 5, header_protocol)
HEADER_ETHERNET, HEADER_PPP, HEADER_IPV4, HEADER_IPV6, HEADER_MPLS = 1, 7, 11, 12, 13

ETHER_IPV4, ETHER_IPV6, ETHER_ARP = 0x0800, 0x86DD, 0x0806
ETHER_MPLS: Final = frozenset((0x8847, 0x8848))  # RFC 5332
ETHER_TAGS: Final = frozenset((0x8100, 0x88A8, 0x9100, 0x9200))  # IEEE 802.1Q, 802.1ad, and before them
ETHER_PPPOE: Final = 0x8864  # RFC 2516, session stage
ETHER_BRIDGED: Final = 0x6558  # transparent Ethernet bridging in GRE (RFC 1701)
ETHER_LOWEST: Final = 0x600  # below it the field is an IEEE 802.3 length

PPP_IPV4, PPP_IPV6, PPP_MPLS = 0x0021, 0x0057, 0x0281

IP_ICMP, IP_IPV4, IP_TCP, IP_UDP, IP_DCCP, IP_IPV6, IP_GRE = 1, 4, 6, 17, 33, 41, 47
IP_ICMPV6, IP_SCTP, IP_UDP_LITE, IP_MPLS = 58, 132, 136, 137
IP_WITH_PORTS: Final = frozenset((IP_TCP, IP_UDP, IP_DCCP, IP_SCTP, IP_UDP_LITE))
IPV6_FRAGMENT, IPV6_AUTHENTICATION = 44, 51
IPV6_OPTIONS: Final = frozenset((0, 43, 60, 135, 139, 140))  # length octet counts 8 octets beyond the first

VXLAN_PORTS: Final = frozenset((4789, 8472))  # RFC 7348, and Linux's default
GTP_PORT: Final = 2152
GTP_TUNNELLED: Final = 255  # message type G-PDU (3GPP TS 29.281)

MOST_TAGS, MOST_LABELS, MOST_EXTENSION_HEADERS = 8, 16, 8

_SNAP: Final = b"\xaa\xaa\x03\0\0\0"  # RFC 1042
_PPP_ADDRESS_CONTROL: Final = b"\xff\x03"  # RFC 1662

_U16: Final = Struct(">H")
_U32: Final = Struct(">I")
_PORTS: Final = Struct(">HH")
_IPV4: Final = Struct(">BBHHHBB2xII")
_IPV6: Final = Struct(">IHBB16s16s")


def dissect(header: bytes, protocol: int) -> Packet | None:
    """Dissect the octets of a sampled_header.

    Parameters
    ----------
    header:
        The sampled octets, without padding.
    protocol:
        ``sampled_header.protocol``.

    Returns
    -------
    The packet, with one level of ``inner``; None for a header protocol that is not dissected.
    """
    packet = Packet()
    end = len(header)
    if protocol == HEADER_ETHERNET:
        _read_bridged(packet, header, 0, end, True)
    elif protocol == HEADER_PPP:
        _read_ppp(packet, header, 0, end, True)
    elif protocol == HEADER_IPV4:
        _read_ipv4(packet, header, 0, end, True)
    elif protocol == HEADER_IPV6:
        _read_ipv6(packet, header, 0, end, True)
    elif protocol == HEADER_MPLS:
        _read_labels(packet, header, 0, end, True, True)
    else:
        return None
    return packet


# --- link layers ---------------------------------------------------------------------------------------


def _read_ethernet(octets: bytes, at: int, end: int) -> tuple[Ethernet, int]:
    """Read addresses, tags and SNAP; return the layer and where its payload begins."""
    layer = Ethernet()
    if end - at >= 6:
        layer.dst_mac = octets[at : at + 6]
    if end - at >= 12:
        layer.src_mac = octets[at + 6 : at + 12]
    if end - at < 14:
        layer.truncated = True
        return layer, end
    (ether_type,) = _U16.unpack_from(octets, at + 12)
    at += 14
    while ether_type in ETHER_TAGS:
        if end - at < 4 or len(layer.vlans) == MOST_TAGS:
            layer.truncated = True
            return layer, end
        tag, ether_type = _PORTS.unpack_from(octets, at)
        layer.vlans.append((tag & 0xFFF, tag >> 13))
        at += 4
    if ether_type < ETHER_LOWEST:
        layer.ether_type = ether_type
        if end - at < 8:
            layer.truncated = True
            return layer, end
        if octets[at : at + 6] != _SNAP:
            return layer, end
        (ether_type,) = _U16.unpack_from(octets, at + 6)
        at += 8
    layer.ether_type = ether_type
    return layer, at


def _read_bridged(packet: Packet, octets: bytes, at: int, end: int, with_tunnels: bool) -> None:
    layer, at = _read_ethernet(octets, at, end)
    packet.ethernet = layer
    if layer.truncated:
        packet.truncated = True
    elif layer.ether_type is not None:
        _read_payload(packet, layer.ether_type, octets, at, end, True, with_tunnels)


def _read_payload(
    packet: Packet,
    ether_type: int,
    octets: bytes,
    at: int,
    end: int,
    with_pseudowire: bool,
    with_tunnels: bool,
) -> None:
    if ether_type == ETHER_IPV4:
        _read_ipv4(packet, octets, at, end, with_tunnels)
    elif ether_type == ETHER_IPV6:
        _read_ipv6(packet, octets, at, end, with_tunnels)
    elif ether_type in ETHER_MPLS:
        _read_labels(packet, octets, at, end, with_pseudowire, with_tunnels)
    elif ether_type == ETHER_PPPOE:
        if end - at < 8:
            packet.truncated = True
            return
        (protocol,) = _U16.unpack_from(octets, at + 6)
        _read_ppp_payload(packet, protocol, octets, at + 8, end, with_tunnels)


def _read_ppp(packet: Packet, octets: bytes, at: int, end: int, with_tunnels: bool) -> None:
    if octets[at : at + 2] == _PPP_ADDRESS_CONTROL:
        at += 2
    # An odd first octet is a compressed protocol field (RFC 1661, section 2); ff alone may be ff 03, cut.
    if at == end or (end - at < 2 and (octets[at] & 1 == 0 or octets[at] == 0xFF)):
        packet.truncated = True
        return
    protocol = octets[at]
    at += 1
    if protocol & 1 == 0:
        protocol = protocol << 8 | octets[at]
        at += 1
    if protocol == PPP_MPLS:
        _read_labels(packet, octets, at, end, True, with_tunnels)
    else:
        _read_ppp_payload(packet, protocol, octets, at, end, with_tunnels)


def _read_ppp_payload(packet: Packet, protocol: int, octets: bytes, at: int, end: int, with_tunnels: bool) -> None:
    if protocol == PPP_IPV4:
        _read_ipv4(packet, octets, at, end, with_tunnels)
    elif protocol == PPP_IPV6:
        _read_ipv6(packet, octets, at, end, with_tunnels)


def _read_labels(packet: Packet, octets: bytes, at: int, end: int, with_pseudowire: bool, with_tunnels: bool) -> None:
    """Read a label stack (RFC 3032) and guess its payload from the first nibble (RFC 4928)."""
    for _ in range(MOST_LABELS):
        if end - at < 4:
            packet.truncated = True
            return
        (word,) = _U32.unpack_from(octets, at)
        packet.labels.append(word)
        at += 4
        if word & 0x100:
            break
    else:
        packet.truncated = True
        return
    if at == end:
        packet.truncated = True
        return
    nibble = octets[at] >> 4
    if nibble == 4:
        _read_ipv4(packet, octets, at, end, with_tunnels)
    elif nibble == 6:
        _read_ipv6(packet, octets, at, end, with_tunnels)
    elif with_pseudowire:
        _read_pseudowire(packet, octets, at, end, nibble == 0, with_tunnels)


def _read_pseudowire(
    packet: Packet, octets: bytes, at: int, end: int, has_control_word: bool, with_tunnels: bool
) -> None:
    """Read an Ethernet pseudowire (RFC 4448); without a control word only where its payload is known."""
    if has_control_word:
        if end - at < 4:
            packet.truncated = True
            return
        at += 4
    layer, payload = _read_ethernet(octets, at, end)
    ether_type = layer.ether_type
    is_known = ether_type in (ETHER_IPV4, ETHER_IPV6, ETHER_ARP) or ether_type in ETHER_MPLS
    if not has_control_word and (layer.truncated or not is_known):
        return
    packet.pseudowire = layer
    if layer.truncated:
        packet.truncated = True
    elif ether_type is not None:
        _read_payload(packet, ether_type, octets, payload, end, False, with_tunnels)


# --- network layers ------------------------------------------------------------------------------------


def _read_ipv4(packet: Packet, octets: bytes, at: int, end: int, with_tunnels: bool) -> None:
    """Read RFC 791; options are skipped."""
    if end - at < _IPV4.size:
        packet.truncated = True
        return
    version, tos, total, ident, fragment, ttl, protocol, source, destination = _IPV4.unpack_from(octets, at)
    header = (version & 15) * 4
    if version >> 4 != 4 or header < _IPV4.size:
        return
    packet.ip_version = 4
    packet.src_address, packet.dst_address = source, destination
    packet.protocol = protocol
    packet.dscp, packet.ecn, packet.ttl = tos >> 2, tos & 3, ttl
    packet.ip_length, packet.ip_id = total, ident
    packet.fragment_offset = (fragment & 0x1FFF) * 8
    packet.more_fragments = bool(fragment & 0x2000)
    if header <= total < end - at:
        end = at + total  # what follows is link-layer padding
    if end - at < header:
        packet.truncated = True
    elif not packet.is_fragment:
        _read_transport(packet, protocol, octets, at + header, end, with_tunnels)


def _read_ipv6(packet: Packet, octets: bytes, at: int, end: int, with_tunnels: bool) -> None:
    """Read RFC 8200 with its extension headers."""
    if end - at < _IPV6.size:
        packet.truncated = True
        return
    first, length, protocol, ttl, source, destination = _IPV6.unpack_from(octets, at)
    if first >> 28 != 6:
        return
    packet.ip_version = 6
    packet.src_address = int.from_bytes(source, "big")
    packet.dst_address = int.from_bytes(destination, "big")
    packet.protocol = protocol
    packet.dscp, packet.ecn, packet.ttl = first >> 22 & 63, first >> 20 & 3, ttl
    packet.ip_length, packet.flow_label = _IPV6.size + length, first & 0xFFFFF
    at += _IPV6.size
    if 0 < length < end - at:
        end = at + length
    while protocol in IPV6_OPTIONS or protocol in (IPV6_FRAGMENT, IPV6_AUTHENTICATION):
        if end - at < 8 or len(packet.extension_headers) == MOST_EXTENSION_HEADERS:
            packet.truncated = True
            return
        if protocol == IPV6_FRAGMENT:
            size = 8
            (fragment,) = _U16.unpack_from(octets, at + 2)
            packet.fragment_offset = fragment & 0xFFF8
            packet.more_fragments = bool(fragment & 1)
        elif protocol == IPV6_AUTHENTICATION:
            size = (octets[at + 1] + 2) * 4
        else:
            size = (octets[at + 1] + 1) * 8
        if end - at < size:
            packet.truncated = True
            return
        packet.extension_headers.append(protocol)
        protocol = octets[at]
        packet.protocol = protocol
        at += size
        if packet.is_fragment:
            return
    _read_transport(packet, protocol, octets, at, end, with_tunnels)


# --- transport layers and tunnels ----------------------------------------------------------------------


def _read_transport(packet: Packet, protocol: int, octets: bytes, at: int, end: int, with_tunnels: bool) -> None:
    if protocol in IP_WITH_PORTS:
        if end - at < 4:
            packet.truncated = True
            return
        packet.src_port, packet.dst_port = _PORTS.unpack_from(octets, at)
        if protocol == IP_TCP:
            if end - at < 14:
                packet.truncated = True
            else:
                packet.tcp_flags = octets[at + 13]
        elif protocol == IP_UDP:
            if end - at >= 6:
                (packet.udp_length,) = _U16.unpack_from(octets, at + 4)
            if with_tunnels and end - at >= 8:
                _read_udp_tunnel(packet, octets, at + 8, end)
    elif protocol in (IP_ICMP, IP_ICMPV6):
        if end - at < 2:
            packet.truncated = True
            return
        packet.icmp_type, packet.icmp_code = octets[at], octets[at + 1]
    elif with_tunnels and at < end:
        _read_ip_tunnel(packet, protocol, octets, at, end)


def _read_ip_tunnel(packet: Packet, protocol: int, octets: bytes, at: int, end: int) -> None:
    inner = Packet()
    if protocol == IP_IPV4:  # RFC 2003
        packet.tunnel = "ipip"
        _read_ipv4(inner, octets, at, end, False)
    elif protocol == IP_IPV6:  # RFC 2473, RFC 4213
        packet.tunnel = "ipip"
        _read_ipv6(inner, octets, at, end, False)
    elif protocol == IP_MPLS:  # RFC 4023
        packet.tunnel = "mpls"
        _read_labels(inner, octets, at, end, True, False)
    elif protocol != IP_GRE or not _read_gre(packet, inner, octets, at, end):
        return
    packet.inner = inner


def _read_gre(packet: Packet, inner: Packet, octets: bytes, at: int, end: int) -> bool:
    """Read RFC 2784 with the key and sequence number of RFC 2890; tell whether the payload is known."""
    if end - at < 4:
        return False
    flags, ether_type = _PORTS.unpack_from(octets, at)
    if flags & 0x4007:  # source routing (RFC 1701), or another version
        return False
    at += 4
    if flags & 0x8000:  # checksum
        at += 4
    key_at = at
    if flags & 0x2000:
        at += 4
    if flags & 0x1000:  # sequence number
        at += 4
    if at > end:
        return False
    if flags & 0x2000:
        (packet.tunnel_id,) = _U32.unpack_from(octets, key_at)
    if ether_type == ETHER_IPV4:
        _read_ipv4(inner, octets, at, end, False)
    elif ether_type == ETHER_IPV6:
        _read_ipv6(inner, octets, at, end, False)
    elif ether_type == ETHER_BRIDGED:
        _read_bridged(inner, octets, at, end, False)
    elif ether_type == 0x8847:
        _read_labels(inner, octets, at, end, True, False)
    else:
        packet.tunnel_id = None
        return False
    packet.tunnel = "gre"
    return True


def _read_udp_tunnel(packet: Packet, octets: bytes, at: int, end: int) -> None:
    """Read VXLAN (RFC 7348) or GTP-U (3GPP TS 29.281) behind the UDP header at ``at - 8``."""
    if end - at < 8:
        return
    if packet.dst_port in VXLAN_PORTS:
        if octets[at] & 0x08:
            packet.tunnel = "vxlan"
            packet.tunnel_id = int.from_bytes(octets[at + 4 : at + 7], "big")
            packet.inner = Packet()
            _read_bridged(packet.inner, octets, at + 8, end, False)
    elif GTP_PORT in (packet.src_port, packet.dst_port):
        _read_gtp(packet, octets, at, end)


def _read_gtp(packet: Packet, octets: bytes, at: int, end: int) -> None:
    flags, message = octets[at], octets[at + 1]
    if flags >> 5 != 1 or message != GTP_TUNNELLED:
        return
    (tunnel,) = _U32.unpack_from(octets, at + 4)
    at += 8
    if flags & 0x07:  # any of extension header, sequence number, N-PDU number: all four octets are there
        if end - at < 4:
            return
        extension = octets[at + 3] if flags & 0x04 else 0
        at += 4
        while extension:
            size = octets[at] * 4 if at < end else 0
            if size == 0 or end - at < size:
                return
            extension = octets[at + size - 1]
            at += size
    if at == end:
        return
    inner = Packet()
    nibble = octets[at] >> 4
    if nibble == 4:
        _read_ipv4(inner, octets, at, end, False)
    elif nibble == 6:
        _read_ipv6(inner, octets, at, end, False)
    else:
        return
    packet.tunnel, packet.tunnel_id, packet.inner = "gtpu", tunnel, inner
