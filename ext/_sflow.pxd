# sFlow version 5, from the octets of a datagram to columns: what the compiled decoder runs (header-only).
#
#   datagram  version agent_address sub_agent_id sequence_number uptime count  sample*      (section 5)
#   sample    data_format length { fixed part, count, record* }
#   record    data_format length { fields }
#
# The specification is the detail decoder (telemetryd/ingest/sflow/decode.py), projected to the columns of
# telemetryd/schema.py by telemetryd/ingest/sflow/columns.py. Only what feeds a column is read: sampled_header,
# sampled_ethernet, sampled_ipv4, sampled_ipv6 and extended_switch of flow samples, if_counters of counters
# samples; other structures are stepped over by their length. Every level is a cursor of its own, cut to its
# length, so that a lie ends where it was told.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from _columns cimport CounterColumns, DatagramColumns, SampleColumns
from _cursor cimport Cursor, left, load16, load32, load64, prefetch, take
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
from _tags cimport TagTable, count_tag, has_tag


cdef enum Fault:                   # reasons.Reason; a test compares them
    SOUND = 0
    DATAGRAM_SHORT = 1
    VERSION_UNSUPPORTED = 2
    AGENT_ADDRESS_TYPE = 3
    SAMPLE_OVERRUN = 4
    SAMPLE_LENGTH = 5
    SAMPLE_SHORT = 6
    RECORD_OVERRUN = 7
    RECORD_LENGTH = 8
    RECORD_SHORT = 9
    FAULTS = 10


cdef enum:
    VERSION = 5
    ADDRESS_UNKNOWN = 0
    ADDRESS_IPV4 = 1
    ADDRESS_IPV6 = 2

    FLOW_SAMPLE = 1                # sample types of enterprise 0
    COUNTERS_SAMPLE = 2
    FLOW_SAMPLE_EXPANDED = 3
    COUNTERS_SAMPLE_EXPANDED = 4
    DISCARDED_PACKET = 5

    SAMPLED_HEADER = 1             # flow records of enterprise 0
    SAMPLED_ETHERNET = 2
    SAMPLED_IPV4 = 3
    SAMPLED_IPV6 = 4
    EXTENDED_SWITCH = 1001

    IF_COUNTERS = 1                # counter record of enterprise 0

    LEAST_VLAN = 1
    MOST_VLAN = 4094
    FRAME_OVERHEAD = 18            # octets that an untagged Ethernet frame adds to its IP packet, with FCS

    NO_PACKET = 1                  # schema.SampleFlag; a test compares them
    DECAPSULATED = 16
    L3_LENGTH = 32
    EXPANDED = 64

    LARGEST_DATAGRAM = 65535       # limits.py; a test compares them
    LEAST_FLOW_SAMPLE = 40
    LEAST_IF_COUNTERS = 96
    DROP_REASONS = 512
    UNKNOWN_KEPT = 256

    # A flow sample is some three cache lines; those of ten samples later are asked for. The hardware's own
    # prefetching alone costs 4 ns a sample more.
    AHEAD = 2048
    LINE = 64


cdef struct Core:
    # Everything the loop touches; no Python object in it.
    DatagramColumns datagrams
    SampleColumns samples
    CounterColumns counters
    size_t datagrams_capacity
    size_t samples_capacity
    size_t counters_capacity
    size_t n_datagrams             # rows written by this call
    size_t n_samples
    size_t n_counters
    bint decapsulate
    TagTable known_samples         # data_format words of the table of structures
    TagTable known_flow_records
    TagTable known_counter_records
    TagTable unknown_samples
    TagTable unknown_records
    uint64_t other_unknown_samples # those for which the table had no place
    uint64_t other_unknown_records
    uint64_t consumed              # datagrams, sound or not
    uint64_t octets
    uint64_t flow_samples
    uint64_t counters_samples
    uint64_t drops[DROP_REASONS]   # discarded_packet samples by reason
    uint64_t faults[FAULTS]


cdef struct Item:
    # A sample or a record: its data_format and the octets of its length.
    uint32_t tag
    Cursor body


cdef struct FlowRecords:
    # The records that tell about the packet; pointers to the first complete one of each kind, or NULL.
    const uint8_t *header
    const uint8_t *ethernet
    const uint8_t *network
    const uint8_t *vlans           # extended_switch
    bint is_ipv6                   # of network


cdef inline void count_fault(Core *core, Fault fault) noexcept nogil:
    core.faults[<int>fault] += 1


