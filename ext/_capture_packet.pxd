# Header-only: from the octets of one captured packet to its UDP payload. Shared by nothing but capture.pyx;
# apart from it because the file formats and the packet layers have nothing to do with each other.
#
# Every function takes `end`, the first octet it must not touch, and compares lengths before it reads.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

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
    const uint8_t* payload
    uint32_t length            # octets of the UDP payload that were captured
    bint truncated             # the UDP header states more than that
    uint8_t version
    # set when the packet is an IP fragment
    uint64_t destination_hi
    uint64_t destination_lo
    uint32_t identification
    uint32_t fragment_offset   # octets
    uint32_t fragment_length   # octets, as the IP header states
    bint more_fragments
    uint8_t next_header
    const uint8_t* fragment


cdef inline uint32_t be16(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0] << 8) | p[1]


cdef inline uint32_t be32(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint64_t be64(const uint8_t* p) noexcept nogil:
    return (<uint64_t>be32(p) << 32) | be32(p + 4)


cdef inline uint32_t le16(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[1] << 8) | p[0]


cdef inline uint32_t le32(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[3] << 24) | (<uint32_t>p[2] << 16) | (<uint32_t>p[1] << 8) | p[0]


cdef inline uint64_t le64(const uint8_t* p) noexcept nogil:
    return (<uint64_t>le32(p + 4) << 32) | le32(p)


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


cdef inline int read_udp(const uint8_t* p, const uint8_t* end, int64_t port, Packet* packet) noexcept nogil:
    """RFC 768; with port -1 every payload that starts like an sFlow v5 datagram is taken."""
    cdef uint32_t stated, left, length, address_type, header
    if end - p < UDP_HEADER:
        return SKIP_SHORT_PACKET
    stated = be16(p + 4)
    if stated < UDP_HEADER:
        return SKIP_BAD_UDP_LENGTH
    if port >= 0 and be16(p + 2) != port:
        return SKIP_OTHER_PORT
    stated -= UDP_HEADER
    p += UDP_HEADER
    left = <uint32_t>(end - p)
    length = stated if stated < left else left
    packet.payload = p
    packet.length = length
    packet.truncated = stated > left
    if port < 0:
        if length < 8 or be32(p) != SFLOW_VERSION:
            return SKIP_NOT_SFLOW
        address_type = be32(p + 4)
        if address_type > 2:
            return SKIP_NOT_SFLOW
        # version, address type, address, sub-agent, sequence number, uptime, number of samples
        header = 24 + (0 if address_type == 0 else 4 if address_type == 1 else 16)
        if length < header or <uint64_t>be32(p + header - 4) * SFLOW_LEAST_SAMPLE > stated - header:
            return SKIP_NOT_SFLOW
    return FOUND


cdef inline int read_ipv6_chain(
    const uint8_t* p, const uint8_t* end, uint32_t next_header, int64_t port, Packet* packet
) noexcept nogil:
    """RFC 8200 section 4: walk the extension headers to UDP or to the fragment header."""
    cdef uint32_t word
    cdef Py_ssize_t length
    cdef int depth
    for depth in range(MOST_EXTENSION_HEADERS + 1):
        if next_header == PROTOCOL_UDP:
            return read_udp(p, end, port, packet)
        if depth == MOST_EXTENSION_HEADERS:
            break
        if next_header == EXTENSION_FRAGMENT:
            if end - p < 8:
                return SKIP_SHORT_PACKET
            word = be16(p + 2)
            next_header = p[0]
            if word & 0xFFF9:
                packet.next_header = <uint8_t>next_header
                packet.fragment_offset = word & 0xFFF8
                packet.more_fragments = word & 1
                packet.identification = be32(p + 4)
                packet.fragment = p + 8
                return FRAGMENT
            p += 8   # an atomic fragment (RFC 6946) is a whole packet
        elif is_extension_header(next_header):
            if end - p < 8:
                return SKIP_SHORT_PACKET
            if next_header == EXTENSION_AUTHENTICATION:
                length = (<Py_ssize_t>p[1] + 2) * 4
            else:
                length = (<Py_ssize_t>p[1] + 1) * 8
            if end - p < length:
                return SKIP_SHORT_PACKET
            next_header = p[0]
            p += length
        else:
            break
    return SKIP_NOT_UDP


cdef inline int read_ipv4(const uint8_t* p, const uint8_t* end, int64_t port, Packet* packet) noexcept nogil:
    """RFC 791. Octets after the total length are padding; a total length of 0 is segmentation offload."""
    cdef uint32_t header, total, word
    if end - p < IPV4_HEADER:
        return SKIP_SHORT_PACKET
    header = (p[0] & 0x0F) * 4
    total = be16(p + 2)
    if p[0] >> 4 != 4 or header < IPV4_HEADER or (total != 0 and total < header):
        return SKIP_BAD_IP_HEADER
    if p[9] != PROTOCOL_UDP:
        return SKIP_NOT_UDP
    if end - p < header:
        return SKIP_SHORT_PACKET
    packet.version = 4
    packet.source_hi = 0
    packet.source_lo = be32(p + 12)
    word = be16(p + 6)
    if word & 0x3FFF:
        packet.destination_hi = 0
        packet.destination_lo = be32(p + 16)
        packet.identification = be16(p + 4)
        packet.fragment_offset = (word & 0x1FFF) * 8
        packet.more_fragments = word & 0x2000 != 0
        packet.fragment_length = total - header if total else 0
        packet.next_header = PROTOCOL_UDP
        packet.fragment = p + header
        return FRAGMENT
    if total != 0 and total < end - p:
        end = p + total
    return read_udp(p + header, end, port, packet)


cdef inline int read_ipv6(const uint8_t* p, const uint8_t* end, int64_t port, Packet* packet) noexcept nogil:
    """RFC 8200 section 3. A payload length of 0 is a jumbogram or segmentation offload: all that is there."""
    cdef uint32_t stated
    cdef const uint8_t* captured = end
    cdef int found
    if end - p < IPV6_HEADER:
        return SKIP_SHORT_PACKET
    if p[0] >> 4 != 6:
        return SKIP_BAD_IP_HEADER
    packet.version = 6
    packet.source_hi = be64(p + 8)
    packet.source_lo = be64(p + 16)
    stated = be16(p + 4)
    if stated != 0 and IPV6_HEADER + stated < captured - p:
        end = p + IPV6_HEADER + stated
    found = read_ipv6_chain(p + IPV6_HEADER, end, p[6], port, packet)
    if found == FRAGMENT:
        packet.destination_hi = be64(p + 24)
        packet.destination_lo = be64(p + 32)
        packet.fragment_length = 0
        if stated != 0 and IPV6_HEADER + stated > packet.fragment - p:
            packet.fragment_length = <uint32_t>(IPV6_HEADER + stated - (packet.fragment - p))
    return found


cdef inline int read_ether_type(
    const uint8_t* p, const uint8_t* end, uint32_t ether_type, int64_t port, Packet* packet
) noexcept nogil:
    """Skip 802.1Q and 802.1ad tags, at most MOST_VLAN_TAGS of them, and hand on to IP."""
    cdef int tags = 0
    while is_vlan_tag(ether_type):
        if tags == MOST_VLAN_TAGS:
            return SKIP_NOT_IP
        if end - p < VLAN_TAG:
            return SKIP_SHORT_PACKET
        ether_type = be16(p + 2)
        p += VLAN_TAG
        tags += 1
    if ether_type == ETHER_TYPE_IPV4:
        return read_ipv4(p, end, port, packet)
    if ether_type == ETHER_TYPE_IPV6:
        return read_ipv6(p, end, port, packet)
    return SKIP_NOT_IP


cdef inline int read_raw_ip(const uint8_t* p, const uint8_t* end, int64_t port, Packet* packet) noexcept nogil:
    if end == p:
        return SKIP_SHORT_PACKET
    if p[0] >> 4 == 4:
        return read_ipv4(p, end, port, packet)
    if p[0] >> 4 == 6:
        return read_ipv6(p, end, port, packet)
    return SKIP_NOT_IP


cdef inline int read_loopback(const uint8_t* p, const uint8_t* end, int64_t port, Packet* packet) noexcept nogil:
    """BSD loopback: four octets of address family in the order of whoever captured (NULL) or of the network (LOOP)."""
    cdef uint32_t family
    if end - p < LOOPBACK_HEADER:
        return SKIP_SHORT_PACKET
    family = be32(p)
    if family > 0xFFFF:
        family = le32(p)
    p += LOOPBACK_HEADER
    if family == 2:
        return read_ipv4(p, end, port, packet)
    # AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, Darwin
    if family == 10 or family == 24 or family == 28 or family == 30:
        return read_ipv6(p, end, port, packet)
    return SKIP_NOT_IP


cdef inline int read_link(
    const uint8_t* p, const uint8_t* end, uint32_t link_type, int64_t port, Packet* packet
) noexcept nogil:
    """Find the UDP payload behind a link-layer header: FOUND, FRAGMENT or the reason to skip the packet."""
    if link_type == LINK_ETHERNET:
        if end - p < ETHERNET_HEADER:
            return SKIP_SHORT_PACKET
        return read_ether_type(p + ETHERNET_HEADER, end, be16(p + 12), port, packet)
    if link_type == LINK_LINUX_SLL:
        if end - p < SLL_HEADER:
            return SKIP_SHORT_PACKET
        return read_ether_type(p + SLL_HEADER, end, be16(p + 14), port, packet)
    if link_type == LINK_LINUX_SLL2:
        if end - p < SLL2_HEADER:
            return SKIP_SHORT_PACKET
        return read_ether_type(p + SLL2_HEADER, end, be16(p), port, packet)
    if link_type == LINK_NULL or link_type == LINK_LOOP:
        return read_loopback(p, end, port, packet)
    if (
        link_type == LINK_RAW
        or link_type == LINK_IPV4
        or link_type == LINK_IPV6
        or link_type == LINK_RAW_BSD
        or link_type == LINK_RAW_OPENBSD
    ):
        return read_raw_ip(p, end, port, packet)
    return SKIP_UNSUPPORTED_LINK_TYPE
