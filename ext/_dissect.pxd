# Dissection of a sampled packet header into the fields of SAMPLE_COLUMNS (header-only).
#
# The specification is telemetryd/ingest/sflow/dissect.py; functions and their order follow it. A layer that
# does not fit sets TRUNCATED and ends the dissection, one that is not understood ends it silently, and what
# was read before stays. `inner` is where the packet inside a tunnel goes; NULL where tunnels stay closed,
# which is also how their depth is bounded to one. Pseudowires are bounded by `with_pseudowire`.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from _cursor cimport Cursor, left, load16, load32, load64, take


cdef enum HeaderProtocol:          # sFlow version 5, header_protocol
    HEADER_ETHERNET = 1
    HEADER_PPP = 7
    HEADER_IPV4 = 11
    HEADER_IPV6 = 12
    HEADER_MPLS = 13


cdef enum EtherType:
    ETHER_LOWEST = 0x0600          # below it the field is an IEEE 802.3 length
    ETHER_IPV4 = 0x0800
    ETHER_ARP = 0x0806
    ETHER_BRIDGED = 0x6558         # RFC 1701
    ETHER_TAG = 0x8100             # IEEE 802.1Q
    ETHER_SERVICE_TAG = 0x88A8     # IEEE 802.1ad
    ETHER_TAG_9100 = 0x9100        # before 802.1ad
    ETHER_TAG_9200 = 0x9200
    ETHER_IPV6 = 0x86DD
    ETHER_MPLS = 0x8847            # RFC 5332
    ETHER_MPLS_UPSTREAM = 0x8848
    ETHER_PPPOE = 0x8864           # RFC 2516, session stage


cdef enum PppProtocol:
    PPP_IPV4 = 0x0021
    PPP_IPV6 = 0x0057
    PPP_MPLS = 0x0281


cdef enum IpProtocol:
    IP_HOP_BY_HOP = 0              # 0, 43, 44, 51, 60, 135, 139, 140: IPv6 extension headers
    IP_ICMP = 1
    IP_IPV4 = 4
    IP_TCP = 6
    IP_UDP = 17
    IP_DCCP = 33
    IP_IPV6 = 41
    IP_ROUTING = 43
    IP_FRAGMENT = 44
    IP_GRE = 47
    IP_AUTHENTICATION = 51
    IP_ICMPV6 = 58
    IP_DESTINATION = 60
    IP_SCTP = 132
    IP_MOBILITY = 135
    IP_UDP_LITE = 136
    IP_MPLS = 137
    IP_HIP = 139
    IP_SHIM6 = 140


cdef enum Tunnel:
    GTP_PORT = 2152
    VXLAN_PORT = 4789              # RFC 7348
    VXLAN_LINUX_PORT = 8472
    GTP_VERSION = 1
    GTP_TUNNELLED = 255            # message type G-PDU (3GPP TS 29.281)


cdef enum Depth:
    MOST_TAGS = 8
    MOST_LABELS = 16
    MOST_EXTENSION_HEADERS = 8


cdef enum PacketFlag:              # bits of schema.SampleFlag; a test compares them
    TRUNCATED = 2
    FRAGMENT = 4
    LABELLED = 8


cdef struct Packet:
    uint64_t source_hi
    uint64_t source_lo
    uint64_t destination_hi
    uint64_t destination_lo
    uint16_t vlan_id               # outer tag
    uint16_t ether_type            # after the outer tags
    uint16_t source_port
    uint16_t destination_port
    uint8_t is_tagged
    uint8_t ip_version
    uint8_t protocol
    uint8_t dscp
    uint8_t tcp_flags
    uint8_t flags


cdef struct Link:
    uint16_t vlan_id
    uint16_t ether_type
    uint8_t is_tagged
    uint8_t is_truncated


cdef inline void dissect(Packet *packet, Packet *inner, Cursor c, uint32_t protocol) noexcept nogil:
    """Dissect the octets of a sampled_header into `packet` (all zero before)."""
    if protocol == HEADER_ETHERNET:
        read_bridged(packet, inner, c)
    elif protocol == HEADER_IPV4:
        read_ipv4(packet, inner, c)
    elif protocol == HEADER_IPV6:
        read_ipv6(packet, inner, c)
    elif protocol == HEADER_PPP:
        read_ppp(packet, inner, c)
    elif protocol == HEADER_MPLS:
        read_labels(packet, inner, c, True)


# --- link layers ---------------------------------------------------------------------------------------