# --- the three levels ----------------------------------------------------------------------------------

cdef inline bint next_item(Core *core, Cursor *c, Item *item, Fault overrun, Fault length_fault) noexcept nogil:
    """Cut the next sample or record off the cursor and step over it; False where it does not fit."""
    cdef const uint8_t *p = take(c, 8)
    cdef uint64_t words
    cdef size_t length
    if p == NULL:
        count_fault(core, overrun)
        return False
    words = load64(p)
    item.tag = <uint32_t>(words >> 32)
    length = <uint32_t>words
    item.body.at = take(c, length)
    if item.body.at == NULL:
        count_fault(core, overrun)
        return False
    item.body.end = c.at
    if length & 3:
        count_fault(core, length_fault)
        take(c, min(4 - (length & 3), left(c[0])))
    return True


cdef inline void read_datagram(Core *core, Cursor c, int64_t ts_ns) noexcept nogil:
    cdef DatagramColumns *columns = &core.datagrams
    cdef size_t row = core.n_datagrams
    cdef const uint8_t *p = take(&c, 4)
    cdef const uint8_t *address
    cdef uint32_t kind, count
    cdef uint64_t is_ipv6, low
    cdef size_t octets
    cdef Item item
    if p == NULL:
        count_fault(core, DATAGRAM_SHORT)
        return
    if load32(p) != VERSION:
        count_fault(core, VERSION_UNSUPPORTED)
        return
    p = take(&c, 4)
    if p == NULL:
        count_fault(core, DATAGRAM_SHORT)
        return
    kind = load32(p)
    if kind > ADDRESS_IPV6:
        count_fault(core, AGENT_ADDRESS_TYPE)
        return
    octets = (0x100400 >> (8 * kind)) & 0xFF         # 0, 4 or 16
    address = take(&c, octets)
    p = take(&c, 16) if address != NULL else NULL
    if p == NULL:
        count_fault(core, DATAGRAM_SHORT)
        return
    # The 16 octets behind the address were checked with it, so that eight may be loaded of any address;
    # versions mix, so that masks are better than branches.
    is_ipv6 = kind == ADDRESS_IPV6
    low = load64(address + 8 * is_ipv6) >> (32 - 32 * is_ipv6)
    columns.ts_ns[row] = ts_ns
    columns.agent_hi[row] = load64(address) & (0 - is_ipv6)
    columns.agent_lo[row] = low & (0 - <uint64_t>(kind != ADDRESS_UNKNOWN))
    columns.agent_version[row] = <uint8_t>((0x060400 >> (8 * kind)) & 0xFF)
    columns.sub_agent_id[row] = load32(p)
    columns.sequence_number[row] = load32(p + 4)
    columns.uptime[row] = load32(p + 8)
    core.n_datagrams = row + 1
    count = load32(p + 12)
    # Every turn takes eight octets or ends the loop, whatever the count claims.
    while count:
        count -= 1
        if not next_item(core, &c, &item, SAMPLE_OVERRUN, SAMPLE_LENGTH):
            return
        read_sample(core, item, <uint32_t>row)


cdef inline void read_sample(Core *core, Item item, uint32_t datagram) noexcept nogil:
    """Read one sample; a flow sample is a row, in either of its forms."""
    cdef Cursor c = item.body
    cdef const uint8_t *p
    cdef uint32_t count
    cdef uint32_t flags = 0
    prefetch(c.at, AHEAD)
    prefetch(c.at, AHEAD + LINE)
    prefetch(c.at, AHEAD + 2 * LINE)
    if item.tag == FLOW_SAMPLE:
        p = take(&c, 32)
        if p == NULL:
            count_fault(core, SAMPLE_SHORT)
            return
        write_sample(&core.samples, core.n_samples, p)
        count = load32(p + 28)
    elif item.tag == FLOW_SAMPLE_EXPANDED:
        p = take(&c, 44)
        if p == NULL:
            count_fault(core, SAMPLE_SHORT)
            return
        write_sample_expanded(&core.samples, core.n_samples, p)
        count = load32(p + 40)
        flags = EXPANDED
    else:
        read_other_sample(core, item, datagram)
        return
    core.samples.datagram[core.n_samples] = datagram
    cdef FlowRecords found = read_flow_records(core, c, count)
    write_packet(core, core.n_samples, &found, flags)
    core.n_samples += 1


