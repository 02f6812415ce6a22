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
from _cursor cimport Cursor, left, load16, load32, load64, take
from _dissect cimport IP_TCP, LABELLED, Packet, dissect, has_ports
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


cdef struct Sample:
    # What the compact and the expanded form of a flow sample have in common.
    uint32_t source_class
    uint32_t source_index
    uint32_t input_format
    uint32_t input
    uint32_t output_format
    uint32_t output


cdef inline void count_fault(Core *core, Fault fault) noexcept nogil:
    core.faults[<int>fault] += 1


# --- the three levels ----------------------------------------------------------------------------------

cdef inline bint next_item(Core *core, Cursor *c, Item *item, Fault overrun, Fault length_fault) noexcept nogil:
    """Cut the next sample or record off the cursor and step over it; False where it does not fit."""
    cdef const uint8_t *p = take(c, 8)
    cdef size_t length, padded
    if p == NULL:
        count_fault(core, overrun)
        return False
    item.tag = load32(p)
    length = load32(p + 4)
    if length > left(c[0]):
        count_fault(core, overrun)
        return False
    item.body.at = c.at
    item.body.end = c.at + length
    if length & 3:
        count_fault(core, length_fault)
        padded = (length + 3) & ~<size_t>3
        length = padded if padded < left(c[0]) else left(c[0])
    take(c, length)
    return True


cdef inline void read_datagram(Core *core, Cursor c, int64_t ts_ns) noexcept nogil:
    cdef DatagramColumns *columns = &core.datagrams
    cdef size_t row = core.n_datagrams
    cdef const uint8_t *p = take(&c, 4)
    cdef const uint8_t *address
    cdef uint32_t kind, count
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
    if kind == ADDRESS_IPV4:
        octets = 4
    elif kind == ADDRESS_IPV6:
        octets = 16
    elif kind == ADDRESS_UNKNOWN:
        octets = 0
    else:
        count_fault(core, AGENT_ADDRESS_TYPE)
        return
    address = take(&c, octets)
    p = take(&c, 16) if address != NULL else NULL
    if p == NULL:
        count_fault(core, DATAGRAM_SHORT)
        return
    columns.ts_ns[row] = ts_ns
    columns.agent_hi[row] = load64(address) if kind == ADDRESS_IPV6 else 0
    if kind == ADDRESS_IPV4:
        columns.agent_lo[row] = load32(address)
    else:
        columns.agent_lo[row] = load64(address + 8) if kind == ADDRESS_IPV6 else 0
    columns.agent_version[row] = 4 if kind == ADDRESS_IPV4 else 6 if kind == ADDRESS_IPV6 else 0
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
    cdef bint is_sound = True
    if item.tag == FLOW_SAMPLE:
        is_sound = read_flow_sample(core, item.body, datagram)
    elif item.tag == FLOW_SAMPLE_EXPANDED:
        is_sound = read_flow_sample_expanded(core, item.body, datagram)
    elif item.tag == COUNTERS_SAMPLE:
        is_sound = read_counters_sample(core, item.body, datagram, False)
    elif item.tag == COUNTERS_SAMPLE_EXPANDED:
        is_sound = read_counters_sample(core, item.body, datagram, True)
    elif item.tag == DISCARDED_PACKET:
        is_sound = read_discarded_packet(core, item.body)
    elif not has_tag(&core.known_samples, item.tag):
        if not count_tag(&core.unknown_samples, item.tag, UNKNOWN_KEPT):
            core.other_unknown_samples += 1
    if not is_sound:
        count_fault(core, SAMPLE_SHORT)


