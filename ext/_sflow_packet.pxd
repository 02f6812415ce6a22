# The packet columns of a flow sample, from the record that tells most about the packet (header-only).
#
# The specification is find_packet in telemetryd/ingest/sflow/decode.py and the projection in columns.py.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from _columns cimport SampleColumns
from _cursor cimport Cursor, left, load16, load32, load64
from _dissect cimport (
    ETHER_IPV4,
    ETHER_IPV6,
    ETHER_TAG,
    HEADER_ETHERNET,
    IP_TCP,
    IP_UDP,
    LABELLED,
    Packet,
    dissect,
    has_ports,
)


cdef enum:
    LEAST_VLAN = 1
    MOST_VLAN = 4094
    FRAME_OVERHEAD = 18            # octets that an untagged Ethernet frame adds to its IP packet, with FCS

    NO_PACKET = 1                  # schema.SampleFlag; a test compares them
    DECAPSULATED = 16
    L3_LENGTH = 32


cdef struct FlowRecords:
    # The records that tell about the packet; pointers to the first complete one of each kind, or NULL.
    const uint8_t *header
    const uint8_t *ethernet
    const uint8_t *network
    const uint8_t *vlans           # extended_switch
    bint is_ipv6                   # of network


cdef inline void write_packet(
    const SampleColumns *columns, size_t row, const FlowRecords *found, uint32_t flags, bint decapsulate
) noexcept nogil:
    """Fill the packet columns from the record that tells most."""
    cdef Cursor header
    if found.header != NULL:
        header.at = found.header + 16
        header.end = header.at + load32(found.header + 12)
        if load32(found.header) != HEADER_ETHERNET or decapsulate or not write_common(
            columns, row, header, found, flags
        ):
            write_header(columns, row, header, found, flags, decapsulate)
    else:
        write_fields(columns, row, found, flags)


cdef inline bint write_common(
    const SampleColumns *columns, size_t row, Cursor c, const FlowRecords *found, uint32_t flags
) noexcept nogil:
    """Fill the packet columns of what nearly all samples are: Ethernet, at most one tag, IPv4 without options
    or IPv6, TCP or UDP with 14 octets. False where it is anything else; the row is then to be written again.

    Tags and protocols mix in a way that no branch prediction can guess, and a wrong guess costs as much as
    ten fields: so they shift and mask instead.
    """
    cdef const uint8_t *p = c.at
    cdef uint32_t ether_type, protocol, is_tagged
    if left(c) < 18 + 20 + 14:
        return False
    is_tagged = load16(p + 12) == ETHER_TAG
    ether_type = load16(p + 12 + 4 * is_tagged)
    columns.ether_type[row] = <uint16_t>ether_type
    columns.vlan_id[row] = choose_vlan(load16(p + 14) & 0xFFF, is_tagged, found)
    p += 14 + 4 * is_tagged
    if ether_type == ETHER_IPV4:
        # version and header length; fragment offset; total length
        if p[0] != 0x45 or load16(p + 6) & 0x1FFF or load16(p + 2) < 20 + 14:
            return False
        protocol = p[9]
        columns.dscp[row] = p[1] >> 2
        columns.ip_version[row] = 4
        columns.source_hi[row] = 0
        columns.source_lo[row] = load32(p + 12)
        columns.destination_hi[row] = 0
        columns.destination_lo[row] = load32(p + 16)
        p += 20
    elif ether_type == ETHER_IPV6:
        # version; payload length
        if left(c) < 18 + 40 + 14 or p[0] >> 4 != 6 or load16(p + 4) < 14:
            return False
        protocol = p[6]
        columns.dscp[row] = (load16(p) >> 6) & 63
        columns.ip_version[row] = 6
        columns.source_hi[row] = load64(p + 8)
        columns.source_lo[row] = load64(p + 16)
        columns.destination_hi[row] = load64(p + 24)
        columns.destination_lo[row] = load64(p + 32)
        p += 40
    else:
        return False
    if protocol > IP_UDP or not ((1 << IP_TCP | 1 << IP_UDP) >> protocol) & 1:
        return False
    columns.protocol[row] = <uint8_t>protocol
    columns.source_port[row] = load16(p)
    columns.destination_port[row] = load16(p + 2)
    columns.tcp_flags[row] = <uint8_t>(p[13] & (0 - <uint32_t>(protocol == IP_TCP)))
    columns.frame_length[row] = load32(found.header + 4)
    columns.flags[row] = <uint8_t>flags
    return True


