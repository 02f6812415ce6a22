# From the octets of one captured packet to its UDP payload (header-only); the compiled side of
# telemetryd/ingest/capture_packet.py, which specifies it.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from _cursor cimport Cursor, left, load16, load32, load64, take

# telemetryd.ingest.capture_codes.Skip, in its order; FOUND and FRAGMENT are only used in here
cdef enum:
    FOUND = -1
    FRAGMENT = -2
    SKIP_UNSUPPORTED_LINK_TYPE = 0
    SKIP_UNKNOWN_INTERFACE = 1
    SKIP_SHORT_PACKET = 2
    SKIP_NOT_IP = 3
    SKIP_BAD_IP_HEADER = 4
    SKIP_NOT_UDP = 5
    SKIP_BAD_UDP_LENGTH = 6
    SKIP_OTHER_PORT = 7
    SKIP_NOT_SFLOW = 8
    SKIP_BAD_FRAGMENT = 9
    SKIP_FRAGMENT_TRUNCATED = 10
    SKIP_FRAGMENT_TIMEOUT = 11
    SKIP_FRAGMENT_EVICTED = 12
    SKIP_FRAGMENT_INCOMPLETE = 13
    SKIP_REASONS = 14

# https://www.tcpdump.org/linktypes.html
cdef enum:
    LINK_NULL = 0
    LINK_ETHERNET = 1
    LINK_RAW_BSD = 12
    LINK_RAW_OPENBSD = 14
    LINK_RAW = 101
    LINK_LOOP = 108
    LINK_LINUX_SLL = 113
    LINK_IPV4 = 228
    LINK_IPV6 = 229
    LINK_LINUX_SLL2 = 276

cdef enum:
    ETHER_TYPE_IPV4 = 0x0800
    ETHER_TYPE_IPV6 = 0x86DD
    ETHER_TYPE_8021Q = 0x8100
    ETHER_TYPE_8021AD = 0x88A8
    ETHER_TYPE_QINQ_9100 = 0x9100
    ETHER_TYPE_QINQ_9200 = 0x9200
    ETHERNET_HEADER = 14
    SLL_HEADER = 16
    SLL2_HEADER = 20
    LOOPBACK_HEADER = 4
    VLAN_TAG = 4
    MOST_VLAN_TAGS = 8
    IPV4_HEADER = 20
    IPV6_HEADER = 40
    UDP_HEADER = 8
    PROTOCOL_UDP = 17
    LEAST_EXTENSION_HEADER = 8
    EXTENSION_HOP_BY_HOP = 0
    EXTENSION_ROUTING = 43
    EXTENSION_FRAGMENT = 44
    EXTENSION_AUTHENTICATION = 51
    EXTENSION_DESTINATION = 60
    EXTENSION_MOBILITY = 135
    EXTENSION_HIP = 139
    EXTENSION_SHIM6 = 140
    MOST_EXTENSION_HEADERS = 8
    SFLOW_VERSION = 5
    SFLOW_LEAST_SAMPLE = 8


cdef struct Packet:
    uint64_t source_hi
    uint64_t source_lo
    const uint8_t *payload
    uint32_t length            # octets of the UDP payload that were captured
    bint truncated             # the UDP header states more than that
    uint8_t version
    # of an IP fragment
    uint64_t destination_hi
    uint64_t destination_lo
    uint32_t identification
    uint32_t fragment_offset   # octets
    uint32_t fragment_length   # octets, as the IP header states
    bint more_fragments
    uint8_t next_header
    Cursor fragment            # what was captured of it


cdef inline bint is_vlan_tag(uint32_t ether_type) noexcept nogil:
    return (
        ether_type == ETHER_TYPE_8021Q
        or ether_type == ETHER_TYPE_8021AD
        or ether_type == ETHER_TYPE_QINQ_9100
        or ether_type == ETHER_TYPE_QINQ_9200
    )


cdef inline bint is_extension_header(uint32_t next_header) noexcept nogil:
    return (
        next_header == EXTENSION_HOP_BY_HOP
        or next_header == EXTENSION_ROUTING
        or next_header == EXTENSION_DESTINATION
        or next_header == EXTENSION_AUTHENTICATION
        or next_header == EXTENSION_MOBILITY
        or next_header == EXTENSION_HIP
        or next_header == EXTENSION_SHIM6
    )