cdef inline void write_sample(const SampleColumns *columns, size_t row, const uint8_t *p) noexcept nogil:
    """sequence_number source_id sampling_rate sample_pool drops input output flow_records<>"""
    cdef uint32_t source = load32(p + 4)
    cdef uint32_t input_ = load32(p + 20)
    cdef uint32_t output = load32(p + 24)
    columns.sequence_number[row] = load32(p)
    columns.source_class[row] = source >> 24
    columns.source_index[row] = source & 0xFFFFFF
    columns.sampling_rate[row] = load32(p + 8)
    columns.sample_pool[row] = load32(p + 12)
    columns.drops[row] = load32(p + 16)
    columns.input_format[row] = input_ >> 30
    columns.input[row] = input_ & 0x3FFFFFFF
    columns.output_format[row] = output >> 30
    columns.output[row] = output & 0x3FFFFFFF


cdef inline void write_sample_expanded(
    const SampleColumns *columns, size_t row, const uint8_t *p
) noexcept nogil:
    """The same with two words each for source_id, input and output."""
    columns.sequence_number[row] = load32(p)
    columns.source_class[row] = load32(p + 4)
    columns.source_index[row] = load32(p + 8)
    columns.sampling_rate[row] = load32(p + 12)
    columns.sample_pool[row] = load32(p + 16)
    columns.drops[row] = load32(p + 20)
    columns.input_format[row] = <uint8_t>min(load32(p + 24), 255)
    columns.input[row] = load32(p + 28)
    columns.output_format[row] = <uint8_t>min(load32(p + 32), 255)
    columns.output[row] = load32(p + 36)


cdef inline void read_other_sample(Core *core, Item item, uint32_t datagram) noexcept nogil:
    cdef bint is_sound = True
    if item.tag == COUNTERS_SAMPLE or item.tag == COUNTERS_SAMPLE_EXPANDED:
        is_sound = read_counters_sample(core, item.body, datagram, item.tag == COUNTERS_SAMPLE_EXPANDED)
    elif item.tag == DISCARDED_PACKET:
        is_sound = read_discarded_packet(core, item.body)
    elif not has_tag(&core.known_samples, item.tag):
        if not count_tag(&core.unknown_samples, item.tag, UNKNOWN_KEPT):
            core.other_unknown_samples += 1
    if not is_sound:
        count_fault(core, SAMPLE_SHORT)


cdef inline bint read_discarded_packet(Core *core, Cursor c) noexcept nogil:
    """sequence_number source_id drops inputifindex outputifindex reason discard_records<>: no row."""
    cdef const uint8_t *p = take(&c, 32)
    cdef uint32_t reason
    if p == NULL:
        return False
    reason = load32(p + 24)
    core.drops[min(reason, DROP_REASONS - 1)] += 1
    read_flow_records(core, c, load32(p + 28))
    return True


cdef inline bint read_counters_sample(
    Core *core, Cursor c, uint32_t datagram, bint is_expanded
) noexcept nogil:
    """sequence_number source_id counters<>: a row for each if_counters."""
    cdef const uint8_t *p = take(&c, 16 if is_expanded else 12)
    cdef uint32_t source_class, source_index, count
    cdef Item item
    if p == NULL:
        return False
    if is_expanded:
        source_class = load32(p + 4)
        source_index = load32(p + 8)
        count = load32(p + 12)
    else:
        source_class = load32(p + 4) >> 24
        source_index = load32(p + 4) & 0xFFFFFF
        count = load32(p + 8)
    core.counters_samples += 1
    while count:
        count -= 1
        if not next_item(core, &c, &item, RECORD_OVERRUN, RECORD_LENGTH):
            break
        if item.tag == IF_COUNTERS:
            write_counters(core, item.body, datagram, load32(p), source_class, source_index)
        elif not has_tag(&core.known_counter_records, item.tag):
            count_unknown_record(core, item.tag)
    return True