cdef inline bint is_tag(uint32_t ether_type) noexcept nogil:
    return (
        ether_type == ETHER_TAG
        or ether_type == ETHER_SERVICE_TAG
        or ether_type == ETHER_TAG_9100
        or ether_type == ETHER_TAG_9200
    )


cdef inline bint is_snap(const uint8_t *p) noexcept nogil:
    """LLC of RFC 1042: DSAP and SSAP 0xaa, unnumbered, and the organisation 0 of EtherTypes."""
    return load16(p) == 0xAAAA and load16(p + 2) == 0x0300 and load16(p + 4) == 0


cdef inline Link read_ethernet(Cursor *c) noexcept nogil:
    """Read addresses, tags and SNAP, and leave the cursor at the payload."""
    cdef Link link = Link(0, 0, 0, 0)
    cdef uint32_t ether_type
    cdef const uint8_t *p = take(c, 14)
    cdef int tags = 0
    if p == NULL:
        link.is_truncated = 1
        return link
    ether_type = load16(p + 12)
    while is_tag(ether_type):
        p = take(c, 4) if tags < MOST_TAGS else NULL
        if p == NULL:
            link.is_truncated = 1
            return link
        if tags == 0:
            link.is_tagged = 1
            link.vlan_id = load16(p) & 0xFFF
        tags += 1
        ether_type = load16(p + 2)
    link.ether_type = <uint16_t>ether_type
    if ether_type < ETHER_LOWEST:
        p = take(c, 8)
        if p == NULL:
            link.is_truncated = 1
        elif is_snap(p):
            link.ether_type = load16(p + 6)
    return link


cdef inline void read_bridged(Packet *packet, Packet *inner, Cursor c) noexcept nogil:
    cdef Link link = read_ethernet(&c)
    packet.is_tagged = link.is_tagged
    packet.vlan_id = link.vlan_id
    packet.ether_type = link.ether_type
    if link.is_truncated:
        packet.flags |= TRUNCATED
    else:
        read_payload(packet, inner, c, link.ether_type, True)


cdef inline void read_payload(
    Packet *packet, Packet *inner, Cursor c, uint32_t ether_type, bint with_pseudowire
) noexcept nogil:
    cdef const uint8_t *p
    if ether_type == ETHER_IPV4:
        read_ipv4(packet, inner, c)
    elif ether_type == ETHER_IPV6:
        read_ipv6(packet, inner, c)
    elif ether_type == ETHER_MPLS or ether_type == ETHER_MPLS_UPSTREAM:
        read_labels(packet, inner, c, with_pseudowire)
    elif ether_type == ETHER_PPPOE:
        p = take(&c, 8)
        if p == NULL:
            packet.flags |= TRUNCATED
        else:
            read_ppp_payload(packet, inner, c, load16(p + 6))


cdef inline void read_ppp(Packet *packet, Packet *inner, Cursor c) noexcept nogil:
    cdef const uint8_t *p
    cdef uint32_t protocol
    if left(c) >= 2 and load16(c.at) == 0xFF03:      # RFC 1662: address and control field
        take(&c, 2)
    p = take(&c, 1)
    if p == NULL:
        packet.flags |= TRUNCATED
        return
    protocol = p[0]
    # An odd first octet is a compressed protocol field (RFC 1661, section 2); ff alone may be ff 03, cut.
    if left(c) == 0 and (protocol & 1 == 0 or protocol == 0xFF):
        packet.flags |= TRUNCATED
        return
    if protocol & 1 == 0:
        protocol = (protocol << 8) | take(&c, 1)[0]
    if protocol == PPP_MPLS:
        read_labels(packet, inner, c, True)
    else:
        read_ppp_payload(packet, inner, c, protocol)


cdef inline void read_ppp_payload(
    Packet *packet, Packet *inner, Cursor c, uint32_t protocol
) noexcept nogil:
    if protocol == PPP_IPV4:
        read_ipv4(packet, inner, c)
    elif protocol == PPP_IPV6:
        read_ipv6(packet, inner, c)


cdef inline void read_labels(
    Packet *packet, Packet *inner, Cursor c, bint with_pseudowire
) noexcept nogil:
    """Read a label stack (RFC 3032) and guess its payload from the first nibble (RFC 4928)."""
    cdef const uint8_t *p
    cdef uint32_t nibble
    cdef int depth = 0
    while True:
        p = take(&c, 4) if depth < MOST_LABELS else NULL
        if p == NULL:
            packet.flags |= TRUNCATED
            return
        packet.flags |= LABELLED
        depth += 1
        if p[2] & 1:                                 # bottom of stack
            break
    if left(c) == 0:
        packet.flags |= TRUNCATED
        return
    nibble = c.at[0] >> 4
    if nibble == 4:
        read_ipv4(packet, inner, c)
    elif nibble == 6:
        read_ipv6(packet, inner, c)
    elif with_pseudowire:
        read_pseudowire(packet, inner, c, nibble == 0)