cdef inline bint starts_like_sflow(Cursor cursor, uint32_t stated) noexcept nogil:
    """Version 5, a known type of agent address, no more samples than `stated` octets have room for."""
    cdef const uint8_t *p = take(&cursor, 8)
    cdef uint32_t address_type, rest
    if p == NULL or load32(p) != SFLOW_VERSION:
        return False
    address_type = load32(p + 4)
    if address_type > 2:
        return False
    # address, sub-agent, sequence number, uptime, number of samples
    rest = 16 + (0 if address_type == 0 else 4 if address_type == 1 else 16)
    p = take(&cursor, rest)
    if p == NULL:
        return False
    return <uint64_t>load32(p + rest - 4) * SFLOW_LEAST_SAMPLE <= stated - 8 - rest


cdef inline int read_udp(Cursor cursor, int64_t port, Packet *packet) noexcept nogil:
    """RFC 768; with port -1 every payload that starts like an sFlow v5 datagram is taken."""
    cdef const uint8_t *p = take(&cursor, UDP_HEADER)
    cdef uint32_t stated
    if p == NULL:
        return SKIP_SHORT_PACKET
    stated = load16(p + 4)
    if stated < UDP_HEADER:
        return SKIP_BAD_UDP_LENGTH
    if port >= 0 and load16(p + 2) != port:
        return SKIP_OTHER_PORT
    stated -= UDP_HEADER
    packet.truncated = stated > left(cursor)
    if not packet.truncated:
        cursor.end = cursor.at + stated
    if port < 0 and not starts_like_sflow(cursor, stated):
        return SKIP_NOT_SFLOW
    packet.payload = cursor.at
    packet.length = <uint32_t>left(cursor)
    return FOUND


cdef inline int read_ipv6_chain(
    Cursor cursor, uint32_t next_header, int64_t port, Packet *packet
) noexcept nogil:
    """RFC 8200 section 4: walk the extension headers to UDP or to the fragment header."""
    cdef const uint8_t *p
    cdef uint32_t word, kind, length
    cdef int _depth
    for _depth in range(MOST_EXTENSION_HEADERS):
        kind = next_header
        if kind != EXTENSION_FRAGMENT and not is_extension_header(kind):
            break
        p = take(&cursor, LEAST_EXTENSION_HEADER)
        if p == NULL:
            return SKIP_SHORT_PACKET
        next_header = p[0]
        if kind == EXTENSION_FRAGMENT:
            word = load16(p + 2)
            if word & 0xFFF9 == 0:
                continue   # an atomic fragment (RFC 6946) is a whole packet
            packet.next_header = <uint8_t>next_header
            packet.fragment_offset = word & 0xFFF8
            packet.more_fragments = word & 1
            packet.identification = load32(p + 4)
            packet.fragment = cursor
            return FRAGMENT
        if kind == EXTENSION_AUTHENTICATION:
            length = (<uint32_t>p[1] + 2) * 4
        else:
            length = (<uint32_t>p[1] + 1) * 8
        if take(&cursor, length - LEAST_EXTENSION_HEADER) == NULL:
            return SKIP_SHORT_PACKET
    if next_header != PROTOCOL_UDP:
        return SKIP_NOT_UDP
    return read_udp(cursor, port, packet)


cdef inline int read_ipv4(Cursor cursor, int64_t port, Packet *packet) noexcept nogil:
    """RFC 791. Octets after the total length are padding; 0 there is segmentation offload."""
    cdef const uint8_t *p = take(&cursor, IPV4_HEADER)
    cdef uint32_t header, total, word
    if p == NULL:
        return SKIP_SHORT_PACKET
    header = (p[0] & 0x0F) * 4
    total = load16(p + 2)
    if p[0] >> 4 != 4 or header < IPV4_HEADER or (total != 0 and total < header):
        return SKIP_BAD_IP_HEADER
    if p[9] != PROTOCOL_UDP:
        return SKIP_NOT_UDP
    if take(&cursor, header - IPV4_HEADER) == NULL:
        return SKIP_SHORT_PACKET
    packet.version = 4
    packet.source_hi = 0
    packet.source_lo = load32(p + 12)
    word = load16(p + 6)
    if word & 0x3FFF:
        packet.destination_hi = 0
        packet.destination_lo = load32(p + 16)
        packet.identification = load16(p + 4)
        packet.fragment_offset = (word & 0x1FFF) * 8
        packet.more_fragments = word & 0x2000 != 0
        packet.fragment_length = total - header if total else 0
        packet.next_header = PROTOCOL_UDP
        packet.fragment = cursor
        return FRAGMENT
    if total != 0 and total - header < left(cursor):
        cursor.end = cursor.at + (total - header)
    return read_udp(cursor, port, packet)