cdef inline bint read_flow_sample(Core *core, Cursor c, uint32_t datagram) noexcept nogil:
    """sequence_number source_id sampling_rate sample_pool drops input output flow_records<>"""
    cdef const uint8_t *p = take(&c, 32)
    cdef uint32_t source, input_, output
    cdef Sample sample
    if p == NULL:
        return False
    source = load32(p + 4)
    input_ = load32(p + 20)
    output = load32(p + 24)
    sample.source_class = source >> 24
    sample.source_index = source & 0xFFFFFF
    sample.input_format = input_ >> 30
    sample.input = input_ & 0x3FFFFFFF
    sample.output_format = output >> 30
    sample.output = output & 0x3FFFFFFF
    write_sample(core, c, datagram, p, p + 8, &sample, load32(p + 28), 0)
    return True


cdef inline bint read_flow_sample_expanded(Core *core, Cursor c, uint32_t datagram) noexcept nogil:
    """As flow_sample, with two words each for source id, input and output."""
    cdef const uint8_t *p = take(&c, 44)
    cdef Sample sample
    if p == NULL:
        return False
    sample.source_class = load32(p + 4)
    sample.source_index = load32(p + 8)
    sample.input_format = load32(p + 24)
    sample.input = load32(p + 28)
    sample.output_format = load32(p + 32)
    sample.output = load32(p + 36)
    write_sample(core, c, datagram, p, p + 12, &sample, load32(p + 40), EXPANDED)
    return True


cdef inline void write_sample(
    Core *core,
    Cursor c,
    uint32_t datagram,
    const uint8_t *sequence,
    const uint8_t *rate,           # sampling_rate sample_pool drops
    const Sample *sample,
    uint32_t count,
    uint32_t flags,
) noexcept nogil:
    cdef SampleColumns *columns = &core.samples
    cdef size_t row = core.n_samples
    columns.datagram[row] = datagram
    columns.sequence_number[row] = load32(sequence)
    columns.source_class[row] = sample.source_class
    columns.source_index[row] = sample.source_index
    columns.sampling_rate[row] = load32(rate)
    columns.sample_pool[row] = load32(rate + 4)
    columns.drops[row] = load32(rate + 8)
    columns.input_format[row] = <uint8_t>min(sample.input_format, 255)
    columns.input[row] = sample.input
    columns.output_format[row] = <uint8_t>min(sample.output_format, 255)
    columns.output[row] = sample.output
    core.n_samples = row + 1
    cdef FlowRecords found = read_flow_records(core, c, count)
    write_packet(core, row, &found, flags)


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
    cdef SampleColumns *columns = &core.samples
    cdef Packet packet
    cdef Packet inner
    cdef const Packet *ends = &packet
    cdef uint32_t frame_length = 0
    cdef uint32_t vlan_id
    cdef Cursor header
    memset(&packet, 0, sizeof(Packet))
    if found.header != NULL:
        frame_length = load32(found.header + 4)
        header.at = found.header + 16
        header.end = header.at + load32(found.header + 12)
        if core.decapsulate:
            memset(&inner, 0, sizeof(Packet))
            dissect(&packet, &inner, header, load32(found.header))
            if inner.ip_version:
                ends = &inner
                flags |= DECAPSULATED | (packet.flags & LABELLED)
        else:
            dissect(&packet, NULL, header, load32(found.header))
    elif found.network != NULL or found.ethernet != NULL:
        if found.network != NULL:
            read_sampled_ip(&packet, found.network, found.is_ipv6)
            frame_length = load32(found.network) + FRAME_OVERHEAD
        if found.ethernet != NULL:
            frame_length = load32(found.ethernet)
            if load32(found.ethernet + 20) <= 0xFFFF:
                packet.ether_type = load16(found.ethernet + 22)
        else:
            flags |= L3_LENGTH
    else:
        flags |= NO_PACKET
    vlan_id = packet.vlan_id
    if found.vlans != NULL and not packet.is_tagged:
        vlan_id = load32(found.vlans)
        if vlan_id < LEAST_VLAN or vlan_id > MOST_VLAN:
            vlan_id = 0
    columns.frame_length[row] = frame_length
    columns.flags[row] = <uint8_t>(flags | ends.flags)
    columns.vlan_id[row] = <uint16_t>vlan_id
    columns.ether_type[row] = packet.ether_type
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