cdef inline void read_pseudowire(
    Packet *packet, Packet *inner, Cursor c, bint has_control_word
) noexcept nogil:
    """Read an Ethernet pseudowire (RFC 4448); without a control word only where its payload is known."""
    cdef Link link
    if has_control_word and take(&c, 4) == NULL:
        packet.flags |= TRUNCATED
        return
    link = read_ethernet(&c)
    if not has_control_word and (link.is_truncated or not is_plausible(link.ether_type)):
        return
    if link.is_truncated:
        packet.flags |= TRUNCATED
    else:
        read_payload(packet, inner, c, link.ether_type, False)


cdef inline bint is_plausible(uint32_t ether_type) noexcept nogil:
    return (
        ether_type == ETHER_IPV4
        or ether_type == ETHER_IPV6
        or ether_type == ETHER_ARP
        or ether_type == ETHER_MPLS
        or ether_type == ETHER_MPLS_UPSTREAM
    )


# --- network layers ------------------------------------------------------------------------------------

cdef inline void read_ipv4(Packet *packet, Packet *inner, Cursor c) noexcept nogil:
    """Read RFC 791; options are skipped, octets behind the total length are link-layer padding."""
    cdef const uint8_t *p = c.at
    cdef size_t there = left(c)
    cdef size_t header, total
    if there < 20:
        packet.flags |= TRUNCATED
        return
    header = (p[0] & 15) * 4
    if p[0] >> 4 != 4 or header < 20:
        return
    packet.ip_version = 4
    packet.dscp = p[1] >> 2
    packet.protocol = p[9]
    packet.source_lo = load32(p + 12)
    packet.destination_lo = load32(p + 16)
    total = load16(p + 2)                            # 0: segmentation offload, not known
    if header <= total and total < there:
        c.end = p + total
    if load16(p + 6) & 0x1FFF:
        packet.flags |= FRAGMENT
    if take(&c, header) == NULL:
        packet.flags |= TRUNCATED
    elif not packet.flags & FRAGMENT:
        read_transport(packet, inner, c, p[9])


cdef inline void read_ipv6(Packet *packet, Packet *inner, Cursor c) noexcept nogil:
    """Read RFC 8200 with its extension headers."""
    cdef const uint8_t *p = take(&c, 40)
    cdef size_t length, size
    cdef uint32_t protocol
    cdef int depth = 0
    if p == NULL:
        packet.flags |= TRUNCATED
        return
    if p[0] >> 4 != 6:
        return
    packet.ip_version = 6
    packet.dscp = (load16(p) >> 6) & 63
    packet.source_hi = load64(p + 8)
    packet.source_lo = load64(p + 16)
    packet.destination_hi = load64(p + 24)
    packet.destination_lo = load64(p + 32)
    packet.protocol = p[6]
    protocol = p[6]
    length = load16(p + 4)                           # 0: a jumbogram or segmentation offload, not known
    if 0 < length and length < left(c):
        c.end = c.at + length
    while is_extension(protocol):
        p = c.at
        if left(c) < 8 or depth == MOST_EXTENSION_HEADERS:
            packet.flags |= TRUNCATED
            return
        depth += 1
        if protocol == IP_FRAGMENT:
            size = 8
        elif protocol == IP_AUTHENTICATION:
            size = (<size_t>p[1] + 2) * 4
        else:
            size = (<size_t>p[1] + 1) * 8
        if take(&c, size) == NULL:
            # The fragment header is never what does not fit: it is as short as the 8 octets above.
            packet.flags |= TRUNCATED
            return
        packet.protocol = p[0]
        if protocol == IP_FRAGMENT and load16(p + 2) & 0xFFF8:
            packet.flags |= FRAGMENT
            return
        protocol = p[0]
    read_transport(packet, inner, c, protocol)


cdef inline bint is_extension(uint32_t protocol) noexcept nogil:
    return (
        protocol == IP_HOP_BY_HOP
        or protocol == IP_ROUTING
        or protocol == IP_FRAGMENT
        or protocol == IP_AUTHENTICATION
        or protocol == IP_DESTINATION
        or protocol == IP_MOBILITY
        or protocol == IP_HIP
        or protocol == IP_SHIM6
    )


# --- transport layers and tunnels ----------------------------------------------------------------------