cdef inline int read_ipv6(Cursor cursor, int64_t port, Packet *packet) noexcept nogil:
    """RFC 8200 section 3. A payload length of 0 is a jumbogram or segmentation offload: all there is."""
    cdef const uint8_t *p = take(&cursor, IPV6_HEADER)
    cdef uint32_t stated
    cdef size_t headers
    cdef int found
    if p == NULL:
        return SKIP_SHORT_PACKET
    if p[0] >> 4 != 6:
        return SKIP_BAD_IP_HEADER
    packet.version = 6
    packet.source_hi = load64(p + 8)
    packet.source_lo = load64(p + 16)
    stated = load16(p + 4)
    if stated != 0 and stated < left(cursor):
        cursor.end = cursor.at + stated
    found = read_ipv6_chain(cursor, p[6], port, packet)
    if found == FRAGMENT:
        packet.destination_hi = load64(p + 24)
        packet.destination_lo = load64(p + 32)
        headers = left(cursor) - left(packet.fragment)
        packet.fragment_length = stated - <uint32_t>headers if stated > headers else 0
    return found


cdef inline int read_ip(Cursor cursor, int version, int64_t port, Packet *packet) noexcept nogil:
    if version == 4:
        return read_ipv4(cursor, port, packet)
    if version == 6:
        return read_ipv6(cursor, port, packet)
    return SKIP_NOT_IP


cdef inline int read_ether_type(
    Cursor cursor, uint32_t ether_type, int64_t port, Packet *packet
) noexcept nogil:
    """Skip 802.1Q and 802.1ad tags, at most MOST_VLAN_TAGS of them, and hand on to IP."""
    cdef const uint8_t *p
    cdef int tags = 0
    while is_vlan_tag(ether_type):
        if tags == MOST_VLAN_TAGS:
            return SKIP_NOT_IP
        p = take(&cursor, VLAN_TAG)
        if p == NULL:
            return SKIP_SHORT_PACKET
        ether_type = load16(p + 2)
        tags += 1
    if ether_type == ETHER_TYPE_IPV4:
        return read_ipv4(cursor, port, packet)
    return read_ip(cursor, 6 if ether_type == ETHER_TYPE_IPV6 else 0, port, packet)


cdef inline int read_loopback(Cursor cursor, int64_t port, Packet *packet) noexcept nogil:
    """BSD loopback: the address family in the order of whoever captured (NULL) or of the network (LOOP)."""
    cdef const uint8_t *p = take(&cursor, LOOPBACK_HEADER)
    cdef uint32_t family
    if p == NULL:
        return SKIP_SHORT_PACKET
    family = load32(p)
    if family > 0xFFFF:
        family = <uint32_t>p[3] << 24 | <uint32_t>p[2] << 16 | <uint32_t>p[1] << 8 | p[0]
    if family == 2:
        return read_ipv4(cursor, port, packet)
    # AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, Darwin
    if family == 10 or family == 24 or family == 28 or family == 30:
        return read_ipv6(cursor, port, packet)
    return SKIP_NOT_IP


cdef inline int read_link(Cursor cursor, uint32_t link_type, int64_t port, Packet *packet) noexcept nogil:
    """Find the UDP payload behind a link-layer header: FOUND, FRAGMENT or the reason to skip the packet."""
    cdef const uint8_t *p
    cdef uint32_t header, ether_type
    if link_type == LINK_ETHERNET:
        header = ETHERNET_HEADER
        ether_type = 12
    elif link_type == LINK_LINUX_SLL:
        header = SLL_HEADER
        ether_type = 14
    elif link_type == LINK_LINUX_SLL2:
        header = SLL2_HEADER
        ether_type = 0
    elif link_type == LINK_NULL or link_type == LINK_LOOP:
        return read_loopback(cursor, port, packet)
    elif (
        link_type == LINK_RAW
        or link_type == LINK_IPV4
        or link_type == LINK_IPV6
        or link_type == LINK_RAW_BSD
        or link_type == LINK_RAW_OPENBSD
    ):
        if left(cursor) == 0:
            return SKIP_SHORT_PACKET
        return read_ip(cursor, cursor.at[0] >> 4, port, packet)
    else:
        return SKIP_UNSUPPORTED_LINK_TYPE
    p = take(&cursor, header)
    if p == NULL:
        return SKIP_SHORT_PACKET
    return read_ether_type(cursor, load16(p + ether_type), port, packet)