cdef inline uint16_t choose_vlan(uint32_t tag, uint32_t is_tagged, const FlowRecords *found) noexcept nogil:
    """Return the VLAN of the outer tag, else src_vlan of extended_switch where that is one, else 0."""
    cdef uint32_t vlan_id = load32(found.vlans) if found.vlans != NULL else 0
    cdef uint32_t is_vlan = vlan_id - LEAST_VLAN <= MOST_VLAN - LEAST_VLAN
    return <uint16_t>((tag & (0 - is_tagged)) | (vlan_id & (0 - (is_vlan & (1 - is_tagged)))))


cdef inline void write_header(
    const SampleColumns *columns,
    size_t row,
    Cursor header,
    const FlowRecords *found,
    uint32_t flags,
    bint decapsulate,
) noexcept nogil:
    """Dissect a sampled_header of any kind."""
    cdef Packet packet
    cdef Packet inner
    cdef const Packet *ends = &packet
    memset(&packet, 0, sizeof(Packet))
    if decapsulate:
        memset(&inner, 0, sizeof(Packet))
        dissect(&packet, &inner, header, load32(found.header))
        if inner.ip_version:
            ends = &inner
            flags |= DECAPSULATED | (packet.flags & LABELLED)
    else:
        dissect(&packet, NULL, header, load32(found.header))
    store_packet(columns, row, &packet, ends, found, load32(found.header + 4), flags)


cdef inline void write_fields(
    const SampleColumns *columns, size_t row, const FlowRecords *found, uint32_t flags
) noexcept nogil:
    """Take the packet from sampled_ipv4 or sampled_ipv6 and sampled_ethernet, as far as they are there."""
    cdef Packet packet
    cdef uint32_t frame_length = 0
    memset(&packet, 0, sizeof(Packet))
    if found.network != NULL:
        read_sampled_ip(&packet, found.network, found.is_ipv6)
        if found.ethernet == NULL:
            frame_length = load32(found.network) + FRAME_OVERHEAD
            flags |= L3_LENGTH
    elif found.ethernet == NULL:
        flags |= NO_PACKET
    if found.ethernet != NULL:
        frame_length = load32(found.ethernet)
        if load32(found.ethernet + 20) <= 0xFFFF:
            packet.ether_type = load16(found.ethernet + 22)
    store_packet(columns, row, &packet, &packet, found, frame_length, flags)


cdef inline void store_packet(
    const SampleColumns *columns,
    size_t row,
    const Packet *frame,
    const Packet *ends,            # the packet whose addresses and ports are reported
    const FlowRecords *found,
    uint32_t frame_length,
    uint32_t flags,
) noexcept nogil:
    columns.vlan_id[row] = choose_vlan(frame.vlan_id, frame.is_tagged, found)
    columns.frame_length[row] = frame_length
    columns.flags[row] = <uint8_t>(flags | ends.flags)
    columns.ether_type[row] = frame.ether_type
    columns.source_hi[row] = ends.source_hi
    columns.source_lo[row] = ends.source_lo
    columns.destination_hi[row] = ends.destination_hi
    columns.destination_lo[row] = ends.destination_lo
    columns.ip_version[row] = ends.ip_version
    columns.protocol[row] = ends.protocol
    columns.dscp[row] = ends.dscp
    columns.tcp_flags[row] = ends.tcp_flags
    columns.source_port[row] = ends.source_port
    columns.destination_port[row] = ends.destination_port


cdef inline void read_sampled_ip(Packet *packet, const uint8_t *p, bint is_ipv6) noexcept nogil:
    """sampled_ipv4 or sampled_ipv6: length protocol src_ip dst_ip src_port dst_port tcp_flags tos."""
    cdef uint32_t protocol = load32(p + 4)
    if is_ipv6:
        packet.ip_version = 6
        packet.source_hi = load64(p + 8)
        packet.source_lo = load64(p + 16)
        packet.destination_hi = load64(p + 24)
        packet.destination_lo = load64(p + 32)
        p += 40
    else:
        packet.ip_version = 4
        packet.source_lo = load32(p + 8)
        packet.destination_lo = load32(p + 12)
        p += 16
    packet.dscp = (p[15] >> 2) & 63
    if protocol > 255:
        return
    packet.protocol = <uint8_t>protocol
    if has_ports(protocol):
        packet.source_port = load16(p + 2)
        packet.destination_port = load16(p + 6)
    if protocol == IP_TCP:
        packet.tcp_flags = p[11]