cdef inline void read_transport(
    Packet *packet, Packet *inner, Cursor c, uint32_t protocol
) noexcept nogil:
    cdef const uint8_t *p = c.at
    if protocol == IP_TCP:
        read_ports(packet, c)
        if left(c) >= 14:
            packet.tcp_flags = p[13]
        else:
            packet.flags |= TRUNCATED
    elif protocol == IP_UDP:
        read_ports(packet, c)
        if inner != NULL and take(&c, 8) != NULL:
            read_udp_tunnel(packet, inner, c)
    elif has_ports(protocol):
        read_ports(packet, c)
    elif protocol == IP_ICMP or protocol == IP_ICMPV6:
        if left(c) < 2:                              # type and code
            packet.flags |= TRUNCATED
    elif inner != NULL and left(c) > 0:
        read_ip_tunnel(inner, c, protocol)


cdef inline bint has_ports(uint32_t protocol) noexcept nogil:
    return (
        protocol == IP_TCP
        or protocol == IP_UDP
        or protocol == IP_SCTP
        or protocol == IP_DCCP
        or protocol == IP_UDP_LITE
    )


cdef inline void read_ports(Packet *packet, Cursor c) noexcept nogil:
    if left(c) < 4:
        packet.flags |= TRUNCATED
        return
    packet.source_port = load16(c.at)
    packet.destination_port = load16(c.at + 2)


cdef inline void read_ip_tunnel(Packet *inner, Cursor c, uint32_t protocol) noexcept nogil:
    if protocol == IP_IPV4:                          # RFC 2003
        read_ipv4(inner, NULL, c)
    elif protocol == IP_IPV6:                        # RFC 2473, RFC 4213
        read_ipv6(inner, NULL, c)
    elif protocol == IP_MPLS:                        # RFC 4023
        read_labels(inner, NULL, c, True)
    elif protocol == IP_GRE:
        read_gre(inner, c)


cdef inline void read_gre(Packet *inner, Cursor c) noexcept nogil:
    """Read RFC 2784 with the key and sequence number of RFC 2890."""
    cdef const uint8_t *p = take(&c, 4)
    cdef uint32_t flags, ether_type
    cdef size_t options
    if p == NULL:
        return
    flags = load16(p)
    ether_type = load16(p + 2)
    if flags & 0x4007:                               # source routing (RFC 1701), or another version
        return
    # checksum, key, sequence number: four octets each
    options = 4 * (((flags >> 15) & 1) + ((flags >> 13) & 1) + ((flags >> 12) & 1))
    if take(&c, options) == NULL:
        return
    if ether_type == ETHER_IPV4:
        read_ipv4(inner, NULL, c)
    elif ether_type == ETHER_IPV6:
        read_ipv6(inner, NULL, c)
    elif ether_type == ETHER_BRIDGED:
        read_bridged(inner, NULL, c)
    elif ether_type == ETHER_MPLS:
        read_labels(inner, NULL, c, True)


cdef inline void read_udp_tunnel(Packet *packet, Packet *inner, Cursor c) noexcept nogil:
    """Read VXLAN (RFC 7348) or GTP-U (3GPP TS 29.281) behind the UDP header."""
    cdef const uint8_t *p = take(&c, 8)
    if p == NULL:
        return
    if packet.destination_port == VXLAN_PORT or packet.destination_port == VXLAN_LINUX_PORT:
        if p[0] & 0x08:                              # the VNI is valid
            read_bridged(inner, NULL, c)
    elif packet.source_port == GTP_PORT or packet.destination_port == GTP_PORT:
        if p[0] >> 5 == GTP_VERSION and p[1] == GTP_TUNNELLED:
            read_gtp(inner, c, p[0])


cdef inline void read_gtp(Packet *inner, Cursor c, uint32_t flags) noexcept nogil:
    cdef const uint8_t *p
    cdef uint32_t extension = 0
    cdef size_t size
    if flags & 0x07:      # any of extension header, sequence number, N-PDU number: all four octets are there
        p = take(&c, 4)
        if p == NULL:
            return
        if flags & 0x04:
            extension = p[3]
    while extension:
        size = <size_t>c.at[0] * 4 if left(c) > 0 else 0
        if size == 0:
            return
        p = take(&c, size)
        if p == NULL:
            return
        extension = p[size - 1]
    if left(c) == 0:
        return
    if c.at[0] >> 4 == 4:
        read_ipv4(inner, NULL, c)
    elif c.at[0] >> 4 == 6:
        read_ipv6(inner, NULL, c)