cdef inline void write_counters(
    Core *core,
    Cursor c,
    uint32_t datagram,
    uint32_t sequence_number,
    uint32_t source_class,
    uint32_t source_index,
) noexcept nogil:
    cdef CounterColumns *columns = &core.counters
    cdef size_t row = core.n_counters
    cdef const uint8_t *p = take(&c, 88)
    if p == NULL:
        count_fault(core, RECORD_SHORT)
        return
    columns.datagram[row] = datagram
    columns.sequence_number[row] = sequence_number
    columns.source_class[row] = source_class
    columns.source_index[row] = source_index
    columns.if_index[row] = load32(p)
    columns.if_type[row] = load32(p + 4)
    columns.if_speed_bps[row] = load64(p + 8)
    columns.if_direction[row] = load32(p + 16)
    columns.if_status[row] = load32(p + 20)
    columns.in_octets[row] = load64(p + 24)
    columns.in_ucast_packets[row] = load32(p + 32)
    columns.in_multicast_packets[row] = load32(p + 36)
    columns.in_broadcast_packets[row] = load32(p + 40)
    columns.in_discards[row] = load32(p + 44)
    columns.in_errors[row] = load32(p + 48)
    columns.in_unknown_protos[row] = load32(p + 52)
    columns.out_octets[row] = load64(p + 56)
    columns.out_ucast_packets[row] = load32(p + 64)
    columns.out_multicast_packets[row] = load32(p + 68)
    columns.out_broadcast_packets[row] = load32(p + 72)
    columns.out_discards[row] = load32(p + 76)
    columns.out_errors[row] = load32(p + 80)
    core.n_counters = row + 1


cdef inline FlowRecords read_flow_records(Core *core, Cursor c, uint32_t count) noexcept nogil:
    """Note where the first complete record of each kind is; their order is free."""
    cdef FlowRecords found = FlowRecords(NULL, NULL, NULL, NULL, False)
    cdef Item item
    cdef const uint8_t *p
    while count:
        count -= 1
        if not next_item(core, &c, &item, RECORD_OVERRUN, RECORD_LENGTH):
            break
        if item.tag == SAMPLED_HEADER:
            p = take(&item.body, 16)
            if p == NULL or load32(p + 12) > left(item.body):
                count_fault(core, RECORD_SHORT)
            elif found.header == NULL:
                found.header = p
        elif item.tag == EXTENDED_SWITCH:
            p = take(&item.body, 16)
            if p == NULL:
                count_fault(core, RECORD_SHORT)
            elif found.vlans == NULL:
                found.vlans = p
        elif item.tag == SAMPLED_ETHERNET:
            p = take(&item.body, 24)
            if p == NULL:
                count_fault(core, RECORD_SHORT)
            elif found.ethernet == NULL:
                found.ethernet = p
        elif item.tag == SAMPLED_IPV4 or item.tag == SAMPLED_IPV6:
            p = take(&item.body, 32 if item.tag == SAMPLED_IPV4 else 56)
            if p == NULL:
                count_fault(core, RECORD_SHORT)
            elif found.network == NULL:
                found.network = p
                found.is_ipv6 = item.tag == SAMPLED_IPV6
        elif not has_tag(&core.known_flow_records, item.tag):
            count_unknown_record(core, item.tag)
    return found


cdef inline void count_unknown_record(Core *core, uint32_t tag) noexcept nogil:
    if not count_tag(&core.unknown_records, tag, UNKNOWN_KEPT):
        core.other_unknown_records += 1


# --- the packet of a flow sample -------------------------------------------------------------------------

cdef inline void write_packet(Core *core, size_t row, const FlowRecords *found, uint32_t flags) noexcept nogil:
    """Fill the packet columns from the record that tells most."""
    cdef Cursor header
    if found.header != NULL:
        header.at = found.header + 16
        header.end = header.at + load32(found.header + 12)
        if load32(found.header) != HEADER_ETHERNET or core.decapsulate or not write_common(
            &core.samples, row, header, found, flags
        ):
            write_header(core, row, header, found, flags)
    else:
        write_fields(core, row, found, flags)


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
    Core *core, size_t row, Cursor header, const FlowRecords *found, uint32_t flags
) noexcept nogil:
    """Dissect a sampled_header of any kind."""
    cdef Packet packet
    cdef Packet inner
    cdef const Packet *ends = &packet
    memset(&packet, 0, sizeof(Packet))
    if core.decapsulate:
        memset(&inner, 0, sizeof(Packet))
        dissect(&packet, &inner, header, load32(found.header))
        if inner.ip_version:
            ends = &inner
            flags |= DECAPSULATED | (packet.flags & LABELLED)
    else:
        dissect(&packet, NULL, header, load32(found.header))
    store_packet(&core.samples, row, &packet, ends, found, load32(found.header + 4), flags)


cdef inline void write_fields(Core *core, size_t row, const FlowRecords *found, uint32_t flags) noexcept nogil:
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
    store_packet(&core.samples, row, &packet, &packet, found, frame_length, flags)


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
